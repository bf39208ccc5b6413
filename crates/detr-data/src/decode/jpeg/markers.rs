//! A walk over a JPEG's markers (ITU T.81, annex B), to its end.
//!
//! It proves that the file has an end, finds the size before anything is allocated for it, and
//! settles the colour space by libjpeg's rules (`default_decompress_parms` in `jdapimin.c`). It
//! does not look inside the entropy-coded data; what it leaves undetected is data that was cut in
//! a progressive file whose end marker is still there.

use detr_types::{ImageSize, Limits};

use super::edges::Edges;
use super::error::{NAME, corrupt};
use crate::decode::error::ImageError;
use crate::decode::pixels::check_pixels;

/// The meaning of the components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Grey,
    Rgb,
    Ycc,
    Cmyk,
    Ycck,
}

/// The settings that the markers state.
pub(super) struct Markers<'a> {
    pub(super) size: ImageSize,
    pub(super) colour: Colour,
    /// The edges where `YCbCr` needs repair after decoding.
    pub(super) edges: Option<Edges>,
    /// TIFF structure of the first EXIF segment.
    pub(super) exif: Option<&'a [u8]>,
    /// The file without application data, comments and what follows the image.
    pub(super) stream: Vec<u8>,
}

/// The frame header.
struct Frame {
    size: ImageSize,
    progressive: bool,
    components: usize,
    identifiers: [u8; 4],
    /// Horizontal and vertical factor of each component.
    sampling: [(u8, u8); 4],
}

const SOF2: u8 = 0xc2;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DHT: u8 = 0xc4;
const DRI: u8 = 0xdd;

pub(super) fn walk<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Markers<'a>, ImageError> {
    let mut stream = Vec::with_capacity(bytes.len());
    stream.extend([0xff, SOI]);
    let mut frame: Option<Frame> = None;
    let mut jfif = false;
    let mut adobe = None;
    let mut exif = None;
    let mut scans = 0;
    let mut complete_scan = false;
    let mut at = 2;
    loop {
        let marker;
        (marker, at) = next_marker(bytes, at)?;
        if marker == EOI {
            break;
        }
        // Markers without a segment.
        if matches!(marker, 0x01 | 0xd0..=0xd7) {
            continue;
        }
        if marker == SOI {
            return Err(corrupt("a second start-of-image marker inside the image"));
        }
        let (body, end) = segment(bytes, at)?;
        match marker {
            0xc0..=0xc2 => {
                if frame.is_some() {
                    return Err(corrupt("two frame headers"));
                }
                let header = frame_header(body, marker == SOF2)?;
                check_pixels(header.size, NAME, limits)?;
                frame = Some(header);
            }
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(ImageError::UnsupportedFormat { found: process(marker) });
            }
            0xe0 => jfif |= body.starts_with(b"JFIF\0"),
            0xe1 if exif.is_none() => exif = body.strip_prefix(b"Exif\0\0"),
            0xee if body.len() >= 12 && body.starts_with(b"Adobe") => adobe = Some(body[11]),
            _ => {}
        }
        let keep = matches!(marker, 0xc0..=0xc2 | DHT | DQT | DRI | SOS);
        let segment_end = end;
        at = end;
        if marker == SOS {
            let Some(frame) = &frame else {
                return Err(corrupt("image data before the frame header"));
            };
            scans += 1;
            complete_scan = body.first().is_some_and(|&n| usize::from(n) == frame.components);
            at = end_of_scan(bytes, end);
        }
        if keep {
            stream.extend([0xff, marker]);
            stream.extend(&bytes[segment_end - body.len() - 2..at]);
        }
    }
    let frame = frame.filter(|_| scans > 0).ok_or_else(|| corrupt("it holds no image data"))?;
    // If the whole image is one scan, data that ends early runs into these bits and is found out,
    // because no Huffman code consists of ones. The decoder zune-jpeg would go on with zeros for
    // ever. With several scans it looks for the next marker right behind the data.
    if !frame.progressive && scans == 1 && complete_scan {
        stream.extend([0xff, 0].repeat(16));
    }
    stream.extend([0xff, EOI]);
    let colour = colour(&frame, jfif, adobe);
    let edges = match (colour, frame.sampling) {
        (Colour::Ycc, [y, cb, cr, _]) => Some(Edges::of(frame.size, [y, cb, cr])),
        _ => None,
    };
    let edges = edges.filter(|edges| edges.any());
    Ok(Markers { size: frame.size, colour, edges, exif, stream })
}

