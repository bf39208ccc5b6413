//! Exported files in ONNX Runtime, beside our own numbers. Runs where `DETR_TEST_PYTHON` names a Python that has onnx
//! and onnxruntime.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use detr_export::{Batch, ExportOptions, MsdaLowering, OnnxFile, export};
use detr_model::nested::Padding;
use detr_model::weights::Checkpoint;
use detr_model::{Model, ModelConfig, NestedTensor};
use detr_types::{ImageSize, env};
use serde_json::Value;

use crate::support::devices::skipped;
use crate::support::{golden, root};

/// An image size with odd sides, and one whose coarsest maps are a cell high.
const SIZES: [(u32, u32); 2] = [(75, 107), (32, 150)];

pub(super) fn python() -> Option<OsString> {
    let python = std::env::var_os(env::DETR_TEST_PYTHON);
    if python.is_none() {
        skipped(&format!("{} names no Python with onnxruntime", env::DETR_TEST_PYTHON));
    }
    python
}

pub(super) fn opened(checkpoint: &Checkpoint, device: &Device) -> (ModelConfig, Model) {
    let model = checkpoint.load_for_inference(device, FloatDType::F32).unwrap();
    (checkpoint.config().unwrap(), model)
}

/// Numbers between -2 and 2 that look like noise.
fn pixels(images: usize, size: ImageSize) -> Vec<f32> {
    let total = images * 3 * (size.height * size.width) as usize;
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 16_384.0 - 2.0
    };
    (0..total).map(|_| next()).collect()
}

fn save(folder: &Path, name: &str, images: usize, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join(format!("{name}.{images}.bin")), bytes).unwrap();
}

fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().unwrap()
}

/// Writes the file, inputs of so many images, and what we make of them.
fn save_all(folder: &Path, file: &OnnxFile, model: &Model, size: ImageSize, batches: &[usize]) {
    std::fs::write(folder.join("model.onnx"), &file.bytes).unwrap();
    for &images in batches {
        compute(folder, model, size, images, pixels(images, size));
    }
}

/// Writes an input of so many images, and what we make of it.
pub(super) fn compute(
    folder: &Path,
    model: &Model,
    size: ImageSize,
    images: usize,
    values: Vec<f32>,
) {
    let device = Device::flex();
    save(folder, "inputs", images, &values);
    let shape = [images, 3, size.height as usize, size.width as usize];
    let pixels = Tensor::from_data(TensorData::new(values, shape), &device);
    let output = model.forward(NestedTensor { pixels, padding: Padding::None });
    let last = output.pred_logits.dims()[0] - 1;
    let of_last = |x: Tensor<4>| floats(x.slice_dim(0, last..=last));
    save(folder, "pred_logits", images, &of_last(output.pred_logits.clone()));
    save(folder, "pred_boxes", images, &of_last(output.pred_boxes.clone()));
    if let Some(features) = &output.mask_features {
        let [_, queries, _] = features.hidden.dims();
        let queries: Vec<usize> = (0..queries).collect();
        let masks =
            (0..images).flat_map(|image| floats(model.masks(features, image, &queries).unwrap()));
        save(folder, "pred_masks", images, &masks.collect::<Vec<_>>());
    }
}

