//! Messages about spoilt files: in the words of those who write the files, never in those of the program's language.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::records::{data, photo, tree, truth, yolo};
use crate::support::{Outcome, detr, golden, root};

/// Words of the program's own language, which say nothing to those who write the files.
const RUST: [&str; 22] = [
    "untagged",
    "did not match any variant",
    "struct ",
    "enum ",
    "invalid type: map",
    "expected a map",
    "unit value",
    "newtype",
    "Option<",
    "Option value",
    "usize",
    "u64",
    "u32",
    "i64",
    "f64",
    "f32",
    "serde",
    "deserialize",
    "Policy",
    "RawValue",
    "identifier",
    "tuple",
];

fn check_words(outcome: &Outcome, input: &str) {
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    for word in RUST {
        assert!(!text.contains(word), "{word:?} for {input}\n{text}");
    }
    let doubled = |line: &str| line.contains("missing field") && line.contains(" at line ");
    assert!(!text.lines().any(doubled), "{input}\n{text}");
}

/// Lists the documents in which one value is another, or is missing.
fn spoilt(document: &Value, others: &[Value]) -> Vec<Value> {
    fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    pointers(value, &format!("{at}/{key}"), found);
                }
            }
            // One of a list stands for all.
            Value::Array(list) => {
                if let Some(value) = list.first() {
                    pointers(value, &format!("{at}/0"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    pointers(document, "", &mut found);
    let mut documents = Vec::new();
    for pointer in found {
        for other in others {
            let mut changed = document.clone();
            *changed.pointer_mut(&pointer).unwrap() = other.clone();
            documents.push(changed);
        }
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        let mut changed = document.clone();
        if let Some(Value::Object(map)) = changed.pointer_mut(parent)
            && map.remove(key).is_some()
        {
            documents.push(changed);
        }
    }
    documents
}

#[test]
fn messages_about_annotations_are_in_plain_words() {
    let sound = json!({ "images": [{ "id": 1, "file_name": "a.png", "width": 100, "height": 80 }],
        "annotations": [{ "id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 1200,
                          "iscrowd": 0, "segmentation": { "size": [80, 100], "counts": [8000] } }],
        "categories": [{ "id": 1, "name": "cat" }] });
    let others = [json!(null), json!({}), json!([[]]), json!("x"), json!(-1.5), json!(true)];
    let folder = tree([("a.png", photo(1))]);
    for document in spoilt(&sound, &others) {
        fs::write(folder.path().join("x.json"), document.to_string()).unwrap();
        let outcome = data(folder.path(), &["check", "x.json", "--files", "skip"]);
        check_words(&outcome, &document.to_string());
    }
    for yaml in [
        "",
        "cat",
        "[]",
        "- a",
        "names:",
        "names: 1",
        "names: {a: b}",
        "names: [[a]]",
        "names: [a, {}]",
        "names: [a",
        "names: [a]\nnames: [b]",
        "names: {~: a}",
        "names: {[a]: b}",
        "names: !!set {a}",
        "names: !x [a]",
        "a: *b",
        "names: [a]\ntrain: {}",
        "names: [a]\ntrain: [[a]]",
        "names: [a]\npath: []",
        "names: [a]\nkpt_shape: {}",
        "names: [a]\n--- \nnames: [b]",
        "names: !!binary x",
        "names: [!!int x]",
        "names: [!!binary '%']",
        "\tnames: [a]",
        "names: &a [*a]",
        "names: [a]\ntrain: !!float x",
        "<<: 1\nnames: [a]",
    ] {
        let folder = yolo("names: [cat]", "0 0.5 0.5 0.1 0.1");
        fs::write(folder.path().join("data.yaml"), yaml).unwrap();
        for args in [&["check", "data.yaml"][..], &["check", ".", "--format", "yolo"]] {
            check_words(&data(folder.path(), args), yaml);
        }
    }
    for list in [
        "",
        "x",
        "sources = 1",
        "sources = [1]",
        "[[sources]]",
        "[[sources]]\npath = 1",
        "sources = {}",
        "[[sources]]\npath = 'a'\nformat = 'x'",
        "[[sources]]\npath = 'a'\nspilt = 1",
        "classes = []",
        "[[sources]]\npath = 'a'\n[classes]\nmap = []\n",
        "[[sources]]\npath = 'a'\n[classes]\nkeep = {}\n",
    ] {
        let folder = tree([("list.toml", list.as_bytes().to_vec())]);
        check_words(&data(folder.path(), &["check", "list.toml"]), list);
    }
    for list in [
        "x = 1",
        "transforms = 1",
        "transforms = [1]",
        "transforms = [{ color_jitter = 1 }]",
        "transforms = [{ center_crop = { height = 'x', width = 1 } }]",
        "transforms = [{ random_resize = { short_sides = 1 } }]",
        "transforms = [{ center_crop = {} }]",
        "transforms = ['x']",
        "mean = 1",
        "mean = [1]",
    ] {
        let folder = yolo("names: [cat]", "0 0.5 0.5 0.1 0.1");
        fs::write(folder.path().join("a.toml"), list).unwrap();
        let args = ["preview", ".", "--output", "grid.png", "--augmentation", "a.toml"];
        check_words(&data(folder.path(), &args), list);
    }
}

#[test]
fn messages_about_results_are_in_plain_words() {
    let sound = json!([{ "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5,
        "segmentation": { "size": [480, 640], "counts": [307_200] } }]);
    let truth = truth(|id| json!({ "id": id, "width": 640, "height": 480 }));
    let folder = tree([("gt.json", truth.to_string().into_bytes())]);
    let others = [json!(null), json!({}), json!([[]]), json!("x"), json!(-1.5)];
    for document in spoilt(&sound, &others) {
        fs::write(folder.path().join("dt.json"), document.to_string()).unwrap();
        for iou in ["bbox", "segm"] {
            let args = ["eval", "--results", "dt.json", "--data", "gt.json", "--iou", iou];
            check_words(&detr(args).inside(folder.path()).run(), &document.to_string());
        }
    }
}

#[test]
fn messages_about_settings_are_in_plain_words() {
    let sound = "[model]\narch = 'detr-r50'\n[data.train]\nsources = [{ path = 'a' }]\n[train]\nepochs = 1\n";
    for (from, to) in [
        ("", ""),
        ("arch = 'detr-r50'", "arch = 1"),
        ("arch = 'detr-r50'", "arch = {}"),
        ("arch = 'detr-r50'", ""),
        ("[model]", "[[model]]"),
        ("[model]", "[modle]"),
        ("epochs = 1", "epochs = 'x'"),
        ("epochs = 1", "epochs = -1"),
        ("epochs = 1", "epochs = 1\nlr = []"),
        ("epochs = 1", "epochs = 1\nfrozen = 1"),
        ("epochs = 1", "epochs = 1\noptimizer = 1"),
        ("epochs = 1", "epochs = 1\noptimizer = { kind = 'x' }"),
        ("epochs = 1", "epochs = 1\nschedule = { course = 1 }"),
        ("sources = [{ path = 'a' }]", "sources = 1"),
        ("sources = [{ path = 'a' }]", "sources = [1]"),
        ("sources = [{ path = 'a' }]", "sources = [{ path = 1 }]"),
        ("[data.train]", "[data]\napply_exif = 'yes'\n[data.train]"),
        ("[data.train]", "[data]\nlabels = 1\n[data.train]"),
        ("[data.train]", "[data]\naugmentation = { transforms = [1] }\n[data.train]"),
        ("[data.train]", "[data]\npreprocess = { mean = [1] }\n[data.train]"),
    ] {
        let text = sound.replacen(from, to, 1);
        let folder = tree([("run.toml", text.clone().into_bytes())]);
        let outcome =
            detr(["train", "--config", "run.toml", "--dry-run"]).inside(folder.path()).run();
        assert_ne!(outcome.code, 0, "{text}");
        check_words(&outcome, &text);
    }
}

/// Checks the messages about a model whose file of JSON is spoilt.
fn check_model(folder: &Path, file: &str, sound: &Value, others: &[Value]) {
    let copy = tree([("x.png", photo(1))]);
    for entry in folder.read_dir().unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    for document in spoilt(sound, others) {
        fs::write(copy.path().join(file), document.to_string()).unwrap();
        let mut outcome = detr(["models", "inspect", "."]).inside(copy.path()).run();
        // The description of a sound model has names of data types.
        outcome.stdout.clear();
        check_words(&outcome, &document.to_string());
    }
}

#[test]
fn messages_about_models_are_in_plain_words() {
    let shapes = root().join("assets/shapes");
    let card = serde_json::from_slice(&fs::read(shapes.join("model.json")).unwrap()).unwrap();
    check_model(&shapes, "model.json", &card, &[json!({}), json!("x"), json!(-1.5)]);
    let others = [json!({}), json!([[]]), json!("x"), json!(null)];
    let tiny = golden("hf_detr_tiny");
    let config = serde_json::from_slice(&fs::read(tiny.join("config.json")).unwrap()).unwrap();
    check_model(&tiny, "config.json", &config, &[json!({}), json!("x")]);
    let preprocessor = json!({ "do_resize": true, "size": { "shortest_edge": 800, "longest_edge": 1333 },
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 0.00392 });
    check_model(&tiny, "preprocessor_config.json", &preprocessor, &others);
}
