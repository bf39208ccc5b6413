//! Files of Deformable DETR, whose heads stand there several times.

use serde_json::json;

use super::{Bad, read};
use crate::support::images::truncated;
use crate::support::weights::Safetensors;
use crate::support::{detr, golden};

use super::super::{check_refused, folder, with_model};

fn shared() -> Safetensors {
    Safetensors::of("deformable_tiny")
}

fn refined() -> Safetensors {
    Safetensors::of("deformable_tiny_refine")
}

/// Returns the file without the tensors whose name starts with one of these.
fn without(file: &Safetensors, parts: &[&str]) -> Vec<u8> {
    let kept = |name: &str| !parts.iter().any(|part| name.starts_with(part));
    file.renamed(|name| kept(name).then(|| name.to_owned())).bytes()
}

pub(super) fn bad() -> Vec<Bad> {
    let zipped = read("deformable_tiny_zip.pth");
    let legacy = read("deformable_tiny_refine_hub_legacy.pth");
    let mut flipped = zipped.clone();
    let at = flipped.len() / 3;
    flipped[at] ^= 0x10;
    let attention = "transformer.decoder.layers.0.cross_attn.attention_weights.weight";
    let bytes = shared().bytes();
    let reshaped =
        |name: &str, shape: [usize; 2]| shared().with(name, "shape", json!(shape)).bytes();
    let stages =
        |name: &str| Some(name.replace("query_embed.weight", "transformer.enc_output.weight"));
    vec![
        ("deformable-cut-50.safetensors", truncated(&bytes, 50), "damaged"),
        ("deformable-cut-50.pth", truncated(&zipped, 50), "damaged"),
        ("deformable-cut-99.pth", truncated(&legacy, 99), "damaged"),
        ("deformable-flipped.pth", flipped, "damaged"),
        (
            "no-class-head.safetensors",
            without(&shared(), &["class_embed"]),
            "a Deformable DETR without class_embed.0.weight",
        ),
        (
            "no-box-head.safetensors",
            without(&shared(), &["bbox_embed"]),
            "bbox_embed.0.layers.0.weight",
        ),
        (
            "no-box-heads.safetensors",
            without(&refined(), &["bbox_embed.1.", "transformer.decoder.bbox_embed.1."]),
            "6 missing:",
        ),
        (
            "no-levels.safetensors",
            without(&shared(), &["transformer.level_embed"]),
            "a Deformable DETR without transformer.level_embed",
        ),
        (
            "no-projection.safetensors",
            without(&shared(), &["input_proj.3."]),
            "has 4 levels, but input_proj has 3",
        ),
        ("no-backbone.safetensors", without(&shared(), &["backbone."]), "backbone.0.body"),
        (
            "half-a-copy.safetensors",
            without(&shared(), &["class_embed.1.bias"]),
            "1 missing:\n  class_embed.1.bias",
        ),
        (
            "half-the-copies.safetensors",
            without(&refined(), &["transformer.decoder.bbox_embed.0."]),
            "6 missing:\n  transformer.decoder.bbox_embed.0.layers.0.bias",
        ),
        (
            "unequal-layers.safetensors",
            shared().with_value("class_embed.1.bias", 7.0).bytes(),
            "class_embed.0.bias and class_embed.1.bias differ",
        ),
        (
            "unequal-copies.safetensors",
            refined().with_value("transformer.decoder.bbox_embed.1.layers.2.bias", 7.0).bytes(),
            "bbox_embed.1.layers.2.bias and transformer.decoder.bbox_embed.1.layers.2.bias differ",
        ),
        (
            "unequal-shapes.safetensors",
            reshaped("bbox_embed.1.layers.2.weight", [32, 4]),
            "bbox_embed.0.layers.2.weight and bbox_embed.1.layers.2.weight differ",
        ),
        (
            "odd-rows.safetensors",
            reshaped(attention, [16, 64]),
            "has 16 rows, no multiple of 8 heads times 4 levels",
        ),
        (
            "turned-queries.safetensors",
            reshaped("query_embed.weight", [64, 9]),
            "query_embed.weight: the model has [64, 64], the file [64, 9]",
        ),
        (
            "no-refinement.safetensors",
            shared().renamed(stages).bytes(),
            "two_stage needs with_box_refine",
        ),
        (
            "deformable-nan.safetensors",
            shared().with_value("transformer.level_embed", f32::NAN).bytes(),
            "NaN or infinite",
        ),
    ]
}

