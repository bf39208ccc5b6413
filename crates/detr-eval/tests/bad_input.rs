//! An error in a file or a detection names file, index and field; nothing panics.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::Path;
use std::sync::Arc;

use detr_eval::{
    EvalDetection, EvalError, EvalOptions, Evaluator, GroundTruth, IouKind, Mask,
    read_ground_truth, read_results,
};
use detr_types::ImageSize;

const TRUTH: &str = r#"{
    "images": [{"id": 1, "width": 40, "height": 30}, {"id": 2, "width": 40, "height": 30}],
    "annotations": [{
        "id": 5, "image_id": 1, "category_id": 3, "bbox": [1.5, 2, 10, 10], "area": 80,
        "iscrowd": 0, "segmentation": [[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]
    }],
    "categories": [{"id": 3, "name": "cat"}]
}"#;
const RESULTS: &str = r#"[
    {"image_id": 1, "category_id": 3, "bbox": [1.5, 2, 10, 10], "score": 0.5},
    {"image_id": 1, "category_id": 3, "bbox": [3, 2, 10, 10], "score": 0.25}
]"#;

/// Reads and scores both files, for masks and for boxes.
fn files(folder: &Path, truth: &[u8], results: &[u8]) -> Result<GroundTruth, EvalError> {
    let (truth_path, results_path) = (folder.join("truth.json"), folder.join("results.json"));
    std::fs::write(&truth_path, truth).unwrap();
    std::fs::write(&results_path, results).unwrap();
    for iou in [IouKind::Segm, IouKind::Bbox] {
        let truth = Arc::new(read_ground_truth(&truth_path, iou)?);
        let options = EvalOptions { iou, ..EvalOptions::default() };
        let mut evaluator = Evaluator::new(truth, options)?;
        evaluator.add_results(read_results(&results_path, iou)?)?;
        evaluator.finish()?;
    }
    read_ground_truth(&truth_path, IouKind::Bbox)
}

