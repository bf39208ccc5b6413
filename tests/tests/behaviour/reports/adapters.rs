//! Devices that compute wrongly: the self-test finds what is wrong, and refuses them for what needs it.

use std::cell::Cell;

use burn::tensor::{FloatDType, IndexingUpdateOp, Int, Tensor};
use detr_infer::backend::{Backend, Precision, Purpose, SelectedDevice, check, select_untested};
use detr_infer::self_test::{Extent, Operations, Report, Row, TestedCode, self_test_of};
use detr_infer::verdicts::Verdicts;
use detr_ops::dense::ConvOptions;
use detr_ops::reduce::MOST;
use detr_ops::self_test::{Need, Section};

use crate::support::images::{picture, png};
use crate::support::{detr, detr_infer, folder_with, root};

/// Operations of which one is broken, in the way of its name.
struct Broken {
    how: &'static str,
    calls: Cell<u32>,
}

impl Broken {
    fn is(&self, how: &str) -> bool {
        let is = self.how == how;
        self.calls.set(self.calls.get() + u32::from(is));
        is
    }
}

/// Leaves out what lies beyond a number of elements along an axis, as a loop that ends too early does.
fn cut(x: Tensor<2>, axis: usize, limit: usize) -> Tensor<2> {
    let length = x.dims()[axis].min(limit);
    x.slice_dim(axis, 0..length)
}

impl Operations for Broken {
    fn sum(&self, x: Tensor<2>) -> Tensor<1> {
        if !self.is("sum over all") {
            return x.sum();
        }
        let count = x.shape().num_elements();
        cut(x.reshape([1, count]), 1, 262_140).sum()
    }

    fn mean(&self, x: Tensor<2>) -> Tensor<1> {
        if self.is("mean over all") { x.mean() * 0.99995 } else { x.mean() }
    }

    fn max(&self, x: Tensor<2>) -> Tensor<1> {
        if !self.is("maximum over all") {
            return x.max();
        }
        let count = x.shape().num_elements();
        cut(x.reshape([1, count]), 1, count - 1).max()
    }

    fn sum_dim(&self, x: Tensor<2>, axis: usize) -> Tensor<2> {
        let long = x.dims()[axis] > MOST;
        let broken = self.is(if long { "sum along a long axis" } else { "sum along an axis" });
        let length = x.dims()[axis];
        if broken { cut(x, axis, length - 1).sum_dim(axis) } else { x.sum_dim(axis) }
    }

    fn mean_dim(&self, x: Tensor<2>, axis: usize) -> Tensor<2> {
        let mean = x.mean_dim(axis);
        if self.is("mean along an axis") { mean * 0.99999 } else { mean }
    }

    fn max_dim(&self, x: Tensor<2>, axis: usize) -> Tensor<2> {
        let length = x.dims()[axis];
        let x = if self.is("maximum along an axis") { cut(x, axis, length - 1) } else { x };
        x.max_dim(axis)
    }

    fn argmax(&self, x: Tensor<2>, axis: usize) -> Tensor<2, Int> {
        let argmax = x.argmax(axis);
        if self.is("argmax along an axis") { argmax.clamp_max(27_000) } else { argmax }
    }

    fn cumsum(&self, x: Tensor<2>, axis: usize) -> Tensor<2> {
        // Each without the element itself.
        if self.is("cumulative sum") { x.clone().cumsum(axis) - x } else { x.cumsum(axis) }
    }

    fn gather(&self, x: Tensor<2>, axis: usize, indices: Tensor<2, Int>) -> Tensor<2> {
        let last = i64::try_from(x.dims()[axis]).unwrap() - 2;
        let indices = if self.is("gather") { indices.clamp_max(last) } else { indices };
        x.gather(axis, indices)
    }

