//! COCO's metrics of a model in training, on the device that it trains on.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_data::{DatasetSource, HostBatch, Loader, LoaderConfig, LoaderError};
use detr_eval::{Detected, EvalError, Evaluator, GroundTruth, Metrics};
use detr_model::nested::Padding;
use detr_model::postprocess::HostOutput;
use detr_model::{Model, ModelConfig, NestedTensor};
use detr_types::{ClassTable, Detection};

/// Why a model cannot be validated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// Images that cannot be loaded.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// Ground truth that cannot be used.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The device failed; the message is Burn's.
    #[error("the device failed: {0}")]
    Device(String),
}

/// A batch on a device, padded as the reference does it.
#[must_use]
pub fn upload(batch: HostBatch, device: &Device) -> NestedTensor {
    let (b, h, w) = (batch.len(), batch.size.height as usize, batch.size.width as usize);
    let padding = batch.mask.map_or(Padding::None, |mask| {
        Padding::Mask(Tensor::from_data(TensorData::new(mask, [b, h, w]), device))
    });
    let pixels = TensorData::new(batch.pixels, [b, 3, h, w]);
    NestedTensor { pixels: Tensor::from_data(pixels, (device, DType::F32)), padding }
}

/// Images whose detections are kept, to be looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchedImages {
    /// Their ids.
    pub images: Vec<i64>,
    /// Least score of a detection.
    pub threshold: f32,
    /// What was found on them, in pixels of the original images.
    pub found: Vec<(i64, Vec<Detection>)>,
}

impl WatchedImages {
    /// So many images of a loader, spread evenly over it: the same at every validation.
    #[must_use]
    pub fn spread(loader: &Loader, wanted: usize, threshold: f32) -> Self {
        let source = loader.source();
        let wanted = wanted.min(source.len());
        let images = (0..wanted).map(|index| source.image_id(index * source.len() / wanted));
        Self { images: images.collect(), threshold, found: Vec::new() }
    }
}

/// Runs a model over all images of a loader, in its order, and scores the `most` best pairs of query and
/// class of each, which are 100 in the published evaluation. `model` is without autodiff; `progress` hears
/// the images done and says whether to go on: none comes out if it does not.
///
/// # Errors
/// Images that cannot be loaded, or a device that fails.
#[allow(clippy::too_many_arguments)] // each is one thing
pub fn validate(
    model: &Model,
    config: &ModelConfig,
    classes: &ClassTable,
    (loader, truth): &(Arc<Loader>, Arc<GroundTruth>),
    most: usize,
    device: &Device,
    watched: &mut WatchedImages,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Metrics>, ValidateError> {
    let mut evaluator = Evaluator::new(truth.clone(), detr_eval::EvalOptions::default())?;
    let mut done = 0;
    for batch in loader.epoch(0, 0)? {
        let batch = batch?;
        let ids: Vec<i64> = batch.targets.iter().map(|target| target.image_id).collect();
        let sizes: Vec<_> = batch.targets.iter().map(|target| target.original_size).collect();
        let output = model.forward(upload(batch.images, device));
        let output = HostOutput::read(&output).map_err(ValidateError::Device)?;
        let answers = output.answers(config, &sizes, most, |label| classes.get(label).is_some());
        for (id, answers) in ids.into_iter().zip(answers) {
            let found = answers.iter().filter_map(|answer| {
                let bbox = answer.bbox.to_xywh();
                Some(Detected {
                    category_id: i64::try_from(classes.get(answer.label)?.id).ok()?,
                    score: answer.score.into(),
                    bbox: Some([bbox.x, bbox.y, bbox.w, bbox.h].map(f64::from)),
                    mask: None,
                })
            });
            evaluator.add(id, found.collect())?;
            if watched.images.contains(&id) {
                let strong = answers.iter().filter(|answer| answer.score >= watched.threshold);
                let found = strong.filter_map(|answer| {
                    let class = classes.get(answer.label)?;
                    let (label, score, bbox) = (answer.label, answer.score, answer.bbox);
                    let name = class.name.clone();
                    Some(Detection { label, category_id: class.id, name, score, bbox })
                });
                watched.found.push((id, found.collect()));
            }
            done += 1;
        }
        if !progress(done) {
            return Ok(None);
        }
    }
    Ok(Some(evaluator.finish()?))
}

/// A loader that gives every image once, in order, and otherwise works as `config` says.
///
/// # Errors
/// As [`Loader::new`].
pub fn in_order(source: DatasetSource, config: &LoaderConfig) -> Result<Loader, LoaderError> {
    let config = LoaderConfig { shuffle: false, drop_last: false, buckets: 1, ..config.clone() };
    Loader::new(Arc::new(source), config)
}
