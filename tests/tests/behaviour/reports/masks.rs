//! Masks and panoptic predictions: models of both namings, every output, and requests that cannot be met.

use std::path::Path;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use detr_loss::{MaskPredictions, Predictions, SetCriterion, Target, TargetMasks, Targets};
use detr_model::NestedTensor;
use detr_model::nested::Padding;
use detr_model::weights::{Checkpoint, recipe_image};
use serde_json::{Value, json};

use crate::support::images::{picture, png};
use crate::support::weights::Safetensors;
use crate::support::{detr, detr_infer, folder_with, golden, names_in};

/// The same weights as transformers writes them, and as it has them in memory.
const NAMINGS: [&str; 2] = ["hf_detr_segm_tiny", "hf_detr_segm_tiny_v5"];

/// Makes a folder with two pictures of different sizes.
fn pictures() -> tempfile::TempDir {
    folder_with([("1.png", png(picture(3, 90, 60))), ("2.png", png(picture(4, 61, 75)))])
}

/// Runs a model with masks on the pictures, with all answers.
fn run(folder: &Path, model: &Path, args: &[&str]) -> crate::support::Outcome {
    let common = ["1.png", "2.png", "--threshold", "0", "--model"];
    detr_infer(common).arg(model).args(args).quick().inside(folder).run()
}

/// Reads the lengths of runs of a compressed code, as COCO's tools do.
fn runs(code: &str) -> Vec<i64> {
    let mut counts: Vec<i64> = Vec::new();
    let mut bytes = code.bytes().map(|byte| i64::from(byte) - 48).peekable();
    while bytes.peek().is_some() {
        let (mut value, mut shift) = (0, 0);
        loop {
            let digit = bytes.next().unwrap();
            value |= (digit & 0x1f) << shift;
            shift += 5;
            if digit & 0x20 == 0 {
                if digit & 0x10 != 0 {
                    value |= -1 << shift;
                }
                break;
            }
        }
        if counts.len() > 2 {
            value += counts[counts.len() - 2];
        }
        counts.push(value);
    }
    counts
}

#[test]
fn both_namings_and_our_folder_give_the_same_masks() {
    let folder = pictures();
    let converted = folder.path().join("ours");
    let mut found = Vec::new();
    for name in NAMINGS {
        let model = golden(name);
        let inspected = detr(["models", "inspect", "--json"]).arg(&model).run().expect(0).json();
        assert_eq!(inspected["architecture"]["masks"], json!(true), "{name}");
        found.push(run(folder.path(), &model, &["--json", "--masks"]).expect(0).json());
        std::fs::remove_dir_all(&converted).ok();
        detr(["models", "convert"]).arg(&model).arg(&converted).run().expect(0);
        found.push(run(folder.path(), &converted, &["--json", "--masks"]).expect(0).json());
    }
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    for image in found[0].as_array().unwrap() {
        let (height, width) = (&image["height"], &image["width"]);
        for detection in image["detections"].as_array().unwrap() {
            let mask = &detection["mask"];
            assert_eq!(mask["size"], json!([height, width]));
            let pixels = height.as_i64().unwrap() * width.as_i64().unwrap();
            assert_eq!(runs(mask["counts"].as_str().unwrap()).iter().sum::<i64>(), pixels);
        }
    }
    // The reference's model of masks wraps its detector.
    let bytes = std::fs::read(converted.join("model.safetensors")).unwrap();
    let names = Safetensors::parse(&bytes).names();
    assert!(names.contains(&"detr.class_embed.weight".to_owned()), "{names:?}");
    assert!(names.contains(&"mask_head.lay1.weight".to_owned()));
    let own = ["detr.", "bbox_attention.", "mask_head."];
    assert!(names.iter().all(|name| own.iter().any(|start| name.starts_with(start))), "{names:?}");
}

