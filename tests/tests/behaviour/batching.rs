//! A result does not depend on what else is in the batch.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use detr_model::weights::{Checkpoint, recipe_image};
use detr_model::{ModelConfig, NestedTensor};

fn batch(images: &[(u64, [usize; 2])], device: &Device) -> NestedTensor {
    let [h, w] = images[0].1;
    let pixels = images.iter().flat_map(|&(seed, size)| recipe_image(seed, size[0], size[1]));
    let pixels = TensorData::new(pixels.collect::<Vec<f32>>(), [images.len(), 3, h, w]);
    NestedTensor { pixels: Tensor::from_data(pixels, (device, DType::F32)), mask: None }
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

fn small(name: &str) -> ModelConfig {
    let mut config = ModelConfig::preset(name).unwrap();
    if let ModelConfig::Detr(detr) = &mut config {
        (detr.enc_layers, detr.dec_layers, detr.num_queries) = (2, 2, 20);
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
