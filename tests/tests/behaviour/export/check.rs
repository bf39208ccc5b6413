//! `detr export --check`: the written file is computed again, beside the model.

use crate::support::{detr, golden};

/// Returns the largest differences of logits and boxes that a check of so many images found.
#[track_caller]
fn differences(stderr: &str, images: usize) -> [f64; 2] {
    let start = format!("checked with {images} images of noise: ");
    let line = stderr.lines().find_map(|line| line.strip_prefix(&start));
    let line = line.unwrap_or_else(|| panic!("no check of {images} images: {stderr}"));
    ["pred_logits", "pred_boxes"].map(|name| {
        let start = format!("{name} differ by at most ");
        let found = line.split(", ").find_map(|part| part.strip_prefix(&start));
        found.unwrap_or_else(|| panic!("{name}: {line}")).parse().unwrap()
    })
}

#[test]
fn files_are_computed_again_and_compared_with_the_model() {
    for (name, flags) in [
        ("detr_tiny_zip.pth", ["--normalise-in-graph", "--with-postprocess"].as_slice()),
        ("hf_detr_segm_tiny", &["--opset", "16"]),
        ("hf_table_transformer_tiny", &["--opset", "20"]),
        ("deformable_tiny_refine_hub_zip.pth", &["--msda", "gather"]),
        ("deformable_tiny_zip.pth", &["--msda", "grid-sample", "--with-postprocess"]),
        ("deformable_tiny_zip.pth", &["--msda", "plugin"]),
        ("hf_deformable_detr_tiny_two_stage", &["--opset", "18"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = detr(["export", "--check", "--height", "64", "--width", "96", "--output"]);
        let run = run.arg(folder.path().join("model.onnx")).arg(golden(name)).args(flags);
        let stderr = run.run().expect(0).stderr;
        for images in [1, 2] {
            let [logits, boxes] = differences(&stderr, images);
            assert!(logits <= 1e-4 && boxes <= 1e-5, "{name} {flags:?}: {stderr}");
            // Numbers that were rounded in another order.
            assert!(logits > 0.0, "{name} {flags:?}: {stderr}");
        }
        assert_eq!(stderr.contains("pred_masks differ"), name.contains("segm"), "{stderr}");
    }
}

#[test]
fn files_in_half_precision_and_of_a_fixed_batch_are_computed_too() {
    let folder = tempfile::tempdir().unwrap();
    let run = detr(["export", "--check", "--fp16", "--batch-size", "3", "--height", "64"]);
    let run = run.args(["--width", "96", "--output"]).arg(folder.path().join("model.onnx"));
    let stderr = run.arg(golden("deformable_tiny_zip.pth")).run().expect(0).stderr;
    let [logits, boxes] = differences(&stderr, 3);
    assert!((1e-5..0.1).contains(&logits) && boxes < 0.01, "{stderr}");
    assert!(!stderr.contains("checked with 1 images"), "{stderr}");
}
