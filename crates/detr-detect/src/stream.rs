//! Detects in any number of images, and hands the results on in the order of the images.

use std::collections::VecDeque;

use detr_data::RgbImage;
use detr_types::{Detection, ImageSize};

use crate::detector::Detect;
use crate::error::{ImageFault, PredictError};
use crate::times::StageTimes;

/// The number of batches whose images are searched together for equal sizes.
const BATCHES_AT_ONCE: usize = 4;
/// The number of bytes of decoded pixels from which a smaller number of images is searched.
const BYTES_AT_ONCE: usize = 256 << 20;

/// The options by which a stream makes batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// The most images in a batch, at least 1.
    pub batch_size: usize,
    /// Whether an image that cannot be read is handed on at once, for callers that stop at it.
    pub stops_at_fault: bool,
}

/// An image with what was found in it, or the reason why nothing could be.
#[derive(Debug)]
pub struct StreamItem<K> {
    /// The caller's name for the image.
    pub key: K,
    /// The image and its detections, best first.
    pub found: Result<(RgbImage, Vec<Detection>), ImageFault>,
}

/// An iterator over the detections in images that another iterator yields. An image that cannot be used
/// does not take its batch down. The iterator ends after the first error of the device.
pub struct DetectionStream<'a, D, I, K>
where
    I: Iterator<Item = (K, Result<RgbImage, ImageFault>)>,
{
    detect: &'a D,
    images: I,
    options: StreamOptions,
    ready: VecDeque<StreamItem<K>>,
    /// The number of images that went through the model, and the time spent.
    images_done: usize,
    times: StageTimes,
    ended: bool,
}

impl<'a, D, I, K> DetectionStream<'a, D, I, K>
where
    D: Detect,
    I: Iterator<Item = (K, Result<RgbImage, ImageFault>)>,
{
    /// Makes a stream; nothing is read before the first item is asked for.
    pub const fn new(detect: &'a D, images: I, options: StreamOptions) -> Self {
        Self {
            detect,
            images,
            options,
            ready: VecDeque::new(),
            images_done: 0,
            times: StageTimes {
                resize: std::time::Duration::ZERO,
                backbone: std::time::Duration::ZERO,
                transformer: std::time::Duration::ZERO,
                postprocess: std::time::Duration::ZERO,
            },
            ended: false,
        }
    }

    /// Returns the number of images that went through the model so far.
    pub const fn images_done(&self) -> usize {
        self.images_done
    }

    /// Returns the time that these images took, stage by stage.
    pub const fn times(&self) -> StageTimes {
        self.times
    }

    /// Takes images until there are enough to look for equal sizes among them.
    fn window(&mut self) -> Vec<(K, Result<RgbImage, ImageFault>)> {
        let StreamOptions { batch_size, stops_at_fault } = self.options;
        let most = if batch_size <= 1 { 1 } else { BATCHES_AT_ONCE * batch_size };
        let mut window = Vec::new();
        let (mut good, mut bytes) = (0, 0);
        for (key, image) in self.images.by_ref() {
            if let Ok(image) = &image {
                good += 1;
                bytes += image.as_raw().len();
            }
            let stop = stops_at_fault && image.is_err();
            window.push((key, image));
            if stop || good == most || (good >= batch_size && bytes >= BYTES_AT_ONCE) {
                break;
            }
        }
        window
    }

    /// Detects in the good images of a window, batch by batch.
    fn fill(&mut self) -> Result<(), PredictError> {
        let window = self.window();
        let images: Vec<&RgbImage> =
            window.iter().filter_map(|(_, image)| image.as_ref().ok()).collect();
        let sizes = images.iter().map(|image| ImageSize::new(image.height(), image.width()));
        let mut found: Vec<_> = images.iter().map(|_| Ok(Vec::new())).collect();
        for group in self.detect.detector().group(sizes, self.options.batch_size.max(1)) {
            let members: Vec<&RgbImage> = group.iter().map(|&index| images[index]).collect();
            let outcomes = self.detect_each(&members)?;
            for (index, outcome) in group.into_iter().zip(outcomes) {
                found[index] = outcome;
            }
        }
        let mut found = found.into_iter();
        for (key, image) in window {
            let found = image.and_then(|image| {
                let detections = found.next().unwrap_or_else(|| Ok(Vec::new()))?;
                Ok((image, detections))
            });
            self.ready.push_back(StreamItem { key, found });
        }
        Ok(())
    }

    /// Detects in the images of one batch; those that cannot be used are left out of it.
    fn detect_each(
        &mut self,
        images: &[&RgbImage],
    ) -> Result<Vec<Result<Vec<Detection>, ImageFault>>, PredictError> {
        let mut outcomes: Vec<_> = images.iter().map(|_| Ok(Vec::new())).collect();
        let mut left: Vec<usize> = (0..images.len()).collect();
        while !left.is_empty() {
            let batch: Vec<&RgbImage> = left.iter().map(|&index| images[index]).collect();
            let mut times = StageTimes::default();
            match self.detect.detect_batch(&batch, &mut times) {
                Ok(detections) => {
                    self.images_done += batch.len();
                    self.times += times;
                    for (index, detections) in left.drain(..).zip(detections) {
                        outcomes[index] = Ok(detections);
                    }
                }
                Err(PredictError::Image { index, fault }) => {
                    outcomes[left.remove(index)] = Err(fault);
                }
                Err(device) => return Err(device),
            }
        }
        Ok(outcomes)
    }
}

impl<D, I, K> Iterator for DetectionStream<'_, D, I, K>
where
    D: Detect,
    I: Iterator<Item = (K, Result<RgbImage, ImageFault>)>,
{
    type Item = Result<StreamItem<K>, PredictError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && !self.ended
            && let Err(error) = self.fill()
        {
            self.ended = true;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}
