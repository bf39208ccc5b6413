//! The formats of annotations by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A format of annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// COCO detection: one JSON file for all images.
    Coco,
    /// COCO panoptic: one JSON file, and a PNG of segment ids for each image.
    CocoPanoptic,
    /// KITTI: a text file for each image, corners in pixels.
    Kitti,
    /// YOLO: `data.yaml`, and a text file for each image with relative boxes.
    Yolo,
    /// Pascal VOC: an XML file for each image.
    Voc,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::Coco, Self::CocoPanoptic, Self::Kitti, Self::Yolo, Self::Voc];

    /// Returns the name, as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Coco => "coco",
            Self::CocoPanoptic => "coco-panoptic",
            Self::Kitti => "kitti",
            Self::Yolo => "yolo",
            Self::Voc => "voc",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown format {name:?}, expected one of {names}")
        })
    }
}
