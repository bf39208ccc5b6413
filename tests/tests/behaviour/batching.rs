//! A result does not depend on what else is in the batch: neither on images of its size, nor, padded
//! to it, on a larger one.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use detr_model::ModelConfig;
use detr_model::backbone::BackboneConfig;
use detr_model::nested::{NestedTensor, Padding};
use detr_model::postprocess::HostOutput;
use detr_model::weights::{Checkpoint, recipe_image};
use detr_types::ImageSize;

/// Makes a batch of recipe images, each padded to the largest.
fn batch(images: &[(u64, [usize; 2])], device: &Device) -> NestedTensor {
    let largest = |axis: usize| images.iter().map(|(_, size)| size[axis]).max().unwrap();
    let (height, width) = (largest(0), largest(1));
    let mut pixels = vec![0f32; images.len() * 3 * height * width];
    for (planes, &(seed, [h, w])) in pixels.chunks_exact_mut(3 * height * width).zip(images) {
        for (i, row) in recipe_image(seed, h, w).chunks_exact(w).enumerate() {
            planes[(i / h * height + i % h) * width..][..w].copy_from_slice(row);
        }
    }
    let data = TensorData::new(pixels, [images.len(), 3, height, width]);
    let sizes: Vec<[usize; 2]> = images.iter().map(|(_, size)| *size).collect();
    let padded = sizes.iter().any(|&size| size != [height, width]);
    NestedTensor {
        pixels: Tensor::from_data(data, (device, DType::F32)),
        padding: if padded { Padding::Sizes(sizes) } else { Padding::None },
    }
}

/// Predictions of the first image, last layer: logits, then boxes.
fn first(config: &ModelConfig, images: &[(u64, [usize; 2])]) -> Vec<f32> {
    let device = Device::flex();
    let checkpoint = Checkpoint::recipe(config, 3, &device);
    let model = checkpoint.load(&device, FloatDType::F32).unwrap().fold();
    let output = model.forward(batch(images, &device));
    let layers = output.pred_logits.dims()[0];
    let values = |t: Tensor<4>| -> Vec<f32> {
        let t = t.slice_dim(0, layers - 1..layers).slice_dim(1, 0..1);
        t.into_data().try_into_vec().unwrap()
    };
    [values(output.pred_logits), values(output.pred_boxes)].concat()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Shrinks a preset to fewer layers and queries, and a narrow backbone of the same kind.
fn small(name: &str) -> ModelConfig {
    let narrow = |backbone: &mut BackboneConfig| {
        let BackboneConfig::ResNet(backbone) = backbone else { unreachable!() };
        (backbone.depths, backbone.stem, backbone.widths) = ([1, 2, 1, 2], 8, [8, 16, 32, 64]);
    };
    let mut config = ModelConfig::preset(name).unwrap();
    match &mut config {
        ModelConfig::Detr(detr) => {
            (detr.enc_layers, detr.dec_layers, detr.num_queries) = (2, 2, 20);
            narrow(&mut detr.backbone);
        }
        ModelConfig::DeformableDetr(detr) => {
            (detr.enc_layers, detr.dec_layers, detr.num_queries) = (2, 2, 20);
            narrow(&mut detr.backbone);
        }
        _ => {}
    }
    config
}

#[test]
fn an_image_gets_the_same_answer_alone_and_beside_others_of_its_size() {
    let size = [96, 128];
    let alone = first(&small("detr-r18"), &[(1, size)]);
    for mates in [vec![(2, size)], vec![(3, size), (4, size), (5, size)]] {
        let together = first(&small("detr-r18"), &[vec![(1, size)], mates].concat());
        assert!(largest_difference(&alone, &together) < 1e-4);
    }
}

#[test]
fn an_image_gets_the_same_answer_alone_and_padded_beside_a_larger_one() {
    // The demonstration model has no masks at all; its images are never padded.
    for name in ModelConfig::presets().filter(|&name| name != "detr-demo") {
        let config = small(name);
        // Sides that are no multiples of any stride.
        let image = (1, [83, 117]);
        let alone = first(&config, &[image]);
        // Larger in both axes, and larger in one but smaller in the other.
        for mate in [(2, [161, 143]), (3, [90, 259]), (4, [150, 70])] {
            let difference = largest_difference(&alone, &first(&config, &[image, mate]));
            println!("{name}: {difference:.1e} beside {:?}", mate.1);
            assert!(difference < 1e-4, "{name}: {difference} beside {:?}", mate.1);
        }
    }
}

#[test]
fn queries_that_an_image_has_no_tokens_for_change_nothing_and_answer_nothing() {
    let ModelConfig::DeformableDetr(mut config) = small("deformable-detr-r50-two-stage") else {
        unreachable!()
    };
    // The image has 36 + 9 + 4 + 1 tokens.
    config.num_queries = 60;
    let config = ModelConfig::DeformableDetr(config);
    let image = (1, [48, 48]);
    let device = Device::flex();
    let model = Checkpoint::recipe(&config, 3, &device).load(&device, FloatDType::F32).unwrap();
    let answers = |images: &[(u64, [usize; 2])]| {
        let output = model.forward(batch(images, &device));
        let host = HostOutput::read(&output).unwrap();
        let sizes = vec![ImageSize::new(48, 48); images.len()];
        host.deformable(&sizes, 10_000, |_| true).swap_remove(0)
    };
    let alone = answers(&[image]);
    assert_eq!(alone.len(), 50 * 91);
    let beside = answers(&[image, (2, [97, 80])]);
    assert_eq!(beside.len(), alone.len());
    for (a, b) in alone.iter().zip(&beside) {
        assert!((a.score - b.score).abs() < 1e-4, "{a:?} {b:?}");
    }
}
