//! Globs over names of any bytes. The crate `glob` says whether a name matches; folders are walked here, because its
//! own walk passes over names that are not UTF-8, or ends the program at them.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern, PatternError};

use super::SourceError;

/// The characters that make a pattern of a path.
const WILDCARDS: [char; 3] = ['*', '?', '['];

/// The rule for comparing names: upper and lower case are one.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: false,
    require_literal_separator: false,
    require_literal_leading_dot: false,
};

/// A component of a pattern.
enum Part {
    /// A name, or a root.
    Literal(OsString),
    /// A name with wildcards; whether it asks for hidden names.
    Name(Pattern, bool),
    /// `**`: any number of folders.
    Folders,
}

/// Returns whether an argument that is no path may be a pattern.
pub(super) fn is_pattern(arg: &OsStr) -> bool {
    as_text(arg).contains(WILDCARDS)
}

/// Lists the files that match a pattern, by name.
///
/// # Errors
/// A pattern that is malformed or matches nothing, or a folder that cannot be listed.
pub(super) fn matching(arg: &OsStr) -> Result<Vec<PathBuf>, SourceError> {
    let malformed = |error: PatternError| SourceError::Pattern {
        pattern: arg.to_string_lossy().into_owned(),
        error,
    };
    // The whole is looked at first, so that an error has the place in it.
    Pattern::new(&as_text(arg)).map_err(malformed)?;
    let parts: Vec<Part> = Path::new(arg)
        .components()
        .filter(|component| *component != Component::CurDir)
        .map(part)
        .collect::<Result<_, _>>()
        .map_err(malformed)?;
    let mut found = Vec::new();
    walk(Path::new(""), &parts, &mut Vec::new(), &mut found)?;
    if found.is_empty() {
        return Err(SourceError::NoMatch(arg.to_string_lossy().into_owned()));
    }
    found.sort();
    // `**` reaches a file by several ways where it stands twice.
    found.dedup();
    Ok(found)
}

fn part(component: Component<'_>) -> Result<Part, PatternError> {
    let name = component.as_os_str();
    let text = as_text(name);
    Ok(match component {
        Component::Normal(_) if text == "**" => Part::Folders,
        Component::Normal(_) if text.contains(WILDCARDS) => {
            Part::Name(Pattern::new(&text)?, text.starts_with('.'))
        }
        _ => Part::Literal(name.to_owned()),
    })
}

/// Adds the files below a folder that match the parts. `above` holds the linked folders on the way, of which none is
/// entered twice.
fn walk(
    folder: &Path,
    parts: &[Part],
    above: &mut Vec<PathBuf>,
    found: &mut Vec<PathBuf>,
) -> Result<(), SourceError> {
    let Some((first, rest)) = parts.split_first() else {
        if super::is_file_or_unknown(folder) && folder.symlink_metadata().is_ok() {
            found.push(folder.to_owned());
        }
        return Ok(());
    };
    match first {
        Part::Literal(name) => walk(&folder.join(name), rest, above, found),
        Part::Name(pattern, hidden) => {
            for name in names_in(folder, *hidden)? {
                if pattern.matches_with(&as_text(&name), OPTIONS) {
                    walk(&folder.join(name), rest, above, found)?;
                }
            }
            Ok(())
        }
        Part::Folders => {
            walk(folder, rest, above, found)?;
            for name in names_in(folder, false)? {
                let path = folder.join(name);
                if !path.is_dir() {
                    continue;
                }
                // A link to a folder above would lead round and round.
                let real = if path.is_symlink() { path.canonicalize().ok() } else { None };
                let is_above = real.as_ref().is_some_and(|real| {
                    above.contains(real)
                        || std::path::absolute(&path).is_ok_and(|path| path.starts_with(real))
                });
                if is_above {
                    continue;
                }
                let linked = real.is_some();
                above.extend(real);
                walk(&path, parts, above, found)?;
                if linked {
                    above.pop();
                }
            }
            Ok(())
        }
    }
}

/// Lists the names in a folder, in their order; nothing for a path that is no folder.
fn names_in(folder: &Path, hidden: bool) -> Result<Vec<OsString>, SourceError> {
    let folder = super::folder_or_current(folder);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(super::unreadable(folder))? {
        let name = entry.map_err(super::unreadable(folder))?.file_name();
        if name.as_encoded_bytes().starts_with(b".") == hidden {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Writes a name as text for the matcher: every byte that is not UTF-8 is a character of its own, from a plane that
/// no name uses, so that `?` and `*` match it and another byte does not.
fn as_text(name: &OsStr) -> String {
    const PLANE: u32 = 0x10_ff00;
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        let bytes = chunk.invalid().iter();
        text.extend(bytes.filter_map(|&byte| char::from_u32(PLANE + u32::from(byte))));
    }
    text
}
