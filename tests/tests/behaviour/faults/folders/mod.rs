//! Model folders: Hugging Face's and our own, with one thing wrong.

mod deformable;

use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::weights::Safetensors;
use crate::support::{detr, golden};

use super::{check_refused, folder, with_model};

/// A fault of a folder: its name, the function that makes it, and the message of the error.
type Case = (&'static str, fn(&Path), &'static str);

fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

#[allow(clippy::needless_pass_by_value)] // tables read better
fn config(folder: &Path, key: &str, value: Value) {
    edit(&folder.join("config.json"), |config| config[key] = value.clone());
}

fn preprocessor(folder: &Path, text: &str) {
    std::fs::write(folder.join("preprocessor_config.json"), text).unwrap();
}

#[allow(clippy::needless_pass_by_value)] // tables read better
fn card(folder: &Path, pointer: &str, value: Value) {
    edit(&folder.join("model.json"), |card| *card.pointer_mut(pointer).unwrap() = value.clone());
}

fn remove(folder: &Path, file: &str) {
    std::fs::remove_file(folder.join(file)).unwrap();
}

fn weights(folder: &Path, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let path = folder.join("model.safetensors");
    std::fs::write(&path, change(std::fs::read(&path).unwrap())).unwrap();
}

/// Makes a pipe that nobody writes into: opening it to read would wait for ever.
#[cfg(unix)]
fn pipe(folder: &Path, file: &str) {
    let path = folder.join(file);
    if path.exists() {
        remove(folder, file);
    }
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

pub(super) fn hugging_face() -> Vec<Case> {
    vec![
        ("no weights", |f| remove(f, "model.safetensors"), "model.safetensors"),
        ("no configuration", |f| remove(f, "config.json"), "neither model.json nor config.json"),
        ("another model", |f| config(f, "model_type", json!("yolos")), "model_type is `yolos`"),
        ("no model type", |f| config(f, "model_type", json!(null)), "model_type"),
        ("another activation", |f| config(f, "activation_function", json!("gelu")), "gelu"),
        ("no heads", |f| config(f, "encoder_attention_heads", json!(0)), "heads"),
        ("odd heads", |f| config(f, "encoder_attention_heads", json!(7)), "heads"),
        ("negative heads", |f| config(f, "encoder_attention_heads", json!(-4)), "heads"),
        ("huge number", |f| config(f, "encoder_attention_heads", json!(1e300)), "heads"),
        (
            "too many names",
            |f| {
                config(f, "id2label", json!({ "0": "a", "7": "too far" }));
            },
            "id2label does not fit",
        ),
        ("a name of no number", |f| config(f, "id2label", json!({ "zero": "a" })), "`zero`"),
        ("a negative label", |f| config(f, "id2label", json!({ "-1": "a" })), "`-1`"),
        ("names in a list", |f| config(f, "id2label", json!(["a"])), "id2label"),
        (
            "cut JSON",
            |f| std::fs::write(f.join("config.json"), "{\"model_type\": ").unwrap(),
            "line 1 column",
        ),
        ("empty JSON", |f| std::fs::write(f.join("config.json"), "").unwrap(), "config.json"),
        (
            "JSON of another kind",
            |f| std::fs::write(f.join("config.json"), "[1]").unwrap(),
            "config.json",
        ),
        (
            "no UTF-8",
            |f| std::fs::write(f.join("config.json"), b"{\"model_type\": \"d\xff\"}").unwrap(),
            "config.json",
        ),
        (
            "deep JSON",
            |f| std::fs::write(f.join("config.json"), "{\"x\":".repeat(200_000)).unwrap(),
            "config.json",
        ),
        (
            "deep list",
            |f| {
                std::fs::write(
                    f.join("config.json"),
                    format!("{{\"id2label\": {}", "[".repeat(200_000)),
                )
                .unwrap();
            },
            "config.json",
        ),
        ("no standard deviation", |f| preprocessor(f, r#"{"image_std": [0.2, 0, 0.2]}"#), "std[1]"),
        (
            "NaN as deviation",
            |f| preprocessor(f, r#"{"image_std": [0.2, NaN, 0.2]}"#),
            "preprocessor_config.json",
        ),
        (
            "endless deviation",
            |f| preprocessor(f, r#"{"image_std": [0.2, 1e999, 0.2]}"#),
            "preprocessor_config.json",
        ),
        ("two means", |f| preprocessor(f, r#"{"image_mean": [0.5, 0.5]}"#), "image_mean"),
        (
            "size 0",
            |f| preprocessor(f, r#"{"size": {"shortest_edge": 0, "longest_edge": 9}}"#),
            "shortest_edge is 0",
        ),
        ("a negative size", |f| preprocessor(f, r#"{"size": -800}"#), "size"),
        (
            "a huge size",
            |f| preprocessor(f, r#"{"size": 4000000000}"#),
            "shortest_edge is 4000000000",
        ),
        (
            "sides that are too large together",
            |f| preprocessor(f, r#"{"size": {"shortest_edge": 16384, "longest_edge": 16384}}"#),
            "shortest_edge 16384 times longest_edge 16384",
        ),
        ("no resizing", |f| preprocessor(f, r#"{"do_resize": false}"#), "do_resize is false"),
        ("no scaling", |f| preprocessor(f, r#"{"do_rescale": false}"#), "do_rescale is false"),
        (
            "no normalising",
            |f| preprocessor(f, r#"{"do_normalize": false}"#),
            "do_normalize is false",
        ),
        (
            "another scale",
            |f| preprocessor(f, r#"{"rescale_factor": 0.0078125}"#),
            "rescale_factor is 0.0078125",
        ),
        (
            "too few names",
            |f| {
                edit(&f.join("config.json"), |config| {
                    config["id2label"].as_object_mut().unwrap().remove("3");
                });
            },
            "id2label does not fit",
        ),
        (
            "only the decoder's heads",
            |f| config(f, "encoder_attention_heads", json!(null)),
            "encoder_attention_heads is 8 and decoder_attention_heads 4",
        ),
        #[cfg(unix)]
        ("a pipe as weights", |f| pipe(f, "model.safetensors"), "not a regular file"),
        #[cfg(unix)]
        (
            "a pipe as preprocessing",
            |f| pipe(f, "preprocessor_config.json"),
            "preprocessor_config.json: not a regular file",
        ),
        ("no weights in it", |f| weights(f, |_| Vec::new()), "the file is empty"),
        (
            "cut weights",
            |f| {
                weights(f, |mut bytes| {
                    bytes.pop();
                    bytes
                });
            },
            "damaged",
        ),
        (
            "one projection gone",
            |f| {
                weights(f, |bytes| {
                    let name = |name: &str| {
                        (!name.ends_with("0.self_attn.k_proj.weight")).then(|| name.to_owned())
                    };
                    Safetensors::parse(&bytes).renamed(name).bytes()
                });
            },
            "",
        ),
    ]
}

pub(super) fn artifacts() -> Vec<Case> {
    vec![
        ("a newer version", |f| card(f, "/format_version", json!(2)), "format version 2"),
        (
            "a far newer version",
            |f| {
                edit(&f.join("model.json"), |card| {
                    *card = json!({ "format_version": 99, "all": "new" });
                });
            },
            "format version 99",
        ),
        ("no version", |f| card(f, "/format_version", json!("one")), "format_version"),
        (
            "an unknown key",
            |f| edit(&f.join("model.json"), |card| card["notes"] = json!(1)),
            "notes",
        ),
        ("an unknown architecture", |f| card(f, "/architecture/kind", json!("yolo")), "yolo"),
        (
            "an unknown setting",
            |f| {
                edit(&f.join("model.json"), |card| card["architecture"]["layers"] = json!(1));
            },
            "layers",
        ),
        ("no queries", |f| card(f, "/architecture/num_queries", json!(0)), "num_queries is 0"),
        (
            "other queries",
            |f| card(f, "/architecture/num_queries", json!(10)),
            "query_embed.weight",
        ),
        ("other layers", |f| card(f, "/architecture/dec_layers", json!(3)), "missing"),
        (
            "more layers",
            |f| card(f, "/architecture/dec_layers", json!(4)),
            "hint: model.json is not the card of these weights",
        ),
        ("too few classes", |f| card(f, "/classes/slots", json!(90)), "class"),
        ("a class beyond", |f| card(f, "/classes/categories/0/label", json!(91)), "class"),
        ("no classes", |f| card(f, "/classes", json!(null)), "classes"),
        ("another hash", |f| card(f, "/weights/sha256", json!("0".repeat(64))), "SHA-256"),
        ("another length", |f| card(f, "/weights/bytes", json!(1)), "model.json says 1"),
        (
            "another file",
            |f| card(f, "/weights/file", json!("../../etc/passwd")),
            "expected `model.safetensors`",
        ),
        ("no weights", |f| remove(f, "model.safetensors"), "model.safetensors"),
        (
            "a flipped byte",
            |f| {
                weights(f, |mut bytes| {
                    let at = bytes.len() - 100;
                    bytes[at] ^= 1;
                    bytes
                });
            },
            "SHA-256",
        ),
        (
            "a cut file",
            |f| {
                weights(f, |mut bytes| {
                    bytes.truncate(1000);
                    bytes
                });
            },
            "damaged",
        ),
        ("no deviation", |f| card(f, "/preprocess/std/2", json!(0.0)), "std[2]"),
        ("no number as deviation", |f| card(f, "/preprocess/std/2", json!(null)), "std"),
        ("no size", |f| card(f, "/preprocess/shortest_edge", json!(0)), "shortest_edge is 0"),
        ("an empty card", |f| std::fs::write(f.join("model.json"), "").unwrap(), "model.json"),
        (
            "a cut card",
            |f| std::fs::write(f.join("model.json"), "{\"format_version\": 1,").unwrap(),
            "line 1 column",
        ),
        (
            "a deep card",
            |f| std::fs::write(f.join("model.json"), "[".repeat(200_000)).unwrap(),
            "model.json",
        ),
    ]
}

fn copied(from: &Path) -> TempDir {
    let folder = folder();
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Returns an artifact of the tiny DETR, made once.
fn artifact() -> &'static Path {
    static FOLDER: OnceLock<std::path::PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("detr-tiny-artifact");
        let run = detr(["models", "convert", "--force"]).arg(golden("detr_tiny_zip.pth"));
        run.arg(&path).run().expect(0);
        path
    })
}

fn check(cases: Vec<Case>, from: &Path) {
    for (what, spoil, message) in cases {
        let folder = copied(from);
        let model = folder.path().join("model");
        spoil(&model);
        let outcome = with_model(folder.path(), "model").run();
        check_refused(what, folder.path(), &outcome, 3, message);
        assert!(outcome.stderr.contains("error: model"), "{what}: {}", outcome.stderr);
        detr(["models", "inspect"]).arg(&model).run();
    }
}

#[test]
fn hugging_face_folders_with_a_fault_are_refused() {
    check(hugging_face(), &golden("hf_detr_tiny"));
}

#[test]
fn artifacts_with_a_fault_are_refused() {
    check(artifacts(), artifact());
}

#[test]
fn folders_with_harmless_peculiarities_are_read() {
    for (what, change) in [
        ("nothing", (|_| ()) as fn(&Path)),
        ("a byte order mark", |f| {
            let path = f.join("config.json");
            let text = std::fs::read(&path).unwrap();
            std::fs::write(path, [b"\xef\xbb\xbf".as_slice(), &text].concat()).unwrap();
        }),
        ("no names", |f| config(f, "id2label", json!({}))),
        ("unknown settings", |f| config(f, "something_new", json!({ "a": [1] }))),
        ("an old size", |f| preprocessor(f, r#"{"size": 64, "max_size": 96}"#)),
        ("other files", |f| std::fs::write(f.join("README.md"), "hello").unwrap()),
    ] {
        let folder = copied(&golden("hf_detr_tiny"));
        change(&folder.path().join("model"));
        let outcome = with_model(folder.path(), "model").run();
        assert_eq!(outcome.code, 0, "{what}: {}", outcome.stderr);
    }
}

#[test]
fn a_backbone_alone_that_cannot_be_built_is_refused() {
    let folder = folder();
    let model = folder.path().join("model");
    let run = detr(["models", "convert"]).arg(golden("torchvision_resnet18_narrow_zip.pth"));
    run.arg(&model).run().expect(0);
    card(&model, "/architecture/depths/2", json!(1_000_000));
    let outcome = detr(["models", "inspect"]).arg(&model).run();
    check_refused("depths", folder.path(), &outcome, 3, "backbone.depths is 1000000");
}

#[test]
fn a_folder_says_its_own_architecture() {
    let folder = copied(artifact());
    let outcome = with_model(folder.path(), "model").args(["--arch", "detr-r50"]).run();
    check_refused("--arch", folder.path(), &outcome, 2, "leave out --arch");
    let theirs = copied(&golden("hf_detr_tiny"));
    let outcome = with_model(theirs.path(), "model").args(["--arch", "detr-r50"]).run();
    check_refused("--arch", theirs.path(), &outcome, 3, "leave out --arch");
    let outcome = with_model(folder.path(), ".").run();
    check_refused("a folder of pictures", folder.path(), &outcome, 3, "neither model.json");
    assert!(outcome.ends_with_hint());
}
