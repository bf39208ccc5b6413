//! Group 02: position encodings and the resizing of masks.

use burn::module::Module;
use burn::tensor::{Bool, Tensor, TensorData};
use detr_model::nested::resize_mask;
use detr_model::position::{PositionEmbeddingLearned, PositionEmbeddingSine};

use crate::backends::Bench;
use crate::case::{Case, Failures, index};

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    if case.has("table") {
        mask_resize(case, bench, &mut failures);
        return failures;
    }
    let mask = &case.tensors["mask"];
    let [b, h, w] = mask.shape[..] else { panic!("a mask of three axes") };
    failures.used("mask");
    let bits: Vec<bool> = mask.values.iter().map(|&v| v > 0.5).collect();
    let mask = Tensor::<3, Bool>::from_data(TensorData::new(bits, [b, h, w]), &bench.device);

    let n = case.number("num_pos_feats");
    let sine = PositionEmbeddingSine::new(n);
    let unnormalised = PositionEmbeddingSine { normalize: false, ..sine.clone() };
    for (name, sine) in [
        ("detr.sine", sine),
        ("detr.sine_unnormalised", unnormalised),
        ("deformable.sine", PositionEmbeddingSine::centred(n)),
    ] {
        if case.has(name) {
            let encoded = sine.forward(Some(&mask), [h, w], &bench.device);
            failures.tensor(case, bench.slack, name, encoded);
        }
    }
    if case.has("learned") {
        let learned = learned(case, PositionEmbeddingLearned::new(n, &bench.device));
        let grid = learned.forward([h, w]).expand([b, 2 * n, h, w]);
        failures.tensor(case, bench.slack, "learned", grid);
    }
    failures
}

/// Fills the tables from the case's `seed`, by their names in the whole model.
fn learned(case: &Case, module: PositionEmbeddingLearned) -> PositionEmbeddingLearned {
    use burn::tensor::FloatDType;
    use detr_model::weights::{expected_tensors, load_into, recipe_state_dict};
    let prefix = "backbone.1.";
    let expected: Vec<_> = expected_tensors(&module)
        .into_iter()
        .map(|(name, shape)| (format!("{prefix}{name}"), shape))
        .collect();
    let state = recipe_state_dict(&expected, case.number("seed") as u64)
        .rename(|name| name.strip_prefix(prefix).map(str::to_owned));
    load_into(module.no_grad(), &state, FloatDType::F32, &case.folder).expect("tables fit")
}

fn mask_resize(case: &Case, bench: &Bench, failures: &mut Failures) {
    let table = &case.tensors["table"];
    failures.used("table");
    for row in table.values.chunks_exact(5) {
        let [padded, valid, _, cells, expected] = [0, 1, 2, 3, 4].map(|i| index(row[i]));
        let bits: Vec<bool> = (0..padded).map(|i| i >= valid).collect();
        let mask =
            Tensor::<3, Bool>::from_data(TensorData::new(bits, [1, 1, padded]), &bench.device);
        let resized = resize_mask(&mask, [1, cells]);
        let found = resized.into_data().iter::<bool>().filter(|padding| !padding).count();
        failures.check(found == expected, || {
            format!("{padded} pixels, {valid} valid, {cells} cells: {found}, expected {expected}")
        });
    }
}
