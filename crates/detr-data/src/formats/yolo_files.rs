//! Finds YOLO's images and labels: the folders and lists that `data.yaml` names, wherever they were written, and
//! the layouts that name the classes in a text file: Label Studio's `classes.txt` and darknet's `obj.data`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::paths::{self, DatasetRoot, Folders, OUTSIDE_HINT, UnsafeName};
use super::{DatasetError, ReadOptions, files, neighbour, splits, text};
use crate::dataset::{Builder, Problem};

/// Folders of images.
const IMAGES: &[&str] = &["images", "image", "jpegimages", "imgs", "img"];

/// An image with its name in the data set.
pub(super) type ListedImage = (PathBuf, String);

/// The folders of a data set, and the places in it that are named.
pub(super) struct YoloFolders<'a> {
    /// The file that names the places, for messages.
    file: &'a Path,
    /// The folder of that file.
    here: PathBuf,
    /// The folder that the places are relative to.
    base: PathBuf,
    inside: Folders,
    options: &'a ReadOptions,
}

impl<'a> YoloFolders<'a> {
    /// Creates the places relative to `path`, which is relative to the folder of the file.
    pub(super) fn new(
        file: &'a Path,
        path: Option<&str>,
        named: &[&str],
        options: &'a ReadOptions,
    ) -> Result<Self, DatasetError> {
        let here = own_folder(file);
        let mut inside = Folders::default();
        inside.add(&here);
        let mut places = Self { file, base: here.clone(), here, inside, options };
        places.base = places.base_folder(path, named)?;
        places.inside.add(&places.base);
        Ok(places)
    }

    /// Returns the folder that places are relative to.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Opens the root that all images must be in.
    pub(super) fn root(&self) -> Result<DatasetRoot, DatasetError> {
        let Self { base, options, .. } = self;
        let root = DatasetRoot::new(base, options.allow_outside, options.check_files)
            .map_err(DatasetError::io(base))?;
        // `path:` may lead to a folder below the data set's own.
        Ok(if options.images.is_some() { root } else { root.within(&self.here) })
    }

    /// Returns the folder that `path:` names.
    fn base_folder(&self, path: Option<&str>, named: &[&str]) -> Result<PathBuf, DatasetError> {
        let here = &self.here;
        if let Some(folder) = &self.options.images {
            return Ok(folder.clone());
        }
        let Some(path) = path.filter(|path| !matches!(*path, "" | "." | "./")) else {
            return Ok(here.clone());
        };
        if self.options.allow_outside && here.join(path).is_dir() {
            return Ok(here.join(path));
        }
        if let Some(inside) = self.inside.below(&here.join(path)).filter(|path| path.is_dir()) {
            return Ok(inside);
        }
        let tails = paths::clean(path).into_iter().chain(paths::tails(path));
        let moved = tails.map(|tail| here.join(tail)).find(|folder| folder.is_dir());
        if let Some(folder) = moved {
            return Ok(folder);
        }
        // If the file was written for another machine or working folder, the splits may be beside it.
        let is_beside = |place: &&str| {
            let place = place.trim_start_matches("../");
            paths::clean(place).is_ok_and(|place| here.join(place).exists())
                || paths::tails(place).iter().any(|tail| here.join(tail).exists())
        };
        let usual = ["train", "val", "valid", "test", "images"];
        if named.iter().any(is_beside) || files::folder(here, &usual).is_some() {
            return Ok(here.clone());
        }
        let reason = format!(
            "`path: {path}` is not a folder below it\nhint: give the folder of the images, or, {OUTSIDE_HINT}"
        );
        Err(DatasetError::layout(self.file, reason))
    }

