//! `detr export`: the files that it writes, and what it refuses.

mod check;
mod engine;
mod int8;
mod onnx;
mod presets;

use std::path::Path;

use crate::support::{detr, golden, root};
use onnx::Model;

/// Exports a model into a folder, for images of 64x96.
#[track_caller]
fn exported(folder: &Path, model: &Path, flags: &[&str]) {
    let run = detr(["export", "--height", "64", "--width", "96", "--output"]);
    run.arg(folder.join("model.onnx")).arg(model).args(flags).run().expect(0);
}

fn read(folder: &Path) -> Model {
    Model::read(&std::fs::read(folder.join("model.onnx")).unwrap())
}

#[test]
fn names_and_shapes_are_those_of_tao() {
    for (name, ports) in [
        ("detr_tiny_zip.pth", vec!["pred_logits batch,", "pred_boxes batch,"]),
        ("hf_detr_segm_tiny", vec!["pred_logits batch,", "pred_boxes batch,", "pred_masks batch,"]),
        ("deformable_tiny_zip.pth", vec!["pred_logits batch,", "pred_boxes batch,"]),
        ("hf_deformable_detr_tiny_two_stage", vec!["pred_logits batch,", "pred_boxes batch,"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        exported(folder.path(), &golden(name), &[]);
        let model = read(folder.path());
        model.check_order();
        let found = model.ports();
        assert_eq!(found[0], "inputs batch,3,64,96", "{name}");
        assert_eq!(found.len(), ports.len() + 1, "{name}: {found:?}");
        for (found, expected) in found[1..].iter().zip(ports) {
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }
}

#[test]
fn weights_have_official_names() {
    let folder = tempfile::tempdir().unwrap();
    exported(folder.path(), &golden("detr_tiny_zip.pth"), &[]);
    let model = read(folder.path());
    for name in [
        "backbone.0.body.conv1.weight",
        "transformer.encoder.layers.0.linear1.weight",
        "transformer.encoder.layers.0.self_attn.in_proj_weight.0",
        "transformer.encoder.layers.0.self_attn.in_proj_weight.2",
        "class_embed.weight",
        "bbox_embed.layers.2.bias",
    ] {
        assert!(model.initializer(name).is_some(), "{name}");
    }
}

#[test]
fn the_shapes_model_is_exported_the_same_way_twice() {
    let model = root().join("assets/shapes");
    let files = [0, 1].map(|_| {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("model.onnx");
        detr(["export", "--output"]).arg(&output).arg(&model).run().expect(0);
        std::fs::read(output).unwrap()
    });
    assert!(files[0] == files[1]);
    let model = Model::read(&files[0]);
    model.check_order();
    assert_eq!(
        model.ports(),
        ["inputs batch,3,128,128", "pred_logits batch,50,6", "pred_boxes batch,50,4"]
    );
    let counts = model.counts();
    // Two layers of encoder and three of decoder, each with a deformable attention of four corners.
    assert_eq!(counts["GatherND"], 20);
    assert_eq!(counts["LayerNormalization"], 13);
    assert!(model.graph.node.len() < 650, "{counts:?}");
}

/// Predictions cut attention into blocks where images are large, and Burn joins the rows of matrices by their number;
/// a recording does neither, or it would depend on the number of images.
#[test]
fn large_images_are_attended_to_as_a_whole() {
    for name in ["detr_tiny_zip.pth", "hf_deformable_detr_tiny_two_stage"] {
        let counts = [["64", "96"], ["1312", "1344"]].map(|[height, width]| {
            let folder = tempfile::tempdir().unwrap();
            let run = detr(["export", "--height", height, "--width", width, "--output"]);
            run.arg(folder.path().join("model.onnx")).arg(golden(name)).run().expect(0);
            let model = read(folder.path());
            let counts = model.counts();
            [counts["MatMul"], counts["Softmax"], counts["Concat"]]
        });
        assert_eq!(counts[0], counts[1], "{name}");
    }
}

#[test]
fn versions_of_operators_are_kept_apart() {
    let model = golden("deformable_tiny_zip.pth");
    for (opset, ir_version) in [("16", 8), ("17", 8), ("18", 8), ("19", 9), ("20", 9)] {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--msda", "grid-sample", "--opset", opset];
        exported(folder.path(), &model, &flags);
        let model = read(folder.path());
        assert_eq!(model.ir_version, ir_version);
        assert_eq!(model.opset_import.len(), 1);
        assert_eq!(model.opset_import[0].version.to_string(), opset);
        assert_eq!(model.counts().contains_key("LayerNormalization"), opset != "16");
        let mode = |name: &str| {
            let node = model.graph.node.iter().find(|node| node.op_type == "GridSample").unwrap();
            let found = node.attribute.iter().find(|attribute| attribute.name == name).unwrap();
            String::from_utf8(found.s.clone()).unwrap()
        };
        assert_eq!(mode("mode"), if opset == "20" { "linear" } else { "bilinear" });
        assert_eq!(mode("padding_mode"), "zeros");
    }
}

/// The node is that of NVIDIA TAO's exporter: its plugin with three texts as attributes, and as inputs values, sizes and starts of the levels in 32 bits, locations and weights.
#[test]
fn the_plugin_is_written_as_tao_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    exported(folder.path(), &golden("deformable_tiny_zip.pth"), &["--msda", "plugin"]);
    let model = read(folder.path());
    model.check_order();
    let sets: Vec<&str> = model.opset_import.iter().map(|set| set.domain.as_str()).collect();
    assert_eq!(sets, ["", "nvidia"]);
    let name = "MultiscaleDeformableAttnPlugin_TRT";
    let nodes: Vec<_> = model.graph.node.iter().filter(|node| node.op_type == name).collect();
    assert!(!nodes.is_empty());
    for node in nodes {
        assert_eq!(node.domain, "nvidia");
        let attributes: Vec<(&str, &[u8], i32)> = node
            .attribute
            .iter()
            .map(|attribute| (attribute.name.as_str(), attribute.s.as_slice(), attribute.kind))
            .collect();
        let expected: [(&str, &[u8], i32); 3] =
            [("name", name.as_bytes(), 3), ("version", b"1", 3), ("namespace", b"", 3)];
        assert_eq!(attributes, expected);
        assert_eq!(node.input.len(), 5);
        let ints = |input: usize| {
            let tensor = model.initializer(&node.input[input]).unwrap();
            assert_eq!(tensor.data_type, 6, "of 32 bits");
            let values: Vec<i32> = tensor
                .raw_data
                .chunks_exact(4)
                .map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            (tensor.dims.clone(), values)
        };
        let (dims, sizes) = ints(1);
        let levels = usize::try_from(dims[0]).unwrap();
        assert_eq!(dims, [dims[0], 2]);
        let (dims, starts) = ints(2);
        assert_eq!(dims, [i64::try_from(levels).unwrap()]);
        for level in 1..levels {
            let before = level - 1;
            assert_eq!(starts[level] - starts[before], sizes[2 * before] * sizes[2 * before + 1]);
        }
    }
    let names: Vec<&str> = model.graph.node.iter().map(|node| node.op_type.as_str()).collect();
    assert!(!names.contains(&"GatherND") && !names.contains(&"GridSample"));
}

#[test]
fn post_processing_and_normalisation_are_appended_on_request() {
    for (name, answers) in
        [("detr_tiny_zip.pth", None), ("deformable_tiny_zip.pth", Some("scores batch,100"))]
    {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--with-postprocess", "--normalise-in-graph", "--batch-size", "2"];
        exported(folder.path(), &golden(name), &flags);
        let model = read(folder.path());
        model.check_order();
        let ports = model.ports();
        assert_eq!(ports[0], "inputs 2,3,64,96");
        let names: Vec<&str> = ports.iter().map(|port| port.split(' ').next().unwrap()).collect();
        assert_eq!(names[3..], ["scores", "labels", "boxes"]);
        if let Some(answers) = answers {
            assert!(ports[3] == answers.replace("batch", "2"), "{ports:?}");
        }
        // The first two nodes subtract the mean and divide by the deviation.
        let first: Vec<&str> =
            model.graph.node.iter().take(3).map(|node| node.op_type.as_str()).collect();
        assert_eq!(first, ["Sub", "Div", "Conv"]);
    }
}

#[test]
fn half_precision_leaves_places_and_heads_in_f32() {
    let path = root().join("assets/shapes");
    let model = |flags: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        exported(folder.path(), &path, flags);
        (std::fs::metadata(folder.path().join("model.onnx")).unwrap().len(), read(folder.path()))
    };
    let (whole, full) = model(&[]);
    let (halved, half) = model(&["--fp16"]);
    assert!(halved * 100 < whole * 60, "{halved} of {whole} bytes");
    half.check_order();
    assert_eq!(half.ports(), full.ports());
    let kind = |name: &str| half.initializer(name).map(|tensor| tensor.data_type);
    // 10 is f16, 1 is f32.
    for (name, expected) in [
        ("backbone.0.body.layer1.0.conv1.weight", 10),
        ("transformer.encoder.layers.0.linear1.weight", 10),
        ("transformer.encoder.layers.0.self_attn.value_proj.weight", 10),
        ("transformer.encoder.layers.0.self_attn.sampling_offsets.weight", 1),
        ("transformer.encoder.layers.0.norm1.weight", 1),
        ("class_embed.2.weight", 1),
        ("bbox_embed.2.layers.2.weight", 1),
    ] {
        assert_eq!(kind(name), Some(expected), "{name}");
    }
}

#[test]
fn files_for_deepstream_and_trtexec_lie_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let export = |flags: &[&str]| {
        let run = detr(["export", "--output"]).arg(folder.path().join("model.onnx"));
        run.arg(root().join("assets/shapes")).args(["--height", "96", "--width", "160"]).args(flags)
    };
    export(&[]).run().expect(0);
    let shapes = ["min", "opt", "max"].map(|name| {
        format!(" --{name}Shapes=inputs:{}x3x96x160", if name == "max" { 8 } else { 1 })
    });
    let command = "trtexec --onnx=model.onnx --saveEngine=model.engine";
    assert_eq!(text("model.onnx.trtexec.txt"), format!("{command}{}\n", shapes.concat()));
    assert!(!folder.path().join("labels.txt").exists());

    let flags = ["--deepstream", "--batch-size", "4", "--force"];
    export(&flags).run().expect(0);
    assert_eq!(text("model.onnx.trtexec.txt"), format!("{command}\n"));
    assert_eq!(text("labels.txt"), "circle\nsquare\ntriangle\nstar\ncross\nbar\n");
    let config = text("nvdsinfer_config.yaml");
    for line in [
        "  infer-dims: 3;96;160",
        "  num-detected-classes: 6",
        "  net-scale-factor: 0.0173520735728",
        "  offsets: 123.675;116.28;103.53",
        "  onnx-file: model.onnx",
        "  labelfile-path: labels.txt",
    ] {
        assert!(config.lines().any(|found| found == line), "{line}: {config}");
    }
    // Each of the files is somebody's.
    let outcome = export(&["--deepstream"]).run().expect(2);
    assert!(outcome.stderr.contains("the file exists"), "{}", outcome.stderr);
    export(&["--deepstream", "--normalise-in-graph", "--force"]).run().expect(0);
    assert!(text("nvdsinfer_config.yaml").contains("  net-scale-factor: 1.0\n"));
}

