//! Panoptic quality of models and of result files, and files that cannot be compared.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::images::{picture, png};
use crate::support::{Outcome, detr, detr_infer, folder_with, golden};

fn eval(folder: &Path, args: &[&str]) -> Outcome {
    detr(["eval", "--iou", "panoptic", "--data", "truth.json"]).args(args).inside(folder).run()
}

/// Makes a folder with two pictures and what a model says of them, as truth and as results.
fn scored() -> tempfile::TempDir {
    let folder =
        folder_with([("1.png", png(picture(3, 90, 60))), ("2.png", png(picture(4, 61, 75)))]);
    let args = ["1.png", "2.png", "--threshold", "0", "--format", "panoptic", "--output", "found"];
    let model = golden("hf_detr_segm_tiny");
    detr_infer(args).arg("--model").arg(model).quick().inside(folder.path()).run().expect(0);
    let mut truth = read(&folder.path().join("found/panoptic.json"));
    truth["images"] = json!([
        {"id": 1, "file_name": "1.png", "width": 90, "height": 60},
        {"id": 2, "file_name": "2.png", "width": 61, "height": 75}
    ]);
    fs::write(folder.path().join("truth.json"), truth.to_string()).unwrap();
    fs::create_dir(folder.path().join("truth")).unwrap();
    for name in ["1.png", "2.png"] {
        let from = folder.path().join("found/panoptic").join(name);
        fs::copy(from, folder.path().join("truth").join(name)).unwrap();
    }
    folder
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_model_and_its_files_have_the_same_quality() {
    let folder = scored();
    let path = folder.path();
    let of_files = eval(path, &["--results", "found", "--json"]).expect(0).json();
    for split in ["all", "things"] {
        assert_eq!(of_files[split]["pq"], json!(1.0), "{of_files}");
    }
    let args = ["--results", "found/panoptic.json", "--per-class", "--output", "out"];
    let text = eval(path, &args).expect(0).stdout;
    assert!(text.contains("PQ") && text.contains("stuff"), "{text}");
    assert_eq!(read(&path.join("out/metrics.json")), of_files);
    assert_eq!(fs::read_to_string(path.join("out/table.txt")).unwrap(), text);
    let model = golden("hf_detr_segm_tiny").display().to_string();
    let args = ["--images", ".", "--threshold", "0", "--json", "--model"];
    let of_model = || {
        let args = [&args[..], &[&model]].concat();
        let eval = detr(["eval", "--iou", "panoptic", "--data", "truth.json"]).args(args);
        eval.quick().inside(path).run()
    };
    assert_eq!(of_model().expect(0).json(), of_files);
    // An image that cannot be read counts as void.
    fs::write(path.join("2.png"), b"no image").unwrap();
    let outcome = of_model();
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("1 of 2 images failed"), "{}", outcome.stderr);
    assert!(outcome.json()["all"]["pq"].as_f64().unwrap() < 1.0);
}

/// A change of a file, and what the error about it has to say.
type Change<'a> = (&'a dyn Fn(&mut Value), &'a str);

#[test]
fn files_and_flags_that_make_no_sense_are_refused() {
    let folder = scored();
    let path = folder.path();
    let boxes = golden("hf_detr_tiny").display().to_string();
    for (args, message) in [
        (&["--results", "found", "--threshold", "0.5"][..], "--threshold"),
        (&["--results", "found", "--confusion", "0.5"], "--confusion"),
        (&["--results", "found", "--max-detections", "1,2,3"], "--max-detections"),
        (&["--results", "found", "--map", "a=b"], "--map"),
        (&["--results", "found", "--format", "yolo"], "--format"),
        (&["--results", "gone.json"], "gone.json"),
        (&["--results", "1.png"], "1.png"),
        (&["--model", &boxes, "--images", ".", "--backend", "flex"], "the model has no mask head"),
        (
            &["--model", "recipe:deformable-detr-tiny-masks", "--images", ".", "--backend", "flex"],
            "--iou panoptic",
        ),
    ] {
        let outcome = eval(path, args);
        assert_ne!(outcome.code, 0, "{args:?}");
        assert!(outcome.stderr.contains(message), "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("hint: "), "{args:?}: {}", outcome.stderr);
    }
    let found = path.join("found/panoptic.json");
    let original = read(&found);
    let change = |change: &dyn Fn(&mut Value)| {
        let mut json = original.clone();
        change(&mut json);
        fs::write(&found, json.to_string()).unwrap();
        eval(path, &["--results", "found"])
    };
    let segments = "/annotations/1/segments_info";
    let changes: [Change<'_>; 6] = [
        (&|json| drop(json["annotations"].as_array_mut().unwrap().pop()), "2"),
        (&|json| *json.pointer_mut(segments).unwrap() = json!([]), "image 2"),
        (
            &|json| {
                let extra = json!({"id": 4_000_000, "category_id": 1, "area": 1, "bbox": [0, 0, 1, 1], "iscrowd": 0});
                json.pointer_mut(segments).unwrap().as_array_mut().unwrap().push(extra);
            },
            "4000000",
        ),
        (&|json| json.pointer_mut(segments).unwrap()[0]["category_id"] = json!(777), "777"),
        (&|json| json["annotations"][0]["file_name"] = json!("3.png"), "3.png"),
        (&|json| json["annotations"][0]["file_name"] = json!("2.png"), "image 1"),
    ];
    for (edit, message) in changes {
        let outcome = change(edit);
        assert_eq!(outcome.code, 3, "{message}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{message}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("found/panoptic.json"), "{message}: {}", outcome.stderr);
    }
    // Data that disagree with themselves are found by the doctor, too.
    let truth = path.join("truth.json");
    let mut json = read(&truth);
    json.pointer_mut(segments).unwrap()[0]["id"] = json!(9_000_000);
    fs::write(&truth, json.to_string()).unwrap();
    let args = ["data", "check", "truth.json", "--images", "."];
    let checked = detr(args).inside(path).run().expect(1);
    let text = checked.stdout + &checked.stderr;
    assert!(text.contains("2.png: segment 9000000") && text.contains("2.png: id "), "{text}");
    let args = ["data", "stats", "truth.json", "--images", "."];
    let refused = detr(args).inside(path).run().expect(3);
    assert!(refused.stderr.contains("2.png: segment 9000000"), "{}", refused.stderr);
}
