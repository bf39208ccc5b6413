//! Pictures made on the spot, good and bad.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder};

/// Draws a smooth pattern; JPEG keeps it well.
pub(crate) fn picture(seed: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |a: u32, b: u32| {
            let step = (x * a + y * b + seed * 31) % 510;
            u8::try_from(if step < 256 { step } else { 510 - step }).unwrap()
        };
        image::Rgb([wave(3, 1), wave(1, 4), wave(2, 2)])
    })
}

/// Writes a PNG of any pixel type.
pub(crate) fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    encoded(&image.into(), ImageFormat::Png)
}

/// Encodes an image in any format that `image` writes.
pub(crate) fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Writes the picture as a JPEG.
pub(crate) fn jpeg(image: &RgbImage) -> Vec<u8> {
    jpeg_of(image.as_raw(), image.width(), image.height(), ColorType::Rgb, None)
}

/// Writes a JPEG of raw samples, with a first segment of EXIF data.
pub(crate) fn jpeg_of(
    samples: &[u8],
    width: u32,
    height: u32,
    color: ColorType,
    exif: Option<&[u8]>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 85);
    if let Some(exif) = exif {
        encoder.add_app_segment(1, [b"Exif\0\0".as_slice(), exif].concat()).unwrap();
    }
    let side = |value: u32| u16::try_from(value).unwrap();
    encoder.encode(samples, side(width), side(height), color).unwrap();
    bytes
}

/// Writes EXIF data that say nothing but the orientation.
pub(crate) fn orientation(value: u8) -> Vec<u8> {
    let mut exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([value, 0, 0, 0, 0, 0, 0]);
    exif
}

/// Writes a PNG whose header promises an RGB image of this size, with whatever data.
pub(crate) fn png_claiming(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [(b"IHDR", header.as_slice()), (b"IDAT", data), (b"IEND", &[])] {
        bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        let checked = [kind.as_slice(), content].concat();
        bytes.extend(&checked);
        bytes.extend(crc32(&checked).to_be_bytes());
    }
    bytes
}

/// Writes a JPEG that ends after a frame header of this size.
pub(crate) fn jpeg_claiming(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = b"\xff\xd8\xff\xc0\0\x11\x08".to_vec();
    bytes.extend(height.to_be_bytes());
    bytes.extend(width.to_be_bytes());
    bytes.extend([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
    bytes
}

/// Computes the check sum of PNG and zip.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}

/// Returns the first part of some bytes, in hundredths.
pub(crate) fn truncated(bytes: &[u8], percent: usize) -> Vec<u8> {
    bytes[..bytes.len() * percent / 100].to_vec()
}

/// Changes `count` of the bytes, at places that depend on the seed.
pub(crate) fn flipped(bytes: &[u8], count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    for _ in 0..count {
        // The first bytes tell the format; without them it is another kind of bad file.
        let at = 16 + next() % (bytes.len() - 16);
        bytes[at] ^= u8::try_from(next() % 255 + 1).unwrap();
    }
    bytes
}
