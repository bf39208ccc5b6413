//! Deformable DETR (Zhu et al. 2021, <https://arxiv.org/abs/2010.04159>).
//! This file has the facts of the family; the paper's method is in `model.rs`.

mod config;
mod flops;
mod heads;
mod hugging_face;
mod infer;
mod mask_head;
pub mod model;
pub mod ms_deform_attn;
mod proposals;
pub mod transformer;

use std::path::Path;

use burn::tensor::Device;

use super::family::Family;
use super::hugging_face::HuggingFaceNames;
use super::recipe::{LearningRate, ParameterGroup, TrainingRecipe};
use crate::backbone::BackboneConfig;
use crate::config::ConfigError;
use crate::flops::{BackboneFlops, Flops};
use crate::postprocess::ScoreActivation;
use crate::weights::{SharedHeads, StateDict, TrainingArgs, WeightsError};
pub use config::DeformableDetrConfig;
pub use mask_head::DotProductMaskHead;
pub use model::{DeformableDetr, DeformableDetrTrace, LevelTrace};

impl Family for DeformableDetrConfig {
    type Model = DeformableDetr;

    fn kind() -> &'static str {
        "deformable-detr"
    }

    fn presets() -> &'static [(&'static str, &'static str)] {
        &[
            (
                "deformable-detr-r50",
                include_str!("../../../../../configs/models/deformable-detr-r50.toml"),
            ),
            (
                "deformable-detr-r50-refine",
                include_str!("../../../../../configs/models/deformable-detr-r50-refine.toml"),
            ),
            (
                "deformable-detr-r50-two-stage",
                include_str!("../../../../../configs/models/deformable-detr-r50-two-stage.toml"),
            ),
            (
                "deformable-detr-r50-single-scale",
                include_str!("../../../../../configs/models/deformable-detr-r50-single-scale.toml"),
            ),
            (
                "deformable-detr-r50-single-scale-dc5",
                include_str!(
                    "../../../../../configs/models/deformable-detr-r50-single-scale-dc5.toml"
                ),
            ),
            (
                "deformable-detr-r50-masks",
                include_str!("../../../../../configs/models/deformable-detr-r50-masks.toml"),
            ),
            (
                "deformable-detr-tiny-masks",
                include_str!("../../../../../configs/models/deformable-detr-tiny-masks.toml"),
            ),
            (
                "deformable-detr-tiny",
                include_str!("../../../../../configs/models/deformable-detr-tiny.toml"),
            ),
        ]
    }

    fn infer(state: &StateDict, args: TrainingArgs) -> Option<Result<Self, String>> {
        infer::is_deformable(state).then(|| infer::infer(state, args))
    }

    fn hugging_face() -> Option<HuggingFaceNames> {
        Some(hugging_face::NAMES)
    }

    fn read_hugging_face(
        folder: &Path,
        state: StateDict,
        args: TrainingArgs,
    ) -> Result<(Self, StateDict), WeightsError> {
        hugging_face::read(folder, state, args)
    }

    fn init(&self, device: &Device) -> DeformableDetr {
        DeformableDetr::new(self, device)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Self::validate(self)
    }

    fn num_classes(&self) -> usize {
        self.num_classes
    }

    fn sizes_mut(&mut self) -> (&mut usize, &mut usize) {
        (&mut self.num_classes, &mut self.num_queries)
    }

    fn has_masks(&self) -> bool {
        self.masks
    }

    fn detector_parts(&self) -> Vec<&'static str> {
        let mut parts =
            vec!["backbone.", "transformer.", "input_proj.", "class_embed.", "bbox_embed."];
        if !self.two_stage {
            parts.push("query_embed.");
        }
        parts
    }

    fn nheads(&self) -> usize {
        self.nheads
    }

    fn backbone(&self) -> &BackboneConfig {
        &self.backbone
    }

    fn dilate(&mut self) -> bool {
        self.backbone.dilate()
    }

    fn activation(&self) -> ScoreActivation {
        ScoreActivation::Sigmoid
    }

    fn flops(&self, backbone: &BackboneFlops) -> Flops {
        flops::count(self, backbone)
    }

    fn training_recipe(&self) -> TrainingRecipe {
        let frozen = self.backbone.frozen().iter().map(|name| format!("backbone.0.body.{name}"));
        // Two-stage models take their reference points from the encoder.
        let sampling = if self.two_stage {
            vec!["sampling_offsets"]
        } else {
            vec!["reference_points", "sampling_offsets"]
        };
        TrainingRecipe {
            lr: 2e-4,
            weight_decay: 1e-4,
            frozen: frozen.collect(),
            groups: vec![
                ParameterGroup {
                    name: "backbone",
                    patterns: vec!["backbone.0"],
                    rate: LearningRate::Absolute(2e-5),
                },
                ParameterGroup {
                    name: "sampling",
                    patterns: sampling,
                    rate: LearningRate::Factor(0.1),
                },
            ],
        }
    }

    fn shared_heads(&self) -> Option<SharedHeads> {
        let Self { dec_layers, with_box_refine, two_stage, .. } = *self;
        Some(SharedHeads { dec_layers, with_box_refine, two_stage })
    }

    fn describe(&self) -> String {
        let kind = match (self.two_stage, self.with_box_refine) {
            (true, _) => "a two-stage Deformable DETR",
            (false, true) => "a Deformable DETR with box refinement",
            (false, false) => "a Deformable DETR without box refinement",
        };
        format!(
            "{kind}, of width {} with {} levels, {} encoder and {} decoder layers{}",
            self.hidden_dim,
            self.num_feature_levels,
            self.enc_layers,
            self.dec_layers,
            if self.masks { ", and a mask head" } else { "" }
        )
    }

    fn assumptions(&self, args: TrainingArgs) -> Vec<String> {
        let mut notes = Vec::new();
        if args.nheads.is_none() {
            // Rows are heads times levels times points, so one number gives the other.
            notes.push(format!(
                "{} attention heads assumed, and so {} (encoder) and {} (decoder) sampling points \
                 per head and level (no tensor shows their number)",
                self.nheads, self.enc_n_points, self.dec_n_points
            ));
        }
        if self.two_stage && args.num_queries.is_none() {
            notes.push(format!(
                "{} queries assumed (no tensor of a two-stage model shows their number)",
                self.num_queries
            ));
        }
        notes
    }
}
