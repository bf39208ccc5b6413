//! Tests of the presets, of refused configurations, and of counted operations.

use super::*;
use crate::backbone::resnet::{Block, ResNetConfig};
use crate::position::PositionKind;

#[test]
fn every_preset_is_valid_and_says_what_its_name_says() {
    for name in ModelConfig::presets() {
        let config = ModelConfig::preset(name).unwrap();
        assert_eq!(config.backbone().is_dilated(), name.contains("dc5"), "{name}");
        let panoptic = name.ends_with("panoptic");
        assert_eq!(config.has_masks(), panoptic || name.ends_with("masks"), "{name}");
        let classes = match name {
            "table-transformer-detection" => 2,
            "table-transformer-structure" => 6,
            _ if panoptic => 250,
            _ => 91,
        };
        assert_eq!(config.num_classes(), classes, "{name}");
        let published =
            config.published().map(|published| (published.name, published.classes.len()));
        assert_eq!(published, (classes < 91).then_some((name, classes)));
        let depth = name.split('-').find_map(|part| part.strip_prefix('r')?.parse().ok());
        if name.contains("tiny") {
            continue; // a backbone of its own
        }
        let depth = if classes >= 91 { depth.unwrap_or(50) } else { 18 };
        let expected = ResNetConfig::torchvision(depth).unwrap();
        let expected = ResNetConfig { dilation: config.backbone().is_dilated(), ..expected };
        assert_eq!(*config.backbone(), expected.into(), "{name}");
    }
    let error = ModelConfig::preset("detr-r51").unwrap_err().to_string();
    assert!(error.contains("hint: the presets are detr-r50"), "{error}");
}

