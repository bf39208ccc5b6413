//! Chooses the classes that a model learns: a map that renames, merges and drops categories, and
//! the table that gives them labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use detr_types::ClassTable;
use serde::{Deserialize, Serialize};

use super::{Category, Dataset};
use crate::formats::DatasetError;

/// Changes of the categories. Names that the data set does not have are errors, because a typing
/// error would silently train another model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassMap {
    /// New name by old name. Several to one merge; the id is that of the category that already has
    /// the name, else the smallest.
    pub map: BTreeMap<String, String>,
    /// The only classes that stay, by new name; empty for all.
    pub keep: Vec<String>,
    /// Classes that go, by new name.
    pub drop: Vec<String>,
}

/// The ways to turn categories into labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// COCO's table of 91 slots if every category is one of COCO's, by id and name; else
    /// contiguous labels.
    #[default]
    Auto,
    /// The label is the category id; ids that are not used are holes.
    CategoryIds,
    /// Labels from 0 without holes, in the order of the ids.
    Contiguous,
}

impl ClassMap {
    /// Returns whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Renames, merges and drops. Images stay, with the objects that are left.
    ///
    /// # Errors
    /// [`DatasetError::Class`] for a name that the data set does not have, or no class left.
    pub fn apply(&self, dataset: Dataset) -> Result<Dataset, DatasetError> {
        if self.is_empty() {
            return Ok(dataset);
        }
        let old: BTreeSet<&str> = dataset.categories.iter().map(|c| c.name.as_str()).collect();
        let renamed = |name: &str| self.map.get(name).map_or(name, String::as_str).to_owned();
        let new: BTreeSet<String> = old.iter().map(|name| renamed(name)).collect();
        for name in self.map.keys() {
            known(name, &old, "is mapped")?;
        }
        let names: BTreeSet<&str> = new.iter().map(String::as_str).collect();
        for (list, what) in [(&self.keep, "is kept"), (&self.drop, "is dropped")] {
            list.iter().try_for_each(|name| known(name, &names, what))?;
        }
        let stays = |name: &String| {
            (self.keep.is_empty() || self.keep.contains(name)) && !self.drop.contains(name)
        };
        // Categories are sorted by id, so the first of a group has the smallest.
        let (mut targets, mut ids) = (BTreeMap::<String, Category>::new(), HashMap::new());
        for category in &dataset.categories {
            let name = renamed(&category.name);
            if !stays(&name) {
                continue;
            }
            let target = targets.entry(name.clone());
            if category.name == name {
                target.insert_entry(category.clone());
            } else {
                target.or_insert_with(|| Category { name, ..category.clone() });
            }
        }
        for category in &dataset.categories {
            if let Some(target) = targets.get(&renamed(&category.name)) {
                ids.insert(category.id, target.id);
            }
        }
        if targets.is_empty() {
            let name = self.keep.first().or(self.drop.first()).cloned().unwrap_or_default();
            let reason = "no class is left\nhint: check `keep` and `drop`".to_owned();
            return Err(DatasetError::Class { name, reason });
        }
        let Dataset { mut images, report, .. } = dataset;
        for image in &mut images {
            image.objects.retain_mut(|object| {
                let id = ids.get(&object.category_id);
                object.category_id = id.copied().unwrap_or(object.category_id);
                id.is_some()
            });
        }
        let mut categories: Vec<Category> = targets.into_values().collect();
        categories.sort_by_key(|category| category.id);
        Ok(Dataset { images, categories, report })
    }
}

fn known(name: &str, names: &BTreeSet<&str>, what: &str) -> Result<(), DatasetError> {
    if names.contains(name) {
        return Ok(());
    }
    let lower = name.to_lowercase();
    let close = |other: &&&str| {
        let other = other.to_lowercase();
        other.contains(&lower) || lower.contains(&other)
    };
    let listed: Vec<&str> = match names.iter().find(close) {
        Some(nearest) => vec![*nearest],
        None => names.iter().take(10).copied().collect(),
    };
    let reason =
        format!("{what}, but no category has that name\nhint: is it {}?", listed.join(", "));
    Err(DatasetError::Class { name: name.to_owned(), reason })
}

