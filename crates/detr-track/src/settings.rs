//! Settings as one list of dotted keys.

use std::collections::BTreeMap;

/// Returns the values of a TOML table by dotted keys such as `train.lr`. A list stays one value.
#[must_use]
pub fn flatten(table: &toml::Table) -> BTreeMap<String, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_dotted_keys_and_lists_stay_whole() {
        let table: toml::Table =
            "x = 1\n[train]\nlr = 1e-4\nname = \"a\"\nlist = [{ a = 1 }]\n".parse().unwrap();
        let flat: Vec<(String, String)> = flatten(&table).into_iter().collect();
        let expected = [
            ("train.list", "[{ a = 1 }]"),
            ("train.lr", "0.0001"),
            ("train.name", "\"a\""),
            ("x", "1"),
        ];
        assert_eq!(flat, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
