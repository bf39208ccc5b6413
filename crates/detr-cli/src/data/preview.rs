//! `detr data preview`: draws augmented images in a grid, with boxes, names and masks, as training will see
//! them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use detr_data::dataset::Labels;
use detr_data::formats::Accept;
use detr_data::loader::SampleSource;
use detr_data::{DatasetSource, PreviewStyle, Purpose, SampleRng, preview};
use detr_infer::cli::{CliError, Console, write_png};
use detr_infer::draw::draw_truth;
use detr_infer::palette::Palette;
use detr_types::{ClassTable, Detection, ImageSize, Xyxy, counted};

use super::{AugmentationArgs, ReadArgs, UprightArgs, note_left_out};

/// Flags of `detr data preview`.
#[derive(Args)]
pub(crate) struct PreviewArgs {
    /// Data sets, taken as one: files or folders of annotations, or TOML lists of sources
    #[arg(required = true, value_name = "DATA")]
    data: Vec<PathBuf>,

    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    upright: UprightArgs,

    /// Picture to write
    #[arg(long, value_name = "FILE.png")]
    output: PathBuf,

    #[command(flatten)]
    augmentation: AugmentationArgs,

    /// Number of images; drawn by the seed
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=400))]
    count: u32,

    /// Show one image again and again, as in successive epochs
    #[arg(long, value_name = "IMAGE_ID")]
    image: Option<i64>,

    /// Images in a row
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=50))]
    columns: u32,

    /// Side of an image's square in the picture
    #[arg(long, value_name = "PIXELS", default_value_t = 320, value_parser = clap::value_parser!(u32).range(16..=2048))]
    cell: u32,

    /// Draw masks too
    #[arg(long)]
    masks: bool,

    /// Seed of the choice and of the augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// First epoch of the augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch: u64,
}

pub(crate) fn run(args: &PreviewArgs, console: &Console) -> Result<(), CliError> {
    let augmentation = args.augmentation.load()?;
    let dataset = args.read.load(&args.data, Accept::Errors, args.upright)?;
    note_left_out(&dataset, console);
    let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let classes = dataset.class_table(Labels::Auto).map_err(|error| usage(&error))?;
    let wanted = wanted(args, &dataset)?;
    let source = DatasetSource::new(Arc::new(dataset), &classes, augmentation, args.seed)
        .map_err(|error| usage(&error))?
        .with_decode(args.upright.decoding())
        .with_masks(args.masks);
    let bar = console.progress("images");
    let mut samples = Vec::with_capacity(wanted.len());
    for (done, &(index, epoch)) in wanted.iter().enumerate() {
        bar.set(done, wanted.len());
        let loaded = source.load(index, epoch);
        samples.push(loaded.map_err(|error| CliError::Failed(error.to_string()))?);
    }
    drop(bar);
    let palette = Palette::default();
    let style = PreviewStyle {
        color: &|label| palette.color(&object(&classes, label, Xyxy::default())).0,
        objects: &|image, target| {
            let size = ImageSize::new(image.height(), image.width());
            let boxes = target.boxes.iter().zip(&target.labels);
            let objects: Vec<Detection> = boxes
                .map(|(bbox, &label)| object(&classes, label, bbox.to_xyxy().scaled(size)))
                .collect();
            draw_truth(image, &objects, &palette);
        },
    };
    write_png(&args.output, &preview(&samples, args.columns, args.cell, &style))?;
    let objects: usize = samples.iter().map(|sample| sample.target.len()).sum();
    console.note(&format!(
        "{} with {}: {}",
        counted(samples.len(), "image"),
        counted(objects, "object"),
        args.output.display()
    ));
    Ok(())
}

/// Makes an object to be drawn, with the name of its class.
fn object(classes: &ClassTable, label: usize, bbox: Xyxy) -> Detection {
    let class = classes.get(label);
    let name = class.map_or_else(|| format!("class {label}"), |class| class.name.clone());
    let category_id = class.map_or(-1, |class| class.id);
    Detection { label, category_id, name, score: 1.0, bbox, mask: None }
}

/// Lists the index and epoch of each image of the picture.
fn wanted(args: &PreviewArgs, dataset: &detr_data::Dataset) -> Result<Vec<(usize, u64)>, CliError> {
    let images = &dataset.images;
    if let Some(id) = args.image {
        let index = images.binary_search_by_key(&id, |image| image.id).map_err(|_| {
            CliError::Usage(format!(
                "--image {id}: the data set has no image of that id\nhint: the first is {}",
                images.first().map_or(0, |image| image.id)
            ))
        })?;
        return Ok((args.epoch..).take(args.count as usize).map(|epoch| (index, epoch)).collect());
    }
    let mut order: Vec<usize> = (0..images.len()).collect();
    SampleRng::new(args.seed, 0, Purpose::Order).shuffle(&mut order);
    order.truncate(args.count as usize);
    Ok(order.into_iter().map(|index| (index, args.epoch)).collect())
}