#[test]
fn a_softmax_is_nothing_for_the_parser_of_deepstream() {
    let folder = tempfile::tempdir().unwrap();
    let run = detr(["export", "--deepstream", "--output"]).arg(folder.path().join("model.onnx"));
    let outcome = run.arg(golden("detr_tiny_zip.pth")).run().expect(2);
    assert!(outcome.stderr.contains("softmax"), "{}", outcome.stderr);
    assert!(outcome.ends_with_hint());
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn what_cannot_be_exported_is_refused_and_nothing_is_written() {
    let tiny = golden("detr_tiny_zip.pth").display().to_string();
    let size = ["--height", "64", "--width", "96"];
    let wide = ["--height", "64", "--width", "1601"];
    for (model, flags, message) in [
        (tiny.as_str(), ["--opset", "15"].as_slice(), "opset 15: expected 16 to 20"),
        (&tiny, &["--opset", "21"], "opset 21"),
        (&tiny, &["--batch-size", "0"], "a batch of 0 images"),
        (&tiny, &["--batch-size", "-2"], "a batch of -2 images"),
        (
            &tiny,
            &["--height", "0", "--width", "96"],
            "images of 0x96: a side has 1 to 16384 pixels",
        ),
        (&tiny, &["--height", "64"], "go together"),
        (&tiny, &["--msda", "magic"], "invalid value"),
        ("recipe:detr-demo", &wide, "a side has 1 to 1600 pixels"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("model.onnx");
        let run = detr(["export", "--output"]).arg(&output).arg(model).args(flags);
        let outcome = run.run().expect(2);
        assert!(outcome.stderr.contains(message), "{flags:?}: {}", outcome.stderr);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{flags:?}");
    }

    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.onnx");
    std::fs::write(&output, "mine").unwrap();
    let export = || detr(["export", "--output"]).arg(&output).arg(&tiny).args(size);
    let outcome = export().run().expect(2);
    assert!(outcome.stderr.contains("the file exists"), "{}", outcome.stderr);
    assert!(outcome.ends_with_hint());
    assert_eq!(std::fs::read(&output).unwrap(), b"mine");
    export().arg("--force").run().expect(0);
    assert!(std::fs::metadata(&output).unwrap().len() > 1000);
    let outcome = detr(["export", "--output"]).arg(folder.path()).arg(&tiny).run().expect(2);
    assert!(outcome.stderr.contains("is a folder"), "{}", outcome.stderr);
    let missing = folder.path().join("missing.pth");
    detr(["export", "--output"]).arg(folder.path().join("b.onnx")).arg(missing).run().expect(3);
    assert!(!folder.path().join("b.onnx").exists());
}