#[test]
fn masks_are_left_out_of_json_until_they_are_asked_for() {
    let folder = pictures();
    let model = golden(NAMINGS[0]);
    let args = ["--jsonl", "--save", "drawn", "--format", "coco", "--output", "o.json"];
    let outcome = run(folder.path(), &model, &args).expect(0);
    assert!(!outcome.stdout.contains("\"mask\""));
    let objects: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("o.json")).unwrap()).unwrap();
    assert!(!objects.as_array().unwrap().is_empty());
    for object in objects.as_array().unwrap() {
        let size = if object["image_id"] == 1 { json!([60, 90]) } else { json!([75, 61]) };
        assert_eq!(object["segmentation"]["size"], size);
    }
    assert_eq!(names_in(&folder.path().join("drawn")), ["1.png", "2.png"]);
}

#[test]
fn panoptic_pictures_and_their_json_agree() {
    let folder = pictures();
    let model = golden(NAMINGS[1]);
    for (extra, first) in [(&[][..], 1), (&["--reference-ids"][..], 0)] {
        let args = [&["--format", "panoptic", "--output", "o", "--save", "drawn", "--json"], extra];
        let printed = run(folder.path(), &model, &args.concat()).expect(0).json();
        let output = folder.path().join("o");
        let json = std::fs::read(output.join("panoptic.json")).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        for (annotation, printed) in
            json["annotations"].as_array().unwrap().iter().zip(printed.as_array().unwrap())
        {
            let path = output.join("panoptic").join(annotation["file_name"].as_str().unwrap());
            let png = image::open(path).unwrap().into_rgb8();
            assert_eq!(u64::from(png.width()), printed["width"].as_u64().unwrap());
            let mut areas = std::collections::BTreeMap::new();
            for &image::Rgb([r, g, b]) in png.pixels() {
                *areas.entry(u32::from_le_bytes([r, g, b, 0])).or_insert(0u64) += 1;
            }
            let stated: std::collections::BTreeMap<u32, u64> = annotation["segments_info"]
                .as_array()
                .unwrap()
                .iter()
                .map(|info| {
                    let id = u32::try_from(info["id"].as_u64().unwrap()).unwrap();
                    (id, info["area"].as_u64().unwrap())
                })
                .collect();
            assert_eq!(areas, stated, "every id of either side is on the other");
            assert_eq!(stated.keys().next(), Some(&first));
            let segments = printed["segments"].as_array().unwrap();
            assert_eq!(segments.len(), stated.len());
        }
        let drawn = image::open(folder.path().join("drawn/1.png")).unwrap();
        assert!(drawn.width() == 90 && drawn.height() > 60, "a legend below the image");
    }
    // Nothing kept: everything is void.
    let args = ["--panoptic", "--threshold", "1", "--jsonl", "--model"];
    let outcome = detr_infer(["1.png"]).args(args).arg(&model).quick().inside(folder.path()).run();
    assert_eq!(outcome.expect(0).json_lines()[0]["segments"], json!([]));
}

#[test]
fn requests_that_a_model_or_a_format_cannot_meet_are_refused() {
    let folder = pictures();
    let boxes = golden("hf_detr_tiny");
    let masks = golden(NAMINGS[0]);
    for (model, args, message) in [
        (&boxes, &["--panoptic"][..], "the model has no mask head"),
        (&boxes, &["--format", "panoptic", "--output", "o"], "the model has no mask head"),
        (&boxes, &["--masks", "--json"], "the model has no mask head"),
        (&masks, &["--masks"], "the lines for people have no masks"),
        (&masks, &["--reference-ids"], "only --panoptic and --format panoptic"),
        (&masks, &["--panoptic", "--classes", "LABEL_1"], "--classes"),
        (&masks, &["--panoptic", "--batch-size", "2"], "--batch-size"),
        (&masks, &["--panoptic", "--max-detections", "7"], "--max-detections"),
        (&masks, &["--panoptic", "--masks", "--json"], "--masks"),
        (&masks, &["--panoptic", "--format", "coco", "--output", "o"], "--format coco"),
        (&masks, &["--format", "panoptic", "--output", "1.png"], "is a file"),
    ] {
        let outcome = run(folder.path(), model, args);
        assert_ne!(outcome.code, 0, "{args:?}");
        assert!(outcome.stderr.contains(message), "{args:?}: {}", outcome.stderr);
    }
    assert_eq!(names_in(folder.path()), ["1.png", "2.png"], "nothing half-written");
}

