//! `detr self-test` passes on every backend here, and a precision that it refused stays refused.

use burn::tensor::Tensor;
use detr_infer::backend::{Backend, Precision, select_untested};
use detr_infer::self_test::self_test_with;
use detr_infer::verdicts::Verdicts;

use crate::support::images::{picture, png};
use crate::support::{detr, detr_infer, folder_with};

#[test]
fn every_backend_here_passes() {
    for backend in [Backend::Flex, Backend::Ndarray, Backend::Wgpu] {
        // Whether wgpu may be missing is for the golden tests to say.
        if select_untested(backend, 0, Precision::F32).is_err() {
            continue;
        }
        let mut run = detr(["self-test", "--json", "--backend", &backend.to_string()]);
        if backend == Backend::Wgpu {
            // A software adapter takes long.
            run = run.args(["--dtype", "f32"]);
        }
        let reports = run.run().expect(0).json();
        for report in reports.as_array().unwrap() {
            let rows = report["rows"].as_array().unwrap();
            assert_eq!(rows.len(), 7, "{report}");
            println!("{} {}", report["device"], report["dtype"]);
            for row in rows {
                println!("  {}: {} of {}", row["what"], row["error"], row["bound"]);
            }
        }
    }
}

#[test]
fn a_broken_kernel_is_found_and_its_precision_refused_until_it_passes() {
    let cpu = select_untested(Backend::Flex, 0, Precision::F16).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let verdicts = Verdicts::in_folder(cache.path());
    let broken = |value: Tensor<4>, levels: &[[usize; 2]], locations, weights| {
        // Every channel one place further.
        detr_ops::msda(value, levels, locations, weights).roll_dim(1, 2)
    };
    let report = self_test_with(&broken, &cpu, Precision::F16, &cpu.device);
    assert!(!report.passed() && report.wrong().unwrap().contains("msda output"), "{report}");
    verdicts.record(&cpu, Precision::F16, report.wrong()).unwrap();

    let pictures = folder_with([("a.png", png(picture(1, 40, 30)))]);
    let cache = cache.path().to_str().unwrap();
    let predict = |dtype: &str| {
        let image = pictures.path().join("a.png");
        detr_infer([image]).quick().args(["--dtype", dtype]).env("DETR_CACHE", cache)
    };
    predict("f32").run().expect(0);
    let refused = predict("f16").run().expect(4);
    assert!(refused.stderr.contains("does not compute correctly in f16"), "{}", refused.stderr);
    assert!(refused.stderr.contains("msda output: error"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: use --dtype f32"), "{}", refused.stderr);

    // The kernel is whole again.
    let again = ["self-test", "--backend", "flex", "--dtype", "f16"];
    detr(again).env("DETR_CACHE", cache).run().expect(0);
    predict("f16").run().expect(0);
}