fn check_refused(truth: &[u8], results: &[u8], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let Err(error) = files(folder.path(), truth, results) else {
        panic!("accepted, expected {words:?}");
    };
    let error = error.to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn fields_as_tools_write_them_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("", ""),
        ("\"id\": 5,", ""),
        ("\"id\": 5", "\"id\": 0"),
        ("\"image_id\": 1", "\"image_id\": 1.0"),
        ("\"iscrowd\": 0", "\"iscrowd\": false"),
        ("\"iscrowd\": 0", "\"iscrowd\": null"),
        ("\"iscrowd\": 0,", ""),
        ("\"area\": 80,", ""),
        ("\"name\": \"cat\"", "\"name\": \"\""),
        (", \"name\": \"cat\"", ""),
        ("[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]", r#"{"size": [30, 40], "counts": [1200]}"#),
        ("[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]", r#"{"size": [30, 40], "counts": "0P1"}"#),
        ("{\n", "\u{feff}{\n"),
    ] {
        let truth = TRUTH.replacen(from, to, 1);
        let results = RESULTS.replace("\"image_id\": 1,", "\"image_id\": 1.0,");
        if let Err(error) = files(folder.path(), truth.as_bytes(), results.as_bytes()) {
            panic!("{from} -> {to}: {error}");
        }
    }
    files(folder.path(), TRUTH.as_bytes(), b"[]").unwrap();
}

#[test]
fn broken_ground_truth_is_refused_with_file_and_field() {
    for (from, to, words) in [
        ("\"images\"", "\"pictures\"", ["missing field `images`", "hint"]),
        ("\"annotations\"", "\"info\"", ["missing field `annotations`", "hint"]),
        ("\"categories\"", "\"info\"", ["missing field `categories`", "hint"]),
        ("{\"id\": 1, ", "{", ["images[0]", "missing field `id`"]),
        ("{\"id\": 1,", "{\"id\": \"1\",", ["images[0].id", "expected an integer"]),
        ("{\"id\": 1,", "{\"id\": 1.5,", ["images[0].id", "1.5 is no integer"]),
        ("{\"id\": 2,", "{\"id\": 1,", ["images[1].id", "given twice"]),
        ("\"width\": 40", "\"width\": -40", ["images[0].width", "hint"]),
        ("\"image_id\": 1", "\"image_id\": 7", ["annotations[0].image_id", "7 is no image"]),
        ("\"image_id\": 1", "\"image_id\": null", ["annotations[0].image_id", "integer"]),
        ("\"category_id\": 3", "\"category_id\": 4", ["annotations[0].category_id", "4 is no"]),
        ("[1.5, 2, 10, 10]", "[1.5, 2, 10]", ["annotations[0].bbox", "four numbers"]),
        ("[1.5, 2, 10, 10]", "[1, 2, 3, 4, 5]", ["annotations[0].bbox", "four numbers"]),
        ("[1.5, 2, 10, 10]", "[1, 2, null, 4]", ["annotations[0].bbox[2]", "null"]),
        ("[1.5, 2, 10, 10]", "[1, 2, 1e999, 4]", ["annotations[0].bbox[2]", "out of range"]),
        ("[1.5, 2, 10, 10]", "[1, 2, NaN, 4]", ["annotations[0].bbox[2]", "NaN"]),
        ("[1.5, 2, 10, 10]", "[]", ["annotations[0].bbox", "empty"]),
        ("\"area\": 80", "\"area\": \"80\"", ["annotations[0].area", "80"]),
        ("\"iscrowd\": 0", "\"iscrowd\": \"no\"", ["annotations[0].iscrowd", "0 or 1"]),
        ("[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]", "[]", ["annotation 5", "missing"]),
        ("[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]", "[[1, 2, 3, 4]]", ["annotation 5", "4 num"]),
        ("[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]", "[[1, 2, 3, 4, 5, 6, 7]]", ["5", "7 numbers"]),
        ("[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]", "7", ["annotations[0].segmentation", "list"]),
        (
            "[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]",
            r#"{"size": [30, 40], "counts": [1201]}"#,
            ["annotation 5", "hint"],
        ),
        (
            "[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]",
            r#"{"size": [40, 30], "counts": [1200]}"#,
            ["annotation 5", "30x40"],
        ),
        (
            "[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]",
            r#"{"size": [30, 40], "counts": [-1, 5]}"#,
            ["annotations[0].segmentation", "hint"],
        ),
        (
            "[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]",
            r#"{"size": [30, 40], "counts": "!P1"}"#,
            ["annotation 5", "hint"],
        ),
        (
            "[[1.5, 2, 11.5, 2, 11.5, 12, 1.5, 12]]",
            r#"{"counts": "0P1"}"#,
            ["annotations[0].segmentation", "size"],
        ),
        ("\"width\": 40, ", "", ["annotation 5", "unknown size"]),
        ("{\"id\": 3, \"name\": \"cat\"}", "", ["annotations[0]", "no category"]),
    ] {
        assert!(TRUTH.contains(from), "{from}");
        check_refused(TRUTH.replacen(from, to, 1).as_bytes(), RESULTS.as_bytes(), &words);
    }
    let twice = TRUTH.replace(
        "}],\n    \"cat",
        "}, {\"id\": 5, \"image_id\": 2, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]}],\n    \"cat",
    );
    check_refused(twice.as_bytes(), b"[]", &["truth.json", "annotations[1].id", "given twice"]);
    let none = br#"{"images": [], "annotations": [], "categories": []}"#;
    check_refused(none, b"[]", &["truth.json", "no images", "hint"]);
    let no_class = br#"{"images": [{"id": 1}], "annotations": [], "categories": []}"#;
    check_refused(no_class, b"[]", &["truth.json", "no categories", "hint"]);
    let deep = "[".repeat(200_000);
    for bytes in [&b""[..], b"{", b"[]", b"null", b"\xff\xfe", deep.as_bytes(), b"{} {}"] {
        check_refused(bytes, RESULTS.as_bytes(), &["truth.json", "line 1", "hint"]);
    }
    for end in 0..TRUTH.len() {
        check_refused(&TRUTH.as_bytes()[..end], b"[]", &["truth.json", "hint"]);
    }
}

#[test]
fn broken_results_are_refused_with_file_and_field() {
    for (from, to, words) in [
        ("[\n", "{\n", ["results.json", "hint"]),
        ("\"image_id\": 1, ", "", ["[0]", "missing field `image_id`"]),
        ("\"image_id\": 1", "\"image_id\": \"000001\"", ["[0].image_id", "expected an integer"]),
        ("\"image_id\": 1", "\"image_id\": 9", ["image 9", "another split"]),
        ("\"category_id\": 3", "\"category_id\": 3.25", ["[0].category_id", "3.25"]),
        (", \"score\": 0.25", "", ["[1]", "missing field `score`"]),
        ("\"score\": 0.25", "\"score\": null", ["[1].score", "null"]),
        ("\"score\": 0.25", "\"score\": NaN", ["[1].score", "NaN"]),
        ("\"score\": 0.25", "\"score\": -Infinity", ["[1].score", "no JSON"]),
        ("[3, 2, 10, 10]", "[3, 2, 10]", ["[1].bbox", "four numbers"]),
        ("[3, 2, 10, 10]", "[]", ["[1].bbox", "missing"]),
        ("[3, 2, 10, 10]", "{\"x\": 3}", ["[1].bbox", "four numbers"]),
        ("\"bbox\": [1.5, 2, 10, 10], ", "", ["[0].bbox", "both missing"]),
        ("0.25}", "0.25, \"segmentation\": {\"size\": [3, 4], \"counts\": [12]}}", ["1", "4x3"]),
        ("0.25}", "0.25, \"segmentation\": [[1, 2, 3, 4]]}", ["detection 1", "4 numbers"]),
    ] {
        assert!(RESULTS.contains(from), "{from}");
        check_refused(TRUTH.as_bytes(), RESULTS.replacen(from, to, 1).as_bytes(), &words);
    }
    for end in 0..RESULTS.len() {
        check_refused(TRUTH.as_bytes(), &RESULTS.as_bytes()[..end], &["results.json", "hint"]);
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.json");
    for path in [missing.as_path(), folder.path()] {
        let error = read_results(path, IouKind::Bbox).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(read_ground_truth(path, IouKind::Segm).is_err());
    }
}

#[test]
fn detections_that_cannot_be_compared_are_refused_and_nothing_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let truth = Arc::new(files(folder.path(), TRUTH.as_bytes(), b"[]").unwrap());
    let mut evaluator = Evaluator::new(truth, EvalOptions::default()).unwrap();
    let good =
        EvalDetection { category_id: 3, score: 0.5, bbox: Some([0.0; 4].into()), mask: None };
    let runs =
        |height, width, counts| Some(Mask::Runs { size: ImageSize::new(height, width), counts });
    let with = |score, bbox, mask| EvalDetection { score, bbox, mask, ..good.clone() };
    let masked = with(0.5, None, runs(30, 40, vec![0, 5]));
    let infinite = Some([0.0, 0.0, f64::INFINITY, 1.0].into());
    for (bad, word) in [
        (vec![good.clone(), with(f64::NAN, good.bbox, None)], "detection 1, score"),
        (vec![with(0.5, infinite, None)], "detection 0, bbox"),
        (vec![with(0.5, None, None)], "neither"),
        (vec![good.clone(), masked.clone()], "some have none"),
        (vec![with(0.5, None, runs(40, 30, vec![5]))], "30x40"),
        (vec![with(0.5, None, runs(30, 40, vec![u32::MAX, u32::MAX]))], "segmentation"),
    ] {
        let error = evaluator.add(1, bad).unwrap_err().to_string();
        assert!(error.contains("image 1") && error.contains(word), "{error}");
    }
    assert!(matches!(evaluator.add(8, Vec::new()), Err(EvalError::UnknownImage { image_id: 8 })));
    assert_eq!(evaluator.images_added(), 0);
    // Extremes that are numbers are compared, boxes and masks beside each other.
    let huge = with(-1e308, Some([-1e308, 1e308, 1e308, 1e308].into()), None);
    let inverted = with(1e308, Some([5.0, 5.0, -3.0, -3.0].into()), None);
    evaluator.add(1, vec![huge, inverted, good]).unwrap();
    evaluator.add(2, vec![masked]).unwrap();
    let metrics = evaluator.finish().unwrap();
    assert_eq!(metrics.counts.detections, 4);
    assert!(metrics.summary.values().iter().all(|value| value.is_finite()));
}