#[test]
fn a_mask_head_that_does_not_fit_is_named() {
    let original = std::fs::read(golden("hf_detr_segm_tiny/model.safetensors")).unwrap();
    let config = std::fs::read(golden("hf_detr_segm_tiny/config.json")).unwrap();
    let parsed = Safetensors::parse(&original);
    let without = |gone: &str| parsed.renamed(|name| (name != gone).then(|| name.to_owned()));
    let other_backbone = {
        let mut other = parsed.clone();
        let shape = other.header["mask_head.adapter1.weight"]["shape"].clone();
        let [outputs, inputs, ..] = [0, 1].map(|axis| shape[axis].as_u64().unwrap());
        other = other.with("mask_head.adapter1.weight", "shape", json!([inputs, outputs, 1, 1]));
        other
    };
    for (weights, message) in [
        (without("mask_head.gn3.bias"), "mask_head.gn3.bias"),
        (without("bbox_attention.k_linear.weight"), "bbox_attention.k_linear.weight"),
        (without("detr.class_labels_classifier.bias"), "class_embed.bias"),
        (parsed.clone().with_copy("mask_head.lay1.bias", "mask_head.lay6.bias"), "mask_head.lay6"),
        (
            parsed.clone().with_copy("mask_head.lay1.bias", "mask_head.conv1.conv.bias"),
            "both stand for mask_head.lay1.bias",
        ),
        (other_backbone, "mask_head.adapter1.weight"),
    ] {
        let folder =
            folder_with([("model.safetensors", weights.bytes()), ("config.json", config.clone())]);
        let args = ["models", "convert"];
        let output = folder.path().join("out");
        let outcome = detr(args).arg(folder.path()).arg(&output).run().expect(3);
        assert!(outcome.stderr.contains(message), "{message}: {}", outcome.stderr);
        assert!(!output.exists(), "nothing half-written");
    }
}

/// Makes a small DETR with a mask head, and two images of different sizes that are padded to one
/// batch.
fn model_and_images(device: &Device) -> (detr_model::Model, NestedTensor) {
    let checkpoint = Checkpoint::open(&golden(NAMINGS[0]), None).unwrap();
    let model = checkpoint.load(device, FloatDType::F32).unwrap();
    let [h, w] = [64, 96];
    let pixels: Vec<f32> = [1, 2].into_iter().flat_map(|seed| recipe_image(seed, h, w)).collect();
    let pixels = Tensor::from_data(TensorData::new(pixels, [2, 3, h, w]), (device, DType::F32));
    let padding = (0..2 * h * w).map(|at| at >= h * w && (at % w >= 70 || at / w % h >= 50));
    let padding = TensorData::new(padding.collect::<Vec<bool>>(), [2, h, w]);
    let padding = Padding::Mask(Tensor::from_data(padding, device));
    (model, NestedTensor { pixels, padding })
}