#[test]
fn impossible_models_are_refused() {
    let text = include_str!("../../../../configs/models/detr-r50.toml");
    for (from, to, message) in [
        ("nheads = 8", "nheads = 7", "multiple of nheads (7)"),
        ("num_queries = 100", "num_queries = 0", "num_queries is 0"),
        ("dec_layers = 6", "dec_layers = -1", "dec_layers: invalid value"),
        ("dec_layers = 6", "decoder_layers = 6", "decoder_layers"),
        ("kind = \"detr\"", "kind = \"yolo\"", "yolo"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        let error = ModelConfig::from_toml(&changed).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn mask_heads_whose_channels_cannot_be_grouped_are_refused() {
    let text = include_str!("../../../../configs/models/detr-r50-panoptic.toml");
    for (hidden_dim, nheads, fits) in [
        (256, 8, true),
        (64, 8, true),
        (128, 8, true),
        (256, 4, false),
        (8, 8, false),
        (192, 8, false),
    ] {
        let changed = text
            .replace("hidden_dim = 256", &format!("hidden_dim = {hidden_dim}"))
            .replace("nheads = 8", &format!("nheads = {nheads}"));
        match ModelConfig::from_toml(&changed) {
            Ok(_) => assert!(fits, "{hidden_dim} {nheads}"),
            Err(error) => {
                assert!(!fits, "{error}");
                assert!(error.to_string().contains("the channels of the mask head"), "{error}");
            }
        }
    }
}

#[test]
fn impossible_deformable_models_are_refused() {
    let text = include_str!("../../../../configs/models/deformable-detr-r50-two-stage.toml");
    for (from, to, message) in [
        ("with_box_refine = true", "with_box_refine = false", "two_stage needs with_box"),
        ("num_feature_levels = 4", "num_feature_levels = 0", "num_feature_levels is 0"),
        ("enc_n_points = 4", "enc_n_points = 0", "enc_n_points is 0, expected 1 to 64"),
        ("hidden_dim = 256", "hidden_dim = 240", "hidden_dim is 240, expected a multiple of 32"),
        ("two_stage = true", "two_stages = true", "two_stages"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        let error = ModelConfig::from_toml(&changed).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn fields_that_are_too_large_together_are_refused() {
    let ModelConfig::Detr(detr) = ModelConfig::preset("detr-r101").unwrap() else {
        panic!("a DETR")
    };
    let error = |config| ModelConfig::Detr(config).validate().unwrap_err().to_string();
    let wide = DetrConfig { num_classes: 100_000, num_queries: 10_000, ..detr.clone() };
    let found = error(wide);
    assert!(found.contains("num_queries * (num_classes + 1) make 6000060000"), "{found}");
    let thick = DetrConfig { hidden_dim: 8192, dim_feedforward: 65_536, ..detr.clone() };
    let found = error(thick);
    assert!(found.starts_with("hidden_dim, dim_feedforward"), "{found}");
    let wide = ResNetConfig { widths: [8192; 4], ..ResNetConfig::torchvision(101).unwrap() };
    let found = error(DetrConfig { backbone: wide.into(), ..detr });
    assert!(found.starts_with("backbone.depths and backbone.widths make"), "{found}");
}

fn tiny_backbone(block: Block) -> BackboneConfig {
    ResNetConfig { block, depths: [1; 4], stem: 2, widths: [2, 3, 5, 7], dilation: false }.into()
}

#[test]
fn a_small_detr_costs_what_it_does_by_hand() {
    let config = ModelConfig::Detr(DetrConfig {
        num_classes: 2,
        num_queries: 3,
        hidden_dim: 4,
        nheads: 2,
        enc_layers: 1,
        dec_layers: 2,
        dim_feedforward: 5,
        dec_dim_feedforward: None,
        dropout: 0.0,
        pre_norm: false,
        position_embedding: PositionKind::Sine,
        masks: false,
        backbone: tiny_backbone(Block::Basic),
    });
    // 33 x 64 gives 17 x 32, then 9 x 16, 5 x 8, 3 x 4 and 2 x 2.
    let flops = config.flops(1, ImageSize::new(33, 64));
    let stem = 17 * 32 * 147 * 2;
    let stages =
        144 * (36 + 36) + 40 * (54 + 81 + 6) + 12 * (135 + 225 + 15) + 4 * (315 + 441 + 35);
    let attention = 4 * 4 * 16 + 2 * 16 * 4;
    let decoder = (4 * 3 * 16 + 2 * 9 * 4) + (14 * 16 + 2 * 12 * 4) + 2 * 3 * 20;
    let expected = Flops {
        backbone: 2 * (stem + stages),
        projection: 2 * 4 * 7 * 4,
        encoder: 2 * (attention + 2 * 4 * 20),
        decoder: 2 * 2 * decoder,
        heads: 2 * 2 * (3 * 4 * 3 + 3 * (16 + 16 + 16)),
    };
    assert_eq!(flops, expected);
    let batch = config.flops(5, ImageSize::new(33, 64));
    assert_eq!(batch.total(), 5 * expected.total());
}

/// Tables 1 of both papers, in 10^9 multiply-adds, means over the first 100 images of val2017, which are
/// about as large as 800x1066.
#[test]
fn published_models_cost_about_what_their_papers_say() {
    for (preset, published) in [
        ("detr-r50", 86.0),
        ("detr-r50-dc5", 187.0),
        ("detr-r101", 152.0),
        ("detr-r101-dc5", 253.0),
        ("deformable-detr-r50-single-scale", 78.0),
        ("deformable-detr-r50-single-scale-dc5", 128.0),
        ("deformable-detr-r50", 173.0),
    ] {
        let config = ModelConfig::preset(preset).unwrap();
        let total = config.flops(1, ImageSize::new(800, 1066)).total();
        #[allow(clippy::cast_precision_loss)] // of some 10^11
        let counted = total as f64 / 2e9;
        let ratio = counted / published;
        assert!((0.9..1.1).contains(&ratio), "{preset}: {counted} for {published}");
    }
}

#[test]
fn the_kinds_of_both_traits_and_of_serde_agree() {
    for name in ModelConfig::presets() {
        let config = ModelConfig::preset(name).unwrap();
        let json = serde_json::to_value(&config).unwrap();
        let read = ModelConfig::read(Some(&json["kind"].as_str().unwrap().into()), {
            let mut table = toml::Table::try_from(&config).unwrap();
            table.remove("kind");
            table
        });
        assert_eq!(read.unwrap(), config, "{name}");
        assert_eq!(serde_json::from_value::<ModelConfig>(json.clone()).unwrap(), config);
        // The kind of a backbone is left out where it is the default, and read where it is there.
        assert!(json["backbone"].get("kind").is_none());
        let mut json = json;
        json["backbone"]["kind"] = "resnet".into();
        assert_eq!(serde_json::from_value::<ModelConfig>(json.clone()).unwrap(), config);
        json["backbone"]["kind"] = "vgg".into();
        let error = serde_json::from_value::<ModelConfig>(json).unwrap_err().to_string();
        assert!(error.contains("kind is `vgg`, expected `resnet`"), "{error}");
    }
}
