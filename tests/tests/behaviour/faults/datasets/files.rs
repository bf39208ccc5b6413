//! Image files of data sets: missing, damaged, and names that lead elsewhere.

use std::fs;

use super::{Case, check_all, look};
use crate::support::images::{jpeg, jpeg_claiming, picture, png, png_claiming, truncated};
use crate::support::{detr, detr_bench, folder_with};

/// Makes a data set of two images, of which the second has this name.
fn json(name: &str) -> Vec<u8> {
    let name = serde_json::Value::from(name);
    format!(
        r#"{{"images": [{{"id": 1, "file_name": "a.png"}}, {{"id": 2, "file_name": {name}}}],
            "annotations": [{{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20],
                              "area": 400, "iscrowd": 0}}],
            "categories": [{{"id": 1, "name": "cat"}}]}}"#
    )
    .into_bytes()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, message) in [
        ("/etc/hostname", "leads out of the data set"),
        ("../a.png", "leads out of the data set"),
        ("x/../../a.png", "leads out of the data set"),
        ("..\\a.png", "leads out of the data set"),
        ("%2e%2e/a.png", "%2e%2e/a.png"),
        ("a\0.png", "image 2"),
        ("", "image 2"),
        (".", "image 2"),
        ("C:\\a.png", "image 2"),
        ("missing.png", "missing.png"),
        ("d.json", "d.json"),
    ] {
        let files = vec![("d.json", json(name))];
        cases.push(Case {
            name: format!("named {name:?}"),
            files,
            path: "d.json",
            code: 1,
            message,
        });
    }
    let photo = jpeg(&picture(7, 160, 120));
    for (name, bytes, code, message) in [
        ("cut-1.jpg", truncated(&photo, 1), 1, "cut-1.jpg"),
        ("cut-10.jpg", truncated(&photo, 10), 1, "cut-10.jpg"),
        ("cut-50.jpg", truncated(&photo, 50), 1, "cut-50.jpg"),
        ("cut-99.jpg", truncated(&photo, 99), 1, "cut-99.jpg"),
        ("no-end.jpg", photo[..photo.len() - 2].to_vec(), 1, "truncated JPEG"),
        ("empty.jpg", Vec::new(), 1, "is empty"),
        ("page.jpg", b"<!doctype html><html></html>".to_vec(), 1, "an HTML page"),
        ("moving.png", b"GIF89a\x10\0\x10\0\0\0\0;".to_vec(), 1, "a GIF image"),
        ("bomb.png", png_claiming(50_000, 50_000, &[0x78, 0x9c]), 1, "more than the limit"),
        ("bomb.jpg", jpeg_claiming(65_500, 65_500), 1, "more than the limit"),
        ("short.png", png_claiming(9_000, 9_000, &[0x78, 0x9c, 0x63, 0]), 1, "short.png"),
        ("misnamed.jpg", png(picture(3, 50, 40)), 0, "2 images"),
        ("tall.png", png(picture(3, 2, 900)), 0, "more than 8 times longer"),
        ("a-copy.png", png(picture(1, 60, 40)), 0, "files of identical content"),
    ] {
        let files = vec![("d.json", json(name)), (name, bytes)];
        cases.push(Case { name: name.to_owned(), files, path: "d.json", code, message });
    }
    cases
}

#[test]
fn image_files_that_cannot_be_used_are_named() {
    check_all(&cases());
}

#[cfg(unix)]
#[test]
fn links_pipes_and_devices_do_not_lead_out() {
    use std::os::unix::fs::symlink;

    let outside = folder_with([("b.png", png(picture(4, 60, 40)))]);
    let folder = folder_with([("a.png", png(picture(1, 60, 40))), ("d.json", json("b.png"))]);
    let target = folder.path().join("b.png");
    let made = |result: std::io::Result<()>| result.unwrap();
    symlink(outside.path().join("b.png"), &target).unwrap();
    let refused = look(folder.path(), "d.json").expect(1);
    assert!(refused.stdout.contains("leads out of the data set"), "{}", refused.stdout);
    detr(["data", "check", "d.json", "--follow-symlinks"]).inside(folder.path()).run().expect(0);
    // A link that stays inside is like any file.
    fs::create_dir(folder.path().join("real")).unwrap();
    fs::copy(outside.path().join("b.png"), folder.path().join("real/b.png")).unwrap();
    made(fs::remove_file(&target));
    made(symlink("real/b.png", &target));
    look(folder.path(), "d.json").expect(0);
    made(fs::remove_file(&target));
    made(symlink("/dev/zero", &target));
    look(folder.path(), "d.json").expect(1);
    made(fs::remove_file(&target));
    assert!(std::process::Command::new("mkfifo").arg(&target).status().unwrap().success());
    let outcome = look(folder.path(), "d.json").expect(1);
    assert!(outcome.stdout.contains("b.png"), "{}", outcome.stdout);
}

#[test]
fn a_picture_of_samples_names_the_image_that_cannot_be_read() {
    let cut = truncated(&jpeg(&picture(7, 160, 120)), 50);
    let files = [("a.png", png(picture(1, 60, 40))), ("b.jpg", cut), ("d.json", json("b.jpg"))];
    let folder = folder_with(files);
    let args = ["data", "preview", "d.json", "--output", "grid.png"];
    let outcome = detr(args).inside(folder.path()).run().expect(1);
    assert!(
        outcome.stderr.contains("b.jpg") && outcome.stderr.contains("image 2"),
        "{}",
        outcome.stderr
    );
    assert!(!folder.path().join("grid.png").exists());
}

#[test]
fn bad_images_are_replaced_up_to_a_limit_and_no_epoch_is_shorter() {
    let folder = tempfile::tempdir().unwrap();
    let synth = ["data", "synth", "s", "--count", "30", "--size", "32x40", "--objects", "1"];
    detr(synth).inside(folder.path()).run().expect(0);
    std::fs::write(folder.path().join("no.toml"), "transforms = []\n").unwrap();
    let spoil = |numbers: std::ops::RangeInclusive<u32>| {
        for number in numbers {
            let image = folder.path().join(format!("s/train/{number:012}.png"));
            let bytes = fs::read(&image).unwrap();
            fs::write(&image, truncated(&bytes, 50)).unwrap();
        }
    };
    let load = |workers: &str| {
        let args = ["data", "s", "--batch-size", "4", "--augmentation", "no.toml"];
        detr_bench(args).args(["--json", "--workers", workers]).inside(folder.path()).run()
    };
    spoil(3..=4);
    let runs = ["0", "1", "4"].map(|workers| load(workers).expect(0).json());
    for run in &runs {
        assert_eq!(
            (&run["images"], &run["batches"], &run["replaced"]),
            (&30.into(), &8.into(), &2.into())
        );
        assert_eq!(run["hashes"], runs[0]["hashes"]);
    }
    // Ten may be replaced, not eleven.
    spoil(5..=13);
    for workers in ["0", "4"] {
        let stopped = load(workers).expect(1);
        assert!(stopped.stderr.contains(".png") && stopped.stdout.is_empty(), "{}", stopped.stderr);
    }
}
