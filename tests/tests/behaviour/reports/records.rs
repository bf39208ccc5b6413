//! Reports about contents of a data set's files: labels, classes, ids, encodings and turned photographs.

use std::fs;
use std::path::Path;

use jpeg_encoder::ColorType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::images::{crc32, jpeg_of, orientation, picture, png};
use crate::support::{Outcome, detr};

/// Makes a folder with these files, each below as many folders as its name has.
pub(super) fn tree<N: AsRef<str>>(files: impl IntoIterator<Item = (N, Vec<u8>)>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// Draws a picture of 100 x 80 pixels.
pub(super) fn photo(seed: u32) -> Vec<u8> {
    png(picture(seed, 100, 80))
}

pub(super) fn data(folder: &Path, args: &[&str]) -> Outcome {
    detr(["data"]).args(args).inside(folder).run()
}

/// Returns the findings of the doctor by kind.
fn found(folder: &Path, args: &[&str]) -> Vec<(String, u64)> {
    let args = [&["check", ".", "--json", "--rare", "0"][..], args].concat();
    let report: Value = serde_json::from_str(&data(folder, &args).stdout).unwrap();
    let finding =
        |f: &Value| (f["kind"].as_str().unwrap().to_owned(), f["count"].as_u64().unwrap());
    report["findings"].as_array().unwrap().iter().map(finding).collect()
}

fn count(findings: &[(String, u64)], kind: &str) -> u64 {
    findings.iter().find(|finding| finding.0 == kind).map_or(0, |finding| finding.1)
}

/// Converts the data set to COCO's JSON with `detr data convert`.
fn converted(folder: &Path, args: &[&str]) -> Value {
    let out = tempfile::tempdir().unwrap();
    let output = out.path().to_str().unwrap();
    let flags = ["convert", ".", "--to", "coco", "--output", output];
    data(folder, &[&flags[..], args].concat()).expect(0);
    let text = fs::read(out.path().join("annotations/instances_train.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Returns the names of classes with the boxes of their objects, rounded to a thousandth, in the order
/// of the file.
fn objects(coco: &Value) -> Vec<(String, [f64; 4])> {
    let name = |id: &Value| {
        let class = coco["categories"].as_array().unwrap().iter().find(|class| class["id"] == *id);
        class.unwrap()["name"].as_str().unwrap().to_owned()
    };
    let object = |object: &Value| {
        let side = |at: usize| (object["bbox"][at].as_f64().unwrap() * 1000.0).round() / 1000.0;
        (name(&object["category_id"]), [side(0), side(1), side(2), side(3)])
    };
    coco["annotations"].as_array().unwrap().iter().map(object).collect()
}

// KITTI ------------------------------------------------------------------------------------------------------------

const KITTI: &str = "0.00 0 -1.57 50.00 40.00 90.00 80.00 1.5 1.6 3.9 1.0 2.0 30.0 0.01";
const KITTI_BOX: [f64; 4] = [50.0, 40.0, 40.0, 40.0];

fn kitti(labels: &[&str]) -> TempDir {
    let files = (0..).zip(labels).flat_map(|(at, label): (u32, _)| {
        [
            (format!("training/image_2/{at:06}.png"), photo(at)),
            (format!("training/label_2/{at:06}.txt"), label.as_bytes().to_vec()),
        ]
    });
    tree(files)
}

#[test]
fn kitti_classes_may_have_several_words() {
    for class in ["Car", "Towed Object", "Person on a bike", "Level 2", "3 wheeler"] {
        for end in ["", " 0.93"] {
            // The only lines there are, so that they decide about the format, too.
            let folder = kitti(&[&format!("{class} {KITTI}{end}\n")]);
            if class == "Level 2" && !end.is_empty() {
                continue; // two numbers more than KITTI has are refused, below
            }
            let coco = converted(folder.path(), &[]);
            assert_eq!(objects(&coco), [(class.to_owned(), KITTI_BOX)], "{class}{end}");
        }
    }
}

#[test]
fn kitti_lines_with_other_columns_are_malformed() {
    for (line, part) in [
        (KITTI.replacen("40.00", "", 1), "expected 15 columns, found 14"),
        (KITTI.replace("50.00", "left"), "columns 5 to 8, found \"left\" in column 5"),
        (KITTI.replace("-1.57", "n/a"), "column 4 is \"n/a\""),
        (format!("{KITTI} 1 2"), "found 17"),
        (KITTI.replace(' ', ","), "expected 15 columns, found 2"),
    ] {
        let folder = kitti(&[&format!("Car {KITTI}\n"), &format!("Van {line}\n")]);
        let outcome = data(folder.path(), &["check", "."]).expect(1);
        assert!(outcome.stdout.contains("malformed record"), "{}", outcome.stdout);
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
        assert!(outcome.stdout.contains("000001.txt:1: "), "{}", outcome.stdout);
    }
}

#[test]
fn kitti_sequences_are_read() {
    let line = |frame: u32, track: i32, class: &str| format!("{frame} {track} {class} {KITTI}\n");
    let first = [line(0, 1, "Car"), line(0, -1, "DontCare"), line(2, 1, "Towed Object")].concat();
    let second = [line(1, 7, "Car"), line(9, 7, "Car")].concat();
    let mut files = vec![
        ("training/label_02/0000.txt".to_owned(), first.into_bytes()),
        ("training/label_02/0001.txt".to_owned(), second.into_bytes()),
        ("training/label_02/0002.txt".to_owned(), line(0, 1, "Van").into_bytes()),
    ];
    for (sequence, frames) in [(0, 3), (1, 2)] {
        let name = |frame| format!("training/image_02/{sequence:04}/{frame:06}.png");
        files.extend((0..frames).map(|frame| (name(frame), photo(10 * sequence + frame))));
    }
    let folder = tree(files);
    let coco = converted(folder.path(), &[]);
    let expected = ["Car", "Towed Object", "Car"].map(|class| (class.to_owned(), KITTI_BOX));
    assert_eq!(objects(&coco), expected);
    let images: Vec<u64> = coco["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["image_id"].as_u64().unwrap())
        .collect();
    assert_eq!((images, coco["images"].as_array().unwrap().len()), (vec![1, 3, 5], 5));
    let outcome = data(folder.path(), &["check", "."]).expect(0);
    for part in ["region to be ignored", "label_02/0002.txt", "label_02/0001.txt, frame 9"] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
}

// YOLO -------------------------------------------------------------------------------------------------------------

pub(super) fn yolo(yaml: &str, label: &str) -> TempDir {
    tree([
        ("data.yaml", format!("train: images/train\n{yaml}\n").into_bytes()),
        ("images/train/a.png", photo(1)),
        ("labels/train/a.txt", label.as_bytes().to_vec()),
    ])
}

/// The box `0.5 0.5 0.4 0.4` in pixels.
const YOLO_BOX: [f64; 4] = [30.0, 24.0, 40.0, 32.0];

#[test]
fn pose_lines_are_boxes_where_the_shape_of_keypoints_is_stated() {
    for (shape, numbers) in
        [("[5, 2]", 10), ("[4, 3]", 12), ("[17, 3]", 51), ("[17, 2]", 34), ("[1, 2]", 2)]
    {
        let points = " 0.45".repeat(numbers);
        let folder = yolo(
            &format!("kpt_shape: {shape}\nflip_idx: [0]\nnames: [face]"),
            &format!("0 0.5 0.5 0.4 0.4{points}\n0 0.5 0.5 0.4 0.4\n"),
        );
        let coco = converted(folder.path(), &[]);
        assert_eq!(objects(&coco), [("face".to_owned(), YOLO_BOX), ("face".to_owned(), YOLO_BOX)]);
        assert!(coco["annotations"][0].get("segmentation").is_none(), "{coco}");
        assert_eq!(count(&found(folder.path(), &[]), "keypoints"), 1, "{shape}");
        let lost = ["convert", ".", "--to", "coco", "--output", "out"];
        let lost = data(folder.path(), &lost).expect(0).stdout;
        assert!(lost.contains("1  objects whose keypoints are left out"), "{lost}");
    }
    // A line of another length is neither an outline nor a pose.
    let folder = yolo("kpt_shape: [5, 2]\nnames: [face]", "0 0.1 0.1 0.2 0.1 0.2 0.2\n");
    let outcome = data(folder.path(), &["check", "."]).expect(1);
    assert!(outcome.stdout.contains("`kpt_shape: [5, 2]` says"), "{}", outcome.stdout);
    // Pairs of numbers are an outline if there is no shape, and others are told about it.
    let folder = yolo("names: [face]", "0 0.1 0.1 0.2 0.1 0.2 0.2\n");
    assert!(converted(folder.path(), &[])["annotations"][0]["segmentation"].is_array());
    let folder = yolo("names: [face]", &format!("0 0.5 0.5 0.4 0.4{}\n", " 0.45".repeat(51)));
    let outcome = data(folder.path(), &["check", "."]).expect(1);
    assert!(outcome.stdout.contains("where data.yaml has `kpt_shape`"), "{}", outcome.stdout);
}

#[test]
fn classes_are_whole_numbers_in_any_notation() {
    for class in ["1.000000000000000000e+00", "1.0", "1e0", "+1", "01", "1."] {
        let folder = yolo("names: [cat, dog]", &format!("{class} 0.5 0.5 0.4 0.4\n"));
        assert_eq!(
            objects(&converted(folder.path(), &[])),
            [("dog".to_owned(), YOLO_BOX)],
            "{class}"
        );
    }
    for class in ["1.5", "-1", "-1.0", "nan", "inf", "1e300", "dog", "2.0"] {
        let folder = yolo("names: [cat, dog]", &format!("{class} 0.5 0.5 0.4 0.4\n"));
        let outcome = data(folder.path(), &["check", "."]).expect(1);
        assert!(outcome.stdout.contains("a.txt:1: class "), "{class}: {}", outcome.stdout);
    }
}

#[test]
fn names_that_are_numbers_keep_their_text() {
    for (names, first) in [
        ("[02146, 21008]", "02146"),
        ("{0: 1, 1: no}", "1"),
        ("{'0': a, '1': b}", "a"),
        ("\n  0: 2.50\n  1: 0x1F", "2.50"),
        ("\n- 007\n- 1e3", "007"),
        ("[yes, no]", "yes"),
        ("[~, null]", "~"),
        ("['1', \"2\"]", "1"),
    ] {
        let folder = yolo(&format!("nc: 2\nnames: {names}"), "0 0.5 0.5 0.4 0.4\n");
        assert_eq!(
            objects(&converted(folder.path(), &[])),
            [(first.to_owned(), YOLO_BOX)],
            "{names}"
        );
    }
    for (name, text) in [("1", "1"), ("2.50", "2.50"), ("true", "true"), ("\"007\"", "007")] {
        let json = format!(
            r#"{{"images": [{{"id": 1, "file_name": 7, "width": 100, "height": 80}}], "annotations": [
                {{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0}}],
                "categories": [{{"id": 3, "name": {name}, "supercategory": 5}}]}}"#
        );
        let folder = tree([("x.json", json.into_bytes()), ("7", photo(1))]);
        let coco = converted(folder.path(), &[]);
        assert_eq!(objects(&coco), [(text.to_owned(), [1.0, 2.0, 30.0, 40.0])]);
        assert_eq!(
            (&coco["images"][0]["file_name"], &coco["categories"][0]["supercategory"]),
            (&json!("7"), &json!("5"))
        );
    }
}

// VOC --------------------------------------------------------------------------------------------------------------

/// Writes an annotation with the encoding that it declares.
fn voc(encoding: &str, class: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"{encoding}\"?>\n<annotation><filename>a.png</filename>\
         <size><width>100</width><height>80</height></size><object><name>{class}</name><bndbox>\
         <xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object></annotation>"
    )
}

#[test]
fn xml_is_read_in_the_encoding_that_it_declares() {
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect()
    };
    let latin = |text: &str| {
        text.chars().map(|c| if c == '€' { 0x80 } else { u8::try_from(c).unwrap() }).collect()
    };
    let class = "Fußgänger";
    for (name, bytes, class) in [
        ("le", utf16(&voc("UTF-16", class), u16::to_le_bytes), class),
        ("be", utf16(&voc("utf-16", class), u16::to_be_bytes), class),
        ("latin", latin(&voc("ISO-8859-1", class)), class),
        ("windows", latin(&voc("windows-1252", "5 €")), "5 €"),
        ("saved anew", voc("UTF-16", class).into_bytes(), class),
        ("plain", voc("gb2312", "car").into_bytes(), "car"),
    ] {
        let folder = tree([("Annotations/a.xml", bytes), ("JPEGImages/a.png", photo(1))]);
        let coco = converted(folder.path(), &[]);
        assert_eq!(objects(&coco), [(class.to_owned(), [10.0, 20.0, 30.0, 40.0])], "{name}");
    }
    for (declared, bytes) in [("gb2312", b"\xc8\xcb".as_slice()), ("Shift_JIS", b"\x90\x6c")] {
        let text = voc(declared, "@").into_bytes();
        let at = text.iter().position(|&byte| byte == b'@').unwrap();
        let text = [&text[..at], bytes, &text[at + 1..]].concat();
        let folder = tree([("Annotations/a.xml", text), ("JPEGImages/a.png", photo(1))]);
        let outcome = data(folder.path(), &["check", "."]).expect(3);
        assert!(
            outcome.stderr.contains(declared) && outcome.ends_with_hint(),
            "{}",
            outcome.stderr
        );
    }
}

