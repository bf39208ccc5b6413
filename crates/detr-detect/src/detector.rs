//! The way from images to named detections: a model, its classes and its preprocessing.

use std::time::Instant;

use burn::tensor::Device;
use detr_data::{HostBatch, PreparedImage, RgbImage, prepare};
use detr_model::output::MaskFeatures;
use detr_model::postprocess::{
    HostMasks, HostOutput, KeptQuery, MaskSizes, RawDetection, ScoreActivation, Segments,
};
use detr_model::{DeviceError, Model, ModelConfig, traffic};
use detr_types::{ClassTable, Detection, ImageSize, Panoptic, PanopticSegment, PreprocessSpec};

use crate::error::{ImageFault, PredictError};
use crate::times::StageTimes;
use crate::upload::{PaddingRule, upload};

/// Something that detects in batches: a [`Detector`], or a program's shell around one.
pub trait Detect {
    /// Returns the detector.
    fn detector(&self) -> &Detector;

    /// Detects in images that fit into one batch (see [`Detector::group`]); detections are best first.
    /// `times` grows by the time spent.
    ///
    /// # Errors
    /// The first image that cannot be used, or a device that fails.
    fn detect_batch(
        &self,
        images: &[&RgbImage],
        times: &mut StageTimes,
    ) -> Result<Vec<Vec<Detection>>, PredictError>;
}

/// A model on a device, with its classes, the size of its input, and the detections that are wanted. It is
/// immutable and may be shared between threads.
#[derive(Clone, Debug)]
pub struct Detector {
    /// The model, without autodiff.
    pub model: Model,
    /// Its architecture.
    pub config: ModelConfig,
    /// The classes of the labels.
    pub classes: ClassTable,
    /// The way in which images become input.
    pub preprocess: PreprocessSpec,
    /// The device of the model.
    pub device: Device,
    /// Whether images of several sizes are padded to one batch. A CPU gains nothing from large batches,
    /// and would compute on padding. Without effect on models that cannot tell padding.
    pub mixes_sizes: bool,
    /// Least score of a detection, 0 to 1.
    pub threshold: f32,
    /// The most detections of an image, the best ones.
    pub max_detections: usize,
    /// Names of the classes that are wanted; all if empty.
    pub wanted: Vec<String>,
    /// Whether detections get masks, where the model makes them.
    pub masks: bool,
}

/// The options of choosing a segment for every pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PanopticOptions {
    /// Queries become segments whose class is more probable than this, 0 to 1.
    pub threshold: f32,
    /// Whether ids start at 0, as the reference's do, and not at 1. Evaluation takes 0 for void.
    pub reference_ids: bool,
}

impl Default for PanopticOptions {
    /// Returns the reference's threshold, and ids from 1.
    fn default() -> Self {
        Self { threshold: 0.85, reference_ids: false }
    }
}

/// Refuses a model that cannot give every pixel to a segment.
///
/// # Errors
/// [`PredictError::NoMasks`] and [`PredictError::NotPanoptic`].
pub fn check_panoptic(config: &ModelConfig) -> Result<(), PredictError> {
    if !config.has_masks() {
        return Err(PredictError::NoMasks);
    }
    match config.activation() {
        ScoreActivation::Softmax => Ok(()),
        ScoreActivation::Sigmoid => Err(PredictError::NotPanoptic),
    }
}

/// Images on their way through a model.
struct Output {
    /// The last layer's predictions.
    host: HostOutput,
    /// The features that masks are made of.
    features: Option<MaskFeatures>,
    /// Sizes of every image.
    sizes: Vec<MaskSizes>,
}

impl Detector {
    /// Returns whether images of several sizes run as one batch.
    #[must_use]
    pub fn mixes_sizes(&self) -> bool {
        self.mixes_sizes && self.config.knows_padding()
    }

    /// Puts positions of images of these sizes into groups that fit into one batch, at most `most`
    /// together: images that are resized to one size or, if sizes may be mixed, to similar ones, so that
    /// little is padded. Groups are in the order of their first members.
    #[must_use]
    pub fn group(
        &self,
        sizes: impl IntoIterator<Item = ImageSize>,
        most: usize,
    ) -> Vec<Vec<usize>> {
        let sizes = sizes.into_iter().map(|size| self.preprocess.target_size(size));
        group(sizes, most, self.mixes_sizes())
    }

    /// Detects objects in several images at once; each gets the same detections as alone, up to rounding.
    /// `times` grows by the time spent.
    ///
    /// # Errors
    /// The first image that cannot be used, by its position, or a device that fails.
    pub fn detect(
        &self,
        images: &[&RgbImage],
        times: &mut StageTimes,
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        let mut detections = vec![Vec::new(); images.len()];
        let sizes = images.iter().map(|image| ImageSize::new(image.height(), image.width()));
        for group in self.group(sizes, usize::MAX) {
            let members: Vec<&RgbImage> = group.iter().map(|&index| images[index]).collect();
            let found = self.detect_batch(&members, times).map_err(|error| match error {
                PredictError::Image { index, fault } => {
                    PredictError::Image { index: group[index], fault }
                }
                other => other,
            })?;
            for (index, found) in group.into_iter().zip(found) {
                detections[index] = found;
            }
        }
        Ok(detections)
    }

