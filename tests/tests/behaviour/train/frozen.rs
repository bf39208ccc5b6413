//! `model.frozen_weights`: the mask head alone is trained on a detector that stays as it is.

use std::fs;

use burn::tensor::Device;
use detr_model::ModelConfig;
use detr_model::weights::{Checkpoint, StateDict, read_state_dict, tensors_to_bytes};

use super::small::Small;
use super::{batch, deformable, detr, parameters, same, trainer, updated};
use crate::support::Outcome;

/// Makes a detector for the six shapes with ten queries.
fn detector(config: ModelConfig) -> ModelConfig {
    config.with_sizes(6, Some(10))
}

/// Makes the same with a mask head.
fn with_masks(config: ModelConfig) -> ModelConfig {
    match config {
        ModelConfig::Detr(mut config) => {
            // Heads and widths that the convolutions can normalise in groups.
            (config.nheads, config.masks) = (8, true);
            ModelConfig::Detr(config)
        }
        ModelConfig::DeformableDetr(mut config) => {
            config.masks = true;
            ModelConfig::DeformableDetr(config)
        }
        other => other,
    }
}

/// Pictures, an architecture with masks, and the weights of a detector of it.
fn small(config: ModelConfig) -> (Small, StateDict) {
    let config = with_masks(detector(config));
    let mut boxes = config.clone();
    match &mut boxes {
        ModelConfig::Detr(config) => config.masks = false,
        ModelConfig::DeformableDetr(config) => config.masks = false,
        _ => {}
    }
    let small = Small::new();
    fs::write(small.path("masks.toml"), toml::to_string(&config).unwrap()).unwrap();
    let checkpoint = Checkpoint::recipe(&boxes, 3, &Device::flex());
    let bytes = tensors_to_bytes(&checkpoint.listed()).unwrap();
    fs::write(small.path("boxes.safetensors"), bytes).unwrap();
    (small, checkpoint.state)
}

const FROZEN: [&str; 5] = [
    "model.arch=masks.toml",
    "model.frozen_weights=boxes.safetensors",
    "train.epochs=1",
    "run.validate_every=2",
    "data.loader.workers=1",
];

fn train(small: &Small, run: &str, more: &[&str]) -> Outcome {
    small.train(run, &[&FROZEN[..], more].concat()).run()
}

#[track_caller]
fn check_frozen(config: ModelConfig, head: &[&str]) {
    let (small, boxes) = small(config);
    // The settings of the small run unfreeze everything, which frozen weights overrule.
    train(&small, "run", &[]).expect(0);
    // The settings that the run leaves say what was frozen, and are read again.
    let settings = fs::read_to_string(small.path("run/config.toml")).unwrap();
    let frozen = settings.contains("frozen_weights") && settings.contains("\"transformer.\"");
    assert!(frozen, "{settings}");
    small.resume("run").args(["--set", "train.epochs=2"]).run().expect(0);
    let [first, last] = [12, 24].map(|step| {
        read_state_dict(&small.checkpoint("run", step).join("model.safetensors")).unwrap()
    });
    let of_head = |name: &str| head.iter().any(|part| name.starts_with(part));
    let bits = |state: &StateDict, name: &str| -> Vec<u32> {
        let values = state.get(name).unwrap_or_else(|| panic!("{name}")).to_f32().unwrap();
        values.iter().map(|value| value.to_bits()).collect()
    };
    let mut moved = 0;
    for (name, _) in last.iter() {
        if of_head(name) {
            moved += usize::from(bits(&first, name) != bits(&last, name));
        } else {
            assert_eq!(bits(&last, name), bits(&boxes, name), "{name}");
        }
    }
    let tensors = last.iter().filter(|(name, _)| of_head(name)).count();
    // The last bias of a head may stand still for some steps.
    assert!(moved + 2 >= tensors, "{moved} of {tensors} tensors of the head moved");
    assert_eq!(last.iter().count() - tensors, boxes.iter().count(), "nothing is missing");
    let steps = small.events("run", "step");
    let losses = &steps.last().unwrap()["losses"];
    assert!(losses["loss_mask"].is_number() && losses["loss_dice"].is_number(), "{losses}");
}

#[test]
fn only_the_mask_head_of_a_detr_changes() {
    check_frozen(detr(), &["mask_head.", "bbox_attention."]);
}

#[test]
fn only_the_mask_head_of_a_deformable_detr_changes() {
    check_frozen(deformable(), &["mask_head."]);
}

#[test]
fn a_batch_without_objects_changes_nothing_of_a_frozen_model() {
    for config in [detr(), deformable()] {
        let config = with_masks(config);
        let parts = config.detector_parts();
        let mut trainer = trainer(&config, |settings| {
            settings.parameters.frozen = parts.iter().map(|part| (*part).to_owned()).collect();
            settings.parameters.weight_decay = 0.0;
        });
        let before = parameters(&trainer);
        let report = updated(trainer.step(vec![batch(3, &[0, 0])], 1.0).unwrap());
        assert!(report.grad_norm.abs() < 1e-12, "{}", report.grad_norm);
        assert!(same(&parameters(&trainer), &before));
    }
}

#[test]
fn frozen_weights_that_cannot_be_trained_on_are_refused() {
    let (small, _) = small(deformable());
    for (settings, code, message) in [
        (&["model.init=boxes.safetensors"][..], 2, "set beside model.init"),
        (&["model.backbone=boxes.safetensors"], 2, "set beside model.backbone"),
        (&["model.frozen_weights="], 2, "model.frozen_weights"),
        (&["model.frozen_weights=gone.pth"], 3, "model.frozen_weights: there is no"),
        (&["model.arch=tiny.toml"], 3, "the architecture has none"),
        (&["model.num_queries=11"], 3, "query embedding of the checkpoint has 10 queries"),
        (&["data.train.classes.drop=[\"star\"]"], 3, "class head of the checkpoint has 6 outputs"),
    ] {
        let outcome = train(&small, "run", settings);
        assert_eq!(outcome.code, code, "{settings:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{settings:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("hint: "), "{settings:?}: {}", outcome.stderr);
        assert!(!small.path("run").exists(), "{settings:?}");
    }
}