pub(super) fn good() -> Vec<(&'static str, Vec<u8>)> {
    let profiled = shared()
        .with_counter("total_ops")
        .with_counter("class_embed.0.total_params")
        .with_counter("transformer.encoder.layers.0.self_attn.value_proj.total_ops");
    vec![
        ("deformable.pth", read("deformable_tiny_zip.pth")),
        ("deformable-refine.bin", read("deformable_tiny_refine_hub_legacy.pth")),
        ("deformable-half.safetensors", refined().converted("F16").bytes()),
        ("profiled.safetensors", profiled.bytes()),
        ("once.safetensors", without(&shared(), &["class_embed.1.", "bbox_embed.1."])),
        ("decoders.safetensors", without(&refined(), &["bbox_embed."])),
    ]
}

#[test]
fn an_architecture_of_other_stages_says_what_the_file_looks_like() {
    let folder = folder();
    let convert = detr(["models", "convert"]).arg(golden("hf_deformable_detr_tiny_two_stage"));
    convert.arg("converted").inside(folder.path()).run().expect(0);
    let weights = folder.path().join("converted/model.safetensors");
    std::fs::copy(weights, folder.path().join("two-stage.safetensors")).unwrap();
    let refined = golden("deformable_tiny_refine_hub_zip.pth");
    std::fs::copy(refined, folder.path().join("refined.pth")).unwrap();
    std::fs::copy(golden("deformable_tiny_zip.pth"), folder.path().join("shared.pth")).unwrap();
    std::fs::copy(golden("detr_tiny_zip.pth"), folder.path().join("detr.pth")).unwrap();
    for (file, arch, message, kind) in [
        ("two-stage.safetensors", "deformable-detr-tiny", " missing:\n", "a two-stage Deformable"),
        ("two-stage.safetensors", "detr-r50", " unexpected:\n", "a two-stage Deformable DETR"),
        ("refined.pth", "deformable-detr-r50", "differ, but stand for one tensor", "refinement"),
        ("shared.pth", "deformable-detr-r50-refine", " missing:\n", "without box refinement"),
        ("shared.pth", "deformable-detr-r50-two-stage", "  query_embed.weight\n", "without box"),
        ("detr.pth", "deformable-detr-tiny", " missing:\n", "a DETR of width 32"),
    ] {
        let outcome = with_model(folder.path(), file).args(["--arch", arch]).run();
        check_refused(&format!("{file} {arch}"), folder.path(), &outcome, 3, message);
        let hint = outcome.stderr.lines().last().unwrap();
        assert!(hint.starts_with("hint: the tensors look like "), "{hint}");
        assert!(hint.contains(kind) && hint.ends_with("leave out --arch"), "{hint}");
    }
}

#[test]
fn what_no_tensor_shows_is_noted() {
    let folder = folder();
    let convert = |from: &str, to: &str| {
        let run = detr(["models", "convert"]).arg(golden(from)).arg("converted");
        run.arg("--force").inside(folder.path()).run().expect(0);
        std::fs::copy(folder.path().join("converted/model.safetensors"), folder.path().join(to))
            .unwrap();
    };
    convert("hf_deformable_detr_tiny", "r50_dc5.safetensors");
    convert("hf_deformable_detr_tiny_two_stage", "dc5_two_stage.safetensors");
    let refined = read("deformable_tiny_refine_hub_zip.pth");
    std::fs::write(folder.path().join("refined.pth"), refined).unwrap();
    for (file, note, dilated) in [
        ("refined.pth", "8 attention heads assumed, and so 1 (encoder) and 1 (decoder)", false),
        // Basic blocks cannot be dilated, whatever the name says.
        ("dc5_two_stage.safetensors", "300 queries assumed", false),
        ("r50_dc5.safetensors", "dilated C5 assumed from the file's name", true),
    ] {
        let outcome = detr(["models", "inspect", file]).inside(folder.path()).run().expect(0);
        assert!(outcome.stdout.contains(note), "{}", outcome.stdout);
        let line = format!("dilation = {dilated}");
        assert!(outcome.stdout.lines().any(|found| found == line), "{}", outcome.stdout);
    }
}