// COCO -------------------------------------------------------------------------------------------------------------

/// COCO's JSON of one image and these annotations: id, box and area.
fn coco(annotations: &[(Value, [f64; 4], Value)]) -> Vec<u8> {
    let annotation = |(id, bbox, area): &(Value, [f64; 4], Value)| json!({ "id": id, "image_id": 1, "category_id": 1, "bbox": bbox, "area": area, "iscrowd": 0, "segmentation": null });
    let annotations: Vec<Value> = annotations.iter().map(annotation).collect();
    let image = json!({ "id": 1, "file_name": "a.png", "width": 100, "height": 80 });
    let file = json!({ "info": {}, "licenses": {}, "images": [image], "annotations": annotations,
                       "categories": [{ "id": 1, "name": "cat" }] });
    file.to_string().into_bytes()
}

#[test]
fn annotation_ids_may_be_texts() {
    let bbox = |x: f64| [x, 6.0, 25.0, 25.0];
    let ids = [json!("c33c3539-4f6e"), json!(7), json!("12"), json!("c33c3539-4f6e")];
    let annotations: Vec<_> =
        (0..).zip(ids).map(|(at, id)| (id, bbox(f64::from(at)), json!(625))).collect();
    let folder = tree([("x.json", coco(&annotations)), ("a.png", photo(1))]);
    let findings = found(folder.path(), &[]);
    assert_eq!((count(&findings, "text_id"), count(&findings, "duplicate_object_id")), (3, 0));
    let read = converted(folder.path(), &[]);
    let ids: Vec<i64> =
        read["annotations"].as_array().unwrap().iter().map(|o| o["id"].as_i64().unwrap()).collect();
    assert_eq!((ids, objects(&read).len()), (vec![8, 7, 9, 10], 4));
    data(folder.path(), &["check", "."]).expect(0);
    // An id that is nothing is still wrong.
    for id in [json!(""), json!(null), json!([1]), json!(1.5)] {
        let folder = tree([("x.json", coco(&[(id, bbox(1.0), json!(625))])), ("a.png", photo(1))]);
        let outcome = data(folder.path(), &["check", "."]).expect(1);
        assert!(outcome.stdout.contains("annotations[0].id"), "{}", outcome.stdout);
    }
}

