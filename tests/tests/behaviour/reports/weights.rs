//! Checkpoints and folders of models as other programs write them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::images::{crc32, picture, png};
use crate::support::weights::Safetensors;
use crate::support::{Outcome, detr, detr_infer, folder_with, golden};

/// Words that only a reader of our source understands.
const FOREIGN: [&str; 6] = ["untagged", "enum ", "struct ", "u32", "usize", "variant"];

/// Makes a folder with a picture, `good.png`.
fn folder() -> TempDir {
    folder_with([("good.png", png(picture(1, 60, 40)))])
}

/// Returns all that a model finds in the picture, whatever the scores.
fn detect(folder: &Path, model: &str, flags: &[&str]) -> Outcome {
    let args = ["good.png", "--json", "--threshold", "0", "--backend", "flex", "--model", model];
    detr_infer(args).args(flags).inside(folder).run()
}

/// The small images of `QUICK`.
const SMALL: [&str; 4] = ["--size", "64", "--max-size", "96"];

/// Copies a golden folder to `model`, beside the picture.
fn copied(name: &str) -> TempDir {
    let folder = folder();
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in golden(name).read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Returns the output of `detr models inspect` about a model.
fn inspect(path: &Path) -> Value {
    detr(["models", "inspect", "--json"]).arg(path).run().expect(0).json()
}

/// Fails the test unless a run was refused with this message, a hint, and no word of our source.
#[track_caller]
fn refused(outcome: &Outcome, message: &str) {
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(message), "no `{message}` in {}", outcome.stderr);
    assert!(outcome.ends_with_hint(), "{}", outcome.stderr);
    for word in FOREIGN {
        assert!(!outcome.stderr.contains(word), "{word} in {}", outcome.stderr);
    }
}

// Files of `torch.save`, made by hand.

/// A value in a pickle.
enum PickleNode {
    Dict(Vec<(String, PickleNode)>),
    Number(u8),
    /// Shape and place in the one storage of the file.
    Tensor(Vec<usize>, usize),
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    out.extend(text.bytes());
}

fn integer(out: &mut Vec<u8>, value: usize) {
    out.push(b'J');
    out.extend(i32::try_from(value).unwrap().to_le_bytes());
}

fn pickle(out: &mut Vec<u8>, value: &PickleNode, elements: usize) {
    match value {
        PickleNode::Number(number) => out.extend([b'K', *number]),
        PickleNode::Dict(entries) => {
            out.extend(b"}(");
            for (key, value) in entries {
                text(out, key);
                pickle(out, value, elements);
            }
            out.push(b'u');
        }
        PickleNode::Tensor(shape, at) => {
            out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text(out, "storage");
            out.extend(b"ctorch\nFloatStorage\n");
            text(out, "0");
            text(out, "cpu");
            integer(out, elements);
            out.extend(b"tQ");
            integer(out, *at);
            let stride = |axis: usize| -> usize { shape[axis + 1..].iter().product() };
            for sides in [shape.clone(), (0..shape.len()).map(stride).collect()] {
                out.push(b'(');
                for side in sides {
                    integer(out, side);
                }
                out.push(b't');
            }
            out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        }
    }
}

/// Writes a zip archive of entries as they are.
fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let short = |value: usize| u16::try_from(value).unwrap().to_le_bytes();
    let (mut out, mut index) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let size = u32::try_from(content.len()).unwrap();
        let mut common = [20_u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
        common.extend([crc32(content), size, size].map(u32::to_le_bytes).concat());
        common.extend(short(name.len()));
        let at = u32::try_from(out.len()).unwrap().to_le_bytes();
        out.extend(
            [b"PK\x03\x04", common.as_slice(), &short(0), name.as_bytes(), content.as_slice()]
                .concat(),
        );
        let zeros = [0; 12];
        let entry = [b"PK\x01\x02\x14\0", common.as_slice(), &zeros, &at, name.as_bytes()];
        index.extend(entry.concat());
    }
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend([short(entries.len()), short(entries.len())].concat());
    end.extend(u32::try_from(index.len()).unwrap().to_le_bytes());
    end.extend(u32::try_from(out.len()).unwrap().to_le_bytes());
    end.extend([0; 2]);
    [out, index, end].concat()
}

