//! Images: damaged, mislabelled, bombs, and unusual ones that are fine.

use std::ffi::OsStr;

use image::{DynamicImage, ImageFormat};
use jpeg_encoder::ColorType;
use serde_json::Value;

use crate::support::images::{
    encoded, flipped, jpeg, jpeg_claiming, jpeg_of, orientation, picture, png, png_claiming,
    truncated,
};
use crate::support::{detr_infer, folder_with, golden, names_in};

/// Name, bytes, and what the error says.
type Bad = (String, Vec<u8>, &'static str);

/// Lists files that hold no complete image.
pub(super) fn bad() -> Vec<Bad> {
    let photo = jpeg(&picture(7, 160, 120));
    let drawing = png(picture(8, 160, 120));
    let webp = encoded(&picture(9, 64, 48).into(), ImageFormat::WebP);
    let bmp = encoded(&picture(9, 64, 48).into(), ImageFormat::Bmp);
    let ppm = encoded(&picture(9, 64, 48).into(), ImageFormat::Pnm);
    let mut cases: Vec<(String, Vec<u8>, &'static str)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, message| cases.push((name.into(), bytes, message));
    for percent in [1, 10, 50, 99] {
        add(&format!("cut-{percent}.jpg"), truncated(&photo, percent), "JPEG");
    }
    for percent in [10, 50, 90] {
        add(&format!("cut-{percent}.png"), truncated(&drawing, percent), "PNG");
    }
    add("no-end.jpg", photo[..photo.len() - 2].to_vec(), "is a truncated JPEG");
    add("start-only.jpg", photo[..2].to_vec(), "JPEG");
    add("cut.webp", truncated(&webp, 60), "WebP");
    add("cut.bmp", truncated(&bmp, 60), "BMP");
    add("cut.ppm", truncated(&ppm, 60), "PNM");
    add("zero.jpg", Vec::new(), "is empty (0 bytes)");
    add("page.jpg", b"<!doctype html><html><body>404</body></html>".to_vec(), "an HTML page");
    add("text.png", b"hello, I am a picture\n".to_vec(), "a text file");
    add("answer.png", br#"{"error": "no such image"}"#.to_vec(), "a JSON document");
    add("lfs.jpg", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a Git LFS pointer");
    add("zeros.jpg", vec![0; 4096], "a block of zeros");
    add("noise.jpg", flipped(&[0x17; 4096], 4000, 3), "binary data");
    add("animation.png", b"GIF89a\x10\0\x10\0\0\0\0;".to_vec(), "a GIF image");
    add("scan.jpg", b"II*\0\x08\0\0\0".to_vec(), "a TIFF or camera raw image");
    add("new.jpg", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1".to_vec(), "an AVIF image");
    add("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(), "a HEIC image");
    add("report.jpg", b"%PDF-1.7\n".to_vec(), "a PDF document");
    add("bomb-50k.png", png_claiming(50_000, 50_000, &[0x78, 0x9c]), "more than the limit");
    add("bomb-65k.jpg", jpeg_claiming(65_500, 65_500), "more than the limit");
    add("bomb-12k.png", png_claiming(12_000, 12_000, &[0x78, 0x9c, 1, 2]), "more than the limit");
    // The size is within the limit of pixels, but the data are missing.
    add("short-9k.png", png_claiming(9_000, 9_000, &[0x78, 0x9c, 0x63, 0]), "PNG");
    add("short-9k.jpg", jpeg_claiming(9_000, 9_000), "JPEG");
    add("flat.png", png_claiming(0, 100, &[]), "PNG");
    add("flat.jpg", jpeg_claiming(100, 0), "JPEG");
    add("vast.png", png_claiming(u32::MAX, u32::MAX, &[]), "PNG");
    add("vast.ppm", b"P6 4000000000 4000000000 255\n".to_vec(), "P");
    add("wild.ppm", b"P6 99999999999999999999 1 255\n".to_vec(), "P");
    cases
}

/// Lists files with changed bytes: some decode to something, some do not, and either is right.
pub(super) fn damaged() -> Vec<(String, Vec<u8>)> {
    let photo = jpeg(&picture(7, 160, 120));
    let drawing = png(picture(8, 160, 120));
    let webp = encoded(&picture(9, 64, 48).into(), ImageFormat::WebP);
    let files = [("jpg", photo), ("png", drawing), ("webp", webp)];
    let seeds = files.iter().flat_map(|file| (0..8).map(move |seed| (file, seed)));
    seeds
        .map(|((ending, bytes), seed)| {
            let count = [1, 10, 100, 1000][usize::try_from(seed).unwrap() % 4];
            (format!("flipped-{ending}-{seed}.{ending}"), flipped(bytes, count, seed))
        })
        .collect()
}

/// Lists unusual images that are fine, with their width and height.
pub(super) fn odd() -> Vec<(String, Vec<u8>, u32, u32)> {
    let image = DynamicImage::from(picture(5, 50, 40));
    let (w, h) = (50, 40);
    let mut cases: Vec<(String, Vec<u8>, u32, u32)> = Vec::new();
    let mut add = |name: &str, bytes, w, h| cases.push((name.to_owned(), bytes, w, h));
    add("grey.png", png(image.to_luma8()), w, h);
    add("grey-alpha.png", png(image.to_luma_alpha8()), w, h);
    add("alpha.png", png(image.to_rgba8()), w, h);
    add("deep.png", png(image.to_rgb16()), w, h);
    add("deep-grey.png", png(image.to_luma16()), w, h);
    add("deep-alpha.png", png(image.to_rgba16()), w, h);
    add("one-pixel.png", png(picture(1, 1, 1)), 1, 1);
    add("tall.png", png(picture(1, 1, 10_000)), 1, 10_000);
    add("wide.png", png(picture(1, 10_000, 1)), 10_000, 1);
    add("misnamed.jpg", png(picture(1, w, h)), w, h);
    add("misnamed.png", jpeg(&picture(1, w, h)), w, h);
    add("one-pixel.jpg", jpeg(&picture(1, 1, 1)), 1, 1);
    add("grey.jpg", jpeg_of(image.to_luma8().as_raw(), w, h, ColorType::Luma, None), w, h);
    let inks: Vec<u8> = image.to_rgba8().into_raw();
    add("inks.jpg", jpeg_of(&inks, w, h, ColorType::Cmyk, None), w, h);
    add("inks-2.jpg", jpeg_of(&inks, w, h, ColorType::CmykAsYcck, None), w, h);
    for turn in [0, 1, 3, 6, 8, 99] {
        let raw = image.to_rgb8().into_raw();
        let bytes = jpeg_of(&raw, w, h, ColorType::Rgb, Some(&orientation(turn)));
        add(&format!("turned-{turn}.jpg"), bytes, w, h);
    }
    let raw = image.to_rgb8().into_raw();
    add("bad-exif.jpg", jpeg_of(&raw, w, h, ColorType::Rgb, Some(b"MM\0")), w, h);
    add("colours.bmp", encoded(&image, ImageFormat::Bmp), w, h);
    add("lossless.webp", encoded(&image, ImageFormat::WebP), w, h);
    add("plain.ppm", encoded(&image, ImageFormat::Pnm), w, h);
    add("trailing.jpg", [jpeg(&picture(2, w, h)), b"and more".to_vec()].concat(), w, h);
    add("palette.png", palette_png(), 4, 2);
    cases
}

/// Makes a PNG of two colours, one bit a pixel.
fn palette_png() -> Vec<u8> {
    use crate::support::images::crc32;
    let chunk = |kind: &[u8], content: &[u8]| {
        let checked = [kind, content].concat();
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [length.as_slice(), &checked, &crc32(&checked).to_be_bytes()].concat()
    };
    // Two rows, each a filter byte and four pixels, in one stored block.
    let rows = [0, 0b0101_0000, 0, 0b1010_0000];
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in rows {
        (a, b) = (a + u32::from(byte), b + a + u32::from(byte));
    }
    let mut data = vec![0x78, 1, 1, 4, 0, 0xfb, 0xff];
    data.extend(rows);
    data.extend((b << 16 | a).to_be_bytes());
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &[0, 0, 0, 4, 0, 0, 0, 2, 1, 3, 0, 0, 0]),
        chunk(b"PLTE", &[255, 0, 0, 0, 0, 255]),
        chunk(b"IDAT", &data),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

/// Runs every file of a folder at once, and gives the result for each name.
fn run_all(folder: &std::path::Path, code: i32) -> (Vec<Value>, String) {
    let outcome = detr_infer([".", "--jsonl", "--save", "drawn", "--format", "yolo"])
        .args(["--output", "labels", "--batch-size", "4", "--threshold", "0.05", "--model"])
        .arg(golden("detr_tiny_zip.pth"))
        .quick()
        .inside(folder)
        .run();
    assert_eq!(outcome.code, code, "{}", outcome.stderr);
    if let Some(peak) = outcome.peak_bytes {
        assert!(peak < 700 << 20, "{peak} bytes at the peak");
    }
    (outcome.json_lines(), outcome.stderr)
}

/// Gives each case a file in a folder of equal stems, which annotated pictures and labels need.
fn numbered<T>(cases: Vec<T>, name: impl Fn(&T) -> String) -> Vec<(String, T)> {
    let names = cases.iter().enumerate().map(|(i, case)| format!("{i:03}-{}", name(case)));
    names.collect::<Vec<_>>().into_iter().zip(cases).collect()
}

#[test]
fn bad_images_are_named_with_the_reason_and_leave_no_file() {
    let cases = numbered(bad(), |case| case.0.clone());
    let folder = folder_with(cases.iter().map(|(name, case)| (name.as_str(), case.1.clone())));
    std::fs::write(folder.path().join("zzz.png"), png(picture(3, 50, 40))).unwrap();
    let (results, stderr) = run_all(folder.path(), 1);
    assert_eq!(results.len(), cases.len() + 1);
    for ((name, (_, _, message)), result) in cases.iter().zip(&results) {
        assert_eq!(result["file"], format!("./{name}"));
        let error = result["error"].as_str().unwrap_or_else(|| panic!("{result}"));
        assert!(error.contains(message), "{name}: {error}");
        assert!(stderr.contains(&format!("error: ./{name}: {error}")), "{name}: {stderr}");
    }
    // The good one among them is done.
    assert_eq!(results.last().unwrap()["width"], 50);
    assert_eq!(names_in(&folder.path().join("drawn")), ["zzz.png"]);
    assert_eq!(names_in(&folder.path().join("labels")), ["classes.txt", "zzz.txt"]);
}

#[test]
fn damaged_images_decode_or_are_errors() {
    let cases = numbered(damaged(), |case| case.0.clone());
    let folder = folder_with(cases.iter().map(|(name, case)| (name.as_str(), case.1.clone())));
    std::fs::write(folder.path().join("zzz.jpg"), b"certainly bad").unwrap();
    let (results, _) = run_all(folder.path(), 1);
    assert_eq!(results.len(), cases.len() + 1);
    let drawn = names_in(&folder.path().join("drawn"));
    for ((name, _), result) in cases.iter().zip(&results) {
        let picture = name.rsplit_once('.').unwrap().0.to_owned() + ".png";
        assert_eq!(result["error"].is_null(), drawn.contains(&picture), "{result}");
        assert_ne!(result["error"].is_null(), result["detections"].is_null(), "{result}");
    }
    assert!(drawn.iter().all(|name| name.starts_with('0')));
}

#[test]
fn unusual_images_are_images() {
    let cases = numbered(odd(), |case| case.0.clone());
    let folder = folder_with(cases.iter().map(|(name, case)| (name.as_str(), case.1.clone())));
    let (results, _) = run_all(folder.path(), 0);
    assert_eq!(results.len(), cases.len());
    for ((name, (_, _, width, height)), result) in cases.iter().zip(&results) {
        assert_eq!((&result["width"], &result["height"]), (&(*width).into(), &(*height).into()));
        assert!(result["detections"].is_array(), "{name}: {result}");
    }
    assert_eq!(names_in(&folder.path().join("drawn")).len(), cases.len());
}

#[test]
fn images_are_turned_upright_only_when_asked() {
    let raw = picture(5, 50, 40).into_raw();
    let bytes = jpeg_of(&raw, 50, 40, ColorType::Rgb, Some(&orientation(6)));
    let folder = folder_with([("a.jpg", bytes)]);
    for (flag, width) in [(None, 50), (Some("--apply-exif"), 40)] {
        let run = detr_infer(["a.jpg", "--jsonl", "--model"]).arg(golden("detr_tiny_zip.pth"));
        let result = run.args(flag).quick().inside(folder.path()).run().expect(0).json_lines();
        assert_eq!(result[0]["width"], width);
    }
}

#[test]
fn bombs_cost_no_memory() {
    let bombs = bad().into_iter().filter(|case| case.2 == "more than the limit");
    let model = golden("detr_tiny_zip.pth");
    for (name, bytes, _) in bombs {
        let folder = folder_with([(name.as_str(), bytes)]);
        let run = detr_infer([&name, "--model"]).arg(&model).quick().inside(folder.path());
        let outcome = run.run().expect(1);
        assert!(outcome.ends_with_hint(), "{}", outcome.stderr);
        if let Some(peak) = outcome.peak_bytes {
            assert!(peak < 256 << 20, "{name}: {peak} bytes at the peak");
        }
    }
    // The limit is the user's to set.
    let folder = folder_with([("a.png", png(picture(1, 50, 40)))]);
    for (limit, code) in [("1999", 1), ("2000", 0)] {
        let run = detr_infer(["a.png", "--max-pixels", limit, "--model"]).arg(&model);
        run.quick().inside(folder.path()).run().expect(code);
    }
}

/// Names that stand for no regular file; the text is what the error says.
#[test]
fn sources_that_are_no_files_are_refused() {
    let folder = folder_with([("empty.txt", Vec::new()), ("latin.txt", b"caf\xe9.png".to_vec())]);
    std::fs::create_dir(folder.path().join("folder.jpg")).unwrap();
    for (source, code, message) in [
        ("folder.jpg", 2, "no images directly in folder"),
        ("missing.jpg", 2, "no such file or folder: `missing.jpg`"),
        ("*.gif", 2, "no file matches"),
        ("[", 2, "neither a file nor a glob"),
        ("@missing.txt", 2, "missing.txt"),
        ("@empty.txt", 2, "names no images"),
        ("@latin.txt", 2, "not UTF-8 text (line 1)"),
        ("@folder.jpg", 2, "folder.jpg"),
        ("", 2, "no such file or folder"),
        ("-", 1, "is empty"),
    ] {
        let outcome = detr_infer([source]).quick().inside(folder.path()).run();
        super::check_refused(source, folder.path(), &outcome, code, message);
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_not_read() {
    use std::os::unix::ffi::OsStrExt;

    let folder = folder_with([("good.png", png(picture(1, 60, 40)))]);
    let pipe = folder.path().join("pipe.jpg");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for (source, message) in [("pipe.jpg", "is a named pipe"), ("/dev/zero", "is a device")] {
        let outcome = detr_infer([source]).quick().inside(folder.path()).run();
        super::check_refused(source, folder.path(), &outcome, 1, message);
    }
    // In a folder they are passed over.
    let outcome = detr_infer(["."]).quick().inside(folder.path()).run().expect(0);
    assert_eq!(outcome.stdout.lines().count(), 1);
    // Results never replace them.
    let args = ["good.png", "--format", "csv", "--output", "pipe.jpg"];
    let outcome = detr_infer(args).quick().inside(folder.path()).run();
    super::check_refused("a pipe", folder.path(), &outcome, 2, "it is a device or pipe");
    assert!(!pipe.is_file());

    let name = OsStr::from_bytes(b"caf\xe9.png");
    std::fs::copy(folder.path().join("good.png"), folder.path().join(name)).unwrap();
    let outcome = detr_infer([".", "--json"]).quick().inside(folder.path()).run().expect(0);
    assert_eq!(outcome.json()[0]["file"], r"./caf\xE9.png");
    detr_infer([name]).quick().inside(folder.path()).run().expect(0);
}
