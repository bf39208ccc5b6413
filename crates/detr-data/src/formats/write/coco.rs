//! COCO detection annotations. Nothing of a data set is lost.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use detr_types::fs::atomic_write;
use serde::Serialize;

use super::files::{Job, size_of, write_each};
use super::loss::LossReport;
use super::names;
use super::options::WriteOptions;
use crate::dataset::{Category, Dataset, ImageRecord};
use crate::formats::{DatasetError, Format};
use crate::segmentation::Segmentation;

#[derive(Serialize)]
struct File<'a> {
    images: Vec<Image<'a>>,
    annotations: Vec<Annotation<'a>>,
    categories: Vec<JsonCategory<'a>>,
}

#[derive(Serialize)]
struct Image<'a> {
    id: i64,
    file_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
}

#[derive(Serialize)]
struct Annotation<'a> {
    id: i64,
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    area: f64,
    iscrowd: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<&'a Segmentation>,
}

#[derive(Serialize)]
struct JsonCategory<'a> {
    id: i64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    supercategory: Option<&'a str>,
    /// Only said of what is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    isthing: Option<u8>,
}

pub(super) fn write(
    dataset: &Dataset,
    folder: &Path,
    options: &WriteOptions<'_>,
) -> Result<LossReport, DatasetError> {
    let mut report = LossReport::new(Format::Coco, dataset);
    report.objects = dataset.object_count();
    let names = names::file_names(dataset, false, &mut report);
    let mut sizes = BTreeMap::new();
    let mut name = names.iter();
    write_each(dataset, options, |image| {
        sizes.insert(image.id, size_of(image, options)?);
        let image = folder.join(options.split).join(name.next().map_or("", String::as_str));
        Ok(Job { image, label: None })
    })?;
    let named = dataset.images.iter().zip(&names).map(|(image, name)| ImageRecord {
        size: sizes.get(&image.id).copied(),
        file_name: name.clone(),
        ..image.clone()
    });
    let path = folder.join(format!("annotations/instances_{}.json", options.split));
    let images: Vec<ImageRecord> = named.collect();
    write_json(&path, images.iter(), &dataset.categories)?;
    Ok(report)
}

/// Writes a file of annotations.
pub(in crate::formats) fn write_json<'a>(
    path: &Path,
    images: impl Iterator<Item = &'a ImageRecord> + Clone,
    categories: &[Category],
) -> Result<(), DatasetError> {
    let file = File {
        images: images.clone().map(json_image).collect(),
        annotations: images.flat_map(json_objects).collect(),
        categories: categories.iter().map(json_category).collect(),
    };
    atomic_write(path, |out| {
        serde_json::to_writer(&mut *out, &file).map_err(io::Error::from)?;
        out.write_all(b"\n")
    })
    .map_err(DatasetError::io(path))
}

fn json_image(image: &ImageRecord) -> Image<'_> {
    Image {
        id: image.id,
        file_name: &image.file_name,
        width: image.size.map(|size| size.width),
        height: image.size.map(|size| size.height),
    }
}

fn json_objects(image: &ImageRecord) -> impl Iterator<Item = Annotation<'_>> {
    image.objects.iter().map(|object| Annotation {
        id: object.id,
        image_id: image.id,
        category_id: object.category_id,
        bbox: object.bbox.to_array(),
        area: object.area,
        iscrowd: object.iscrowd.into(),
        segmentation: object.segmentation.as_ref(),
    })
}

fn json_category(category: &Category) -> JsonCategory<'_> {
    JsonCategory {
        id: category.id,
        name: &category.name,
        supercategory: category.supercategory.as_deref(),
        isthing: (!category.is_thing).then_some(0),
    }
}
