//! Masks as COCO writes them.

use detr_types::ImageSize;

use crate::engine::runs;
use crate::error::MaskError;

/// The pixels of an object. Run lengths go down the columns, background first.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// Outlines, `x, y, x, y, ...` in pixels; drawn as pycocotools draws them.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths.
    Runs {
        /// Size of the image.
        size: ImageSize,
        /// Lengths of background, object, background, ...
        counts: Vec<u32>,
    },
    /// Run lengths in COCO's own text form.
    Text {
        /// Size of the image.
        size: ImageSize,
        /// The text.
        counts: String,
    },
}

impl Mask {
    /// Refuses what would silently count as an empty mask.
    pub(crate) fn check(&self, image: Option<ImageSize>) -> Result<(), MaskError> {
        match self {
            Self::Polygons(polygons) => {
                if polygons.is_empty() {
                    return Err(MaskError::NoPolygon);
                }
                for (index, polygon) in polygons.iter().enumerate() {
                    let count = polygon.len();
                    if count < 6 || count % 2 == 1 {
                        return Err(MaskError::Polygon { index, count });
                    }
                    if polygon.iter().any(|value| !value.is_finite()) {
                        return Err(MaskError::NotFinite { index });
                    }
                }
                image.filter(|size| size.pixels() > 0).map(drop).ok_or(MaskError::NoSize)
            }
            Self::Runs { size, counts } => {
                check_size(*size, image).and_then(|()| runs::check(counts, *size))
            }
            Self::Text { size, counts } => {
                check_size(*size, image).and_then(|()| runs::check_text(counts, *size))
            }
        }
    }
}

fn check_size(mask: ImageSize, image: Option<ImageSize>) -> Result<(), MaskError> {
    match image {
        Some(image) if image != mask => Err(MaskError::Size { mask, image }),
        _ => Ok(()),
    }
}
