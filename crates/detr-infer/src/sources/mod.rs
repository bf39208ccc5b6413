//! Expands the arguments of a command: files, folders, globs, lists and stdin become one list of
//! images to read. Nothing is decoded here, and names are all that is looked at.

mod error;
mod pattern;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use detr_types::Limits;

pub use self::error::SourceError;
use self::pattern::{is_pattern, matching};
use crate::text::shown;

/// Extensions of the files taken from a folder.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "bmp", "webp", "ppm", "pgm", "pbm", "pnm"];

/// The origin of the bytes of one image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input, up to its end.
    Stdin,
}

impl Source {
    /// Returns the name in messages and results: the path as given, or `stdin`. Bytes that are not UTF-8 are
    /// written as `\xE9`, so that every file keeps a name of its own.
    #[must_use]
    pub fn name(&self) -> String {
        shown(self.path())
    }

    /// Returns the path as given, or `stdin`: files of results are named after it.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Stdin => Path::new("stdin"),
        }
    }
}

/// Lists the images that a command's arguments stand for, in their order, each once.
///
/// - a file;
/// - a folder: the files directly inside with an extension of an image (jpg, jpeg, png, bmp, webp,
///   ppm, pgm, pbm, pnm), by name; hidden ones are skipped;
/// - a glob with `*`, `?` or `[`: the matching files, by name; `**` stands for any number of
///   folders, and hidden files match only a pattern that starts with a dot. A path that exists
///   literally is never a glob;
/// - `@list.txt`: one path a line, relative to the folder of the list; blank lines and lines that
///   start with `#` are skipped;
/// - `-`: one image from stdin.
///
/// A file called `-`, or one that starts with `@`, is written with `./` in front. Files named in
/// a list need not exist: reading them fails later, image by image.
///
/// # Errors
/// The first argument that leads to nothing; see [`SourceError`].
pub fn expand_sources(args: &[impl AsRef<OsStr>]) -> Result<Vec<Source>, SourceError> {
    Ok(expand_sources_counted(args)?.0)
}

/// Expands sources as [`expand_sources`] does, and returns the number of duplicates that were left
/// out, too.
///
/// Two paths are the same if they name the same entry of the same folder; links to one file under
/// different names are not.
///
/// # Errors
/// Those of [`expand_sources`].
pub fn expand_sources_counted(
    args: &[impl AsRef<OsStr>],
) -> Result<(Vec<Source>, usize), SourceError> {
    if args.is_empty() {
        return Err(SourceError::Nothing);
    }
    let mut collected = SourceList::default();
    for arg in args {
        let arg = arg.as_ref();
        if arg == "-" {
            if collected.sources.contains(&Source::Stdin) {
                return Err(SourceError::StdinTwice);
            }
            collected.sources.push(Source::Stdin);
        } else if let Some(list) = list_of(arg) {
            let paths = read_list(list).map_err(|error| match error {
                SourceError::Missing(_) if Path::new(arg).exists() => {
                    SourceError::MissingList { list: list.to_owned(), file: PathBuf::from(arg) }
                }
                other => other,
            })?;
            collected.extend(paths);
        } else {
            collected.extend(expand_path(arg)?);
        }
    }
    Ok((collected.sources, collected.duplicates))
}

/// The sources so far, and what is needed to see a file a second time.
#[derive(Default)]
struct SourceList {
    sources: Vec<Source>,
    seen: HashSet<(PathBuf, OsString)>,
    /// Folders by the way they were written; resolving one asks the file system.
    folders: HashMap<PathBuf, PathBuf>,
    duplicates: usize,
}

impl SourceList {
    fn extend(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            if self.is_new(&path) {
                self.sources.push(Source::File(path));
            } else {
                self.duplicates += 1;
            }
        }
    }

    fn is_new(&mut self, path: &Path) -> bool {
        let Some(name) = path.file_name() else {
            return self.seen.insert((path.to_owned(), OsString::new()));
        };
        let parent = folder_of(path);
        if !self.folders.contains_key(parent) {
            let folder = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
            self.folders.insert(parent.to_owned(), folder);
        }
        let folder = self.folders.get(parent).map_or(parent, PathBuf::as_path);
        self.seen.insert((folder.to_owned(), name.to_owned()))
    }
}

