//! Matrix products, and convolutions forward and backward.
//!
//! The host does not repeat the whole product `C = A B`: it compares `C r` with `A (B r)` for a random vector `r`,
//! which every wrong or misplaced element of `C` changes. Convolutions and their gradients are linear in the
//! same way.

use burn::tensor::{Device, FloatDType, Tensor};

use super::values::random;
use super::{Extent, Need, OperationError, Test, TestedOperation};
use crate::dense::ConvOptions;
use crate::self_test::tensor;

/// The error that sums of some thousand products may have in f32, for each unit of the largest result. The CPU and Mesa's
/// software adapter lose up to a twentieth of it.
const F32: f64 = 3e-5;

pub(super) fn run(test: &mut Test<'_>) -> Result<(), OperationError> {
    let full = test.extent == Extent::Full;
    // A linear layer of the encoder, the gradient of its weights, scores of attention, and odd sizes.
    let mut products =
        vec![[1, 4_200, 256, 256], [1, 256, 4_200, 256], [8, 300, 32, 850], [3, 37, 91, 53]];
    if full {
        products.extend([[1, 22_223, 256, 1_024], [1, 256, 44_446, 256]]);
    }
    for sizes in products {
        // Either factor transposed, and both sliced.
        for layouts in [[false, false], [true, false], [false, true]] {
            matmul(test, sizes, layouts, false)?;
        }
        matmul(test, sizes, [false, false], true)?;
    }
    let mut convolutions = vec![
        Conv { x: [1, 3, 131, 167], filters: 64, kernel: 7, stride: 2, padding: 3, dilation: 1 },
        Conv { x: [2, 64, 50, 67], filters: 64, kernel: 3, stride: 1, padding: 1, dilation: 1 },
        Conv { x: [1, 128, 25, 34], filters: 96, kernel: 3, stride: 2, padding: 1, dilation: 1 },
        Conv { x: [1, 64, 25, 34], filters: 70, kernel: 3, stride: 1, padding: 2, dilation: 2 },
        Conv { x: [2, 256, 25, 34], filters: 64, kernel: 1, stride: 1, padding: 0, dilation: 1 },
    ];
    if full {
        let stem = Conv { x: [2, 3, 800, 1_333], ..convolutions[0] };
        let body = Conv { x: [2, 256, 100, 167], filters: 256, ..convolutions[1] };
        convolutions.extend([stem, body]);
    }
    for conv in convolutions {
        for channels_last in [false, true] {
            conv.test(test, channels_last)?;
        }
    }
    Ok(())
}

