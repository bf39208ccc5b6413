//! Sizes as flags state them.

use std::str::FromStr;

use detr_types::{ImageSize, PreprocessSpec};

/// Height and width as `800x1066`.
#[derive(Clone, Copy)]
pub struct Size(
    /// The size in pixels.
    pub ImageSize,
);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let edge = |text: &str| {
            text.parse().ok().filter(|edge| (1..=PreprocessSpec::MAX_EDGE).contains(edge))
        };
        let sides = text.split_once('x').and_then(|(h, w)| Some((edge(h)?, edge(w)?)));
        let (height, width) = sides.ok_or_else(|| {
            format!("expected HEIGHTxWIDTH of 1 to {} pixels", PreprocessSpec::MAX_EDGE)
        })?;
        Ok(Self(ImageSize::new(height, width)))
    }
}
