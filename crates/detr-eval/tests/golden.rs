//! Golden group 12: bit-equal to pycocotools, number by number.

#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "generated/mod.rs"]
mod generated;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use detr_eval::{
    Arrays, EvalOptions, Evaluator, IouKind, Metrics, read_ground_truth, read_results,
};
use detr_types::env::DETR_GOLDEN_DIR;
use safetensors::SafeTensors;
use serde_json::Value;

fn golden() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    std::env::var_os(DETR_GOLDEN_DIR).map_or(own, PathBuf::from).join("12_coco")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn evaluate(truth: &Path, results: &Path, iou: IouKind) -> (Metrics, Arrays) {
    let options = EvalOptions { iou, ..EvalOptions::default() };
    let truth = Arc::new(read_ground_truth(truth, iou).unwrap());
    let mut evaluator = Evaluator::new(truth, options).unwrap();
    evaluator.add_results(read_results(results, iou).unwrap()).unwrap();
    evaluator.finish_with_arrays().unwrap()
}

/// Reads a tensor of f64, or of f32 widened.
fn numbers(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f64>) {
    let tensor = file.tensor(name).unwrap();
    let bytes = tensor.data();
    let values = match tensor.dtype() {
        safetensors::Dtype::F64 => {
            bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
        }
        safetensors::Dtype::F32 => {
            bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
        }
        other => panic!("{name}: {other:?}"),
    };
    (tensor.shape().to_vec(), values)
}

fn check_bits(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits();
        assert!(same, "{what}[{index}]: {found:e}, pycocotools has {expected:e}");
    }
}

fn check_case(name: &str, iou: IouKind) {
    let folder = golden();
    let case = json(&folder.join(format!("{name}.json")));
    let results = folder.join(case["config"]["dets"].as_str().unwrap());
    let (metrics, arrays) = evaluate(&folder.join("gt.json"), &results, iou);
    let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();

    check_bits("stats12", &metrics.summary.values(), &numbers(&file, "stats12").1);
    let lines: Vec<&str> =
        case["summary"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(metrics.summary_lines().as_slice(), lines);

    let (_, rows) = numbers(&file, "per_category_id_ap_ap50");
    let found: Vec<f64> = metrics
        .classes
        .iter()
        .flat_map(|class| {
            let id = i32::try_from(class.category_id).unwrap();
            [id.into(), class.ap, class.ap50]
        })
        .collect();
    check_bits("per_category_id_ap_ap50", &found, &rows);

    let (shape, expected) = numbers(&file, "precision_all_maxdet100");
    let [t, r, k] = shape[..] else { panic!("{shape:?}") };
    let slice = |values: &[f64]| -> Vec<f64> {
        let at = |i: usize| arrays.at([i / (r * k), i / k % r, i % k, 0, 2]);
        // The expected numbers are stored as f32.
        #[allow(clippy::cast_possible_truncation)]
        (0..t * r * k).map(|i| f64::from(values[at(i)] as f32)).collect()
    };
    check_bits("precision_all_maxdet100", &slice(&arrays.precision), &expected);
    let (_, expected) = numbers(&file, "scores_all_maxdet100");
    check_bits("scores_all_maxdet100", &slice(&arrays.scores), &expected);
    check_bits("recall_TKAM", &arrays.recall, &numbers(&file, "recall_TKAM").1);

    let (shape, expected) = numbers(&file, "precision_mean_over_recall_TKAM");
    let [t, k, a, m] = shape[..] else { panic!("{shape:?}") };
    let mut found = Vec::new();
    for i in 0..t * k * a * m {
        let (t, k, a, m) = (i / (k * a * m), i / (a * m) % k, i / m % a, i % m);
        // numpy adds the rows of an outer axis one after the other.
        let sum = (0..r).fold(0.0, |sum, r| sum + arrays.precision[arrays.at([t, r, k, a, m])]);
        found.push(sum / 101.0);
    }
    check_bits("precision_mean_over_recall_TKAM", &found, &expected);
}

#[test]
fn boxes_are_scored_as_by_pycocotools() {
    check_case("eval_bbox", IouKind::Bbox);
}

#[test]
fn masks_are_scored_as_by_pycocotools() {
    check_case("eval_segm", IouKind::Segm);
}

#[test]
fn the_hand_checked_sets_give_their_numbers() {
    let cases = json(&golden().join("edge_cases.json"));
    let folder = tempfile::tempdir().unwrap();
    let (truth, results) = (folder.path().join("gt.json"), folder.path().join("dt.json"));
    for (name, case) in cases.as_object().unwrap() {
        std::fs::write(&truth, case["gt"].to_string()).unwrap();
        std::fs::write(&results, case["dt"].to_string()).unwrap();
        let (metrics, _) = evaluate(&truth, &results, IouKind::Bbox);
        let expected: Vec<f64> =
            case["stats"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        check_bits(name, &metrics.summary.values(), &expected);
    }
}

/// The twelve numbers of each set are stored; the sets follow from their seed.
#[test]
fn a_thousand_random_sets_are_scored_as_by_pycocotools() {
    let bytes = std::fs::read(golden().join("random.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, iou) in [("bbox", IouKind::Bbox), ("segm", IouKind::Segm)] {
        let (shape, expected) = numbers(&file, name);
        assert_eq!(shape, [1000, 12]);
        for (seed, expected) in expected.as_chunks::<12>().0.iter().enumerate() {
            let set = generated::random_set(seed as u64, iou);
            let options = EvalOptions { iou, ..EvalOptions::default() };
            let mut evaluator = Evaluator::new(Arc::new(set.truth), options).unwrap();
            evaluator.add_results(set.results).unwrap();
            let metrics = evaluator.finish().unwrap();
            check_bits(&format!("{name}, seed {seed}"), &metrics.summary.values(), expected);
        }
    }
}
