//! Every image here is made by the test itself.

#![allow(clippy::cast_possible_truncation)] // sides and levels are small

use std::io::Cursor;

use detr_types::Limits;
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::*;

/// Draws a smooth picture, so that JPEG keeps it closely.
fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(40 + 3 * x) as u8, (200 - 2 * y) as u8, (90 + x + y) as u8])
    })
}

struct Jpeg {
    progressive: bool,
    sampling: SamplingFactor,
    restart: Option<u16>,
    exif: Option<Vec<u8>>,
}

impl Default for Jpeg {
    fn default() -> Self {
        Self { progressive: false, sampling: SamplingFactor::F_1_1, restart: None, exif: None }
    }
}

impl Jpeg {
    fn encode(self, pixels: &[u8], width: u32, height: u32, colour: ColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 95);
        encoder.set_progressive(self.progressive);
        encoder.set_sampling_factor(self.sampling);
        if let Some(interval) = self.restart {
            encoder.set_restart_interval(interval);
        }
        if let Some(exif) = self.exif {
            encoder.add_exif_metadata(&exif).unwrap();
        }
        encoder.encode(pixels, width as u16, height as u16, colour).unwrap();
        bytes
    }

    fn rgb(self, image: &RgbImage) -> Vec<u8> {
        self.encode(image.as_raw(), image.width(), image.height(), ColorType::Rgb)
    }
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    decode_image(bytes, &DecodeOptions::default())
}

#[track_caller]
fn assert_close(image: &RgbImage, expected: &RgbImage, tolerance: u8) {
    assert_eq!(image.dimensions(), expected.dimensions());
    let worst = image.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst.unwrap() <= tolerance, "{worst:?} levels off");
}

#[test]
fn jpeg_variants_decode_to_what_was_encoded() {
    let image = photo(37, 29);
    for progressive in [false, true] {
        for sampling in [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_2_2] {
            for restart in [None, Some(1), Some(2)] {
                let jpeg = Jpeg { progressive, sampling, restart, exif: None }.rgb(&image);
                assert_close(&decode(&jpeg).unwrap(), &image, 6);
            }
        }
    }
    let grey: Vec<u8> = (0..64).collect();
    let decoded = decode(&Jpeg::default().encode(&grey, 8, 8, ColorType::Luma)).unwrap();
    assert!(decoded.pixels().zip(&grey).all(|(p, &v)| p.0.iter().all(|c| c.abs_diff(v) <= 1)));
}

#[test]
fn a_jpeg_cut_anywhere_is_an_error() {
    for progressive in [false, true] {
        let jpeg = Jpeg { progressive, ..Jpeg::default() }.rgb(&photo(37, 29));
        for length in 2..jpeg.len() {
            let error = decode(&jpeg[..length]).unwrap_err();
            assert!(matches!(error, ImageError::Truncated { .. }), "{length}: {error}");
        }
    }
}

#[test]
fn missing_data_before_the_end_marker_is_found_out() {
    let image = photo(64, 64);
    let jpeg = Jpeg::default().rgb(&image);
    let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
    for length in [scan + 10, usize::midpoint(scan, jpeg.len()), jpeg.len() - 8] {
        let mut cut = jpeg[..length].to_vec();
        cut.extend([0xff, 0xd9]);
        assert!(matches!(decode(&cut), Err(ImageError::Corrupt { .. })), "{length}");
    }
    // The bytes after the image belong to something else: other pictures, a phone's video.
    let mut longer = jpeg.clone();
    longer.extend(b"trailing bytes");
    assert_close(&decode(&longer).unwrap(), &image, 6);
}

/// Puts an APP14 segment behind the start-of-image marker, in place of any that is there.
fn with_adobe(jpeg: &[u8], transform: u8) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xee, 0, 14];
    bytes.extend(b"Adobe\0\x64\0\0\0\0");
    bytes.push(transform);
    let mut at = 2;
    while jpeg[at + 1] != 0xdb {
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        // JFIF would override Adobe's word.
        if !matches!(jpeg[at + 1], 0xe0 | 0xee) {
            bytes.extend(&jpeg[at..end]);
        }
        at = end;
    }
    bytes.extend(&jpeg[at..]);
    bytes
}

