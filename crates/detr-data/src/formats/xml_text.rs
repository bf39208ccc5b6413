//! The text of an XML file, which says in its first line how it is encoded.

use std::path::Path;

use super::{DatasetError, text};

/// The characters that Windows-1252 has between 0x80 and 0x9f, where ISO-8859-1 has control characters; unused places stay these.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Reads a file in UTF-8, in UTF-16 by its mark, or in the ISO-8859-1 or Windows-1252 that it declares.
///
/// # Errors
/// Another encoding, and text that is not in its encoding.
pub(super) fn read(path: &Path, limit: u64) -> Result<String, DatasetError> {
    let bytes = text::read_bytes(path, limit)?;
    decode(&bytes).map_err(|(offset, reason)| text::syntax(path, &bytes, offset, reason))
}

/// Decodes the text, or returns the byte where it ends being one.
fn decode(bytes: &[u8]) -> Result<String, (usize, String)> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => return utf16(rest, u16::from_le_bytes, 2),
        [0xfe, 0xff, rest @ ..] => return utf16(rest, u16::from_be_bytes, 2),
        // The text has no byte-order mark: `<` comes first.
        [b'<', 0, _, 0, ..] => return utf16(bytes, u16::from_le_bytes, 0),
        [0, b'<', 0, _, ..] => return utf16(bytes, u16::from_be_bytes, 0),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let error = match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => return Ok(text.to_owned()),
        Ok(text) => Ok(text),
        Err(error) => Err(error.valid_up_to()),
    };
    let declared = declared(bytes).unwrap_or_default();
    match (declared.to_ascii_lowercase().as_str(), error) {
        ("iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "latin-1" | "l1", _) => {
            Ok(bytes.iter().map(|&byte| char::from(byte)).collect())
        }
        ("windows-1252" | "cp1252" | "cp-1252" | "x-cp1252", _) => {
            let char_of = |byte: u8| match byte {
                0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
                _ => char::from(byte),
            };
            Ok(bytes.iter().map(|&byte| char_of(byte)).collect())
        }
        // A file that can be read here is not in UTF-16, whatever it was before.
        ("" | "utf-8" | "utf8" | "us-ascii" | "ascii" | "utf-16" | "unicode", Ok(text)) => {
            Ok(text.to_owned())
        }
        ("" | "utf-8" | "utf8", Err(offset)) => {
            Err((offset, "the text is not valid UTF-8\nhint: save it as UTF-8".to_owned()))
        }
        (_, found) => {
            let reason = format!(
                "the file is declared to be in {declared:?}, which is not read\n\
                 hint: save it as UTF-8, and declare that"
            );
            Err((found.err().unwrap_or(0), reason))
        }
    }
}

/// Reads the encoding in `<?xml version="1.0" encoding="..."?>`.
fn declared(bytes: &[u8]) -> Option<String> {
    let start = &bytes[..bytes.len().min(256)];
    let text: String = start.iter().map(|&byte| char::from(byte)).collect();
    let line = text.trim_start().strip_prefix("<?xml")?.split("?>").next()?;
    let value = line.split("encoding").nth(1)?.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let name = value[1..].split(quote).next()?;
    Some(name.trim().chars().take(40).collect())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, before: usize) -> Result<String, (usize, String)> {
    let (units, rest) = bytes.as_chunks::<2>();
    let wrong =
        |offset| Err((offset, "the text is not valid UTF-16\nhint: save it as UTF-8".to_owned()));
    if !rest.is_empty() {
        return wrong(before + bytes.len() - 1);
    }
    let mut text = String::with_capacity(units.len());
    let mut at = before;
    for decoded in char::decode_utf16(units.iter().map(|&bytes| unit(bytes))) {
        let Ok(decoded) = decoded else { return wrong(at) };
        at += 2 * decoded.len_utf16();
        text.push(decoded);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str, bytes: fn(u16) -> [u8; 2], mark: bool) -> Vec<u8> {
        let mark = mark.then_some('\u{feff}');
        let text: String = mark.into_iter().chain(text.chars()).collect();
        text.encode_utf16().flat_map(bytes).collect()
    }

    fn with(declared: &str, rest: &[u8]) -> Vec<u8> {
        let line = format!("<?xml version=\"1.0\" encoding={declared}?>");
        [line.as_bytes(), b"<a>", rest, b"</a>"].concat()
    }

    #[test]
    fn declared_encodings_are_read() {
        let xml = "<?xml version='1.0' encoding='UTF-16'?><a>Fußgänger 車 \u{1f600}</a>";
        for bytes in [
            utf16_of(xml, u16::to_le_bytes, true),
            utf16_of(xml, u16::to_be_bytes, true),
            utf16_of(xml, u16::to_le_bytes, false),
            utf16_of(xml, u16::to_be_bytes, false),
            xml.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", xml.as_bytes()].concat(),
        ] {
            assert_eq!(decode(&bytes).unwrap(), xml);
        }
        for (declared, bytes, text) in [
            ("\"ISO-8859-1\"", b"Fu\xdfg\xe4nger".as_slice(), "Fußgänger"),
            ("'latin1' standalone='yes'", b"\xe9\x80", "é\u{80}"),
            ("\"windows-1252\"", b"\x80 \x93\xe9\x94", "€ “é”"),
            ("'CP1252'", b"\xa9", "©"),
            ("\"utf-8\"", "é".as_bytes(), "é"),
            ("\"UTF8\"", "é".as_bytes(), "é"),
            ("\"gb2312\"", b"car", "car"),
        ] {
            let text = format!("<a>{text}</a>");
            assert!(decode(&with(declared, bytes)).unwrap().ends_with(&text), "{declared}");
        }
    }

    #[test]
    fn others_are_refused_by_their_names() {
        for (bytes, message) in [
            (with("\"gb2312\"", b"\xc8\xcb"), "\"gb2312\", which is not read"),
            (with("'Shift_JIS'", b"\x90l"), "\"Shift_JIS\", which"),
            (with("\"koi8-r\"", "é".as_bytes()), "\"koi8-r\", which"),
            (with("\"utf-8\"", b"\xe9"), "not valid UTF-8"),
            (b"<a>\xe9</a>".to_vec(), "not valid UTF-8"),
            (b"\xff\xfe<\0a".to_vec(), "not valid UTF-16"),
            (b"\xff\xfe\0\xd8<\0".to_vec(), "not valid UTF-16"),
        ] {
            let (_, reason) = decode(&bytes).unwrap_err();
            assert!(reason.contains(message) && reason.contains("\nhint: "), "{reason}");
        }
    }
}
