//! Bad input of every kind: each is refused or counted with its place, none ends the program.

mod elsewhere;
#[allow(clippy::float_cmp)] // numbers that come back as they were written
mod layouts;

use std::fs;

use detr_types::Limits;

use super::*;
use crate::dataset::Problem;

const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0,
    1, 0, 0, 0, 1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 0x0a, b'I', b'D', b'A', b'T',
    0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1, 0x48, 0xaf, 0xa4, 0x71, 0, 0, 0, 0, b'I', b'E', b'N',
    b'D', 0xae, 0x42, 0x60, 0x82,
];

const IMAGE: &str = r#"{"id": 1, "file_name": "a.png", "width": 100, "height": 50}"#;
const CATEGORY: &str = r#"{"id": 1, "name": "cat"}"#;
const OBJECT: &str =
    r#"{"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}"#;

fn coco(images: &str, annotations: &str, categories: &str) -> String {
    format!(
        r#"{{"images": [{images}], "annotations": [{annotations}], "categories": [{categories}]}}"#
    )
}

/// Makes a folder with files, an image `a.png` among them.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in [("a.png", PNG)].iter().chain(files) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    folder
}

fn read_json(json: &[u8], accept: Accept) -> Result<Dataset, DatasetError> {
    let folder = folder(&[("x.json", json)]);
    read(&folder.path().join("x.json"), &ReadOptions { accept, ..ReadOptions::default() })
}

fn object(field: &str, value: &str) -> String {
    let mut parts = vec![
        ("id", "5"),
        ("image_id", "1"),
        ("category_id", "1"),
        ("bbox", "[1, 2, 3, 4]"),
        ("area", "12"),
        ("iscrowd", "0"),
    ];
    parts.retain(|(name, _)| *name != field);
    if !value.is_empty() {
        parts.push((field, value));
    }
    let fields: Vec<String> =
        parts.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    coco(IMAGE, &format!("{{{}}}", fields.join(", ")), CATEGORY)
}

