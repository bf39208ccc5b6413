//! Tells the kind of a file from its first bytes. The name of a file is never asked.

/// Formats that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Bmp,
    WebP,
    Pnm,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Bmp => "BMP",
            Self::WebP => "WebP",
            Self::Pnm => "PNM",
        }
    }
}

/// The verdict on some bytes; the texts are for messages and carry an article.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Empty,
    Readable(Format),
    Unsupported(&'static str),
    NotAnImage(&'static str),
}

/// Image formats that people do have, by how they begin.
const UNSUPPORTED: &[(&[u8], &str)] = &[
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF or camera raw image"),
    (b"MM\0*", "a TIFF or camera raw image"),
    (b"II+\0", "a BigTIFF image"),
    (b"MM\0+", "a BigTIFF image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"II\xbc", "a JPEG XR image"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DDS texture"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"farbfeld", "a farbfeld image"),
    (b"PF\n", "a PFM image"),
    (b"Pf\n", "a PFM image"),
];

/// Other files that end up with an image's name.
const NOT_AN_IMAGE: &[(&[u8], &str)] = &[
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive or Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer (the file itself was not fetched)"),
];

pub(super) fn sniff(bytes: &[u8]) -> ContentType {
    match bytes {
        [] => ContentType::Empty,
        [0xff, 0xd8] | [0xff, 0xd8, 0xff, ..] => ContentType::Readable(Format::Jpeg),
        [0x89, b'P', b'N', b'G', ..] => ContentType::Readable(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            ContentType::Readable(Format::WebP)
        }
        [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() || *space == b'#' => {
            ContentType::Readable(Format::Pnm)
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => {
            ContentType::NotAnImage("an AVI video")
        }
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => sniff_iso_media(brand),
        _ => sniff_table(bytes),
    }
}

/// Tells AVIF, HEIC and videos, which share a container, apart by the brand.
fn sniff_iso_media(brand: &[u8]) -> ContentType {
    match brand.get(..4) {
        Some(b"avif" | b"avis") => ContentType::Unsupported("an AVIF image"),
        Some(b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"mif1" | b"msf1") => {
            ContentType::Unsupported("a HEIC image")
        }
        Some(b"crx ") => ContentType::Unsupported("a camera raw image"),
        _ => ContentType::NotAnImage("an MP4 or QuickTime video"),
    }
}

fn sniff_table(bytes: &[u8]) -> ContentType {
    let find = |table: &[(&[u8], &'static str)]| {
        table.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|&(_, name)| name)
    };
    if let Some(found) = find(UNSUPPORTED) {
        return ContentType::Unsupported(found);
    }
    if let Some(looks_like) = find(NOT_AN_IMAGE) {
        return ContentType::NotAnImage(looks_like);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return ContentType::NotAnImage("a tar archive");
    }
    if let Some(found) = sniff_text(&bytes[..bytes.len().min(1024)]) {
        return found;
    }
    // Last, because two letters are a weak sign.
    if bytes.starts_with(b"BM") {
        return ContentType::Readable(Format::Bmp);
    }
    if bytes.iter().all(|&byte| byte == 0) {
        return ContentType::NotAnImage("a block of zeros, as after a failed copy");
    }
    ContentType::NotAnImage("binary data of an unknown kind")
}

/// Recognises error pages and documents saved under an image's name.
fn sniff_text(start: &[u8]) -> Option<ContentType> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    if start.iter().any(|&byte| byte < b' ' && !byte.is_ascii_whitespace()) {
        return None;
    }
    // A character may be cut at the end of the part looked at.
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    let text = text.trim_start().to_ascii_lowercase();
    Some(match text.as_str() {
        t if t.starts_with("<svg") || (t.starts_with("<?xml") && t.contains("<svg")) => {
            ContentType::Unsupported("an SVG drawing")
        }
        t if t.starts_with("<!doctype html") || t.contains("<html") || t.contains("<head") => {
            ContentType::NotAnImage("an HTML page")
        }
        t if t.starts_with('<') => ContentType::NotAnImage("an XML document"),
        t if t.starts_with(['{', '[']) => ContentType::NotAnImage("a JSON document"),
        _ => ContentType::NotAnImage("a text file"),
    })
}
