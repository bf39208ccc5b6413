//! A data set by its configuration: one or several sources, and what is done with their classes.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{self, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Category, ClassMap, Dataset, Problem, ReadReport};
use crate::formats::{DatasetError, Format, ReadOptions, read};

/// Sources that are read one after the other and become one data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The places of the data.
    pub sources: Vec<SourceSpec>,
    /// The changes to the classes of all sources together.
    #[serde(default, skip_serializing_if = "ClassMap::is_empty")]
    pub classes: ClassMap,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// File or folder of the annotations.
    pub path: PathBuf,
    /// Folder of the images, if it is not one of the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Split, where the path holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Format, if it is not to be found by looking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Whether its files may lie outside of the data set's folder: behind links, or under absolute names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow_symlinks: bool,
}

impl DatasetSpec {
    /// Reads all sources. Relative paths start at `base`; `options` holds for every source, and
    /// what a source says of itself wins.
    ///
    /// # Errors
    /// Those of [`read`] and of [`ClassMap::apply`].
    pub fn load(&self, base: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
        let mut all = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            let options = ReadOptions {
                format: source.format.or(options.format),
                images: source.images.as_ref().map(|f| base.join(f)).or(options.images.clone()),
                split: source.split.clone().or(options.split.clone()),
                allow_outside: source.follow_symlinks || options.allow_outside,
                ..options.clone()
            };
            all.push(read(&base.join(&source.path), &options)?);
        }
        self.classes.apply(concatenate(all))
    }

    /// Makes all paths absolute, for a file that is kept elsewhere.
    ///
    /// # Errors
    /// The current folder cannot be told.
    pub fn absolute(&self, base: &Path) -> io::Result<Self> {
        let mut spec = self.clone();
        for source in &mut spec.sources {
            source.path = path::absolute(base.join(&source.path))?;
            if let Some(images) = &mut source.images {
                *images = path::absolute(base.join(&*images))?;
            }
        }
        Ok(spec)
    }
}

/// Joins data sets. Categories of one name are one category. Ids stay as they are in the first; in
/// the others those that are taken are given anew and counted. Files are never joined by their names.
#[must_use]
pub fn concatenate(datasets: Vec<Dataset>) -> Dataset {
    let mut datasets = datasets.into_iter();
    let mut all = datasets.next().unwrap_or_default();
    if all.images.is_empty() && datasets.len() == 0 {
        return all;
    }
    let mut image_ids: HashSet<i64> = all.images.iter().map(|image| image.id).collect();
    let objects = all.images.iter().flat_map(|image| &image.objects);
    let mut object_ids: HashSet<i64> = objects.map(|object| object.id).collect();
    let mut categories: BTreeMap<i64, Category> =
        all.categories.drain(..).map(|category| (category.id, category)).collect();
    for dataset in datasets {
        let renamed = join_categories(&mut categories, dataset.categories);
        for (old, new) in renamed.iter().filter(|(old, new)| old != new) {
            all.report.add(Problem::RenumberedCategory, format!("{old} is {new}"));
        }
        let mut next_image = next(&image_ids, dataset.images.iter().map(|image| image.id));
        let objects = dataset.images.iter().flat_map(|image| &image.objects);
        let mut next_object = next(&object_ids, objects.map(|object| object.id));
        for mut image in dataset.images {
            let old = image.id;
            image.id = fresh(old, &mut image_ids, &mut next_image);
            if image.id != old {
                all.report.add(Problem::RenumberedImage, format!("{old} is {}", image.id));
            }
            for object in &mut image.objects {
                object.id = fresh(object.id, &mut object_ids, &mut next_object);
                object.category_id =
                    renamed.get(&object.category_id).copied().unwrap_or(object.category_id);
            }
            all.images.push(image);
        }
        merge(&mut all.report, dataset.report);
    }
    all.images.sort_by_key(|image| image.id);
    all.categories = categories.into_values().collect();
    all
}

/// Merges the report of one source into that of the whole: its problems stay, except that nothing
/// is empty if one source is not.
fn merge(all: &mut ReadReport, mut one: ReadReport) {
    one.problems.remove(&Problem::NoImages);
    all.merge(one);
}

/// Maps the id of each category to the one after joining.
fn join_categories(all: &mut BTreeMap<i64, Category>, new: Vec<Category>) -> BTreeMap<i64, i64> {
    let mut renamed = BTreeMap::new();
    for category in new {
        let old = category.id;
        let same = all.values().find(|known| known.name == category.name).map(|known| known.id);
        let id = same.unwrap_or_else(|| {
            let last = all.keys().next_back().copied().unwrap_or(0);
            let id = if all.contains_key(&old) { last.saturating_add(1) } else { old };
            all.insert(id, Category { id, ..category });
            id
        });
        renamed.insert(old, id);
    }
    renamed
}

/// Returns an id above all of these.
fn next(taken: &HashSet<i64>, new: impl Iterator<Item = i64>) -> i64 {
    taken.iter().copied().chain(new).max().unwrap_or(0).saturating_add(1)
}

/// Returns the id itself, or the next one if it is taken.
fn fresh(id: i64, taken: &mut HashSet<i64>, next: &mut i64) -> i64 {
    if taken.insert(id) {
        return id;
    }
    let id = *next;
    taken.insert(id);
    *next = next.saturating_add(1);
    id
}
