//! A fresh model starts from the distributions of the reference.

use burn::tensor::{Device, Tensor};
use detr_model::backbone::Backbone;
use detr_model::{Model, ModelConfig};

struct Stats {
    /// One over the root of the count: how far means of samples are from the distribution's, in
    /// deviations. Five times as far is one in a million.
    spread: f64,
    mean: f64,
    std: f64,
    largest: f64,
}

#[allow(clippy::cast_precision_loss)] // counts are small
fn stats<const D: usize>(tensor: Tensor<D>) -> Stats {
    let values: Vec<f32> = tensor.into_data().try_into_vec().unwrap();
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let largest = values.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
    Stats { spread: n.sqrt().recip(), mean, std: variance.sqrt(), largest }
}

/// Checks that numbers are uniform within +-bound: nearly reached, never passed, with the matching
/// deviation.
fn assert_uniform<const D: usize>(what: &str, tensor: Tensor<D>, bound: f64) {
    let Stats { spread, mean, std, largest } = stats(tensor);
    assert!(largest <= bound * 1.0001 && largest > bound * 0.9, "{what}: {largest} of {bound}");
    let deviation = bound / 3f64.sqrt();
    assert!(mean.abs() < 5.0 * spread * deviation, "{what}: mean {mean}");
    // A fourth moment of 9/5 squared variances makes the deviation's own sqrt(1/5) of the spread.
    let off = (std / deviation - 1.0).abs();
    assert!(off < 5.0 * 0.2f64.sqrt() * spread, "{what}: deviation {std} of {deviation}");
}

fn assert_normal<const D: usize>(what: &str, tensor: Tensor<D>, deviation: f64) {
    let Stats { spread, mean, std, largest } = stats(tensor);
    assert!(mean.abs() < 5.0 * spread * deviation, "{what}: mean {mean}");
    // A fourth moment of three squared variances makes the deviation's own sqrt(1/2) of the spread.
    let off = (std / deviation - 1.0).abs();
    assert!(off < 5.0 * 0.5f64.sqrt() * spread, "{what}: deviation {std} of {deviation}");
    assert!(largest > 2.5 * deviation, "{what}: largest {largest}");
}

#[test]
fn every_kind_of_layer_has_the_references_initialisation() {
    let device = Device::flex();
    let Model::Detr(model) = ModelConfig::preset("detr-r50").unwrap().init(&device) else {
        unreachable!()
    };
    let layer = &model.transformer.encoder.layers[2];
    // Xavier on the fused [768, 256] matrix, not on three of [256, 256].
    let fused = (6.0 / 1024.0f64).sqrt();
    assert_uniform("in_proj_weight", layer.self_attn.in_proj_weight.val(), fused);
    assert!(stats(layer.self_attn.in_proj_bias.val()).largest < 1e-12);
    let square = (6.0 / 512.0f64).sqrt();
    assert_uniform("out_proj.weight", layer.self_attn.out_proj.weight.val(), square);
    assert!(stats(layer.self_attn.out_proj.bias.clone().unwrap().val()).largest < 1e-12);
    let ffn = (6.0 / 2304.0f64).sqrt();
    assert_uniform("linear1.weight", layer.linear1.weight.val(), ffn);
    assert_uniform("linear1.bias", layer.linear1.bias.clone().unwrap().val(), 1.0 / 16.0);
    assert_uniform("linear2.weight", layer.linear2.weight.val(), ffn);
    let wide = 1.0 / 2048f64.sqrt();
    assert_uniform("linear2.bias", layer.linear2.bias.clone().unwrap().val(), wide);
    // Heads and projection keep PyTorch's default.
    assert_uniform("class_embed.weight", model.class_embed.weight.val(), 1.0 / 16.0);
    assert_uniform("bbox_embed", model.bbox_embed.layers[1].weight.val(), 1.0 / 16.0);
    assert_uniform("input_proj.weight", model.input_proj.weight.val(), wide);
    assert_normal("query_embed", model.query_embed.weight.val(), 1.0);
    // Backbone: Kaiming normal by fan out, as torchvision.
    let Backbone::ResNet(body) = &model.backbone.0.body else { unreachable!() };
    assert_normal("conv1", body.conv1.weight.val(), (2.0 / (64.0 * 49.0f64)).sqrt());
    let conv2 = body.layer3[1].conv2.weight.val();
    assert_normal("layer3.1.conv2", conv2, (2.0 / (256.0 * 9.0f64)).sqrt());
}

