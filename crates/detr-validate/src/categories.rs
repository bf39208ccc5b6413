//! The classes of a model and the categories of a data set.

use std::collections::{HashMap, HashSet};

use detr_types::{CategoryId, ClassTable};

/// The category of the data for each label of a model: one of the same id and name, or else of the same
/// name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CategoryMap {
    ids: HashMap<usize, CategoryId>,
    /// Names of the model's classes that the data lack.
    pub only_model: Vec<String>,
    /// Names of the data's categories that the model lacks.
    pub only_data: Vec<String>,
}

impl CategoryMap {
    /// Finds the classes that a model and data share; categories are given by id and name.
    pub fn new<'a>(
        model: &ClassTable,
        data: impl IntoIterator<Item = (CategoryId, &'a str)>,
    ) -> Self {
        let data: Vec<(CategoryId, &str)> = data.into_iter().collect();
        let mut map = Self::default();
        for class in model.categories() {
            let of_name = || data.iter().filter(|(_, name)| *name == class.name);
            let same = of_name().find(|(id, _)| *id == class.id);
            match same.or_else(|| of_name().next()) {
                Some(&(id, _)) => drop(map.ids.insert(class.label, id)),
                None => map.only_model.push(class.name.clone()),
            }
        }
        let known: HashSet<CategoryId> = map.ids.values().copied().collect();
        let unknown = data.iter().filter(|(id, _)| !known.contains(id));
        map.only_data = unknown.map(|&(_, name)| name.to_owned()).collect();
        map
    }

    /// Returns the category of a label, if the data have it.
    #[must_use]
    pub fn category(&self, label: usize) -> Option<CategoryId> {
        self.ids.get(&label).copied()
    }

    /// Returns whether model and data share no class.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use detr_types::Category;

    use super::*;

    #[test]
    fn classes_are_matched_by_name_and_id_then_by_name() {
        let data = [(1, "person"), (3, "car"), (5, "car"), (-2, "tram")];
        let model = [(3, "person"), (5, "car"), (9, "car"), (8, "bus"), (2, "tram")];
        let class = |(label, &(id, name)): (usize, &(CategoryId, &str))| Category {
            label,
            id,
            name: name.to_owned(),
            is_thing: true,
        };
        let classes = model.iter().enumerate().map(class).collect();
        let table = ClassTable::new(model.len(), classes).unwrap();
        let map = CategoryMap::new(&table, data);
        let found: Vec<_> = (0..model.len()).map(|label| map.category(label)).collect();
        assert_eq!(found, [Some(1), Some(5), Some(3), None, Some(-2)]);
        assert_eq!(map.only_model, ["bus"]);
        assert!(map.only_data.is_empty() && !map.is_empty());
        assert!(CategoryMap::new(&table, [(1, "Person")]).is_empty());
    }
}