    /// Resolves the folders or lists of a split. `all` are the places of all splits: two of them that would
    /// become one by leaving out parts of their names are refused.
    pub(super) fn resolve(
        &self,
        places: &[&str],
        all: &[&str],
    ) -> Result<Vec<PathBuf>, DatasetError> {
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            let (path, is_exact) = self.resolve_one(place)?;
            if !is_exact {
                let same = all
                    .iter()
                    .filter(|other| *other != place)
                    .find(|other| self.resolve_one(other).is_ok_and(|(other, _)| other == path));
                if let Some(other) = same {
                    let reason = format!(
                        "the places {place:?} and {other:?} are not there, and both end like {}\n\
                         hint: write where they are, relative to this file",
                        path.display()
                    );
                    return Err(DatasetError::layout(self.file, reason));
                }
            }
            found.push(path);
        }
        Ok(found)
    }

    /// Resolves a folder or list, and returns whether it is where its whole name says.
    fn resolve_one(&self, place: &str) -> Result<(PathBuf, bool), DatasetError> {
        let Self { base, here, .. } = self;
        if self.options.allow_outside && base.join(place).exists() {
            return Ok((base.join(place), true));
        }
        let slashes = place.replace('\\', "/");
        for folder in [base, here] {
            if let Some(path) = self.inside.below(&folder.join(&slashes))
                && path.exists()
            {
                return Ok((path, true));
            }
        }
        let inside = paths::clean(slashes.trim_start_matches("../"));
        if let Ok(inside) = &inside
            && base.join(inside).exists()
        {
            return Ok((base.join(inside), true));
        }
        for tail in paths::tails(place) {
            for folder in [base, here] {
                if folder.join(&tail).exists() {
                    return Ok((folder.join(&tail), false));
                }
            }
        }
        let reason = match inside {
            Ok(inside) => {
                let near = neighbour::describe(base, &inside);
                let near = near.map_or(String::new(), |near| format!("; {near}"));
                format!("names {inside}, which is not in {}{near}", base.display())
            }
            Err(reason) => format!("the place {place:?} {reason}\nhint: {OUTSIDE_HINT}"),
        };
        Err(DatasetError::layout(self.file, reason))
    }

    /// Lists the images of a folder, or those that a text file lists; with their names in the folder, so that a
    /// data set that was converted has its old names.
    pub(super) fn images(
        &self,
        place: &Path,
        root: &DatasetRoot,
        builder: &mut Builder,
    ) -> Result<Vec<ListedImage>, DatasetError> {
        if place.is_dir() {
            let found = root.images(place, &mut builder.report)?.into_iter();
            return Ok(found.map(|path| (path.clone(), files::relative(&path, place))).collect());
        }
        let text = text::read(place, self.options.limits.annotation_bytes)?;
        let list_folder = place.parent().unwrap_or(&self.here);
        let mut images = Vec::new();
        let mut lines: HashMap<PathBuf, &str> = HashMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match self.listed(line, list_folder) {
                Ok((path, name, by_tail)) => {
                    let other = lines.insert(path.clone(), line);
                    // Two names that differ in the part that was left out.
                    if by_tail && let Some(other) = other.filter(|other| *other != line) {
                        let example = format!("{line}: ends like {other}, and is not there itself");
                        builder.report.add(Problem::UnsafeFileName, example);
                        continue;
                    }
                    if by_tail {
                        builder.report.add(Problem::NameOfOtherPlace, line);
                    }
                    images.push((path, name));
                }
                Err(reason) => {
                    builder.report.add(Problem::UnsafeFileName, format!("{line}: {reason}"));
                }
            }
        }
        Ok(images)
    }

    /// Finds the file of a line of a list; returns it, its name, and whether only the end of the
    /// line leads to it.
    fn listed(
        &self,
        line: &str,
        list_folder: &Path,
    ) -> Result<(PathBuf, String, bool), UnsafeName> {
        let base = &self.base;
        let cleaned = paths::clean(line);
        if let Ok(name) = &cleaned {
            let found = [base.as_path(), list_folder, &self.here]
                .into_iter()
                .map(|folder| folder.join(name))
                .find(|path| !self.options.check_files || path.symlink_metadata().is_ok());
            if let Some(path) = found {
                return Ok((path, name.clone(), false));
            }
        }
        let slashes = line.replace('\\', "/");
        for folder in [base.as_path(), list_folder] {
            let path = folder.join(&slashes);
            if let Some(path) = self.inside.below(&path)
                && path.symlink_metadata().is_ok()
            {
                let name = files::relative(&path, base);
                return Ok((path, name, false));
            }
            if self.options.allow_outside && path.exists() && cleaned.is_err() {
                let name = line.trim_start_matches(['/', '.']).to_owned();
                return Ok((path, name, false));
            }
        }
        for tail in paths::tails(line) {
            if let Some(path) = [base, &self.here]
                .into_iter()
                .map(|folder| folder.join(&tail))
                .find(|path| path.is_file())
            {
                return Ok((path, tail, true));
            }
        }
        let name = cleaned?;
        Ok((base.join(&name), name, false))
    }

    /// Finds the label file of an image: `a/images/b/c.jpg` has its labels in `a/labels/b/c.txt`; if there is no
    /// such file, beside it. Folders above the data set's own have no part in it, so the data are the same
    /// wherever they are read from.
    pub(super) fn label(&self, image: &Path) -> Option<PathBuf> {
        // A folder of images that was given is part of the name where it is not below the file.
        let given = self.base.parent().filter(|_| self.options.images.is_some());
        let folders = [Some(self.here.as_path()), given, Some(self.base.as_path())];
        let base = folders.into_iter().flatten().find_map(|folder| {
            let inner = image.strip_prefix(folder).ok()?;
            Some((folder.to_owned(), inner))
        });
        let (above, inner) = base.unwrap_or((PathBuf::new(), image));
        let parts: Vec<_> = inner.iter().collect();
        let folders = parts.iter().take(parts.len().saturating_sub(1)).enumerate().rev();
        let is_images = |part: &std::ffi::OsStr| part.eq_ignore_ascii_case("images");
        let beside = image.with_extension("txt");
        for (at, _) in folders.filter(|(_, part)| is_images(part)) {
            let before: PathBuf = parts[..at].iter().collect();
            let after: PathBuf = parts[at + 1..].iter().collect();
            let before = above.join(before);
            for labels in ["labels", "Labels", "LABELS"] {
                let label = before.join(labels).join(&after).with_extension("txt");
                if label.is_file() {
                    return Some(label);
                }
            }
        }
        beside.is_file().then_some(beside)
    }
}

