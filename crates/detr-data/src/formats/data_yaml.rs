//! `data.yaml` of YOLO: the names of the classes, the places of the images, and whether labels are poses.

use std::collections::BTreeMap;
use std::path::Path;

use super::yaml::{Node, Value};
use super::yolo_files::Outline;
use super::{DatasetError, splits, text};

/// The contents of the file.
pub(super) struct DataYaml {
    pub(super) path: Option<String>,
    train: Option<SplitPaths>,
    val: Option<SplitPaths>,
    valid: Option<SplitPaths>,
    validation: Option<SplitPaths>,
    test: Option<SplitPaths>,
    /// All images, where no split was asked for and none is named.
    all: Option<SplitPaths>,
    names: Names,
    /// Points of an object, and numbers of each: the label files are of poses.
    pub(super) keypoints: Option<[usize; 2]>,
}

/// The places of a split's images.
pub(super) enum SplitPaths {
    One(String),
    Several(Vec<String>),
}

enum Names {
    List(Vec<String>),
    Map(BTreeMap<u32, String>),
}

impl DataYaml {
    /// Reads and checks the file.
    pub(super) fn read(path: &Path) -> Result<Self, DatasetError> {
        let text = text::read(path, 1 << 20)?;
        let tree = Node::parse(path, &text)?;
        if !matches!(tree.value, Value::Table(_)) {
            let reason = "is no table with the keys `names`, `train` and so on\n\
                          hint: give the `data.yaml` of a YOLO data set";
            return Err(DatasetError::layout(path, reason));
        }
        let names = tree.get("names").ok_or_else(|| {
            let reason =
                "has no `names`\nhint: list the names of the classes, as in `names: [cat, dog]`";
            DatasetError::layout(path, reason)
        })?;
        let folder = tree.get("path").map(|node| {
            let wrong = || format!("`path` is {}, expected a folder", node.described());
            node.text().map(str::to_owned).ok_or_else(|| node.wrong(path, wrong()))
        });
        let places =
            |split| tree.get(split).map(|node| SplitPaths::of(node, split, path)).transpose();
        Ok(Self {
            path: folder.transpose()?,
            train: places("train")?,
            val: places("val")?,
            valid: places("valid")?,
            validation: places("validation")?,
            all: None,
            test: places("test")?,
            names: Names::of(names, path)?,
            keypoints: tree.get("kpt_shape").map(|node| keypoints(node, path)).transpose()?,
        })
    }

    /// Returns the names by class number; numbers that are left out are named after themselves.
    pub(super) fn names(&self, path: &Path) -> Result<Vec<String>, DatasetError> {
        let map = match &self.names {
            Names::List(names) => return Ok(names.clone()),
            Names::Map(map) => map,
        };
        let count = map.keys().last().map_or(0, |last| *last as usize + 1);
        if count > map.len() + 10_000 {
            let reason =
                format!("`names` has {} classes with numbers up to {}", map.len(), count - 1);
            return Err(DatasetError::layout(path, reason));
        }
        let name = |number| map.get(&number).cloned().unwrap_or_else(|| format!("class {number}"));
        Ok((0..).take(count).map(name).collect())
    }

    /// Returns what a data set without such a file says in its place.
    pub(super) fn of_outline(outline: Outline) -> Self {
        let place = |split: &str| {
            let found = splits::choose(split, &outline.splits, |(name, _)| name);
            found.map(|(_, place)| SplitPaths::One(place.clone()))
        };
        Self {
            path: None,
            train: place("train"),
            val: place("val"),
            valid: None,
            validation: None,
            test: place("test"),
            all: outline.all.clone().map(SplitPaths::One),
            names: Names::List(outline.names),
            keypoints: None,
        }
    }

