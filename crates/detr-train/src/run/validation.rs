//! The validation of a model in training: of its parameters, and of their moving average if there is one.

use burn::module::Module;
use detr_eval::Metrics;
use detr_model::Model;
use detr_types::Detection;

use super::error::RunError;
use super::events::{Event, Watch};
use super::inputs::TrainInputs;
use super::stop::StopFlag;
use super::validate::{ValidationOutcome, WatchedImages, validate, validation_detector};
use crate::settings::TrainConfig;
use crate::step::Trainer;

/// The result of a validation.
pub(super) struct TrainerMetrics {
    /// The metrics of the moving average, or of the model if there is no average.
    pub(super) metrics: Metrics,
    /// The metrics of the masks of the same, if the model makes masks.
    pub(super) masks: Option<Metrics>,
    /// The metrics of the model if there is an average.
    pub(super) without_ema: Option<Metrics>,
    /// The detections on the watched images, by the ids of these.
    pub(super) found: Vec<(i64, Vec<Detection>)>,
    /// Images that cannot be read.
    pub(super) bad_images: usize,
}

/// Validates the models of a trainer. Returns `None` if there is no data for it, or if the run is to stop.
///
/// # Errors
/// Images cannot be loaded, or the device fails.
pub(super) fn validate_trainer(
    config: &TrainConfig,
    inputs: &TrainInputs,
    trainer: &Trainer,
    stop: &StopFlag,
    watch: &mut dyn Watch,
) -> Result<Option<TrainerMetrics>, RunError> {
    let Some(set) = &inputs.validation else { return Ok(None) };
    let device = inputs.device.clone().inner();
    let images = set.source.dataset().images.len();
    let mut watched = WatchedImages::spread(&set.source, config.run.samples, config.run.threshold);
    let mut validated = |model: Model, watched: &mut WatchedImages| {
        let TrainInputs { model: architecture, classes, preprocess, .. } = inputs;
        let most = config.run.max_detections;
        let detector =
            validation_detector(model, architecture, classes, *preprocess, most, &device);
        validate(&detector, set, watched, &mut |done| {
            watch.event(Event::Validating(done, images));
            !stop.should_stop()
        })
    };
    let of_model = validated(trainer.model().valid(), &mut watched)?;
    let Some(of_model) = of_model else { return Ok(None) };
    let (validated, without_ema) = match trainer.ema() {
        Some(ema) => {
            watched.found.clear();
            match validated(ema.model().clone(), &mut watched)? {
                Some(of_average) => (of_average, Some(of_model.metrics)),
                None => return Ok(None),
            }
        }
        None => (of_model, None),
    };
    let ValidationOutcome { metrics, masks, bad_images } = validated;
    Ok(Some(TrainerMetrics { metrics, masks, without_ema, found: watched.found, bad_images }))
}
