//! `detr data shard`: splits annotations into balanced parts, for distributed work.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use detr_data::formats::{Accept, ShardOptions, shard};
use detr_infer::cli::{CliError, Console, escaped, print, print_json};

use super::{ReadArgs, UprightArgs, not_written, note_left_out};

/// Flags of `detr data shard`.
#[derive(Args)]
pub(crate) struct ShardArgs {
    /// Data sets, taken as one: files or folders of annotations, or TOML lists of sources
    #[arg(required = true, value_name = "DATA")]
    data: Vec<PathBuf>,

    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    upright: UprightArgs,

    /// Number of files
    #[arg(long, value_name = "N")]
    shards: usize,

    /// Folder to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// First part of the files' names
    #[arg(long, value_name = "NAME", default_value = "shard")]
    prefix: String,

    /// Print the mapping as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ShardArgs, console: &Console) -> Result<(), CliError> {
    let dataset = args.read.load(&args.data, Accept::Errors, args.upright)?;
    note_left_out(&dataset, console);
    let images = dataset.images.len();
    if args.shards == 0 || args.shards > images {
        return Err(CliError::Usage(format!(
            "--shards {}: expected 1 to {images}, the number of images",
            args.shards
        )));
    }
    let options = ShardOptions {
        shards: args.shards,
        prefix: args.prefix.clone(),
        apply_exif: args.upright.apply_exif,
        ..Default::default()
    };
    let report = shard(&dataset, &args.output, &options).map_err(not_written)?;
    if args.json {
        return print_json(&report);
    }
    let mut text = format!("{:<32}{:>8}{:>9}\n", "file", "images", "objects");
    for shard in &report.shards {
        // Writing to a string cannot fail.
        let file = shard.file.display().to_string();
        let _ = writeln!(text, "{file:<32}{:>8}{:>9}", shard.images, shard.objects);
    }
    print(&escaped(&text))?;
    console.note(&format!("classes and shards: {}", args.output.join("mapping.json").display()));
    Ok(())
}
