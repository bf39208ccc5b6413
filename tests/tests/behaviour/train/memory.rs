//! Activation checkpointing: the same gradients from less memory, which is measured in processes of
//! their own.

use std::process::Command;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Distribution, FloatDType, Gradients, Tensor, TensorData};
use detr_loss::{Predictions, SetCriterion, Target, Targets};
use detr_model::nested::{NestedTensor, Padding};
use detr_model::position::PositionKind;
use detr_model::weights::{Checkpoint, StateDict, named_parameters, official_layout, recipe_image};
use detr_model::{Model, ModelConfig};
use detr_train::{GroupsError, MicroBatch, StepConfig, Trainer};
use detr_types::Precision;

use super::{deformable, detr, model, same};

/// Creates a trainer whose activations are kept or not.
fn prepared(
    config: &ModelConfig,
    activation_checkpointing: bool,
    change: impl FnOnce(&mut StepConfig),
) -> (Trainer, Device) {
    let mut settings = StepConfig { activation_checkpointing, ..StepConfig::for_model(config) };
    change(&mut settings);
    let device = settings.device(Device::flex());
    let model: Model =
        Checkpoint::recipe(config, 7, &device).load(&device, FloatDType::F32).unwrap();
    (Trainer::new(model, &settings).unwrap(), device)
}

/// Makes images with the same objects, the last with padding at the right.
fn batch(side: usize, images: u64, device: &Device) -> MicroBatch {
    let pixels = (0..images).flat_map(|seed| recipe_image(seed, side, side)).collect();
    let count = usize::try_from(images).unwrap();
    let pixels = TensorData::new::<f32, _>(pixels, [count, 3, side, side]);
    let padding = (0..count * side * side)
        .map(|i| i / (side * side) == count - 1 && i % side >= side * 3 / 4)
        .collect::<Vec<bool>>();
    let padding = Tensor::from_data(TensorData::new(padding, [count, side, side]), device);
    let target = Target {
        labels: vec![1, 3],
        boxes: vec![[0.4, 0.5, 0.3, 0.2].into(), [0.6, 0.3, 0.1, 0.4].into()],
        masks: None,
    };
    MicroBatch {
        images: NestedTensor {
            pixels: Tensor::from_data(pixels, device),
            padding: Padding::Mask(padding),
        },
        targets: Targets::new(vec![target; count], 5, device).unwrap(),
    }
}

/// Checks that gradients are the same but for rounding, relative to the largest of each tensor.
fn check_same(what: &str, rounding: f32, expected: &StateDict, found: &StateDict) {
    assert!(expected.len() > 20 && expected.len() == found.len(), "{what}");
    for (name, one) in expected.iter() {
        let (one, two) = (one.to_f32().unwrap(), found.get(name).unwrap().to_f32().unwrap());
        let largest = one.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let difference = one.iter().zip(two).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        // Softmax does not see the biases of keys.
        let noise = if name.ends_with("in_proj_bias") { 1e-8 } else { 0.0 };
        let bound = rounding * largest + noise;
        assert!(difference <= bound, "{what}: {name}: {difference} of {largest}");
    }
}

/// Lists every kind of model, and the parts of it that are trained.
fn cases() -> Vec<(&'static str, ModelConfig, Option<f64>, Precision)> {
    let ModelConfig::DeformableDetr(mut two_stage) = deformable() else { unreachable!() };
    (two_stage.two_stage, two_stage.num_feature_levels) = (true, 4);
    let ModelConfig::Detr(mut learned) = detr() else { unreachable!() };
    learned.position_embedding = PositionKind::Learned;
    (learned.pre_norm, learned.enc_layers) = (true, 2);
    let ModelConfig::DetrDemo(mut demo) = ModelConfig::preset("detr-demo").unwrap() else {
        unreachable!()
    };
    (demo.backbone, demo.num_classes, demo.dropout) = (two_stage.backbone.clone(), 5, 0.0);
    (demo.hidden_dim, demo.nheads, demo.dim_feedforward) = (32, 4, 32);
    vec![
        ("detr", detr(), None, Precision::F32),
        ("deformable", deformable(), None, Precision::F32),
        ("half", deformable(), None, Precision::Bf16),
        ("frozen backbone", deformable(), Some(0.0), Precision::F32),
        ("two stages", ModelConfig::DeformableDetr(two_stage), None, Precision::F32),
        ("learned positions", ModelConfig::Detr(learned), None, Precision::F32),
        ("demo", ModelConfig::DetrDemo(demo), None, Precision::F32),
    ]
}

#[test]
fn gradients_are_the_same_with_activation_checkpointing() {
    for (what, config, lr_backbone, precision) in cases() {
        let [kept, computed] = [false, true].map(|checkpointing| {
            let (trainer, device) = prepared(&config, checkpointing, |settings| {
                settings.precision = precision;
                settings.parameters.groups[0].lr = lr_backbone.or(Some(1e-5));
            });
            let mut micro_batches = vec![batch(64, 2, &device), batch(96, 1, &device)];
            if what == "demo" {
                for one in &mut micro_batches {
                    one.images.padding = Padding::None;
                }
            }
            let found = trainer.gradients(micro_batches).unwrap().unwrap();
            found.read(trainer.groups()).unwrap()
        });
        // Sums of gradients are rounded in the precision of the model.
        let rounding = if precision == Precision::Bf16 { 0.02 } else { 2e-6 };
        check_same(what, rounding, &kept, &computed);
    }
}