/// Pickles the tensors of a file of f32 numbers as a dictionary, under other names.
fn tensors(file: &Safetensors, name: impl Fn(&str) -> String) -> PickleNode {
    let entry = |old: String| {
        let shape = serde_json::from_value(file.header[&old]["shape"].clone()).unwrap();
        (name(&old), PickleNode::Tensor(shape, file.range(&old).start / 4))
    };
    PickleNode::Dict(file.names().into_iter().map(entry).collect())
}

/// Writes a file of `torch.save` whose numbers are those of a safetensors file.
fn pth(root: &PickleNode, file: &Safetensors) -> Vec<u8> {
    let mut data = b"\x80\x02".to_vec();
    pickle(&mut data, root, file.data.len() / 4);
    data.push(b'.');
    archive(&[
        ("a/data.pkl", data),
        ("a/data/0", file.data.clone()),
        ("a/version", b"3\n".to_vec()),
    ])
}

fn dict<const N: usize>(entries: [(&str, PickleNode); N]) -> PickleNode {
    PickleNode::Dict(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

#[test]
fn every_form_of_an_image_size_is_read() {
    let folder = copied("hf_detr_tiny");
    let file = folder.path().join("model/preprocessor_config.json");
    let exact =
        |height: u32, width: u32| json!({ "kind": "exact", "height": height, "width": width });
    for (size, resize, edges) in [
        (json!({ "size": { "longest_edge": 96 } }), json!({ "kind": "longest-edge" }), [96, 96]),
        (json!({ "size": { "shortest_edge": 64 } }), Value::Null, [64, 16_384]),
        (
            json!({ "size": { "max_height": 96, "max_width": 80 }, "do_pad": true,
                "pad_size": { "height": 96, "width": 96 } }),
            json!({ "kind": "within", "height": 96, "width": 80 }),
            [80, 96],
        ),
        (json!({ "size": { "height": 64, "width": 96 } }), exact(64, 96), [64, 96]),
        (json!({ "size": [96, 64] }), exact(96, 64), [64, 96]),
        (json!({ "size": 64, "max_size": 96 }), Value::Null, [64, 96]),
        (json!({ "size": 64.0, "image_mean": 0.5, "image_std": 0.25 }), Value::Null, [64, 1333]),
    ] {
        std::fs::write(&file, size.to_string()).unwrap();
        let found = inspect(&folder.path().join("model"));
        let found = &found["preprocess"];
        assert_eq!(found["resize"], resize, "{size}");
        assert_eq!([&found["shortest_edge"], &found["longest_edge"]], edges, "{size}");
        detect(folder.path(), "model", &[]).expect(0);
    }
    // The rule travels with the model.
    std::fs::write(&file, json!({ "size": { "longest_edge": 96 } }).to_string()).unwrap();
    let plain = detect(folder.path(), "model", &[]).expect(0).stdout;
    detr(["models", "convert", "model", "ours"]).inside(folder.path()).run().expect(0);
    assert_eq!(
        inspect(&folder.path().join("ours"))["preprocess"]["resize"]["kind"],
        "longest-edge"
    );
    assert_eq!(detect(folder.path(), "ours", &[]).expect(0).stdout, plain);
}

#[test]
fn an_image_size_that_is_none_is_refused_in_words_and_flags_stand_in() {
    let folder = copied("hf_detr_tiny");
    let file = folder.path().join("model/preprocessor_config.json");
    for (size, message) in [
        (json!({ "size": "large" }), "size is \"large\", expected a number"),
        (json!({ "size": { "height": 64 } }), "size has height, expected"),
        (json!({ "size": { "shortest_edge": "64" } }), "shortest_edge is \"64\""),
        (json!({ "size": [64, 64, 3] }), "size is a list of 3"),
        (json!({ "size": { "height": 64, "width": 0 } }), "is 0, expected"),
        (json!({ "size": 64.5 }), "size is 64.5"),
    ] {
        std::fs::write(&file, size.to_string()).unwrap();
        let outcome = detect(folder.path(), "model", &[]);
        refused(&outcome, message);
        assert!(outcome.stderr.contains("preprocessor_config.json"), "{}", outcome.stderr);
        // A number that is no size is a fault of the file, whatever is asked for.
        if message.starts_with("size is 6") || message.starts_with("is 0") {
            refused(&detect(folder.path(), "model", &SMALL), message);
            continue;
        }
        let outcome = detect(folder.path(), "model", &SMALL).expect(0);
        assert!(outcome.stderr.contains("preprocessor_config.json is not used"), "{size}");
        refused(&detect(folder.path(), "model", &SMALL[..2]), message);
    }
}

/// The folder's weights in one file of PyTorch, or in shards of either kind.
#[test]
fn weights_of_a_folder_may_be_pickles_and_in_several_files() {
    let folder = copied("hf_detr_tiny");
    let model = folder.path().join("model");
    let plain = detect(folder.path(), "model", &SMALL).expect(0).stdout;
    let whole = Safetensors::parse(&std::fs::read(model.join("model.safetensors")).unwrap());
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    refused(&detect(folder.path(), "model", &SMALL), "model.safetensors");

    let write = |name: &str, bytes: Vec<u8>| std::fs::write(model.join(name), bytes).unwrap();
    write("pytorch_model.bin", pth(&tensors(&whole, str::to_owned), &whole));
    assert_eq!(detect(folder.path(), "model", &SMALL).expect(0).stdout, plain);
    detr(["models", "inspect", "model"]).inside(folder.path()).run().expect(0);
    std::fs::remove_file(model.join("pytorch_model.bin")).unwrap();

    let halves = [0, 1].map(|half| {
        let mut count = 0;
        let names: BTreeMap<String, bool> = whole
            .names()
            .into_iter()
            .map(|name| {
                count += 1;
                (name, count % 2 == half)
            })
            .collect();
        whole.renamed(|name| names[name].then(|| name.to_owned()))
    });
    for (stem, kind) in [("model", "safetensors"), ("pytorch_model", "bin")] {
        let mut places = serde_json::Map::new();
        let shard = |i: usize| format!("{stem}-0000{}-of-00002.{kind}", i + 1);
        for (i, half) in halves.iter().enumerate() {
            let bytes = match kind {
                "bin" => pth(&tensors(half, str::to_owned), half),
                _ => half.bytes(),
            };
            write(&shard(i), bytes);
            places.extend(half.names().into_iter().map(|name| (name, json!(shard(i)))));
        }
        let index = format!("{stem}.{kind}.index.json");
        refused(&detect(folder.path(), "model", &SMALL), "parts of weights without their index");
        let json = json!({ "metadata": { "total_size": 1 }, "weight_map": places });
        write(&index, json.to_string().into_bytes());
        assert_eq!(detect(folder.path(), "model", &SMALL).expect(0).stdout, plain, "{kind}");
        detr(["models", "inspect", "model"]).inside(folder.path()).run().expect(0);

        for (place, message) in [
            (json!("../good.png"), "expected the name of a file in the same folder"),
            (json!(shard(8)), "of which 1 are not there"),
            (json!(3), "is 3, expected a file name"),
            (json!(shard(1)), "lacks 1 tensors that"),
        ] {
            let mut wrong = json.clone();
            wrong["weight_map"][halves[0].names()[0].as_str()] = place;
            write(&index, wrong.to_string().into_bytes());
            refused(&detect(folder.path(), "model", &SMALL), message);
        }
        write(&index, b"{\"weight_map\": [1]}".to_vec());
        refused(&detect(folder.path(), "model", &SMALL), "weight_map is a list");
        std::fs::remove_file(model.join(index)).unwrap();
        for i in 0..2 {
            std::fs::remove_file(model.join(shard(i))).unwrap();
        }
    }
    write("tf_model.h5", vec![0; 9]);
    refused(&detect(folder.path(), "model", &SMALL), "there is tf_model.h5");
    write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n".to_vec());
    refused(&detect(folder.path(), "model", &SMALL), "a pointer of Git LFS");
}

/// Loads the tiny DETR with heads that a file alone does not tell, and returns the message.
fn told(folder: &Path) -> String {
    let toml = detr(["models", "inspect"]).arg(golden("detr_tiny_zip.pth")).run().expect(0).stdout;
    let (_, toml) = toml.split_once("# architecture").unwrap();
    std::fs::write(folder.join("arch.toml"), format!("# architecture{toml}")).unwrap();
    "arch.toml".to_owned()
}

#[test]
fn a_prefix_that_all_names_share_is_left_out_and_told() {
    let folder = folder();
    let arch = told(folder.path());
    let flags = [&SMALL[..], &["--arch", arch.as_str()]].concat();
    let tiny = Safetensors::tiny();
    let run = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        detect(folder.path(), name, &flags)
    };
    let plain = run("plain.safetensors", &tiny.bytes()).expect(0);
    assert!(!plain.stderr.contains("prefix"), "{}", plain.stderr);
    for prefix in [
        "module.",
        "model.",
        "ema.module.",
        "net.",
        "model_state_dict.",
        "module._orig_mod.",
        "detector.",
    ] {
        let named = |name: &str| format!("{prefix}{name}");
        let file = tiny.renamed(|name| Some(named(name)));
        for (name, bytes) in [
            ("model.safetensors", file.bytes()),
            ("model.pth", pth(&tensors(&tiny, named), &tiny)),
            (
                "lightning.ckpt",
                pth(
                    &dict([
                        ("state_dict", tensors(&tiny, named)),
                        ("epoch", PickleNode::Number(3)),
                    ]),
                    &tiny,
                ),
            ),
        ] {
            let outcome = run(name, &bytes).expect(0);
            assert_eq!(outcome.stdout, plain.stdout, "{prefix} {name}");
            let note = format!("the prefix `{prefix}` of the names is left out");
            assert!(outcome.stderr.contains(&note), "{prefix} {name}: {}", outcome.stderr);
        }
        // A wrapper often has a tensor or two of its own.
        let beside = tiny
            .renamed(|name| Some(named(name)))
            .with_copy(&named("class_embed.bias"), "criterion.empty_weight");
        let outcome = run("beside.safetensors", &beside.bytes()).expect(0);
        assert_eq!(outcome.stdout, plain.stdout, "{prefix}");
        assert!(
            outcome
                .stderr
                .contains("tensors without it are not read (1): `criterion.empty_weight`")
        );
    }
    // The rest is still checked to the last tensor.
    let first = |name: &str| format!("module.{name}");
    let cut = tiny.renamed(|name| (name != "transformer.decoder.norm.weight").then(|| first(name)));
    refused(&run("cut.safetensors", &cut.bytes()), "transformer.decoder.norm.weight");
}

#[test]
fn of_several_models_in_a_file_the_one_taken_is_named() {
    let folder = folder();
    let arch = told(folder.path());
    let flags = [&SMALL[..], &["--arch", arch.as_str()]].concat();
    let tiny = Safetensors::tiny();
    std::fs::write(folder.path().join("plain.safetensors"), tiny.bytes()).unwrap();
    let plain = detect(folder.path(), "plain.safetensors", &flags).expect(0).stdout;
    let same = || tensors(&tiny, str::to_owned);
    let under = |prefix: &'static str| tensors(&tiny, move |name| format!("{prefix}{name}"));
    let optimizer = || dict([("state", dict([("0", tensors(&tiny, |name| format!("a{name}")))]))]);
    for (file, root, note) in [
        (
            "ema.pth",
            dict([("ema", dict([("module", same())])), ("model", same())]),
            "holds 2 models (`model`, `ema.module`), of which `model` is taken",
        ),
        (
            "averages.pth",
            dict([
                ("state_dict_ema", same()),
                ("state_dict", same()),
                ("epoch", PickleNode::Number(9)),
            ]),
            "(`state_dict`, `state_dict_ema`), of which `state_dict` is taken",
        ),
        (
            "microsoft.pth",
            dict([
                ("model_state_dict", same()),
                ("optimizer_state_dict", optimizer()),
                ("epoch", PickleNode::Number(20)),
            ]),
            "the weights are those under `model_state_dict`",
        ),
        ("only-ema.pth", dict([("ema", under("module."))]), "the prefix `module.`"),
        ("net.pth", dict([("net", same())]), "the weights are those under `net`"),
    ] {
        std::fs::write(folder.path().join(file), pth(&root, &tiny)).unwrap();
        let outcome = detect(folder.path(), file, &flags).expect(0);
        assert_eq!(outcome.stdout, plain, "{file}");
        assert!(outcome.stderr.contains(note), "{file}: {}", outcome.stderr);
    }
    let root = dict([("model", same()), ("optimizer", optimizer())]);
    std::fs::write(folder.path().join("usual.pth"), pth(&root, &tiny)).unwrap();
    let outcome = detect(folder.path(), "usual.pth", &flags).expect(0);
    assert_eq!(outcome.stdout, plain);
    assert!(!outcome.stderr.contains("weights"), "{}", outcome.stderr);
}

#[test]
fn a_file_with_names_of_transformers_is_read_without_its_folder() {
    for name in ["hf_detr_tiny", "hf_deformable_detr_tiny", "hf_table_transformer_tiny"] {
        let folder = copied(name);
        let weights = std::fs::read(folder.path().join("model/model.safetensors")).unwrap();
        let file = Safetensors::parse(&weights);
        let plain = detect(folder.path(), "model", &SMALL).expect(0).stdout;
        let toml =
            detr(["models", "inspect", "model"]).inside(folder.path()).run().expect(0).stdout;
        let (_, toml) = toml.split_once("# architecture").unwrap();
        std::fs::write(folder.path().join("arch.toml"), format!("# architecture{toml}")).unwrap();
        let lightning = dict([("state_dict", tensors(&file, |name| format!("model.{name}")))]);
        std::fs::write(folder.path().join("alone.safetensors"), &weights).unwrap();
        std::fs::write(folder.path().join("lightning.ckpt"), pth(&lightning, &file)).unwrap();
        for alone in ["alone.safetensors", "lightning.ckpt"] {
            let flags = [&SMALL[..], &["--arch", "arch.toml"]].concat();
            let outcome = detect(folder.path(), alone, &flags).expect(0);
            assert!(outcome.stderr.contains("Hugging Face's transformers"), "{}", outcome.stderr);
            let boxes = |text: &str| {
                let json: Value = serde_json::from_str(text).unwrap();
                let found = json[0]["detections"].as_array().unwrap().clone();
                found.iter().map(|d| d["box"].clone()).collect::<Vec<_>>()
            };
            assert_eq!(boxes(&outcome.stdout), boxes(&plain), "{name} {alone}");
        }
    }
}

#[test]
fn folders_of_table_transformer_of_both_generations_are_read() {
    let folder = copied("hf_table_transformer_tiny");
    let model = folder.path().join("model");
    let old =
        json!({ "feature_extractor_type": "DetrFeatureExtractor", "size": 80, "max_size": 96 });
    let new =
        json!({ "image_processor_type": "DetrImageProcessor", "size": { "longest_edge": 96 } });
    for (file, kind, edges) in
        [(old, Value::Null, [80, 96]), (new, json!("longest-edge"), [96, 96])]
    {
        std::fs::write(model.join("preprocessor_config.json"), file.to_string()).unwrap();
        let found = inspect(&model);
        assert_eq!(found["architecture"]["pre_norm"], true);
        let classes = found["classes"]["categories"].as_array().unwrap();
        let names: Vec<&str> =
            classes.iter().map(|class| class["name"].as_str().unwrap()).collect();
        assert_eq!(names[..2], ["table", "table column"]);
        assert_eq!((names.len(), names[5]), (6, "table spanning cell"));
        assert_eq!(found["preprocess"]["resize"]["kind"], kind);
        let found = [&found["preprocess"]["shortest_edge"], &found["preprocess"]["longest_edge"]];
        assert_eq!(found, edges);
        detect(folder.path(), "model", &[]).expect(0);
    }
    // The same tensors are no DETR of Hugging Face, which normalises elsewhere.
    let config = model.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("table-transformer", "detr")).unwrap();
    refused(&detect(folder.path(), "model", &SMALL), "model_type is `detr`, but the weights have");
    std::fs::write(&config, text.replace("table-transformer", "conditional_detr")).unwrap();
    refused(
        &detect(folder.path(), "model", &SMALL),
        "`detr`, `table-transformer` or `deformable_detr`",
    );
}

