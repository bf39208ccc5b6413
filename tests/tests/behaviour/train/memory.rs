//! Activation checkpointing: the same gradients from less memory, which is measured in processes of
//! their own.

use std::process::Command;

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use detr_loss::{Target, Targets};
use detr_model::nested::{NestedTensor, Padding};
use detr_model::weights::{Checkpoint, recipe_image};
use detr_model::{Model, ModelConfig};
use detr_train::{GroupsError, MicroBatch, StepConfig, Trainer};

use super::{deformable, detr, model};

/// A trainer whose activations are kept or not.
fn prepared(config: &ModelConfig, activation_checkpointing: bool) -> (Trainer, Device) {
    let settings = StepConfig { activation_checkpointing, ..StepConfig::for_model(config) };
    let device = settings.device(Device::flex());
    let model: Model =
        Checkpoint::recipe(config, 7, &device).load(&device, FloatDType::F32).unwrap();
    (Trainer::new(model, &settings).unwrap(), device)
}

fn batch(side: usize, images: u64, device: &Device) -> MicroBatch {
    let pixels = (0..images).flat_map(|seed| recipe_image(seed, side, side)).collect();
    let count = usize::try_from(images).unwrap();
    let pixels = TensorData::new::<f32, _>(pixels, [count, 3, side, side]);
    let target = Target {
        labels: vec![1, 3],
        boxes: vec![[0.4, 0.5, 0.3, 0.2], [0.6, 0.3, 0.1, 0.4]],
        masks: None,
    };
    MicroBatch {
        images: NestedTensor { pixels: Tensor::from_data(pixels, device), padding: Padding::None },
        targets: Targets::new(vec![target; count], 5, device).unwrap(),
    }
}

#[test]
fn gradients_are_the_same_with_activation_checkpointing() {
    for config in [detr(), deformable()] {
        let [kept, computed] = [false, true].map(|checkpointing| {
            let (trainer, device) = prepared(&config, checkpointing);
            let found = trainer.gradients(vec![batch(64, 2, &device)]).unwrap().unwrap();
            found.read(trainer.groups()).unwrap()
        });
        assert!(kept.len() > 50 && kept.len() == computed.len());
        for (name, one) in kept.iter() {
            let (one, two) = (one.to_f32().unwrap(), computed.get(name).unwrap().to_f32().unwrap());
            let largest = one.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let difference = one.iter().zip(two).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(difference <= 1e-6 * largest, "{name}: {difference} of {largest}");
        }
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

/// The largest memory of this process in MiB, after a step that is large.
fn large_step(activation_checkpointing: bool) {
    let (mut trainer, device) = prepared(&deformable(), activation_checkpointing);
    trainer.step(vec![batch(LARGE, 4, &device)], 1.0).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    println!("peak {} MiB", peak.unwrap_or(0) / 1024);
}

#[test]
#[ignore = "runs in a process of its own"]
fn process_that_keeps_activations() {
    large_step(false);
}

#[test]
#[ignore = "runs in a process of its own"]
fn process_that_computes_them_again() {
    large_step(true);
}

#[test]
#[cfg(target_os = "linux")]
fn activation_checkpointing_lowers_the_peak_of_memory() {
    let peak = |name: &str| -> u64 {
        let name = format!("train::memory::{name}");
        let arguments = ["--exact", &name, "--ignored", "--nocapture"];
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let peak = text.lines().find_map(|line| line.split_once("peak ")?.1.strip_suffix(" MiB"));
        peak.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    };
    let kept = peak("process_that_keeps_activations");
    let computed = peak("process_that_computes_them_again");
    println!("{kept} MiB with all activations, {computed} MiB with checkpointing");
    assert!(computed * 10 < kept * 9, "{computed} MiB instead of {kept}");
}
