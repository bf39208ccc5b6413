//! Finds VOC's XML files and images. Names of folders are taken in any case of their letters, because tools
//! write `Annotations` and `annotations`, `JPEGImages` and `images`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{DatasetError, ReadOptions, files, splits, text};

/// Folders of XML files.
const ANNOTATIONS: &[&str] = &["annotations", "annotation", "xmls", "xml", "labels"];
/// Folders of images.
const IMAGES: &[&str] = &["jpegimages", "images", "image", "imgs", "img"];
/// XML files that are looked at to find out where their images are.
const SAMPLE: usize = 20;

/// Returns whether a folder, or one of its splits, holds VOC's annotations.
pub(super) fn are_in(root: &Path) -> Result<bool, DatasetError> {
    Ok(!all(root)?.is_empty() || !split_folders(root)?.is_empty())
}

/// Lists the XML files of a data set, or of one of its splits: a list in `ImageSets/Main`, or a
/// folder.
pub(super) fn annotations(
    root: &Path,
    options: &ReadOptions,
) -> Result<Vec<PathBuf>, DatasetError> {
    let Some(split) = &options.split else {
        let found = all(root)?;
        if !found.is_empty() {
            return Ok(found);
        }
        let folders = split_folders(root)?;
        return match folders.as_slice() {
            [(_, only)] => all(only),
            [] => {
                let reason = "holds no VOC annotations; looked for Annotations/*.xml and *.xml";
                Err(DatasetError::layout(root, reason))
            }
            several => {
                let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
                let reason = format!(
                    "holds several splits of VOC: {}\nhint: give the split",
                    files::listed(&names)
                );
                Err(DatasetError::layout(root, reason))
            }
        };
    };
    let lists = lists(root)?;
    let folders = split_folders(root)?;
    if let Some((_, list)) = splits::choose(split, &lists, |(name, _)| name) {
        return listed(root, list, options);
    }
    if let Some((_, folder)) = splits::choose(split, &folders, |(name, _)| name) {
        return all(folder);
    }
    let known = lists.into_iter().chain(folders).map(|(name, _)| name);
    Err(splits::refuse(root, split, &known.collect::<Vec<_>>()))
}

/// Lists all XML files of a folder: below `Annotations`, or in the folder itself.
fn all(root: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let folder = files::folder(root, ANNOTATIONS);
    let found = folder.map(|folder| files::below(&folder, &["xml"])).transpose()?;
    match found.filter(|found| !found.is_empty()) {
        Some(found) => Ok(found),
        None => files::here(root, &["xml"]),
    }
}

/// Lists the folders of splits by their names: `train` with XML files, or `Annotations/train`.
fn split_folders(root: &Path) -> Result<Vec<(String, PathBuf)>, DatasetError> {
    let annotations = files::folder(root, ANNOTATIONS);
    let mut found = Vec::new();
    for (name, folder) in [Some(root), annotations.as_deref()]
        .into_iter()
        .flatten()
        .flat_map(files::folders)
        .filter(|(name, _)| !ANNOTATIONS.iter().any(|known| name.eq_ignore_ascii_case(known)))
    {
        if !all(&folder)?.is_empty() {
            found.push((name, folder));
        }
    }
    Ok(found)
}

/// Lists the lists of splits by their names. Those of one class, such as `cat_train.txt`, are no
/// splits.
fn lists(root: &Path) -> Result<Vec<(String, PathBuf)>, DatasetError> {
    let Some(sets) = files::folder(root, &["imagesets"]) else { return Ok(Vec::new()) };
    let mut lists = Vec::new();
    for folder in files::folder(&sets, &["main"]).into_iter().chain([sets]) {
        for path in files::here(&folder, &["txt"])? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            lists.push((stem, path));
        }
    }
    let names: Vec<String> = lists.iter().map(|(name, _)| format!("_{name}")).collect();
    lists.retain(|(name, _)| !names.iter().any(|ending| name.ends_with(ending.as_str())));
    Ok(lists)
}