impl Dataset {
    /// Returns the labels of the categories, to be saved with the model.
    ///
    /// # Errors
    /// Ids that cannot be labels: negative, or too large.
    pub fn class_table(&self, labels: Labels) -> Result<ClassTable, DatasetError> {
        let coco = ClassTable::coco();
        let is_coco = |category: &Category| {
            coco.find(&category.name).is_some_and(|known| known.id == category.id)
        };
        if labels == Labels::Auto
            && !self.categories.is_empty()
            && self.categories.iter().all(is_coco)
        {
            return Ok(coco);
        }
        let by_id = labels == Labels::CategoryIds;
        let mut table = Vec::with_capacity(self.categories.len());
        for (index, category) in self.categories.iter().enumerate() {
            let name = category.name.clone();
            let id = category.id;
            if id < 0 {
                let reason = format!("has id {id}, expected one that is not negative");
                return Err(DatasetError::Class { name, reason });
            }
            let label = if by_id { usize::try_from(id).unwrap_or(usize::MAX) } else { index };
            table.push(detr_types::Category { label, id, name, is_thing: category.is_thing });
        }
        let slots =
            table.iter().map(|category| category.label.saturating_add(1)).max().unwrap_or(0);
        Ok(ClassTable::new(slots, table)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Builder, ImageRecord, ObjectRecord};

    fn sample() -> Dataset {
        let mut builder = Builder::default();
        for (id, name) in [(2, "truck"), (3, "car"), (7, "van"), (9, "cyclist")] {
            builder.category(Category {
                id,
                name: name.to_owned(),
                supercategory: None,
                is_thing: true,
            });
        }
        builder.image(ImageRecord {
            id: 1,
            path: "a.jpg".into(),
            file_name: "a.jpg".to_owned(),
            size: None,
            objects: Vec::new(),
        });
        for (id, category_id) in [(1, 2), (2, 3), (3, 7), (4, 9)] {
            builder.object(
                1,
                ObjectRecord {
                    id,
                    category_id,
                    bbox: [0.0, 0.0, 1.0, 1.0].into(),
                    area: 1.0,
                    iscrowd: false,
                    segmentation: None,
                },
            );
        }
        builder.finish()
    }

    #[test]
    fn classes_are_merged_renamed_and_dropped() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let classes = ClassMap {
            map: map(&[("van", "car"), ("truck", "car"), ("cyclist", "bike")]),
            ..ClassMap::default()
        };
        let dataset = classes.apply(sample()).unwrap();
        let names: Vec<_> = dataset.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
        assert_eq!(names, [(3, "car"), (9, "bike")]);
        let ids: Vec<_> = dataset.images[0].objects.iter().map(|o| o.category_id).collect();
        assert_eq!(ids, [3, 3, 3, 9]);
        let table = dataset.class_table(Labels::Auto).unwrap();
        assert_eq!((table.len(), table.find("bike").unwrap().label), (2, 1));

        let classes = ClassMap { drop: vec!["car".to_owned()], ..classes };
        let dataset = classes.apply(sample()).unwrap();
        assert_eq!(
            (dataset.categories.len(), dataset.object_count(), dataset.images.len()),
            (1, 1, 1)
        );
        let table = dataset.class_table(Labels::CategoryIds).unwrap();
        assert_eq!((table.len(), table.categories().count()), (10, 1));
    }

    #[test]
    fn names_that_do_not_exist_are_refused() {
        let classes = ClassMap { keep: vec!["Car".to_owned()], ..ClassMap::default() };
        let error = classes.apply(sample()).unwrap_err().to_string();
        assert!(error.contains("\"Car\"") && error.ends_with("hint: is it car?"), "{error}");
    }

    #[test]
    fn coco_keeps_its_sparse_ids() {
        let mut dataset = sample();
        dataset.categories.retain(|category| category.id == 3);
        assert_eq!(dataset.class_table(Labels::Auto).unwrap(), ClassTable::coco());
        assert_eq!(dataset.class_table(Labels::Contiguous).unwrap().len(), 1);
    }
}
