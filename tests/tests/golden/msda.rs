//! Group 01: multi-scale deformable attention, output and all three gradients, by the kernel and by
//! plain tensor operations.

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_model::weights::recipe_value;
use detr_ops::reference::msda_reference;
use detr_ops::try_msda;

use crate::backends::Bench;
use crate::case::{Case, Failures};

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    let inputs = Inputs::of(case, &mut failures);
    for reference in [false, true] {
        let before = failures.count();
        inputs.compare(case, bench, reference, &mut failures);
        if reference && failures.count() > before {
            failures.fail("the differences above are of the reference".to_owned());
        }
    }
    failures
}

/// Inputs of the operation, and the gradient of its output.
struct Inputs {
    levels: Vec<[usize; 2]>,
    value: TensorData,
    locations: TensorData,
    weights: TensorData,
    grad: TensorData,
}

impl Inputs {
    fn of(case: &Case, failures: &mut Failures) -> Self {
        let levels: Vec<[usize; 2]> =
            serde_json::from_value(case.config("levels").clone()).expect("levels");
        let [b, m, d, q, p, s] = ["N", "M", "D", "Lq", "P", "S"].map(|key| case.number(key));
        let l = levels.len();
        let range: Option<[f64; 2]> =
            serde_json::from_value(case.config("loc_range").clone()).expect("a range or null");
        let [low, high] = range.unwrap_or([0.0, 1.0]);
        let points = (l * p) as f64;
        let mut get = |name: &str, shape: &[usize], of: &dyn Fn(f64) -> f64| {
            input(case, failures, name, shape, of)
        };
        Self {
            value: get("value", &[b, s, m, d], &|r| r),
            locations: get("loc", &[b, q, m, l, p, 2], &|r| low + (high - low) * (r + 1.0) / 2.0),
            weights: get("weight", &[b, q, m, l, p], &|r| f64::midpoint(r, 1.0) / points),
            grad: get("grad_out", &[b, q, m * d], &|r| r),
            levels,
        }
    }

    fn compare(&self, case: &Case, bench: &Bench, reference: bool, failures: &mut Failures) {
        let device = bench.device.clone().autodiff();
        let value = tensor::<4>(&self.value, &device).require_grad();
        let locations = tensor::<6>(&self.locations, &device).require_grad();
        let weights = tensor::<5>(&self.weights, &device).require_grad();
        let inputs = (value.clone(), locations.clone(), weights.clone());
        let output = match reference {
            true => msda_reference(inputs.0, &self.levels, inputs.1, inputs.2),
            false => try_msda(inputs.0, &self.levels, inputs.1, inputs.2).expect("inputs that fit"),
        };
        let mut grads = (output.clone() * tensor(&self.grad, &device)).sum().backward();
        failures.tensor(case, bench.slack, "out", output);
        let grad_value = value.grad_remove(&mut grads).expect("a gradient");
        failures.tensor(case, bench.slack, "grad_value", grad_value);
        let grad_weights = weights.grad_remove(&mut grads).expect("a gradient");
        failures.tensor(case, bench.slack, "grad_weight", grad_weights);
        let grad_locations = locations.grad_remove(&mut grads).expect("a gradient");
        match case.tensors.contains_key("grad_loc_differs") {
            true => borders(case, bench, grad_locations, failures),
            false => failures.tensor(case, bench.slack, "grad_loc", grad_locations),
        }

        // A call that needs no graph takes another path.
        if !reference {
            let output = try_msda(
                tensor(&self.value, &bench.device),
                &self.levels,
                tensor(&self.locations, &bench.device),
                tensor(&self.weights, &bench.device),
            );
            failures.tensor(case, bench.slack, "out", output.expect("inputs that fit"));
        }
    }
}

/// Compares gradients exactly a cell outside, where the reference's two implementations have
/// different ones; either is accepted.
fn borders(case: &Case, bench: &Bench, found: Tensor<6>, failures: &mut Failures) {
    let shape = found.dims();
    let found: Vec<f32> = found.into_data().try_into_vec().expect("f32 data");
    let [kernel, differs] = ["grad_loc_cuda", "grad_loc_differs"].map(|name| {
        failures.used(name);
        &case.tensors[name].values
    });
    let grid_sample = &case.tensors["grad_loc_gridsample"].values;
    let found: Vec<f64> = found
        .into_iter()
        .map(f64::from)
        .enumerate()
        .map(|(i, found)| match differs[i / 2] > 0.5 && (found - kernel[i]).abs() < 1e-5 {
            true => grid_sample[i],
            false => found,
        })
        .collect();
    failures.values(case, bench.slack, "grad_loc_gridsample", &shape, &found);
}

/// Makes an input: it is stored, or its recipe is, and then some of its numbers are there to check
/// the recipe.
#[allow(clippy::cast_possible_truncation)] // rounded to f32 once, at the end
fn input(
    case: &Case,
    failures: &mut Failures,
    name: &str,
    shape: &[usize],
    of: &dyn Fn(f64) -> f64,
) -> TensorData {
    if let Some(stored) = case.tensors.get(name) {
        failures.used(name);
        let values: Vec<f32> = stored.values.iter().map(|&v| v as f32).collect();
        return TensorData::new(values, shape.to_vec());
    }
    let stream = format!("msda.{name}");
    let seed = case.number("seed") as u64;
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (0..count).map(|i| of(recipe_value(&stream, seed, i)) as f32).collect();
    let check = format!("{name}_check");
    if let Some(shape) = case.shape(&check) {
        let head: Vec<f64> = values.iter().take(shape[0]).map(|&v| f64::from(v)).collect();
        failures.values(case, 1.0, &check, &[head.len()], &head);
    }
    TensorData::new(values, shape.to_vec())
}

fn tensor<const D: usize>(data: &TensorData, device: &Device) -> Tensor<D> {
    Tensor::from_data(data.clone(), (device, DType::F32))
}
