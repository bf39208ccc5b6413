//! The first command of the readme, as it stands there: the model in `assets/` finds what is in the picture
//! beside it.

use std::fs;
use std::path::Path;

use detr_types::{Xywh, Xyxy};
use serde_json::Value;

use crate::support::{detr, detr_infer, root};

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_first_command_of_the_readme_finds_six_shapes() {
    // The picture is made by the command that assets/README.md names, so the truth is known.
    let folder = tempfile::tempdir().unwrap();
    let readme = fs::read_to_string(root().join("assets/README.md")).unwrap();
    let command = readme.split('`').find(|text| text.starts_with("detr data synth")).unwrap();
    detr(command.split(' ').skip(1)).inside(folder.path()).run().expect(0);
    let pixels = |path: &Path| image::open(path).unwrap().into_rgb8();
    let picture = root().join("assets/shapes.png");
    assert!(pixels(&picture) == pixels(&folder.path().join("pictures/train/000000000001.png")));
    let truth = folder.path().join("pictures/annotations/instances_train.json");
    let truth: Value = serde_json::from_slice(&fs::read(truth).unwrap()).unwrap();

    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let command = readme.lines().find_map(|line| line.strip_prefix("    cargo run ")).unwrap();
    let (cargo, flags) = command.split_once(" -- ").unwrap();
    assert!(cargo.ends_with("-p detr-infer"), "{command}");
    copy(&root().join("assets"), &folder.path().join("assets"));
    let run = |more: &[&str]| {
        detr_infer(flags.split(' ')).args(more).inside(folder.path()).run().expect(0)
    };
    run(&[]);
    let drawn = folder.path().join("out/shapes.png");
    assert!(pixels(&drawn) != pixels(&picture), "nothing is drawn");
    let found = run(&["--backend", "flex", "--json"]).json();
    let found = found[0]["detections"].as_array().unwrap();
    let objects = truth["annotations"].as_array().unwrap();
    assert_eq!((found.len(), objects.len()), (6, 6));
    #[allow(clippy::cast_possible_truncation)] // pixels
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    for object in objects {
        let [x, y, w, h] = [0, 1, 2, 3].map(|side| number(&object["bbox"][side]));
        let there = Xywh { x, y, w, h }.to_xyxy();
        let fits = |found: &&Value| {
            let corner = |name: &str| number(&found["box"][name]);
            let [x1, y1, x2, y2] = ["x1", "y1", "x2", "y2"].map(corner);
            found["category_id"] == object["category_id"]
                && Xyxy { x1, y1, x2, y2 }.iou(there) > 0.8
        };
        assert_eq!(found.iter().filter(fits).count(), 1, "{object}\n{found:?}");
    }
}
