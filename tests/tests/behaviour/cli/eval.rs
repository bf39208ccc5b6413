//! `detr eval`: pycocotools' numbers, of results and of models, and what cannot be scored.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::text;
use crate::support::{QUICK, Run, detr, names_in, root};

/// Classes of the generated set as classes that the model finds, rightly or not.
const MAPPED: [&str; 4] = ["--map", "circle=fork", "--map", "square=snowboard"];

fn group(file: &str) -> PathBuf {
    root().join("tests/golden/12_coco").join(file)
}

fn parsed(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Generates a data set of two kinds of shapes in `data`, beside which commands can run.
fn generated() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let args = ["data", "synth", "data", "--count", "4", "--size", "48x64", "--split", "val"];
    let synth = detr(args).args(["--shapes", "circle,square"]);
    synth.inside(folder.path()).run().expect(0);
    folder
}

/// Evaluates a tiny untrained Deformable DETR on the generated set.
fn over(folder: &TempDir) -> Run {
    let run = detr(["eval", "--data", "data", "--model", "recipe:deformable-detr-tiny"]);
    run.args(QUICK).inside(folder.path())
}

#[test]
fn results_of_any_tool_are_scored_as_by_pycocotools() {
    for iou in ["bbox", "segm"] {
        let case = parsed(&group(&format!("eval_{iou}.json")));
        let score = || {
            let run = detr(["eval", "--iou", iou, "--data"]).arg(group("gt.json"));
            run.arg("--results").arg(group(case["config"]["dets"].as_str().unwrap()))
        };
        let found = score().arg("--json").run().expect(0).json();
        let summary: Vec<Value> = found["summary"].as_object().unwrap().values().cloned().collect();
        assert_eq!(summary, case["stats"].as_array().unwrap().as_slice());

        let lines = score().arg("--per-class").run().expect(0).stdout;
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(json!(lines[..12]), case["summary"]);
        assert_eq!(lines.len(), 13 + 2 + found["classes"].as_array().unwrap().len());
    }
}

/// Makes ground truth in which every fifth detection is nearly right; without that an untrained
/// model would score nothing but zeros.
fn half_right(results: &Path, data: &Path) -> Value {
    let mut truth = parsed(data);
    let found = parsed(results);
    let near = |(id, object): (usize, &Value)| {
        let [x, y, w, h] = std::array::from_fn(|i| object["bbox"][i].as_f64().unwrap());
        let shift = f64::from(u32::try_from(id).unwrap()) / 30.0;
        json!({
            "id": id + 1, "image_id": object["image_id"], "category_id": object["category_id"],
            "bbox": [x + shift, y, w, h], "area": w * h * 30.0, "iscrowd": u8::from(id % 7 == 3),
        })
    };
    let objects = found.as_array().unwrap().iter().step_by(5).enumerate();
    truth["annotations"] = objects.map(near).collect();
    truth
}

#[test]
fn a_model_and_the_file_of_its_results_get_the_same_numbers() {
    let folder = generated();
    let out = folder.path().join("out");
    over(&folder).args(MAPPED).args(["--output", "out", "-q"]).run().expect(0);
    let data = folder.path().join("data/annotations/instances_val.json");
    let truth = half_right(&out.join("results.json"), &data);
    std::fs::write(&data, truth.to_string()).unwrap();

    let flags = ["--confusion", "0.01", "--output", "out"];
    let outcome = over(&folder).args(MAPPED).args(flags).run().expect(0);
    assert!(outcome.stderr.contains("4 images in "), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("taken for"), "{}", outcome.stdout);
    let files = ["curves.svg", "metrics.json", "results.json", "table.txt"];
    assert_eq!(names_in(&out), files);
    assert!(text(&out, "table.txt").starts_with(outcome.stdout.split('\n').next().unwrap()));
    let of_model = parsed(&out.join("metrics.json"));
    let summary = of_model["summary"].as_object().unwrap();
    assert!(summary.values().filter(|value| value.as_f64() > Some(0.0)).count() > 6, "{summary:?}");

    // The classes keep their ids under their own names.
    let args = ["eval", "--data", "data", "--results", "out/results.json", "--json"];
    let of_file = detr(args).args(["--confusion", "0.01"]).inside(folder.path()).run();
    let of_file = of_file.expect(0).json();
    assert_eq!(of_file["summary"], of_model["summary"]);
    assert_eq!(of_file["counts"], of_model["counts"]);
    assert_eq!(of_file["confusion"]["counts"], of_model["confusion"]["counts"]);
}

