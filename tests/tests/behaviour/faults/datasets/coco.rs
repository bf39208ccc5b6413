//! COCO JSON: text, records, ids, boxes and outlines.

use std::fs;

use super::{Case, check_all, kinds, look};
use crate::support::folder_with;
use crate::support::images::{picture, png};

const IMAGE: &str = r#"{"id": 1, "file_name": "a.png", "width": 60, "height": 40}"#;
const CATEGORY: &str = r#"{"id": 1, "name": "cat"}"#;

fn json(images: &str, annotations: &str, categories: &str) -> String {
    format!(
        r#"{{"images": [{images}], "annotations": [{annotations}], "categories": [{categories}]}}"#
    )
}

/// Makes an annotation with these fields instead of, or beside, the usual ones.
fn annotation(changes: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("id", "1"),
        ("image_id", "1"),
        ("category_id", "1"),
        ("bbox", "[5, 5, 20, 20]"),
        ("area", "400"),
        ("iscrowd", "0"),
    ];
    for &(name, value) in changes {
        fields.retain(|field| field.0 != name);
        if !value.is_empty() {
            fields.push((name, value));
        }
    }
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", fields.join(", "))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, code, message| {
        let files = vec![("d.json", bytes)];
        cases.push(Case { name: name.to_owned(), files, path: "d.json", code, message });
    };
    let good = json(IMAGE, &annotation(&[]), CATEGORY);

    // Text.
    add("empty file", Vec::new(), 3, "d.json:1:0");
    add("cut in the middle", good.as_bytes()[..good.len() / 2].to_vec(), 3, "d.json:1:");
    add("cut at the end", good.as_bytes()[..good.len() - 1].to_vec(), 3, "EOF");
    add("something after the end", (good.clone() + "}").into_bytes(), 3, "trailing characters");
    add("a page", b"<!doctype html><html></html>".to_vec(), 3, "d.json:1:1");
    add("zeros", vec![0; 4096], 3, "d.json:1:1");
    add("not UTF-8", [good.as_bytes(), b"\xff\xfe"].concat(), 3, "UTF-8");
    add("deep lists", "[".repeat(200_000).into_bytes(), 3, "d.json:1:");
    add(
        "deep inside",
        json(&format!("{{\"id\": {}", "[".repeat(200_000)), "", "").into_bytes(),
        3,
        "d.json:1:200036",
    );
    add("deep objects", "{\"a\":".repeat(100_000).into_bytes(), 3, "d.json:1:");
    add("byte order mark", format!("\u{feff}{good}").into_bytes(), 0, "1 image, 1 object");
    add("a list, as of results", b"[]".to_vec(), 3, "looks like detection results");
    add("no images", br#"{"annotations": []}"#.to_vec(), 3, "missing field `images`");
    add("images as an object", br#"{"images": {}}"#.to_vec(), 3, "expected a sequence");
    add("two lists of images", br#"{"images": [], "images": []}"#.to_vec(), 3, "duplicate field");
    add("nothing in it", json("", "", "").into_bytes(), 1, "no images");

    // Records.
    let image = |text: &str| json(text, "", CATEGORY).into_bytes();
    add("image without id", image(r#"{"file_name": "a.png"}"#), 1, "missing field `id`");
    add(
        "image id as text",
        image(r#"{"id": "1", "file_name": "a.png"}"#),
        1,
        "images[0].id (d.json:1:",
    );
    add("image id as fraction", image(r#"{"id": 1.5, "file_name": "a.png"}"#), 1, "whole number");
    add(
        "image id too large",
        image(r#"{"id": 99999999999999999999, "file_name": "a.png"}"#),
        1,
        "images[0].id",
    );
    add("image without name", image(r#"{"id": 1}"#), 1, "missing field `file_name`");
    add(
        "image name as number",
        image(r#"{"id": 1, "file_name": 7}"#),
        1,
        "not there\n                  7\n",
    );
    add(
        "negative width",
        image(r#"{"id": 1, "file_name": "a.png", "width": -60}"#),
        1,
        "images[0].width",
    );
    add(
        "width of zero",
        image(r#"{"id": 1, "file_name": "a.png", "width": 0, "height": 0}"#),
        1,
        "no objects",
    );
    add("image as list", image("[1]"), 1, "images[0]");
    add("image as null", image("null"), 1, "images[0]");
    add("image twice", image(&format!("{IMAGE}, {IMAGE}")), 1, "image id used more than once");
    let class = |text: &str| json(IMAGE, &annotation(&[]), text).into_bytes();
    add("class without name", class(r#"{"id": 1}"#), 1, "missing field `name`");
    add(
        "class twice",
        class(&format!("{CATEGORY}, {CATEGORY}")),
        1,
        "category id used more than once",
    );
    add(
        "class name twice",
        class(r#"{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}"#),
        0,
        "category name used more than once",
    );
    add("no classes", class(""), 1, "annotation 1 has category 1");
    for (name, changes, code, message) in [
        ("no id", &[("id", "")][..], 1, "missing field `id`"),
        ("id as text", &[("id", "\"x\"")], 0, "annotation id that is a text"),
        ("id 0", &[("id", "0")], 0, "annotation id 0"),
        ("negative id", &[("id", "-3")], 0, "annotation -3"),
        ("no image id", &[("image_id", "")], 1, "missing field `image_id`"),
        ("unknown image", &[("image_id", "8")], 1, "annotation 1 of image 8"),
        ("no category", &[("category_id", "")], 1, "missing field `category_id`"),
        ("unknown category", &[("category_id", "9")], 1, "annotation 1 has category 9"),
        ("category as text", &[("category_id", "\"cat\"")], 1, "annotations[0].category_id"),
        ("no box", &[("bbox", "")], 1, "missing field `bbox`"),
        ("box of three", &[("bbox", "[1, 2, 3]")], 1, "annotations[0].bbox"),
        ("box of five", &[("bbox", "[1, 2, 3, 4, 5]")], 1, "annotations[0].bbox"),
        ("box as text", &[("bbox", "[1, 2, \"3\", 4]")], 1, "annotations[0].bbox[2]"),
        ("box as object", &[("bbox", "{\"x\": 1}")], 1, "annotations[0].bbox"),
        ("no area", &[("area", "")], 0, "annotation without an area"),
        ("no crowd flag", &[("iscrowd", "")], 0, "annotation without `iscrowd`"),
        ("crowd flag 2", &[("iscrowd", "2")], 1, "annotations[0].iscrowd"),
        ("only a crowd", &[("iscrowd", "1")], 1, "only crowds"),
        // Boxes.
        ("NaN", &[("bbox", "[NaN, 5, 20, 20]")], 1, "box with a number that is not finite"),
        ("infinite", &[("bbox", "[5, 5, Infinity, 20]")], 1, "annotation 1"),
        ("minus infinite", &[("bbox", "[5, -Infinity, 20, 20]")], 1, "not finite"),
        ("null", &[("bbox", "[5, null, 20, 20]")], 1, "not finite"),
        ("beyond f64", &[("bbox", "[5, 5, 1e400, 20]")], 1, "number out of range"),
        ("enormous", &[("bbox", "[5, 5, 1e308, 1e308]")], 0, "reaches over the border"),
        ("no width", &[("bbox", "[5, 5, 0, 20]")], 1, "box without area"),
        ("no height", &[("bbox", "[5, 5, 20, 0]")], 1, "annotation 1"),
        ("negative size", &[("bbox", "[25, 25, -20, 20]")], 1, "box of negative size"),
        ("left of the image", &[("bbox", "[-50, 5, 20, 20]")], 1, "box outside of its image"),
        ("below the image", &[("bbox", "[5, 500, 20, 20]")], 1, "box outside of its image"),
        ("corners", &[("bbox", "[30, 20, 55, 38]")], 1, "look like corners"),
        // Outlines.
        ("two points", &[("segmentation", "[[5, 5, 25, 25]]")], 1, "polygon that has no inside"),
        ("odd polygon", &[("segmentation", "[[5, 5, 25, 5, 25, 25, 5]]")], 1, "annotation 1: "),
        ("empty polygon", &[("segmentation", "[[]]")], 1, "polygon that has no inside"),
        ("NaN in a polygon", &[("segmentation", "[[5, 5, 25, NaN, 25, 25]]")], 1, "polygon"),
        ("text in a polygon", &[("segmentation", "[[5, 5, \"x\", 5, 25, 25]]")], 1, "polygon"),
        ("vast polygon", &[("segmentation", "[[0, 0, 1e300, 0, 1e300, 1e300]]")], 1, "polygon"),
        ("crossing polygon", &[("segmentation", "[[5, 5, 25, 25, 25, 5, 5, 25]]")], 0, "1 object"),
        ("no polygons", &[("segmentation", "[]")], 0, "1 object"),
        ("outline as text", &[("segmentation", "\"x\"")], 1, "annotation 1: "),
        (
            "code of another size",
            &[("segmentation", r#"{"size": [4, 4], "counts": [16]}"#)],
            1,
            "run-length code",
        ),
        (
            "code too short",
            &[("segmentation", r#"{"size": [40, 60], "counts": [5, 5]}"#)],
            1,
            "run-length code",
        ),
        (
            "code too long",
            &[("segmentation", r#"{"size": [40, 60], "counts": [4000000000, 4000000000]}"#)],
            1,
            "run-length code",
        ),
        (
            "negative code",
            &[("segmentation", r#"{"size": [40, 60], "counts": [-1, 2401]}"#)],
            1,
            "annotation 1: ",
        ),
        (
            "code of letters",
            &[("segmentation", r#"{"size": [40, 60], "counts": "zzzz~~~"}"#)],
            1,
            "run-length code",
        ),
        (
            "code without size",
            &[("segmentation", r#"{"counts": [2400]}"#)],
            1,
            "missing field `size`",
        ),
        (
            "code of nothing",
            &[("segmentation", r#"{"size": [0, 0], "counts": []}"#)],
            1,
            "run-length code",
        ),
        (
            "code of a bomb",
            &[("segmentation", r#"{"size": [4000000000, 4000000000], "counts": [16]}"#)],
            1,
            "run-length code",
        ),
    ] {
        add(name, json(IMAGE, &annotation(changes), CATEGORY).into_bytes(), code, message);
    }
    let twice = format!("{0}, {0}", annotation(&[]));
    add(
        "annotation twice",
        json(IMAGE, &twice, CATEGORY).into_bytes(),
        0,
        "annotation id used more than once",
    );
    let many: Vec<String> = (1..=101).map(|id| annotation(&[("id", &id.to_string())])).collect();
    add(
        "more objects than queries",
        json(IMAGE, &many.join(","), CATEGORY).into_bytes(),
        0,
        "image 1 has 101",
    );
    let sized = |w: u32, h: u32| {
        let image = format!(r#"{{"id": 1, "file_name": "a.png", "width": {w}, "height": {h}}}"#);
        json(&image, &annotation(&[]), CATEGORY).into_bytes()
    };
    add("stated twice as large", sized(120, 80), 0, "a.png is 60x40, stated 120x80");
    add("stated on its side", sized(40, 60), 1, "a.png is 60x40, stated 40x60");
    add("good", good.into_bytes(), 0, "1 image, 1 object");
    cases
}

#[test]
fn broken_coco_files_are_refused_or_counted() {
    check_all(&cases());
}

#[test]
fn what_is_found_is_counted_exactly() {
    let boxes = [
        ("1", "[5, 5, 0, 20]"),
        ("2", "[5, 5, 20, 20]"),
        ("3", "[5, 5, 20, 0]"),
        ("4", "[90, 5, 9, 9]"),
    ];
    let annotations = boxes.map(|(id, bbox)| annotation(&[("id", id), ("bbox", bbox)])).join(", ");
    let files = [
        ("a.png", png(picture(1, 60, 40))),
        ("d.json", json(IMAGE, &annotations, CATEGORY).into_bytes()),
    ];
    let folder = folder_with(files);
    let found = kinds(folder.path(), "d.json");
    let expected = [("zero_size_box", 2), ("box_outside_image", 1), ("rare_category", 1)];
    assert_eq!(found, expected.map(|(kind, count)| (kind.to_owned(), count)));
    assert!(look(folder.path(), "d.json").stdout.contains("annotation 1, annotation 3\n"));
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    // Five gigabytes of nothing take no room on the disk.
    fs::File::create(folder.path().join("d.json")).unwrap().set_len(5 << 30).unwrap();
    let outcome = look(folder.path(), "d.json").expect(3);
    assert!(outcome.stderr.contains("d.json: has 5368709120 bytes"), "{}", outcome.stderr);
}
