//! Names for formats that tell images apart by the name without its extension.

use std::collections::{BTreeMap, HashSet};

use super::loss::{Loss, LossReport};
use crate::dataset::Dataset;
use crate::formats::paths;

/// Chooses a file name for each image, in their order. In a flat format folders become part of the
/// name.
pub(super) fn file_names(dataset: &Dataset, flat: bool, report: &mut LossReport) -> Vec<String> {
    let mut stems = HashSet::new();
    let mut names = Vec::with_capacity(dataset.images.len());
    for image in &dataset.images {
        // A data set made in memory may hold any name.
        let clean = paths::clean(&image.file_name).unwrap_or_else(|_| format!("{}.jpg", image.id));
        let wanted = if flat { clean.replace('/', "_") } else { clean };
        let (stem, extension) = match wanted.rfind('.') {
            Some(dot) if dot > wanted.rfind('/').map_or(0, |at| at + 1) => wanted.split_at(dot),
            _ => (wanted.as_str(), ""),
        };
        let (mut stem, extension) = (stem.to_owned(), extension.to_owned());
        while !stems.insert(stem.to_lowercase()) {
            stem = format!("{stem}_{}", image.id);
        }
        let name = stem + &extension;
        if name != image.file_name {
            report.lose(Loss::FileNames, 1);
            report.renamed.push((image.file_name.clone(), name.clone()));
        }
        names.push(name);
    }
    names
}

/// Names the label file of an image file.
pub(super) fn with_extension(name: &str, extension: &str) -> String {
    match name.rfind('.') {
        Some(dot) if dot > name.rfind('/').map_or(0, |at| at + 1) => {
            format!("{}.{extension}", &name[..dot])
        }
        _ => format!("{name}.{extension}"),
    }
}

/// Returns the class names by category id, changed by `change` where they must be, each still
/// unique.
pub(super) fn class_names(
    dataset: &Dataset,
    report: &mut LossReport,
    change: impl Fn(&str) -> String,
) -> BTreeMap<i64, String> {
    let (mut names, mut taken) = (BTreeMap::new(), HashSet::new());
    for category in &dataset.categories {
        let mut name = change(&category.name);
        while !taken.insert(name.clone()) {
            name = format!("{name}_{}", category.id);
        }
        if name != category.name {
            report.lose(Loss::ClassNames, 1);
            report.renamed.push((category.name.clone(), name.clone()));
        }
        names.insert(category.id, name);
    }
    names
}

/// Counts categories that no object has, which formats without a list of classes forget; and
/// whether the ids of the others will be given again, which readers count in the order of the
/// names.
pub(super) fn lose_categories(
    dataset: &Dataset,
    names: &BTreeMap<i64, String>,
    report: &mut LossReport,
) {
    let objects = dataset.images.iter().flat_map(|image| &image.objects);
    let used: HashSet<i64> = objects.map(|object| object.category_id).collect();
    let unused = names.keys().filter(|id| !used.contains(id)).count();
    report.lose(Loss::UnusedCategories, unused);
    let mut order: Vec<(&String, i64)> =
        names.iter().filter(|(id, _)| used.contains(id)).map(|(id, name)| (name, *id)).collect();
    order.sort();
    report.lose(Loss::CategoryIds, order.iter().zip(1..).filter(|((_, id), n)| id != n).count());
}