/// The names in a data set without a YAML file: its classes and the places of its splits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// Names of the classes.
    pub(super) names: Vec<String>,
    /// Places by the names of their splits.
    pub(super) splits: Vec<(String, String)>,
    /// The place of all images.
    pub(super) all: Option<String>,
}

/// Returns the file that names the classes of a data set without a YAML file.
pub(super) fn outline_file(root: &Path) -> Result<Option<PathBuf>, DatasetError> {
    for path in files::here(root, &["data"])? {
        let is_darknet = text::read(&path, 1 << 16).is_ok_and(|text| {
            let settings = settings(&text);
            settings.contains_key("names") && settings.contains_key("train")
        });
        if is_darknet {
            return Ok(Some(path));
        }
    }
    let labels = files::folder(root, &["labels"]);
    let folders = [Some(root.to_owned()), labels.clone()];
    for folder in folders.into_iter().flatten() {
        for name in ["classes.txt", "obj.names", "classes.names"] {
            let path = folder.join(name);
            if path.is_file() && has_labels(root, labels.as_deref())? {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Returns whether a file given by itself names the classes of a data set.
pub(super) fn is_outline(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    matches!(name.as_str(), "classes.txt" | "obj.names" | "classes.names")
        || files::has_extension(path, &["data"])
}

/// Returns whether any of the first label files starts with a number and four more, as YOLO's do.
fn has_labels(root: &Path, labels: Option<&Path>) -> Result<bool, DatasetError> {
    let found = match labels {
        Some(labels) => files::below(labels, &["txt"])?,
        None => files::below(root, &["txt"])?,
    };
    Ok(found.iter().take(50).any(|path| {
        text::read(path, 1 << 20).is_ok_and(|text| {
            let Some(line) = text.lines().find(|line| !line.trim().is_empty()) else {
                return false;
            };
            let columns = line.split_whitespace();
            let numbers: Option<Vec<f64>> = columns.map(|column| column.parse().ok()).collect();
            numbers.is_some_and(|numbers| numbers.len() >= 5)
        })
    }))
}

/// Reads what a file names: darknet's `obj.data`, or a list of classes.
pub(super) fn outline(path: &Path) -> Result<Outline, DatasetError> {
    let here = own_folder(path);
    if !files::has_extension(path, &["data"]) {
        return Ok(Outline { names: names(path)?, ..around(&here) });
    }
    let text = text::read(path, 1 << 20)?;
    let settings = settings(&text);
    let named = |key: &str| settings.get(key).filter(|value| !value.is_empty());
    let Some(names_file) = named("names") else {
        let reason = "has no line `names = FILE`\nhint: name the file of the classes";
        return Err(DatasetError::layout(path, reason));
    };
    // Darknet writes names for the folder that it is started in.
    let tails = paths::clean(names_file).into_iter().chain(paths::tails(names_file));
    let found = tails.map(|tail| here.join(tail)).find(|path| path.is_file());
    let Some(found) = found else {
        let reason =
            format!("names the classes in {names_file}, which is not there\nhint: copy the file");
        return Err(DatasetError::layout(path, reason));
    };
    let keys = ["train", "valid", "test"];
    let splits = keys.iter().filter_map(|key| Some(((*key).to_owned(), named(key)?.clone())));
    Ok(Outline { names: names(&found)?, splits: splits.collect(), all: None })
}

/// Returns the folder of the data set that a file describes: its own, or the one above for a list of classes that
/// labelImg wrote beside the labels.
fn own_folder(file: &Path) -> PathBuf {
    let or_dot = |folder: Option<&Path>| match folder {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let here = or_dot(file.parent());
    let is_labels = here.file_name().is_some_and(|name| name.eq_ignore_ascii_case("labels"));
    if is_labels && is_outline(file) { or_dot(here.parent()) } else { here }
}

/// Finds the places of images around a list of classes.
fn around(root: &Path) -> Outline {
    let images = files::folder(root, IMAGES);
    let mut found = Outline::default();
    for folder in images.iter().map(PathBuf::as_path).chain([root]) {
        for (name, path) in files::folders(folder) {
            if splits::is_usual(&name) && !found.splits.iter().any(|(known, _)| *known == name) {
                found.splits.push((name, files::relative(&path, root)));
            }
        }
    }
    let all = images.map_or_else(|| ".".to_owned(), |images| files::relative(&images, root));
    found.all = Some(all);
    found
}

/// Reads one name per line.
fn names(path: &Path) -> Result<Vec<String>, DatasetError> {
    let text = text::read(path, 1 << 20)?;
    Ok(text.trim_end().lines().map(|line| line.trim().to_owned()).collect())
}

/// Reads lines of the form `key = value`.
fn settings(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}
