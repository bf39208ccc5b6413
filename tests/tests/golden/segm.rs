//! Group 06: DETR's mask head end to end with its intermediate results, and both post-processings of crafted masks,
//! pixel for pixel.

use burn::tensor::{FloatDType, Tensor};
use detr_model::postprocess::{HostMasks, HostOutput, MaskSizes, Segments};
use detr_model::weights::Checkpoint;
use detr_model::{Detr, DetrConfig, Model};
use detr_types::{ImageSize, Mask};
use serde_json::{Value, json};

use crate::backends::Bench;
use crate::case::{Case, Failures, index};
use crate::detr;

/// Share of pixels that may be on the other side of the threshold, where the case says so.
const FLIPS: f64 = 1e-3;

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    match case.name.as_str() {
        "postprocess_segm" => segm(case, &mut failures),
        "postprocess_panoptic" => panoptic(case, &mut failures),
        _ if case.config("args").is_object() => forward(case, bench, &mut failures),
        _ => return Failures::unhandled(),
    }
    failures
}

fn forward(case: &Case, bench: &Bench, failures: &mut Failures) {
    let args = case.config("args");
    // Things and stuff; the numbers are the reference's.
    let num_classes = if args["dataset_file"] == "coco_panoptic" { 250 } else { 91 };
    let config = DetrConfig { num_classes, masks: true, ..detr::config(args) };
    let seed = case.number("weight_seed") as u64;
    let checkpoint = Checkpoint::recipe(&config.into(), seed, &bench.device);
    let Model::Detr(model) =
        checkpoint.load(&bench.device, FloatDType::F32).expect("recipe weights fit")
    else {
        return failures.fail("not a DETR".into());
    };
    compare(case, bench, failures, &model);
    compare(case, bench, failures, &model.fold());
}

/// Compares predictions, masks of all queries, and everything between them.
fn compare(case: &Case, bench: &Bench, failures: &mut Failures, model: &Detr) {
    let slack = bench.slack;
    let trace = model.transform(model.extract(case.images(&bench.device)));
    let features = trace.output.mask_features.clone().expect("a mask head");
    let [_, d, h, w] = trace.projected.dims();
    let [b, q, _] = features.hidden.dims();
    let memory = trace.memory.swap_dims(1, 2).reshape([b, d, h, w]);
    failures.tensor(case, slack, "memory", memory);
    failures.tensor(case, slack, "hs_last", features.hidden.clone());
    let layers = trace.hidden.dims()[0];
    let last = |t: &Tensor<4>| t.clone().slice_dim(0, layers - 1..layers).squeeze_dim::<3>(0);
    failures.tensor(case, slack, "pred_logits", last(&trace.output.pred_logits));
    failures.tensor(case, slack, "pred_boxes", last(&trace.output.pred_boxes));

    let queries: Vec<usize> = (0..q).collect();
    let traces: Vec<_> = (0..b)
        .map(|image| model.trace_masks(&features, image, &queries).expect("a mask head"))
        .collect();
    let attention = traces.iter().map(|trace| trace.attention.clone()).collect();
    failures.tensor(case, slack, "bbox_mask", Tensor::stack::<5>(attention, 0));
    for (index, name) in [(0, "gn1"), (2, "gn3"), (4, "gn5")] {
        let norms = traces.iter().map(|trace| trace.norms[index].clone()).collect();
        failures.tensor(case, slack, name, Tensor::cat(norms, 0));
    }
    let masks: Vec<Tensor<3>> = traces.iter().map(|trace| trace.masks.clone()).collect();
    failures.tensor(case, slack, "pred_masks", Tensor::stack::<4>(masks.clone(), 0));
    let one = |image: usize, query: usize| {
        let mask = masks[image].clone().slice_dim(0, query..=query);
        mask.squeeze_dim::<2>(0)
    };
    failures.tensor(case, slack, "pred_masks_b0_q0", one(0, 0));
    failures.tensor(case, slack, "pred_masks_blast_qlast", one(b - 1, q - 1));

    // Masks of queries asked for in blocks and in any order equal those of all queries together.
    let some: Vec<usize> = queries.iter().rev().step_by(3).copied().collect();
    let found = model.masks(&features, b - 1, &some).expect("a mask head");
    for (index, &query) in some.iter().enumerate() {
        let found = found.clone().slice_dim(0, index..=index).squeeze_dim::<2>(0);
        let difference = (found - one(b - 1, query)).abs().max().into_scalar::<f32>();
        let atol = case.atol("pred_masks") * slack;
        failures.check(f64::from(difference) <= atol, || {
            format!("query {query} by itself differs by {difference}")
        });
    }
    shown(case, failures, masks);
}

