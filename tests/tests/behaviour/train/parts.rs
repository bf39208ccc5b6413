//! Groups, optimizers, clipping and moving averages against numbers by hand.

use burn::tensor::{Device, Tensor};
use detr_model::weights::read_parameters;
use detr_model::{Model, ModelConfig};
use detr_train::{
    Ema, EmaConfig, GradientNorm, GroupConfig, Groups, GroupsConfig, GroupsError, Optimizer,
    OptimizerConfig, ParameterSlot, clip_coefficient,
};

use super::{deformable, detr, model, poked};

/// The parameter that updates are followed on: eight numbers or fewer, not transposed.
const BIAS: &str = "bbox_embed.layers.2.bias";

fn values(model: &Model, name: &str) -> Vec<f32> {
    read_parameters(model).unwrap().get(name).unwrap().to_f32().unwrap()
}

fn read(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn near(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let difference = (f64::from(*found) - expected).abs();
        assert!(difference <= 1e-6 * expected.abs().max(0.1), "{found} is not {expected}");
    }
}

#[test]
fn clipping_is_by_the_norm_of_all_gradients_together() {
    let device = Device::flex();
    let gradients =
        [Tensor::<1>::from_floats([3.0, 4.0], &device), Tensor::from_floats([-12.0], &device)];
    let norm = GradientNorm::of(&gradients).unwrap();
    assert_eq!(read(norm.each.clone()), [5.0, 12.0]);
    assert_eq!(read(norm.total.clone()), [13.0]);
    near(&read(clip_coefficient(norm.total.clone(), 0.1)), &[0.1 / (13.0 + 1e-6)]);
    assert_eq!(read(clip_coefficient(norm.total, 20.0)), [1.0]);
    assert!(GradientNorm::of(&[]).is_none());
}

#[test]
fn a_moving_average_follows_the_model() {
    let config = detr();
    let with = |value: f32| poked(model(&config), BIAS, value);
    let start = f64::from(values(&with(1.0), BIAS)[0]);
    let mut constant = Ema::new(&with(1.0), EmaConfig { decay: 0.75, warmup: 0 });
    let mut warming = Ema::new(&with(1.0), EmaConfig { decay: 0.75, warmup: 2 });
    let (mut a, mut b) = (start, start);
    for (update, value) in [(1.0f64, 3.0f32), (2.0, -2.0), (3.0, 0.5)] {
        constant.update(&with(value));
        warming.update(&with(value));
        a = 0.75 * a + 0.25 * f64::from(value);
        let decay = 0.75 * (1.0 - (-update / 2.0).exp());
        b = decay * b + (1.0 - decay) * f64::from(value);
    }
    near(&values(constant.model(), BIAS)[..1], &[a]);
    near(&values(warming.model(), BIAS)[..1], &[b]);
    assert_eq!(constant.updates(), 3);
    // A parameter that is not trained keeps its bits.
    let norm = "backbone.0.body.bn1.running_var";
    assert_eq!(values(constant.model(), norm), values(&with(0.0), norm));
}

/// Returns the bias after each of three updates, from an optimizer.
fn follow(optimizer: OptimizerConfig, weight_decay: f64) -> Vec<Vec<f32>> {
    let (mut model, device) = (model(&detr()), Device::flex());
    let settings = GroupsConfig { lr: 0.1, weight_decay, frozen: Vec::new(), groups: Vec::new() };
    let groups = Groups::new(&model, &settings).unwrap();
    let mut optimizer = Optimizer::new(optimizer, &groups);
    let at = groups.slots().iter().position(|slot| slot.parameter.name == BIAS).unwrap();
    let mut found = vec![values(&model, BIAS)];
    for gradient in GRADIENTS {
        let mut gradients = vec![None; groups.slots().len()];
        gradients[at] = Some(Tensor::from_floats(gradient, &device));
        model = optimizer.step(model, &groups, gradients, 0.5);
        found.push(values(&model, BIAS));
    }
    // No gradient, no update, not even decay.
    let other = "bbox_embed.layers.1.bias";
    assert_eq!(values(&model, other), values(&super::model(&detr()), other));
    found
}

const GRADIENTS: [[f32; 4]; 3] =
    [[1.0, -2.0, 0.0, 1e-3], [0.5, 2.0, 0.0, 0.0], [-4.0, 1.0, 3.0, 1.0]];

#[test]
fn adamw_is_that_of_torch() {
    let (lr, decay) = (0.05, 0.2);
    let found = follow(OptimizerConfig::default(), decay);
    for k in 0..4 {
        let (mut p, mut m, mut v) = (f64::from(found[0][k]), 0.0, 0.0);
        for (step, gradient) in (1..).zip(GRADIENTS) {
            let g = f64::from(gradient[k]);
            p *= 1.0 - lr * decay;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let [c1, c2] = [0.9f64, 0.999].map(|beta| 1.0 - beta.powi(step));
            p -= lr / c1 * m / ((v / c2).sqrt() + 1e-8);
            near(&found[usize::try_from(step).unwrap()][k..=k], &[p]);
        }
    }
}

