//! Images through a model: decoded ahead, put into batches by size, and handed on in their order.
//! What becomes of the results is the caller's.

use std::ops::ControlFlow;
use std::time::Instant;

use detr_data::RgbImage;
use detr_model::weights::Checkpoint;
use detr_types::{Detection, ImageSize};

use super::reader::{Decoded, decode_ahead};
use super::timings::Timings;
use super::{CliError, Console, DeviceArgs, ImageArgs};
use crate::backend::Selected;
use crate::sources::Source;
use crate::{PredictError, PredictOptions, Predictor};

/// From this many images on, a bar shows the progress.
const BAR_FROM: usize = 4;
/// So many batches' worth of images are looked at together, to find more of equal size,
const BATCHES_AT_ONCE: usize = 4;
/// or fewer, once their pixels take so many bytes.
const BYTES_AT_ONCE: usize = 256 << 20;

/// An image and what was found in it, or why nothing could be.
pub type Found = Result<(RgbImage, Vec<Detection>), String>;

/// An image and its position among the sources, or why there is none.
type Pending = (usize, Result<RgbImage, String>);
/// What was found in an image, or why nothing could be.
type Outcome = Result<Vec<Detection>, String>;

/// Makes a checkpoint ready to detect, with the image size of the flags.
///
/// # Errors
/// Those of [`Predictor`], and sizes that contradict each other.
pub fn make_predictor(
    checkpoint: &Checkpoint,
    selected: &Selected,
    device: &DeviceArgs,
    images: &ImageArgs,
    options: PredictOptions,
) -> Result<Predictor, CliError> {
    let spec = images.preprocess(checkpoint.preprocess)?;
    let start = Instant::now();
    let predictor = Predictor::new(checkpoint, selected, device.dtype)?
        .with_options(options)?
        .with_preprocess(spec)?;
    tracing::info!("model ready after {:.2?}", start.elapsed());
    Ok(predictor)
}

/// How images go through a model.
pub struct Stream<'a> {
    /// The model.
    pub predictor: &'a Predictor,
    /// Where the progress is shown.
    pub console: &'a Console,
    /// How images are decoded and batched.
    pub images: &'a ImageArgs,
    /// Whether an image that cannot be read is handed on at once, because it will end the run.
    pub strict: bool,
}

