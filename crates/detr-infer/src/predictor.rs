//! Images in, detections out.

use std::path::Path;

use detr_data::RgbImage;
use detr_detect::{
    Detect, DetectionStream, Detector, ImageFault, PanopticOptions, PredictError, StageTimes,
    StreamOptions,
};
use detr_model::postprocess::HostOutput;
use detr_model::weights::{Checkpoint, WeightsError};
use detr_model::{ConfigError, DeviceError, ModelConfig, float_dtype};
use detr_types::range::in_range;
use detr_types::{
    ClassTable, Detection, Panoptic, PreprocessSpec, PreprocessSpecError, RangeError, nearest,
};

use crate::backend::{self, Backend, BackendError, Precision, SelectedDevice, catch_device};

/// A model ready to detect, on a device whose failures become errors. It is immutable and may be shared
/// between threads. A clone shares the weights.
#[derive(Clone, Debug)]
pub struct Predictor {
    detector: Detector,
}

/// The options that choose which detections are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictOptions {
    /// Least score, 0 to 1.
    pub threshold: f32,
    /// At most this many per image, the best ones.
    pub max_detections: usize,
    /// Names of the classes wanted; all if empty.
    pub classes: Vec<String>,
    /// Whether detections get masks, where the model makes them. Those of a few objects cost less than the boxes did.
    pub masks: bool,
}

/// Why a predictor cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictorError {
    /// The checkpoint.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Its preprocessing.
    #[error("preprocessing: {0}")]
    Preprocess(#[from] PreprocessSpecError),
    /// Its architecture.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An option out of its range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// An option.
    #[error("{0}")]
    Options(String),
    /// The device.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self { threshold: 0.5, max_detections: 100, classes: Vec::new(), masks: true }
    }
}

impl Predictor {
    /// Opens a model file or folder in single precision on the best backend that works here.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Predictor::new`], or no backend works.
    pub fn open(model: impl AsRef<Path>) -> Result<Self, PredictorError> {
        let selected = backend::select(Backend::Auto, 0, Precision::F32)?;
        Self::new(&Checkpoint::open(model.as_ref(), None)?, &selected, Precision::F32)
    }

    /// Loads a checkpoint onto a device.
    ///
    /// # Errors
    /// Weights that do not fit or are damaged, or a device that fails.
    pub fn new(
        checkpoint: &Checkpoint,
        selected: &SelectedDevice,
        precision: Precision,
    ) -> Result<Self, PredictorError> {
        let config = checkpoint.config()?;
        let classes = checkpoint
            .classes
            .clone()
            .unwrap_or_else(|| ClassTable::numbered(config.num_classes()));
        checkpoint.preprocess.validate()?;
        let load = || checkpoint.load_for_inference(&selected.device, float_dtype(precision));
        let model = catch_device(load)??;
        let on_cpu = matches!(selected.backend, Backend::Flex | Backend::Ndarray);
        let PredictOptions { threshold, max_detections, classes: wanted, masks } =
            PredictOptions::default();
        let detector = Detector {
            model,
            config,
            classes,
            preprocess: checkpoint.preprocess,
            device: selected.device.clone(),
            mixes_sizes: !on_cpu,
            threshold,
            max_detections,
            wanted,
            masks,
        };
        Ok(Self { detector })
    }

    /// Sets other options.
    ///
    /// # Errors
    /// A threshold outside 0 to 1, or a class the model does not have.
    pub fn with_options(mut self, options: PredictOptions) -> Result<Self, PredictorError> {
        in_range("threshold", options.threshold, 0.0..=1.0)?;
        for name in &options.classes {
            if self.detector.classes.find(name).is_none() {
                let near = nearest_name(name, &self.detector.classes);
                return Err(PredictorError::Options(format!(
                    "the model has no class `{name}`{near}"
                )));
            }
        }
        let PredictOptions { threshold, max_detections, classes: wanted, masks } = options;
        self.detector = Detector { threshold, max_detections, wanted, masks, ..self.detector };
        Ok(self)
    }

    /// Sets another image size or normalisation.
    ///
    /// # Errors
    /// A size or statistic that cannot work.
    pub fn with_preprocess(mut self, preprocess: PreprocessSpec) -> Result<Self, PredictorError> {
        preprocess.validate()?;
        self.detector.preprocess = preprocess;
        Ok(self)
    }

    /// Returns the way in which images are resized and normalised.
    #[must_use]
    pub const fn preprocess(&self) -> &PreprocessSpec {
        &self.detector.preprocess
    }

    /// Returns the classes of the model.
    #[must_use]
    pub const fn classes(&self) -> &ClassTable {
        &self.detector.classes
    }

