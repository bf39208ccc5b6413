//! COCO's metrics of a model in training, on the device that it trains on. The images take the same road as
//! in `detr eval`, so both give the same numbers.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use detr_data::{DatasetSource, RgbImage, read_ahead};
use detr_detect::{Detector, ImageFault, PredictError, StreamOptions};
use detr_eval::{EvalError, EvalOptions, Evaluator, GroundTruth, IouKind, Metrics};
use detr_model::{DeviceError, Model, ModelConfig};
use detr_types::{ClassTable, Detection, PreprocessSpec};
use detr_validate::{CategoryMap, EvaluatedImage, evaluate, max_answers, to_score};

/// The number of times that a failing read is tried again, as a file on a network drive may.
const RETRIES: u32 = 3;
/// The time before the first of them; four times as long before each further one.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// A validation that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// All images are unreadable.
    #[error(
        "none of the {images} images of the validation can be read; the last: {reason}\nhint: `detr data \
         check` lists what is wrong with them"
    )]
    NoImage {
        /// Their number.
        images: usize,
        /// The reason for the last one.
        reason: String,
    },
    /// The ground truth cannot be used.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<PredictError> for ValidateError {
    fn from(error: PredictError) -> Self {
        match error {
            PredictError::Device(error) => Self::Device(error),
            other => Self::Device(DeviceError { message: other.to_string() }),
        }
    }
}

/// The images of a validation and their ground truth.
#[derive(Clone)]
pub struct ValidationSet {
    /// The images.
    pub source: Arc<DatasetSource>,
    /// The objects on the images.
    pub truth: Arc<GroundTruth>,
    /// The masks of the same objects, for a model that makes masks.
    pub mask_truth: Option<Arc<GroundTruth>>,
    /// The most images in a batch.
    pub batch_size: usize,
}

/// Images whose detections are kept, to be looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchedImages {
    /// Their ids.
    pub images: Vec<i64>,
    /// Least score of a detection.
    pub threshold: f32,
    /// The detections on them, in pixels of the original images.
    pub found: Vec<(i64, Vec<Detection>)>,
}

impl WatchedImages {
    /// Chooses so many images, spread evenly over the data: the same at every validation.
    #[must_use]
    pub fn spread(source: &DatasetSource, wanted: usize, threshold: f32) -> Self {
        let images = &source.dataset().images;
        let wanted = wanted.min(images.len());
        let ids = (0..wanted).map(|index| images[index * images.len() / wanted].id);
        Self { images: ids.collect(), threshold, found: Vec::new() }
    }
}

/// The metrics of a model, and the number of images that could not be read.
#[derive(Debug)]
pub struct ValidationOutcome {
    /// COCO's metrics of boxes.
    pub metrics: Metrics,
    /// COCO's metrics of masks, if the model makes masks and the data have them.
    pub masks: Option<Metrics>,
    /// Images that could not be read, which count as images without detections.
    pub bad_images: usize,
}

/// Makes a detector of a model in training: without autodiff, with folded norms, and giving all the answers
/// that an evaluation counts, which are `most` for a model that scores pairs of query and class.
#[must_use]
pub fn validation_detector(
    model: Model,
    config: &ModelConfig,
    classes: &ClassTable,
    preprocess: PreprocessSpec,
    most: usize,
    device: &Device,
) -> Detector {
    Detector {
        model: model.fold(),
        config: config.clone(),
        classes: classes.clone(),
        preprocess,
        device: device.clone(),
        mixes_sizes: false,
        threshold: 0.0,
        max_detections: max_answers(config.activation(), most),
        masks: config.has_masks(),
        wanted: Vec::new(),
    }
}

/// Runs a detector over all images of a validation and scores it. `progress` is called after each batch with
/// the number of images that are done; if it returns false, the validation stops and returns `None`.
///
/// # Errors
/// No image can be read, or the device fails.
pub fn validate(
    detector: &Detector,
    set: &ValidationSet,
    watched: &mut WatchedImages,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<ValidationOutcome>, ValidateError> {
    let ValidationSet { source, truth, batch_size, .. } = set;
    let images = &source.dataset().images;
    let categories = truth.categories().iter().map(|class| (class.id, class.name.as_str()));
    let categories = CategoryMap::new(&detector.classes, categories);
    let mut evaluator = Evaluator::new(truth.clone(), EvalOptions::default())?;
    let mut of_masks = match &set.mask_truth {
        Some(truth) if detector.masks => {
            let options = EvalOptions { iou: IouKind::Segm, ..EvalOptions::default() };
            Some(Evaluator::new(truth.clone(), options)?)
        }
        _ => None,
    };
    let options = StreamOptions { batch_size: *batch_size, stops_at_fault: false };
    let (mut done, mut bad_images, mut stopped) = (0, 0, false);
    let mut last_fault = String::new();
    let mut on_image = |image: EvaluatedImage<'_>| {
        if let Some(evaluator) = &mut of_masks {
            let found = image.found.unwrap_or_default().iter();
            let found = found.filter_map(|found| to_score(found, &categories, IouKind::Segm));
            evaluator.add(image.image_id, found.collect())?;
        }
        match image.found {
            Ok(detections) if watched.images.contains(&image.image_id) => {
                let strong = detections.iter().filter(|found| found.score >= watched.threshold);
                watched.found.push((image.image_id, strong.cloned().collect()));
            }
            Ok(_) => {}
            Err(fault) => {
                bad_images += 1;
                last_fault = fault.to_string();
            }
        }
        done += 1;
        let told = done % batch_size == 0 || done == images.len();
        stopped = told && !progress(done);
        let flow = if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        Ok::<_, ValidateError>(flow)
    };
    let ahead = 2 * batch_size + 1;
    read_ahead(
        0..images.len(),
        ahead,
        |&index| read(source, index),
        |read| {
            let read = read.map(|read| (images[read.key].id, read.image));
            evaluate(detector, read, options, &categories, &mut evaluator, &mut on_image)
        },
    )?;
    if stopped {
        return Ok(None);
    }
    if bad_images == images.len() && bad_images > 0 {
        return Err(ValidateError::NoImage { images: bad_images, reason: last_fault });
    }
    let masks = of_masks.map(Evaluator::finish).transpose()?;
    Ok(Some(ValidationOutcome { metrics: evaluator.finish()?, masks, bad_images }))
}

/// Reads an image; a failing file system gets some more chances.
fn read(source: &DatasetSource, index: usize) -> Result<RgbImage, ImageFault> {
    let mut delay = RETRY_DELAY;
    for _ in 0..RETRIES {
        match source.read(index) {
            Err(error) if error.is_transient() => {
                std::thread::sleep(delay);
                delay *= 4;
            }
            other => return other.map_err(|error| error.error.into()),
        }
    }
    source.read(index).map_err(|error| error.error.into())
}
