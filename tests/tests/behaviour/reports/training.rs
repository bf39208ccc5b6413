//! Training and evaluation on data that do not fit together, and the habits of the command line.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::images::{picture, png};
use crate::support::{Outcome, Run, detr, detr_infer, folder_with, golden, names_in, root};

/// One step that changes nothing, from the shipped model, and a validation.
const SETTINGS: &str = r#"
    [model]
    arch = "deformable-detr-tiny"
    init = 'SHIPPED'
    [data]
    train = { sources = [{ path = "shapes/train.json", images = "shapes/train" }] }
    val = { sources = [VAL] }
    preprocess = { shortest_edge = 128, longest_edge = 160 }
    [data.augmentation]
    transforms = [{ random_resize = { short_sides = [128], max_size = 160 } }]
    [data.loader]
    batch_size = 6
    workers = 1
    [train]
    epochs = 1
    seed = 1
    lr = 1e-12
    lr_backbone = 1e-12
    frozen = []
"#;

/// Pictures with settings for a run of one step.
struct Data(TempDir);

impl Data {
    /// Makes six pictures of all six classes of the shipped model.
    fn new() -> Self {
        let data = Self(tempfile::tempdir().unwrap());
        let synth = ["data", "synth", "shapes", "--size", "150x200", "--objects", "3-6"];
        let synth = detr(synth).args(["--scale", "0.15-0.4", "--count", "6", "--seed", "3"]);
        synth.inside(data.0.path()).run().expect(0);
        data.write("train", |_| {});
        data
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the annotations with a change as `shapes/NAME.json`.
    fn write(&self, name: &str, change: impl Fn(&mut Value)) {
        let text = fs::read(self.path("shapes/annotations/instances_train.json")).unwrap();
        let mut json: Value = serde_json::from_slice(&text).unwrap();
        change(&mut json);
        fs::write(self.path(&format!("shapes/{name}.json")), json.to_string()).unwrap();
    }

    /// Prepares a run that validates on this source.
    fn train(&self, run: &str, val: &str) -> Run {
        let model = root().join("assets/shapes").display().to_string();
        let text = SETTINGS.replacen("SHIPPED", &model, 1).replacen("VAL", val, 1);
        let file = self.path(&format!("{run}.toml"));
        fs::write(&file, text).unwrap();
        let train = detr(["train", "--backend", "flex", "--config"]).arg(file);
        train.arg("--output").arg(self.path(run))
    }

    /// Returns the AP that a run has logged.
    fn logged(&self, run: &str) -> f64 {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let mut rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let row = rows.rfind(|row| row["event"] == "validated").unwrap();
        row["metrics"]["ap"].as_f64().unwrap()
    }

    fn log(&self, run: &str) -> String {
        fs::read_to_string(self.path(run).join("log.txt")).unwrap()
    }

    /// Evaluates the shipped model with `detr eval` and returns its AP.
    fn evaluated(&self, data: &[&str]) -> f64 {
        let eval = detr(["eval", "--backend", "flex", "--json", "--model"]);
        let eval = eval.arg(root().join("assets/shapes")).arg("--data").args(data);
        eval.inside(self.0.path()).run().expect(0).json()["summary"]["ap"].as_f64().unwrap()
    }
}

/// Gives every category another id, in its annotations, too.
fn renumber(json: &mut Value, new: impl Fn(i64) -> i64) {
    for category in json["categories"].as_array_mut().unwrap() {
        category["id"] = json!(new(category["id"].as_i64().unwrap()));
    }
    for object in json["annotations"].as_array_mut().unwrap() {
        object["category_id"] = json!(new(object["category_id"].as_i64().unwrap()));
    }
}

/// Leaves out a class with its objects.
fn without(json: &mut Value, name: &str) {
    let categories = json["categories"].as_array_mut().unwrap();
    let gone = categories.iter().find(|category| category["name"] == name).unwrap()["id"].clone();
    categories.retain(|category| category["id"] != gone);
    json["annotations"].as_array_mut().unwrap().retain(|object| object["category_id"] != gone);
}

#[test]
fn a_validation_of_other_ids_or_fewer_classes_scores_as_eval_does() {
    let data = Data::new();
    data.write("same", |_| {});
    data.write("reversed", |json| renumber(json, |id| 7 - id));
    data.write("from-zero", |json| renumber(json, |id| id - 1));
    data.write("far", |json| renumber(json, |id| 1000 - 100 * id));
    data.write("without", |json| {
        without(json, "bar");
        renumber(json, |id| 2 * id + 1);
    });
    let whole = data.evaluated(&["shapes/same.json", "--images", "shapes/train"]);
    assert!(whole > 0.3, "{whole}");
    for name in ["same", "reversed", "from-zero", "far", "without"] {
        let file = format!("shapes/{name}.json");
        let val = format!("{{ path = \"{file}\", images = \"shapes/train\" }}");
        let run = data.train(name, &val).run().expect(0);
        let expected = data.evaluated(&[&file, "--images", "shapes/train"]);
        let found = data.logged(name);
        assert!((found - expected).abs() < 1e-9, "{name}: {found} instead of {expected}");
        assert!(name == "without" || (found - whole).abs() < 1e-9, "{name}: {found}, {whole}");
        let note = "the data have no such classes, whose detections do not count: bar";
        for text in [&run.stderr, &data.log(name)] {
            assert_eq!(text.contains(note), name == "without", "{text}");
        }
    }
}

#[test]
fn a_split_of_voc_or_kitti_that_lacks_a_class_is_validated_and_numbered_alike() {
    let data = Data::new();
    for format in ["voc", "kitti"] {
        for (split, flags) in [("train", &[][..]), ("val", &["--drop", "bar"])] {
            let output = format!("{format}/{split}");
            let convert = detr(["data", "convert", "shapes/train.json", "--to", format]).args([
                "--images",
                "shapes/train",
                "--output-split",
                "train",
                "--output",
                &output,
            ]);
            convert.args(flags).inside(data.0.path()).run().expect(0);
        }
        let val = format!("{{ path = \"{format}/val\" }}");
        data.train(format, &val).run().expect(0);
        let expected = data.evaluated(&[&format!("{format}/val")]);
        let found = data.logged(format);
        assert!(expected > 0.3 && (found - expected).abs() < 1e-9, "{found}, {expected}");
        // The splits have the same ids if they are converted one by one.
        let categories = |split: &str| {
            let output = format!("coco-{format}/{split}");
            let convert = detr(["data", "convert", &format!("{format}/{split}"), "--to", "coco"]);
            let convert = convert.args(["--output", &output]).inside(data.0.path());
            convert.run().expect(0);
            let file = data.path(&output).join("annotations/instances_train.json");
            let json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            json["categories"].clone()
        };
        let train = categories("train");
        assert_eq!(train.as_array().unwrap().len(), 6);
        assert_eq!(categories("val"), train, "{format}");
    }
}

#[test]
fn a_validation_without_a_common_class_is_refused_before_the_first_step() {
    let data = Data::new();
    data.write("capital", |json| {
        for category in json["categories"].as_array_mut().unwrap() {
            category["name"] = json!(category["name"].as_str().unwrap().to_uppercase());
        }
    });
    let val = "{ path = \"shapes/capital.json\", images = \"shapes/train\" }";
    let refused = data.train("run", val).run().expect(2);
    assert!(refused.stderr.contains("no class in common"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: data.val.classes.map = { \""), "{refused:?}");
    assert!(!data.path("run").exists());

    data.write("one", |json| {
        let categories = json["categories"].as_array_mut().unwrap();
        let bar = categories.iter_mut().find(|class| class["name"] == "bar").unwrap();
        bar["name"] = json!("beam");
    });
    let val = "{ path = \"shapes/one.json\", images = \"shapes/train\" }";
    let run = data.train("run", val).run().expect(0);
    for note in ["count as not found: beam", "do not count: bar"] {
        assert!(run.stderr.contains(note) && data.log("run").contains(note), "{}", run.stderr);
    }
}

#[test]
fn a_check_against_another_split_compares_the_classes() {
    let data = Data::new();
    data.write("reversed", |json| renumber(json, |id| 7 - id));
    data.write("without", |json| without(json, "bar"));
    let check = |other: &str, flags: &[&str]| {
        let check =
            ["data", "check", "shapes/train.json", "--images", "shapes/train", "--rare", "0"];
        let check = detr(check).args(["--against", other]).args(flags);
        check.inside(data.0.path()).run()
    };
    let found = check("shapes/reversed.json", &[]).stdout;
    assert!(found.contains("classes of other ids") && found.contains("bar is "), "{found}");
    let found = check("shapes/without.json", &[]).stdout;
    assert!(
        found.contains("classes that only this data set has") && found.contains("bar"),
        "{found}"
    );
    let found = check("shapes/train.json", &[]).stdout;
    assert!(found.contains("both data sets have the same 6 classes"), "{found}");
    let json = check("shapes/without.json", &["--json"]).json();
    assert_eq!(json["classes"]["only_first"], json!(["bar"]));
}

#[test]
fn what_reading_leaves_out_is_said_at_the_start_and_in_the_log() {
    let data = Data::new();
    data.write("train", |json| {
        let objects = json["annotations"].as_array_mut().unwrap();
        for object in objects.iter_mut().take(2) {
            object["category_id"] = json!(0);
        }
    });
    let val = "{ path = \"shapes/annotations/instances_train.json\", images = \"shapes/train\" }";
    let run = data.train("run", val).run().expect(0);
    let note = "2 x annotation with a category that is not listed: annotation ";
    for text in [run.stderr, data.log("run")] {
        assert!(text.contains(&format!("note: data.train: {note}")), "{text}");
        assert!(text.contains("data.train: 6 images, "), "{text}");
    }
    let stats = ["data", "stats", "shapes/train.json", "--images", "shapes/train"];
    let stats = detr(stats).inside(data.0.path()).run().expect(0);
    assert!(stats.stderr.contains(&format!("note: {note}")), "{}", stats.stderr);
}

#[test]
fn data_without_an_object_to_learn_is_refused() {
    let data = Data::new();
    let val = "{ path = \"shapes/annotations/instances_train.json\", images = \"shapes/train\" }";
    let check = |what: &str, reason: &str, change: &dyn Fn(&mut Vec<Value>)| {
        data.write("train", |json| change(json["annotations"].as_array_mut().unwrap()));
        for flags in [&[][..], &["--dry-run"], &["--overfit", "2"]] {
            let refused = data.train("run", val).args(flags).run().expect(3);
            assert!(
                refused.stderr.contains("nothing to learn on its 6 images"),
                "{what} {refused:?}"
            );
            assert!(refused.stderr.contains(reason), "{what}: {}", refused.stderr);
            assert!(refused.ends_with_hint() && !data.path("run").exists(), "{what}");
        }
    };
    check("none", "they have no objects", &Vec::clear);
    check("crowds", "crowds, which training ignores", &|objects| {
        for object in objects.iter_mut() {
            object["iscrowd"] = json!(1);
        }
    });
    check("outside", "boxes without area on their image", &|objects| {
        for object in objects.iter_mut() {
            object["bbox"] = json!([5000, 5000, 10, 10]);
        }
    });
    check("flat", "boxes without area on their image", &|objects| {
        for object in objects.iter_mut() {
            object["bbox"][2] = json!(0);
        }
    });
    check("unlisted", "they have no objects", &|objects| {
        for object in objects.iter_mut() {
            object["category_id"] = json!(99);
        }
    });
}

/// Detects with a model in a picture.
fn detections(folder: &Path, model: &Path) -> Outcome {
    let infer = detr_infer(["shapes.png", "--json", "--backend", "flex", "--threshold", "0.5"]);
    infer.arg("--model").arg(model).inside(folder).run().expect(0)
}

#[test]
fn a_weights_file_is_read_with_the_card_beside_it() {
    let data = Data::new();
    let picture = data.path("shapes/train").join(&names_in(&data.path("shapes/train"))[0]);
    let folder = data.path("model");
    fs::create_dir(&folder).unwrap();
    for file in ["model.json", "model.safetensors"] {
        fs::copy(root().join("assets/shapes").join(file), folder.join(file)).unwrap();
    }
    fs::copy(folder.join("model.safetensors"), folder.join("renamed.safetensors")).unwrap();
    fs::copy(picture, data.path("shapes.png")).unwrap();
    let expected = detections(data.0.path(), &folder);
    assert!(!expected.json()[0]["detections"].as_array().unwrap().is_empty());
    for file in ["model.safetensors", "renamed.safetensors", "model.json"] {
        let found = detections(data.0.path(), &folder.join(file));
        assert_eq!(found.json(), expected.json(), "{file}");
        assert!(found.stderr.contains("model.json"), "{}", found.stderr);
        let inspect = detr(["models", "inspect", "--json"]).arg(folder.join(file)).run().expect(0);
        assert_eq!(inspect.json()["format"], "detr artifact", "{file}");
        let eval = detr(["eval", "--backend", "flex", "--json", "--model"]).arg(folder.join(file));
        let eval = eval.args(["--data", "shapes/train.json", "--images", "shapes/train"]);
        eval.inside(data.0.path()).run().expect(0);
    }
    // Other weights in the same folder have no card, and the file alone is not a folder.
    let alone = folder_with([]);
    fs::copy(folder.join("model.safetensors"), alone.path().join("model.safetensors")).unwrap();
    let inspect = detr(["models", "inspect", "--json", "model.safetensors"]);
    let inspect = inspect.inside(alone.path()).run().expect(0).json();
    assert_eq!(inspect["format"], "safetensors with official names");
    // An architecture that is not the card's is refused.
    let other = detr(["models", "inspect", "--arch", "detr-r50"]);
    let other = other.arg(folder.join("model.safetensors")).run().expect(3);
    assert!(
        other.stderr.contains("model.json beside it describes another architecture"),
        "{other:?}"
    );
    assert!(other.ends_with_hint());

    // `model.init` takes classes and heads from the card, too.
    let val = "{ path = \"shapes/train.json\", images = \"shapes/train\" }";
    let init = format!("model.init='{}'", folder.join("model.safetensors").display());
    let run = data.train("run", val).args(["--set", &init]).run().expect(0);
    assert!(run.stderr.contains("(detr artifact)"), "{}", run.stderr);
    assert!(run.stderr.contains("note: read with model.json beside it"), "{}", run.stderr);
}

#[test]
fn a_weights_file_is_read_with_the_config_beside_it() {
    let folder = golden("hf_detr_tiny");
    let inspect = |path: &Path| detr(["models", "inspect", "--json"]).arg(path).run().expect(0);
    let whole = inspect(&folder).json();
    for file in ["model.safetensors", "config.json"] {
        let found = inspect(&folder.join(file));
        for field in ["format", "architecture", "classes", "preprocess"] {
            assert_eq!(found.json()[field], whole[field], "{file} {field}");
        }
        assert!(found.stderr.contains("config.json"), "{}", found.stderr);
    }
}

#[cfg(unix)]
mod bytes {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    use super::*;

    /// Returns a name in Latin-1.
    fn latin(ending: &str) -> OsString {
        OsString::from_vec([b"caf\xe9", ending.as_bytes()].concat())
    }

    /// Makes a folder with a plain picture, one with a Latin-1 name, its twin of another byte, and
    /// a hidden one.
    fn folder() -> TempDir {
        let bytes = png(picture(1, 40, 32));
        let folder = folder_with([("plain.png", bytes.clone()), (".hidden.png", bytes.clone())]);
        fs::write(folder.path().join(latin(".png")), &bytes).unwrap();
        let twin = OsStr::from_bytes(b"caf\xe8.png");
        fs::write(folder.path().join(twin), &bytes).unwrap();
        let sub = folder.path().join(OsStr::from_bytes(b"s\xfcb"));
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("below.png"), &bytes).unwrap();
        folder
    }

    fn run(folder: &Path, sources: &[&OsStr], flags: &[&str]) -> Outcome {
        let model = golden("detr_tiny_zip.pth");
        let infer = detr_infer(sources).quick().arg("--model").arg(model).args(flags);
        infer.inside(folder).run()
    }

    #[test]
    fn globs_and_arguments_take_names_of_any_bytes() {
        let folder = folder();
        let name = latin(".png");
        for (pattern, images) in [
            (OsStr::new("*.png"), 3),
            (OsStr::new("*"), 3),
            (OsStr::new("pl*"), 1),
            (OsStr::new("caf?.png"), 2),
            (OsStr::new("./**/*.png"), 4),
            (OsStr::new("s?b/*.png"), 1),
            (OsStr::new(".h*"), 1),
            (OsStr::from_bytes(b"c*f\xe9.p*"), 1),
            (name.as_os_str(), 1),
            (OsStr::new("."), 3),
        ] {
            let found = run(folder.path(), &[pattern], &["--jsonl"]).expect(0).json_lines();
            assert_eq!(found.len(), images, "{pattern:?}: {found:?}");
            assert!(found.iter().all(|row| row["error"].is_null()), "{found:?}");
        }
    }

    #[test]
    fn results_keep_the_bytes_of_a_name() {
        let folder = folder();
        let sources = [OsStr::new("*.png")];
        for format in ["yolo", "kitti"] {
            let flags = ["--format", format, "--output", format, "--save", "pictures"];
            run(folder.path(), &sources, &flags).expect(0);
            for (output, ending) in [(format, ".txt"), ("pictures", ".png")] {
                for stem in [&b"caf\xe9"[..], b"caf\xe8", b"plain"] {
                    let name = OsString::from_vec([stem, ending.as_bytes()].concat());
                    assert!(folder.path().join(output).join(&name).is_file(), "{output} {name:?}");
                }
            }
        }
        for format in ["coco", "csv"] {
            run(folder.path(), &sources, &["--format", format, "--output", "results"]).expect(0);
        }
        let found = run(folder.path(), &sources, &["--jsonl"]).expect(0).json_lines();
        let files: Vec<&str> = found.iter().map(|row| row["file"].as_str().unwrap()).collect();
        assert_eq!(files, ["caf\\xE8.png", "caf\\xE9.png", "plain.png"]);
    }

    #[test]
    fn models_lists_and_missing_files_may_have_any_name() {
        let folder = folder();
        let model = latin(".pth");
        fs::copy(golden("detr_tiny_zip.pth"), folder.path().join(&model)).unwrap();
        let infer = detr_infer(["plain.png", "--jsonl"]).quick().arg("--model").arg(&model);
        infer.inside(folder.path()).run().expect(0);
        let inspect = detr(["models", "inspect"]).arg(&model).inside(folder.path());
        inspect.run().expect(0);
        fs::write(folder.path().join("list.txt"), b"# caf\xe9\ncaf\xe9.png\nplain.png\n").unwrap();
        let listed = run(folder.path(), &[OsStr::new("@list.txt")], &["--jsonl"]).expect(0);
        assert_eq!(listed.json_lines().len(), 2);
        fs::write(folder.path().join("gone.txt"), b"plain.png\ngone\xe9.png\n").unwrap();
        let refused = run(folder.path(), &[OsStr::new("@gone.txt")], &[]).expect(2);
        assert!(refused.stderr.contains("not UTF-8 text (line 2)"), "{}", refused.stderr);
        let missing = run(folder.path(), &[OsStr::from_bytes(b"no\xe9.png")], &[]).expect(2);
        assert!(missing.stderr.contains("no such file or folder"), "{}", missing.stderr);
    }
}

#[test]
fn an_address_and_a_file_with_an_at_sign_get_a_hint() {
    let folder = folder_with([("@at.png", png(picture(1, 40, 32)))]);
    for (source, hint) in [
        ("https://example.com/a.png", "curl -L 'https://example.com/a.png' | detr-infer -"),
        ("http://example.com/a.png?size=*", "| detr-infer -"),
        ("s3://bucket/a.png", "| detr-infer -"),
        ("@at.png", "./@at.png"),
    ] {
        let refused = detr_infer([source]).inside(folder.path()).run().expect(2);
        assert!(refused.ends_with_hint() && refused.stderr.contains(hint), "{}", refused.stderr);
    }
}

#[test]
fn a_finished_run_says_that_it_is_finished_and_how_to_go_on() {
    let data = Data::new();
    let val = "{ path = \"shapes/train.json\", images = \"shapes/train\" }";
    data.train("run", val).run().expect(0);
    let resume =
        || detr(["train", "--backend", "flex", "--resume", "--output"]).arg(data.path("run"));
    let again = resume().run().expect(0);
    assert!(again.stderr.contains("train.epochs = 1 is reached"), "{}", again.stderr);
    assert!(again.stderr.contains("hint: --set train.epochs=2 goes on"), "{}", again.stderr);

    // A run whose checkpoints are gone is refused, and nothing is written over.
    let settings = fs::read(data.path("run/config.toml")).unwrap();
    let checkpoints = data.path("run/checkpoints");
    for name in names_in(&checkpoints) {
        if name.starts_with("step-") {
            fs::remove_dir_all(checkpoints.join(name)).unwrap();
        }
    }
    let refused = resume().args(["--set", "train.epochs=3"]).run().expect(3);
    assert!(
        refused.stderr.contains("is not there any more, though `last` names it"),
        "{refused:?}"
    );
    assert!(refused.ends_with_hint(), "{}", refused.stderr);
    assert_eq!(fs::read(data.path("run/config.toml")).unwrap(), settings);
    // A run without any trace of them starts over, and says so.
    fs::remove_dir_all(&checkpoints).unwrap();
    let over = resume().run().expect(0);
    assert!(
        over.stderr.contains("no checkpoint is there, so the run starts over"),
        "{}",
        over.stderr
    );
}

#[test]
fn results_in_our_own_json_are_refused_with_the_flag_that_helps() {
    let data = Data::new();
    let picture = format!("shapes/train/{}", names_in(&data.path("shapes/train"))[0]);
    let infer = detr_infer([picture.as_str(), "--json", "--backend", "flex", "--model"]);
    let infer = infer.arg(root().join("assets/shapes")).inside(data.0.path());
    fs::write(data.path("results.json"), infer.run().expect(0).stdout).unwrap();
    let eval = detr(["eval", "--results", "results.json", "--data", "shapes/train.json"]);
    let refused = eval.inside(data.0.path()).run().expect(3);
    assert!(refused.stderr.contains("--format coco"), "{}", refused.stderr);
}
