//! Counts the properties of a data set that a format cannot hold.

use std::collections::BTreeMap;
use std::fmt;

use detr_types::counted;
use serde::Serialize;

use crate::dataset::{Dataset, Problem};
use crate::formats::Format;

/// A kind of information that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Loss {
    /// Polygons and run-length codes.
    Outlines,
    /// Areas other than the box's.
    Areas,
    /// Crowds that are left out.
    Crowds,
    /// Crowds that stay as regions without a class.
    CrowdClasses,
    /// Ids of images: readers count anew.
    ImageIds,
    /// Ids of objects: readers count anew.
    ObjectIds,
    /// Ids of categories: readers count anew.
    CategoryIds,
    /// Supercategories.
    Supercategories,
    /// Categories without objects.
    UnusedCategories,
    /// Names of classes that had to change.
    ClassNames,
    /// Names of files that had to change.
    FileNames,
    /// Sizes as stated; readers ask the files.
    Sizes,
    /// Boxes that a format cannot state.
    Boxes,
    /// Keypoints of objects.
    Keypoints,
    /// Ids of objects that were texts.
    TextIds,
    /// Fields of COCO's annotations that are not read: licences, addresses, keypoints.
    OtherFields,
}

impl Loss {
    fn title(self) -> &'static str {
        match self {
            Self::Outlines => "outlines left out (only boxes remain)",
            Self::Areas => "areas of objects (the box's is used)",
            Self::Crowds => "crowds left out",
            Self::CrowdClasses => "crowds written as DontCare, without their class",
            Self::ImageIds => "image ids (readers count from 1)",
            Self::ObjectIds => "annotation ids (readers count from 1)",
            Self::CategoryIds => "category ids (readers count from 1)",
            Self::Supercategories => "supercategories",
            Self::UnusedCategories => "categories without objects",
            Self::ClassNames => "class names changed",
            Self::FileNames => "file names changed",
            Self::Sizes => "image sizes (readers ask the files)",
            Self::Boxes => "boxes left out",
            Self::Keypoints => "objects whose keypoints are left out",
            Self::TextIds => "annotation ids that were texts (they are numbers now)",
            Self::OtherFields => "kinds of other fields (info, licences, addresses ...)",
        }
    }
}

/// The files that were written, and the properties that were lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossReport {
    /// The format written.
    pub format: Format,
    /// Images written.
    pub images: usize,
    /// Objects written.
    pub objects: usize,
    /// The number of losses of each kind; kinds without loss are absent.
    pub losses: BTreeMap<Loss, usize>,
    /// Names that had to change, old and new.
    pub renamed: Vec<(String, String)>,
}

impl LossReport {
    pub(super) fn new(format: Format, dataset: &Dataset) -> Self {
        let images = dataset.images.len();
        let losses = BTreeMap::new();
        let mut report = Self { format, images, objects: 0, losses, renamed: Vec::new() };
        report.lose(Loss::OtherFields, dataset.report.count(Problem::OtherField));
        report.lose(Loss::Keypoints, dataset.report.count(Problem::Keypoints));
        report.lose(Loss::TextIds, dataset.report.count(Problem::TextId));
        report
    }

    /// Counts a loss.
    pub(super) fn lose(&mut self, loss: Loss, count: usize) {
        if count > 0 {
            *self.losses.entry(loss).or_default() += count;
        }
    }

    /// Counts ids that a reader would not give again: those of images and objects are 1, 2, ... in
    /// the order of reading.
    pub(super) fn lose_ids(&mut self, dataset: &Dataset) {
        let differ =
            |ids: &mut dyn Iterator<Item = i64>| ids.zip(1..).filter(|(id, n)| id != n).count();
        let images = differ(&mut dataset.images.iter().map(|image| image.id));
        self.lose(Loss::ImageIds, images);
        let objects = dataset.images.iter().flat_map(|image| &image.objects);
        let objects = differ(&mut objects.map(|object| object.id));
        self.lose(Loss::ObjectIds, objects);
        let supercategories = dataset.categories.iter().filter(|c| c.supercategory.is_some());
        self.lose(Loss::Supercategories, supercategories.count());
    }

    /// Returns whether nothing was lost.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        self.losses.is_empty()
    }
}

impl fmt::Display for LossReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} and {} written as {}",
            counted(self.images, "image"),
            counted(self.objects, "object"),
            self.format
        )?;
        if self.is_lossless() {
            return write!(f, "; nothing lost");
        }
        write!(f, "; lost in {}:", self.format)?;
        for (loss, count) in &self.losses {
            write!(f, "\n  {count:>8}  {}", loss.title())?;
        }
        for (old, new) in self.renamed.iter().take(5) {
            write!(f, "\n  {old} -> {new}")?;
        }
        Ok(())
    }
}
