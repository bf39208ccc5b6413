//! Ground truth: what is really in the images.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use detr_types::{ImageSize, Xywh};

use crate::{EvalError, Mask};

/// A class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Category {
    /// Id in the data set; need not be contiguous.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// An image and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTruth {
    /// Id in the data set.
    pub id: i64,
    /// Size in pixels; needed for masks only.
    pub size: Option<ImageSize>,
    /// The objects, in the order of the file: it decides between equal overlaps.
    pub objects: Vec<TruthObject>,
}

/// An annotated object.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthObject {
    /// Id of the annotation, for messages.
    pub id: i64,
    /// Class, by its id.
    pub category_id: i64,
    /// The box in pixels.
    pub bbox: Xywh<f64>,
    /// Area in square pixels, which decides between small, medium and large; if not set that of
    /// the mask, or else of the box.
    pub area: Option<f64>,
    /// Whether it stands for a crowd: detections inside one are neither right nor wrong.
    pub iscrowd: bool,
    /// The pixels; of use for masks only.
    pub mask: Option<Mask>,
}

/// The ground truth of an evaluation: images and classes sorted by id, consistent in itself.
#[derive(Debug)]
pub struct GroundTruth {
    images: Vec<ImageTruth>,
    categories: Vec<Category>,
    image_ranks: BTreeMap<i64, usize>,
    category_ranks: BTreeMap<i64, usize>,
    fingerprint: u64,
}

impl GroundTruth {
    /// Checks and sorts. Annotations may have any id, the same one or 0 included, because nothing
    /// depends on it here; pycocotools takes an object with id 0 as never found.
    ///
    /// # Errors
    /// No image, no class, an id given twice, an object of an unknown class, or a box or area that
    /// is no finite number.
    pub fn new(
        mut images: Vec<ImageTruth>,
        mut categories: Vec<Category>,
    ) -> Result<Self, EvalError> {
        if images.is_empty() {
            return Err(EvalError::Empty("images"));
        }
        if categories.is_empty() {
            return Err(EvalError::Empty("categories"));
        }
        images.sort_by_key(|image| image.id);
        categories.sort_by_key(|category| category.id);
        let image_ranks = ranks("images", images.iter().map(|image| image.id))?;
        let category_ranks = ranks("categories", categories.iter().map(|category| category.id))?;
        let mut hasher = DefaultHasher::new();
        categories.hash(&mut hasher);
        let mut index = 0;
        for image in &images {
            image.id.hash(&mut hasher);
            for object in &image.objects {
                let wrong = |field, message| EvalError::Entry {
                    list: "annotations",
                    index,
                    field,
                    message: format!("{message} (annotation {}, image {})", object.id, image.id),
                    hint: "correct or remove the annotation",
                };
                if !category_ranks.contains_key(&object.category_id) {
                    let message = format!("{} is no category", object.category_id);
                    return Err(wrong("category_id", message));
                }
                if !object.bbox.is_finite() {
                    let numbers = object.bbox.to_array();
                    return Err(wrong("bbox", format!("{numbers:?} is not finite")));
                }
                if let Some(area) = object.area.filter(|area| !area.is_finite()) {
                    return Err(wrong("area", format!("{area} is not finite")));
                }
                (object.category_id, object.bbox.to_array().map(f64::to_bits)).hash(&mut hasher);
                (object.iscrowd, object.area.map(f64::to_bits)).hash(&mut hasher);
                index += 1;
            }
        }
        Ok(Self { images, categories, image_ranks, category_ranks, fingerprint: hasher.finish() })
    }

    /// Returns the images by id.
    #[must_use]
    pub fn images(&self) -> &[ImageTruth] {
        &self.images
    }

    /// Returns the classes by id.
    #[must_use]
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Returns the index of an image.
    pub(crate) fn image_rank(&self, id: i64) -> Option<usize> {
        self.image_ranks.get(&id).copied()
    }

    /// Returns the index of a class.
    pub(crate) fn category_rank(&self, id: i64) -> Option<usize> {
        self.category_ranks.get(&id).copied()
    }

    /// Returns a number that is equal for equal ground truth, masks aside.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Refuses objects without a usable mask.
    pub(crate) fn check_masks(&self) -> Result<(), EvalError> {
        for image in &self.images {
            for object in &image.objects {
                let wrong = |message, hint| EvalError::TruthMask {
                    image_id: image.id,
                    id: object.id,
                    message,
                    hint,
                };
                let Some(mask) = &object.mask else {
                    let hint = "compare boxes, or complete the masks";
                    return Err(wrong("missing".to_owned(), hint));
                };
                mask.check(image.size).map_err(|error| wrong(error.to_string(), error.hint()))?;
            }
        }
        Ok(())
    }
}

/// Maps sorted ids to their indices.
fn ranks(
    list: &'static str,
    ids: impl Iterator<Item = i64>,
) -> Result<BTreeMap<i64, usize>, EvalError> {
    let mut ranks = BTreeMap::new();
    for (index, id) in ids.enumerate() {
        if ranks.insert(id, index).is_some() {
            return Err(EvalError::Entry {
                list,
                index,
                field: "id",
                message: format!("{id} is given twice"),
                hint: "ids are unique",
            });
        }
    }
    Ok(ranks)
}