#[test]
fn a_model_of_other_classes_is_refused() {
    let folder = generated();
    let outcome = over(&folder).run().expect(2);
    assert!(outcome.stderr.contains("no class in common"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the data have circle, square"), "{}", outcome.stderr);
    assert!(outcome.ends_with_hint());

    let outcome = over(&folder).args(&MAPPED[..2]).run().expect(0);
    assert!(outcome.stderr.contains("does not know these classes"), "{}", outcome.stderr);
}

#[test]
fn images_that_cannot_be_read_count_as_images_without_detections() {
    let folder = generated();
    let images = folder.path().join("data/val");
    let names = names_in(&images);
    std::fs::remove_file(images.join(&names[0])).unwrap();
    let outcome = over(&folder).args(MAPPED).arg("--json").run().expect(1);
    assert!(outcome.stderr.contains("1 of 4 images failed"), "{}", outcome.stderr);
    assert_eq!(outcome.json()["counts"]["images"], 4);
    assert_eq!(outcome.json()["counts"]["images_without_detections"], 1);
    let outcome = over(&folder).args(MAPPED).arg("--strict").run().expect(1);
    assert!(outcome.stderr.contains(&names[0]) && outcome.stdout.is_empty(), "{outcome:?}");

    names[1..].iter().for_each(|name| std::fs::remove_file(images.join(name)).unwrap());
    let outcome = over(&folder).args(MAPPED).run().expect(3);
    assert!(outcome.stderr.contains("none of the 4 image files is there"), "{}", outcome.stderr);
    assert!(outcome.ends_with_hint());
}

#[test]
fn what_cannot_be_scored_is_refused_with_file_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let (truth, good) = (group("gt.json"), group("det_bbox.json"));
    let write = |name: &str, value: &Value| {
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        folder.path().join(name)
    };
    let entry = |image: i64, score: &Value| json!([{"image_id": image, "category_id": 1, "bbox": [1, 2, 3, 4], "score": score}]);
    let check = |data: &Path, results: &Path, args: &[&str], code: i32, parts: &[&str]| {
        let run = detr(["eval", "--data"]).arg(data).arg("--results").arg(results).args(args);
        let outcome = run.run().expect(code);
        for part in parts {
            assert!(outcome.stderr.contains(part), "{part} in {}", outcome.stderr);
        }
        assert!(outcome.stdout.is_empty());
    };
    let bad = write("bad.json", &entry(139, &json!("high")));
    check(&truth, &bad, &[], 3, &["bad.json", "[0].score", "hint:"]);
    let other = write("other.json", &entry(7, &json!(0.5)));
    check(&truth, &other, &[], 3, &["other.json", "image 7 is not in the ground truth", "hint:"]);
    check(&good, &good, &[], 3, &["det_bbox.json", "hint:"]);
    check(&truth, &good, &["--map", "c1=c3"], 2, &["ids of the results", "hint:"]);
    check(&truth, &good, &["--max-detections", "10,1,100"], 2, &["three increasing numbers"]);
    check(&truth, &good, &["--batch-size", "2"], 2, &["cannot be used with"]);
    check(&truth, &good, &["--output", bad.to_str().unwrap()], 2, &["is not a folder"]);
    let twice = [truth.as_os_str(), "--data".as_ref(), truth.as_os_str()];
    let outcome = detr(["eval", "--data"]).args(twice).arg("--results").arg(&good).run().expect(2);
    assert!(outcome.stderr.contains("24 x image whose id"), "{}", outcome.stderr);

    detr(["eval", "--data"]).arg(&truth).run().expect(2);
    let segm = ["--model", "recipe:detr-demo", "--iou", "segm"];
    let outcome = detr(["eval", "--data"]).arg(&truth).args(segm).run().expect(2);
    assert!(outcome.ends_with_hint(), "{}", outcome.stderr);
}
