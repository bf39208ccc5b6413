//! Finds a missing file under a name that people take for the same: in another case, another form
//! of Unicode, another encoding, or with another extension.

use std::ffi::OsStr;
use std::path::Path;

use super::files;
use crate::dataset::{Occurrences, Problem, ReadReport};

/// The most files of a folder that are compared with a name.
const MOST: usize = 200_000;

/// Counts a file that does not exist, and names the one that was probably meant.
pub(super) fn add_missing(report: &mut ReadReport, folder: &Path, name: &str) {
    // Comparing costs a list of the folder, so it is done for the examples that are shown.
    let is_shown = report.count(Problem::MissingFile) < Occurrences::EXAMPLES;
    match is_shown.then(|| describe(folder, name)).flatten() {
        Some(other) => report.add(Problem::MissingFile, format!("{name} ({other})")),
        None => report.add(Problem::MissingFile, name),
    }
}

/// Counts a file whose name is not UTF-8; it is read all the same.
pub(super) fn note_encoding(report: &mut ReadReport, path: &Path) {
    let name = path.file_name().unwrap_or_default();
    if path.to_str().is_none() {
        report.add(Problem::NameNotUtf8, shown(name));
    }
}

/// Returns the name of the file that was probably meant, for a message, and how it differs. Folders on the way are
/// looked at in the same manner.
pub(super) fn describe(folder: &Path, name: &str) -> Option<String> {
    let mut at = folder.to_owned();
    let (mut found, mut differs) = (Vec::new(), None);
    for part in name.split('/').filter(|part| !part.is_empty()) {
        let exact = at.join(part);
        if exact.symlink_metadata().is_ok() {
            found.push(part.to_owned());
            at = exact;
            continue;
        }
        let (other, how) = nearest(&at, part)?;
        found.push(shown(&other));
        at.push(other);
        differs = differs.or(Some(how));
    }
    differs.map(|how| format!("there is {}, {how}", found.join("/")))
}

fn nearest(folder: &Path, name: &str) -> Option<(std::ffi::OsString, &'static str)> {
    let entries = folder.read_dir().ok()?.flatten().take(MOST);
    let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    let find = |is: &dyn Fn(&OsStr) -> bool| names.iter().find(|other| is(other)).cloned();
    let text = |other: &OsStr| other.to_str().map(str::to_owned);
    let lower = name.to_lowercase();
    if let Some(other) = find(&|other| text(other).is_some_and(|t| t.to_lowercase() == lower)) {
        return Some((other, "in another case"));
    }
    let wanted = skeleton(name.as_bytes());
    let alike = |other: &OsStr| skeleton(other.as_encoded_bytes()) == wanted;
    if !name.is_ascii() {
        let composed = |text: &str| text.chars().any(is_part_of_character);
        let form = |other: &OsStr| {
            alike(other) && text(other).is_some_and(|other| composed(&other) != composed(name))
        };
        if let Some(other) = find(&form) {
            return Some((other, "in another form of Unicode (NFC or NFD)"));
        }
        let encoded = |other: &OsStr| {
            text(other).is_none_or(|other| {
                as_latin1(&other).as_deref() == Some(name)
                    || as_latin1(name).is_some_and(|name| name == other)
            }) && alike(other)
        };
        if let Some(other) = find(&encoded) {
            return Some((other, "in another encoding"));
        }
    }
    let decoded = percent_decoded(name);
    if let Some(other) = find(&|other| {
        text(other).is_some_and(|other| other == decoded || percent_decoded(&other) == name)
    }) {
        return Some((other, "without the signs of a web address"));
    }
    let stem = Path::new(name).file_stem()?;
    let is_image = |other: &OsStr| files::has_extension(Path::new(other), files::IMAGES);
    let other = find(&|other| is_image(other) && Path::new(other).file_stem() == Some(stem))?;
    is_image(name.as_ref()).then_some((other, "with another extension"))
}

/// Returns whether a character is a part of a decomposed one: a combining mark, or a letter of a Korean syllable.
fn is_part_of_character(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1100}'..='\u{11ff}' | '\u{3099}' | '\u{309a}')
}

/// Returns the name in lower case with one `?` for all that is not ASCII and stands together, so that a character,
/// its decomposed form and its bytes in any encoding are alike.
fn skeleton(name: &[u8]) -> Vec<u8> {
    let mut skeleton: Vec<u8> = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_ascii() {
                skeleton.push(c.to_ascii_lowercase() as u8);
                continue;
            }
            if ('\u{300}'..='\u{36f}').contains(&c)
                && skeleton.last().is_some_and(u8::is_ascii_alphabetic)
            {
                skeleton.pop();
            }
            push_other(&mut skeleton);
        }
        if !chunk.invalid().is_empty() {
            push_other(&mut skeleton);
        }
    }
    skeleton
}

fn push_other(skeleton: &mut Vec<u8>) {
    if skeleton.last() != Some(&b'?') {
        skeleton.push(b'?');
    }
}

/// Returns the text that was meant by a name whose UTF-8 was once read as Latin-1.
fn as_latin1(name: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = name.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    String::from_utf8(bytes?).ok()
}

/// Returns a name with `%20` and the like as the characters that they stand for.
pub(super) fn percent_decoded(name: &str) -> String {
    let (bytes, mut decoded, mut at) = (name.as_bytes(), Vec::with_capacity(name.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 3).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        if let (b'%', Some(code)) = (byte, code) {
            decoded.push(code);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| name.to_owned())
}

/// Returns a name with everything escaped that may look like something else.
pub(super) fn shown(name: &OsStr) -> String {
    let mut shown = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_part_of_character(c) {
                shown.extend(c.escape_unicode());
            } else {
                shown.push(c);
            }
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_was_meant_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("Images")).unwrap();
        for name in
            ["Images/a.png", "DSC_0.JPG", "cafe\u{301}.jpg", "my dog.jpg", "gr\u{c3}\u{bc}n.jpg"]
        {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        for (name, part) in [
            ("DSC_0.jpg", "there is DSC_0.JPG, in another case"),
            ("images/a.png", "there is Images/a.png, in another case"),
            ("images/a.jpg", "there is Images/a.png, in another case"),
            ("caf\u{e9}.jpg", "cafe\\u{301}.jpg, in another form of Unicode"),
            ("my%20dog.jpg", "there is my dog.jpg"),
            ("gr\u{fc}n.jpg", "in another encoding"),
            ("my dog.png", "there is my dog.jpg, with another extension"),
        ] {
            let found = describe(folder.path(), name).unwrap_or_default();
            assert!(found.contains(part), "{name}: {found}");
        }
        assert_eq!(describe(folder.path(), "nothing.jpg"), None);
        assert_eq!(describe(folder.path(), "\u{753b}1.jpg"), None);
    }
}