#[test]
fn records_are_counted_by_what_is_wrong_with_them() {
    let image = |field: &str| coco(field, "", CATEGORY);
    for (json, problem) in [
        (object("id", "\"5\""), Problem::TextId),
        (object("id", ""), Problem::MalformedRecord),
        (object("id", "1.5"), Problem::MalformedRecord),
        (object("id", "99999999999999999999"), Problem::MalformedRecord),
        (object("id", "0"), Problem::ZeroId),
        (object("id", "-4"), Problem::NegativeId),
        (object("image_id", "2"), Problem::UnknownImage),
        (object("image_id", "null"), Problem::MalformedRecord),
        (object("category_id", "9"), Problem::UnknownCategory),
        (object("bbox", ""), Problem::MalformedRecord),
        (object("bbox", "[1, 2, 3]"), Problem::MalformedRecord),
        (object("bbox", "[1, 2, 3, 4, 5]"), Problem::MalformedRecord),
        (object("bbox", "[1, 2, 3, \"4\"]"), Problem::MalformedRecord),
        (object("bbox", "{\"x\": 1}"), Problem::MalformedRecord),
        (object("bbox", "[1, 2, NaN, 4]"), Problem::NonFiniteBox),
        (object("bbox", "[-Infinity, 2, 3, 4]"), Problem::NonFiniteBox),
        (object("bbox", "[Infinity, 2, 3, 4]"), Problem::NonFiniteBox),
        (object("bbox", "[1, null, 3, 4]"), Problem::NonFiniteBox),
        (object("bbox", "[1, 2, 1e999, 4]"), Problem::MalformedRecord),
        (object("bbox", "[1, 2, 0, 4]"), Problem::ZeroSizeBox),
        (object("bbox", "[1, 2, -3, 4]"), Problem::NegativeSizeBox),
        (object("bbox", "[200, 2, 3, 4]"), Problem::BoxOutsideImage),
        (object("bbox", "[90, 2, 30, 4]"), Problem::BoxBeyondImage),
        (object("bbox", "[1, 2, 1e308, 1e308]"), Problem::BoxBeyondImage),
        (object("bbox", "[60, 20, 90, 40]"), Problem::CornersAsSize),
        (object("area", ""), Problem::MissingArea),
        (object("area", "\"big\""), Problem::MalformedRecord),
        (object("area", "NaN"), Problem::MissingArea),
        (object("iscrowd", ""), Problem::MissingCrowd),
        (object("iscrowd", "7"), Problem::MalformedRecord),
        (object("segmentation", "[[1, 2, 3, 4]]"), Problem::BadPolygon),
        (object("segmentation", "[[1, 2, 3, 4, 5, 6, 7]]"), Problem::BadPolygon),
        (object("segmentation", "[[1, 2, 3, 4, 5, NaN]]"), Problem::BadPolygon),
        (object("segmentation", "[[1, 2, 3, 4, 5, 1e300]]"), Problem::BadPolygon),
        (object("segmentation", "\"polygon\""), Problem::BadPolygon),
        (object("segmentation", r#"{"size": [50, 100], "counts": [1, 2]}"#), Problem::BadRle),
        (object("segmentation", r#"{"size": [9, 9], "counts": [81]}"#), Problem::BadRle),
        (object("segmentation", r#"{"size": [50, 100], "counts": [-1, 5001]}"#), Problem::BadRle),
        (object("segmentation", r#"{"size": [50, 100], "counts": "\u0001"}"#), Problem::BadRle),
        (object("segmentation", r#"{"size": [50], "counts": "0"}"#), Problem::BadRle),
        (coco(&format!("{IMAGE}, {IMAGE}"), OBJECT, CATEGORY), Problem::DuplicateImageId),
        (coco(IMAGE, &format!("{OBJECT}, {OBJECT}"), CATEGORY), Problem::DuplicateObjectId),
        (coco(IMAGE, OBJECT, &format!("{CATEGORY}, {CATEGORY}")), Problem::DuplicateCategoryId),
        (image(r#"{"id": 1}"#), Problem::MalformedRecord),
        (image(r#"{"id": "1", "file_name": "a.png"}"#), Problem::MalformedRecord),
        (image(r#"{"id": 1, "id": 2, "file_name": "a.png"}"#), Problem::MalformedRecord),
        (image(r#"{"id": 1, "file_name": "a.png", "width": -4}"#), Problem::MalformedRecord),
        (image("[1]"), Problem::MalformedRecord),
        (image(r#"{"id": 1, "file_name": 7}"#), Problem::MissingFile),
        (image(r#"{"id": 1, "file_name": "missing.png"}"#), Problem::MissingFile),
        (image(r#"{"id": 1, "file_name": "/etc/passwd"}"#), Problem::UnsafeFileName),
        (image(r#"{"id": 1, "file_name": "../a.png"}"#), Problem::UnsafeFileName),
        (image(r#"{"id": 1, "file_name": "%2e%2e/a.png"}"#), Problem::UnsafeFileName),
        (image(r#"{"id": 1, "file_name": "a\u0000.png"}"#), Problem::UnsafeFileName),
        (image(""), Problem::NoImages),
    ] {
        let dataset = read_json(json.as_bytes(), Accept::Everything).unwrap();
        assert!(dataset.report.count(problem) > 0, "{problem}: {json}\n{:?}", dataset.report);
        let finite =
            |object: &crate::ObjectRecord| object.bbox.is_finite() && object.area.is_finite();
        assert!(dataset.images.iter().flat_map(|image| &image.objects).all(finite), "{json}");
        // The severity decides which problems are refused.
        for (accept, least) in
            [(Accept::Errors, Severity::Fatal), (Accept::Warnings, Severity::Error)]
        {
            let refused =
                matches!(read_json(json.as_bytes(), accept), Err(DatasetError::Refused { .. }));
            assert_eq!(refused, dataset.report.worst() >= Some(least), "{accept:?}: {json}");
        }
    }
}

#[test]
fn messages_name_file_place_and_field() {
    let json = format!(
        "{{\"images\": [{IMAGE}],\n\"annotations\": [\n {}],\n\"categories\": []}}",
        OBJECT.replace("\"area\": 12", "\"area\": \"12\"")
    );
    let error = read_json(json.as_bytes(), Accept::Errors).unwrap_err().to_string();
    assert!(error.contains("annotations[0].area"), "{error}");
    assert!(
        error.contains("x.json:3:2): invalid type: string \"12\", expected a number"),
        "{error}"
    );
    assert!(error.contains("\nhint: "), "{error}");
}

#[test]
fn text_that_is_no_annotation_file_is_refused_with_its_place() {
    let good = coco(IMAGE, OBJECT, CATEGORY);
    let deep = format!("{{\"images\": {}", "[".repeat(200_000));
    let nested =
        coco(IMAGE, &OBJECT.replace("12", &("[".repeat(200_000) + &"]".repeat(200_000))), CATEGORY);
    let mut cases: Vec<(Vec<u8>, &str)> = [
        ("", ":1:0: "),
        ("[]", "hint: a list looks like detection results"),
        ("null", ":1:4: invalid type"),
        ("{}", "missing field `images`"),
        (r#"{"images": {}}"#, "expected a sequence"),
        (r#"{"images": [], "images": []}"#, "duplicate field `images`"),
        ("{\"images\": [\n{\"id\": 1,}]}", "x.json:2:"),
        (deep.as_str(), "x.json:1:"),
    ]
    .map(|(json, message)| (json.as_bytes().to_vec(), message))
    .into();
    cases.push((b"{\"images\": [\n\"\xff\"]}".to_vec(), "x.json:2:2: the text is not valid UTF-8"));
    for cut in 1..good.len() {
        cases.push((good.as_bytes()[..cut].to_vec(), "x.json:1:"));
    }
    for (json, message) in cases {
        let error = read_json(&json, Accept::Everything).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let dataset = read_json(nested.as_bytes(), Accept::Everything).unwrap();
    assert_eq!(dataset.report.count(Problem::MalformedRecord), 1);
    let with_mark = [b"\xef\xbb\xbf".as_slice(), good.as_bytes()].concat();
    assert_eq!(read_json(&with_mark, Accept::Warnings).unwrap().object_count(), 1);
    let folder = folder(&[("x.json", good.as_bytes())]);
    let limits = Limits { annotation_bytes: 20, ..Limits::default() };
    let options = ReadOptions { limits, ..ReadOptions::default() };
    let error = read(&folder.path().join("x.json"), &options).unwrap_err();
    assert!(matches!(error, DatasetError::TooLarge { limit: 20, .. }), "{error}");
}

/// Every byte of a file replaced by others: errors or counts, never a panic.
#[test]
fn damaged_files_of_every_format_do_no_harm() {
    let kitti = "car 0 0 0 1 2 3 4 0 0 0 0 0 0 0\n";
    let voc = "<annotation><filename>a.png</filename><size><width>9</width><height>9</height></size>\
               <object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>6</ymax>\
               </bndbox></object></annotation>";
    let yaml = "path: .\ntrain: images\nnames:\n  0: cat\n  1: dog\n";
    let json = coco(
        IMAGE,
        &OBJECT.replace("\"iscrowd\": 0", "\"segmentation\": [[1, 2, 3, 4, 5, 6]]"),
        CATEGORY,
    );
    let folder = folder(&[
        ("kitti/image_2/a.png", PNG),
        ("voc/JPEGImages/a.png", PNG),
        ("yolo/images/a.png", PNG),
        ("yolo/labels/a.txt", b"0 0.5 0.5 0.25 0.5\n"),
        ("line/images/a.png", PNG),
        ("line/data.yaml", yaml.as_bytes()),
    ]);
    let root = folder.path();
    for (data, file, text, format) in [
        (root.join("x.json"), root.join("x.json"), json.as_str(), Format::Coco),
        (root.join("kitti"), root.join("kitti/label_2/a.txt"), kitti, Format::Kitti),
        (root.join("voc"), root.join("voc/Annotations/a.xml"), voc, Format::Voc),
        (root.join("yolo"), root.join("yolo/data.yaml"), yaml, Format::Yolo),
        (
            root.join("line"),
            root.join("line/labels/a.txt"),
            "1 0.1 0.1 0.2 0.1 0.2 0.2\n",
            Format::Yolo,
        ),
    ] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let options = ReadOptions { accept: Accept::Everything, ..ReadOptions::default() };
        let sound = read(&data, &ReadOptions::default()).unwrap();
        assert_eq!(sound.object_count(), 1, "{format}: {:?}", sound.report);
        let known = ReadOptions { format: Some(format), ..options };
        for at in 0..text.len() {
            for byte in *b"\"<9e\xff" {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = byte;
                fs::write(&file, bytes).unwrap();
                let _ = read(&data, &known).map_err(|error| error.to_string());
            }
        }
    }
}

#[test]
fn what_cannot_be_recognised_says_what_was_looked_for() {
    let yolo = folder(&[("labels/a.txt", b"0 0.5 0.5 0.1 0.1")]);
    let several = folder(&[("annotations/one.json", b"{}"), ("annotations/two.json", b"{}")]);
    for (folder, message) in [
        (folder(&[]), "looked for data.yaml (YOLO)"),
        (yolo, "has no data.yaml with the names"),
        (several, "hint: give one of them, or the split"),
    ] {
        let error = read(folder.path(), &ReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let folder = folder(&[]);
    let error =
        read(&folder.path().join("a.png"), &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("hint: give a COCO `.json`"), "{error}");
    assert!(read(&folder.path().join("nothing"), &ReadOptions::default()).is_err());
}

#[test]
fn yaml_and_xml_are_bounded_and_errors_have_places() {
    let mut bomb = "a: &a [x, x]\n".to_owned();
    for (last, this) in ('a'..='y').zip('b'..='z') {
        let line = format!("{this}: &{this} [*{last}, *{last}, *{last}, *{last}, *{last}]\n");
        bomb.push_str(&line);
    }
    bomb.push_str("names: *z\n");
    for (yaml, message) in [
        ("names: [cat", "data.yaml:"),
        ("train: images\n", "names"),
        ("names: [cat]\n", "has no `train:`"),
        ("names: [cat]\ntrain: /etc\n", "is absolute"),
        ("names: [cat]\ntrain: a/../../etc\n", "contains `..`"),
        ("names: [cat]\ntrain: missing\n", "names missing, which is not in"),
        ("names: {0: cat, 4000000000: dog}\ntrain: .\n", "2 classes with numbers up to"),
        (&bomb, "data.yaml"),
        (&("names: ".to_owned() + &"[".repeat(100_000)), "data.yaml"),
    ] {
        let folder = folder(&[("data.yaml", yaml.as_bytes())]);
        let error = read(folder.path(), &ReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let entities = "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">\
                    <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]><annotation>&c;</annotation>";
    let file =
        "<!DOCTYPE a [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><annotation>&a;</annotation>";
    for (xml, message) in [
        ("<annotation>\n<object></annotation>", "a.xml:2:"),
        ("<html></html>", "<html> where <annotation> was expected"),
        ("", "a.xml:1:1: "),
        (entities, "a.xml:1:"),
        (file, "a.xml:1:"),
        (&"<annotation>".repeat(100_000), "a.xml:1:"),
    ] {
        let folder = folder(&[("Annotations/a.xml", xml.as_bytes())]);
        let error = read(folder.path(), &ReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn voc_corners_count_from_one_unless_a_corner_says_otherwise() {
    let xml = |corner: &str| {
        format!(
            "<annotation><filename>a.png</filename><object><name>cat</name><difficult>1</difficult><bndbox>\
         <xmin>{corner}</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>"
        )
    };
    for (corner, bbox) in [("1", [0.0, 1.0, 5.0, 5.0]), ("0", [0.0, 2.0, 5.0, 4.0])] {
        let folder = folder(&[("a.xml", xml(corner).as_bytes())]);
        let dataset = read(folder.path(), &ReadOptions::default()).unwrap();
        let object = &dataset.images[0].objects[0];
        assert_eq!((object.bbox.to_array(), object.iscrowd), (bbox, true));
    }
}

/// Makes a PNG of 4 by 2 pixels with these ids.
fn segments(ids: [u32; 8]) -> Vec<u8> {
    let pixels = image::RgbImage::from_fn(4, 2, |x, y| {
        let [r, g, b, _] = ids[(y * 4 + x) as usize].to_le_bytes();
        image::Rgb([r, g, b])
    });
    png(&pixels.into())
}

fn png(image: &image::DynamicImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

const SEGMENTS: &str = r#"{"id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0},
    {"id": 70000, "category_id": 2, "bbox": [2, 0, 2, 1], "area": 2, "iscrowd": 0}"#;

fn panoptic(segments: &str) -> String {
    format!(
        r#"{{"images": [{{"id": 1, "file_name": "a.png", "width": 4, "height": 2}}],
        "annotations": [{{"image_id": 1, "file_name": "s.png", "segments_info": [{segments}]}}],
        "categories": [{{"id": 1, "name": "cat", "isthing": 1}}, {{"id": 2, "name": "sky", "isthing": 0}}]}}"#
    )
}

#[test]
fn panoptic_segments_are_told_from_objects_and_have_their_pixels() {
    let json = panoptic(SEGMENTS);
    let picture = segments([7, 7, 70_000, 70_000, 7, 7, 0, 0]);
    let folder =
        folder(&[("panoptic_val.json", json.as_bytes()), ("panoptic_val/s.png", &picture)]);
    let path = folder.path().join("panoptic_val.json");
    let found = read_panoptic(&path, None, &ReadOptions::default()).unwrap();
    assert_eq!(found.segments[&1], folder.path().join("panoptic_val/s.png"));
    assert_eq!(found.dataset, read(&path, &ReadOptions::default()).unwrap());
    let things: Vec<bool> = found.dataset.categories.iter().map(|c| c.is_thing).collect();
    assert_eq!((things.as_slice(), found.dataset.object_count()), ([true, false].as_slice(), 2));
    assert!(found.dataset.report.problems.is_empty(), "{:?}", found.dataset.report);
    let size = detr_types::ImageSize::new(2, 4);
    let outlines: Vec<Vec<u8>> = found.dataset.images[0]
        .objects
        .iter()
        .map(|object| object.segmentation.as_ref().unwrap().to_mask(size).unwrap().bits)
        .collect();
    assert_eq!(outlines, [[1, 1, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]]);
    // Boxes end before the last pixel in training, so the sky of one row has none.
    let classes = found.dataset.class_table(crate::dataset::Labels::Contiguous).unwrap();
    let rules = crate::TargetRules::new(&classes).with_masks(true);
    let (sample, counts) = rules.sample(&found.dataset.images[0], image::RgbImage::new(4, 2));
    assert_eq!((counts.kept, counts.degenerate, counts.without_mask), (1, 1, 0));
    assert_eq!(sample.objects[0].bbox, detr_types::Xyxy { x1: 0.0, y1: 0.0, x2: 1.0, y2: 1.0 });
    assert_eq!(sample.objects[0].mask.as_ref().unwrap().bits, outlines[0]);
}

#[test]
fn pictures_of_segments_that_disagree_with_their_list_are_refused_by_name_and_id() {
    let picture = segments([7, 7, 70_000, 70_000, 7, 7, 0, 0]);
    let other_size = png(&image::RgbImage::new(2, 4).into());
    let deep = png(&image::ImageBuffer::<image::Rgb<u16>, _>::new(4, 2).into());
    let grey = png(&image::GrayImage::new(4, 2).into());
    let mut palette = picture.clone();
    palette[25] = 3;
    let truncated = &picture[..picture.len() - 20];
    let twice = SEGMENTS.replace("70000", "7");
    let zero = SEGMENTS.replace("70000", "0");
    let huge = SEGMENTS.replace("70000", "16777216");
    let negative = SEGMENTS.replace("70000", "-1");
    let other = SEGMENTS.replace("70000", "9");
    let one = &SEGMENTS[..=SEGMENTS.find("},").unwrap()];
    for (json, picture, problem, text) in [
        (SEGMENTS, &other_size[..], Problem::BadSegmentPicture, "s.png: it is 2x4, its image 4x2"),
        (SEGMENTS, &deep, Problem::BadSegmentPicture, "s.png: its samples have 16 bits"),
        (SEGMENTS, &grey, Problem::BadSegmentPicture, "s.png: it is grey"),
        (SEGMENTS, &palette, Problem::BadSegmentPicture, "s.png: it has a palette"),
        (SEGMENTS, truncated, Problem::BadSegmentPicture, "s.png: "),
        (SEGMENTS, b"hello", Problem::BadSegmentPicture, "s.png: it is no PNG"),
        (SEGMENTS, b"", Problem::BadSegmentPicture, "s.png: "),
        (one, &picture, Problem::UnlistedSegment, "s.png: id 70000"),
        ("", &picture, Problem::UnlistedSegment, "s.png: id 7"),
        (&other, &picture, Problem::SegmentWithoutPixels, "s.png: segment 9"),
        (&other, &picture, Problem::UnlistedSegment, "s.png: id 70000"),
        (&twice, &picture, Problem::BadSegmentId, "s.png: segment 7 is listed twice"),
        (&zero, &picture, Problem::BadSegmentId, "s.png: segment 0"),
        (&huge, &picture, Problem::BadSegmentId, "s.png: segment 16777216"),
        (&negative, &picture, Problem::BadSegmentId, "s.png: segment -1"),
    ] {
        let json = panoptic(json);
        let folder = folder(&[("val.json", json.as_bytes()), ("val/s.png", picture)]);
        let path = folder.path().join("val.json");
        let error = read(&path, &ReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains("hint: ") && error.contains(text), "{text}: {error}");
        let everything = ReadOptions { accept: Accept::Everything, ..ReadOptions::default() };
        let report = read(&path, &everything).unwrap().report;
        let first = &report.problems[&problem].first[0];
        assert!(first.contains(text), "{text}: {first}");
    }
    // An image without segments is all void, and a file that is not there is counted as one.
    let black = segments([0; 8]);
    let folder = folder(&[
        ("val.json", panoptic("").as_bytes()),
        ("val/s.png", &black),
        ("gone.json", panoptic(SEGMENTS).as_bytes()),
    ]);
    let found = read(&folder.path().join("val.json"), &ReadOptions::default()).unwrap();
    assert!(found.report.problems.is_empty() && found.images[0].objects.is_empty());
    fs::create_dir(folder.path().join("gone")).unwrap();
    let found = read(&folder.path().join("gone.json"), &ReadOptions::default()).unwrap();
    assert_eq!(found.report.count(Problem::MissingFile), 1);
    assert!(found.images[0].objects.iter().all(|object| object.segmentation.is_none()));
}

#[test]
fn sources_are_joined_by_the_names_of_their_classes() {
    use crate::dataset::{DatasetSpec, SourceSpec};
    let first = coco(IMAGE, OBJECT, CATEGORY);
    let second = coco(
        IMAGE,
        &OBJECT.replace("\"category_id\": 1", "\"category_id\": 2"),
        r#"{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}"#,
    );
    let folder = folder(&[("one.json", first.as_bytes()), ("two.json", second.as_bytes())]);
    let source = |name: &str| SourceSpec {
        path: name.into(),
        images: None,
        split: None,
        format: None,
        follow_symlinks: false,
    };
    let spec = DatasetSpec {
        sources: vec![source("one.json"), source("two.json")],
        ..DatasetSpec::default()
    };
    let all = spec.load(folder.path(), &ReadOptions::default()).unwrap();
    let categories: Vec<_> = all.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    assert_eq!(categories, [(1, "cat"), (2, "dog")]);
    let images: Vec<_> =
        all.images.iter().map(|i| (i.id, i.objects[0].id, i.objects[0].category_id)).collect();
    assert_eq!(images, [(1, 5, 1), (2, 6, 1)]);
    assert_eq!(all.report.sources.len(), 2);
    let json = r#"{"sources": [{"path": "a", "spilt": "train"}]}"#;
    assert!(serde_json::from_str::<DatasetSpec>(json).unwrap_err().to_string().contains("`spilt`"));
}
