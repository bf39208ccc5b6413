//! The classes of two data sets that a model shall learn from and be validated on.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::dataset::{Category, Dataset};

/// The differences between the classes of two data sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassDifferences {
    /// The number of names that both have.
    pub shared: usize,
    /// The names that only the first has.
    pub only_first: Vec<String>,
    /// The names that only the second has.
    pub only_second: Vec<String>,
    /// The names that both have with different ids.
    pub other_ids: Vec<OtherId>,
}

/// A class with different ids in two data sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherId {
    /// The name of the class.
    pub name: String,
    /// Its id in the first data set.
    pub first: i64,
    /// Its id in the second data set.
    pub second: i64,
}

/// Compares the classes of two data sets by name.
#[must_use]
pub fn compare_classes(first: &Dataset, second: &Dataset) -> ClassDifferences {
    let names = |set: &Dataset| -> BTreeSet<String> {
        set.categories.iter().map(|category| category.name.clone()).collect()
    };
    let (ours, theirs) = (names(first), names(second));
    let ids = |set: &Dataset, name: &str| -> Vec<i64> {
        let same = |category: &&Category| category.name == name;
        set.categories.iter().filter(same).map(|category| category.id).collect()
    };
    let other_id = |name: &String| {
        let (first, second) = (ids(first, name), ids(second, name));
        let differs = first.iter().all(|id| !second.contains(id));
        let (first, second) = (*first.first()?, *second.first()?);
        differs.then(|| OtherId { name: name.clone(), first, second })
    };
    ClassDifferences {
        shared: ours.intersection(&theirs).count(),
        only_first: ours.difference(&theirs).cloned().collect(),
        only_second: theirs.difference(&ours).cloned().collect(),
        other_ids: ours.intersection(&theirs).filter_map(other_id).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_compared_by_name_and_then_by_id() {
        let set = |classes: &[(i64, &str)]| Dataset {
            categories: classes
                .iter()
                .map(|&(id, name)| Category {
                    id,
                    name: name.to_owned(),
                    supercategory: None,
                    is_thing: true,
                })
                .collect(),
            ..Dataset::default()
        };
        let first = set(&[(1, "bus"), (2, "car"), (3, "tram"), (7, "car")]);
        let second = set(&[(1, "tram"), (2, "Bus"), (7, "car")]);
        let found = compare_classes(&first, &second);
        assert_eq!(found.shared, 2);
        assert_eq!((found.only_first, found.only_second), (vec!["bus".into()], vec!["Bus".into()]));
        assert_eq!(found.other_ids, [OtherId { name: "tram".into(), first: 3, second: 1 }]);
    }
}
