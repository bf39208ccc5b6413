//! DETR: end-to-end object detection with transformers (Carion et al. 2020,
//! <https://arxiv.org/abs/2005.12872>).
//! This file has the facts of the family; the paper's method is in `model.rs`.

mod config;
mod hugging_face;
mod infer;
mod mask_head;
pub mod model;
mod table_transformer;
pub mod transformer;

use std::path::Path;

use burn::tensor::Device;

use super::family::{Family, Published};
use super::hugging_face::HuggingFaceNames;
use super::recipe::{LearningRate, ParameterGroup, TrainingRecipe};
use crate::backbone::BackboneConfig;
use crate::config::ConfigError;
use crate::flops::{BackboneFlops, Flops, attention, cells, feed_forward, heads, wide};
use crate::position::{MAX_LEARNED_CELLS, PositionKind};
use crate::postprocess::ScoreActivation;
use crate::weights::{StateDict, TrainingArgs, WeightsError};
pub use config::DetrConfig;
pub use mask_head::{MHAttentionMap, MaskHeadSmallConv, MaskTrace};
pub use model::{Detr, DetrTrace};

impl Family for DetrConfig {
    type Model = Detr;

    fn kind() -> &'static str {
        "detr"
    }

    fn presets() -> &'static [(&'static str, &'static str)] {
        &[
            ("detr-r50", include_str!("../../../../../configs/models/detr-r50.toml")),
            ("detr-r50-dc5", include_str!("../../../../../configs/models/detr-r50-dc5.toml")),
            ("detr-r101", include_str!("../../../../../configs/models/detr-r101.toml")),
            ("detr-r101-dc5", include_str!("../../../../../configs/models/detr-r101-dc5.toml")),
            ("detr-r18", include_str!("../../../../../configs/models/detr-r18.toml")),
            table_transformer::PRESETS[0],
            table_transformer::PRESETS[1],
            (
                "detr-r50-panoptic",
                include_str!("../../../../../configs/models/detr-r50-panoptic.toml"),
            ),
            (
                "detr-r50-dc5-panoptic",
                include_str!("../../../../../configs/models/detr-r50-dc5-panoptic.toml"),
            ),
            (
                "detr-r101-panoptic",
                include_str!("../../../../../configs/models/detr-r101-panoptic.toml"),
            ),
            ("detr-tiny-masks", include_str!("../../../../../configs/models/detr-tiny-masks.toml")),
        ]
    }

    fn infer(state: &StateDict, args: TrainingArgs) -> Option<Result<Self, String>> {
        infer::infer(state, args).map(Ok)
    }

    fn hugging_face() -> Option<HuggingFaceNames> {
        Some(HuggingFaceNames {
            model_type: "detr",
            class: "DetrForObjectDetection",
            others: &[(table_transformer::MODEL_TYPE, table_transformer::CLASS)],
            marker: None,
            cross_attention: "multihead_attn",
            decoder_norms: ["norm1", "norm2"],
            translate: |name| {
                let norm = name.strip_prefix("encoder.layernorm.")?;
                Some(format!("transformer.encoder.norm.{norm}"))
            },
            translate_head: hugging_face::mask_head_name,
        })
    }

    fn read_hugging_face(
        folder: &Path,
        state: StateDict,
        args: TrainingArgs,
    ) -> Result<(Self, StateDict), WeightsError> {
        let mut config = Self::infer_from_folder(folder, &state, args)?;
        table_transformer::check_norms(&mut config, folder)?;
        Ok((config, state))
    }

    fn published(&self) -> Option<Published> {
        table_transformer::published(self)
    }

    fn init(&self, device: &Device) -> Detr {
        Detr::new(self, device)
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
        ScoreActivation::Softmax
    }

    fn max_image_side(&self) -> Option<u32> {
        let [.., stride] = self.backbone.strides();
        (self.position_embedding == PositionKind::Learned).then(|| MAX_LEARNED_CELLS * stride)
    }

    fn flops(&self, backbone: &BackboneFlops) -> Flops {
        let [d, q, f] = [self.hidden_dim, self.num_queries, self.dim_feedforward].map(wide);
        let [encoders, decoders] = [self.enc_layers, self.dec_layers].map(wide);
        let s = cells(backbone.sizes[3]);
        let decoder_width = self.dec_dim_feedforward.map_or(f, wide);
        Flops {
            backbone: backbone.cost,
            projection: s * backbone.channels[3] * d,
            encoder: encoders * (attention(s, s, d) + feed_forward(s, d, f)),
            decoder: decoders
                * (attention(q, q, d) + attention(q, s, d) + feed_forward(q, d, decoder_width)),
            heads: decoders * heads(q, d, wide(self.num_classes) + 1),
        }
    }

    fn training_recipe(&self) -> TrainingRecipe {
        let frozen = self.backbone.frozen().iter().map(|name| format!("backbone.0.body.{name}"));
        TrainingRecipe {
            lr: 1e-4,
            weight_decay: 1e-4,
            frozen: frozen.collect(),
            // The learned positions are `backbone.1`, and train at the backbone's rate, too.
            groups: vec![ParameterGroup {
                name: "backbone",
                patterns: vec!["backbone"],
                rate: LearningRate::Absolute(1e-5),
            }],
        }
    }

    fn describe(&self) -> String {
        format!(
            "a DETR of width {} with {} encoder and {} decoder layers{}",
            self.hidden_dim,
            self.enc_layers,
            self.dec_layers,
            if self.masks { " and a mask head" } else { "" }
        )
    }
}