#[test]
fn sgd_is_that_of_torch() {
    let (lr, decay, momentum) = (0.05, 0.2, 0.9);
    let found = follow(OptimizerConfig::Sgd { momentum }, decay);
    for k in 0..4 {
        let (mut p, mut buffer) = (f64::from(found[0][k]), 0.0);
        for (step, gradient) in (1..).zip(GRADIENTS) {
            buffer = momentum * buffer + f64::from(gradient[k]) + decay * p;
            p -= lr * buffer;
            near(&found[step][k..=k], &[p]);
        }
    }
}

fn config(change: impl FnOnce(&mut GroupsConfig)) -> GroupsConfig {
    let mut config = GroupsConfig::for_model(&deformable());
    change(&mut config);
    config
}

#[test]
fn groups_are_those_of_the_references() {
    let model = model(&deformable());
    let groups = Groups::new(&model, &config(|_| {})).unwrap();
    let lr =
        |name: &str| groups.slots().iter().find(|slot| slot.parameter.name == name).unwrap().lr;
    for (name, expected) in [
        ("backbone.0.body.conv1.weight", None),
        ("backbone.0.body.layer1.0.conv2.weight", None),
        ("backbone.0.body.layer2.0.bn1.weight", None),
        ("backbone.0.body.layer2.0.conv1.weight", Some(2e-5)),
        ("transformer.reference_points.bias", Some(2e-4 * 0.1)),
        ("transformer.encoder.layers.1.self_attn.sampling_offsets.weight", Some(2e-4 * 0.1)),
        ("transformer.encoder.layers.1.self_attn.value_proj.bias", Some(2e-4)),
        ("input_proj.0.0.weight", Some(2e-4)),
    ] {
        assert_eq!(lr(name), expected, "{name}");
    }
    let table = groups.table().to_string();
    let row = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    // Five layers of 64 to 96 numbers, and points of 64 to 2.
    assert_eq!(row("sampling"), ["12", "31330", "2e-5", "1e-4"], "{table}");
    assert_eq!(row("frozen")[2..], ["frozen", "-"], "{table}");
    assert_eq!(row("buffers")[2..], ["frozen", "-"], "{table}");
    let total: usize = groups.table().rows().iter().map(|row| row.tensors).sum();
    assert_eq!(total, groups.slots().len());
}

#[test]
fn every_architecture_has_parameters_for_its_groups() {
    let ModelConfig::DeformableDetr(mut two_stage) = deformable() else { unreachable!() };
    two_stage.two_stage = true;
    let preset = ModelConfig::preset("detr-demo").unwrap();
    let ModelConfig::DetrDemo(mut demo) = preset else { unreachable!() };
    (demo.backbone, demo.hidden_dim, demo.dim_feedforward) = (two_stage.backbone.clone(), 32, 32);
    for config in
        [detr(), deformable(), ModelConfig::DeformableDetr(two_stage), ModelConfig::DetrDemo(demo)]
    {
        let model = config.init(&Device::flex().autodiff());
        Groups::new(&model, &GroupsConfig::for_model(&config)).unwrap();
    }
}

#[test]
fn patterns_that_match_nothing_are_refused() {
    let model = model(&deformable());
    let error = |change: fn(&mut GroupsConfig)| Groups::new(&model, &config(change)).unwrap_err();
    let text = error(|config| config.frozen.push("layer9".into())).to_string();
    assert!(text.starts_with("parameters.frozen: `layer9` matches no parameter\nhint:"), "{text}");
    let text = error(|config| {
        config.groups.push(GroupConfig {
            name: "late".into(),
            patterns: vec!["sampling_offsets".into()],
            ..GroupConfig::default()
        });
    })
    .to_string();
    assert!(text.contains("groups[2] (late)") && text.contains("is in `sampling`"), "{text}");
    let nothing = error(|config| {
        config.lr = 0.0;
        config.groups[0].lr = Some(0.0);
    });
    assert_eq!(nothing, GroupsError::NothingTrained);
    let plain = Groups::new(&deformable().init(&Device::flex()), &config(|_| {})).unwrap_err();
    assert_eq!(plain, GroupsError::NoGradients);
}

#[test]
fn all_of_a_group_may_be_frozen_by_name() {
    let groups =
        Groups::new(&model(&deformable()), &config(|c| c.frozen = vec!["backbone".into()]));
    let groups = groups.unwrap();
    let backbone = |slot: &&ParameterSlot| slot.parameter.name.starts_with("backbone");
    assert!(groups.slots().iter().filter(backbone).all(|slot| slot.lr.is_none()));
    assert!(groups.table().rows().iter().all(|row| row.name != "backbone"));
}