#[test]
fn a_model_on_a_device_without_checkpointing_is_refused() {
    let config = deformable();
    let settings = StepConfig { activation_checkpointing: true, ..StepConfig::for_model(&config) };
    let error = Trainer::new(model(&config), &settings).unwrap_err();
    assert_eq!(error, GroupsError::NoCheckpointing);
}

/// Side of images at which activations are most of the memory.
const LARGE: usize = 480;

/// Measures the largest memory of this process in MiB, after a step that is large.
fn large_step(activation_checkpointing: bool) -> String {
    let ModelConfig::DeformableDetr(mut config) = deformable() else { unreachable!() };
    config.enc_layers = 6;
    let config = ModelConfig::DeformableDetr(config);
    let (mut trainer, device) = prepared(&config, activation_checkpointing, |_| {});
    trainer.step(vec![batch(LARGE, 4, &device)], 1.0).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    format!("peak {} MiB", peak.unwrap_or(0) / 1024)
}

#[test]
#[ignore = "runs in a process of its own"]
fn process_that_keeps_activations() {
    println!("{}", large_step(false));
}

#[test]
#[ignore = "runs in a process of its own"]
fn process_that_computes_them_again() {
    println!("{}", large_step(true));
}

/// Runs an ignored test of this file in a process of its own, and returns what it prints if it
/// passes.
fn process(name: &str) -> String {
    let name = format!("train::memory::process_that_{name}");
    let arguments = ["--exact", &name, "--ignored", "--nocapture"];
    let output = Command::new(std::env::current_exe().unwrap()).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    text
}

#[test]
#[cfg(target_os = "linux")]
fn activation_checkpointing_lowers_the_peak_of_memory() {
    let peak = |name: &str| -> u64 {
        let text = process(name);
        let peak = text.lines().find_map(|line| line.split_once("peak ")?.1.strip_suffix(" MiB"));
        peak.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    };
    let [kept, computed] = ["keeps_activations", "computes_them_again"].map(peak);
    println!("{kept} MiB with all activations, {computed} MiB with checkpointing");
    assert!(computed * 2 < kept, "{computed} MiB instead of {kept}");
}

/// The same random numbers make the same gradients in one graph. In a process of its own, since they are
/// drawn from a generator that tests share.
#[test]
#[ignore = "runs in a process of its own"]
fn process_that_repeats_dropout() {
    let ModelConfig::DeformableDetr(mut config) = deformable() else { unreachable!() };
    config.dropout = 0.3;
    let config = ModelConfig::DeformableDetr(config);
    let (trainer, device) = prepared(&config, true, |_| {});
    device.seed(11);
    let found = trainer.gradients(vec![batch(64, 2, &device)]).unwrap().unwrap();
    let found = found.read(trainer.groups()).unwrap();

    device.seed(11);
    let range = Distribution::Uniform(0.0, 65_536.0);
    let drawn = Tensor::<1>::random([4], range, (&device, DType::F32)).into_data();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below 2^16
    let seed = drawn.iter::<f64>().fold(0, |seed: u64, number| seed << 16 | number as u64);
    let (model, MicroBatch { images, targets }) = (trainer.model(), batch(64, 2, &device));
    let mut encoding = model.tokenize(model.extract(images)).unwrap();
    for layer in 0..model.encoder_layers() {
        device.seed(seed.wrapping_add(layer as u64));
        let tokens = model.encode(layer, &encoding);
        let position = encoding.position();
        encoding = encoding.with(tokens, position);
    }
    let predictions = Predictions::from(model.decode(encoding).unwrap());
    let criterion = SetCriterion::deformable_detr();
    let matches = criterion.matches(&predictions, &targets).unwrap();
    let losses = criterion.losses(&predictions, &targets, &matches, 4.0);
    let mut expected = Expected { gradients: losses.total.backward(), found: Vec::new() };
    model.visit(&mut expected);
    let parameters = named_parameters(model).into_iter().zip(expected.found);
    let expected = official_layout(parameters.filter_map(|(parameter, gradient)| {
        Some((parameter.name, parameter.shape, parameter.transposed, gradient?))
    }));
    check_same("dropout", 2e-6, &expected.unwrap(), &found);
    // The result differs from that of a model which drops nothing.
    let other = trainer.gradients(vec![batch(64, 2, &device)]).unwrap().unwrap();
    assert!(!same(&other.read(trainer.groups()).unwrap(), &found));
}

struct Expected {
    gradients: Gradients,
    found: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for Expected {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad_remove(&mut self.gradients);
        self.found.push(gradient.map(|gradient| {
            let elements = gradient.shape().num_elements();
            gradient.reshape([elements])
        }));
    }
}

#[test]
fn dropout_is_the_same_when_a_layer_is_computed_again() {
    process("repeats_dropout");
}
