//! `detr eval`: a model, or the results of any tool, against a data set with COCO's metrics. The
//! metrics themselves are `detr-eval`'s.

mod model;
mod panoptic;
mod report;
mod results;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use detr_data::Dataset;
use detr_data::dataset::Problem;
use detr_data::formats::Accept;
use detr_eval::{ConfusionOptions, EvalError, EvalOptions, IouKind};
use detr_infer::cli::{CliError, Console, DeviceArgs, ImageArgs, LoadArgs, print_json};
use detr_types::counted;

use crate::data::{ReadArgs, UprightArgs, note_left_out};
use report::Report;

/// Flags of `detr eval`.
#[derive(Args)]
pub(crate) struct EvalArgs {
    /// Model to run over the images: a .pth or .safetensors file, a model folder, a name such as
    /// facebook/detr-resnet-50, or recipe:PRESET[@SEED] for untrained weights
    #[arg(long, value_name = "PATH|NAME", required_unless_present = "results")]
    model: Option<OsString>,

    /// Results to score instead, of any tool, as COCO's JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = MODEL_FLAGS)]
    results: Option<PathBuf>,

    /// Data set: a file or folder of annotations, or a TOML list of sources; several are taken as one
    #[arg(long, required = true, value_name = "DATA")]
    data: Vec<PathBuf>,

    #[command(flatten)]
    read: ReadArgs,

    /// The shapes that are compared
    #[arg(long, value_enum, default_value_t = Iou::Bbox)]
    iou: Iou,

    /// Detections per image and class that count: for the three average recalls, and the last for
    /// everything else
    #[arg(long, value_name = "N,N,N", default_value = "1,10,100", value_parser = limits)]
    max_detections: [usize; 3],

    /// Leave out detections with a lower score; COCO's numbers use all [with --iou panoptic: 0.85]
    #[arg(long, value_name = "SCORE", value_parser = score)]
    threshold: Option<f64>,

    /// Count which class is taken for which, of detections from this score on
    #[arg(long, value_name = "SCORE", value_parser = score)]
    confusion: Option<f64>,

    /// Print a line for every class, too
    #[arg(long, conflicts_with = "json")]
    per_class: bool,

    /// Print all numbers and curves as JSON
    #[arg(long)]
    json: bool,

    /// Write metrics.json, table.txt, curves.svg and, of a model, results.json to this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    image: ImageArgs,

    /// Stop at the first image that cannot be used, instead of scoring it without detections
    #[arg(long)]
    strict: bool,
}

/// Flags that mean nothing to a file of results.
const MODEL_FLAGS: [&str; 11] = [
    "model",
    "arch",
    "offline",
    "backend",
    "device",
    "dtype",
    "batch_size",
    "size",
    "max_size",
    "max_pixels",
    "strict",
];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Iou {
    /// Boxes
    Bbox,
    /// Masks
    Segm,
    /// Segments of all pixels: PQ, SQ and RQ; --data is a panoptic data set
    Panoptic,
}

pub(crate) fn run(args: &EvalArgs, console: &Console) -> Result<(), CliError> {
    if args.iou == Iou::Panoptic {
        return panoptic::run(args, console);
    }
    let options = options(args);
    let upright = UprightArgs { apply_exif: args.image.apply_exif };
    let report = Report::new(args.output.as_deref())?;
    let (metrics, failed) = match (&args.results, &args.model) {
        (Some(path), _) => {
            let dataset = args.read.load_annotations(&args.data, Accept::Errors, upright)?;
            note_data(&dataset, console);
            args.read.refuse_other_ids(&dataset)?;
            let truth =
                Arc::new(detr_validate::ground_truth(&dataset, options.iou).map_err(unusable)?);
            (results::score(path, truth, options, console)?, 0)
        }
        (None, Some(name)) => {
            if options.iou == IouKind::Segm {
                model::refuse_without_masks(name, args)?;
            }
            let dataset = args.read.load(&args.data, Accept::Errors, upright)?;
            note_data(&dataset, console);
            model::score(name, args, &dataset, options, &report, console)?
        }
        (None, None) => {
            return Err(CliError::Usage(
                "nothing to score\nhint: give --model or --results".to_owned(),
            ));
        }
    };
    report.write(&metrics, console)?;
    if args.json {
        print_json(&metrics)?;
    } else {
        report::show(&metrics, args.per_class)?;
    }
    if failed > 0 {
        return Err(CliError::Failed(format!(
            "{failed} of {} failed and count as images without detections",
            counted(metrics.counts.images, "image")
        )));
    }
    Ok(())
}

fn options(args: &EvalArgs) -> EvalOptions {
    EvalOptions {
        iou: match args.iou {
            Iou::Bbox => IouKind::Bbox,
            Iou::Segm | Iou::Panoptic => IouKind::Segm,
        },
        max_detections: args.max_detections,
        score_threshold: args.threshold,
        confusion: args
            .confusion
            .map(|score| ConfusionOptions { score, ..ConfusionOptions::default() }),
        ..EvalOptions::default()
    }
}

/// Says what of the data is not used, and where pycocotools would give other numbers.
fn note_data(dataset: &Dataset, console: &Console) {
    note_left_out(dataset, console);
    for (problem, instead) in [
        (Problem::ZeroId, "pycocotools takes such objects as never found"),
        (Problem::DuplicateObjectId, "pycocotools takes the last one for all of them"),
        (Problem::MissingArea, "the box's is taken; pycocotools refuses such annotations"),
    ] {
        let count = dataset.report.count(problem);
        if count > 0 {
            console.note(&format!("note: {count} x {problem}: {instead}"));
        }
    }
}

/// Returns the error for ground truth or detections that cannot be compared.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn unusable(error: EvalError) -> CliError {
    CliError::Data(error.to_string())
}

fn score(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn limits(text: &str) -> Result<[usize; 3], String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    let three = numbers.and_then(|numbers| <[usize; 3]>::try_from(numbers).ok());
    three
        .filter(|[few, some, all]| 0 < *few && few < some && some < all)
        .ok_or_else(|| "expected three increasing numbers, as in 1,10,100".to_owned())
}
