//! Transforms that change the size: resizing, cropping, padding, and the two augmentations that are
//! made of them.
//!
//! A resize that a crop follows computes only the region that stays, with the same pixels.

use detr_types::range::{in_range, require};
use detr_types::{ImageSize, PreprocessSpec, RangeError, ResizeRule};
use serde::{Deserialize, Serialize};

use super::{Sample, SampleRng, check_side, check_size};
use crate::resize::Region;

/// Short sides of the reference's training, 480 to 800 in steps of 32.
const SHORT_SIDES: [u32; 11] = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800];
/// Longest side of the reference's training and validation.
const MAX_SIZE: u32 = 1333;

/// Resizes as a model does before it detects; nothing is random. The fields are those of [`PreprocessSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resize {
    /// The short side.
    pub shortest_edge: u32,
    /// The long side is at most this.
    pub longest_edge: u32,
    /// The rule that gives the size from these two, or from a height and width of its own.
    pub resize: ResizeRule,
}

impl Default for Resize {
    fn default() -> Self {
        Self::from(&PreprocessSpec::default())
    }
}

impl From<&PreprocessSpec> for Resize {
    fn from(spec: &PreprocessSpec) -> Self {
        let &PreprocessSpec { shortest_edge, longest_edge, resize, .. } = spec;
        Self { shortest_edge, longest_edge, resize }
    }
}

impl Resize {
    fn spec(self) -> PreprocessSpec {
        let Self { shortest_edge, longest_edge, resize } = self;
        PreprocessSpec { shortest_edge, longest_edge, resize, ..PreprocessSpec::default() }
    }

    pub(super) fn apply(self, sample: &mut Sample) {
        sample.resize(self.spec().target_size(sample.size()));
    }

    pub(super) fn validate(self) -> Result<(), RangeError> {
        Ok(self.spec().validate()?)
    }
}

/// Resizes the short side to one of a list, each equally likely; the aspect ratio is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResize {
    /// The short sides in pixels.
    pub short_sides: Vec<u32>,
    /// The long side is at most this; it wins over the short side. `None` stands for
    /// [`PreprocessSpec::MAX_EDGE`], so that a very long image cannot take all memory.
    pub max_size: Option<u32>,
}

impl Default for RandomResize {
    fn default() -> Self {
        Self { short_sides: SHORT_SIDES.to_vec(), max_size: Some(MAX_SIZE) }
    }
}

impl RandomResize {
    pub(super) fn apply(&self, sample: &mut Sample, dice: &mut SampleRng) {
        let most = Some(self.max_size.unwrap_or(PreprocessSpec::MAX_EDGE));
        if let Some(size) = draw_size(sample.size(), &self.short_sides, most, dice) {
            sample.resize(size);
        }
    }

    pub(super) fn validate(&self) -> Result<(), RangeError> {
        check_short_sides("short_sides", &self.short_sides)?;
        check_side("max_size", self.max_size.unwrap_or(1))
    }
}

/// Crops to a random size at a random place: width, then height, each uniform from `min_size` to
/// the smaller of `max_size` and the image's side. An image that is smaller than `min_size` keeps
/// that side (the reference fails there).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomSizeCrop {
    /// Shortest side of the crop.
    pub min_size: u32,
    /// Longest side of the crop.
    pub max_size: u32,
}

impl Default for RandomSizeCrop {
    fn default() -> Self {
        Self { min_size: 384, max_size: 600 }
    }
}

impl RandomSizeCrop {
    pub(super) fn apply(self, sample: &mut Sample, dice: &mut SampleRng) {
        sample.crop(self.draw(sample.size(), dice));
    }

    pub(super) fn draw(self, image: ImageSize, dice: &mut SampleRng) -> Region {
        let mut side = |of: u32| dice.between(self.min_size.min(of), self.max_size.min(of));
        let width = side(image.width);
        let height = side(image.height);
        draw_place(image, ImageSize::new(height, width), dice)
    }

    pub(super) fn validate(self) -> Result<(), RangeError> {
        self.validate_as("min_size", "max_size")
    }

    fn validate_as(self, least: &str, most: &str) -> Result<(), RangeError> {
        check_side(least, self.min_size)?;
        check_side(most, self.max_size)?;
        let ok = self.min_size <= self.max_size;
        require(ok, most, self.max_size, "at least the smallest crop")
    }
}

/// The size augmentation that DETR was trained with: with probability `p` a [`RandomResize`];
/// otherwise the short side is resized to one of `crop_short_sides` without a longest side, cropped
/// ([`RandomSizeCrop`]), and resized by the first list after all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TwoBranchResize {
    /// Probability of the plain branch.
    pub p: f64,
    /// The short sides at the end of both branches.
    pub short_sides: Vec<u32>,
    /// Longest side at the end of both branches.
    pub max_size: u32,
    /// The short sides before the crop.
    pub crop_short_sides: Vec<u32>,
    /// Shortest side of the crop.
    pub crop_min: u32,
    /// Longest side of the crop.
    pub crop_max: u32,
}

impl Default for TwoBranchResize {
    /// `make_coco_transforms` of the reference's `datasets/coco.py`.
    fn default() -> Self {
        let RandomSizeCrop { min_size, max_size } = RandomSizeCrop::default();
        Self {
            p: 0.5,
            short_sides: SHORT_SIDES.to_vec(),
            max_size: MAX_SIZE,
            crop_short_sides: vec![400, 500, 600],
            crop_min: min_size,
            crop_max: max_size,
        }
    }
}