/// Runs the file and returns the largest difference of every output.
pub(super) fn differences(python: &OsString, folder: &Path) -> Value {
    let script = root().join("tests/tests/behaviour/export/run_onnx.py");
    let mut command = Command::new(python);
    let ran = command.arg(script).arg(folder.join("model.onnx")).arg(folder).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{stderr}");
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

#[track_caller]
pub(super) fn check(what: &str, differences: &Value) {
    for (name, most) in [("pred_logits", 1e-4), ("pred_boxes", 1e-5), ("pred_masks", 1e-4)] {
        let Some(found) = differences.get(name) else { continue };
        let found = found.as_f64().unwrap();
        assert!(found <= most, "{what}: {name} differs by {found}");
    }
    assert!(differences.get("pred_boxes").is_some(), "{what}: {differences}");
}

#[test]
fn another_engine_computes_what_we_do_for_any_number_of_images() {
    let Some(python) = python() else { return };
    let device = Device::flex();
    let checkpoints = [
        "detr_tiny_zip.pth",
        "hf_detr_tiny_bottleneck",
        "hf_detr_segm_tiny",
        "hf_table_transformer_tiny",
        "deformable_tiny_zip.pth",
        "deformable_tiny_refine_hub_zip.pth",
        "hf_deformable_detr_tiny_two_stage",
    ];
    let lowerings = [(17, MsdaLowering::Gather), (16, MsdaLowering::GridSample)];
    for name in checkpoints {
        let checkpoint = Checkpoint::open(&golden(name), None).unwrap();
        let (config, model) = opened(&checkpoint, &device);
        for ((height, width), (opset, msda)) in SIZES.into_iter().zip(lowerings) {
            let size = ImageSize::new(height, width);
            let options = ExportOptions { opset, msda, ..ExportOptions::new(size) };
            let file = export(&model, &config, &options, &device).unwrap();
            let folder = tempfile::tempdir().unwrap();
            save_all(folder.path(), &file, &model, size, &[1, 2, 3]);
            let found = differences(&python, folder.path());
            check(&format!("{name} {height}x{width} {opset} {msda:?}"), &found);
        }
    }
}

#[test]
fn both_ways_of_reading_cells_compute_the_same() {
    let Some(python) = python() else { return };
    let device = Device::flex();
    let checkpoint = Checkpoint::open(&golden("deformable_tiny_zip.pth"), None).unwrap();
    let (config, model) = opened(&checkpoint, &device);
    let size = ImageSize::new(75, 107);
    for (opset, msda) in [(19, MsdaLowering::Gather), (20, MsdaLowering::GridSample)] {
        let options = ExportOptions { opset, msda, ..ExportOptions::new(size) };
        let file = export(&model, &config, &options, &device).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save_all(folder.path(), &file, &model, size, &[2]);
        // Half of what the two may differ from each other.
        let found = differences(&python, folder.path());
        for (_, difference) in found.as_object().unwrap() {
            assert!(difference.as_f64().unwrap() <= 5e-6, "{opset} {msda:?}: {found}");
        }
    }
}

#[test]
fn half_precision_is_near() {
    let Some(python) = python() else { return };
    let device = Device::flex();
    let size = ImageSize::new(128, 96);
    let folder_of = |checkpoint: &Checkpoint| {
        let (config, model) = opened(checkpoint, &device);
        let options = ExportOptions { fp16: true, ..ExportOptions::new(size) };
        let file = export(&model, &config, &options, &device).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save_all(folder.path(), &file, &model, size, &[1, 3]);
        folder
    };
    for path in
        [golden("detr_tiny_zip.pth"), golden("hf_detr_segm_tiny"), root().join("assets/shapes")]
    {
        let checkpoint = Checkpoint::open(&path, None).unwrap();
        let found = differences(&python, folder_of(&checkpoint).path());
        for (name, most) in [("pred_logits", 0.1), ("pred_boxes", 0.01)] {
            let difference = found[name].as_f64().unwrap();
            assert!(difference <= most, "{}: {found}", path.display());
        }
    }
}

#[test]
fn a_fixed_batch_is_computed_too() {
    let Some(python) = python() else { return };
    let device = Device::flex();
    let size = ImageSize::new(64, 96);
    for (name, images) in [("hf_detr_segm_tiny", 1), ("hf_deformable_detr_tiny_two_stage", 2)] {
        let checkpoint = Checkpoint::open(&golden(name), None).unwrap();
        let (config, model) = opened(&checkpoint, &device);
        let batch = Batch::Fixed(images);
        let options =
            ExportOptions { batch, opset: 18, postprocess: true, ..ExportOptions::new(size) };
        let file = export(&model, &config, &options, &device).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save_all(folder.path(), &file, &model, size, &[images]);
        check(name, &differences(&python, folder.path()));
    }
}

#[test]
fn masks_of_deformable_detr_are_computed_too() {
    let Some(python) = python() else { return };
    let device = Device::flex();
    let config = ModelConfig::preset("deformable-detr-tiny-masks").unwrap();
    let model = config.init(&device);
    let size = ImageSize::new(75, 107);
    let file = export(&model, &config, &ExportOptions::new(size), &device).unwrap();
    let folder = tempfile::tempdir().unwrap();
    save_all(folder.path(), &file, &model, size, &[1, 3]);
    let found = differences(&python, folder.path());
    assert!(found.get("pred_masks").is_some(), "{found}");
    check("deformable-detr-tiny-masks", &found);
}