#[test]
fn the_official_weights_of_table_transformer_bring_their_classes_and_image_size() {
    let folder = folder();
    for (kind, classes, edge) in [("detection", 2, 800), ("structure", 6, 1000)] {
        let recipe = format!("recipe:table-transformer-{kind}");
        let found = detr(["models", "inspect", "--json", &recipe]).run().expect(0).json();
        assert_eq!(found["preprocess"]["resize"]["kind"], "longest-edge");
        assert_eq!(found["preprocess"]["longest_edge"], edge);
        assert_eq!(found["classes"]["slots"], classes);
        assert_eq!(found["classes"]["categories"][0]["name"], "table");
    }
    // Microsoft's files are bare state dicts under official names.
    detr(["models", "convert", "recipe:table-transformer-detection", "ours"])
        .inside(folder.path())
        .run()
        .expect(0);
    let weights = folder.path().join("ours/model.safetensors");
    let alone = folder.path().join("pubtables1m.safetensors");
    std::fs::rename(weights, &alone).unwrap();
    let found = inspect(&alone);
    assert_eq!(found["classes"]["categories"][1]["name"], "table rotated");
    assert_eq!(found["preprocess"]["longest_edge"], 800);
    let notes = found["notes"].to_string();
    assert!(notes.contains("the sizes are those of table-transformer-detection"), "{notes}");
}
