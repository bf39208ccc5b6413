//! What should have been found, for a whole batch.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// The objects of one image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Label of every object.
    pub labels: Vec<usize>,
    /// Centre and size of every object, relative to the image without padding.
    pub boxes: Vec<[f32; 4]>,
    /// Masks, for models that predict them.
    pub masks: Option<TargetMasks>,
}

/// Masks of the objects of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetMasks {
    /// Height and width of the image, without padding.
    pub size: [usize; 2],
    /// `[n, H, W]`, 0 or 1.
    pub bits: Vec<u8>,
}

/// Targets that contradict themselves or the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// As many labels as boxes are needed.
    #[error("image {image}: {labels} labels for {boxes} boxes")]
    Count {
        /// Position in the batch.
        image: usize,
        /// How many labels.
        labels: usize,
        /// How many boxes.
        boxes: usize,
    },
    /// A label that the head does not have.
    #[error(
        "image {image}, object {object}: label {label}, but the model has {classes} classes\nhint: is the class table the one of this data?"
    )]
    Label {
        /// Position in the batch.
        image: usize,
        /// Position in the image.
        object: usize,
        /// The label.
        label: usize,
        /// How many classes the head has.
        classes: usize,
    },
    /// Mask bits that do not fit their size.
    #[error("image {image}: {bits} mask bits for {objects} objects of {height}x{width}")]
    Masks {
        /// Position in the batch.
        image: usize,
        /// How many bits.
        bits: usize,
        /// How many objects.
        objects: usize,
        /// Height of the image.
        height: usize,
        /// Width of the image.
        width: usize,
    },
}

/// Targets of a batch, on the host and on a device.
#[derive(Clone, Debug)]
pub struct Targets {
    images: Vec<Target>,
    /// Most objects of an image, at least 1.
    pub(crate) most: usize,
    /// `[B, most]`, 0 where an image has fewer objects.
    pub(crate) labels: Tensor<2, Int>,
    /// `[B, most, 4]`, a box in the middle where an image has fewer objects.
    pub(crate) boxes: Tensor<3>,
}

impl Targets {
    /// Checks targets and puts them onto a device.
    ///
    /// # Errors
    /// Labels that the head of `num_classes` classes does not have, or lists of different lengths.
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
                boxes[4 * at..4 * at + 4].copy_from_slice(bbox);
            }
        }
        Ok(Self {
            images,
            most,
            labels: Tensor::from_data(TensorData::new(labels, [b, most]), device),
            boxes: Tensor::from_data(TensorData::new(boxes, [b, most, 4]), (device, DType::F32)),
        })
    }

    /// Targets per image.
    #[must_use]
    pub fn images(&self) -> &[Target] {
        &self.images
    }

    /// How many objects there are. With several ranks, losses are divided by their sum over all of
    /// them, divided by the number of ranks.
    #[must_use]
    pub fn num_boxes(&self) -> usize {
        self.images.iter().map(|target| target.labels.len()).sum()
    }

    /// The same objects, all of the first class: what the encoder's proposals are trained on.
    pub(crate) fn class_agnostic(&self) -> Self {
        let images = self
            .images
            .iter()
            .map(|target| Target { labels: vec![0; target.labels.len()], ..target.clone() })
            .collect();
        Self { images, labels: self.labels.zeros_like(), ..self.clone() }
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
