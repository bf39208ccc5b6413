//! The settings in which several runs differ.

use std::collections::{BTreeMap, BTreeSet};

use detr_track::flatten;

/// Returns the keys that do not have the same value in all tables, with the value of each table.
pub(super) fn differences(tables: &[&toml::Table]) -> Vec<(String, Vec<Option<String>>)> {
    let flat: Vec<_> = tables.iter().map(|table| flatten(table)).collect();
    let keys: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    keys.into_iter()
        .map(|key| (key.clone(), flat.iter().map(|one| one.get(key).cloned()).collect::<Vec<_>>()))
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        let parse = |text: &str| text.parse::<toml::Table>().unwrap();
        let a = parse("x = 1\n[train]\nlr = 1e-4\nseed = 1\nlist = [{ a = 1 }]\n");
        let b = parse("x = 1\n[train]\nlr = 2e-4\nlist = [{ a = 1 }]\n");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            differences(&[&a, &b]),
            [
                ("train.lr".to_owned(), vec![some("0.0001"), some("0.0002")]),
                ("train.seed".to_owned(), vec![some("1"), None]),
            ]
        );
        assert!(differences(&[&a, &a]).is_empty());
    }
}
