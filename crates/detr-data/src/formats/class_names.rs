//! The classes of formats that have no list of them (VOC, KITTI): those that occur in any split of the data set, so
//! that splits which are read one by one number their classes alike, even where one of them lacks a class.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::named::NamedImage;

/// Words for a split in the name of a folder.
const SPLITS: [&str; 13] = [
    "train",
    "training",
    "trainval",
    "val",
    "valid",
    "validation",
    "test",
    "testing",
    "dev",
    "eval",
    "minival",
    "trainset",
    "testset",
];

/// Returns the classes on some images and in the rest of their data set, in the order of the alphabet.
pub(super) fn all(images: &[NamedImage], elsewhere: BTreeSet<String>) -> Vec<String> {
    let objects = images.iter().flat_map(|image| &image.objects);
    let mut names = elsewhere;
    names.extend(objects.map(|object| object.class.clone()));
    names.into_iter().collect()
}

/// Returns the folders in which other parts of a data set may be: the folder itself, those in it that are named as
/// splits, and those beside it if it is named as a split.
pub(super) fn folders_of_splits(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    folders.extend(splits_in(root));
    // `.` and `..` have a name only in full.
    let full = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    if let (Some(words), Some(parent)) = (words_beside_split(&full), full.parent()) {
        let belongs = |folder: &PathBuf| {
            let others = words_beside_split(folder).unwrap_or_default();
            let (all, few) =
                if words.len() < others.len() { (&others, &words) } else { (&words, &others) };
            *folder != full && few.iter().all(|word| all.contains(word))
        };
        folders.extend(splits_in(parent).into_iter().filter(belongs));
    }
    folders
}

/// Lists the folders in a folder that are named as splits. One that cannot be listed has none.
fn splits_in(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let paths = folders.map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| words_beside_split(path).is_some()).collect();
    found.sort();
    found
}

/// Returns the words in the name of a folder but for that of a split, as `small` in `small-val2017`: splits of one
/// data set share them. Returns `None` if the name has no split.
fn words_beside_split(folder: &Path) -> Option<Vec<String>> {
    let name = folder.file_name()?.to_str()?.to_ascii_lowercase();
    let mut words: Vec<String> = name.split(['_', '-', '.', ' ']).map(str::to_owned).collect();
    let is_split =
        |word: &String| SPLITS.contains(&word.trim_end_matches(|c: char| c.is_ascii_digit()));
    let at = words.iter().position(is_split).filter(|_| !name.starts_with('.'))?;
    words.remove(at);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_splits_are_in_the_folder_or_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["train2017", "VAL-small", "images", "train2017/test", ".val", "cats_test", "dogs_val"]
        {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let root = folder.path().canonicalize().unwrap();
        let found = |name: &str| {
            let folders = folders_of_splits(&root.join(name));
            let relative = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
            folders.iter().map(relative).collect::<Vec<_>>()
        };
        assert_eq!(found(""), ["", "VAL-small", "cats_test", "dogs_val", "train2017"]);
        let beside = ["train2017", "train2017/test", "VAL-small", "cats_test", "dogs_val"];
        assert_eq!(found("train2017"), beside);
        assert_eq!(found("cats_test"), ["cats_test", "train2017"], "dogs are other data");
        assert_eq!(found("images"), ["images"]);
    }
}