    /// Returns the splits that the file names, with their places.
    pub(super) fn splits(&self) -> Vec<(&'static str, &SplitPaths)> {
        let all = [
            ("train", &self.train),
            ("val", &self.val),
            ("valid", &self.valid),
            ("validation", &self.validation),
            ("test", &self.test),
        ];
        all.into_iter().filter_map(|(name, places)| Some((name, places.as_ref()?))).collect()
    }

    /// Returns the places of a split, or of the first one.
    pub(super) fn places(&self, split: Option<&str>) -> Option<&SplitPaths> {
        let splits = self.splits();
        match split {
            Some(split) => splits::choose(split, &splits, |(name, _)| name).map(|found| found.1),
            None => self.all.as_ref().or(splits.first().map(|found| found.1)),
        }
    }
}

impl SplitPaths {
    /// Returns the places as they are written.
    pub(super) fn list(&self) -> Vec<&str> {
        match self {
            Self::One(place) => vec![place],
            Self::Several(places) => places.iter().map(String::as_str).collect(),
        }
    }

    fn of(node: &Node, split: &str, path: &Path) -> Result<Self, DatasetError> {
        let wrong = |node: &Node| {
            let reason = format!(
                "`{split}` has {}, expected a folder, a list of folders, or a text file",
                node.described()
            );
            node.wrong(path, reason)
        };
        match &node.value {
            Value::Text(place) => Ok(Self::One(place.clone())),
            Value::List(places) => {
                let text = |node: &Node| node.text().map(str::to_owned).ok_or_else(|| wrong(node));
                places.iter().map(text).collect::<Result<_, _>>().map(Self::Several)
            }
            _ => Err(wrong(node)),
        }
    }
}

impl Names {
    fn of(node: &Node, path: &Path) -> Result<Self, DatasetError> {
        match &node.value {
            Value::List(names) => {
                let names = names.iter().zip(0..).map(|(name, number)| class(name, number, path));
                names.collect::<Result<_, _>>().map(Self::List)
            }
            Value::Table(entries) => {
                let mut names = BTreeMap::new();
                for (key, name) in entries {
                    let number = whole_number(key).and_then(|number| u32::try_from(number).ok());
                    let Some(number) = number else {
                        let reason = format!(
                            "`names` has the key `{key}`, expected the number of a class\n\
                             hint: classes are numbered from 0, as in `0: cat`"
                        );
                        return Err(name.wrong(path, reason));
                    };
                    if names.insert(number, class(name, number, path)?).is_some() {
                        let reason = format!(
                            "`names` has class {number} twice\nhint: give every class one name"
                        );
                        return Err(name.wrong(path, reason));
                    }
                }
                Ok(Self::Map(names))
            }
            _ => {
                let reason = format!(
                    "`names` is {}, expected a list or a table of names\n\
                     hint: write `names: [cat, dog]`, or a line `0: cat` for each class",
                    node.described()
                );
                Err(node.wrong(path, reason))
            }
        }
    }
}

/// Returns the name of a class, as it is written.
fn class(node: &Node, number: u32, path: &Path) -> Result<String, DatasetError> {
    match &node.value {
        Value::Text(name) | Value::Null(name) if !name.is_empty() => Ok(name.clone()),
        _ => {
            let reason = format!(
                "`names` has {} for class {number}, expected a name\n\
                 hint: give every class a name; quotes make a text of anything",
                node.described()
            );
            Err(node.wrong(path, reason))
        }
    }
}

/// Returns the two numbers of `kpt_shape`.
fn keypoints(node: &Node, path: &Path) -> Result<[usize; 2], DatasetError> {
    let numbers: Option<Vec<usize>> = match &node.value {
        Value::List(list) => list.iter().map(|n| n.text().and_then(whole_number)).collect(),
        _ => None,
    };
    match numbers.as_deref() {
        Some(&[points, numbers @ (2 | 3)]) if (1..=10_000).contains(&points) => {
            Ok([points, numbers])
        }
        _ => {
            let reason = "`kpt_shape` is not the number of points and 2 or 3 numbers of each\n\
                          hint: write `kpt_shape: [17, 3]`, or remove it where labels are boxes";
            Err(node.wrong(path, reason))
        }
    }
}

