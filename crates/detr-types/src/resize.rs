//! Rules by which the size of a resized image follows from the image's own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ImageSize, PreprocessSpec};

/// A rule of resizing. Published models have one of these four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ResizeRule {
    /// The short side becomes [`PreprocessSpec::shortest_edge`], or less where the long side would be longer
    /// than [`PreprocessSpec::longest_edge`]: DETR's rule.
    // A variant without braces would skip unknown keys.
    ShortestEdge {},
    /// The long side becomes [`PreprocessSpec::longest_edge`], whether the image is larger or smaller; the short
    /// side is not looked at: the rule of Table Transformer.
    LongestEdge {},
    /// The image becomes as large as fits into this height and width with its aspect ratio.
    Within {
        /// Largest height in pixels.
        height: u32,
        /// Largest width in pixels.
        width: u32,
    },
    /// Every image gets this height and width; its aspect ratio is lost.
    Exact {
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
    },
}

impl Default for ResizeRule {
    fn default() -> Self {
        Self::ShortestEdge {}
    }
}

impl ResizeRule {
    /// Returns whether this is the rule that a model card leaves out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the height and width, if the rule states them itself.
    pub(crate) const fn frame(self) -> Option<ImageSize> {
        match self {
            Self::Within { height, width } | Self::Exact { height, width } => {
                Some(ImageSize::new(height, width))
            }
            Self::ShortestEdge {} | Self::LongestEdge {} => None,
        }
    }
}

impl PreprocessSpec {
    /// Returns the same normalisation after resizing to a long side, up or down.
    #[must_use]
    pub const fn with_longest_edge(mut self, edge: u32) -> Self {
        (self.shortest_edge, self.longest_edge) = (edge, edge);
        self.resize = ResizeRule::LongestEdge {};
        self
    }

    /// Returns the same normalisation after resizing to as much as fits into a size.
    #[must_use]
    pub fn within(self, size: ImageSize) -> Self {
        let ImageSize { height, width } = size;
        Self { resize: ResizeRule::Within { height, width }, ..self.with_edges_of(size) }
    }

    /// Returns the same normalisation after resizing to exactly a size.
    #[must_use]
    pub fn exactly(self, size: ImageSize) -> Self {
        let ImageSize { height, width } = size;
        Self { resize: ResizeRule::Exact { height, width }, ..self.with_edges_of(size) }
    }

    fn with_edges_of(self, ImageSize { height, width }: ImageSize) -> Self {
        Self { shortest_edge: height.min(width), longest_edge: height.max(width), ..self }
    }
}

/// Returns the size with this long side: `MaxResize` of Table Transformer's `src/inference.py`, which rounds
/// half to even. A side that would round to 0 becomes one pixel.
pub(crate) fn longest_edge(image: ImageSize, edge: u32) -> ImageSize {
    let scale = f64::from(edge) / f64::from(image.height.max(image.width).max(1));
    let side = |side: u32| whole((f64::from(side) * scale).round_ties_even());
    ImageSize::new(side(image.height), side(image.width))
}

/// Returns the largest size within a frame: `get_image_size_for_max_height_width` of transformers, which
/// truncates. A side that would become 0 becomes one pixel.
pub(crate) fn within(image: ImageSize, frame: ImageSize) -> ImageSize {
    let scale = (f64::from(frame.height) / f64::from(image.height.max(1)))
        .min(f64::from(frame.width) / f64::from(image.width.max(1)));
    let side = |side: u32| whole(f64::from(side) * scale);
    ImageSize::new(side(image.height), side(image.width))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // truncated as in the references
fn whole(side: f64) -> u32 {
    (side as u32).max(1)
}

impl fmt::Display for PreprocessSpec {
    /// Describes the sizes in a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shortest, longest) = (self.shortest_edge, self.longest_edge);
        match (self.resize, self.resize.frame()) {
            (ResizeRule::Within { .. }, Some(size)) => write!(f, "as large as fits into {size}"),
            (_, Some(size)) => write!(f, "exactly {size}"),
            (ResizeRule::LongestEdge {}, None) => write!(f, "long side {longest}"),
            (_, None) => write!(f, "short side {shortest}, long side at most {longest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_side_is_reached_from_above_and_below() {
        let spec = PreprocessSpec::default().with_longest_edge(800);
        for (h, w, th, tw) in [
            (1000, 500, 800, 400),
            (100, 300, 267, 800),
            (800, 800, 800, 800),
            (1, 10_000, 1, 800),
            (1600, 1001, 800, 500), // 500.5 rounds to even
            (1, 1, 800, 800),
        ] {
            assert_eq!(spec.target_size(ImageSize::new(h, w)), ImageSize::new(th, tw), "{w}x{h}");
        }
        assert_eq!(spec.to_string(), "long side 800");
    }

    #[test]
    fn a_frame_is_filled_without_a_change_of_the_aspect_ratio() {
        let spec = PreprocessSpec::default().within(ImageSize::new(480, 640));
        for (h, w, th, tw) in [
            (100, 200, 320, 640),
            (200, 100, 480, 240),
            (1000, 1000, 480, 480),
            (480, 640, 480, 640),
            (10_000, 1, 480, 1),
        ] {
            assert_eq!(spec.target_size(ImageSize::new(h, w)), ImageSize::new(th, tw), "{w}x{h}");
        }
        assert_eq!((spec.shortest_edge, spec.longest_edge), (480, 640));
        assert_eq!(spec.to_string(), "as large as fits into 640x480");
    }

    #[test]
    fn an_exact_size_is_taken_as_it_is() {
        let spec = PreprocessSpec::default().exactly(ImageSize::new(480, 640));
        for image in [ImageSize::new(1, 9), ImageSize::new(2000, 1000)] {
            assert_eq!(spec.target_size(image), ImageSize::new(480, 640));
        }
    }

    #[test]
    fn impossible_rules_are_refused() {
        let spec = PreprocessSpec::default();
        for (spec, message) in [
            (spec.exactly(ImageSize::new(0, 640)), "shortest_edge is 0"),
            (spec.within(ImageSize::new(480, 20_000)), "longest_edge is 20000"),
            (spec.with_longest_edge(0), "shortest_edge is 0"),
            (spec.with_longest_edge(16_384), "16384 times longest_edge 16384"),
            (
                PreprocessSpec { resize: ResizeRule::Exact { height: 0, width: 9 }, ..spec },
                "resize.height is 0",
            ),
            (
                PreprocessSpec { resize: ResizeRule::Within { height: 9, width: 99_999 }, ..spec },
                "resize.width is 99999",
            ),
            (
                PreprocessSpec {
                    resize: ResizeRule::Exact { height: 16_384, width: 16_384 },
                    ..spec
                },
                "16384 times longest_edge 16384",
            ),
        ] {
            let error = spec.validate().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
