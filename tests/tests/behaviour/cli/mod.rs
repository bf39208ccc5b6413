//! The command lines: what users and scripts see of a run.

mod bench;
mod data;
mod demo;
mod eval;
mod models;
mod outputs;
mod remote;
mod runs;

pub(crate) use runs::two_runs;

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::images::{picture, png};
use crate::support::{Run, detr, detr_infer, folder_with, golden};

/// Sizes of the pictures that most tests use, by name.
const SIZES: [(&str, u32, u32); 5] =
    [("1.png", 60, 40), ("2.png", 80, 80), ("3.png", 40, 90), ("4.png", 33, 17), ("5.png", 64, 48)];

fn pictures() -> TempDir {
    folder_with(SIZES.map(|(name, w, h)| (name, png(picture(w + h, w, h)))))
}

/// Runs the tiny official DETR on the CPU, which is untrained and sure of nothing.
fn tiny(sources: &[&str]) -> Run {
    let model = golden("detr_tiny_zip.pth");
    detr_infer(sources).quick().arg("--model").arg(model).args(["--threshold", "0.05"])
}

fn results(json: &Value) -> Vec<Value> {
    json.as_array().unwrap().clone()
}

fn files(json: &Value) -> Vec<&str> {
    json.as_array().unwrap().iter().map(|result| result["file"].as_str().unwrap()).collect()
}

/// Checks that the objects are the same, with boxes and scores that differ by rounding at most.
#[track_caller]
fn check_same_detections(a: &Value, b: &Value) {
    assert_eq!(a["file"], b["file"]);
    let objects = |value: &Value| value["detections"].as_array().unwrap().clone();
    let (a, b) = (objects(a), objects(b));
    assert!(!a.is_empty());
    assert_eq!(a.len(), b.len());
    let near = |a: &Value, b: &Value, tolerance: f64| {
        let difference = (a.as_f64().unwrap() - b.as_f64().unwrap()).abs();
        assert!(difference <= tolerance, "{a} and {b}");
    };
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a["name"], b["name"]);
        near(&a["score"], &b["score"], 1e-4);
        for side in ["x1", "y1", "x2", "y2"] {
            near(&a["box"][side], &b["box"][side], 0.05);
        }
    }
}

#[test]
fn one_line_per_image_in_the_order_of_the_sources() {
    let folder = pictures();
    let outcome = tiny(&["5.png", "1.png", "3.png"]).inside(folder.path()).run().expect(0);
    let starts: Vec<&str> =
        outcome.stdout.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(starts, ["5.png 64x48", "1.png 60x40", "3.png 40x90"]);
    assert!(outcome.stderr.contains("using flex"), "{}", outcome.stderr);
    let quiet = tiny(&["1.png", "-q"]).inside(folder.path()).run().expect(0);
    assert_eq!(quiet.stderr, "");
    // The command of the larger program is the same code.
    let model = golden("detr_tiny_zip.pth");
    let other = detr(["predict", "5.png", "1.png", "3.png", "--threshold", "0.05"])
        .quick()
        .arg("--model")
        .arg(model)
        .inside(folder.path())
        .run()
        .expect(0);
    assert_eq!(other.stdout, outcome.stdout);
}

#[test]
fn every_kind_of_source_leads_to_its_images() {
    let folder = pictures();
    std::fs::write(folder.path().join("notes.txt"), "no image").unwrap();
    std::fs::create_dir(folder.path().join("lists")).unwrap();
    std::fs::write(folder.path().join("lists/a.txt"), "# two\n../4.png\n\n../2.png\n").unwrap();
    let all = ["1.png", "2.png", "3.png", "4.png", "5.png"].map(|name| format!("./{name}"));
    for (sources, expected) in [
        (&["*.png"][..], vec!["1.png", "2.png", "3.png", "4.png", "5.png"]),
        (&["[23].png", "1.png"], vec!["2.png", "3.png", "1.png"]),
        (&["."], all.iter().map(String::as_str).collect()),
        (&["@lists/a.txt"], vec!["lists/../4.png", "lists/../2.png"]),
        (&["1.png", "./1.png"], vec!["1.png"]),
    ] {
        let outcome = tiny(sources).arg("--json").inside(folder.path()).run().expect(0);
        assert_eq!(files(&outcome.json()), expected, "{sources:?}");
    }
    let bytes = std::fs::read(folder.path().join("3.png")).unwrap();
    let outcome = tiny(&["-", "--json"]).stdin(&bytes).run().expect(0);
    assert_eq!(files(&outcome.json()), ["stdin"]);
    assert_eq!(outcome.json()[0]["height"], 90);
}