/// Numbers below it are exact: above, f64 cannot tell neighbours apart.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a whole number from 0 in any notation: `1`, `1.0`, `1e0`.
pub(super) fn whole_number(text: &str) -> Option<usize> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in the range
    (number.fract() == 0.0 && (0.0..EXACT).contains(&number)).then_some(number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<(DataYaml, Vec<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.yaml");
        std::fs::write(&path, yaml).unwrap();
        let read = DataYaml::read(&path).and_then(|yaml| {
            let names = yaml.names(&path)?;
            Ok((yaml, names))
        });
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_texts_as_they_are_written() {
        for (names, expected) in [
            ("[02146, 21008, 2.50]", ["02146", "21008", "2.50"]),
            ("{0: 1, 1: no, 2: 007}", ["1", "no", "007"]),
            ("{'0': a, \"1\": b, 2.0: c}", ["a", "b", "c"]),
            ("[~, null, True]", ["~", "null", "True"]),
            ("\n- 1e3\n- 0x10 # sixteen\n- 'a b'", ["1e3", "0x10", "a b"]),
            ("\n  2: c\n  0: a\n  1: 1_000", ["a", "1_000", "c"]),
        ] {
            let (_, read) = read(&format!("train: images\nnames: {names}\n")).unwrap();
            assert_eq!(read, expected, "{names}");
        }
    }

    #[test]
    fn other_names_are_refused_in_words() {
        for (yaml, message) in [
            ("names: cat", "`names` is `cat`, expected a list or a table of names"),
            ("names: 3", "`names` is `3`"),
            ("names: [[a], b]", "`names` has a list of 1 for class 0"),
            ("names: [a, {b: c}]", "a table for class 1"),
            ("names:\n- a\n-\n", "`names` has nothing for class 1"),
            ("names: {a: 0}", "the key `a`, expected the number of a class"),
            ("names: {-1: a}", "the key `-1`"),
            ("names: {0: a, 0.0: b}", "class 0 twice"),
            ("train: x", "has no `names`"),
            ("names:", "has no `names`"),
            ("- a", "is no table"),
            ("hello", "is no table"),
            ("names: [a]\ntrain: {a: b}", "`train` has a table"),
            ("names: [a]\nval: [x, [y]]", "`val` has a list of 1"),
            ("names: [a]\npath: [x]", "`path` is a list of 1"),
            ("names: [a]\nkpt_shape: 17", "`kpt_shape` is not"),
            ("names: [a]\nkpt_shape: [17, 4]", "`kpt_shape` is not"),
            ("names: [a]\nkpt_shape: [x, 3]", "`kpt_shape` is not"),
        ] {
            let error = read(yaml).map(|(_, names)| names).unwrap_err();
            assert!(error.contains(message) && error.contains("data.yaml"), "{yaml}: {error}");
        }
        let (yaml, _) =
            read("names: [a]\npath: ~\ntest:\ntrain: 007\nkpt_shape: [17, 3.0]").unwrap();
        assert!(yaml.path.is_none() && yaml.test.is_none());
        assert_eq!(yaml.keypoints, Some([17, 3]));
        assert!(matches!(yaml.train, Some(SplitPaths::One(place)) if place == "007"));
    }

    #[test]
    fn whole_numbers_have_many_notations() {
        for (text, number) in [
            ("1", Some(1)),
            ("1.000000000000000000e+00", Some(1)),
            ("+2", Some(2)),
            ("3.", Some(3)),
            ("2e1", Some(20)),
            ("-0.0", Some(0)),
            ("1.5", None),
            ("-1", None),
            ("-1.0", None),
            ("nan", None),
            ("inf", None),
            ("1e300", None),
            ("one", None),
            ("", None),
        ] {
            assert_eq!(whole_number(text), number, "{text}");
        }
    }
}