#[test]
fn two_models_differ_and_a_clone_does_not() {
    let device = Device::flex();
    let config = ModelConfig::preset("detr-r18").unwrap();
    let queries = |model: &Model| -> Vec<f32> {
        let Model::Detr(model) = model else { unreachable!() };
        model.query_embed.weight.val().into_data().try_into_vec().unwrap()
    };
    let (a, b) = (config.init(&device), config.init(&device));
    assert_ne!(queries(&a), queries(&b));
    assert_eq!(queries(&a), queries(&a.clone()));
}

#[test]
fn deformable_attention_starts_as_rays_with_equal_weights() {
    let device = Device::flex();
    let Model::DeformableDetr(model) =
        ModelConfig::preset("deformable-detr-r50").unwrap().init(&device)
    else {
        unreachable!()
    };
    let attention = &model.transformer.encoder.layers[1].self_attn;
    for zero in [
        stats(attention.sampling_offsets.weight.val()),
        stats(attention.attention_weights.weight.val()),
        stats(attention.attention_weights.bias.clone().unwrap().val()),
        stats(attention.value_proj.bias.clone().unwrap().val()),
    ] {
        assert!(zero.largest < 1e-12);
    }
    let square = (6.0 / 512.0f64).sqrt();
    assert_uniform("value_proj", attention.value_proj.weight.val(), square);
    // Head 1 of 8 looks down and right, by one more cell with every point, on all levels.
    let rays: Vec<f32> =
        attention.sampling_offsets.bias.clone().unwrap().val().into_data().try_into_vec().unwrap();
    let [x, y] = [0, 1].map(|axis| rays[((4 + 2) * 4 + 2) * 2 + axis]);
    assert!((x - 3.0).abs() < 1e-5 && (y - 3.0).abs() < 1e-5, "{x} {y}");
    let [x, y] = [0, 1].map(|axis| rays[((3 * 4 + 1) * 4) * 2 + axis]);
    assert!((x + 1.0).abs() < 1e-5 && (y - 1.0).abs() < 1e-5, "{x} {y}");
    assert_normal("level_embed", model.transformer.level_embed.val(), 1.0);
    let ffn = (6.0 / 1280.0f64).sqrt();
    assert_uniform("linear1", model.transformer.decoder.layers[0].linear1.weight.val(), ffn);
    let conv = &model.input_proj[3].0;
    assert_uniform("input_proj.3.0", conv.weight.val(), (6.0 / ((2048.0 + 256.0) * 9.0f64)).sqrt());
    assert!(stats(conv.bias.clone().unwrap().val()).largest < 1e-12);
}

#[test]
fn heads_of_deformable_detr_start_equal_and_propose_small_boxes() {
    let device = Device::flex();
    for (name, heads, sizes) in [
        ("deformable-detr-r50", 1, vec![-2.0]),
        ("deformable-detr-r50-refine", 6, vec![-2.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ("deformable-detr-r50-two-stage", 7, vec![0.0; 7]),
    ] {
        let Model::DeformableDetr(model) = ModelConfig::preset(name).unwrap().init(&device) else {
            unreachable!()
        };
        assert_eq!((model.class_embed.len(), model.bbox_embed.len()), (heads, heads), "{name}");
        let numbers = |t: Tensor<2>| -> Vec<f32> { t.into_data().try_into_vec().unwrap() };
        let first = numbers(model.class_embed[0].weight.val());
        for (i, (class, bbox)) in model.class_embed.iter().zip(&model.bbox_embed).enumerate() {
            assert_eq!(numbers(class.weight.val()), first, "{name}: head {i}");
            let bias = stats(class.bias.clone().unwrap().val());
            assert!((bias.mean + 99f64.ln()).abs() < 1e-5 && bias.std < 1e-5, "{name}");
            let bias: Vec<f32> =
                bbox.layers[2].bias.clone().unwrap().val().into_data().try_into_vec().unwrap();
            assert_eq!(bias, [0.0, 0.0, sizes[i], sizes[i]], "{name}: head {i}");
            assert!(stats(bbox.layers[2].weight.val()).largest < 1e-12);
        }
        // Equal numbers, but parameters of their own.
        if heads > 1 {
            assert_ne!(model.class_embed[0].weight.id, model.class_embed[1].weight.id);
        }
    }
}
