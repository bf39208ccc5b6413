//! The sizes and the normalisation by which an image becomes model input. The pixels are handled in
//! `detr-data`; this is the part that travels inside a model card.

use serde::{Deserialize, Serialize};

use crate::range::{in_range, require};
use crate::resize::{longest_edge, within};
use crate::{ImageSize, Limits, RangeError, ResizeRule};

/// Resize and normalisation, in the terms of Hugging Face's image processors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreprocessSpec {
    /// The short side after resizing.
    pub shortest_edge: u32,
    /// The long side is at most this; it wins over `shortest_edge`.
    pub longest_edge: u32,
    /// The rule that gives the size from these two, or from a height and width of its own.
    #[serde(skip_serializing_if = "ResizeRule::is_default")]
    pub resize: ResizeRule,
    /// The mean that is subtracted from each RGB channel after scaling to `[0, 1]`.
    pub mean: [f32; 3],
    /// Divisor per RGB channel.
    pub std: [f32; 3],
}

/// A preprocessing that cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PreprocessSpecError {
    /// A side is 0 or too long, a mean or standard deviation is not finite, or a deviation not positive.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The sides allow larger inputs than the program accepts as images.
    #[error("shortest_edge {shortest} times longest_edge {longest} is {} pixels, expected at most {}", u64::from(*.shortest) * u64::from(*.longest), Limits::default().pixels)]
    Area {
        /// `shortest_edge`.
        shortest: u32,
        /// `longest_edge`.
        longest: u32,
    },
}

impl From<PreprocessSpecError> for RangeError {
    /// Makes the error of one field of an error that may be about two.
    fn from(error: PreprocessSpecError) -> Self {
        match error {
            PreprocessSpecError::Range(error) => error,
            PreprocessSpecError::Area { shortest, longest } => {
                let found = format!("{longest} beside shortest_edge {shortest}");
                Self::new("longest_edge", found, "sides that make fewer pixels")
            }
        }
    }
}

impl Default for PreprocessSpec {
    /// Returns the reference's validation transform (`datasets/coco.py`): short side 800, long side
    /// at most 1333, `ImageNet` statistics.
    fn default() -> Self {
        Self {
            shortest_edge: 800,
            longest_edge: 1333,
            resize: ResizeRule::ShortestEdge {},
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

impl PreprocessSpec {
    /// Longest side that can be asked for.
    pub const MAX_EDGE: u32 = 16_384;

    /// Refuses sides and statistics that cannot work.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), PreprocessSpecError> {
        in_range("shortest_edge", self.shortest_edge, 1..=Self::MAX_EDGE)?;
        in_range("longest_edge", self.longest_edge, 1..=Self::MAX_EDGE)?;
        let mut edges = [self.shortest_edge, self.longest_edge];
        if let Some(ImageSize { height, width }) = self.resize.frame() {
            in_range("resize.height", height, 1..=Self::MAX_EDGE)?;
            in_range("resize.width", width, 1..=Self::MAX_EDGE)?;
            edges = [height.min(width), height.max(width)];
        } else if matches!(self.resize, ResizeRule::LongestEdge {}) {
            edges = [self.longest_edge; 2];
        }
        let [shortest, longest] = edges;
        if u64::from(shortest) * u64::from(longest) > Limits::default().pixels {
            return Err(PreprocessSpecError::Area { shortest, longest });
        }
        Ok(Self::check_statistics(self.mean, self.std)?)
    }

    /// Refuses a mean and standard deviation that cannot work.
    ///
    /// # Errors
    /// The first channel that is out of range.
    pub fn check_statistics(mean: [f32; 3], std: [f32; 3]) -> Result<(), RangeError> {
        for (channel, (mean, std)) in mean.into_iter().zip(std).enumerate() {
            require(mean.is_finite(), format!("mean[{channel}]"), mean, "a finite number")?;
            let ok = std.is_finite() && std > 0.0;
            require(ok, format!("std[{channel}]"), std, "a finite, positive number")?;
        }
        Ok(())
    }

    /// Returns the size an image is resized to.
    #[must_use]
    pub fn target_size(&self, image: ImageSize) -> ImageSize {
        match self.resize {
            ResizeRule::ShortestEdge {} => self.shortest_edge_size(image),
            ResizeRule::LongestEdge {} => longest_edge(image, self.longest_edge),
            ResizeRule::Within { height, width } => within(image, ImageSize::new(height, width)),
            ResizeRule::Exact { height, width } => ImageSize::new(height, width),
        }
    }

    /// Returns the size by [`ResizeRule::ShortestEdge`]: `get_size_with_aspect_ratio` of the
    /// reference's `datasets/transforms.py`. The short target is rounded half to even when the long
    /// side is capped, the long side is truncated, and an image whose short side already fits is
    /// kept. A short side that would round to 0 becomes one pixel.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::float_cmp)] // whole numbers
    fn shortest_edge_size(&self, image: ImageSize) -> ImageSize {
        let (short, long) =
            (image.height.min(image.width).max(1), image.height.max(image.width).max(1));
        let ratio = f64::from(long) / f64::from(short);
        let mut size = f64::from(self.shortest_edge);
        if ratio * size > f64::from(self.longest_edge) {
            size = (f64::from(self.longest_edge) * f64::from(short) / f64::from(long))
                .round_ties_even();
        }
        if f64::from(short) == size {
            return image;
        }
        // The reference fails where the short side rounds to nothing; here it keeps one pixel, and
        // the long side its cap.
        let (size, other) = if size < 1.0 {
            (1, self.longest_edge.min(long))
        } else {
            (size as u32, (size * f64::from(long) / f64::from(short)) as u32)
        };
        if image.width < image.height {
            ImageSize::new(other, size)
        } else {
            ImageSize::new(size, other)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sizes() {
        let spec = PreprocessSpec::default();
        for (h, w, th, tw) in [
            (480, 640, 800, 1066),
            (640, 480, 1066, 800),
            (2000, 1000, 1332, 666), // 666.5 rounds to even
            (800, 1000, 800, 1000),
            (10_000, 1, 1333, 1),
            (1, 10_000, 1, 1333),
            (1, 1, 800, 800),
        ] {
            assert_eq!(spec.target_size(ImageSize::new(h, w)), ImageSize::new(th, tw), "{w}x{h}");
        }
    }

    #[test]
    fn impossible_specs_are_refused() {
        let spec = PreprocessSpec { shortest_edge: 0, ..PreprocessSpec::default() };
        assert!(spec.validate().unwrap_err().to_string().contains("shortest_edge is 0"));
        let edges = |shortest_edge, longest_edge| {
            PreprocessSpec { shortest_edge, longest_edge, ..PreprocessSpec::default() }.validate()
        };
        assert!(edges(4000, 6000).is_ok() && edges(16_384, 1333).is_ok());
        let error = edges(16_384, 16_384).unwrap_err().to_string();
        assert!(error.starts_with("shortest_edge 16384 times longest_edge 16384"), "{error}");
        let spec = PreprocessSpec { std: [0.2, 0.0, 0.2], ..PreprocessSpec::default() };
        assert!(spec.validate().unwrap_err().to_string().contains("std[1]"));
        let spec = PreprocessSpec { mean: [f32::NAN, 0.0, 0.0], ..PreprocessSpec::default() };
        assert!(spec.validate().is_err());
    }
}
