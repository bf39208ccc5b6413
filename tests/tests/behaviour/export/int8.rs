//! `detr export --int8`: pairs of `QuantizeLinear` and `DequantizeLinear`, calibrated on pictures.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::engine::python;
use super::onnx::Model;
use crate::support::{Run, detr, golden, root};

/// Numbers of `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const HALF: i32 = 10;

/// Makes a data set of shapes and returns the folder of its pictures.
fn pictures(folder: &Path, count: &str) -> PathBuf {
    let shapes = folder.join("shapes");
    let synth = detr(["data", "synth", "--count", count, "--size", "128x128"]);
    synth.arg(&shapes).run().expect(0);
    shapes.join("train")
}

fn export(output: &Path) -> Run {
    detr(["export", "--output"]).arg(output).arg(root().join("assets/shapes"))
}

fn int8(output: &Path, pictures: &Path) -> Run {
    export(output).args(["--int8", "--calibration-images", "3", "--calibrate"]).arg(pictures)
}

fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn layers_are_rounded_in_pairs_and_the_file_is_less_than_a_third() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = pictures(folder.path(), "4");
    let [whole, small] = ["whole", "small"].map(|name| folder.path().join(format!("{name}.onnx")));
    export(&whole).run().expect(0);
    let outcome = int8(&small, &pictures).arg("--check").run().expect(0);
    assert!(bytes(&small) * 10 <= bytes(&whole) * 3, "{} of {}", bytes(&small), bytes(&whole));

    let model = Model::read(&std::fs::read(&small).unwrap());
    model.check_order();
    let float = Model::read(&std::fs::read(&whole).unwrap());
    assert_eq!(model.ports(), float.ports());
    let kind = |name: &str| model.initializer(name).map(|tensor| tensor.data_type);
    for (name, expected) in [
        ("backbone.0.body.layer1.0.conv1.weight", INT8),
        ("transformer.encoder.layers.0.linear1.weight", INT8),
        ("transformer.encoder.layers.0.self_attn.value_proj.weight", INT8),
        ("transformer.encoder.layers.0.self_attn.sampling_offsets.weight", INT8),
        ("query_embed.weight.0", HALF),
        ("transformer.encoder.layers.0.norm1.weight", FLOAT),
        ("class_embed.2.weight", FLOAT),
        ("bbox_embed.2.layers.2.weight", FLOAT),
    ] {
        assert_eq!(kind(name), Some(expected), "{name}");
    }

    let graph = &model.graph;
    let maker = |value: &str| graph.node.iter().find(|node| node.output[0] == value);
    let mut layers = 0;
    for node in &graph.node {
        // Both operands of a layer come from int8, or none does.
        let rounded: Vec<bool> = node
            .input
            .iter()
            .take(2)
            .map(|input| maker(input).is_some_and(|node| node.op_type == "DequantizeLinear"))
            .collect();
        assert!(rounded != [true, false], "{}", node.output[0]);
        if rounded == [false, true] {
            // Places to read at are computed in floating point.
            let weights = &maker(&node.input[1]).unwrap().input[0];
            assert!(weights.contains("sampling_offsets"), "{weights}");
        }
        layers += usize::from(rounded.ends_with(&[true]) && node.op_type != "QuantizeLinear");
        if !node.op_type.ends_with("eLinear") {
            continue;
        }
        let [scale, zero] = [1, 2].map(|index| model.initializer(&node.input[index]).unwrap());
        assert_eq!((scale.data_type, zero.data_type), (FLOAT, INT8));
        assert!(zero.raw_data.iter().all(|&byte| byte == 0), "symmetric");
        assert_eq!(scale.dims, zero.dims);
        // Weights have a scale for every output channel, values one.
        if let Some(weights) = model.initializer(&node.input[0]) {
            let axis = usize::from(weights.dims.len() != 4);
            assert_eq!(scale.dims, [weights.dims[axis]]);
            assert_eq!(node.attribute[0].name, "axis");
        } else {
            assert!(scale.dims.is_empty());
        }
    }
    // A line for every layer, under the names of the columns and over the formula.
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), layers + 2, "{}", outcome.stdout);
    assert!(lines[0].starts_with("layer "), "{}", lines[0]);
    for line in &lines[1..=layers] {
        let [name, range, numbers @ ..] = &line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let numbers: Vec<f64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
        let [weights, output] = numbers[..] else { panic!("{line}") };
        let is_rounded = range.parse::<f64>().is_ok_and(|range| range > 0.0);
        assert!(is_rounded != name.contains("sampling_offsets"), "{line}");
        assert!(weights > 25.0 && output > 5.0, "{line}");
    }
    let named = |name: &str| lines.iter().any(|line| line.split(' ').next() == Some(name));
    assert!(named("backbone.0.body.conv1") && named("transformer.decoder.layers.2.linear2"));
    assert!(!named("class_embed.2"));
    assert!(outcome.stderr.contains("checked with 2 images"), "{}", outcome.stderr);
}

