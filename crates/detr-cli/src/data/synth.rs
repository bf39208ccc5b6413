//! `detr data synth`: a generated data set, to train on without any download.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use detr_data::synth::{Shape, SynthError, SynthOptions, synthesize};
use detr_infer::cli::{CliError, Console};
use detr_types::counted;

use super::not_written;
use crate::size::Size;

/// Flags of `detr data synth`.
#[derive(Args)]
pub(crate) struct SynthArgs {
    /// Folder to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// Number of images
    #[arg(long, value_name = "N", default_value_t = 100)]
    count: usize,

    /// Size of the images
    #[arg(long, value_name = "HxW", default_value = "240x320")]
    size: Size,

    /// Objects wanted on an image: a number, or a range such as 1-8
    #[arg(long, value_name = "N-M", default_value = "1-8", value_parser = range)]
    objects: RangeInclusive<u32>,

    /// Diameter of the objects, as part of the image's short side
    #[arg(long, value_name = "A-B", default_value = "0.1-0.4", value_parser = parts)]
    scale: RangeInclusive<f64>,

    /// Largest part of a box that another box may cover
    #[arg(long, value_name = "PART", default_value_t = 0.3)]
    overlap: f64,

    /// Classes: circle, square, triangle, star, cross, bar [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = shape)]
    shapes: Vec<Shape>,

    /// Everything random comes from it; splits need seeds of their own
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Name of the split
    #[arg(long, value_name = "NAME", default_value = "train")]
    split: String,

    /// Write panoptic annotations, too, with the background as stuff
    #[arg(long)]
    panoptic: bool,
}

pub(crate) fn run(args: &SynthArgs, console: &Console) -> Result<(), CliError> {
    let defaults = SynthOptions::default();
    let options = SynthOptions {
        images: args.count,
        size: args.size.0,
        objects: args.objects.clone(),
        scale: args.scale.clone(),
        overlap: args.overlap,
        shapes: if args.shapes.is_empty() { defaults.shapes } else { args.shapes.clone() },
        seed: args.seed,
        split: args.split.clone(),
        panoptic: args.panoptic,
    };
    let bar = console.progress("images");
    let progress = |done, all| bar.set(done, all);
    let made = synthesize(&args.output, &options, Some(&progress));
    drop(bar);
    let dataset = made.map_err(|error| match error {
        SynthError::Write(error) => not_written(error),
        _ => CliError::Usage(error.to_string()),
    })?;
    console.note(&format!(
        "{} with {} of {}: {}",
        counted(dataset.images.len(), "image"),
        counted(dataset.object_count(), "object"),
        counted(dataset.categories.len(), "class"),
        args.output.display()
    ));
    Ok(())
}

fn range(text: &str) -> Result<RangeInclusive<u32>, String> {
    ends(text).ok_or_else(|| "expected a number, or two as in 1-8".to_owned())
}

fn parts(text: &str) -> Result<RangeInclusive<f64>, String> {
    ends(text).ok_or_else(|| "expected a number, or two as in 0.1-0.4".to_owned())
}

/// Reads two numbers, or one for both.
fn ends<T: std::str::FromStr + Clone>(text: &str) -> Option<RangeInclusive<T>> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some(low.parse().ok()?..=high.parse().ok()?)
}

fn shape(name: &str) -> Result<Shape, String> {
    Shape::ALL
        .into_iter()
        .find(|shape| shape.name() == name)
        .ok_or_else(|| format!("expected one of {}", Shape::ALL.map(Shape::name).join(", ")))
}