/// Compares the pixels of every query after post-processing.
fn shown(case: &Case, failures: &mut Failures, masks: Vec<Tensor<3>>) {
    let processed = detr::target_sizes(case.config("sizes"));
    let originals = detr::target_sizes(&case.json["postprocess_segm_orig_sizes_hw"]);
    let padded = largest(&processed);
    let masks = HostMasks::read(masks).expect("the device works");
    for (image, masks) in masks.iter().enumerate() {
        let sizes = MaskSizes { padded, processed: processed[image], original: originals[image] };
        let found = masks.binary(sizes);
        #[allow(clippy::cast_precision_loss)] // pixels
        let pixels = originals[image].pixels() as f64;
        let name = format!("segm{image}.area_per_query");
        failures.used(&name);
        let expected = &case.tensors[&name].values;
        failures.check(expected.len() == found.len(), || format!("{name}: {}", found.len()));
        for (query, (mask, &expected)) in found.iter().zip(expected).enumerate() {
            #[allow(clippy::cast_precision_loss)] // pixels
            let area = mask.area() as f64;
            failures.check((area - expected).abs() <= FLIPS * pixels, || {
                format!("{name}: query {query} has {area} pixels, expected {expected}")
            });
        }
        let name = format!("segm{image}.mask_q0_packed");
        failures.used(&name);
        let bytes = &case.tensors[&name].values;
        let bit = |at: usize| (index(bytes[at / 8]) >> (7 - at % 8)) & 1;
        let wrong =
            (0..).zip(&found[0].bits).filter(|&(at, &found)| usize::from(found) != bit(at)).count();
        failures.check(wrong as f64 <= FLIPS * pixels, || format!("{name}: {wrong} pixels differ"));
    }
}

/// `PostProcessSegm` of crafted masks.
fn segm(case: &Case, failures: &mut Failures) {
    let processed = detr::target_sizes(case.config("sizes_hw"));
    let originals = detr::target_sizes(case.config("orig_hw"));
    let padded = largest(&processed);
    failures.used("pred_masks");
    for (image, (masks, &processed)) in images(case).into_iter().zip(&processed).enumerate() {
        let original = originals[image];
        let found = masks.binary(MaskSizes { padded, processed, original });
        let shape = [found.len(), 1, original.height as usize, original.width as usize];
        let values: Vec<f64> =
            found.iter().flat_map(|mask| &mask.bits).map(|&b| b.into()).collect();
        failures.values(case, 1.0, &format!("masks{image}"), &shape, &values);
        // The code of a mask is the mask.
        let again = found.iter().all(|mask: &Mask| mask.to_rle().to_mask().as_ref() == Ok(mask));
        failures.check(again, || format!("image {image}: a run-length code differs"));
    }
}

/// `PostProcessPanoptic` of crafted masks, at the original and at the processed size.
fn panoptic(case: &Case, failures: &mut Failures) {
    let [b, q, columns] = [0, 1, 2].map(|axis| case.tensors["pred_logits"].shape[axis]);
    let floats = |name: &str| -> Vec<f32> {
        #[allow(clippy::cast_possible_truncation)] // written as f32
        case.tensors[name].values.iter().map(|&value| value as f32).collect()
    };
    let host = HostOutput {
        queries: q,
        columns,
        logits: floats("pred_logits"),
        boxes: floats("pred_boxes"),
    };
    for name in ["pred_logits", "pred_boxes", "pred_masks"] {
        failures.used(name);
    }
    #[allow(clippy::cast_possible_truncation)] // written as f32
    let threshold = case.config("threshold").as_f64().expect("a threshold") as f32;
    let kept = host.kept(threshold);
    let processed = detr::target_sizes(case.config("processed_hw"));
    let originals = detr::target_sizes(case.config("target_hw"));
    let padded = largest(&processed);
    for (image, all) in images(case).into_iter().enumerate().take(b) {
        let [h, w] = all.size;
        let masks = kept[image].iter().flat_map(|kept| &all.logits[kept.query * h * w..][..h * w]);
        let masks = HostMasks { size: all.size, logits: masks.copied().collect() };
        let processed = processed[image];
        for (prefix, original) in [("", originals[image]), ("same_size.", processed)] {
            let sizes = MaskSizes { padded, processed, original };
            let found = Segments::new(&masks, &kept[image], sizes, |label| label > 90);
            let name = format!("{prefix}seg{image}");
            let shape = [original.height as usize, original.width as usize];
            let ids: Vec<f64> = found.of_pixel.iter().map(|&id| id.into()).collect();
            failures.values(case, 1.0, &format!("{name}.ids"), &shape, &ids);
            let segments: Vec<Value> = found
                .segments
                .iter()
                .enumerate()
                .map(|(id, segment)| {
                    let (label, area) = (segment.label, segment.area);
                    json!({"id": id, "isthing": label <= 90, "category_id": label, "area": area})
                })
                .collect();
            let expected = &case.json[format!("{name}.segments_info")];
            failures.check(*expected == json!(segments), || format!("{name}: {segments:?}"));
            // Our ids start at 1, and stay 0 where nothing was found.
            let first = u32::from(!found.segments.is_empty());
            failures.check(found.ids().iter().min() == Some(&first), || format!("{name}: ids"));
        }
    }
}

/// Reads the stored masks of every image.
fn images(case: &Case) -> Vec<HostMasks> {
    let stored = &case.tensors["pred_masks"];
    let [.., h, w] = stored.shape[..] else { panic!("masks have a height and a width") };
    let of_image = stored.values.len() / stored.shape[0];
    #[allow(clippy::cast_possible_truncation)] // written as f32
    let logits = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    let images = stored.values.chunks_exact(of_image);
    images.map(|values| HostMasks { size: [h, w], logits: logits(values) }).collect()
}

/// Returns the size of a batch of such images.
fn largest(sizes: &[ImageSize]) -> ImageSize {
    let side = |side: fn(&ImageSize) -> u32| sizes.iter().map(side).max().unwrap_or(0);
    ImageSize::new(side(|size| size.height), side(|size| size.width))
}