    /// Detects objects in an image, and returns the predictions of the model's last layer with them. `times` grows by
    /// the time spent.
    ///
    /// # Errors
    /// An image that cannot be used, or a device that fails.
    pub fn detect_with_output(
        &self,
        image: &RgbImage,
        times: &mut StageTimes,
    ) -> Result<(Vec<Detection>, HostOutput), PredictError> {
        let output = self.run(&[image], times)?;
        let detections = self.detections(&output, times)?.pop().unwrap_or_default();
        Ok((detections, output.host))
    }

    fn prepare(&self, image: &RgbImage) -> Result<PreparedImage, ImageFault> {
        let prepared = prepare(image, &self.preprocess)?;
        if let Some(max) = self.config.max_image_side()
            && prepared.size.height.max(prepared.size.width) > max
        {
            return Err(ImageFault::TooLarge { size: prepared.size, max });
        }
        Ok(prepared)
    }

    /// Gives every pixel of an image to a segment, with images that fit into one batch (see [`Detector::group`]).
    /// `times` grows by the time spent.
    ///
    /// # Errors
    /// A model without a mask head, the first image that cannot be used, or a device that fails.
    pub fn panoptic_batch(
        &self,
        images: &[&RgbImage],
        options: PanopticOptions,
        times: &mut StageTimes,
    ) -> Result<Vec<Panoptic>, PredictError> {
        check_panoptic(&self.config)?;
        let output = self.run(images, times)?;
        let start = Instant::now();
        // Labels that are holes in the class table name nothing.
        let named = |kept: &KeptQuery| self.classes.get(kept.label).is_some();
        let kept: Vec<Vec<KeptQuery>> = output
            .host
            .kept(options.threshold)
            .into_iter()
            .map(|kept| kept.into_iter().filter(named).collect())
            .collect();
        let queries = kept.iter().map(|kept| kept.iter().map(|kept| kept.query).collect());
        let masks = self.host_masks(&output, queries)?;
        let is_stuff = |label| self.classes.get(label).is_some_and(|class| !class.is_thing);
        let found = kept.iter().zip(&masks).zip(&output.sizes).map(|((kept, masks), &sizes)| {
            self.name_segments(&Segments::new(masks, kept, sizes, is_stuff), options)
        });
        let found = found.collect();
        times.postprocess += start.elapsed();
        Ok(found)
    }

    /// Gives segments their ids and names.
    fn name_segments(&self, found: &Segments, options: PanopticOptions) -> Panoptic {
        let first = u32::from(!options.reference_ids);
        let segments = (first..)
            .zip(&found.segments)
            .filter_map(|(id, segment)| {
                let class = self.classes.get(segment.label)?;
                Some(PanopticSegment {
                    id,
                    label: segment.label,
                    category_id: class.id,
                    name: class.name.clone(),
                    is_thing: class.is_thing,
                    score: segment.score,
                    area: segment.area,
                })
            })
            .collect();
        let ids = if options.reference_ids { found.of_pixel.clone() } else { found.ids() };
        Panoptic { size: found.size, ids, segments }
    }

    /// Makes and reads the masks of some queries of every image.
    fn host_masks(
        &self,
        output: &Output,
        queries: impl Iterator<Item = Vec<usize>>,
    ) -> Result<Vec<HostMasks>, PredictError> {
        let masks: Vec<_> = queries
            .enumerate()
            .map(|(image, queries)| self.model.masks(output.features.as_ref()?, image, &queries))
            .collect();
        let made = masks.iter().flatten().cloned().collect();
        let read = HostMasks::read(made)?;
        let mut read = read.into_iter();
        let none = || HostMasks { size: [1, 1], logits: Vec::new() };
        let masks: Vec<HostMasks> = masks
            .iter()
            .map(|mask| mask.as_ref().and_then(|_| read.next()).unwrap_or_else(none))
            .collect();
        match masks.iter().position(|masks| !masks.is_finite()) {
            Some(index) => Err(PredictError::Image { index, fault: ImageFault::NonFinite }),
            None => Ok(masks),
        }
    }

    /// Gives the detections of every image their masks.
    fn add_masks(
        &self,
        output: &Output,
        named: &mut [Vec<(usize, Detection)>],
    ) -> Result<(), PredictError> {
        let queries = named.iter().map(|found| found.iter().map(|(query, _)| *query).collect());
        let masks = self.host_masks(output, queries)?;
        for ((found, masks), &sizes) in named.iter_mut().zip(masks).zip(&output.sizes) {
            for ((_, detection), code) in found.iter_mut().zip(masks.codes(sizes)) {
                detection.mask = Some(code);
            }
        }
        Ok(())
    }

