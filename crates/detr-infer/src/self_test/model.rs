//! One small model, forward and backward, on a device and on the CPU.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, FloatDType, Gradients, Tensor, TensorData};
use detr_model::nested::{NestedTensor, Padding};
use detr_model::weights::{Checkpoint, recipe_image, recipe_value};
use detr_model::{ModelConfig, float_dtype};

use super::Row;
use crate::backend::{Precision, Purpose};

/// The model, a preset of every part that the large ones have.
const MODEL: &str = "deformable-detr-tiny";
/// Height and width of the picture; neither is a multiple of a stride.
const PICTURE: [usize; 2] = [93, 123];
/// The seed of weights, picture and gradients.
const SEED: u64 = 5;

/// Compares a device with the CPU.
pub(super) fn model_rows(
    device: &Device,
    precision: Precision,
    cpu: &Device,
) -> Result<Vec<Row>, String> {
    Ok(compare(&run(device, precision)?, &run(cpu, Precision::F32)?, precision))
}

/// The output of a model, and the gradient of every parameter.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    logits: Vec<f64>,
    boxes: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

fn compare(found: &Run, expected: &Run, precision: Precision) -> Vec<Row> {
    // From twice to a hundred times what CPUs and Mesa's software adapter have, closest in half
    // precision, where the gradients of small parameters are mostly rounding. One that is turned round
    // has an error of 2, one that is missing of 1.
    let [outputs, gradients] = match precision {
        Precision::F32 => [1e-4, 1e-3],
        Precision::F16 => [2e-2, 4e-1],
        Precision::Bf16 => [1e-1, 8e-1],
    };
    let row = |what: &str, needed_for, error, bound| {
        let needed_for = Some(needed_for);
        Row { what: what.to_owned(), error, bound, needed_for }
    };
    let logits = largest(&found.logits, &expected.logits);
    let boxes = largest(&found.boxes, &expected.boxes);
    let gradient = distance(&found.gradients, &expected.gradients);
    vec![
        row("model class logits", Purpose::Prediction, logits, outputs),
        row("model boxes", Purpose::Prediction, boxes, outputs),
        row("model gradients", Purpose::Training, gradient, gradients),
    ]
}

fn run(device: &Device, precision: Precision) -> Result<Run, String> {
    let device = device.clone().autodiff();
    let config = ModelConfig::preset(MODEL).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::recipe(&config, SEED, &device);
    let model =
        checkpoint.load(&device, float_dtype(precision)).map_err(|error| error.to_string())?;
    let [h, w] = PICTURE;
    let picture = TensorData::new(recipe_image(SEED, h, w), [1, 3, h, w]);
    let pixels = Tensor::from_data(picture, (&device, DType::F32));
    let output = model.forward(NestedTensor { pixels, padding: Padding::None });
    let logits = output.pred_logits.cast(FloatDType::F32);
    let boxes = output.pred_boxes;
    let loss = weighted_sum(logits.clone(), "logits") + weighted_sum(boxes.clone(), "boxes");
    let gradients = loss.backward();
    let mut collector = Collector { gradients: &gradients, found: Vec::new() };
    model.visit(&mut collector);
    let gradients = collector.found.into_iter().collect::<Result<_, _>>()?;
    Ok(Run { logits: read(logits)?, boxes: read(boxes)?, gradients })
}

/// Computes a loss in which every number counts, each differently.
fn weighted_sum(x: Tensor<4>, name: &str) -> Tensor<1> {
    let shape = x.dims();
    let count = shape.iter().product::<usize>();
    #[allow(clippy::cast_possible_truncation)] // any weights will do
    let weights: Vec<f32> = (0..count as u64).map(|i| recipe_value(name, SEED, i) as f32).collect();
    let weights = Tensor::from_data(TensorData::new(weights, shape), (&x.device(), DType::F32));
    (x * weights).sum()
}

/// The gradients of all parameters.
struct Collector<'a> {
    gradients: &'a Gradients,
    found: Vec<Result<Vec<f64>, String>>,
}

impl ModuleVisitor for Collector<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Frozen parameters have none.
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.push(read(gradient));
        }
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f64>, String> {
    let data = tensor.try_into_data().map_err(|error| format!("{error:?}"))?;
    Ok(data.iter::<f64>().collect())
}

/// Returns the largest difference in units of the largest number expected.
fn largest(found: &[f64], expected: &[f64]) -> f64 {
    let peak = |numbers: &mut dyn Iterator<Item = f64>| {
        // `f64::max` would pass over what is not a number.
        numbers.fold(0.0, |a: f64, b| if b.abs() > a || b.is_nan() { b.abs() } else { a })
    };
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let difference = peak(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / peak(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)
}

/// Returns the largest Euclidean distance of a parameter's gradient, in units of its length, or of
/// the typical length if its own is smaller: a gradient that nearly cancels is all rounding.
fn distance(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    let length =
        |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let mut lengths: Vec<f64> =
        expected.iter().map(|numbers| length(&mut numbers.iter().copied())).collect();
    if found.len() != expected.len() || lengths.is_empty() {
        return f64::INFINITY;
    }
    let each = found.iter().zip(expected).zip(lengths.clone());
    lengths.sort_by(f64::total_cmp);
    let typical = lengths[lengths.len() / 2];
    let errors = each.map(|((found, expected), own)| {
        if found.len() != expected.len() {
            return f64::INFINITY;
        }
        let difference = length(&mut found.iter().zip(expected).map(|(a, b)| a - b));
        difference / own.max(typical).max(f64::MIN_POSITIVE)
    });
    // `f64::max` would pass over what is not a number.
    errors.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(found: &Run, expected: &Run, precision: Precision) -> Vec<String> {
        let rows = compare(found, expected, precision);
        rows.into_iter().filter(|row| !row.passed()).map(|row| row.what).collect()
    }

    #[test]
    fn one_wrong_parameter_or_output_is_enough_to_fail_in_every_precision() {
        let gradients = (1..=9).map(|i| vec![f64::from(i), 2.0, -1.0]).collect();
        let right = Run { logits: vec![1.0, -4.0], boxes: vec![0.5, 0.25], gradients };
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            assert!(failed(&right, &right, precision).is_empty());
            let mut wrong = right.clone();
            wrong.gradients[4].iter_mut().for_each(|x| *x = -*x);
            assert_eq!(failed(&wrong, &right, precision), ["model gradients"]);
            wrong.gradients[4] = vec![f64::NAN; 3];
            assert_eq!(failed(&wrong, &right, precision), ["model gradients"]);
            wrong.gradients.pop();
            assert_eq!(failed(&wrong, &right, precision), ["model gradients"]);
            wrong = right.clone();
            wrong.logits[1] = -3.0;
            wrong.boxes[0] = f64::NAN;
            assert_eq!(failed(&wrong, &right, precision), ["model class logits", "model boxes"]);
        }
    }
}