#[test]
fn json_and_json_lines_have_the_documented_form() {
    let folder = pictures();
    let array = tiny(&["*.png", "--json"]).inside(folder.path()).run().expect(0).json();
    let lines = tiny(&["*.png", "--jsonl"]).inside(folder.path()).run().expect(0).json_lines();
    assert_eq!(results(&array), lines);
    for (result, (name, width, height)) in lines.iter().zip(SIZES) {
        let keys: Vec<&String> = result.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["file", "width", "height", "detections"]);
        assert_eq!(
            (&result["file"], &result["width"], &result["height"]),
            (&json!(name), &json!(width), &json!(height))
        );
        let detections = result["detections"].as_array().unwrap();
        assert!(!detections.is_empty());
        for detection in detections {
            let keys: Vec<&String> = detection.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["label", "category_id", "name", "score", "box"]);
            let sides: Vec<&String> = detection["box"].as_object().unwrap().keys().collect();
            assert_eq!(sides, ["x1", "y1", "x2", "y2"]);
            assert!((0.05..=1.0).contains(&detection["score"].as_f64().unwrap()));
        }
        assert!(detections.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()));
    }
    let timed = tiny(&["1.png", "--json", "--timings"]).inside(folder.path()).run().expect(0);
    assert_eq!(results(&timed.json()["images"]).len(), 1);
    assert!(timed.json()["timings"].is_object());
}

#[test]
fn results_do_not_depend_on_the_batch() {
    let folder = pictures();
    let of = |size: &str| {
        let run = tiny(&["*.png", "--json", "--batch-size", size]).inside(folder.path());
        results(&run.run().expect(0).json())
    };
    let single = of("1");
    for size in ["2", "4", "1024"] {
        for (a, b) in single.iter().zip(of(size)) {
            check_same_detections(a, &b);
        }
    }
}

#[test]
fn images_of_alternating_size_share_batches_and_keep_their_order() {
    let sizes = [(60, 40), (40, 60), (60, 40), (40, 60), (50, 50), (60, 40), (40, 60)];
    let names: Vec<String> = (0..sizes.len()).map(|i| format!("{i}.png")).collect();
    let images = sizes.iter().zip((0_u32..).step_by(3));
    let images = images.map(|(&(w, h), seed)| png(picture(seed, w, h)));
    let folder = folder_with(names.iter().map(String::as_str).zip(images));
    std::fs::write(folder.path().join("3.png"), "not a picture").unwrap();
    let of = |size: &str| {
        let run = tiny(&["*.png", "--json", "--batch-size", size]).inside(folder.path());
        results(&run.run().expect(1).json())
    };
    let (single, together) = (of("1"), of("2"));
    assert_eq!(together.iter().map(|r| r["file"].as_str().unwrap()).collect::<Vec<_>>(), names);
    for (a, b) in single.iter().zip(&together).filter(|(a, _)| a["file"] != "3.png") {
        check_same_detections(a, b);
    }
    assert!(together[3]["error"].is_string());
}

#[test]
fn options_narrow_the_results() {
    let folder = pictures();
    let all = tiny(&["1.png", "--json"]).inside(folder.path()).run().expect(0).json();
    let name = all[0]["detections"][0]["name"].as_str().unwrap();
    let args = ["1.png", "--json", "--max-detections", "2", "--classes", name];
    let some = tiny(&args).inside(folder.path()).run().expect(0).json();
    let some = some[0]["detections"].as_array().unwrap();
    assert!((1..=2).contains(&some.len()));
    assert!(some.iter().all(|detection| detection["name"] == name));
}