    /// Prepares the images, runs the model, and reads its last layer back.
    fn run(&self, images: &[&RgbImage], times: &mut StageTimes) -> Result<Output, PredictError> {
        let start = Instant::now();
        let mut prepared = Vec::with_capacity(images.len());
        for (index, image) in images.iter().enumerate() {
            let image = self.prepare(image);
            prepared.push(image.map_err(|fault| PredictError::Image { index, fault })?);
        }
        let batch = HostBatch::stack(prepared);
        // Nothing outside an image is looked at, so a mask covers the image alone.
        let sizes = batch.image_sizes.iter().zip(&batch.original_sizes);
        let sizes = sizes
            .map(|(&processed, &original)| MaskSizes { padded: processed, processed, original })
            .collect();
        times.resize += start.elapsed();
        let (host, features) = self.run_batch(batch, times)?;
        match host.first_non_finite() {
            Some(index) => Err(PredictError::Image { index, fault: ImageFault::NonFinite }),
            None => Ok(Output { host, features, sizes }),
        }
    }

    fn run_batch(
        &self,
        batch: HostBatch,
        times: &mut StageTimes,
    ) -> Result<(HostOutput, Option<MaskFeatures>), DeviceError> {
        let wait = || traffic::wait(&self.device);
        let start = Instant::now();
        let features = self.model.extract(upload(batch, PaddingRule::Exact, &self.device));
        wait()?;
        let features_done = Instant::now();
        let output = self.model.transform(features);
        wait()?;
        let output_done = Instant::now();
        let host = HostOutput::read(&output)?;
        times.backbone += features_done - start;
        times.transformer += output_done - features_done;
        times.postprocess += output_done.elapsed();
        Ok((host, output.mask_features))
    }

    /// Returns whether a label is among the classes that are wanted.
    fn wants(&self, label: usize) -> bool {
        let named = |name: &str| self.wanted.iter().any(|wanted| wanted == name);
        self.wanted.is_empty()
            || self.classes.get(label).is_some_and(|category| named(&category.name))
    }

    /// Thresholds, names and orders the answers for one image. Labels that are holes in the class table
    /// name nothing and are left out. Each comes with its query.
    fn name(&self, answers: &[RawDetection]) -> Vec<(usize, Detection)> {
        let mut detections: Vec<(usize, Detection)> = answers
            .iter()
            .filter(|answer| answer.score >= self.threshold && self.wants(answer.label))
            .filter_map(|answer| {
                let category = self.classes.get(answer.label)?;
                let detection = Detection {
                    label: answer.label,
                    category_id: category.id,
                    name: category.name.clone(),
                    score: answer.score,
                    bbox: answer.bbox,
                    mask: None,
                };
                Some((answer.query, detection))
            })
            .collect();
        detections.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));
        detections.truncate(self.max_detections);
        detections
    }

    /// Makes detections of the last layer's predictions.
    fn detections(
        &self,
        output: &Output,
        times: &mut StageTimes,
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        let start = Instant::now();
        let (activation, most) = (self.config.activation(), self.max_detections);
        let sizes: Vec<ImageSize> = output.sizes.iter().map(|sizes| sizes.original).collect();
        let answers = output.host.answers(activation, &sizes, most, |label| self.wants(label));
        let mut named: Vec<_> = answers.iter().map(|answers| self.name(answers)).collect();
        if self.masks && output.features.is_some() {
            self.add_masks(output, &mut named)?;
        }
        let bare = |(_, detection)| detection;
        let named = named.into_iter().map(|found| found.into_iter().map(bare).collect()).collect();
        times.postprocess += start.elapsed();
        Ok(named)
    }
}

impl Detect for Detector {
    fn detector(&self) -> &Detector {
        self
    }

    fn detect_batch(
        &self,
        images: &[&RgbImage],
        times: &mut StageTimes,
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        let output = self.run(images, times)?;
        self.detections(&output, times)
    }
}

/// Positions of images for one batch each: of equal size or, if sizes may be mixed, of similar ones.
fn group(sizes: impl Iterator<Item = ImageSize>, most: usize, mix: bool) -> Vec<Vec<usize>> {
    let mut order: Vec<(ImageSize, usize)> = sizes.zip(0..).collect();
    order.sort_by_key(|&(size, index)| (size.height, size.width, index));
    let together = |a: &(ImageSize, usize), b: &(ImageSize, usize)| mix || a.0 == b.0;
    let mut groups: Vec<Vec<usize>> = order
        .chunk_by(together)
        .flat_map(|group| group.chunks(most))
        .map(|batch| batch.iter().map(|&(_, index)| index).collect())
        .collect();
    groups.sort_unstable();
    groups
}

const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<Detector>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_images_of_one_size_or_of_similar_ones() {
        let sizes = [1, 2, 1, 1, 2, 3, 1].map(|height| ImageSize::new(height, 5));
        let group = |most, mix| group(sizes.into_iter(), most, mix);
        assert_eq!(group(2, false), [vec![0, 2], vec![1, 4], vec![3, 6], vec![5]]);
        assert_eq!(group(1, false).len(), 7);
        assert_eq!(group(3, true), [vec![0, 2, 3], vec![5], vec![6, 1, 4]]);
    }
}
