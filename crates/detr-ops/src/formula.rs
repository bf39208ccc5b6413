//! Multi-scale deformable attention in f64 on the host, forward and backward, written for clarity
//! alone: what the self-test and the tests measure errors against.

/// Sizes and inputs of a call, row by row as the tensors of [`msda`](crate::msda) are.
#[derive(Clone, Debug)]
pub struct HostCall {
    /// (H, W) of every level.
    pub levels: Vec<[usize; 2]>,
    /// B, S, M, D.
    pub value_shape: [usize; 4],
    /// B, Q, M, L, P, 2.
    pub locations_shape: [usize; 6],
    /// The values.
    pub value: Vec<f64>,
    /// The locations, (x, y).
    pub locations: Vec<f64>,
    /// The attention weights.
    pub weights: Vec<f64>,
    /// Gradient of the output, `[B, Q, M * D]`.
    pub grad: Vec<f64>,
}

/// Gradients of the inputs, laid out as they are.
#[derive(Clone, Debug)]
pub struct HostGradients {
    /// By the values.
    pub value: Vec<f64>,
    /// By the locations.
    pub locations: Vec<f64>,
    /// By the weights.
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

impl HostCall {
    /// The output `[B, Q, M * D]`.
    #[must_use]
    pub fn output(&self) -> Vec<f64> {
        let d = self.value_shape[3];
        let mut output = vec![0.0; self.grad.len()];
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

    /// Gradients of the sum of output times `grad`.
    #[must_use]
    pub fn gradients(&self) -> HostGradients {
        let d = self.value_shape[3];
        let mut gradients = HostGradients {
            value: vec![0.0; self.value.len()],
            locations: vec![0.0; self.locations.len()],
            weights: vec![0.0; self.weights.len()],
        };
        for point in 0..self.weights.len() {
            let weight = self.weights[point];
            for read in self.reads(point) {
                let grad = self.query_head(point) * d;
                for c in 0..d {
                    let grad = self.grad[grad + c];
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
        let [_, _, _, l, p, _] = self.locations_shape;
        point / (l * p)
    }

    /// The cells inside the level around a point.
    #[allow(
        clippy::cast_possible_truncation, // checked to be inside the level
        clippy::cast_sign_loss,
        clippy::cast_precision_loss // sides of maps in memory
    )]
    fn reads(&self, point: usize) -> Vec<Read> {
        let [_, q, m, l, p, _] = self.locations_shape;
        let level = point / p % l;
        let (head, image) = (self.query_head(point) % m, self.query_head(point) / (m * q));
        let [height, width] = self.levels[level].map(|side| side as f64);
        let start: usize = self.levels[..level].iter().map(|[h, w]| h * w).sum();
        let x = self.locations[2 * point] * width - 0.5;
        let y = self.locations[2 * point + 1] * height - 0.5;
        let mut reads = Vec::new();
        for row in [y.floor(), y.floor() + 1.0] {
            for column in [x.floor(), x.floor() + 1.0] {
                if !((0.0..height).contains(&row) && (0.0..width).contains(&column)) {
                    continue;
                }
                let cell = start + (row * width + column) as usize;
                let (near_x, near_y) = (1.0 - (x - column).abs(), 1.0 - (y - row).abs());
                reads.push(Read {
                    row: (image * self.value_shape[1] + cell) * m + head,
                    factor: near_x * near_y,
                    by_x: (column - x).signum() * near_y * width,
                    by_y: (row - y).signum() * near_x * height,
                });
            }
        }
        reads
    }
}