/// Finds the next marker at or after `at`, and the position behind it. Fill bytes and stray data
/// before it are skipped, as libjpeg does.
fn next_marker(bytes: &[u8], mut at: usize) -> Result<(u8, usize), ImageError> {
    while let Some(&[first, second]) = bytes.get(at..at + 2).and_then(<[u8]>::first_chunk) {
        if first == 0xff && !matches!(second, 0 | 0xff) {
            return Ok((second, at + 2));
        }
        at += 1;
    }
    Err(truncated("the end-of-image marker is missing", bytes))
}

/// Returns the body of the segment whose length field is at `at`, and the position behind it.
fn segment(bytes: &[u8], at: usize) -> Result<(&[u8], usize), ImageError> {
    let Some(&length) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
        return Err(truncated("it ends inside a header", bytes));
    };
    let end = at + usize::from(u16::from_be_bytes(length));
    if end < at + 2 {
        return Err(corrupt("a segment with an impossible length"));
    }
    match bytes.get(at + 2..end) {
        Some(body) => Ok((body, end)),
        None => Err(truncated("it ends inside a header", bytes)),
    }
}

/// Finds the position of the marker that ends the entropy-coded data, or of the end of the file.
fn end_of_scan(bytes: &[u8], mut at: usize) -> usize {
    while let Some(offset) = bytes[at..].iter().position(|&byte| byte == 0xff) {
        at += offset;
        match bytes.get(at + 1) {
            // A stuffed zero or a restart marker belongs to the data.
            Some(0 | 0xd0..=0xd7) => at += 2,
            // The last of several fill bytes begins the marker.
            Some(0xff) => at += 1,
            Some(_) => return at,
            None => break,
        }
    }
    bytes.len()
}

fn frame_header(body: &[u8], progressive: bool) -> Result<Frame, ImageError> {
    let [precision, h1, h0, w1, w0, components, list @ ..] = body else {
        return Err(corrupt("a short frame header"));
    };
    if *precision != 8 {
        return Err(ImageError::UnsupportedFormat { found: "a JPEG with 12 bits per sample" });
    }
    let size = ImageSize::new(
        u32::from(u16::from_be_bytes([*h1, *h0])),
        u32::from(u16::from_be_bytes([*w1, *w0])),
    );
    let components = usize::from(*components);
    if !matches!(components, 1 | 3 | 4) {
        return Err(corrupt(&format!("{components} colour components, expected 1, 3 or 4")));
    }
    let (list, rest) = list.as_chunks::<3>();
    if list.len() != components || !rest.is_empty() {
        return Err(corrupt("a frame header of the wrong length"));
    }
    let mut identifiers = [0; 4];
    let mut sampling = [(0, 0); 4];
    for (index, &[identifier, factors, _table]) in list.iter().enumerate() {
        let (horizontal, vertical) = (factors >> 4, factors & 15);
        if !(1..=4).contains(&horizontal) || !(1..=4).contains(&vertical) {
            return Err(corrupt("an impossible sampling factor"));
        }
        identifiers[index] = identifier;
        sampling[index] = (horizontal, vertical);
    }
    Ok(Frame { size, progressive, components, identifiers, sampling })
}

/// libjpeg's guess of the colour space.
fn colour(frame: &Frame, jfif: bool, adobe: Option<u8>) -> Colour {
    match (frame.components, adobe) {
        (1, _) => Colour::Grey,
        (3, _) if jfif => Colour::Ycc,
        (3, Some(0)) => Colour::Rgb,
        (3, None) if frame.identifiers.starts_with(b"RGB") => Colour::Rgb,
        (3, _) => Colour::Ycc,
        (_, None | Some(0)) => Colour::Cmyk,
        _ => Colour::Ycck,
    }
}

/// Returns the name of the coding processes that are not decoded.
fn process(marker: u8) -> &'static str {
    match marker {
        0xc3 => "a lossless JPEG",
        0xc9 | 0xca => "an arithmetic-coded JPEG",
        0xcb => "a lossless arithmetic-coded JPEG",
        _ => "a hierarchical JPEG",
    }
}

fn truncated(what: &str, bytes: &[u8]) -> ImageError {
    let reason = format!("{what}, the file ends after {} bytes", bytes.len());
    ImageError::Truncated { format: NAME, reason }
}
