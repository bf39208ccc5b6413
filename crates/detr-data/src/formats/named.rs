//! The common part of KITTI, YOLO and VOC: a file of labels for each image, classes by name, and no
//! ids. Images get ids in the order of their names, objects in the order of reading, categories by
//! their place in the list of names or in the alphabet; all count from 1.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use detr_types::{ImageSize, Xywh};

use crate::dataset::{Builder, Category, Dataset, ImageRecord, ObjectRecord};
use crate::segmentation::Segmentation;

/// An image with the objects of its label file.
pub(super) struct NamedImage {
    pub(super) path: PathBuf,
    pub(super) file_name: String,
    pub(super) size: Option<ImageSize>,
    pub(super) objects: Vec<NamedObject>,
}

/// An object without ids.
pub(super) struct NamedObject {
    pub(super) class: String,
    /// The box in pixels.
    pub(super) bbox: Xywh<f64>,
    pub(super) iscrowd: bool,
    pub(super) segmentation: Option<Segmentation>,
}

/// Gives ids to everything. Without a list of names the classes are those that occur.
pub(super) fn assemble(
    mut builder: Builder,
    images: Vec<NamedImage>,
    names: Option<Vec<String>>,
) -> Dataset {
    let names = names.unwrap_or_else(|| {
        let objects = images.iter().flat_map(|image| &image.objects);
        let names: BTreeSet<&str> = objects.map(|object| object.class.as_str()).collect();
        names.into_iter().map(str::to_owned).collect()
    });
    let mut ids = HashMap::new();
    for (id, name) in (1..).zip(names) {
        ids.entry(name.clone()).or_insert(id);
        builder.category(Category { id, name, supercategory: None, is_thing: true });
    }
    let mut object_id = 0;
    for (image_id, image) in (1..).zip(images) {
        let NamedImage { path, file_name, size, objects } = image;
        builder.image(ImageRecord { id: image_id, path, file_name, size, objects: Vec::new() });
        for NamedObject { class, bbox, iscrowd, segmentation } in objects {
            object_id += 1;
            let object = ObjectRecord {
                id: object_id,
                category_id: ids.get(&class).copied().unwrap_or(-1),
                bbox,
                area: bbox.area(),
                iscrowd,
                segmentation,
            };
            builder.object(image_id, object);
        }
    }
    builder.finish()
}
