//! `detr bench`: that it measures what it says. How fast that is, is nobody's business here.

use serde_json::Value;

use detr_infer::backend::{Backend, Precision};

use crate::support::devices::device;
use crate::support::{binaries, cargo, detr, profile_flags, target};

const TINY: &str = "deformable-detr-tiny";

/// The number of parameters that transformers counts in PyTorch, where the layers share one class head,
/// and the two others, of 64 weights and a bias for each of 91 classes.
const PARAMETERS: u64 = 666_729 + 2 * 65 * 91;

fn measured(what: &str, more: &[&str]) -> Value {
    measured_on("flex", what, TINY, more)
}

fn measured_on(backend: &str, what: &str, preset: &str, more: &[&str]) -> Value {
    let outcome = detr(["bench", what, "--json", "--runs", "2", "--warmup", "0"])
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
        for stage in ["gradients", "update", "total"] {
            let [min, median, p99] = ["min", "median", "p99"]
                .map(|name| report["stages_ms"][stage][name].as_f64().unwrap());
            assert!(0.0 < min && min <= median && median <= p99, "{stage}: {report}");
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
fn the_whole_suite_measures_all_that_is_built() {
    let mut suite = cargo();
    suite.args(["run", "--quiet", "-p", "xtask", "--target-dir"]).arg(target().0);
    suite.args(profile_flags()).args(["--", "bench", "all", "--quick", "--json", "--programs"]);
    let done = suite.arg(binaries()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let results: Value = serde_json::from_slice(&done.stdout).unwrap();
    // Cargo builds the examples for the tests of the whole workspace only.
    let built = |example: &str| binaries().join("examples").join(example).is_file();
    let mut left = vec!["infer", "train", "msda", "start", "size"];
    for (what, example) in
        [("data", "bench_data"), ("match", "bench_match"), ("eval", "bench_eval")]
    {
        if built(example) && (what != "data" || built("photos")) {
            left.push(what);
        }
    }
    for row in results["rows"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        if row["detr"].as_f64().is_some_and(|number| number > 0.0) {
            left.retain(|what| !name.starts_with(what));
        } else {
            assert!(row["detr_error"].as_str().unwrap().contains("no program"), "{row}");
        }
    }
    assert!(left.is_empty(), "without a number: {left:?}\n{said}");
}
