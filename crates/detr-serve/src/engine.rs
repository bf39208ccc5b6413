//! The part of a model that a server needs.

use detr_data::RgbImage;
use detr_detect::{ImageFault, PredictError, StageTimes, StreamOptions};
use detr_infer::{PredictOptions, Predictor};
use detr_model::postprocess::HostOutput;
use detr_types::{ClassTable, Detection, ImageSize};

/// The detections that a request wants of its pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DetectionOptions {
    /// The least score, 0 to 1.
    pub(crate) threshold: f32,
    /// Whether objects get masks.
    pub(crate) masks: bool,
    /// Whether the predictions of the model's last layer are wanted, too.
    pub(crate) output: bool,
}

/// The answer of a model for a picture.
pub(crate) struct DetectedPicture {
    pub(crate) picture: RgbImage,
    /// The detections, best first.
    pub(crate) detections: Vec<Detection>,
    /// The predictions of the last layer, where they are wanted.
    pub(crate) output: Option<HostOutput>,
}

/// The answer of a model for a picture, or the fault of the picture.
pub(crate) type Outcome = Result<DetectedPicture, ImageFault>;

/// Something that detects in batches. A server calls it from one thread at a time.
pub(crate) trait Engine: Send + Sync {
    /// Returns the classes of the model.
    fn classes(&self) -> &ClassTable;

    /// Returns whether objects can get masks.
    fn has_masks(&self) -> bool;

    /// Returns the threshold of requests that name none.
    fn threshold(&self) -> f32;

    /// Returns the most detections of a picture.
    fn max_detections(&self) -> usize;

    /// Returns the size that a picture is resized to where only pictures of one such size share a batch.
    fn batch_size_of(&self, size: ImageSize) -> Option<ImageSize>;

    /// Detects in pictures that fit into one batch. A picture that cannot be used does not take the others down.
    ///
    /// # Errors
    /// A device that fails.
    fn detect(
        &self,
        pictures: Vec<RgbImage>,
        wanted: DetectionOptions,
    ) -> Result<(Vec<Outcome>, StageTimes), PredictError>;
}

/// A predictor behind a server.
pub(crate) struct PredictorEngine {
    /// Without masks and at threshold 0: whatever threshold a request has is then applied to its answer, so requests
    /// of different thresholds share a batch.
    boxes: Predictor,
    options: PredictOptions,
}

impl PredictorEngine {
    /// Takes a predictor with the options that it was made with.
    pub(crate) fn new(predictor: Predictor, options: PredictOptions) -> Result<Self, String> {
        let bare = PredictOptions { threshold: 0.0, masks: false, ..options.clone() };
        let boxes = predictor.with_options(bare).map_err(|error| error.to_string())?;
        Ok(Self { boxes, options })
    }
}

impl Engine for PredictorEngine {
    fn classes(&self) -> &ClassTable {
        self.boxes.classes()
    }

    fn has_masks(&self) -> bool {
        self.boxes.config().has_masks()
    }

    fn threshold(&self) -> f32 {
        self.options.threshold
    }

    fn max_detections(&self) -> usize {
        self.options.max_detections
    }

    fn batch_size_of(&self, size: ImageSize) -> Option<ImageSize> {
        (!self.boxes.mixes_sizes()).then(|| self.boxes.preprocess().target_size(size))
    }

    fn detect(
        &self,
        pictures: Vec<RgbImage>,
        wanted: DetectionOptions,
    ) -> Result<(Vec<Outcome>, StageTimes), PredictError> {
        let with_masks;
        let predictor = if wanted.masks {
            // A mask costs time, so none is made below the threshold.
            let DetectionOptions { threshold, masks, .. } = wanted;
            let options = PredictOptions { threshold, masks, ..self.options.clone() };
            // The threshold was checked at the door, the classes when the server started.
            match self.boxes.clone().with_options(options) {
                Ok(predictor) => with_masks = predictor,
                Err(_) => with_masks = self.boxes.clone(),
            }
            &with_masks
        } else {
            &self.boxes
        };
        if wanted.output {
            return detect_with_output(predictor, pictures);
        }
        // A CPU, where sizes are not mixed, gains nothing by a batch. Alone, a picture's result has the same last bit
        // whoever came with it.
        let batch_size = if predictor.mixes_sizes() { pictures.len().max(1) } else { 1 };
        let options = StreamOptions { batch_size, stops_at_fault: false };
        let mut stream = predictor.stream((0..).zip(pictures.into_iter().map(Ok)), options);
        let found: Result<Vec<Outcome>, PredictError> = stream
            .by_ref()
            .map(|item| {
                let found = item?.found;
                let detected =
                    |(picture, detections)| DetectedPicture { picture, detections, output: None };
                Ok(found.map(detected))
            })
            .collect();
        let found = found?;
        Ok((found, stream.times()))
    }
}

/// Detects in one picture after the other, and keeps what the model's last layer says.
fn detect_with_output(
    predictor: &Predictor,
    pictures: Vec<RgbImage>,
) -> Result<(Vec<Outcome>, StageTimes), PredictError> {
    let mut times = StageTimes::default();
    let mut outcomes = Vec::with_capacity(pictures.len());
    for picture in pictures {
        outcomes.push(match predictor.predict_with_output(&picture) {
            Ok((detections, output, of_picture)) => {
                times += of_picture;
                Ok(DetectedPicture { picture, detections, output: Some(output) })
            }
            Err(PredictError::Image { fault, .. }) => Err(fault),
            Err(error) => return Err(error),
        });
    }
    Ok((outcomes, times))
}