#[test]
fn a_bad_image_is_reported_and_the_rest_goes_on() {
    let folder = pictures();
    std::fs::write(folder.path().join("3.png"), "not a picture").unwrap();
    for batch in ["1", "3"] {
        let args =
            ["*.png", "--json", "--batch-size", batch, "--format", "csv", "--output", "o.csv"];
        let outcome = tiny(&args).inside(folder.path()).run().expect(1);
        assert_eq!(files(&outcome.json()), ["1.png", "2.png", "3.png", "4.png", "5.png"]);
        let failures: Vec<Value> = outcome.json().as_array().unwrap().clone();
        let failures: Vec<&Value> = failures.iter().filter(|r| r["error"].is_string()).collect();
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0]["file"], "3.png");
        assert!(outcome.stderr.contains("error: 3.png: is not an image"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("1 of 5 images failed"), "{}", outcome.stderr);
        let table = std::fs::read_to_string(folder.path().join("o.csv")).unwrap();
        assert!(table.contains("5.png,64,48") && !table.contains("3.png"));
    }
}

#[test]
fn strict_stops_at_a_bad_image_and_leaves_no_output() {
    let folder = pictures();
    std::fs::write(folder.path().join("3.png"), "").unwrap();
    for batch in ["1", "4"] {
        let args = ["*.png", "--strict", "--jsonl", "--batch-size", batch];
        let output = ["--format", "coco", "--output", "out/o.json"];
        let outcome = tiny(&args).args(output).inside(folder.path()).run().expect(1);
        let last = outcome.json_lines().pop().unwrap();
        assert_eq!(last["file"], "3.png");
        assert!(outcome.stderr.contains("error: 3.png: is empty"), "{}", outcome.stderr);
        let left = folder.path().join("out").read_dir().map_or(0, Iterator::count);
        assert_eq!(left, 0);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = pictures();
    for mode in ["-q", "--json", "--jsonl"] {
        tiny(&["*.png", mode]).inside(folder.path()).closed_stdout().run().expect(0);
    }
    for args in [
        &["--help"][..],
        &["models", "list", "--json"],
        &["models", "inspect", "recipe:detr-r18", "--tensors"],
        &["devices"],
    ] {
        detr(args).closed_stdout().run().expect(0);
    }
}

#[test]
fn devices_are_listed_for_people_and_programs() {
    let report = detr(["devices", "--json"]).run().expect(0).json();
    let compiled: Vec<&str> = report["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["backend"].as_str().unwrap())
        .collect();
    if cfg!(feature = "flex") {
        assert!(compiled.contains(&"flex"));
    }
    for missing in report["not_compiled"].as_array().unwrap() {
        let backend = missing["backend"].as_str().unwrap();
        assert!(!compiled.contains(&backend));
        assert!(missing["command"].as_str().unwrap().ends_with(&format!("--features {backend}")));
    }
    let text = detr(["devices"]).run().expect(0).stdout;
    assert!(text.contains(report["auto"]["name"].as_str().unwrap()), "{text}");
}

#[test]
fn a_backend_that_is_not_compiled_in_names_the_command_that_adds_it() {
    let folder = pictures();
    let report = detr(["devices", "--json"]).run().expect(0).json();
    for missing in report["not_compiled"].as_array().unwrap() {
        let backend = missing["backend"].as_str().unwrap();
        let outcome =
            detr_infer(["1.png", "--backend", backend]).inside(folder.path()).run().expect(4);
        let error = &outcome.stderr;
        assert!(error.contains(&format!("backend `{backend}` is not compiled in")), "{error}");
        assert!(error.contains("hint: cargo ") && error.contains(&format!("--features {backend}")));
        assert_eq!(outcome.stdout, "");
    }
}

/// Reads a text file of a test's folder.
fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}