/// Returns the XML files that a list names.
fn listed(root: &Path, list: &Path, options: &ReadOptions) -> Result<Vec<PathBuf>, DatasetError> {
    let folder = files::folder(root, ANNOTATIONS).unwrap_or_else(|| root.to_owned());
    let inner = files::folder(&folder, &["xmls", "xml"]);
    let text = text::read(list, options.limits.annotation_bytes)?;
    // Lists of one class have a second column, and names may have blanks.
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut found = Vec::new();
    for line in names {
        let first = line.split_whitespace().next().unwrap_or_default();
        let without_extension = Path::new(first).with_extension("");
        let names = [first, line, without_extension.to_str().unwrap_or_default()];
        let mut path = None;
        for folder in [Some(&folder), inner.as_ref()].into_iter().flatten() {
            for name in names {
                let xml = super::safe_join(folder, &format!("{name}.xml")).map_err(|reason| {
                    DatasetError::layout(list, format!("the name {name:?} {reason}"))
                })?;
                path = path.or_else(|| xml.is_file().then_some(xml));
            }
        }
        // The error of reading it names it.
        found.push(path.unwrap_or_else(|| folder.join(format!("{first}.xml"))));
    }
    Ok(found)
}

/// Images by the name without its extension, where `<filename>` leads nowhere.
#[derive(Default)]
pub(super) struct Stems {
    by_stem: HashMap<String, Vec<PathBuf>>,
}

impl Stems {
    /// Lists a folder.
    pub(super) fn of(folder: &Path) -> Result<Self, DatasetError> {
        let mut by_stem: HashMap<String, Vec<PathBuf>> = HashMap::new();
        for path in files::below(folder, files::IMAGES)? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            by_stem.entry(stem).or_default().push(path);
        }
        Ok(Self { by_stem })
    }

    /// Returns the image of an XML file: named like it, or like `<filename>` but for the extension. Of several, the
    /// one in a folder of the same name is meant; without such a one it cannot be told.
    pub(super) fn find(&self, xml: &Path, file_name: Option<&str>) -> Option<&Path> {
        let stem = xml.file_stem()?.to_string_lossy().into_owned();
        let last = file_name.and_then(|name| name.rsplit(['/', '\\']).next()).unwrap_or_default();
        let named = Path::new(last);
        let is_image = files::has_extension(named, files::IMAGES);
        let without = named.file_stem().unwrap_or_default().to_string_lossy();
        let named = if is_image { without.as_ref() } else { last };
        [stem.as_str(), named].into_iter().find_map(|stem| {
            let found = self.by_stem.get(stem)?;
            let folder =
                |path: &Path| path.parent().and_then(Path::file_name).map(ToOwned::to_owned);
            let first = found.first()?;
            if found.iter().all(|path| path.parent() == first.parent()) {
                return Some(first.as_path());
            }
            found.iter().find(|path| folder(path) == folder(xml)).map(PathBuf::as_path)
        })
    }
}

/// Finds the folder of the images: the first of the usual ones that holds some of them, by `<filename>` or by the
/// name of the XML file.
pub(super) fn image_folder(root: &Path, files: &[(&Path, Option<&str>)]) -> PathBuf {
    let beside = files.first().and_then(|(xml, _)| xml.parent()).unwrap_or(root);
    let mut folders = Vec::new();
    for base in beside.ancestors().take(3).take_while(|base| base.starts_with(root)).chain([root]) {
        folders.extend(files::folder(base, IMAGES));
    }
    folders.push(beside.to_owned());
    folders.push(root.to_owned());
    let sample = &files[..files.len().min(SAMPLE)];
    let has_named = |folder: &&PathBuf| {
        let named = |name: &str| super::safe_join(folder, name).is_ok_and(|path| path.is_file());
        sample.iter().any(|(_, name)| name.is_some_and(named))
    };
    let has_stem = |folder: &&PathBuf| {
        Stems::of(folder)
            .is_ok_and(|stems| sample.iter().any(|(xml, name)| stems.find(xml, *name).is_some()))
    };
    let found = folders.iter().find(has_named).or_else(|| folders.iter().find(has_stem));
    found.or(folders.first()).cloned().unwrap_or_else(|| root.to_owned())
}