#[test]
fn areas_that_contradict_their_boxes_are_counted() {
    let bbox = [10.0, 10.0, 25.0, 25.0];
    for (area, contradicts) in [
        (json!(0), 1),
        (json!(-4), 1),
        (json!(90_000), 1),
        (json!(625), 0),
        (json!(3.5), 0),
        (json!(650.0), 0),
        (json!(null), 0),
    ] {
        let folder =
            tree([("x.json", coco(&[(json!(1), bbox, area.clone())])), ("a.png", photo(1))]);
        assert_eq!(count(&found(folder.path(), &[]), "area_differs"), contradicts, "{area}");
    }
}

// Results ----------------------------------------------------------------------------------------------------------

/// Makes the ground truth of three images with two objects each; images are described by `image`.
pub(super) fn truth(image: impl Fn(i64) -> Value) -> Value {
    let boxes = [[100.0, 120.0, 80.0, 60.0], [300.0, 200.0, 120.0, 150.0]];
    let mut annotations = Vec::new();
    for (at, bbox) in (0..6).map(|at| (at, boxes[at % 2])) {
        annotations
            .push(json!({ "id": at + 1, "image_id": at / 2 + 1, "category_id": 1, "bbox": bbox,
                                 "area": bbox[2] * bbox[3], "iscrowd": 0 }));
    }
    json!({ "images": (1..4).map(image).collect::<Vec<_>>(), "annotations": annotations,
            "categories": [{ "id": 1, "name": "car" }] })
}

