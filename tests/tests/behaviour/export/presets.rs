//! Every preset in ONNX Runtime beside our own numbers, on photographs. It takes long, so it runs only when it is asked
//! for, and prints a table:
//!
//!     DETR_TEST_PYTHON=python DETR_TEST_PICTURES=folder cargo test -p detr-tests --test behaviour -- --ignored --nocapture every_preset

use burn::tensor::Device;
use detr_data::{DecodeOptions, normalize, read_image, resize_bilinear};
use detr_export::{ExportOptions, MsdaLowering, export};
use detr_infer::sources::expand_sources;
use detr_model::ModelConfig;
use detr_model::weights::Checkpoint;
use detr_types::{ImageSize, env};

use super::engine::{check, compute, differences, opened, python};
use crate::support::devices::skipped;

/// Two sizes, of which one has odd sides.
const SIZES: [(u32, u32); 2] = [(480, 640), (333, 500)];

/// Pictures of the calls of one, two and three images.
const CALLS: [&[usize]; 3] = [&[0], &[1, 2], &[2, 3, 4]];

#[test]
#[ignore = "takes many minutes; the head of this file says how it is run"]
#[allow(clippy::print_stdout)] // a table for people
fn every_preset_computes_the_same_on_photographs() {
    let Some(python) = python() else { return };
    let Some(folder) = std::env::var_os(env::DETR_TEST_PICTURES) else {
        skipped(&format!("{} names no folder of pictures", env::DETR_TEST_PICTURES));
        return;
    };
    let pictures: Vec<_> = expand_sources(&[folder]).unwrap().into_iter().take(5).collect();
    assert_eq!(pictures.len(), 5, "five pictures are needed");
    let device = Device::flex();
    println!(
        "| preset | size | attention | nodes | logits | boxes | masks |\n|---|---|---|---|---|---|---|"
    );
    // The small ones come first.
    let mut presets: Vec<&str> = ModelConfig::presets().collect();
    let size = ImageSize::new(SIZES[0].0, SIZES[0].1);
    presets.sort_by_key(|name| ModelConfig::preset(name).unwrap().flops(1, size).total());
    for name in presets {
        let config = ModelConfig::preset(name).unwrap();
        let checkpoint = Checkpoint::recipe(&config, 0, &device);
        let (config, model) = opened(&checkpoint, &device);
        let lowerings = [MsdaLowering::Gather, MsdaLowering::GridSample];
        for ((height, width), msda) in SIZES.into_iter().zip(lowerings) {
            let size = ImageSize::new(height, width);
            let options = ExportOptions { msda, ..ExportOptions::new(size) };
            let file = export(&model, &config, &options, &device).unwrap();
            let inputs: Vec<Vec<f32>> = pictures
                .iter()
                .map(|picture| {
                    let image = read_image(picture.path(), &DecodeOptions::default()).unwrap();
                    normalize(&resize_bilinear(&image, size), &checkpoint.preprocess)
                })
                .collect();
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("model.onnx"), &file.bytes).unwrap();
            for call in CALLS {
                let pixels = call.iter().flat_map(|&index| inputs[index].iter().copied()).collect();
                compute(folder.path(), &model, size, call.len(), pixels);
            }
            let found = differences(&python, folder.path());
            let number = |output: &str| {
                found
                    .get(output)
                    .and_then(serde_json::Value::as_f64)
                    .map_or("-".to_owned(), |n| format!("{n:.1e}"))
            };
            let nodes: usize = file.nodes.values().sum();
            println!(
                "| {name} | {height}x{width} | {msda:?} | {nodes} | {} | {} | {} |",
                number("pred_logits"),
                number("pred_boxes"),
                number("pred_masks"),
            );
            check(&format!("{name} {height}x{width}"), &found);
        }
    }
}
