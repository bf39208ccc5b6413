//! Settings as one list of dotted keys, and where those of several runs differ.

use std::collections::{BTreeMap, BTreeSet};

/// Values by dotted keys; what is in a list stays together.
pub(super) fn flat(table: &toml::Table) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    add(&mut found, "", table);
    found
}

fn add(found: &mut BTreeMap<String, String>, above: &str, table: &toml::Table) {
    for (key, value) in table {
        let key = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match value {
            toml::Value::Table(inner) => add(found, &key, inner),
            value => {
                found.insert(key, value.to_string());
            }
        }
    }
}

/// Keys in which they are not all alike, with the value of each, or none.
pub(super) fn differences(tables: &[&toml::Table]) -> Vec<(String, Vec<Option<String>>)> {
    let flat: Vec<_> = tables.iter().map(|table| flat(table)).collect();
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
