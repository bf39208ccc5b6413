//! Images in, detections out.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use detr_data::{HostBatch, ImageError, Prepared, RgbImage, prepare};
use detr_model::config::ConfigError;
use detr_model::nested::{NestedTensor, Padding};
use detr_model::postprocess::{HostOutput, Scored};
use detr_model::weights::{Checkpoint, WeightsError};
use detr_model::{Model, ModelConfig};
use detr_types::{ClassTable, Detection, ImageSize, PreprocessSpec, PreprocessSpecError, nearest};

use crate::backend::{self, Backend, BackendError, Precision, Selected, catch_device};

/// A model ready to detect. It is immutable and may be shared between threads.
pub struct Predictor {
    model: Model,
    config: ModelConfig,
    classes: ClassTable,
    preprocess: PreprocessSpec,
    device: Device,
    /// Whether images of several sizes are padded to one batch. A CPU gains nothing from large
    /// batches, and would compute on padding; the demonstration model cannot tell padding.
    pads: bool,
    options: PredictOptions,
}

/// Which detections are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictOptions {
    /// Least score, 0 to 1.
    pub threshold: f32,
    /// At most this many per image, the best ones.
    pub max_detections: usize,
    /// Names of the classes wanted; all if empty.
    pub classes: Vec<String>,
}

/// Time spent on a batch, stage by stage. Decoding is the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Resizing and normalising.
    pub resize: Duration,
    /// Upload and backbone.
    pub backbone: Duration,
    /// Transformer and heads.
    pub transformer: Duration,
    /// Read-back, softmax and naming.
    pub postprocess: Duration,
}