impl Stream<'_> {
    /// Hands every image to `deliver`, by its position and in the order of the sources, until that
    /// says to stop. An image that fails does not take its batch down.
    ///
    /// # Errors
    /// A device that fails, or the error of `deliver`. `timings` are those up to there.
    pub fn run(
        &self,
        sources: &[Source],
        timings: &mut Timings,
        deliver: impl FnMut(usize, Found) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<(), CliError> {
        if sources.len() >= BAR_FROM {
            let template = "{bar:30} {pos}/{len} images {per_sec} {eta}";
            self.console.start_bar(Some(sources.len() as u64), template);
        }
        let ahead = 2 * self.batch_size() + 1;
        let start = Instant::now();
        let outcome = decode_ahead(sources, &self.images.decoding(), ahead, |images| {
            self.process(images, timings, deliver)
        });
        timings.wall = start.elapsed();
        self.console.end_bar();
        outcome
    }

    fn batch_size(&self) -> usize {
        self.images.batch_size as usize
    }

    fn process(
        &self,
        images: impl Iterator<Item = Decoded>,
        timings: &mut Timings,
        mut deliver: impl FnMut(usize, Found) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<(), CliError> {
        let batch_size = self.batch_size();
        let most = if batch_size == 1 { 1 } else { BATCHES_AT_ONCE * batch_size };
        let mut pending: Vec<Pending> = Vec::new();
        let (mut good, mut bytes) = (0, 0);
        for (index, decoded) in images.enumerate() {
            timings.decode += decoded.time;
            if let Ok(image) = &decoded.image {
                good += 1;
                bytes += image.as_raw().len();
            }
            let stop = decoded.image.is_err() && self.strict;
            pending.push((index, decoded.image));
            if stop || good == most || (good >= batch_size && bytes >= BYTES_AT_ONCE) {
                if self.flush(std::mem::take(&mut pending), timings, &mut deliver)?.is_break() {
                    return Ok(());
                }
                (good, bytes) = (0, 0);
            }
        }
        self.flush(pending, timings, &mut deliver).map(|_| ())
    }

    /// Detects in the good images, batch by batch, and hands on all results in their order.
    fn flush(
        &self,
        pending: Vec<Pending>,
        timings: &mut Timings,
        deliver: &mut impl FnMut(usize, Found) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<ControlFlow<()>, CliError> {
        let images: Vec<&RgbImage> = pending.iter().filter_map(|(_, i)| i.as_ref().ok()).collect();
        let spec = self.predictor.preprocess();
        let sizes = images.iter().map(|i| spec.target_size(ImageSize::new(i.height(), i.width())));
        let mut detected: Vec<Outcome> = images.iter().map(|_| Ok(Vec::new())).collect();
        for batch in batches(sizes, self.batch_size(), self.predictor.mixes_sizes()) {
            let members: Vec<&RgbImage> = batch.iter().map(|&index| images[index]).collect();
            for (index, outcome) in batch.into_iter().zip(self.detect(&members, timings)?) {
                detected[index] = outcome;
            }
        }
        let mut detected = detected.into_iter();
        for (index, image) in pending {
            let found = image.and_then(|image| {
                let detections = detected.next().unwrap_or_else(|| Ok(Vec::new()))?;
                Ok((image, detections))
            });
            let flow = deliver(index, found)?;
            self.console.advance(1);
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One outcome per image: an image that cannot be used does not take its batch down.
    fn detect(
        &self,
        images: &[&RgbImage],
        timings: &mut Timings,
    ) -> Result<Vec<Outcome>, CliError> {
        let mut outcomes: Vec<Outcome> = images.iter().map(|_| Ok(Vec::new())).collect();
        let mut left: Vec<usize> = (0..images.len()).collect();
        while !left.is_empty() {
            let batch: Vec<&RgbImage> = left.iter().map(|&index| images[index]).collect();
            let error = match self.predictor.predict_timed(&batch) {
                Ok((detections, times)) => {
                    timings.add(batch.len(), times);
                    for (index, detections) in left.drain(..).zip(detections) {
                        outcomes[index] = Ok(detections);
                    }
                    break;
                }
                Err(error) => error,
            };
            match error {
                PredictError::Image { index, .. }
                | PredictError::TooLarge { index, .. }
                | PredictError::NonFinite { index } => {
                    // Users know the image by its name, not by its place in a batch.
                    let message = error.to_string();
                    let prefix = format!("image {index}: ");
                    let message = message.strip_prefix(&prefix).unwrap_or(&message);
                    outcomes[left.remove(index)] = Err(message.to_owned());
                }
                PredictError::Backend(_) => return Err(error.into()),
            }
        }
        Ok(outcomes)
    }
}

/// Positions of images for one batch each, at most so many together: of equal size or, if sizes may
/// be mixed, of similar ones, so that little is padded.
fn batches(sizes: impl Iterator<Item = ImageSize>, most: usize, mix: bool) -> Vec<Vec<usize>> {
    let mut order: Vec<(ImageSize, usize)> = sizes.zip(0..).collect();
    order.sort_by_key(|&(size, index)| (size.height, size.width, index));
    let together = |a: &(ImageSize, usize), b: &(ImageSize, usize)| mix || a.0 == b.0;
    let mut batches: Vec<Vec<usize>> = order
        .chunk_by(together)
        .flat_map(|group| group.chunks(most))
        .map(|batch| batch.iter().map(|&(_, index)| index).collect())
        .collect();
    batches.sort_unstable();
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_images_of_one_size_or_of_similar_ones() {
        let sizes = [1, 2, 1, 1, 2, 3, 1].map(|height| ImageSize::new(height, 5));
        let batches = |most, mix| batches(sizes.into_iter(), most, mix);
        assert_eq!(batches(2, false), [vec![0, 2], vec![1, 4], vec![3, 6], vec![5]]);
        assert_eq!(batches(1, false).len(), 7);
        assert_eq!(batches(3, true), [vec![0, 2, 3], vec![5], vec![6, 1, 4]]);
    }
}
