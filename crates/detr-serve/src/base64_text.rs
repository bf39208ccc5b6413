//! Base64 in all the ways that clients write it: standard or URL-safe, with or without padding, broken into lines,
//! or as a `data:` URL.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// Decodes a text.
///
/// # Errors
/// The reason, with the place of the first character that cannot stand there.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let text = match text.strip_prefix("data:") {
        None => text,
        Some(url) => match url.split_once(',') {
            Some((kind, data)) if kind.to_ascii_lowercase().ends_with(";base64") => data,
            _ => return Err("the data: URL is not in base64".to_owned()),
        },
    };
    if text.starts_with("http:") || text.starts_with("https:") || text.starts_with("file:") {
        return Err(
            "an address is not followed\nhint: send the picture itself, in base64".to_owned()
        );
    }
    let compact: String;
    let text = if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        compact = text.split_ascii_whitespace().collect();
        compact.as_str()
    } else {
        text
    };
    if text.is_empty() {
        return Err("the text is empty".to_owned());
    }
    let url_safe = text.bytes().any(|byte| byte == b'-' || byte == b'_');
    let decoded = if url_safe { URL_SAFE.decode(text) } else { STANDARD.decode(text) };
    decoded.map_err(|error| {
        // Sentences of ours, since the error's own names Rust's types.
        use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
        match error {
            InvalidByte(at, _) | InvalidLastSymbol(at, _) => {
                format!("not base64: character {at} cannot stand there")
            }
            InvalidLength(length) => format!("not base64: {length} characters are too few or many"),
            InvalidPadding => "not base64: the padding is wrong".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_dialects_are_read() {
        let bytes: Vec<u8> = (0..=255).collect();
        let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
        let lines: Vec<&str> =
            standard.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let wrapped = lines.join("\n") + "\n";
        for text in [
            standard.clone(),
            standard.trim_end_matches('=').to_owned(),
            url.clone(),
            format!("{url}=="),
            wrapped.clone(),
            wrapped.replace('\n', "\r\n"),
            format!("data:image/png;base64,{standard}"),
            format!("data:image/png;charset=x;BASE64,{url}"),
        ] {
            assert_eq!(decode(&text).as_deref(), Ok(bytes.as_slice()), "{text}");
        }
    }

    #[test]
    fn garbage_is_refused_with_its_place() {
        for (text, part) in [
            ("", "empty"),
            ("  \n", "empty"),
            ("abc$", "character 3"),
            ("ab=c", "character 2"),
            ("a", "not base64"),
            ("a-b+", "character 3"),
            ("äöü", "character 0"),
            ("data:image/png,abc", "not in base64"),
            ("data:", "not in base64"),
            ("https://example.org/a.png", "not followed"),
            ("file:///etc/passwd", "not followed"),
        ] {
            let error = decode(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
