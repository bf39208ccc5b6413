//! YOLO as Ultralytics reads it: relative boxes, and `data.yaml`.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use super::files::{Job, has_own_area, size_of, write_each, write_text};
use super::loss::{Loss, LossReport};
use super::names;
use super::options::WriteOptions;
use crate::dataset::Dataset;
use crate::formats::yolo::DataYaml;
use crate::formats::{DatasetError, Format};

pub(super) fn write(
    dataset: &Dataset,
    folder: &Path,
    options: &WriteOptions<'_>,
) -> Result<LossReport, DatasetError> {
    let mut report = LossReport::new(Format::Yolo, dataset);
    report.lose_ids(dataset);
    report.lose(
        Loss::CategoryIds,
        dataset.categories.iter().zip(1..).filter(|(c, n)| c.id != *n).count(),
    );
    let yaml = folder.join("data.yaml");
    check_names(&yaml, dataset)?;
    let numbers: HashMap<i64, usize> = dataset
        .categories
        .iter()
        .enumerate()
        .map(|(number, category)| (category.id, number))
        .collect();
    let files = names::file_names(dataset, false, &mut report);
    let mut file = files.iter();
    write_each(dataset, options, |image| {
        let name = file.next().map_or("", String::as_str);
        let size = size_of(image, options)?;
        let (width, height) = (f64::from(size.width), f64::from(size.height));
        let mut text = String::new();
        for object in &image.objects {
            // A crowd would be learned as one large object.
            if object.iscrowd {
                report.lose(Loss::Crowds, 1);
                continue;
            }
            let Some(number) = numbers.get(&object.category_id) else {
                report.lose(Loss::Boxes, 1);
                continue;
            };
            report.lose(Loss::Outlines, usize::from(object.segmentation.is_some()));
            report.lose(Loss::Areas, usize::from(has_own_area(object)));
            report.objects += 1;
            let [x, y, w, h] = object.bbox.to_array();
            let (cx, cy) = ((x + w / 2.0) / width, (y + h / 2.0) / height);
            let _ = writeln!(text, "{number} {cx} {cy} {} {}", w / width, h / height);
        }
        let label =
            Path::new("labels").join(options.split).join(names::with_extension(name, "txt"));
        let image = folder.join("images").join(options.split).join(name);
        Ok(Job { image, label: Some((folder.join(label), text)) })
    })?;
    write_text(&yaml, &data_yaml(dataset, folder, options.split))?;
    Ok(report)
}

/// Splits in one folder share their class numbers.
fn check_names(yaml: &Path, dataset: &Dataset) -> Result<(), DatasetError> {
    if !yaml.exists() {
        return Ok(());
    }
    let names = DataYaml::read(yaml)?.names(yaml)?;
    if names.iter().ne(dataset.categories.iter().map(|category| &category.name)) {
        let reason = "is of a data set with other classes\nhint: write into an empty folder, or make \
                      the classes equal with a class map";
        return Err(DatasetError::layout(yaml, reason));
    }
    Ok(())
}

fn data_yaml(dataset: &Dataset, folder: &Path, split: &str) -> String {
    let mut text = String::from("path: .\n");
    for known in ["train", "val", "test"] {
        if split == known || folder.join("labels").join(known).is_dir() {
            let _ = writeln!(text, "{known}: images/{known}");
        }
    }
    text += "names:\n";
    for (number, category) in dataset.categories.iter().enumerate() {
        // A JSON string is a YAML string.
        let name = serde_json::Value::from(category.name.as_str());
        let _ = writeln!(text, "  {number}: {name}");
    }
    text
}