#[test]
fn adobe_markers_decide_the_colour_space() {
    let stored = [200, 100, 50];
    let solid = RgbImage::from_pixel(16, 16, Rgb(stored));
    // The encoder stores YCbCr; called RGB, the stored numbers come out as they are.
    let jpeg = Jpeg::default().rgb(&solid);
    assert_close(&decode(&with_adobe(&jpeg, 1)).unwrap(), &solid, 2);
    let ycc = RgbImage::from_pixel(16, 16, Rgb([124, 86, 182]));
    assert_close(&decode(&with_adobe(&jpeg, 0)).unwrap(), &ycc, 2);
}

#[test]
fn cmyk_is_read_inverted() {
    // The encoder inverts ink, as Photoshop does: what is given here is the ink itself.
    let ink = [51, 102, 0, 85].repeat(256);
    // Pillow: k = 255 - 85; k - c * k / 255.
    let expected = RgbImage::from_pixel(16, 16, Rgb([136, 102, 170]));
    for colour in [ColorType::Cmyk, ColorType::CmykAsYcck] {
        let jpeg = Jpeg::default().encode(&ink, 16, 16, colour);
        assert_close(&decode(&jpeg).unwrap(), &expected, 2);
    }
}

/// Writes a TIFF structure with nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn exif_orientation_is_applied_only_on_request() {
    // The corners are listed in the order top left, top right, bottom left and bottom right of the
    // stored image.
    let corners = [
        (1, [0, 1, 2, 3]),
        (2, [1, 0, 3, 2]),
        (3, [3, 2, 1, 0]),
        (4, [2, 3, 0, 1]),
        (5, [0, 2, 1, 3]),
        (6, [2, 0, 3, 1]),
        (7, [3, 1, 2, 0]),
        (8, [1, 3, 0, 2]),
    ];
    let image = RgbImage::from_fn(32, 16, |x, y| {
        Rgb([60 * u8::from(x >= 16) + 120 * u8::from(y >= 8) + 30; 3])
    });
    let upright = DecodeOptions { apply_exif: true, ..DecodeOptions::default() };
    for (orientation, places) in corners {
        let jpeg = Jpeg { exif: Some(exif(orientation)), ..Jpeg::default() }.rgb(&image);
        assert_close(&decode(&jpeg).unwrap(), &image, 2);
        let turned = decode_image(&jpeg, &upright).unwrap();
        let (width, height) = turned.dimensions();
        assert_eq!((width, height), if orientation < 5 { (32, 16) } else { (16, 32) });
        let seen = [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)];
        for ((x, y), place) in seen.into_iter().zip(places) {
            assert!(turned[(x, y)].0[0].abs_diff(60 * place + 30) <= 2, "{orientation}");
        }
    }
    for malformed in [exif(0), exif(9), b"II*\0\xff\xff\xff\xff".to_vec(), b"nonsense".to_vec()] {
        let jpeg = Jpeg { exif: Some(malformed), ..Jpeg::default() }.rgb(&image);
        assert_close(&decode_image(&jpeg, &upright).unwrap(), &image, 2);
    }
}

#[test]
fn every_sample_layout_becomes_8_bit_rgb() {
    fn png<P, S>(pixel: P) -> Rgb<u8>
    where
        P: image::Pixel<Subpixel = S> + image::PixelWithColorType,
        S: image::Primitive,
        DynamicImage: From<ImageBuffer<P, Vec<S>>>,
    {
        let image = ImageBuffer::from_pixel(2, 3, pixel);
        decode(&encode(image, ImageFormat::Png)).unwrap()[(1, 2)]
    }
    assert_eq!(png(Luma([77_u8])), Rgb([77; 3]));
    // Alpha is dropped, not blended.
    assert_eq!(png(LumaA([77_u8, 0])), Rgb([77; 3]));
    assert_eq!(png(Rgba([9_u8, 8, 7, 0])), Rgb([9, 8, 7]));
    // 257 of 65535 levels make one of 255, rounded to the nearest.
    assert_eq!(png(Luma([128_u16])), Rgb([0; 3]));
    assert_eq!(png(LumaA([129_u16, 5])), Rgb([1; 3]));
    assert_eq!(png(Rgb([385_u16, 386, 65_535])), Rgb([1, 2, 255]));
    assert_eq!(png(Rgba([65_406_u16, 65_407, 0, 0])), Rgb([254, 255, 0]));
}

