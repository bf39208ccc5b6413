//! Augmentation of an image together with its boxes, areas and masks.
//!
//! Mirrors the reference's `datasets/transforms.py` and `make_coco_transforms` of its
//! `datasets/coco.py`, and adds what later detectors use. A transform is a small struct of numbers;
//! an [`Augmentation`] is a list of them, as it stands in a configuration: one line each, and
//! removing a line removes the transform.
//!
//! Randomness is a parameter: a [`SampleRng`] made from (seed, epoch, sample id). The draws are not those
//! of Python's generator; the distributions are the reference's.

mod color;
mod geometry;
mod resizing;
mod rng;
#[cfg(test)]
mod tests;

use detr_types::range::in_range;
use detr_types::{ImageSize, PreprocessSpec, RangeError, ResizeRule, Xyxy};
use image::RgbImage;
use serde::{Deserialize, Serialize};

pub use color::ColorJitter;
pub use resizing::{
    CenterCrop, FixedPadding, LargeScaleJitter, RandomResize, RandomSizeCrop, Resize,
    TwoBranchResize,
};
pub use rng::{Purpose, SampleRng};

use crate::segmentation::Mask;

/// An image with its objects on the way through the transforms.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Id of the image.
    pub image_id: i64,
    /// Size of the image file.
    pub original_size: ImageSize,
    /// Whether every object has a mask; otherwise none has.
    pub has_masks: bool,
    /// The pixels.
    pub image: RgbImage,
    /// The objects.
    pub objects: Vec<Object>,
}

/// An object on a [`Sample`].
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Corners in pixels of the image as it is now.
    pub bbox: Xyxy,
    /// Label: index into the class table.
    pub label: usize,
    /// Area in pixels.
    pub area: f32,
    /// Whether it is a crowd.
    pub iscrowd: bool,
    /// Pixels inside, as large as the image.
    pub mask: Option<Mask>,
}

/// Turns left and right around with probability `p`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HorizontalFlip {
    /// Probability.
    pub p: f64,
}

impl Default for HorizontalFlip {
    /// Returns the probability of the reference, 0.5.
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

/// One step of an augmentation. In TOML a line such as `{ horizontal_flip = { p = 0.5 } }`; what is
/// not stated has the reference's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Transform {
    /// See [`HorizontalFlip`].
    HorizontalFlip(HorizontalFlip),
    /// See [`Resize`].
    Resize(Resize),
    /// See [`RandomResize`].
    RandomResize(RandomResize),
    /// See [`RandomSizeCrop`].
    RandomSizeCrop(RandomSizeCrop),
    /// See [`TwoBranchResize`].
    TwoBranchResize(TwoBranchResize),
    /// See [`LargeScaleJitter`].
    LargeScaleJitter(LargeScaleJitter),
    /// See [`CenterCrop`].
    CenterCrop(CenterCrop),
    /// See [`FixedPadding`].
    FixedPadding(FixedPadding),
    /// See [`ColorJitter`].
    ColorJitter(ColorJitter),
}

impl Transform {
    /// Applies the transform.
    pub fn apply(&self, sample: &mut Sample, dice: &mut SampleRng) {
        match self {
            Self::HorizontalFlip(flip) => {
                if dice.chance(flip.p) {
                    sample.flip_horizontally();
                }
            }
            Self::Resize(resize) => resize.apply(sample),
            Self::RandomResize(resize) => resize.apply(sample, dice),
            Self::RandomSizeCrop(crop) => crop.apply(sample, dice),
            Self::TwoBranchResize(resize) => resize.apply(sample, dice),
            Self::LargeScaleJitter(jitter) => jitter.apply(sample, dice),
            Self::CenterCrop(crop) => crop.apply(sample),
            Self::FixedPadding(padding) => padding.apply(sample),
            Self::ColorJitter(jitter) => jitter.apply(sample, dice),
        }
    }

    /// Refuses numbers that cannot work.
    ///
    /// # Errors
    /// The first field that is out of range, below the name of the transform in a configuration.
    pub fn validate(&self) -> Result<(), RangeError> {
        let (name, checked) = match self {
            Self::HorizontalFlip(flip) => ("horizontal_flip", in_range("p", flip.p, 0.0..=1.0)),
            Self::Resize(resize) => ("resize", resize.validate()),
            Self::RandomResize(resize) => ("random_resize", resize.validate()),
            Self::RandomSizeCrop(crop) => ("random_size_crop", crop.validate()),
            Self::TwoBranchResize(resize) => ("two_branch_resize", resize.validate()),
            Self::LargeScaleJitter(jitter) => ("large_scale_jitter", jitter.validate()),
            Self::CenterCrop(crop) => ("center_crop", check_size(crop.height, crop.width)),
            Self::FixedPadding(pad) => ("fixed_padding", check_size(pad.height, pad.width)),
            Self::ColorJitter(jitter) => ("color_jitter", jitter.validate()),
        };
        checked.map_err(|error| error.below(name))
    }
}

/// A list of transforms, and the normalisation that follows the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// The transforms, in the order in which they are applied.
    pub transforms: Vec<Transform>,
    /// The mean that is subtracted from each RGB channel after scaling to `[0, 1]`.
    pub mean: [f32; 3],
    /// Divisor per RGB channel.
    pub std: [f32; 3],
}

impl Default for Augmentation {
    /// [`Augmentation::training`].
    fn default() -> Self {
        Self::training()
    }
}

impl Augmentation {
    /// Returns the reference's training augmentation: a flip, and the two branches of resizing.
    #[must_use]
    pub fn training() -> Self {
        let PreprocessSpec { mean, std, .. } = PreprocessSpec::default();
        let transforms = vec![
            Transform::HorizontalFlip(HorizontalFlip::default()),
            Transform::TwoBranchResize(TwoBranchResize::default()),
        ];
        Self { transforms, mean, std }
    }

    /// Returns the reference's validation transform: resized as a model's preprocessing says,
    /// nothing random.
    #[must_use]
    pub fn validation(spec: &PreprocessSpec) -> Self {
        let resize = match spec.resize {
            ResizeRule::ShortestEdge {} => Transform::RandomResize(RandomResize {
                short_sides: vec![spec.shortest_edge],
                max_size: Some(spec.longest_edge),
            }),
            _ => Transform::Resize(Resize::from(spec)),
        };
        Self { transforms: vec![resize], mean: spec.mean, std: spec.std }
    }

    /// Refuses numbers that cannot work.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), RangeError> {
        PreprocessSpec::check_statistics(self.mean, self.std)?;
        self.transforms.iter().try_for_each(Transform::validate)
    }

    /// Applies all transforms.
    pub fn apply(&self, sample: &mut Sample, dice: &mut SampleRng) {
        for transform in &self.transforms {
            transform.apply(sample, dice);
        }
    }

    /// Returns the mean and standard deviation as a specification; its sizes mean nothing.
    #[must_use]
    pub fn normalization(&self) -> PreprocessSpec {
        PreprocessSpec { mean: self.mean, std: self.std, ..PreprocessSpec::default() }
    }
}

/// Refuses a side of an image that is 0 or longer than [`PreprocessSpec::MAX_EDGE`].
fn check_side(field: &str, side: u32) -> Result<(), RangeError> {
    in_range(field, side, 1..=PreprocessSpec::MAX_EDGE)
}

fn check_size(height: u32, width: u32) -> Result<(), RangeError> {
    check_side("height", height)?;
    check_side("width", width)
}
