//! Splits by their names: `val`, `valid` and `validation` are one, in every format and in any case of the letters.

use std::path::Path;

use super::{DatasetError, files};

/// Names of one split each.
const SAME: [&[&str]; 3] =
    [&["train", "training"], &["val", "valid", "validation"], &["test", "testing"]];

/// Returns whether a text is one of the usual names of a split.
pub(super) fn is_usual(name: &str) -> bool {
    group(name).is_some()
}

/// Returns whether two names mean the same split.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || group(a).is_some_and(|group_of_a| group(b) == Some(group_of_a))
}

fn group(name: &str) -> Option<usize> {
    SAME.iter().position(|names| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// Returns all names of a split, the given one first.
pub(super) fn names(split: &str) -> Vec<String> {
    let others = group(split).map_or(&[][..], |group| SAME[group]);
    let others = others.iter().filter(|other| **other != split).map(|other| (*other).to_owned());
    std::iter::once(split.to_owned()).chain(others).collect()
}

/// Chooses what is named like the split: the very name before another case, and that before another name.
pub(super) fn choose<'a, T>(
    split: &str,
    found: &'a [T],
    name: impl Fn(&T) -> &str,
) -> Option<&'a T> {
    found
        .iter()
        .find(|one| name(one) == split)
        .or_else(|| found.iter().find(|one| name(one).eq_ignore_ascii_case(split)))
        .or_else(|| found.iter().find(|one| is_same(name(one), split)))
}

/// Returns the refusal of a split that a data set does not have, with those that it has.
pub(super) fn refuse(path: &Path, split: &str, found: &[String]) -> DatasetError {
    let reason = if found.is_empty() {
        format!(
            "holds no data set of the split `{split}`, and no splits at all\n\
             hint: leave the split out to read all of it, or give the path of the split's own data"
        )
    } else {
        format!(
            "holds no data set of the split `{split}`; it has {}\nhint: give one of these splits",
            files::listed(found)
        )
    };
    DatasetError::layout(path, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_validation_are_one_split() {
        for (a, b, same) in [
            ("val", "valid", true),
            ("Validation", "val", true),
            ("train", "training", true),
            ("train", "val", false),
            ("minival", "val", false),
            ("fold1", "FOLD1", true),
        ] {
            assert_eq!(is_same(a, b), same, "{a} and {b}");
        }
        let found = ["valid", "VAL", "val"];
        assert_eq!(choose("val", &found, |name| name), Some(&"val"));
        assert_eq!(choose("val", &found[..2], |name| name), Some(&"VAL"));
        assert_eq!(choose("val", &found[..1], |name| name), Some(&"valid"));
        assert_eq!(choose("vla", &found, |name| name), None);
    }
}
