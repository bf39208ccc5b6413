//! The demonstration model of the DETR paper (Carion et al. 2020, appendix A.6).
//! This file has the facts of the family; the paper's method is in `model.rs`.

mod config;
mod infer;
mod model;

use burn::tensor::Device;

use super::family::Family;
use super::recipe::{LearningRate, ParameterGroup, TrainingRecipe};
use crate::backbone::BackboneConfig;
use crate::config::ConfigError;
use crate::flops::{BackboneFlops, Flops, attention, cells, feed_forward, wide};
use crate::position::MAX_LEARNED_CELLS;
use crate::postprocess::ScoreActivation;
use crate::weights::{StateDict, TrainingArgs};
pub use config::DetrDemoConfig;
pub use model::DetrDemo;

impl Family for DetrDemoConfig {
    type Model = DetrDemo;

    fn kind() -> &'static str {
        "detr-demo"
    }

    fn presets() -> &'static [(&'static str, &'static str)] {
        &[("detr-demo", include_str!("../../../../../configs/models/detr-demo.toml"))]
    }

    fn infer(state: &StateDict, args: TrainingArgs) -> Option<Result<Self, String>> {
        infer::infer(state, args).map(Ok)
    }

    fn init(&self, device: &Device) -> DetrDemo {
        DetrDemo::new(self, device)
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

    fn nheads(&self) -> usize {
        self.nheads
    }

    fn backbone(&self) -> &BackboneConfig {
        &self.backbone
    }

    fn backbone_prefix(&self) -> &'static str {
        "backbone."
    }

    fn activation(&self) -> ScoreActivation {
        ScoreActivation::Softmax
    }

    fn max_image_side(&self) -> Option<u32> {
        let [.., stride] = self.backbone.strides();
        Some(MAX_LEARNED_CELLS * stride)
    }

    fn knows_padding(&self) -> bool {
        false
    }

    fn flops(&self, backbone: &BackboneFlops) -> Flops {
        let [d, q, f] = [self.hidden_dim, self.num_queries, self.dim_feedforward].map(wide);
        let s = cells(backbone.sizes[3]);
        Flops {
            backbone: backbone.cost,
            projection: s * backbone.channels[3] * d,
            encoder: wide(self.enc_layers) * (attention(s, s, d) + feed_forward(s, d, f)),
            decoder: wide(self.dec_layers)
                * (attention(q, q, d) + attention(q, s, d) + feed_forward(q, d, f)),
            // Linear, of the last layer alone.
            heads: q * d * (wide(self.num_classes) + 1 + 4),
        }
    }

    fn training_recipe(&self) -> TrainingRecipe {
        let frozen = self.backbone.frozen().iter().map(|name| format!("backbone.{name}"));
        TrainingRecipe {
            lr: 1e-4,
            weight_decay: 1e-4,
            frozen: frozen.collect(),
            groups: vec![ParameterGroup {
                name: "backbone",
                patterns: vec!["backbone"],
                rate: LearningRate::Absolute(1e-5),
            }],
        }
    }

    fn describe(&self) -> String {
        "the demonstration model".into()
    }
}
