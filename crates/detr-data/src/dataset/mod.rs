//! A detection data set in memory: images, their objects, the categories, and what was found wrong
//! while reading. All formats are read into this one form and written from it.
//!
//! Boxes are kept as the files state them, in `f64` and never clamped: evaluation and conversion
//! need the original numbers. What training leaves out (crowds, boxes without area) is decided
//! where targets are made.

mod build;
mod classes;
mod report;
mod source;

use std::path::PathBuf;

use detr_types::{ImageSize, Xywh};
use serde::{Deserialize, Serialize};

pub(crate) use build::{Builder, check_places};
pub use classes::{ClassMap, Labels};
pub use report::{Occurrences, Problem, ReadReport, Severity};
pub use source::{DatasetSpec, SourceSpec, concatenate};

use crate::segmentation::Segmentation;

/// Images with their objects, sorted by image id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// Every image, also those without objects, by ascending id.
    pub images: Vec<ImageRecord>,
    /// Every category, also those without objects, by ascending id.
    pub categories: Vec<Category>,
    /// The findings of the reader.
    pub report: ReadReport,
}

/// A category of the annotations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Id in the annotations; COCO's has holes.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// A wider category that it belongs to, where the format has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supercategory: Option<String>,
    /// Whether it is countable; only panoptic data has others ("stuff").
    pub is_thing: bool,
}

/// An image and what is on it.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRecord {
    /// Id, unique in the data set.
    pub id: i64,
    /// The file, below the root of its source.
    pub path: PathBuf,
    /// The file as the annotations name it, with `/`, relative to the root of its source.
    pub file_name: String,
    /// Size that the annotations state, or that the file's header stated when it had to be asked.
    pub size: Option<ImageSize>,
    /// The objects in the order of the annotations.
    pub objects: Vec<ObjectRecord>,
}

/// One annotated object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectRecord {
    /// Id of the annotation.
    pub id: i64,
    /// Id of its category, one of [`Dataset::categories`].
    pub category_id: i64,
    /// The box in pixels, as in the file; finite, but perhaps empty, negative or outside of the image.
    pub bbox: Xywh<f64>,
    /// Area in pixels as stated: that of the segmentation in COCO, else that of the box.
    pub area: f64,
    /// Whether it stands for a group that was not taken apart; evaluation ignores what lies there.
    pub iscrowd: bool,
    /// Its outline, where there is one.
    pub segmentation: Option<Segmentation>,
}

impl Dataset {
    /// Returns the number of objects in all images.
    #[must_use]
    pub fn object_count(&self) -> usize {
        self.images.iter().map(|image| image.objects.len()).sum()
    }

    /// Returns the image with that id.
    #[must_use]
    pub fn image(&self, id: i64) -> Option<&ImageRecord> {
        self.images.binary_search_by_key(&id, |image| image.id).ok().map(|at| &self.images[at])
    }

    /// Returns the category with that id.
    #[must_use]
    pub fn category(&self, id: i64) -> Option<&Category> {
        self.categories.iter().find(|category| category.id == id)
    }
}