    fn select(&self, x: Tensor<2>, axis: usize, indices: Tensor<1, Int>) -> Tensor<2> {
        let last = i64::try_from(x.dims()[axis]).unwrap() - 2;
        let indices = if self.is("select") { indices.clamp_max(last) } else { indices };
        x.select(axis, indices)
    }

    fn scatter_add(
        &self,
        x: Tensor<2>,
        axis: usize,
        indices: Tensor<2, Int>,
        values: Tensor<2>,
    ) -> Tensor<2> {
        // One of two additions at one place in different halves is lost, as in a race.
        let half = indices.dims()[axis] / 2;
        let broken = self.is("scatter-add");
        let whole = x.clone().scatter(axis, indices.clone(), values.clone(), IndexingUpdateOp::Add);
        if !broken {
            return whole;
        }
        let indices = indices.slice_dim(axis, 0..half);
        x.scatter(axis, indices, values.slice_dim(axis, 0..half), IndexingUpdateOp::Add)
    }

    fn select_add(
        &self,
        x: Tensor<2>,
        axis: usize,
        indices: Tensor<1, Int>,
        values: Tensor<2>,
    ) -> Tensor<2> {
        let values = if self.is("select-add") { values * 2.0 } else { values };
        x.select_assign(axis, indices, values, IndexingUpdateOp::Add)
    }

    fn sort(&self, x: Tensor<2>, axis: usize) -> (Tensor<2>, Tensor<2, Int>) {
        let (values, places) = x.sort_with_indices(axis);
        if self.is("sort") { (values, places.roll_dim(1, axis)) } else { (values, places) }
    }

    fn top_k(&self, x: Tensor<2>, k: usize, axis: usize) -> (Tensor<2>, Tensor<2, Int>) {
        let (values, places) = x.topk_with_indices(k, axis);
        if self.is("top-k") { (values.flip([axis]), places) } else { (values, places) }
    }

    fn matmul(&self, a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
        let product = a.matmul(b);
        if !self.is("matrix product") {
            return product;
        }
        // One element of a million.
        let [_, rows, columns] = product.dims();
        let last = product.clone().slice([0..1, rows - 1..rows, columns - 1..columns]) * 0.5;
        product.slice_assign([0..1, rows - 1..rows, columns - 1..columns], last)
    }

    fn conv2d(&self, x: Tensor<4>, weight: Tensor<4>, options: ConvOptions) -> Tensor<4> {
        let convolve = |x, weight| detr_ops::dense::conv2d(x, weight, None, None, options);
        if self.is("convolution") {
            // A bias that nobody asked for.
            return convolve(x, weight) + 1e-2;
        }
        let part = |x: Tensor<4>| x.clone().detach() * 0.01 + x * 0.99;
        if self.is("convolution, input's gradient") {
            return convolve(part(x), weight);
        }
        if self.is("convolution, weights' gradient") {
            return convolve(x, part(weight));
        }
        convolve(x, weight)
    }