/// Multiplies `[b, m, k]` by `[b, k, n]`.
fn matmul(
    test: &mut Test<'_>,
    [b, m, k, n]: [usize; 4],
    [turn_a, turn_b]: [bool; 2],
    sliced: bool,
) -> Result<(), OperationError> {
    let subject = TestedOperation::rounded("matrix product", Need::Prediction, test.bound(F32));
    let a = random(b * m * k, 51, test.dtype);
    let c = random(b * k * n, 52, test.dtype);
    let mix = random(n, 53, FloatDType::F32);
    let layout = match (turn_a, turn_b, sliced) {
        (true, ..) => "left transposed",
        (_, true, _) => "right transposed",
        (.., true) => "sliced",
        _ => "contiguous",
    };
    let call = format!("{b} x {m}x{k} by {k}x{n}, {layout}");
    let left = batch(&a, [b, m, k], turn_a, sliced, test.device, test.dtype);
    let right = batch(&c, [b, k, n], turn_b, sliced, test.device, test.dtype);
    let found = test.operations.matmul(left, right).cast(FloatDType::F32);
    let found = subject.read(&call, Some(found))?;
    let mixed =
        |rows: &[f64]| -> Vec<f64> { rows.chunks_exact(n).map(|row| dot(row, &mix)).collect() };
    let folded = mixed(&c);
    let expected: Vec<f64> = (a.chunks_exact(m * k).zip(folded.chunks_exact(k)))
        .flat_map(|(a, folded)| a.chunks_exact(k).map(move |row| dot(row, folded)))
        .collect();
    let error = if found.len() == b * m * n {
        super::error(&mixed(&found), &expected)
    } else {
        f64::INFINITY
    };
    test.note(subject, &call, error);
    Ok(())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns matrices that lie in memory as they are, with their last axes exchanged, or inside larger ones.
fn batch(
    numbers: &[f64],
    [b, rows, columns]: [usize; 3],
    turned: bool,
    sliced: bool,
    device: &Device,
    dtype: FloatDType,
) -> Tensor<3> {
    let x: Tensor<3> = tensor(numbers, [b, rows, columns], device, dtype);
    if turned {
        // The numbers are laid out again, then seen through exchanged axes.
        let turned: Vec<f64> = (numbers.chunks_exact(rows * columns))
            .flat_map(|matrix| {
                (0..columns).flat_map(move |c| (0..rows).map(move |r| matrix[r * columns + c]))
            })
            .collect();
        return tensor::<3>(&turned, [b, columns, rows], device, dtype).swap_dims(1, 2);
    }
    if sliced {
        let wide = Tensor::cat(vec![x.clone(), x.clone(), x], 2);
        return wide.slice([0..b, 0..rows, columns..2 * columns]);
    }
    x
}

/// A convolution of `[B, C, H, W]` with square filters.
#[derive(Clone, Copy)]
struct Conv {
    x: [usize; 4],
    filters: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Conv {
    fn outputs(&self) -> [usize; 2] {
        let [_, _, h, w] = self.x;
        let span = self.dilation * (self.kernel - 1) + 1;
        [h, w].map(|side| (side + 2 * self.padding - span) / self.stride + 1)
    }

    fn options(&self) -> ConvOptions {
        ConvOptions {
            stride: [self.stride; 2],
            padding: [self.padding; 2],
            dilation: [self.dilation; 2],
            relu: false,
        }
    }

    /// Calls back with the indices of (output cell, input cell, tap) of every product of one channel and filter in
    /// one image.
    fn taps(&self, mut each: impl FnMut(usize, usize, usize)) {
        let [_, _, h, w] = self.x;
        let [rows, columns] = self.outputs();
        let inside = |at: usize, tap: usize, side: usize| {
            let at = (at * self.stride + tap * self.dilation).checked_sub(self.padding)?;
            (at < side).then_some(at)
        };
        for (row, i) in pairs(rows, self.kernel) {
            let Some(y) = inside(row, i, h) else { continue };
            for (column, j) in pairs(columns, self.kernel) {
                if let Some(x) = inside(column, j, w) {
                    each(row * columns + column, y * w + x, i * self.kernel + j);
                }
            }
        }
    }

    fn test(self, test: &mut Test<'_>, channels_last: bool) -> Result<(), OperationError> {
        let bound = test.bound(F32);
        let forward = TestedOperation::rounded("convolution", Need::Prediction, bound);
        let input =
            TestedOperation::rounded("convolution, input's gradient", Need::Training, bound);
        let weights =
            TestedOperation::rounded("convolution, weights' gradient", Need::Training, bound);
        let [b, c, h, w] = self.x;
        let [rows, columns] = self.outputs();
        let (f, taps) = (self.filters, self.kernel * self.kernel);
        let (cells, outputs) = (h * w, rows * columns);
        let layout = if channels_last { "channels last" } else { "contiguous" };
        let call = format!("{b}x{c}x{h}x{w}, {f} filters {k}x{k}, {layout}", k = self.kernel);

        let x = random(b * c * cells, 61, test.dtype);
        let weight = random(f * c * taps, 62, test.dtype);
        let grad = random(b * f * outputs, 63, test.dtype);
        let upload = if channels_last { permuted } else { tensor };
        let input_tensor = upload(&x, self.x, test.device, test.dtype).autodiff().require_grad();
        let weight_tensor =
            tensor(&weight, [f, c, self.kernel, self.kernel], test.device, test.dtype);
        let weight_tensor = weight_tensor.autodiff().require_grad();
        let plain = test.operations.conv2d(
            input_tensor.clone().inner(),
            weight_tensor.clone().inner(),
            self.options(),
        );
        let y = test.operations.conv2d(input_tensor.clone(), weight_tensor.clone(), self.options());
        let weighted: Tensor<4> = upload(&grad, [b, f, rows, columns], test.device, test.dtype);
        let mut grads = (y.clone() * weighted.autodiff()).sum().backward();
        let found_x = input_tensor.grad_remove(&mut grads);
        let found_weight = weight_tensor.grad_remove(&mut grads);

        // Filters are combined in the output and the weights' gradient, channels in the input's.
        let by_filter = random(f, 64, FloatDType::F32);
        let by_channel = random(c, 65, FloatDType::F32);
        let one_filter = combined(&weight, &by_filter, c * taps);
        let one_channel: Vec<f64> =
            weight.chunks_exact(c * taps).flat_map(|w| combined(w, &by_channel, taps)).collect();
        let one_grad = each_image(&grad, b, |grad| combined(grad, &by_filter, outputs));

        let mut expected = vec![0.0; b * outputs];
        let mut expected_x = vec![0.0; b * cells];
        let mut expected_weight = vec![0.0; c * taps];
        for image in 0..b {
            let y = &mut expected[image * outputs..][..outputs];
            for channel in 0..c {
                let x = &x[(image * c + channel) * cells..][..cells];
                let w = &one_filter[channel * taps..][..taps];
                let grad = &one_grad[image * outputs..][..outputs];
                let sums = &mut expected_weight[channel * taps..][..taps];
                self.taps(|out, at, tap| {
                    y[out] += x[at] * w[tap];
                    sums[tap] += grad[out] * x[at];
                });
            }
            let sums = &mut expected_x[image * cells..][..cells];
            for filter in 0..f {
                let grad = &grad[(image * f + filter) * outputs..][..outputs];
                let w = &one_channel[filter * taps..][..taps];
                self.taps(|out, at, tap| sums[at] += grad[out] * w[tap]);
            }
        }
        let combine = |found: &[f64], parts: &[f64], images: usize, len: usize| {
            if found.len() == images * parts.len() * len {
                each_image(found, images, |image| combined(image, parts, len))
            } else {
                Vec::new()
            }
        };
        for y in [plain, y.inner()] {
            let found = forward.read(&call, Some(y))?;
            let found = combine(&found, &by_filter, b, outputs);
            test.note(forward, &call, super::error(&found, &expected));
        }
        let found = input.read(&call, found_x)?;
        let found = combine(&found, &by_channel, b, cells);
        test.note(input, &call, super::error(&found, &expected_x));
        let found = weights.read(&call, found_weight)?;
        let found = combine(&found, &by_filter, 1, c * taps);
        test.note(weights, &call, super::error(&found, &expected_weight));
        Ok(())
    }
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |a| (0..b).map(move |b| (a, b)))
}

/// Returns the sum of parts of `len` elements, each with a factor of its own.
fn combined(parts: &[f64], factors: &[f64], len: usize) -> Vec<f64> {
    let mut sum = vec![0.0; len];
    for (part, factor) in parts.chunks_exact(len).zip(factors) {
        for (sum, number) in sum.iter_mut().zip(part) {
            *sum += factor * number;
        }
    }
    sum
}

fn each_image(numbers: &[f64], images: usize, work: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    numbers.chunks_exact(numbers.len() / images).flat_map(work).collect()
}

/// Returns a tensor that lies in memory channels last.
fn permuted(
    numbers: &[f64],
    [b, c, h, w]: [usize; 4],
    device: &Device,
    dtype: FloatDType,
) -> Tensor<4> {
    let cells = h * w;
    let last: Vec<f64> = (numbers.chunks_exact(c * cells))
        .flat_map(|image| {
            (0..cells)
                .flat_map(move |cell| (0..c).map(move |channel| image[channel * cells + cell]))
        })
        .collect();
    tensor::<4>(&last, [b, h, w, c], device, dtype).permute([0, 3, 1, 2])
}