#[test]
fn losses_of_matched_masks_are_those_of_all_masks() {
    let device = Device::flex().autodiff();
    let (model, images) = model_and_images(&device);
    let target = |[height, width]: [usize; 2], count: usize| Target {
        labels: (0..count).collect(),
        boxes: (0u8..)
            .take(count)
            .map(|i| [0.3 + 0.1 * f32::from(i), 0.5, 0.4, 0.3].into())
            .collect(),
        masks: Some(TargetMasks {
            size: [height, width],
            bits: (0..count * height * width).map(|at| u8::from(at % 7 < 3)).collect(),
        }),
    };
    let targets = Targets::new(vec![target([64, 96], 2), target([50, 70], 3)], 7, &device).unwrap();
    let mut output = model.forward(images);
    let features = output.mask_features.take().unwrap();
    let queries: Vec<usize> = (0..features.hidden.dims()[1]).collect();
    let all: Vec<Tensor<3>> =
        (0..2).map(|image| model.masks(&features, image, &queries).unwrap()).collect();
    let mut predictions = Predictions::from(output);
    let criterion = SetCriterion::detr();
    let matches = criterion.matches(&predictions, &targets).unwrap();
    let losses = |predictions: &Predictions| {
        let losses = criterion.losses(predictions, &targets, &matches, 5.0);
        let (_, named) = losses.read().unwrap();
        let masks =
            named.into_iter().filter(|(name, _)| ["loss_mask", "loss_dice"].contains(&name.kind));
        (masks.map(|(_, value)| value).collect::<Vec<f32>>(), losses)
    };
    predictions.groups[0].masks = Some(MaskPredictions::All(Tensor::stack(all, 0)));
    let (expected, _) = losses(&predictions);
    predictions.add_masks(&model, &features, &matches, &targets);
    let (found, graph) = losses(&predictions);
    assert_eq!(found.len(), 2);
    for (found, expected) in found.iter().zip(&expected) {
        assert!(*found > 0.0 && (found - expected).abs() < 1e-5, "{found} {expected}");
    }
    // The head and the backbone's maps that it looks at are trained.
    let gradients = graph.total.backward();
    let detr_model::Model::Detr(model) = model else { panic!("a DETR") };
    let head = model.mask_head.unwrap();
    for weight in [&head.lay1.weight, &head.adapter3.weight, &head.out_lay.weight] {
        let gradient = weight.val().grad(&gradients).unwrap();
        assert!(gradient.abs().sum().into_scalar::<f32>() > 0.0);
    }
}

#[test]
fn a_mask_does_not_depend_on_what_else_is_in_the_batch() {
    let device = Device::flex();
    let (model, images) = model_and_images(&device);
    let [h, w] = [50, 70];
    let alone = images.pixels.clone().slice([1..2, 0..3, 0..h, 0..w]);
    // Outside the second image there is nothing that may be looked at.
    let images = NestedTensor { padding: Padding::Sizes(vec![[64, 96], [h, w]]), ..images };
    let alone = NestedTensor { pixels: alone, padding: Padding::None };
    let masks = |images: NestedTensor, image: usize| {
        let features = model.forward(images).mask_features.unwrap();
        model.masks(&features, image, &[4, 0]).unwrap()
    };
    let (together, alone) = (masks(images, 1), masks(alone, 0));
    assert_eq!(together.dims(), alone.dims());
    let difference = (together - alone).abs().max().into_scalar::<f32>();
    assert!(difference < 2e-5, "{difference}");
}

/// Makes a small Deformable DETR with masks, and the images of [`model_and_images`].
fn deformable_and_images(device: &Device) -> (detr_model::Model, NestedTensor) {
    let config = detr_model::ModelConfig::preset("deformable-detr-tiny-masks").unwrap();
    let model = Checkpoint::recipe(&config, 5, device).load(device, FloatDType::F32).unwrap();
    (model, model_and_images(device).1)
}

#[test]
fn every_layer_of_a_deformable_detr_learns_masks() {
    let device = Device::flex().autodiff();
    let (model, images) = deformable_and_images(&device);
    let target = |[height, width]: [usize; 2], count: usize| Target {
        labels: (0..count).collect(),
        boxes: (0u8..)
            .take(count)
            .map(|i| [0.3 + 0.1 * f32::from(i), 0.5, 0.4, 0.3].into())
            .collect(),
        masks: Some(TargetMasks {
            size: [height, width],
            bits: (0..count * height * width).map(|at| u8::from(at % 7 < 3)).collect(),
        }),
    };
    let targets =
        Targets::new(vec![target([64, 96], 2), target([50, 70], 0)], 91, &device).unwrap();
    let mut output = model.forward(images);
    let features = output.mask_features.take().unwrap();
    assert_eq!(features.layers(), 3);
    let mut predictions = Predictions::from(output);
    for (aux_loss, layers) in [(true, 3), (false, 1)] {
        let criterion = SetCriterion { aux_loss, ..SetCriterion::deformable_detr_with_masks() };
        let matches = criterion.matches(&predictions, &targets).unwrap();
        predictions.add_masks(&model, &features, &matches, &targets);
        let losses = criterion.losses(&predictions, &targets, &matches, 2.0);
        let (_, named) = losses.read().unwrap();
        for kind in ["loss_mask", "loss_dice"] {
            let of_kind: Vec<_> = named.iter().filter(|(name, _)| name.kind == kind).collect();
            assert_eq!(of_kind.len(), layers, "{kind}");
            assert!(
                of_kind.iter().all(|(_, value)| *value > 0.0 && value.is_finite()),
                "{named:?}"
            );
            assert_eq!(of_kind.last().unwrap().0.to_string(), kind);
        }
        if aux_loss {
            let gradients = losses.total.backward();
            let detr_model::Model::DeformableDetr(model) = &model else { panic!("a family") };
            let head = model.mask_head.as_ref().unwrap();
            let query = &head.query.layers[2].weight;
            let gradient = query.val().grad(&gradients).unwrap();
            assert!(gradient.abs().sum().into_scalar::<f32>() > 0.0);
            for weight in [&head.lateral.0.weight, &head.output.0.weight, &head.pixels.weight] {
                let gradient = weight.val().grad(&gradients).unwrap();
                assert!(gradient.abs().sum().into_scalar::<f32>() > 0.0);
            }
        }
    }
}