    fn layer_norm(&self, x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<2> {
        let width = x.dims()[1];
        // The variance of a sample in place of that of all.
        #[allow(clippy::cast_precision_loss)] // a width
        let factor = if self.is("layer normalisation") { 1.0 - 0.5 / width as f64 } else { 1.0 };
        let beta = if self.is("layer normalisation, gradients") { beta.detach() } else { beta };
        burn::tensor::module::layer_norm(x, gamma * factor, Some(beta), 1e-5)
    }

    fn frozen_norm(&self, x: Tensor<4>, scale: Tensor<1>, shift: Tensor<1>) -> Tensor<4> {
        let c = scale.dims()[0];
        let scale = if self.is("frozen normalisation, gradients") { scale.detach() } else { scale };
        let y = x * scale.reshape([1, c, 1, 1]) + shift.reshape([1, c, 1, 1]);
        if self.is("frozen normalisation") { y.roll_dim(1, 1) } else { y }
    }

    fn attention(&self, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<3> {
        struct Whole;
        impl Operations for Whole {}
        // The last key is left out.
        let keys = key.dims()[2] - usize::from(self.is("attention"));
        let value = if self.is("attention, gradients") {
            value.clone() * 0.5 + value.detach() * 0.5
        } else {
            value
        };
        Whole.attention(query, key.slice_dim(2, 0..keys), value.slice_dim(2, 0..keys))
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Returns the arguments of a run that ends before it writes anything, unless the device is
/// accepted.
fn train(backend: &str) -> Vec<String> {
    let mut args = words("train --dry-run --backend");
    args.push(backend.to_owned());
    args.push("--config".to_owned());
    args.push(root().join("configs/train/shapes.toml").display().to_string());
    args
}

fn cpu() -> SelectedDevice {
    select_untested(Backend::Flex, 0, Precision::F32).unwrap()
}

fn report(how: &'static str) -> Report {
    let cpu = cpu();
    let operations = Broken { how, calls: Cell::new(0) };
    let subject = TestedCode { operations: &operations, ..TestedCode::new(Extent::Quick) };
    let report = self_test_of(subject, &cpu, Precision::F32, &cpu.device);
    assert!(how.is_empty() || operations.calls.get() > 0, "{how} was not called");
    report
}

fn failed(report: &Report) -> Vec<&str> {
    let rows = report.operations.iter().filter(|row| !row.passed());
    rows.map(|row| row.what.as_str()).collect()
}

#[test]
fn a_broken_operation_of_every_kind_is_found_and_refused_for_what_needs_it() {
    let whole = report("");
    assert!(whole.passed() && failed(&whole).is_empty(), "{whole}");
    let kinds: Vec<(&'static str, Option<Purpose>)> = vec![
        ("sum over all", Some(Purpose::Training)),
        ("mean over all", None),
        ("maximum over all", None),
        ("sum along an axis", Some(Purpose::Prediction)),
        ("sum along a long axis", None),
        ("mean along an axis", Some(Purpose::Prediction)),
        ("maximum along an axis", Some(Purpose::Prediction)),
        ("argmax along an axis", Some(Purpose::Training)),
        ("cumulative sum", Some(Purpose::Prediction)),
        ("gather", Some(Purpose::Prediction)),
        ("select", Some(Purpose::Prediction)),
        ("scatter-add", Some(Purpose::Training)),
        ("select-add", Some(Purpose::Training)),
        ("sort", None),
        ("top-k", None),
        ("matrix product", Some(Purpose::Prediction)),
        ("convolution", Some(Purpose::Prediction)),
        ("convolution, input's gradient", Some(Purpose::Training)),
        ("convolution, weights' gradient", Some(Purpose::Training)),
        ("layer normalisation", Some(Purpose::Prediction)),
        ("layer normalisation, gradients", Some(Purpose::Training)),
        ("frozen normalisation", Some(Purpose::Prediction)),
        ("frozen normalisation, gradients", Some(Purpose::Training)),
        ("attention", Some(Purpose::Prediction)),
        ("attention, gradients", Some(Purpose::Training)),
    ];
    let names: Vec<&str> = whole.operations.iter().map(|row| row.what.as_str()).collect();
    for name in names {
        let tested = kinds.iter().any(|(kind, _)| *kind == name);
        assert!(tested || name.ends_with("a long axis"), "no broken {name}");
    }
    // The section of each operation, and what it is needed for.
    let device = cpu().device;
    let checks = |section: Section, how: &'static str| {
        let operations = Broken { how, calls: Cell::new(0) };
        let checks = section.test(&operations, &device, FloatDType::F32, Extent::Quick).unwrap();
        assert!(how.is_empty() || operations.calls.get() > 0, "{how} was not called");
        checks
    };
    for section in Section::ALL {
        let names: Vec<&str> = checks(section, "").iter().map(|check| check.operation).collect();
        for &(how, needed_for) in kinds.iter().filter(|(how, _)| names.contains(how)) {
            let found = checks(section, how);
            let check = found.iter().find(|check| check.operation == how).unwrap();
            assert!(!check.passed(), "{how}: {check:?}");
            let need = match needed_for {
                Some(Purpose::Prediction) => Need::Prediction,
                Some(Purpose::Training) => Need::Training,
                None => Need::Nothing,
            };
            assert_eq!(check.need, need, "{how}");
        }
    }
    for (how, expected) in
        [("matrix product", [true, true]), ("scatter-add", [false, true]), ("sort", [false, false])]
    {
        let found = report(how);
        assert_eq!(failed(&found), [how], "{found}");
        let refused = [Purpose::Prediction, Purpose::Training].map(|p| found.refused(p).is_some());
        assert_eq!(refused, expected, "{how}: {found}");
        assert_eq!(found.passed(), how == "sort", "{how}");
    }
}

/// Makes a report in which one number is wrong.
fn wrong(needed_for: Option<Purpose>, full: bool) -> Report {
    let row = Row { what: "an operation".to_owned(), error: 1.0, bound: 0.0, needed_for };
    Report {
        device: "flex".to_owned(),
        driver: None,
        dtype: "f32".to_owned(),
        rows: Vec::new(),
        operations: vec![row],
        full,
        failure: None,
    }
}

#[test]
fn a_device_refused_for_training_still_predicts_until_its_driver_changes() {
    let cache = tempfile::tempdir().unwrap();
    let verdicts = Verdicts::in_folder(cache.path());
    let cpu = cpu();
    verdicts.record_report(&cpu, Precision::F32, &wrong(Some(Purpose::Training), false)).unwrap();
    let refused = |selected: &SelectedDevice| {
        [Purpose::Prediction, Purpose::Training]
            .map(|purpose| verdicts.refused_for(purpose, selected, Precision::F32).is_some())
    };
    assert_eq!(refused(&cpu), [false, true]);
    let updated = SelectedDevice { driver: Some("another".to_owned()), ..cpu.clone() };
    assert_eq!(refused(&updated), [false, false]);
    assert!(!verdicts.passed(Purpose::Training, &updated, Precision::F32));

    let folder = cache.path().to_str().unwrap();
    let stopped = detr(train("flex")).env("DETR_CACHE", folder).run().expect(4);
    assert!(stopped.stderr.contains("what training needs"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("an operation: error"), "{}", stopped.stderr);
    let pictures = folder_with([("a.png", png(picture(1, 40, 30)))]);
    let image = pictures.path().join("a.png");
    detr_infer([image]).quick().env("DETR_CACHE", folder).run().expect(0);

    // A fault that the large sizes found is not forgotten because the small ones pass.
    verdicts.record_report(&cpu, Precision::F32, &wrong(Some(Purpose::Training), true)).unwrap();
    assert!(verdicts.record_report(&cpu, Precision::F32, &wrong(None, false)).unwrap());
    assert_eq!(refused(&cpu), [false, true]);
    assert!(!verdicts.record_report(&cpu, Precision::F32, &wrong(None, true)).unwrap());
    assert_eq!(refused(&cpu), [false, false]);
}

#[test]
fn a_verdict_of_an_earlier_form_counts_for_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let verdicts = Verdicts::in_folder(cache.path());
    let cpu = cpu();
    verdicts.record(&cpu, Precision::F32, Some("something".to_owned())).unwrap();
    let file = cache.path().join("self-test").join("flex-f32.json");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(verdicts.refused(&cpu, Precision::F32).is_some());
    for other in [
        text.replace("\"form\": 2", "\"form\": 1"),
        text.replace("  \"form\": 2,\n", ""),
        text.replace("0.", "9."),
        "[]".to_owned(),
        "{".to_owned(),
    ] {
        assert_ne!(other, text);
        std::fs::write(&file, other).unwrap();
        assert!(verdicts.refused(&cpu, Precision::F32).is_none());
    }
}

#[test]
fn training_on_an_opengl_adapter_needs_a_passed_self_test() {
    let name = "an adapter of which nobody has a verdict";
    let opengl = SelectedDevice { id: name.to_owned(), opengl: true, ..cpu() };
    check(&opengl, Purpose::Prediction, 0, Precision::F32).unwrap();
    let error = check(&opengl, Purpose::Training, 0, Precision::F32).unwrap_err().to_string();
    assert!(error.contains("passed self-test") && error.contains("hint: "), "{error}");
    let vulkan = SelectedDevice { opengl: false, ..opengl };
    check(&vulkan, Purpose::Training, 0, Precision::F32).unwrap();
}

#[test]
fn mesa_opengl_is_marked_never_taken_by_auto_and_fails_the_self_test() {
    let cache = tempfile::tempdir().unwrap();
    let program = |args: &[String]| {
        detr(args)
            .env("VK_DRIVER_FILES", "/nonexistent")
            .env("VK_ICD_FILENAMES", "/nonexistent")
            .env("DETR_CACHE", cache.path().to_str().unwrap())
    };
    let listed = program(&words("devices --json")).run().expect(0).json();
    let devices = listed["devices"].as_array().unwrap();
    let Some(device) = devices.iter().find(|device| device["opengl"] == true) else {
        crate::support::devices::skipped("there is no OpenGL adapter");
        return;
    };
    assert_eq!(device["api"], "gl");
    assert_eq!(listed["auto"]["backend"], "flex");
    let text = program(&words("devices")).run().expect(0).stdout;
    assert!(text.contains("OpenGL"), "{text}");
    let untested = program(&train("wgpu")).run().expect(4);
    assert!(untested.stderr.contains("passed self-test"), "{}", untested.stderr);
    if !device["name"].as_str().unwrap().contains("llvmpipe") {
        return;
    }
    let run = program(&words("self-test --backend wgpu --dtype f32")).run().expect(1);
    assert!(run.stderr.contains("refused for training"), "{}", run.stderr);
    let refused = program(&train("wgpu")).run().expect(4);
    assert!(refused.stderr.contains("what training needs"), "{}", refused.stderr);
}

#[test]
#[allow(clippy::float_cmp, clippy::single_range_in_vec_init)] // whole numbers; one axis
fn long_sums_in_steps_leave_nothing_out_and_have_a_gradient() {
    use detr_ops::reduce::{max, sum, sum_rows};

    let device = cpu().device;
    // At the limit, beyond it, with many divisors, a prime number, and beyond the square of a step.
    for count in [1, MOST, MOST + 1, 163_800, 262_147, 20_000_003] {
        // Ones, and a last element that no other can stand in for; f32 holds these sums exactly up to 2^24.
        let ones = Tensor::<1>::ones([count], &device);
        let x = ones.clone().slice_assign([count - 1..count], ones.slice([0..1]) * 3.0);
        assert_eq!(max(x.clone()).into_scalar::<f32>(), 3.0, "{count}");
        if count < 1 << 24 {
            #[allow(clippy::cast_precision_loss)] // below 2^24
            let expected = count as f32 + 2.0;
            assert_eq!(sum(x).into_scalar::<f32>(), expected, "{count}");
        }
    }
    let x = Tensor::<2>::ones([3, 70_001], &device.clone().autodiff()).require_grad();
    let factors = Tensor::<2>::from_data([[1.0f32], [2.0], [3.0]], &device.clone().autodiff());
    let mut grads = (sum_rows(x.clone()) * factors).sum().backward();
    let gradient = x.grad_remove(&mut grads).unwrap();
    let expected = Tensor::<2>::from_data([[1.0f32], [2.0], [3.0]], &device).expand([3, 70_001]);
    assert!((gradient - expected).abs().max().into_scalar::<f32>() == 0.0);
}