/// Scores the objects of the ground truth themselves, with their boxes in another form.
fn scored(truth: &Value, form: impl Fn([f64; 4]) -> [f64; 4]) -> Outcome {
    let result = |object: &Value| {
        let bbox = [0, 1, 2, 3].map(|at| object["bbox"][at].as_f64().unwrap());
        json!({ "image_id": object["image_id"], "category_id": 1, "bbox": form(bbox), "score": 0.9 })
    };
    let results: Vec<Value> = truth["annotations"].as_array().unwrap().iter().map(result).collect();
    let results = Value::Array(results).to_string().into_bytes();
    let folder = tree([("gt.json", truth.to_string().into_bytes()), ("dt.json", results)]);
    detr(["eval", "--results", "dt.json", "--data", "gt.json"])
        .inside(folder.path())
        .run()
        .expect(0)
}

#[test]
fn results_are_scored_without_names_of_files() {
    for image in [
        (|id| json!({ "id": id })) as fn(i64) -> Value,
        |id| json!({ "id": id, "file_name": id }),
        |id| json!({ "id": id, "file_name": null, "width": 640, "height": 480 }),
        |id| json!({ "id": id, "file_name": "" }),
        |id| json!({ "id": id, "file_name": format!("/data/{id}.jpg") }),
        |id| json!({ "id": id, "file_name": "https://example.com/../x.jpg" }),
    ] {
        let outcome = scored(&truth(image), |bbox| bbox);
        assert!(outcome.stdout.contains("1.000"), "{}", outcome.stdout);
        assert!(!outcome.stderr.contains("file"), "{}", outcome.stderr);
    }
    // Elsewhere, images need their files.
    let folder = tree([("gt.json", truth(|id| json!({ "id": id })).to_string().into_bytes())]);
    let outcome = data(folder.path(), &["check", "."]).expect(1);
    assert!(
        outcome.stdout.contains("images[0] (") && outcome.stdout.contains("`file_name`"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn results_in_another_form_are_told() {
    let sized = |id: i64| json!({ "id": id, "width": 640, "height": 480 });
    for truth in [truth(sized), truth(|id| json!({ "id": id }))] {
        let told = |form: fn([f64; 4]) -> [f64; 4]| {
            let outcome = scored(&truth, form);
            outcome
                .stderr
                .lines()
                .find(|line| line.contains("the boxes of the results"))
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(told(|bbox| bbox), "");
        assert_eq!(told(|[x, y, w, h]| [x + 4.0, y - 3.0, w, h]), "");
        assert!(told(|[x, y, w, h]| [x, y, x + w, y + h]).contains("corners"));
        assert!(told(|[x, y, w, h]| [x + w / 2.0, y + h / 2.0, w, h]).contains("centres"));
        assert!(
            told(|[x, y, w, h]| [x / 640.0, y / 480.0, w / 640.0, h / 480.0]).contains("relative")
        );
    }
}

// The tests below are about turned photographs.

/// Draws a stored picture of 96 x 64 pixels, black but for a white square at the left of the first row; upright it is
/// 64 x 96.
fn turned(orientation_value: u8) -> Vec<u8> {
    let pixels: Vec<u8> = (0..64_u32 * 96)
        .flat_map(|at| [if at % 96 < 24 && at / 96 < 24 { 255 } else { 0 }; 3])
        .collect();
    jpeg_of(&pixels, 96, 64, ColorType::Rgb, Some(&orientation(orientation_value)))
}

/// Makes a data set of YOLO with a box on the upper right quarter of the upright view, where orientation 6 puts the
/// square.
fn turned_yolo(orientation_value: u8) -> TempDir {
    tree([
        ("data.yaml", b"train: images\nval: images\nnames: [square]\n".to_vec()),
        ("images/t.jpg", turned(orientation_value)),
        ("labels/t.txt", b"0 0.8125 0.125 0.375 0.25\n".to_vec()),
    ])
}

#[test]
fn turned_photographs_are_counted_and_yolo_needs_them_upright() {
    for (value, kind) in [(1, ""), (3, "turned_labels"), (6, "turned_labels"), (8, "turned_labels")]
    {
        let folder = turned_yolo(value);
        for files in ["skip", "header", "decode"] {
            let findings = found(folder.path(), &["--files", files]);
            assert_eq!(
                count(&findings, "turned_labels"),
                u64::from(!kind.is_empty()),
                "{value} {files}"
            );
            assert_eq!(count(&findings, "turned_image"), 0);
        }
        let code = i32::from(!kind.is_empty());
        let outcome = data(folder.path(), &["check", ".", "--rare", "0"]).expect(code);
        assert_eq!(outcome.stdout.contains("--apply-exif"), code == 1, "{}", outcome.stdout);
        data(folder.path(), &["check", ".", "--rare", "0", "--apply-exif", "--strict"]).expect(0);
    }
    // Others state pixels: only the doctor doubts them.
    let label = "square 0 0 0 10 10 30 30 0 0 0 0 0 0 0\n";
    let folder = tree([("image_2/1.jpg", turned(6)), ("label_2/1.txt", label.as_bytes().to_vec())]);
    assert_eq!(count(&found(folder.path(), &[]), "turned_image"), 1);
    data(folder.path(), &["check", "."]).expect(0);
    assert_eq!(count(&found(folder.path(), &["--apply-exif"]), "turned_image"), 0);
    // Other formats of images have EXIF data, too.
    let plain = photo(1);
    let chunk = [b"eXIf".as_slice(), &orientation(8)].concat();
    let length = u32::try_from(chunk.len() - 4).unwrap().to_be_bytes();
    // Behind the header, which has 25 bytes, and the signature.
    let turned_png = [&plain[..33], &length, &chunk, &crc32(&chunk).to_be_bytes(), &plain[33..]];
    let folder = tree([
        ("image_2/1.png", turned_png.concat()),
        ("image_2/2.png", plain.clone()),
        ("label_2/1.txt", label.as_bytes().to_vec()),
    ]);
    assert_eq!(count(&found(folder.path(), &[]), "turned_image"), 1);
    // A size that was stated of the upright view.
    let json = String::from_utf8(coco(&[(json!(1), [5.0, 5.0, 20.0, 20.0], json!(400))])).unwrap();
    let json =
        json.replace("\"height\":80", "\"height\":96").replace("\"width\":100", "\"width\":64");
    let folder = tree([("x.json", json.into_bytes()), ("a.png", turned(6))]);
    let outcome = data(folder.path(), &["check", "."]).expect(1);
    assert!(outcome.stdout.contains("its size when turned upright"), "{}", outcome.stdout);
    data(folder.path(), &["check", ".", "--apply-exif", "--rare", "0"]).expect(0);
}

#[test]
fn orientation_is_applied_by_all_commands_alike() {
    let folder = turned_yolo(6);
    let upright = [("square".to_owned(), [40.0, 0.0, 24.0, 24.0])];
    let coco = converted(folder.path(), &["--apply-exif"]);
    assert_eq!(objects(&coco), upright);
    assert_eq!(
        (&coco["images"][0]["width"], &coco["images"][0]["height"]),
        (&json!(64), &json!(96))
    );
    let stored =
        data(folder.path(), &["convert", ".", "--to", "coco", "--output", "stored"]).expect(0);
    assert!(stored.stderr.contains("EXIF orientation"), "{}", stored.stderr);
    // The other formats, which look up the size when they are written.
    for format in ["kitti", "voc", "yolo"] {
        let args = ["convert", ".", "--to", format, "--output", format, "--apply-exif"];
        let outcome = data(folder.path(), &args).expect(0);
        assert!(outcome.stderr.contains("--apply-exif, too"), "{}", outcome.stderr);
        let coco = converted(&folder.path().join(format), &["--apply-exif"]);
        assert_eq!(objects(&coco), upright, "{format}");
        assert_eq!(coco["images"][0]["height"], json!(96), "{format}");
    }
    let args = ["stats", ".", "--json", "--apply-exif"];
    assert_eq!(data(folder.path(), &args).expect(0).json()["image_sizes"], json!([["64x96", 1]]));
    let args = ["shard", "kitti", "--shards", "1", "--output", "shards", "--apply-exif"];
    data(folder.path(), &args).expect(0);
    let shard = fs::read(folder.path().join("shards/shard-00000-of-00001.json")).unwrap();
    let shard: Value = serde_json::from_slice(&shard).unwrap();
    assert_eq!(
        (objects(&shard).as_slice(), &shard["images"][0]["height"]),
        (upright.as_slice(), &json!(96))
    );
    // The picture: the square is white, and inside of the box.
    fs::write(folder.path().join("none.toml"), "transforms = []\n").unwrap();
    let args =
        ["preview", ".", "--output", "grid.png", "--cell", "96", "--augmentation", "none.toml"];
    let cell = |flags: &[&str]| {
        data(folder.path(), &[&args[..], flags].concat()).expect(0);
        image::open(folder.path().join("grid.png")).unwrap().to_rgb8()
    };
    let (grid, stored) = (cell(&["--apply-exif"]), cell(&[]));
    assert_eq!((grid.dimensions(), stored.dimensions()), ((104, 104), (104, 104)));
    // Inside of the box, below its name: the cell of 64 x 96 pixels stands in the middle of its square.
    assert!(grid.get_pixel(4 + 16 + 52, 4 + 19).0.iter().all(|&level| level > 200));
    // The stored picture has its white square elsewhere.
    assert!(stored.get_pixel(4 + 12, 4 + 16 + 12).0.iter().all(|&level| level > 200));
}

#[test]
fn training_takes_photographs_upright_where_its_settings_say_so() {
    let folder = turned_yolo(6);
    let settings = "[model]\narch = 'deformable-detr-tiny'\n[data]\ntrain = { sources = [{ path = '.' }] }\n\
                    augmentation = { transforms = [] }\nloader = { batch_size = 1, workers = 0 }\n\
                    [train]\nepochs = 1\n";
    fs::write(folder.path().join("run.toml"), settings).unwrap();
    for (flag, size) in [("data.apply_exif=false", "96x64"), ("data.apply_exif=true", "64x96")] {
        let args =
            ["train", "--config", "run.toml", "--dry-run", "--backend", "flex", "--set", flag];
        let outcome = detr(args).inside(folder.path()).run().expect(0);
        let batch = format!("1 image of {size}, 1 object");
        assert!(outcome.stdout.contains(&batch), "{}", outcome.stdout);
    }
}

// Preview ----------------------------------------------------------------------------------------------------------

#[test]
fn the_preview_shows_names_of_classes() {
    let json =
        String::from_utf8(coco(&[(json!(1), [20.0, 30.0, 60.0, 40.0], json!(2400))])).unwrap();
    let grid = |class: &str| {
        let json = json.replace("\"cat\"", &format!("\"{class}\""));
        let folder =
            tree([("x.json", json.into_bytes()), ("a.png", png(image::RgbImage::new(100, 80)))]);
        fs::write(folder.path().join("none.toml"), "transforms = []\n").unwrap();
        let args = ["preview", ".", "--output", "grid.png", "--augmentation", "none.toml"];
        data(folder.path(), &args).expect(0);
        image::open(folder.path().join("grid.png")).unwrap().to_rgb8()
    };
    let (cat, dog, long) = (grid("cat"), grid("dog"), grid("a longer name"));
    assert_ne!(cat, dog);
    // A plate of the class's colour stands on the box; a longer name needs a longer one.
    let lit =
        |image: &image::RgbImage| image.pixels().filter(|p| p.0.iter().any(|&v| v > 90)).count();
    assert!(lit(&long) > lit(&cat) + 300, "{} {}", lit(&long), lit(&cat));
}
