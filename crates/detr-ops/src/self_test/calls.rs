//! The calls that the self-test makes: sizes at which kernels go wrong.

use burn::tensor::{DType, FloatDType, TensorData};

use crate::formula::HostCall;

/// (H, W) of the levels, and B, M, D, Q, P.
type Sizes = (&'static [[usize; 2]], [usize; 5]);

const SIZES: [Sizes; 5] = [
    // The published sizes of the model, on small maps.
    (&[[12, 17], [6, 9], [3, 5], [2, 3]], [1, 8, 32, 37, 4]),
    // Channels that no vector divides, more than one image.
    (&[[7, 5], [3, 2]], [2, 3, 33, 11, 3]),
    // One of everything.
    (&[[1, 1]], [1, 1, 1, 1, 1]),
    // Vectors of two, a number of points that is no power of two.
    (&[[5, 9], [4, 4], [1, 3]], [2, 2, 6, 13, 5]),
    // More channels than units share, one by one; many queries on few cells.
    (&[[4, 3]], [1, 2, 67, 70, 8]),
];

/// Returns all calls, with values and gradients that are exact in `dtype`.
pub(super) fn calls(dtype: FloatDType) -> impl Iterator<Item = HostCall> {
    let calls = SIZES.into_iter().zip(0..);
    let calls = calls.map(move |((levels, sizes), seed)| call(levels, sizes, seed, dtype));
    calls.chain(std::iter::once_with(move || on_centres(dtype)))
}

/// Makes a call whose points are all on centres of cells, from a whole cell before the first to one
/// after the last: there the gradient jumps, and a kernel that takes the wrong side is wrong by all
/// of it.
fn on_centres(dtype: FloatDType) -> HostCall {
    // Powers of two, so that the centres are exact in f32.
    let levels = [[8, 16], [4, 2], [1, 1]];
    let mut call = call(&levels, [1, 2, 8, 60, 4], 5, dtype);
    let mut numbers = SplitMix64(6);
    let [_, _, _, l, p, _] = call.locations_shape;
    for (i, location) in call.locations.iter_mut().enumerate() {
        *location = numbers.centre(levels[i / (2 * p) % l][1 - i % 2]);
    }
    call
}

fn call(
    levels: &[[usize; 2]],
    [b, m, d, q, p]: [usize; 5],
    seed: u64,
    dtype: FloatDType,
) -> HostCall {
    let mut numbers = SplitMix64(seed);
    let l = levels.len();
    let s = levels.iter().map(|[h, w]| h * w).sum();
    let locations_shape = [b, q, m, l, p, 2];
    let count = locations_shape.iter().product::<usize>();
    let locations =
        (0..count).map(|i| numbers.location(levels[i / (2 * p) % l][1 - i % 2])).collect();
    HostCall {
        levels: levels.to_vec(),
        value_shape: [b, s, m, d],
        locations_shape,
        value: numbers.rounded(b * s * m * d, dtype.into()),
        locations,
        weights: numbers.rounded(count / 2, DType::F32),
        grad: numbers.rounded(b * q * m * d, dtype.into()),
    }
}

/// A stream of random numbers: `SplitMix64`.
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    /// Draws a number in [-1, 1).
    #[allow(clippy::cast_precision_loss)] // the upper 53 bits are exact
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Draws numbers that are exact in a type.
    pub(super) fn rounded(&mut self, count: usize, dtype: DType) -> Vec<f64> {
        let numbers: Vec<f64> = (0..count).map(|_| self.next()).collect();
        TensorData::new(numbers, [count]).convert_dtype(dtype).iter::<f64>().collect()
    }

    /// Draws an integer below a limit.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // small limits
    #[allow(clippy::cast_sign_loss)] // from zero on
    pub(super) fn below(&mut self, limit: usize) -> usize {
        ((limit as f64 * (0.5 + 0.5 * self.next())) as usize).min(limit - 1)
    }

    /// Draws the centre of a cell along an axis of `side` cells, or of the one before or after
    /// them.
    #[allow(clippy::cast_precision_loss)] // small sizes
    fn centre(&mut self, side: usize) -> f64 {
        let cells = side as f64 + 2.0;
        let pixel = (cells * (0.5 + 0.5 * self.next())).floor() - 1.0;
        (pixel + 0.5) / side as f64
    }

    /// Draws a location along an axis of `side` cells: inside, a little outside, or one in sixteen
    /// very far away. Not so near the centre of a cell, where the gradient jumps, that f32 and f64
    /// could see different cells.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // small sizes
    fn location(&mut self, side: usize) -> f64 {
        let far = self.next();
        if far.abs() > 15.0 / 16.0 {
            return f64::from((far * 1e30) as f32);
        }
        loop {
            let relative = f64::from((0.5 + 0.7 * self.next()) as f32);
            let pixel = relative * side as f64 - 0.5;
            if (pixel - pixel.round()).abs() > 1e-3 {
                return relative;
            }
        }
    }
}
