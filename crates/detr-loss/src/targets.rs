//! The targets of a batch: the objects that should be found in its images.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use detr_types::Cxcywh;

/// The objects of one image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// The label of every object.
    pub labels: Vec<usize>,
    /// The box of every object, relative to the image without padding.
    pub boxes: Vec<Cxcywh>,
    /// The masks of all objects, for models that predict masks.
    pub masks: Option<TargetMasks>,
}

/// The masks of the objects of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetMasks {
    /// The height and width of the image in pixels, without padding.
    pub size: [usize; 2],
    /// `[n, H, W]`: 1 where the object is, 0 elsewhere.
    pub bits: Vec<u8>,
}

/// An error of targets that contradict themselves or the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The numbers of labels and boxes differ.
    #[error("image {image}: {labels} labels for {boxes} boxes")]
    Count {
        /// The position of the image in the batch.
        image: usize,
        /// The number of labels.
        labels: usize,
        /// The number of boxes.
        boxes: usize,
    },
    /// The head has no such label.
    #[error(
        "image {image}, object {object}: label {label}, but the model has {classes} classes\nhint: is the class table the one of this data?"
    )]
    Label {
        /// The position of the image in the batch.
        image: usize,
        /// The position of the object in the image.
        object: usize,
        /// The label.
        label: usize,
        /// The number of classes of the head.
        classes: usize,
    },
    /// The number of mask bits is not that of all pixels of all objects.
    #[error("image {image}: {bits} mask bits for {objects} objects of {height}x{width}")]
    Masks {
        /// The position of the image in the batch.
        image: usize,
        /// The number of bits.
        bits: usize,
        /// The number of objects.
        objects: usize,
        /// The height of the image.
        height: usize,
        /// The width of the image.
        width: usize,
    },
}

/// The targets of a batch, on the host and on a device.
#[derive(Clone, Debug)]
pub struct Targets {
    images: Vec<Target>,
    /// The largest number of objects of an image, at least 1.
    pub(crate) most: usize,
    /// `[B, most]`: labels, padded with 0.
    pub(crate) labels: Tensor<2, Int>,
    /// `[B, most, 4]`: boxes, padded with one in the middle of the image.
    pub(crate) boxes: Tensor<3>,
}

/// The numbers that losses are divided by. They belong to a whole batch, so that the losses of its parts sum up
/// to its own.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeBatch {
    /// The number of objects of the batch; with several ranks, of all their batches over the number of ranks.
    pub num_boxes: f64,
    /// The number of objects of every image.
    pub objects: Vec<usize>,
}

impl Targets {
    /// Checks the targets of every image and copies them to a device.
    ///
    /// # Errors
    /// A label is not below `num_classes`, or the lengths of labels, boxes and masks differ.
    pub fn new(
        images: Vec<Target>,
        num_classes: usize,
        device: &Device,
    ) -> Result<Self, TargetError> {
        for (image, target) in images.iter().enumerate() {
            target.validate(image, num_classes)?;
        }
        let most = images.iter().map(|target| target.labels.len()).max().unwrap_or(0).max(1);
        let b = images.len();
        let mut labels = vec![0i32; b * most];
        let mut boxes = vec![0.5f32; b * most * 4];
        for (image, target) in images.iter().enumerate() {
            for (object, (&label, bbox)) in target.labels.iter().zip(&target.boxes).enumerate() {
                let at = image * most + object;
                labels[at] = i32::try_from(label).unwrap_or(i32::MAX);
                boxes[4 * at..4 * at + 4].copy_from_slice(&bbox.to_array());
            }
        }
        Ok(Self {
            images,
            most,
            labels: Tensor::from_data(TensorData::new(labels, [b, most]), device),
            boxes: Tensor::from_data(TensorData::new(boxes, [b, most, 4]), (device, DType::F32)),
        })
    }

    /// Returns the targets of every image.
    #[must_use]
    pub fn images(&self) -> &[Target] {
        &self.images
    }

    /// Returns the number of objects of all images.
    #[must_use]
    pub fn num_boxes(&self) -> usize {
        self.images.iter().map(|target| target.labels.len()).sum()
    }

    /// Returns the same objects with the first class for all of them. The encoder's proposals are trained on
    /// these.
    pub(crate) fn class_agnostic(&self) -> Self {
        let images = self
            .images
            .iter()
            .map(|target| Target { labels: vec![0; target.labels.len()], ..target.clone() })
            .collect();
        Self { images, labels: self.labels.zeros_like(), ..self.clone() }
    }
}

impl WholeBatch {
    /// Counts the objects of a batch in parts, on one rank.
    #[must_use]
    pub fn new<'a>(parts: impl IntoIterator<Item = &'a Targets>) -> Self {
        let parts = parts.into_iter().flat_map(Targets::images);
        let objects: Vec<usize> = parts.map(|target| target.labels.len()).collect();
        #[allow(clippy::cast_precision_loss)] // objects of a batch
        let num_boxes = objects.iter().sum::<usize>() as f64;
        Self { num_boxes, objects }
    }
}

impl Target {
    fn validate(&self, image: usize, classes: usize) -> Result<(), TargetError> {
        let (labels, boxes) = (self.labels.len(), self.boxes.len());
        if labels != boxes {
            return Err(TargetError::Count { image, labels, boxes });
        }
        if let Some(object) = self.labels.iter().position(|&label| label >= classes) {
            let label = self.labels[object];
            return Err(TargetError::Label { image, object, label, classes });
        }
        if let Some(TargetMasks { size: [height, width], bits }) = &self.masks
            && bits.len() != labels * height * width
        {
            let (bits, objects, height, width) = (bits.len(), labels, *height, *width);
            return Err(TargetError::Masks { image, bits, objects, height, width });
        }
        Ok(())
    }
}