    /// Returns the architecture of the model.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
        &self.detector.config
    }

    /// Returns whether images of several sizes run as one batch, as on a GPU.
    #[must_use]
    pub fn mixes_sizes(&self) -> bool {
        self.detector.mixes_sizes()
    }

    /// Detects objects in one image, best first.
    ///
    /// # Errors
    /// An image without pixels, or a device that fails.
    pub fn predict(&self, image: &RgbImage) -> Result<Vec<Detection>, PredictError> {
        Ok(self.predict_batch(&[image])?.pop().unwrap_or_default())
    }

    /// Detects objects in several images at once. The results are those of [`Predictor::predict`],
    /// whatever the other images are. On a GPU all images run as one batch, and nothing outside an image is
    /// looked at; on a CPU those that are resized to one size do.
    ///
    /// # Errors
    /// As [`Predictor::predict`]; the first bad image is named.
    pub fn predict_batch(&self, images: &[&RgbImage]) -> Result<Vec<Vec<Detection>>, PredictError> {
        self.predict_timed(images).map(|(detections, _)| detections)
    }

    /// Detects as [`Predictor::predict_batch`] does, and also returns the time spent per stage.
    ///
    /// # Errors
    /// As [`Predictor::predict_batch`].
    pub fn predict_timed(
        &self,
        images: &[&RgbImage],
    ) -> Result<(Vec<Vec<Detection>>, StageTimes), PredictError> {
        let mut times = StageTimes::default();
        let found = guarded(|| self.detector.detect(images, &mut times))?;
        Ok((found, times))
    }

    /// Detects objects in one image, and returns the predictions of the model's last layer and the time spent with them.
    ///
    /// # Errors
    /// The errors of [`Predictor::predict`].
    pub fn predict_with_output(
        &self,
        image: &RgbImage,
    ) -> Result<(Vec<Detection>, HostOutput, StageTimes), PredictError> {
        let mut times = StageTimes::default();
        let (found, output) = guarded(|| self.detector.detect_with_output(image, &mut times))?;
        Ok((found, output, times))
    }

    /// Gives every pixel of an image to a segment: a thing, or some kind of stuff.
    ///
    /// # Errors
    /// A model without a mask head, an image without pixels, or a device that fails.
    pub fn predict_panoptic(
        &self,
        image: &RgbImage,
        options: PanopticOptions,
    ) -> Result<Panoptic, PredictError> {
        let (found, _) = self.predict_panoptic_timed(image, options)?;
        Ok(found)
    }

    /// Predicts like [`Predictor::predict_panoptic`], and returns the time spent per stage.
    ///
    /// # Errors
    /// The errors of [`Predictor::predict_panoptic`].
    pub fn predict_panoptic_timed(
        &self,
        image: &RgbImage,
        options: PanopticOptions,
    ) -> Result<(Panoptic, StageTimes), PredictError> {
        let mut times = StageTimes::default();
        let found = guarded(|| self.detector.panoptic_batch(&[image], options, &mut times))?;
        match found.into_iter().next() {
            Some(found) => Ok((found, times)),
            None => Err(DeviceError::new(&"the model gave no answer").into()),
        }
    }

    /// Detects objects in any number of images, such as the frames of a video; see [`DetectionStream`].
    /// Images are known by a key of the caller's.
    pub fn stream<I, K>(&self, images: I, options: StreamOptions) -> DetectionStream<'_, Self, I, K>
    where
        I: Iterator<Item = (K, Result<RgbImage, ImageFault>)>,
    {
        DetectionStream::new(self, images, options)
    }
}

impl Detect for Predictor {
    fn detector(&self) -> &Detector {
        &self.detector
    }

    fn detect_batch(
        &self,
        images: &[&RgbImage],
        times: &mut StageTimes,
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        guarded(|| self.detector.detect_batch(images, times))
    }
}

/// Runs work on a device that may fail: Burn reports some failures as a panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, PredictError>) -> Result<T, PredictError> {
    catch_device(work).unwrap_or_else(|error| {
        let message = match error {
            BackendError::Failed { message } => message,
            other => other.to_string(),
        };
        Err(DeviceError { message }.into())
    })
}

/// Returns the class that was probably meant, or the place where the names are listed.
fn nearest_name(name: &str, classes: &ClassTable) -> String {
    match nearest(name, classes.categories().map(|category| category.name.as_str())) {
        Some(near) => format!("\nhint: did you mean `{near}`?"),
        None => "\nhint: `detr models inspect MODEL` lists its classes".to_owned(),
    }
}

const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<Predictor>();
};