#[test]
fn the_other_formats_are_exact_and_complete_or_refused() {
    let image = photo(19, 7);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Pnm] {
        let bytes = encode(image.clone(), format);
        assert_eq!(decode(&bytes).unwrap(), image, "{format:?}");
        for percent in [1, 10, 50, 90] {
            assert!(decode(&bytes[..bytes.len() * percent / 100]).is_err(), "{format:?}");
        }
    }
}

#[test]
fn the_pixel_limit_is_checked_on_the_header() {
    let image = photo(10, 10);
    let limits = Limits { pixels: 99, ..Limits::default() };
    let tight = DecodeOptions { limits, ..DecodeOptions::default() };
    let mut files: Vec<Vec<u8>> =
        [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Pnm]
            .map(|format| encode(image.clone(), format))
            .into();
    files.push(Jpeg::default().rgb(&image));
    for bytes in &files {
        assert!(matches!(decode_image(bytes, &tight), Err(ImageError::TooManyPixels { .. })));
    }
    // A header alone, without the pixels it promises.
    let mut jpeg = Jpeg::default().rgb(&image);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let error = decode(&jpeg[..frame + 19]).unwrap_err().to_string();
    assert!(error.contains("65500x65500") && error.contains("hint: "), "{error}");
    assert!(matches!(decode(b"P6 50000 50000 255\n"), Err(ImageError::TooManyPixels { .. })));
}

#[test]
fn other_files_are_called_by_their_name() {
    let cases: [(&[u8], &str); 12] = [
        (b"", "is empty"),
        (b"GIF89a\x01\0\x01\0", "is a GIF image"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "is an AVIF image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC image"),
        (b"MM\0*\0\0\0\x08", "is a TIFF"),
        (b"<?xml version=\"1.0\"?>\n<svg/>", "is an SVG drawing"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML><html>404</html>", "looks like an HTML page"),
        (b"{\"message\": \"not found\"}", "looks like a JSON document"),
        (b"%PDF-1.7\n%\xe2\xe3", "looks like a PDF document"),
        (b"PK\x03\x04\x14\0", "looks like a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "looks like a Git LFS pointer"),
        (&[0; 600], "looks like a block of zeros"),
    ];
    for (bytes, expected) in cases {
        let message = decode(bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let mut arithmetic = Jpeg::default().rgb(&photo(8, 8));
    let frame = arithmetic.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    arithmetic[frame + 1] = 0xc9;
    assert!(decode(&arithmetic).unwrap_err().to_string().contains("an arithmetic-coded JPEG"));
}

#[test]
fn damaged_jpegs_never_panic() {
    let jpeg = Jpeg { sampling: SamplingFactor::F_2_2, ..Jpeg::default() }.rgb(&photo(24, 24));
    let mut state = 1_u64;
    for _ in 0..2000 {
        let mut bytes = jpeg.clone();
        for _ in 0..8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] ^= 1 << (state >> 61);
        }
        let limits = Limits { pixels: 1 << 20, ..Limits::default() };
        let _ = decode_image(&bytes, &DecodeOptions { limits, ..DecodeOptions::default() });
    }
}

#[test]
fn files_are_read_by_content_and_refused_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let options = DecodeOptions::default();
    let path = folder.path().join("really a png.jpg");
    let image = photo(5, 4);
    let bytes = encode(image.clone(), ImageFormat::Png);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read_image(&path, &options).unwrap(), image);

    let limits = Limits { file_bytes: bytes.len() as u64 - 1, ..Limits::default() };
    let error = read_image(&path, &DecodeOptions { limits, ..options }).unwrap_err();
    assert_eq!(error.path(), Some(path.as_path()));
    assert!(matches!(error.reason(), ImageError::TooLarge { .. }));

    let error = read_image(folder.path(), &options).unwrap_err();
    assert!(matches!(error.reason(), ImageError::NotARegularFile { what: "a directory" }));
    let error = read_image(&folder.path().join("missing.png"), &options).unwrap_err();
    assert!(matches!(error.reason(), ImageError::Io { .. }));
    assert!(error.to_string().contains("missing.png: cannot be read: "), "{error}");
}

#[cfg(unix)]
#[test]
fn sockets_and_devices_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.png");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    for (path, expected) in [(path.as_path(), "a socket"), (Path::new("/dev/zero"), "a device")] {
        match read_image(path, &DecodeOptions::default()).unwrap_err().reason() {
            ImageError::NotARegularFile { what } => assert_eq!(*what, expected),
            other => panic!("{other}"),
        }
    }
}