/// Returns the list that an argument names, if it starts with `@`.
fn list_of(arg: &OsStr) -> Option<&Path> {
    arg.as_encoded_bytes().starts_with(b"@").then(|| Path::new(after_first_byte(arg)))
}

/// Returns an argument that starts with an ASCII character, without this character.
#[cfg(unix)]
fn after_first_byte(arg: &OsStr) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(&arg.as_bytes()[1..])
}

/// Returns an argument that starts with an ASCII character, without this character. One that is no
/// text has no list.
#[cfg(not(unix))]
fn after_first_byte(arg: &OsStr) -> &OsStr {
    OsStr::new(arg.to_str().map_or("", |text| &text[1..]))
}

/// Returns the folder a path lies in, `.` for a bare name.
fn folder_of(path: &Path) -> &Path {
    folder_or_current(path.parent().unwrap_or(Path::new("")))
}

/// Returns a folder, `.` for the empty path.
fn folder_or_current(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    move |error| SourceError::Unreadable { path: path.to_owned(), error }
}

/// Expands a file, a folder or, if there is neither, a glob.
fn expand_path(arg: &OsStr) -> Result<Vec<PathBuf>, SourceError> {
    let path = Path::new(arg);
    match path.metadata() {
        Ok(data) if data.is_dir() => images_in(path),
        Ok(_) => Ok(vec![path.to_owned()]),
        Err(_) if is_url(arg) => Err(SourceError::Url(arg.to_string_lossy().into_owned())),
        Err(_) if is_pattern(arg) => matching(arg),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SourceError::Missing(path.to_owned()))
        }
        Err(error) => Err(unreadable(path)(error)),
    }
}

/// Lists the images directly in a folder, by name.
fn images_in(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let mut images = Vec::new();
    for entry in folder.read_dir().map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if is_image_name(&path) && is_file_or_unknown(&path) {
            images.push(path);
        }
    }
    if images.is_empty() {
        return Err(SourceError::EmptyFolder(folder.to_owned()));
    }
    images.sort();
    Ok(images)
}

/// Returns whether the name is that of an image and not hidden. Copies made on macOS leave hidden
/// companions such as `._street.jpg`, which hold no image.
fn is_image_name(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str());
    let known = |name: &str| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(name));
    !hidden && extension.is_some_and(known)
}

/// Returns whether a path is no folder, pipe or device. A broken link counts as a file, so that
/// reading it says so.
fn is_file_or_unknown(path: &Path) -> bool {
    path.metadata().map_or(true, |data| data.is_file())
}

/// Returns whether an argument is an address on the network, such as
/// `https://example.com/street.jpg`.
fn is_url(arg: &OsStr) -> bool {
    let text = arg.to_string_lossy();
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Reads the paths in a list, relative to the folder it lies in.
fn read_list(list: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let limit = Limits::default().json_bytes;
    let file = std::fs::File::open(list).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SourceError::Missing(list.to_owned()),
        _ => unreadable(list)(error),
    })?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable(list))?;
    if bytes.len() as u64 > limit {
        return Err(SourceError::LongList { path: list.to_owned(), limit });
    }
    let folder = list.parent().unwrap_or(Path::new(""));
    let mut paths = Vec::new();
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        let path = match std::str::from_utf8(line).map(str::trim) {
            Ok("") => continue,
            _ if line.trim_ascii_start().starts_with(b"#") => continue,
            Ok(line) => folder.join(line),
            // A list in another encoding is told from names of such bytes by what is there.
            Err(_) => named_by_bytes(line.trim_ascii())
                .map(|name| folder.join(name))
                .filter(|path| path.exists())
                .ok_or_else(|| SourceError::NotText { path: list.to_owned(), line: number })?,
        };
        paths.push(path);
    }
    if paths.is_empty() {
        return Err(SourceError::EmptyList(list.to_owned()));
    }
    Ok(paths)
}

/// Makes a name of bytes that are not UTF-8, if the system has such names.
#[cfg(unix)]
fn named_by_bytes(bytes: &[u8]) -> Option<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    (!bytes.contains(&0)).then(|| OsStr::from_bytes(bytes))
}

/// Makes a name of bytes that are not UTF-8, if the system has such names.
#[cfg(not(unix))]
const fn named_by_bytes(_: &[u8]) -> Option<&OsStr> {
    None
}

#[cfg(test)]
mod tests;