/// Why a prediction failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// An image cannot be used.
    #[error("image {index}: {source}")]
    Image {
        /// Position in the batch.
        index: usize,
        /// What is wrong with it.
        source: ImageError,
    },
    /// An image is too large for the model's table of positions.
    #[error(
        "image {index}: resized to {size}, but this model's learned positions end at {max} pixels\nhint: use a smaller --max-size"
    )]
    TooLarge {
        /// Position in the batch.
        index: usize,
        /// Size after resizing.
        size: ImageSize,
        /// Largest side.
        max: u32,
    },
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The result is not finite.
    #[error("image {index}: the model's output is not finite\nhint: use --dtype f32")]
    NonFinite {
        /// Position in the batch.
        index: usize,
    },
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
    /// An option.
    #[error("{0}")]
    Options(String),
    /// The device.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self { threshold: 0.5, max_detections: 100, classes: Vec::new() }
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
        selected: &Selected,
        precision: Precision,
    ) -> Result<Self, PredictorError> {
        let config = checkpoint.config()?;
        let classes = checkpoint
            .classes
            .clone()
            .unwrap_or_else(|| ClassTable::numbered(config.num_classes()));
        checkpoint.preprocess.validate()?;
        let load = || checkpoint.load_for_inference(&selected.device, precision.into());
        let model = catch_device(load)??;
        let on_cpu = matches!(selected.backend, Backend::Flex | Backend::Ndarray);
        let pads = !on_cpu && !matches!(config, ModelConfig::DetrDemo(_));
        Ok(Self {
            model,
            config,
            classes,
            pads,
            preprocess: checkpoint.preprocess,
            device: selected.device.clone(),
            options: PredictOptions::default(),
        })
    }

    /// The same predictor with other options.
    ///
    /// # Errors
    /// A threshold outside 0 to 1, or a class the model does not have.
    pub fn with_options(mut self, options: PredictOptions) -> Result<Self, PredictorError> {
        if !(0.0..=1.0).contains(&options.threshold) {
            return Err(PredictorError::Options(format!(
                "threshold is {}, expected 0 to 1",
                options.threshold
            )));
        }
        for name in &options.classes {
            if self.classes.find(name).is_none() {
                let near = nearest_name(name, &self.classes);
                return Err(PredictorError::Options(format!(
                    "the model has no class `{name}`{near}"
                )));
            }
        }
        self.options = options;
        Ok(self)
    }

    /// The same predictor with another image size or normalisation.
    ///
    /// # Errors
    /// A size or statistic that cannot work.
    pub fn with_preprocess(mut self, preprocess: PreprocessSpec) -> Result<Self, PredictorError> {
        preprocess.validate()?;
        self.preprocess = preprocess;
        Ok(self)
    }

    /// How images are resized and normalised.
    #[must_use]
    pub const fn preprocess(&self) -> &PreprocessSpec {
        &self.preprocess
    }

    /// The classes of the model.
    #[must_use]
    pub const fn classes(&self) -> &ClassTable {
        &self.classes
    }

    /// The architecture of the model.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether images of several sizes run as one batch, as on a GPU.
    #[must_use]
    pub const fn mixes_sizes(&self) -> bool {
        self.pads
    }

    /// Detects objects in one image, best first.
    ///
    /// # Errors
    /// An image without pixels, or a device that fails.
    pub fn predict(&self, image: &RgbImage) -> Result<Vec<Detection>, PredictError> {
        Ok(self.predict_batch(&[image])?.pop().unwrap_or_default())
    }

    /// Detects objects in several images at once. The results are those of [`Predictor::predict`],
    /// whatever the company. On a GPU all images run as one batch, and nothing outside an image is
    /// looked at; on a CPU those that are resized to one size do.
    ///
    /// # Errors
    /// As [`Predictor::predict`]; the first bad image is named.
    pub fn predict_batch(&self, images: &[&RgbImage]) -> Result<Vec<Vec<Detection>>, PredictError> {
        self.predict_timed(images).map(|(detections, _)| detections)
    }

    /// As [`Predictor::predict_batch`], with the time spent per stage.
    ///
    /// # Errors
    /// As [`Predictor::predict_batch`].
    pub fn predict_timed(
        &self,
        images: &[&RgbImage],
    ) -> Result<(Vec<Vec<Detection>>, StageTimes), PredictError> {
        let start = Instant::now();
        let mut prepared = Vec::with_capacity(images.len());
        for (index, image) in images.iter().enumerate() {
            prepared.push(self.prepare(index, image)?);
        }
        let mut times = StageTimes { resize: start.elapsed(), ..StageTimes::default() };
        let mut detections = vec![Vec::new(); images.len()];
        for (indices, group) in self.batches(prepared) {
            let start = Instant::now();
            let batch = HostBatch::stack(group);
            times.resize += start.elapsed();
            let found = self.detect(batch, &indices, &mut times)?;
            for (index, found) in indices.into_iter().zip(found) {
                detections[index] = found;
            }
        }
        Ok((detections, times))
    }

    fn prepare(&self, index: usize, image: &RgbImage) -> Result<Prepared, PredictError> {
        let prepared = prepare(image, &self.preprocess)
            .map_err(|source| PredictError::Image { index, source })?;
        if let Some(max) = self.config.max_image_side()
            && prepared.size.height.max(prepared.size.width) > max
        {
            return Err(PredictError::TooLarge { index, size: prepared.size, max });
        }
        Ok(prepared)
    }

    fn detect(
        &self,
        batch: HostBatch,
        indices: &[usize],
        times: &mut StageTimes,
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        let sizes = batch.original_sizes.clone();
        let output = catch_device(|| {
            let start = Instant::now();
            let features = self.model.extract(self.upload(batch));
            self.wait()?;
            let features_done = Instant::now();
            let output = self.model.transform(features);
            self.wait()?;
            let output_done = Instant::now();
            let host = HostOutput::read(&output)?;
            times.backbone += features_done - start;
            times.transformer += output_done - features_done;
            times.postprocess += output_done.elapsed();
            Ok::<_, String>(host)
        })?
        .map_err(|message| BackendError::Failed { message })?;

        let start = Instant::now();
        if let Some(index) = output.first_non_finite() {
            return Err(PredictError::NonFinite { index: indices[index] });
        }
        let most = self.options.max_detections;
        let answers = output.answers(&self.config, &sizes, most, |label| self.wants(label));
        let named = answers.iter().map(|answers| self.name(answers)).collect();
        times.postprocess += start.elapsed();
        Ok(named)
    }

    /// Images that run together, with their places.
    fn batches(&self, images: Vec<Prepared>) -> Vec<(Vec<usize>, Vec<Prepared>)> {
        let mut batches: Vec<(Vec<usize>, Vec<Prepared>)> = Vec::new();
        for (index, image) in images.into_iter().enumerate() {
            match batches.iter_mut().find(|(_, mates)| self.pads || mates[0].size == image.size) {
                Some((indices, mates)) => {
                    indices.push(index);
                    mates.push(image);
                }
                None => batches.push((vec![index], vec![image])),
            }
        }
        batches
    }

    fn upload(&self, batch: HostBatch) -> NestedTensor {
        let b = batch.len();
        let size = |size: &ImageSize| [size.height as usize, size.width as usize];
        let padding = if batch.mask.is_some() {
            Padding::Sizes(batch.image_sizes.iter().map(size).collect())
        } else {
            Padding::None
        };
        let (h, w) = (batch.size.height as usize, batch.size.width as usize);
        let pixels = TensorData::new(batch.pixels, [b, 3, h, w]);
        let options = (&self.device, burn::tensor::DType::F32);
        NestedTensor { pixels: Tensor::from_data(pixels, options), padding }
    }

    fn wait(&self) -> Result<(), String> {
        self.device.sync().map_err(|error| format!("{error:?}"))
    }

    /// Whether a label is among the classes that are asked for.
    fn wants(&self, label: usize) -> bool {
        let wanted = &self.options.classes;
        let named = |name: &str| wanted.iter().any(|wanted| wanted == name);
        wanted.is_empty() || self.classes.get(label).is_some_and(|category| named(&category.name))
    }

    /// Thresholds, names and orders the answers for one image. Labels that are holes in the class
    /// table name nothing and are left out.
    fn name(&self, answers: &[Scored]) -> Vec<Detection> {
        let mut detections: Vec<Detection> = answers
            .iter()
            .filter(|answer| answer.score >= self.options.threshold && self.wants(answer.label))
            .filter_map(|answer| {
                self.classes.get(answer.label).map(|category| Detection {
                    label: answer.label,
                    category_id: category.id,
                    name: category.name.clone(),
                    score: answer.score,
                    bbox: answer.bbox,
                })
            })
            .collect();
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        detections.truncate(self.options.max_detections);
        detections
    }
}

/// Which class was meant, or where to see the names.
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
