//! A model over the images of a data set, as the reference's evaluation runs it: the model's best
//! answers without a threshold.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::sync::Arc;

use detr_data::Dataset;
use detr_data::dataset::Problem;
use detr_eval::{EvalError, EvalOptions, Evaluator, IouKind, Metrics};
use detr_infer::cli::{
    CliError, Console, LogArgs, Stream, Timings, host_device, make_predictor, open_model,
    open_model_sized,
};
use detr_infer::sources::Source;
use detr_infer::{PredictError, PredictOptions};
use detr_validate::{EvaluatedImage, evaluate, ground_truth, max_answers};

use super::report::Report;
use super::{EvalArgs, unusable};
use crate::classes::{Renaming, shared_classes};

/// Pairs of query and class per image in the numbers that were published for Deformable DETR.
const DEFORMABLE_PAIRS: usize = 100;

/// Refuses a model without a mask head, before the data are read.
///
/// # Errors
/// Such a model, or one that cannot be used.
pub(super) fn refuse_without_masks(name: &OsStr, args: &EvalArgs) -> Result<(), CliError> {
    // The notes about the model follow when it is opened to be run.
    let quiet = Console::new(&LogArgs { quiet: true, ..LogArgs::default() });
    if open_model(name, &args.load, &quiet, host_device)?.config()?.has_masks() {
        return Ok(());
    }
    Err(CliError::Usage(
        "--iou segm: the model gives boxes, no masks\n\
         hint: --iou bbox, or a model with a mask head, or --results with masks of another tool"
            .to_owned(),
    ))
}

/// Runs the model and scores what it finds; also the number of images that could not be used.
///
/// # Errors
/// A model, device or data set that cannot be used, a model that knows none of the classes, and
/// with `--strict` an image that cannot be used.
pub(super) fn score(
    name: &OsStr,
    args: &EvalArgs,
    dataset: &Dataset,
    options: EvalOptions,
    report: &Report,
    console: &Console,
) -> Result<(Metrics, usize), CliError> {
    refuse_without_images(dataset)?;
    let truth = Arc::new(ground_truth(dataset, options.iou).map_err(unusable)?);
    let (iou, [.., limit]) = (options.iou, options.max_detections);
    let mut evaluator = Evaluator::new(truth, options).map_err(unusable)?;

    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    let device = selected.device.clone();
    let own_size = args.image.sets_size();
    let checkpoint = open_model_sized(name, &args.load, own_size, console, || Ok(device))?;
    let activation = checkpoint.config()?.activation();
    let max_detections = max_answers(activation, limit.max(DEFORMABLE_PAIRS));
    let masks = iou == IouKind::Segm;
    let best = PredictOptions { threshold: 0.0, max_detections, classes: Vec::new(), masks };
    let predictor = make_predictor(&checkpoint, &selected, &args.device, &args.image, best)?;
    drop(checkpoint);
    let (categories, notes) =
        shared_classes(predictor.classes(), &dataset.categories, Renaming::Flag)?;
    for note in notes {
        console.note(&format!("note: {note}"));
    }

    let mut file = report.results_file()?;
    let sources: Vec<Source> =
        dataset.images.iter().map(|image| Source::File(image.path.clone())).collect();
    let stream =
        Stream { predictor: &predictor, console, images: &args.image, strict: args.strict };
    let mut timings = Timings::default();
    let mut failed = 0;
    stream.read(&sources, &mut timings, |images, timings| {
        let images = images.map(|(index, image)| (dataset.images[index].id, image));
        let options = stream.options();
        let on_image = |image: EvaluatedImage<'_>| -> Result<_, EvaluateError> {
            if let Err(fault) = image.found {
                failed += 1;
                let path = dataset.image(image.image_id).map(|image| image.path.display());
                let path = path.map_or_else(String::new, |path| format!("{path}: "));
                let message = format!("image {}: {path}{fault}", image.image_id);
                if args.strict {
                    return Err(CliError::Failed(message).into());
                }
                console.error(&message);
            }
            if let Some(file) = &mut file {
                file.add(image.image_id, image.scored)?;
            }
            console.advance(1);
            Ok(ControlFlow::Continue(()))
        };
        let done = evaluate(&predictor, images, options, &categories, &mut evaluator, on_image);
        let (count, times) = done.map_err(|EvaluateError(error)| error)?;
        timings.set(count, times);
        Ok(())
    })?;
    if let Some(file) = file {
        file.finish()?;
    }
    console.note(&format!("{} on {}", timings.throughput(), selected.name));
    Ok((evaluator.finish().map_err(unusable)?, failed))
}

/// An error of an evaluation, as the command reports it.
struct EvaluateError(CliError);

impl From<CliError> for EvaluateError {
    fn from(error: CliError) -> Self {
        Self(error)
    }
}

impl From<PredictError> for EvaluateError {
    fn from(error: PredictError) -> Self {
        Self(error.into())
    }
}

impl From<EvalError> for EvaluateError {
    fn from(error: EvalError) -> Self {
        Self(unusable(error))
    }
}

/// Refuses a data set without its images, which would score 0, image by image.
fn refuse_without_images(dataset: &Dataset) -> Result<(), CliError> {
    if dataset.images.is_empty()
        || dataset.report.count(Problem::MissingFile) < dataset.images.len()
    {
        return Ok(());
    }
    let first = dataset.images.first().map(|image| image.path.display().to_string());
    Err(CliError::Data(format!(
        "none of the {} image files is there; the first should be {}\n\
         hint: --images DIR says where they are",
        dataset.images.len(),
        first.unwrap_or_default()
    )))
}
