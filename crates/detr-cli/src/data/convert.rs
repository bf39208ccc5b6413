//! `detr data convert`: a data set in another format, and what that format cannot hold.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use detr_data::formats::{Accept, Format, ImageMode, WriteOptions, write};
use detr_infer::cli::{CliError, Console, escaped, print, print_json};

use super::{ReadArgs, UprightArgs, not_written, note_left_out};

/// Flags of `detr data convert`.
#[derive(Args)]
pub(crate) struct ConvertArgs {
    /// Data sets, written as one: files or folders of annotations, or TOML lists of sources
    #[arg(required = true, value_name = "DATA")]
    data: Vec<PathBuf>,

    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    upright: UprightArgs,

    /// Format to write: coco, kitti, yolo or voc
    #[arg(long, value_name = "FORMAT")]
    to: Format,

    /// Folder to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Name of the split that is written
    #[arg(long, value_name = "NAME", default_value = "train")]
    output_split: String,

    /// The treatment of the image files
    #[arg(long, value_enum, default_value_t = Images::Copy)]
    image_files: Images,

    /// Refuse data of which something would be left out
    #[arg(long)]
    strict: bool,

    /// Print what was lost as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Images {
    /// Copy them
    Copy,
    /// Give them a second name for the same data, or copy where that cannot be
    Link,
    /// Write annotations only
    Skip,
}

pub(crate) fn run(args: &ConvertArgs, console: &Console) -> Result<(), CliError> {
    if args.to == Format::CocoPanoptic {
        return Err(CliError::Usage(
            "--to coco-panoptic: it is read, but not written\nhint: --to coco, kitti, yolo or voc"
                .to_owned(),
        ));
    }
    args.data.iter().try_for_each(|source| refuse_source(source, &args.output))?;
    let accept = if args.strict { Accept::Warnings } else { Accept::Errors };
    let dataset = args.read.load(&args.data, accept, args.upright)?;
    note_left_out(&dataset, console);
    let bar = console.progress("images");
    let progress = |done, all| bar.set(done, all);
    let options = WriteOptions {
        split: &args.output_split,
        images: match args.image_files {
            Images::Copy => ImageMode::Copy,
            Images::Link => ImageMode::Link,
            Images::Skip => ImageMode::Skip,
        },
        apply_exif: args.upright.apply_exif,
        progress: Some(&progress),
        ..WriteOptions::default()
    };
    let report = write(&dataset, args.to, &args.output, &options).map_err(not_written)?;
    drop(bar);
    if args.upright.apply_exif {
        console.note(
            "note: boxes are those of the upright images, whose files are as they were: \
             read the result with --apply-exif, too",
        );
    }
    if args.json {
        return print_json(&report);
    }
    print(&escaped(&format!("{report}\n")))
}

/// Refuses to write a data set over itself.
fn refuse_source(source: &Path, output: &Path) -> Result<(), CliError> {
    let (Ok(source), Ok(folder)) = (source.canonicalize(), output.canonicalize()) else {
        return Ok(()); // what does not exist yet holds no source
    };
    if !source.starts_with(&folder) {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "--output {}: it holds the data that is read\nhint: give another folder",
        output.display()
    )))
}
