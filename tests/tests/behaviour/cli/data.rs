//! `detr data`: one made data set through all of its commands.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Outcome, detr, names_in};

/// Makes a folder with `shapes`, a generated data set of 12 images.
fn shapes() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let args = ["data", "synth", "shapes", "--count", "12", "--size", "48x64", "--seed", "5"];
    let outcome = data(folder.path(), &args[1..]).expect(0);
    assert_eq!(
        (outcome.stdout.as_str(), names_in(&folder.path().join("shapes/train")).len()),
        ("", 12)
    );
    folder
}

fn data(folder: &Path, args: &[&str]) -> Outcome {
    detr(["data"]).args(args).inside(folder).run()
}

/// Returns the names of classes and number of objects of each, by class.
fn classes(folder: &Path, path: &str) -> Vec<(String, u64)> {
    let stats = data(folder, &["stats", path, "--json"]).expect(0).json();
    let class = |class: &Value| {
        (class["name"].as_str().unwrap().to_owned(), class["objects"].as_u64().unwrap())
    };
    let mut classes: Vec<_> = stats["categories"].as_array().unwrap().iter().map(class).collect();
    classes.sort();
    classes
}

#[test]
fn a_made_data_set_is_sound_and_survives_every_format() {
    let folder = shapes();
    let folder = folder.path();
    let made = classes(folder, "shapes");
    assert_eq!(made.len(), 6);
    let found = data(folder, &["check", "shapes", "--rare", "0", "--strict"]).expect(0);
    assert!(found.stdout.contains("nothing found"), "{}", found.stdout);
    for format in ["coco", "kitti", "yolo", "voc"] {
        let args = ["convert", "shapes", "--to", format, "--output", format, "--json"];
        let report = data(folder, &args).expect(0).json();
        assert_eq!((&report["format"], &report["images"]), (&format.into(), &12.into()));
        assert_eq!(report["losses"].as_object().unwrap().is_empty(), format == "coco");
        assert_eq!(classes(folder, format), made, "{format}");
    }
    // The losses are printed for people if no JSON is asked for.
    let args = ["convert", "shapes", "--to", "voc", "--output", "voc-2", "--image-files", "link"];
    let told = data(folder, &args).expect(0).stdout;
    assert!(told.contains("lost in voc:") && told.contains("outlines left out"), "{told}");
}

#[test]
fn classes_are_renamed_merged_and_dropped_and_sources_joined() {
    let folder = shapes();
    let folder = folder.path();
    let made = classes(folder, "shapes");
    let count = |name: &str| made.iter().find(|class| class.0 == name).unwrap().1;
    let args = ["convert", "shapes", "shapes/annotations/instances_train.json"];
    let flags = ["--map", "bar=cross", "--drop", "star,circle", "--to", "coco", "--output", "out"];
    data(folder, &[&args[..], &flags].concat()).expect(0);
    let expected = [
        ("cross", 2 * (count("bar") + count("cross"))),
        ("square", 2 * count("square")),
        ("triangle", 2 * count("triangle")),
    ];
    assert_eq!(classes(folder, "out"), expected.map(|(name, count)| (name.to_owned(), count)));
    let leaked = data(folder, &["check", "shapes", "--against", "out", "--rare", "0"]).expect(1);
    assert!(leaked.stdout.contains("12 images are in both"), "{}", leaked.stdout);
    for (flags, message) in [
        (["--drop", "stra"], "class \"stra\""),
        (["--map", "x=y"], "class \"x\""),
        (["--map", "x"], "OLD=NEW"),
        (["--format", "cocoa"], "expected one of coco"),
        (["--split", "val"], "holds no data set"),
    ] {
        let outcome = data(folder, &[&["stats", "shapes"][..], &flags].concat());
        assert_eq!(outcome.code, if flags[0] == "--split" { 3 } else { 2 });
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    }
}

