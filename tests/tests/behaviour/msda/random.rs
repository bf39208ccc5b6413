//! Random calls of the operation, from a seed.

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_model::weights::recipe_value;
use detr_ops::formula::HostCall;

/// Sizes and inputs of a call; numbers are exact in f32.
pub(crate) struct Call {
    pub(crate) levels: Vec<[usize; 2]>,
    /// B, S, M, D.
    pub(crate) value_shape: [usize; 4],
    /// B, Q, M, L, P, 2.
    pub(crate) locations_shape: [usize; 6],
    pub(crate) value: Vec<f32>,
    pub(crate) locations: Vec<f32>,
    pub(crate) weights: Vec<f32>,
    /// Gradient of the output.
    pub(crate) grad: Vec<f32>,
}

/// A stream of numbers.
pub(crate) struct Stream {
    seed: u64,
    next: u64,
}

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    /// Draws a number in [-1, 1).
    pub(crate) fn number(&mut self) -> f64 {
        self.next += 1;
        recipe_value("tests.msda", self.seed, self.next)
    }

    /// Draws a size from `low` to `high`, both included.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small and positive
    pub(crate) fn size(&mut self, low: usize, high: usize) -> usize {
        low + ((0.5 + 0.5 * self.number()) * (high - low + 1) as f64) as usize
    }

    #[allow(clippy::cast_possible_truncation)] // rounded to f32 once
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number() as f32).collect()
    }
}

impl Call {
    /// Draws a call of any shape: D from 1 to 70, L to 5, P to 8; a tenth of the points far
    /// outside.
    pub(crate) fn new(seed: u64) -> Self {
        let mut stream = Stream::new(seed);
        let [b, m, q] = [3, 4, 9].map(|high| stream.size(1, high));
        let d = stream.size(1, 70);
        let l = stream.size(1, 5);
        let p = stream.size(1, 8);
        let levels: Vec<_> = (0..l).map(|_| [stream.size(1, 9), stream.size(1, 9)]).collect();
        let s = levels.iter().map(|[h, w]| h * w).sum();
        Self::of(stream, levels, [b, s, m, d], q, p)
    }

    /// Inputs for these sizes.
    pub(crate) fn of(
        mut stream: Stream,
        levels: Vec<[usize; 2]>,
        value_shape: [usize; 4],
        q: usize,
        p: usize,
    ) -> Self {
        let [b, s, m, d] = value_shape;
        let l = levels.len();
        let value = stream.numbers(b * s * m * d);
        let weights = stream.numbers(b * q * m * l * p);
        let grad = stream.numbers(b * q * m * d);
        let locations = (0..b * q * m * l * p * 2)
            .map(|i| location(&mut stream, levels[i / (2 * p) % l][1 - i % 2]))
            .collect();
        let locations_shape = [b, q, m, l, p, 2];
        Self { levels, value_shape, locations_shape, value, locations, weights, grad }
    }

    /// Makes the tensors of the call: value, locations, weights, gradient of the output.
    pub(crate) fn tensors(&self, device: &Device) -> (Tensor<4>, Tensor<6>, Tensor<5>, Tensor<3>) {
        let [b, _, m, d] = self.value_shape;
        let [_, q, _, l, p, _] = self.locations_shape;
        (
            tensor(&self.value, self.value_shape, device),
            tensor(&self.locations, self.locations_shape, device),
            tensor(&self.weights, [b, q, m, l, p], device),
            tensor(&self.grad, [b, q, m * d], device),
        )
    }

    /// Makes the call for the formula.
    pub(crate) fn host(&self) -> HostCall {
        let f64s = |numbers: &[f32]| numbers.iter().map(|&v| f64::from(v)).collect();
        HostCall {
            levels: self.levels.clone(),
            value_shape: self.value_shape,
            locations_shape: self.locations_shape,
            value: f64s(&self.value),
            locations: f64s(&self.locations),
            weights: f64s(&self.weights),
            grad: f64s(&self.grad),
        }
    }

    /// Returns the sizes, for messages.
    pub(crate) fn title(&self) -> String {
        format!("{:?} {:?} {:?}", self.value_shape, self.locations_shape, self.levels)
    }
}

/// Draws a location along an axis of `side` cells, one in ten up to very far away; not so near the
/// centre of a cell, where the gradient jumps, that f32 and f64 could see different cells.
#[allow(clippy::cast_possible_truncation)] // rounded to f32 once
fn location(stream: &mut Stream, side: usize) -> f32 {
    let reach = if stream.number() > 0.8 {
        [1.0, 1e3, 1e6, 1e9, 1e12, 1e20, 1e30][stream.size(0, 6)]
    } else {
        0.8
    };
    loop {
        let relative = (0.5 + reach * stream.number()) as f32;
        let pixel = f64::from(relative) * side as f64 - 0.5;
        let outside = pixel < -1.001 || pixel > side as f64 + 0.001;
        if outside || (pixel - pixel.round()).abs() > 1e-3 {
            return relative;
        }
    }
}

/// Makes a tensor in f32.
pub(crate) fn tensor<const R: usize>(
    numbers: &[f32],
    shape: [usize; R],
    device: &Device,
) -> Tensor<R> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), shape), (device, DType::F32))
}
