//! Group 03: the four feature maps of every backbone, as trained and folded, with their masks.

use detr_model::backbone::resnet::ResNetConfig;
use detr_model::backbone::{BackboneBase, BackboneConfig, FeatureMap};
use detr_model::nested::resize_mask;

use crate::backends::Bench;
use crate::case::{Case, Failures};

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    let arch = case.config("arch").as_str().expect("an architecture");
    let depth = arch.trim_start_matches("resnet").parse().expect("a depth");
    let mut config = ResNetConfig::torchvision(depth).expect("a known depth");
    config.dilation = case.config("dilation").as_bool().unwrap_or(false);

    let prefix = case.config("weight_prefix").as_str().unwrap_or_default().to_owned();
    let backbone = BackboneBase { body: BackboneConfig::from(config).init(&bench.device) };
    let body = case.recipe_weights(backbone, &prefix).body;
    let images = case.images(&bench.device);
    for body in [body.clone(), body.fold()] {
        for (stage, FeatureMap { map, .. }) in body.forward(&images).into_iter().enumerate() {
            let [_, _, h, w] = map.dims();
            let mask = images.padding.mask().map(|mask| resize_mask(mask, [h, w]));
            failures.mask(case, &format!("mask{}", stage + 1), mask);
            failures.tensor(case, bench.slack, &format!("layer{}", stage + 1), map);
        }
    }
    failures
}
