//! `detr-bench`: that it measures what it says. How fast that is, is nobody's business here.

use serde_json::Value;

use detr_infer::backend::{Backend, Precision};

use crate::support::detr_bench;
use crate::support::devices::device;

const TINY: &str = "deformable-detr-tiny";

/// The number of parameters that transformers counts in PyTorch, where the layers share one class head,
/// and the two others, of 64 weights and a bias for each of 91 classes.
const PARAMETERS: u64 = 666_729 + 2 * 65 * 91;

fn measured(what: &str, more: &[&str]) -> Value {
    measured_on("flex", what, TINY, more)
}

fn measured_on(backend: &str, what: &str, preset: &str, more: &[&str]) -> Value {
    let outcome = detr_bench([what, "--json", "--runs", "2", "--warmup", "0"])
        .args(["--backend", backend, "--model", &format!("recipe:{preset}")])
        .args(["--size", "64x96", "--batch-size", "2"])
        .args(more)
        .run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn whole_steps_of_training_are_measured() {
    for more in [&["--objects", "0"][..], &["--objects", "60"], &["--activation-checkpointing"]] {
        let report = measured("train", more);
        let rows = report["rows"].as_array().unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["gradients", "update", "total"]);
        for row in rows {
            let [min, median, p99] =
                ["min", "median", "p99"].map(|name| row[name].as_f64().unwrap());
            assert!(0.0 < min && min <= median && median <= p99, "{row}");
        }
        assert_eq!(report["parameters"], PARAMETERS);
        // The trained parameters leave out the stem, 3 x 16 x 7 x 7, and the two 3x3 convolutions
        // of the first stage.
        assert_eq!(report["trained_parameters"], PARAMETERS - 2352 - 2 * 2304);
    }
}

#[test]
fn a_prediction_reads_once_and_a_step_twice() {
    // The proposals of two-stage models are chosen on the host.
    let two_stage = "deformable-detr-r50-two-stage";
    for (what, preset, reads) in [("infer", TINY, 1), ("infer", two_stage, 2), ("train", TINY, 2)] {
        let report = measured_on("flex", what, preset, &[]);
        assert_eq!(report["traffic"]["reads"], reads, "{what} {preset}");
        assert_eq!(report["traffic"]["launches"], 0, "the CPU launches nothing");
    }
}

#[test]
fn launches_on_a_gpu_are_counted() {
    if device(Backend::Wgpu, Precision::F32).is_none() {
        return;
    }
    let report = measured_on("wgpu", "infer", TINY, &[]);
    let traffic = &report["traffic"];
    assert_eq!(traffic["reads"], 1);
    let by_kernel = traffic["kernels"].as_object().unwrap().values();
    let sum: u64 = by_kernel.map(|count| count.as_u64().unwrap()).sum();
    assert!(sum > 100 && traffic["launches"] == sum, "{traffic}");
}

#[test]
fn parameters_and_operations_are_counted() {
    let report = measured("infer", &[]);
    assert_eq!(report["parameters"], PARAMETERS);
    let parts = report["flops"].as_object().unwrap().values();
    let sum: u64 = parts.map(|part| part.as_u64().unwrap()).sum();
    assert_eq!(report["total_flops"], sum);
    assert!(report["flops_convention"].as_str().unwrap().contains("multiply-add is two"));
}

#[test]
fn the_whole_suite_measures_all_there_is() {
    let outcome = detr_bench(["all", "--quick", "--json"]).run().expect(0);
    let results = outcome.json();
    let mut left = vec!["infer", "train", "msda", "data", "match", "eval", "start", "size"];
    for row in results["rows"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        assert!(row["detr"].as_f64().is_some_and(|number| number > 0.0), "{row}");
        left.retain(|what| !name.starts_with(what));
    }
    assert!(left.is_empty(), "without a number: {left:?}\n{}", outcome.stderr);
    assert!(results["hardware"]["cpu"].is_string() && results["versions"]["detr"].is_string());
}

#[test]
fn growth_is_in_multiples_of_the_first_point() {
    let args = ["growth", "--quick", "--json", "--of", "infer", "--axes", "batch,queries"];
    let results = detr_bench(args).args(["--model", TINY]).run().expect(0).json();
    let rows = results["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let expected = ["batch 1", "batch 2", "queries 100", "queries 300"];
    assert_eq!(names, expected.map(|point| format!("infer, {point}")));
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row["times_time"] == 1.0, index % 2 == 0, "{row}");
        assert!(row["gflop"].as_f64().is_some_and(|gflop| gflop > 0.0), "{row}");
    }
    assert_eq!(rows[1]["times_operations"], 2.0);
}

#[test]
fn rounds_are_measured_in_processes_of_their_own_and_peers_say_why_they_cannot() {
    let args = ["msda", "--only", "decoder, near", "--runs", "1", "--warmup", "0", "--json"];
    let more = ["--backend", "flex", "--peer", "--python", "no-such-python", "--rounds", "2"];
    let results = detr_bench(args).args(more).run().expect(0).json();
    let row = &results["rows"][0];
    assert_eq!(row["name"], "decoder, near, forward");
    assert_eq!(row["detr_rounds"].as_array().unwrap().len(), 2);
    assert!(row["peer_error"].as_str().unwrap().contains("cannot start"), "{row}");
}