impl TwoBranchResize {
    pub(super) fn apply(&self, sample: &mut Sample, dice: &mut SampleRng) {
        if !dice.chance(self.p)
            && let Some(size) = draw_size(sample.size(), &self.crop_short_sides, None, dice)
        {
            let region = self.crop().draw(size, dice);
            sample.resize_and_crop(size, Some(region));
        }
        let last = draw_size(sample.size(), &self.short_sides, Some(self.max_size), dice);
        if let Some(size) = last {
            sample.resize(size);
        }
    }

    fn crop(&self) -> RandomSizeCrop {
        RandomSizeCrop { min_size: self.crop_min, max_size: self.crop_max }
    }

    pub(super) fn validate(&self) -> Result<(), RangeError> {
        in_range("p", self.p, 0.0..=1.0)?;
        check_short_sides("short_sides", &self.short_sides)?;
        check_short_sides("crop_short_sides", &self.crop_short_sides)?;
        check_side("max_size", self.max_size)?;
        self.crop().validate_as("crop_min", "crop_max")
    }
}

/// Scales an image between a tenth and twice the size that fits into `height` times `width`, and
/// crops what is larger at a random place (Ghiasi et al. 2021, "Simple Copy-Paste", large scale
/// jittering). What is smaller stays so; [`FixedPadding`] after it makes all images equal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LargeScaleJitter {
    /// Largest height of the result.
    pub height: u32,
    /// Largest width of the result.
    pub width: u32,
    /// Smallest scale; 1 fits exactly.
    pub min_scale: f64,
    /// Largest scale.
    pub max_scale: f64,
}

impl Default for LargeScaleJitter {
    fn default() -> Self {
        Self { height: 1024, width: 1024, min_scale: 0.1, max_scale: 2.0 }
    }
}

impl LargeScaleJitter {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sides, bounded by validate
    pub(super) fn apply(self, sample: &mut Sample, dice: &mut SampleRng) {
        let image = sample.size();
        let scale = dice.uniform(self.min_scale, self.max_scale);
        let fit = (f64::from(self.height) / f64::from(image.height))
            .min(f64::from(self.width) / f64::from(image.width));
        let side = |side: u32| (f64::from(side) * fit * scale).round().max(1.0) as u32;
        let size = ImageSize::new(side(image.height), side(image.width));
        let kept = ImageSize::new(size.height.min(self.height), size.width.min(self.width));
        let region = (kept != size).then(|| draw_place(size, kept, dice));
        sample.resize_and_crop(size, region);
    }

    pub(super) fn validate(self) -> Result<(), RangeError> {
        check_size(self.height, self.width)?;
        in_range("min_scale", self.min_scale, 0.01..=10.0)?;
        let ok = (self.min_scale..=10.0).contains(&self.max_scale);
        require(ok, "max_scale", self.max_scale, "min_scale to 10")
    }
}

/// Crops the middle; sides that are shorter stay. Rounds as the reference does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Height of the crop.
    pub height: u32,
    /// Width of the crop.
    pub width: u32,
}

impl CenterCrop {
    pub(super) fn apply(self, sample: &mut Sample) {
        let image = sample.size();
        let size = ImageSize::new(self.height.min(image.height), self.width.min(image.width));
        // Half to even, as Python's `round`.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // half a side
        let half = |rest: u32| (f64::from(rest) / 2.0).round_ties_even() as u32;
        let (top, left) = (half(image.height - size.height), half(image.width - size.width));
        sample.crop(Region { top, left, size });
    }
}

/// Adds black at the right and the bottom up to a size; sides that are longer stay. Boxes are then
/// relative to the padded image, as in the reference's `pad`, and the model sees the black as part
/// of the image. (Padding that the model's mask hides is the loader's, per batch.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedPadding {
    /// Least height.
    pub height: u32,
    /// Least width.
    pub width: u32,
}

impl FixedPadding {
    pub(super) fn apply(self, sample: &mut Sample) {
        let size = sample.size();
        sample.pad(self.width.saturating_sub(size.width), self.height.saturating_sub(size.height));
    }
}

/// Draws the short side from a list and returns the size of the image; `None` for an empty list.
pub(super) fn draw_size(
    image: ImageSize,
    short_sides: &[u32],
    max_size: Option<u32>,
    dice: &mut SampleRng,
) -> Option<ImageSize> {
    let shortest_edge = dice.choose(short_sides)?;
    let longest_edge = max_size.unwrap_or(u32::MAX);
    let spec = PreprocessSpec { shortest_edge, longest_edge, ..PreprocessSpec::default() };
    Some(spec.target_size(image))
}

/// Draws a region of that size, every place equally likely. `size` fits into the image.
fn draw_place(image: ImageSize, size: ImageSize, dice: &mut SampleRng) -> Region {
    let top = dice.between(0, image.height.saturating_sub(size.height));
    let left = dice.between(0, image.width.saturating_sub(size.width));
    Region { top, left, size }
}

fn check_short_sides(field: &str, sides: &[u32]) -> Result<(), RangeError> {
    require(!sides.is_empty(), field, "empty", "at least one side")?;
    sides.iter().try_for_each(|&side| check_side(field, side))
}
