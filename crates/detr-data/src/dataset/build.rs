//! Puts a data set together from records in any order, and counts what is wrong with them. Every
//! reader goes through here, so the rules are the same for all formats.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use detr_types::{ImageSize, Xywh, Xyxy};

use super::{Category, Dataset, ImageRecord, ObjectRecord, Problem, ReadReport};

/// The share of boxes over the border from which the numbers are suspected to be corners.
const SUSPICIOUS: f64 = 0.3;

/// A data set that is being put together.
#[derive(Default)]
pub(crate) struct Builder {
    images: Vec<ImageRecord>,
    by_id: HashMap<i64, usize>,
    categories: BTreeMap<i64, Category>,
    category_names: HashSet<String>,
    object_ids: HashSet<i64>,
    other_fields: BTreeSet<&'static str>,
    /// Counts so far; readers add their own.
    pub(crate) report: ReadReport,
}

impl Builder {
    /// Describes a data set from one source.
    pub(crate) fn new(source: String) -> Self {
        let report = ReadReport { sources: vec![source], ..ReadReport::default() };
        Self { report, ..Self::default() }
    }

    /// Adds a category unless its id is taken.
    pub(crate) fn category(&mut self, category: Category) {
        if !self.category_names.insert(category.name.clone()) {
            self.report.add(Problem::DuplicateCategoryName, &category.name);
        }
        if self.categories.contains_key(&category.id) {
            return self
                .report
                .add(Problem::DuplicateCategoryId, format_args!("category {}", category.id));
        }
        self.categories.insert(category.id, category);
    }

    /// Adds an image unless its id is taken.
    pub(crate) fn image(&mut self, image: ImageRecord) {
        self.check_id(image.id, "image");
        if self.by_id.contains_key(&image.id) {
            return self.report.add(Problem::DuplicateImageId, format_args!("image {}", image.id));
        }
        self.by_id.insert(image.id, self.images.len());
        self.images.push(image);
    }

    /// Returns the size of an image that was added.
    pub(crate) fn size_of(&self, image_id: i64) -> Option<ImageSize> {
        self.by_id.get(&image_id).and_then(|&at| self.images.get(at)?.size)
    }

    /// Notes the fields of a record that are not kept.
    pub(crate) fn other_fields<const N: usize>(&mut self, fields: [(&'static str, bool); N]) {
        self.other_fields.extend(fields.iter().filter(|field| field.1).map(|field| field.0));
    }

    /// Adds an object to its image; one without image or category, or with a box that is not
    /// finite, is left out.
    pub(crate) fn object(&mut self, image_id: i64, object: ObjectRecord) {
        self.check_id(object.id, "annotation");
        if !self.object_ids.insert(object.id) {
            self.report.add(Problem::DuplicateObjectId, format_args!("annotation {}", object.id));
        }
        self.segment(image_id, object);
    }

    /// Adds a segment, whose id is its own only on its image.
    pub(crate) fn segment(&mut self, image_id: i64, mut object: ObjectRecord) {
        // The product of two huge sides may not be finite.
        object.area = if object.area.is_finite() { object.area } else { f64::MAX };
        if !object.bbox.is_finite() {
            return self
                .report
                .add(Problem::NonFiniteBox, format_args!("annotation {}", object.id));
        }
        if !self.categories.contains_key(&object.category_id) {
            return self.report.add(
                Problem::UnknownCategory,
                format_args!("annotation {} has category {}", object.id, object.category_id),
            );
        }
        match self.by_id.get(&image_id).and_then(|&at| self.images.get_mut(at)) {
            Some(image) => image.objects.push(object),
            None => self.report.add(
                Problem::UnknownImage,
                format_args!("annotation {} of image {image_id}", object.id),
            ),
        }
    }

    fn check_id(&mut self, id: i64, what: &str) {
        // The id 0 does no harm in an image.
        if id == 0 && what == "annotation" {
            self.report.add(Problem::ZeroId, format!("{what} {id}"));
        } else if id < 0 {
            self.report.add(Problem::NegativeId, format!("{what} {id}"));
        }
    }

    /// Finishes the data set, after a check of its boxes.
    pub(crate) fn finish(mut self) -> Dataset {
        self.images.sort_by_key(|image| image.id);
        let report = &mut self.report;
        if self.images.is_empty() {
            let source = report.sources.join(", ");
            report.add(Problem::NoImages, source);
        }
        self.other_fields.iter().for_each(|field| report.add(Problem::OtherField, field));
        check_shapes(&self.images, report);
        check_places(self.images.iter().map(|image| (image, image.size)), report);
        let categories = self.categories.into_values().collect();
        Dataset { images: self.images, categories, report: self.report }
    }
}

fn is_box(object: &ObjectRecord) -> bool {
    object.bbox.has_inside()
}

/// Returns whether an outline with this area fits into the box; masks cover pixels that the box
/// cuts.
fn fits(object: &ObjectRecord) -> bool {
    let Xywh { w, h, .. } = object.bbox;
    object.area > 0.0 && object.area <= (w + 2.0) * (h + 2.0)
}

/// Counts boxes that have no inside.
fn check_shapes(images: &[ImageRecord], report: &mut ReadReport) {
    for object in images.iter().flat_map(|image| &image.objects).filter(|object| !is_box(object)) {
        let negative = object.bbox.w < 0.0 || object.bbox.h < 0.0;
        let kind = if negative { Problem::NegativeSizeBox } else { Problem::ZeroSizeBox };
        report.add(kind, format_args!("annotation {}", object.id));
    }
}

/// Counts boxes that are not on their image, of those images whose size is known.
#[allow(clippy::cast_precision_loss)] // a share
pub(crate) fn check_places<'a>(
    images: impl Iterator<Item = (&'a ImageRecord, Option<ImageSize>)>,
    report: &mut ReadReport,
) {
    let (mut boxes, mut corners, mut example) = (0_usize, 0_usize, None);
    for (image, size) in images {
        let Some(size) = size else { continue };
        let (width, height) = (f64::from(size.width), f64::from(size.height));
        for object in image.objects.iter().filter(|object| is_box(object)) {
            let Xywh { x, y, w, h } = object.bbox;
            let Xyxy { x2, y2, .. } = object.bbox.to_xyxy();
            boxes += 1;
            let over = x2 > width + 1.0 || y2 > height + 1.0;
            if x >= width || y >= height || x2 <= 0.0 || y2 <= 0.0 {
                report.add(Problem::BoxOutsideImage, format_args!("annotation {}", object.id));
            } else if over || x < -1.0 || y < -1.0 {
                report.add(Problem::BoxBeyondImage, format_args!("annotation {}", object.id));
            } else if !fits(object) {
                report.add(
                    Problem::AreaDiffers,
                    format_args!(
                        "annotation {} has area {}, its box {}",
                        object.id,
                        object.area,
                        object.bbox.area()
                    ),
                );
            }
            // The box would be inside if the numbers were corners; as left, top, width and height
            // it is not.
            if over && w > x && h > y && w <= width && h <= height {
                corners += 1;
                example = example.or(Some(object.id));
            }
        }
    }
    if corners as f64 > SUSPICIOUS * boxes as f64
        && let Some(id) = example
    {
        report.add(
            Problem::CornersAsSize,
            format!("{corners} of {boxes} boxes, first annotation {id}"),
        );
    }
}
