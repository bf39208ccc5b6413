//! Text from files and servers on its way to a terminal.

use std::fmt::Write;
use std::path::Path;

/// Escapes the control characters of a text, line breaks excepted: names in a file of a stranger
/// must not move the cursor, change colours or retitle the window.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Returns a path as text. Bytes that are not UTF-8 are written as `\xE9`, so that two paths never
/// become one.
#[must_use]
pub(crate) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        let text = "a\x1b[2J\u{9b}31m\r\x07\nhint: \u{fc} \u{1f600}";
        let shown = "a\\u{1b}[2J\\u{9b}31m\\r\\u{7}\nhint: \u{fc} \u{1f600}";
        assert_eq!(escaped(text), shown);
    }
}
