//! Training with masks: objects and panoptic data, losses of all layers, and masks in the validation.

use std::fs;

use serde_json::Value;

use super::small::Small;
use crate::support::detr;

/// A DETR with a mask head that is small enough for a test.
const DETR: &str = r#"
kind = "detr"
num_classes = 91
num_queries = 10
hidden_dim = 64
nheads = 8
enc_layers = 1
dec_layers = 2
dim_feedforward = 64
masks = true
[backbone]
block = "basic"
depths = [1, 1, 1, 1]
stem = 8
widths = [8, 16, 32, 64]
"#;

fn losses(small: &Small, run: &str) -> Value {
    small.events(run, "step").last().unwrap()["losses"].clone()
}

#[test]
fn a_mask_head_learns_on_a_frozen_detector_and_is_scored_as_eval_does() {
    let small = Small::shipped();
    let file = small.path("small.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("init =", "frozen_weights =", 1)).unwrap();
    let settings = [
        "model.arch=deformable-detr-tiny-masks",
        "train.lr=3e-3",
        "train.epochs=10",
        "run.validate_every=5",
    ];
    let outcome = small.train("run", &settings).run().expect(0);
    assert!(outcome.stderr.contains("masks: AP "), "{}", outcome.stderr);
    let steps = small.events("run", "step");
    let loss = |row: &Value, name: &str| row["losses"][name].as_f64().unwrap();
    let (first, last) = (&steps[0], steps.last().unwrap());
    for kind in ["loss_mask", "loss_dice"] {
        for layer in ["", "_0", "_1"] {
            let name = format!("{kind}{layer}");
            assert!(loss(last, &name) < 0.7 * loss(first, &name), "{name}: {first} {last}");
        }
    }
    // The boxes stay, so that the masks say which model is the best.
    let validated = small.events("run", "validated");
    let [before, after] = [0, 1].map(|at| &validated[at]);
    assert_eq!(before["metrics"]["ap"], after["metrics"]["ap"]);
    let ap = |row: &Value| row["masks"]["ap"].as_f64().unwrap();
    assert!(ap(after) > ap(before) && ap(after) > 0.02, "{before} {after}");
    assert_eq!(after["best"], true);
    let args = ["eval", "--backend", "flex", "--json", "--iou", "segm", "--split", "train"];
    let metrics = detr(args)
        .arg("--model")
        .arg(small.path("run/model"))
        .arg("--data")
        .arg(small.path("shapes"))
        .run()
        .expect(0)
        .json();
    assert_eq!(after["masks"]["ap"], metrics["summary"]["ap"], "{after}");
}

#[test]
fn things_and_stuff_are_trained_and_their_panoptic_quality_is_scored() {
    let small = Small::new();
    let sizes = ["--size", "64x80", "--objects", "1-4", "--scale", "0.2-0.5", "--panoptic"];
    for (count, seed, split) in [("6", "1", "train"), ("3", "2", "val")] {
        small.draw(&sizes, count, seed, split);
    }
    fs::write(small.path("detr.toml"), DETR).unwrap();
    let settings = [
        "model.arch=detr.toml",
        "train.epochs=1",
        "data.train.sources.0.format=coco-panoptic",
        "data.val.sources.0.format=coco-panoptic",
    ];
    small.train("run", &settings).run().expect(0);
    let losses = losses(&small, "run");
    assert!(losses["loss_mask"].is_number() && losses["loss_mask_0"].is_null(), "{losses}");
    let card = fs::read(small.path("run/model/model.json")).unwrap();
    let card: Value = serde_json::from_slice(&card).unwrap();
    let classes = card["classes"].to_string();
    assert!(classes.contains("background") && classes.contains("\"is_thing\":false"), "{classes}");
    let args = ["eval", "--backend", "flex", "--iou", "panoptic", "--split", "val", "--json"];
    let quality = detr(args)
        .args(["--threshold", "0", "--model"])
        .arg(small.path("run/model"))
        .arg("--data")
        .arg(small.path("shapes"))
        .run()
        .expect(0)
        .json();
    assert_eq!(quality["images"], 3);
    assert!(quality["all"]["categories"].as_u64().unwrap() > 0, "{quality}");
    assert_eq!(quality["classes"].as_array().unwrap().len(), 7);
    // A mask head needs masks.
    let json = small.path("shapes/annotations/instances_train.json");
    let text = fs::read_to_string(&json).unwrap();
    fs::write(&json, text.replace("\"segmentation\"", "\"other\"")).unwrap();
    let outcome = small.train("other", &settings[..2]).run().expect(3);
    assert!(outcome.stderr.contains("has no segmentation"), "{}", outcome.stderr);
    assert!(!small.path("other").exists());
}