#[test]
fn a_data_set_is_not_written_over_itself() {
    let folder = shapes();
    let before =
        std::fs::read(folder.path().join("shapes/annotations/instances_train.json")).unwrap();
    for output in [".", "shapes", "shapes/../shapes", "shapes/annotations"] {
        let source = "shapes/annotations/instances_train.json";
        let args = ["convert", source, "--to", "coco", "--output", output];
        let outcome = data(folder.path(), &args).expect(2);
        assert!(outcome.stderr.contains("holds the data that is read"), "{}", outcome.stderr);
    }
    let after =
        std::fs::read(folder.path().join("shapes/annotations/instances_train.json")).unwrap();
    assert_eq!(before, after);
    // A folder that cannot be: the work fails, nothing is half-written.
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let args = ["convert", "shapes", "--to", "yolo", "--output", "file"];
    data(folder.path(), &args).expect(1);
}

#[test]
fn shards_hold_everything_and_read_as_one() {
    let folder = shapes();
    let folder = folder.path();
    let args = ["shard", "shapes", "--shards", "5", "--output", "shards", "--json"];
    let mapping = data(folder, &args).expect(0).json();
    let file = |shard: &Value| format!("shards/{}", shard["file"].as_str().unwrap());
    let files: Vec<String> = mapping["shards"].as_array().unwrap().iter().map(file).collect();
    assert_eq!(files.len(), 5);
    let mut args = vec!["stats", "--json", "--images", "shapes/train"];
    args.extend(files.iter().map(String::as_str));
    let all = data(folder, &args).expect(0).json();
    let made = data(folder, &["stats", "--json", "shapes"]).expect(0).json();
    assert_eq!(all, made);
    let args = ["shard", "shapes", "--shards", "13", "--output", "shards"];
    assert!(data(folder, &args).expect(2).stderr.contains("expected 1 to 12"));
}

#[test]
fn previews_and_charts_are_files_and_depend_on_the_seed_alone() {
    let folder = shapes();
    let folder = folder.path();
    let preview = |name: &str, flags: &[&str]| {
        let args = [&["preview", "shapes", "--cell", "48", "--output", name][..], flags].concat();
        data(folder, &args).expect(0);
        image::open(folder.join(name)).unwrap().to_rgb8()
    };
    let first = preview("a.png", &["--count", "6", "--columns", "3", "--masks"]);
    assert_eq!(first.dimensions(), (3 * 52 + 4, 2 * 52 + 4));
    assert_eq!(first, preview("b.png", &["--count", "6", "--columns", "3", "--masks"]));
    assert_ne!(
        first,
        preview("c.png", &["--count", "6", "--columns", "3", "--masks", "--seed", "1"])
    );
    preview("d.png", &["--image", "3", "--count", "2"]);
    // The list of transforms comes from a file; one line less is one transform less.
    std::fs::write(folder.join("none.toml"), "transforms = []\n").unwrap();
    std::fs::write(
        folder.join("flip.toml"),
        "transforms = [\n{ horizontal_flip = { p = 1.0 } },\n]\n",
    )
    .unwrap();
    std::fs::write(folder.join("bad.toml"), "transforms = [{ horizontal_flop = {} }]\n").unwrap();
    let none = preview("e.png", &["--image", "3", "--count", "1", "--augmentation", "none.toml"]);
    let flip = preview("f.png", &["--image", "3", "--count", "1", "--augmentation", "flip.toml"]);
    assert_ne!(none, flip);
    let args = ["preview", "shapes", "--output", "g.png", "--augmentation", "bad.toml"];
    let refused = data(folder, &args).expect(2).stderr;
    assert!(refused.contains("bad.toml") && refused.contains("horizontal_flop"), "{refused}");
    data(folder, &["stats", "shapes", "--svg", "stats.svg"]).expect(0);
    assert!(std::fs::read_to_string(folder.join("stats.svg")).unwrap().starts_with("<svg"));
}