#[test]
fn a_mask_of_a_deformable_detr_does_not_depend_on_the_batch_either() {
    let device = Device::flex();
    let (model, images) = deformable_and_images(&device);
    let [h, w] = [50, 70];
    let alone = images.pixels.clone().slice([1..2, 0..3, 0..h, 0..w]);
    let images = NestedTensor { padding: Padding::Sizes(vec![[64, 96], [h, w]]), ..images };
    let alone = NestedTensor { pixels: alone, padding: Padding::None };
    let masks = |images: NestedTensor, image: usize| {
        let features = model.forward(images).mask_features.unwrap();
        model.masks(&features, image, &[4, 0]).unwrap()
    };
    let (together, alone) = (masks(images, 1), masks(alone, 0));
    assert_eq!(together.dims(), [2, 13, 18]);
    assert_eq!(together.dims(), alone.dims());
    let largest = alone.clone().abs().max().into_scalar::<f32>();
    let difference = (together - alone).abs().max().into_scalar::<f32>();
    assert!(difference < 2e-5 * largest.max(1.0), "{difference} {largest}");
}

#[test]
fn a_deformable_detr_with_masks_is_run_and_converted_like_any_other() {
    let folder = pictures();
    let model = "recipe:deformable-detr-tiny-masks@3";
    let args = ["1.png", "2.png", "--threshold", "0", "--json", "--masks", "--model"];
    let run = |model: &str| {
        detr_infer(args).arg(model).quick().inside(folder.path()).run().expect(0).json()
    };
    let found = run(model);
    for image in found.as_array().unwrap() {
        let detections = image["detections"].as_array().unwrap();
        assert!(!detections.is_empty());
        for detection in detections {
            assert_eq!(detection["mask"]["size"], json!([image["height"], image["width"]]));
        }
    }
    let ours = folder.path().join("ours");
    detr(["models", "convert", model]).arg(&ours).run().expect(0);
    assert_eq!(run("ours"), found);
    let names = Safetensors::parse(&std::fs::read(ours.join("model.safetensors")).unwrap()).names();
    assert!(names.contains(&"mask_head.query.layers.2.weight".to_owned()), "{names:?}");
    assert!(names.iter().all(|name| !name.starts_with("detr.")), "{names:?}");
    // Tensors alone show that there are masks.
    let bare = folder.path().join("bare.safetensors");
    std::fs::copy(ours.join("model.safetensors"), &bare).unwrap();
    let inspected = detr(["models", "inspect", "--json"]).arg(&bare).run().expect(0).json();
    assert_eq!(inspected["architecture"]["masks"], json!(true));
    assert_eq!(inspected["architecture"]["kind"], json!("deformable-detr"));
    // Its scores of a query may add up to more than one, so that no class is the best of all.
    let outcome =
        detr_infer(["1.png", "--panoptic", "--model", model]).quick().inside(folder.path());
    let outcome = outcome.run();
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("--panoptic"), "{}", outcome.stderr);
}