#[test]
fn ranges_are_kept_and_taken_only_for_the_same_model_pictures_and_method() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = pictures(folder.path(), "4");
    let output = folder.path().join("model.onnx");
    let cache = folder.path().join("model.onnx.calibration.json");
    int8(&output, &pictures).run().expect(0);
    let first = std::fs::read(&output).unwrap();
    let kept = std::fs::read(&cache).unwrap();

    let again = int8(&output, &pictures).arg("--force").run().expect(0);
    assert!(again.stderr.contains("took the ranges of"), "{}", again.stderr);
    assert!(std::fs::read(&output).unwrap() == first, "the same bytes");
    for flags in [
        ["--calibration-method", "minmax"].as_slice(),
        &["--calibration-images", "2"],
        &["--normalise-in-graph"],
        &["--height", "96", "--width", "128"],
    ] {
        std::fs::write(&cache, &kept).unwrap();
        let run = export(&output).args(["--int8", "--force", "--calibrate"]).arg(&pictures);
        let count = ["--calibration-images", "3"];
        let run = if flags[0] == count[0] { run } else { run.args(count) };
        let other = run.args(flags).run().expect(0);
        assert!(other.stderr.contains("is made anew"), "{flags:?}: {}", other.stderr);
        assert_ne!(std::fs::read(&cache).unwrap(), kept, "{flags:?}");
    }

    // A file of somebody else's is not written over.
    std::fs::write(&cache, "mine").unwrap();
    std::fs::remove_file(&output).unwrap();
    std::fs::remove_file(folder.path().join("model.onnx.trtexec.txt")).unwrap();
    let refused = int8(&output, &pictures).run().expect(2);
    assert!(refused.stderr.contains("calibration.json: the file exists"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&cache).unwrap(), b"mine");
    assert!(!output.exists());
}

#[test]
fn other_models_and_rules_are_calibrated_too() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = pictures(folder.path(), "1");
    for (name, flags) in [
        ("hf_detr_segm_tiny", ["--calibration-method", "percentile"]),
        ("hf_deformable_detr_tiny_two_stage", ["--msda", "plugin"]),
        ("deformable_tiny_refine_hub_zip.pth", ["--batch-size", "2"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("model.onnx");
        let run = detr(["export", "--int8", "--height", "64", "--width", "96", "--calibrate"]);
        let run = run.arg(&pictures).arg("--output").arg(&output).arg(golden(name));
        run.args(flags).run().expect(0);
        let model = Model::read(&std::fs::read(&output).unwrap());
        model.check_order();
        assert!(model.counts()["QuantizeLinear"] > 10, "{name}");
    }
}

#[test]
fn a_calibration_that_cannot_be_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("a.png"), "no picture").unwrap();
    let missing = folder.path().join("missing");
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let output = out.join("model.onnx");
    for (pictures, code, message) in
        [(&missing, 2, "there is no such folder"), (&empty, 2, "empty"), (&broken, 3, "a.png")]
    {
        let outcome = int8(&output, pictures).run().expect(code);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
        assert_eq!(out.read_dir().unwrap().count(), 0, "{message}");
    }
    let refused = export(&output).arg("--int8").run().expect(2);
    assert!(refused.stderr.contains("--calibrate"), "{}", refused.stderr);
    let refused = int8(&output, &empty).arg("--fp16").run().expect(2);
    assert!(refused.stderr.contains("--fp16"), "{}", refused.stderr);
    let refused = export(&output).arg("--calibrate").arg(&empty).run().expect(2);
    assert!(refused.stderr.contains("--int8"), "{}", refused.stderr);
}

/// Acceptance of the exports: what ONNX Runtime detects scores as what we detect, and what it detects in int8 nearly so.
#[test]
fn another_engine_scores_the_same_in_float_and_nearly_so_in_int8() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pictures = pictures(folder.path(), "60");
    let shapes = folder.path().join("shapes");
    let annotations = shapes.join("annotations/instances_train.json");
    let model = root().join("assets/shapes");
    let ap = |run: Run| -> f64 {
        let outcome = run.arg("--json").run().expect(0);
        let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
        report["summary"]["ap"].as_f64().unwrap_or_else(|| panic!("{report}"))
    };
    let ours = detr(["eval", "--data"]).arg(&shapes).arg("--model").arg(&model);
    let ours = ap(ours.args(["--backend", "flex"]));
    let in_engine = |name: &str| {
        let file = folder.path().join(format!("{name}.onnx"));
        let results = folder.path().join(format!("{name}.json"));
        let script = root().join("benches/peers/onnx_detections.py");
        let mut command = Command::new(&python);
        command.arg(script).arg(file).arg(&annotations).arg(&pictures);
        command.arg("--card").arg(&model).arg("--output").arg(&results);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        ap(detr(["eval", "--data"]).arg(&shapes).arg("--results").arg(&results))
    };
    export(&folder.path().join("whole.onnx")).run().expect(0);
    let whole = in_engine("whole");
    assert!((whole - ours).abs() <= 0.001, "{whole} and {ours}");
    int8(&folder.path().join("small.onnx"), &pictures).run().expect(0);
    let small = in_engine("small");
    assert!((small - ours).abs() <= 0.01, "{small} and {ours}");
}
