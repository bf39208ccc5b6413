//! COCO's two files: the ground truth with its annotations, and the list of results that every
//! tool writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use detr_types::in_plain_words;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::options::IouKind;
use crate::results::Results;
use crate::truth::{Category, GroundTruth, ImageTruth, TruthObject};
use crate::{EvalError, Mask};

mod fields;
mod list;

use fields::{Flag, Id, RawBox, RawMask};

/// Bytes that a file may have; COCO's largest has a quarter.
const MAX_BYTES: u64 = 2 << 30;

const TRUTH_HINT: &str = "ground truth is an object with the lists images, annotations and \
                          categories; NaN and Infinity are no JSON";
const RESULTS_HINT: &str = "results are a list of objects with image_id, category_id, score and \
                            bbox or segmentation, as detr-infer writes with --format coco; \
                            NaN and Infinity are no JSON";

/// Reads COCO annotations. Masks are read only where they are compared.
///
/// # Errors
/// [`EvalError::File`] with the file, and the index and field in it.
pub fn read_ground_truth(path: &Path, iou: IouKind) -> Result<GroundTruth, EvalError> {
    let read = || {
        let bytes = read_bytes(path)?;
        match iou {
            IouKind::Bbox => ground_truth(parse::<RawTruth<IgnoredAny>>(&bytes, TRUTH_HINT)?),
            IouKind::Segm => ground_truth(parse::<RawTruth<RawMask>>(&bytes, TRUTH_HINT)?),
        }
    };
    in_file(path, read())
}

/// Reads the detections of any tool. As in pycocotools, the first one tells whether sizes are
/// those of boxes or of masks, and all others must have the same.
///
/// # Errors
/// [`EvalError::File`] with the file, and the index and field in it.
pub fn read_results(path: &Path, iou: IouKind) -> Result<Results, EvalError> {
    let read = || {
        let bytes = read_bytes(path)?;
        // A box stands in for a missing mask; if there is no box either, the mask has to be read.
        match iou {
            IouKind::Bbox => parse::<list::BoxResults>(&bytes, RESULTS_HINT).map(|list| list.0),
            IouKind::Segm => parse::<list::MaskResults>(&bytes, RESULTS_HINT).map(|list| list.0),
        }
    };
    in_file(path, read())
}

fn in_file<T>(path: &Path, result: Result<T, EvalError>) -> Result<T, EvalError> {
    result.map_err(|source| EvalError::File { path: path.to_owned(), source: Box::new(source) })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, EvalError> {
    let data = path.metadata()?;
    if !data.is_file() {
        // Reading a pipe could wait for ever.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(EvalError::TooLarge { bytes: data.len(), limit: MAX_BYTES });
    }
    Ok(bytes)
}

/// Parses, and in case of an error once more, to tell the field: that is slower.
fn parse<T: DeserializeOwned>(bytes: &[u8], hint: &'static str) -> Result<T, EvalError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = match serde_json::from_slice::<T>(bytes) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    let deserializer = &mut serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(deserializer) {
        Err(error) => Err(json_error(&error.path().to_string(), error.inner(), hint)),
        // Other content follows the document.
        Ok(_) => Err(json_error("document", &first, hint)),
    }
}

fn json_error(field: &str, error: &serde_json::Error, hint: &'static str) -> EvalError {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    EvalError::Json {
        field: if field == "." { "document".to_owned() } else { field.to_owned() },
        message: in_plain_words(message),
        line: error.line(),
        column: error.column(),
        hint,
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>"))]
struct RawTruth<M> {
    images: Vec<RawImage>,
    annotations: Vec<RawObject<M>>,
    categories: Vec<RawCategory>,
}

#[derive(Deserialize)]
struct RawImage {
    id: Id,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>"))]
struct RawObject<M> {
    id: Option<Id>,
    image_id: Id,
    category_id: Id,
    bbox: RawBox,
    area: Option<f64>,
    #[serde(default)]
    iscrowd: Flag,
    segmentation: Option<M>,
}

#[derive(Deserialize)]
struct RawCategory {
    id: Id,
    #[serde(default)]
    name: String,
}

/// Masks, or nothing where they were passed over.
trait RawRegion: DeserializeOwned {
    fn into_mask(self) -> Option<Mask>;
}

impl RawRegion for IgnoredAny {
    fn into_mask(self) -> Option<Mask> {
        None
    }
}

impl RawRegion for RawMask {
    fn into_mask(self) -> Option<Mask> {
        self.0
    }
}

fn ground_truth<M: RawRegion>(raw: RawTruth<M>) -> Result<GroundTruth, EvalError> {
    let mut ranks = BTreeMap::new();
    let mut images = Vec::with_capacity(raw.images.len());
    for (index, image) in raw.images.into_iter().enumerate() {
        let size = image.height.zip(image.width);
        let size = size.map(|(height, width)| detr_types::ImageSize::new(height, width));
        if ranks.insert(image.id.0, index).is_some() {
            let message = format!("{} is given twice", image.id.0);
            return Err(wrong("images", index, "id", message, "ids are unique"));
        }
        images.push(ImageTruth { id: image.id.0, size, objects: Vec::new() });
    }
    let categories: Vec<_> = raw
        .categories
        .into_iter()
        .map(|category| Category { id: category.id.0, name: category.name })
        .collect();
    let known: BTreeSet<i64> = categories.iter().map(|category| category.id).collect();
    let mut ids = BTreeSet::new();
    for (index, object) in raw.annotations.into_iter().enumerate() {
        let wrong = |field, message, hint| wrong("annotations", index, field, message, hint);
        let Some(&image) = ranks.get(&object.image_id.0) else {
            let message = format!("{} is no image of this file", object.image_id.0);
            return Err(wrong("image_id", message, "remove the annotation or add its image"));
        };
        if !known.contains(&object.category_id.0) {
            let message = format!("{} is no category of this file", object.category_id.0);
            return Err(wrong("category_id", message, "remove the annotation or add its category"));
        }
        let id = object.id.map_or(-1, |id| id.0);
        if object.id.is_some() && !ids.insert(id) {
            let hint = "ids are unique; pycocotools would take the last annotation for all of them";
            return Err(wrong("id", format!("{id} is given twice"), hint));
        }
        let Some(bbox) = object.bbox.0 else {
            let hint = "a box is left, top, width and height in pixels";
            return Err(wrong("bbox", "an empty box".to_owned(), hint));
        };
        images[image].objects.push(TruthObject {
            id,
            category_id: object.category_id.0,
            bbox: bbox.into(),
            area: object.area,
            iscrowd: object.iscrowd.0,
            mask: object.segmentation.and_then(M::into_mask),
        });
    }
    GroundTruth::new(images, categories)
}

fn wrong(
    list: &'static str,
    index: usize,
    field: &'static str,
    message: String,
    hint: &'static str,
) -> EvalError {
    EvalError::Entry { list, index, field, message, hint }
}
