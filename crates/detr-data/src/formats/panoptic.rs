//! COCO panoptic annotations. The segments are read with their boxes; their pixels stay in the PNG
//! files, whose places are kept for whoever decodes them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::coco::lenient::{Flag, Int, Num};
use super::coco::{self, Place, locate};
use super::paths::Root;
use super::{DatasetError, Format, ReadOptions};
use crate::dataset::{Builder, Dataset, ObjectRecord};

/// A panoptic data set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panoptic {
    /// Images with their segments as objects; ids are those of the segments, unique per image, and
    /// there are no outlines. Categories that are not things are "stuff".
    pub dataset: Dataset,
    /// PNG of segment ids (`id = R + 256 G + 65536 B`) by image id.
    pub segments: BTreeMap<i64, PathBuf>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    images: Vec<&'a RawValue>,
    #[serde(borrow)]
    annotations: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    categories: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    image_id: Int,
    #[serde(borrow)]
    file_name: Cow<'a, str>,
    segments_info: Vec<Segment>,
}

#[derive(Deserialize)]
struct Segment {
    id: Int,
    category_id: Int,
    bbox: [Num; 4],
    area: Num,
    iscrowd: Option<Flag>,
}

/// Returns whether a JSON file holds segments rather than objects.
pub(super) fn is_panoptic(text: &str) -> bool {
    text.contains("\"segments_info\"")
}

/// Reads a file. The PNGs are looked for in `segments`, or in a folder named like the file.
///
/// # Errors
/// A file that is not what it should be.
pub fn read_panoptic(
    path: &Path,
    segments: Option<&Path>,
    options: &ReadOptions,
) -> Result<Panoptic, DatasetError> {
    read(path, &coco::read_text(path, options)?, segments, options)
}

/// Reads the text of a file.
pub(super) fn read(
    path: &Path,
    text: &str,
    segments: Option<&Path>,
    options: &ReadOptions,
) -> Result<Panoptic, DatasetError> {
    let file: File<'_> = coco::parse(path, text)?;
    let place = Place { path, text };
    let mut builder = Builder::new(format!("{} {}", Format::CocoPanoptic, path.display()));
    coco::categories(&mut builder, place, &file.categories);
    coco::add_images(&mut builder, place, &file.images, options)?;
    let beside = path.with_extension("");
    let masks = segments.unwrap_or(&beside);
    let masks = Root::new(masks, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(masks))?;
    let mut files = BTreeMap::new();
    for annotation in
        place.records::<Annotation<'_>>("annotations", &file.annotations, &mut builder)
    {
        let image_id = annotation.image_id.0;
        if let Some(located) = locate(&mut builder, &masks, image_id, &annotation.file_name) {
            files.insert(image_id, located.path);
        }
        for segment in annotation.segments_info {
            let object = ObjectRecord {
                id: segment.id.0,
                category_id: segment.category_id.0,
                bbox: segment.bbox.map(|value| value.0).into(),
                area: segment.area.0,
                iscrowd: segment.iscrowd.is_some_and(|flag| flag.0),
                segmentation: None,
            };
            builder.segment(image_id, object);
        }
    }
    Ok(Panoptic { dataset: builder.finish(), segments: files })
}
