//! An engine for tests, which needs no model: it finds one object of a score that is the first sample of a picture.

use std::sync::Arc;
use std::time::{Duration, Instant};

use detr_data::RgbImage;
use detr_detect::{ImageFault, PredictError, StageTimes};
use detr_types::{ClassTable, Detection, ImageSize, Xyxy};
use tokio::sync::oneshot;

use crate::engine::{DetectedPicture, DetectionOptions, Engine, Outcome};
use crate::models::Model;
use crate::queue::{Job, Reply};

/// The engine. A picture whose first sample is 255 makes it panic, and one of 254 cannot be used.
pub(crate) struct FakeEngine {
    classes: ClassTable,
}

pub(crate) fn model() -> Arc<Model> {
    let engine = FakeEngine { classes: ClassTable::numbered(2) };
    let (name, version) = ("fake".to_owned(), "1".to_owned());
    Arc::new(Model { name, version, engine: Box::new(engine) })
}

impl Engine for FakeEngine {
    fn classes(&self) -> &ClassTable {
        &self.classes
    }

    fn has_masks(&self) -> bool {
        true
    }

    fn threshold(&self) -> f32 {
        0.5
    }

    fn max_detections(&self) -> usize {
        100
    }

    fn batch_size_of(&self, size: ImageSize) -> Option<ImageSize> {
        Some(size)
    }

    fn detect(
        &self,
        pictures: Vec<RgbImage>,
        _: DetectionOptions,
    ) -> Result<(Vec<Outcome>, StageTimes), PredictError> {
        let found = pictures.into_iter().map(|picture| match picture.as_raw()[0] {
            255 => panic!("on purpose"),
            254 => Err(ImageFault::NonFinite),
            sample => {
                let score = f32::from(sample) / 256.0;
                let bbox = Xyxy { x1: 0.0, y1: 0.0, x2: 1.0, y2: 1.0 };
                let name = "one".to_owned();
                let detection =
                    Detection { label: 1, category_id: 1, name, score, bbox, mask: None };
                Ok(DetectedPicture { picture, detections: vec![detection], output: None })
            }
        });
        Ok((found.collect(), StageTimes::default()))
    }
}

/// Makes a job of a square picture of one sample, with its receiver.
pub(crate) fn job(model: &Arc<Model>, sample: u8, side: u32) -> (Job, oneshot::Receiver<Reply>) {
    let (reply, receiver) = oneshot::channel();
    let now = Instant::now();
    let job = Job {
        model: Arc::clone(model),
        picture: square(sample, side),
        wanted: DetectionOptions { threshold: 0.5, masks: false, output: false },
        arrived: now,
        deadline: now + Duration::from_mins(1),
        reply,
        memory: None,
    };
    (job, receiver)
}

fn square(sample: u8, side: u32) -> RgbImage {
    let samples = vec![sample; 3 * (side * side) as usize];
    RgbImage::from_raw(side, side, samples).unwrap()
}
