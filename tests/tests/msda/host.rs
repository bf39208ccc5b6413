//! The formula in f64 on the host, forward and backward, written for clarity alone.

use crate::random::Call;

/// Inputs of the formula in f64, and its sizes.
pub struct Host<'a> {
    call: &'a Call,
    pub value: Vec<f64>,
    pub locations: Vec<f64>,
    pub weights: Vec<f64>,
}

/// Gradients of the inputs.
pub struct Gradients {
    pub value: Vec<f64>,
    pub locations: Vec<f64>,
    pub weights: Vec<f64>,
}

/// A cell that a point reads: its row in `value`, its bilinear factor, and the derivatives of that
/// by the location.
struct Read {
    row: usize,
    factor: f64,
    by_x: f64,
    by_y: f64,
}

impl<'a> Host<'a> {
    pub fn new(call: &'a Call) -> Self {
        let f64s = |numbers: &[f32]| numbers.iter().map(|&v| f64::from(v)).collect();
        let (value, locations) = (f64s(&call.value), f64s(&call.locations));
        Self { call, value, locations, weights: f64s(&call.weights) }
    }

    /// The output `[B, Q, M * D]`.
    pub fn output(&self) -> Vec<f64> {
        let d = self.call.value_shape[3];
        let mut output = vec![0.0; self.call.grad.len()];
        for point in 0..self.weights.len() {
            for read in self.reads(point) {
                let to = self.query_head(point) * d;
                for c in 0..d {
                    output[to + c] +=
                        self.weights[point] * read.factor * self.value[read.row * d + c];
                }
            }
        }
        output
    }

    /// Gradients of the sum of output times the call's gradient.
    pub fn gradients(&self) -> Gradients {
        let d = self.call.value_shape[3];
        let mut gradients = Gradients {
            value: vec![0.0; self.value.len()],
            locations: vec![0.0; self.locations.len()],
            weights: vec![0.0; self.weights.len()],
        };
        for point in 0..self.weights.len() {
            let weight = self.weights[point];
            for read in self.reads(point) {
                let grad = self.query_head(point) * d;
                for c in 0..d {
                    let grad = f64::from(self.call.grad[grad + c]);
                    let value = self.value[read.row * d + c];
                    gradients.value[read.row * d + c] += weight * read.factor * grad;
                    gradients.weights[point] += read.factor * value * grad;
                    gradients.locations[2 * point] += weight * read.by_x * value * grad;
                    gradients.locations[2 * point + 1] += weight * read.by_y * value * grad;
                }
            }
        }
        gradients
    }

    fn query_head(&self, point: usize) -> usize {
        let [_, _, _, l, p, _] = self.call.locations_shape;
        point / (l * p)
    }

    /// The cells inside the level around a point.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be inside
    fn reads(&self, point: usize) -> Vec<Read> {
        let [_, q, m, l, p, _] = self.call.locations_shape;
        let level = point / p % l;
        let (head, image) = (self.query_head(point) % m, self.query_head(point) / (m * q));
        let [height, width] = self.call.levels[level].map(|side| side as f64);
        let start: usize = self.call.levels[..level].iter().map(|[h, w]| h * w).sum();
        let x = self.locations[2 * point] * width - 0.5;
        let y = self.locations[2 * point + 1] * height - 0.5;
        let mut reads = Vec::new();
        for row in [y.floor(), y.floor() + 1.0] {
            for column in [x.floor(), x.floor() + 1.0] {
                if row < 0.0 || column < 0.0 || row >= height || column >= width {
                    continue;
                }
                let cell = start + (row * width + column) as usize;
                let (near_x, near_y) = (1.0 - (x - column).abs(), 1.0 - (y - row).abs());
                reads.push(Read {
                    row: (image * self.call.value_shape[1] + cell) * m + head,
                    factor: near_x * near_y,
                    by_x: (column - x).signum() * near_y * width,
                    by_y: (row - y).signum() * near_x * height,
                });
            }
        }
        reads
    }
}
