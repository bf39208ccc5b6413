//! Folders of Deformable DETR: settings that contradict the weights, or that we do not have.

use serde_json::json;

use super::{Case, card, check, config, copied, weights};
use crate::support::weights::Safetensors;
use crate::support::{detr, golden};

use super::super::with_model;

fn one_stage() -> Vec<Case> {
    vec![
        (
            "other heads",
            |f| config(f, "decoder_attention_heads", json!(8)),
            "encoder_attention_heads is 4 and decoder_attention_heads 8, expected the same",
        ),
        (
            "no heads",
            |f| {
                config(f, "encoder_attention_heads", json!(0));
                config(f, "decoder_attention_heads", json!(0));
            },
            "no multiple of 0 heads",
        ),
        (
            "odd heads",
            |f| {
                config(f, "encoder_attention_heads", json!(7));
                config(f, "decoder_attention_heads", json!(7));
            },
            "no multiple of 7 heads times 4 levels",
        ),
        (
            "another width",
            |f| config(f, "d_model", json!(64)),
            "d_model is 64, but model.safetensors has 32",
        ),
        ("more layers", |f| config(f, "decoder_layers", json!(6)), "decoder_layers is 6, but"),
        ("other points", |f| config(f, "encoder_n_points", json!(2)), "encoder_n_points is 2, but"),
        ("other levels", |f| config(f, "num_feature_levels", json!(3)), "num_feature_levels is 3"),
        ("other queries", |f| config(f, "num_queries", json!(300)), "num_queries is 300, but"),
        ("another network", |f| config(f, "decoder_ffn_dim", json!(48)), "decoder_ffn_dim is 48"),
        ("negative points", |f| config(f, "decoder_n_points", json!(-4)), "decoder_n_points"),
        ("a word as stage", |f| config(f, "two_stage", json!("yes")), "two_stage"),
        ("a second stage", |f| config(f, "two_stage", json!(true)), "two_stage is true, but"),
        (
            "refinement",
            |f| config(f, "with_box_refine", json!(true)),
            "6 missing:\n  bbox_embed.1.layers.0.weight",
        ),
        (
            "learned positions",
            |f| config(f, "position_embedding_type", json!("learned")),
            "position_embedding_type is `learned`, expected `sine`",
        ),
        ("dilation", |f| config(f, "dilation", json!(true)), "only the backbones of timm"),
        (
            "another stride",
            |f| config(f, "backbone_kwargs", json!({ "output_stride": 8 })),
            "backbone_kwargs.output_stride is 8, expected 16 or 32",
        ),
        ("another activation", |f| config(f, "activation_function", json!("gelu")), "gelu"),
        (
            "a plain DETR",
            |f| config(f, "model_type", json!("detr")),
            "the weights of DetrForObjectDetection were not found",
        ),
        (
            "too few names",
            |f| config(f, "id2label", json!({ "0": "cat" })),
            "id2label does not fit a head of 7 classes",
        ),
        ("cut weights", |f| weights(f, |bytes| bytes[..bytes.len() - 1].to_vec()), "damaged"),
        ("no class head", |f| drop_tensors(f, "class_embed"), "without class_embed.0.weight"),
        (
            "one projection gone",
            |f| drop_tensors(f, "model.decoder.layers.0.self_attn.k_proj.weight"),
            "projections are missing or differ in shape",
        ),
        (
            "no sampling",
            |f| drop_tensors(f, "model.encoder.layers.0.self_attn.sampling_offsets"),
            "hint: config.json and model.safetensors disagree",
        ),
    ]
}

/// Lists faults of a file that has one class head for all layers.
fn refined() -> Vec<Case> {
    vec![(
        "part of a second class head",
        |f| {
            weights(f, |bytes| {
                Safetensors::parse(&bytes)
                    .with_copy("class_embed.0.bias", "class_embed.1.bias")
                    .bytes()
            });
        },
        "1 missing:\n  class_embed.1.weight",
    )]
}

fn two_stages() -> Vec<Case> {
    vec![
        ("one stage", |f| config(f, "two_stage", json!(false)), "two_stage is false, but"),
        (
            "no refinement",
            |f| config(f, "with_box_refine", json!(false)),
            "with_box_refine is false, but model.safetensors has true",
        ),
        (
            "no proposals",
            |f| config(f, "two_stage_num_proposals", json!(0)),
            "num_queries is 0, expected 1 to 10000",
        ),
        (
            "too many proposals",
            |f| config(f, "two_stage_num_proposals", json!(4_000_000_000_u32)),
            "num_queries is 4000000000",
        ),
        (
            "no head for proposals",
            |f| drop_tensors(f, "model.decoder.bbox_embed.2."),
            "bbox_embed.2.layers.0.weight",
        ),
    ]
}

fn artifacts() -> Vec<Case> {
    vec![
        (
            "no refinement",
            |f| {
                card(f, "/architecture/with_box_refine", json!(false));
                card(f, "/architecture/two_stage", json!(false));
            },
            "hint: model.json is not the card of these weights",
        ),
        ("one stage", |f| card(f, "/architecture/two_stage", json!(false)), "unexpected:"),
        ("other points", |f| card(f, "/architecture/dec_n_points", json!(3)), "of another shape:"),
        ("no levels", |f| card(f, "/architecture/num_feature_levels", json!(0)), "is 0, expected"),
        ("many points", |f| card(f, "/architecture/enc_n_points", json!(65)), "enc_n_points is 65"),
        (
            "one layer's worth of heads",
            |f| card(f, "/architecture/dec_layers", json!(64)),
            "missing:",
        ),
        (
            "a changed copy",
            |f| {
                weights(f, |mut bytes| {
                    let file = Safetensors::parse(&bytes);
                    let range = file.range("transformer.decoder.class_embed.0.bias");
                    let data = bytes.len() - file.data.len();
                    bytes[data + range.start] ^= 1;
                    bytes
                });
            },
            "SHA-256",
        ),
    ]
}

fn drop_tensors(folder: &std::path::Path, start: &str) {
    weights(folder, |bytes| {
        let kept = |name: &str| (!name.starts_with(start)).then(|| name.to_owned());
        Safetensors::parse(&bytes).renamed(kept).bytes()
    });
}

#[test]
fn folders_whose_settings_contradict_the_weights_are_refused() {
    check(one_stage(), &golden("hf_deformable_detr_tiny"));
    check(refined(), &golden("hf_deformable_detr_tiny_refine"));
    check(two_stages(), &golden("hf_deformable_detr_tiny_two_stage"));
}

#[test]
fn artifacts_whose_card_contradicts_the_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let convert = detr(["models", "convert"]).arg(golden("hf_deformable_detr_tiny_two_stage"));
    convert.arg(&model).run().expect(0);
    check(artifacts(), &model);
}

#[test]
fn settings_that_are_left_out_follow_from_the_weights() {
    let folder = copied(&golden("hf_deformable_detr_tiny_refine"));
    let model = folder.path().join("model");
    for key in ["d_model", "num_queries", "decoder_layers", "encoder_n_points", "two_stage"] {
        config(&model, key, json!(null));
    }
    with_model(folder.path(), "model").run().expect(0);
}
