//! Multi-scale deformable attention in f64 on the host, forward and backward, written for clarity
//! alone. The self-test and the tests measure errors against it.

/// The sizes and inputs of a call, row by row as the tensors of [`msda`](crate::msda) are.
#[derive(Clone, Debug)]
pub struct HostCall {
    /// (H, W) of every level.
    pub levels: Vec<[usize; 2]>,
    /// The sizes of the value: B, S, M, D.
    pub value_shape: [usize; 4],
    /// The sizes of the locations: B, Q, M, L, P, 2.
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

/// The gradients of the inputs, in the same order of memory.
#[derive(Clone, Debug)]
pub struct HostGradients {
    /// The gradient by the values.
    pub value: Vec<f64>,
    /// The gradient by the locations.
    pub locations: Vec<f64>,
    /// The gradient by the attention weights.
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
    /// Computes the output `[B, Q, M * D]`.
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

    /// Computes the gradients of the sum of output times `grad`.
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

    /// Returns the cells inside the level around a point; none if it is a whole cell outside or not
    /// finite. At the centre of a cell, derivatives are those towards the next cell, as in the
    /// reference.
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
        if !(x > -1.0 && y > -1.0 && x < width && y < height) {
            return reads;
        }
        for (row, sign_y) in [(y.floor(), -1.0), (y.floor() + 1.0, 1.0)] {
            for (column, sign_x) in [(x.floor(), -1.0), (x.floor() + 1.0, 1.0)] {
                if !((0.0..height).contains(&row) && (0.0..width).contains(&column)) {
                    continue;
                }
                let cell = start + (row * width + column) as usize;
                let (near_x, near_y) = (1.0 - (x - column).abs(), 1.0 - (y - row).abs());
                reads.push(Read {
                    row: (image * self.value_shape[1] + cell) * m + head,
                    factor: near_x * near_y,
                    by_x: sign_x * near_y * width,
                    by_y: sign_y * near_x * height,
                });
            }
        }
        reads
    }
}

#[cfg(test)]
mod tests {
    use super::HostCall;

    /// Makes a call with one point on a row of four cells with the values 1, 3, 7, 12.
    fn on_a_row(pixel: f64) -> HostCall {
        HostCall {
            levels: vec![[1, 4]],
            value_shape: [1, 4, 1, 1],
            locations_shape: [1, 1, 1, 1, 1, 2],
            value: vec![1.0, 3.0, 7.0, 12.0],
            locations: vec![(pixel + 0.5) / 4.0, 0.5],
            weights: vec![1.0],
            grad: vec![1.0],
        }
    }

    #[test]
    #[allow(clippy::float_cmp)] // these numbers are exact
    fn at_the_centre_of_a_cell_the_slope_is_that_towards_the_next() {
        for (pixel, output, slope) in
            [(0.0, 1.0, 2.0), (1.0, 3.0, 4.0), (2.0, 7.0, 5.0), (3.0, 12.0, -12.0)]
        {
            let call = on_a_row(pixel);
            assert_eq!(call.output(), [output], "{pixel}");
            // By the relative location, of which a cell is a quarter.
            assert_eq!(call.gradients().locations[0], 4.0 * slope, "{pixel}");
        }
    }

    #[test]
    #[allow(clippy::float_cmp)] // these numbers are exact
    fn a_whole_cell_outside_or_not_finite_there_is_no_gradient() {
        for pixel in [-1.0, 4.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let call = on_a_row(pixel);
            assert_eq!(call.output(), [0.0], "{pixel}");
            let gradients = call.gradients();
            assert_eq!(gradients.locations, [0.0, 0.0], "{pixel}");
            assert_eq!((gradients.weights[0], gradients.value), (0.0, vec![0.0; 4]), "{pixel}");
        }
    }
}
