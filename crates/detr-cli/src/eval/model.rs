//! A model over the images of a data set, as the reference's evaluation runs it: the model's best
//! answers without a threshold.

use std::ops::ControlFlow;
use std::sync::Arc;

use detr_data::Dataset;
use detr_data::dataset::Problem;
use detr_eval::{Detected, EvalOptions, Evaluator, Metrics};
use detr_infer::PredictOptions;
use detr_infer::cli::{CliError, Console, Stream, Timings, make_predictor, open_model};
use detr_infer::sources::Source;
use detr_model::ModelConfig;
use detr_types::Detection;

use super::classes::Classes;
use super::report::Report;
use super::{EvalArgs, unusable};

/// Pairs of query and class per image in the numbers that were published for Deformable DETR.
const DEFORMABLE_PAIRS: usize = 100;

/// Runs the model and scores what it finds; also the number of images that could not be used.
///
/// # Errors
/// A model, device or data set that cannot be used, a model that knows none of the classes, and
/// with `--strict` an image that cannot be used.
pub(super) fn score(
    name: &str,
    args: &EvalArgs,
    dataset: &Dataset,
    options: EvalOptions,
    report: &Report,
    console: &Console,
) -> Result<(Metrics, usize), CliError> {
    refuse_without_images(dataset)?;
    let truth = Arc::new(detr_train::ground_truth(dataset, options.iou).map_err(unusable)?);
    let [.., limit] = options.max_detections;
    let mut evaluator = Evaluator::new(truth, options).map_err(unusable)?;

    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    let device = selected.device.clone();
    let checkpoint = open_model(name, &args.load, console, || Ok(device))?;
    let max_detections = match checkpoint.config()? {
        // Every query gives an answer.
        ModelConfig::Detr(_) | ModelConfig::DetrDemo(_) => usize::MAX,
        ModelConfig::DeformableDetr(_) => limit.max(DEFORMABLE_PAIRS),
    };
    let best = PredictOptions { threshold: 0.0, max_detections, classes: Vec::new() };
    let predictor = make_predictor(&checkpoint, &selected, &args.device, &args.image, best)?;
    drop(checkpoint);
    let classes = Classes::new(predictor.classes(), &dataset.categories, console)?;

    let mut file = report.results_file()?;
    let sources: Vec<Source> =
        dataset.images.iter().map(|image| Source::File(image.path.clone())).collect();
    let stream =
        Stream { predictor: &predictor, console, images: &args.image, strict: args.strict };
    let mut timings = Timings::default();
    let mut failed = 0;
    stream.run(&sources, &mut timings, |index, found| {
        let image = &dataset.images[index];
        let found = found.map(|(_, detections)| detected(&detections, &classes));
        let found = match found {
            Ok(found) => found,
            Err(reason) => {
                failed += 1;
                let message = format!("image {}: {}: {reason}", image.id, image.path.display());
                if args.strict {
                    return Err(CliError::Failed(message));
                }
                console.error(&message);
                Vec::new()
            }
        };
        if let Some(file) = &mut file {
            file.add(image.id, &found)?;
        }
        evaluator.add(image.id, found).map_err(unusable)?;
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(file) = file {
        file.finish()?;
    }
    console.note(&format!("{} on {}", timings.throughput(), selected.name));
    Ok((evaluator.finish().map_err(unusable)?, failed))
}

/// Detections by the ids of the data, best first; without those of classes that the data lack.
fn detected(detections: &[Detection], classes: &Classes) -> Vec<Detected> {
    let one = |detection: &Detection| {
        let bbox = detection.bbox.to_xywh();
        Some(Detected {
            category_id: classes.category(detection.label)?,
            score: detection.score.into(),
            bbox: Some([bbox.x, bbox.y, bbox.w, bbox.h].map(f64::from)),
            mask: None,
        })
    };
    detections.iter().filter_map(one).collect()
}

/// A data set without its images would score 0, image by image.
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
