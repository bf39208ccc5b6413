//! The calls that are measured: sizes of the encoder and decoder of the paper, for a picture
//! of 800 by 1066 pixels.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use detr_model::weights::recipe_value;

/// Levels of strides 8 to 64, (H, W).
const LEVELS: [[usize; 2]; 4] = [[100, 134], [50, 67], [25, 34], [13, 17]];
/// Heads.
const M: usize = 8;
/// Channels per head.
const D: usize = 32;
/// Points per level.
const P: usize = 4;
/// How far points near their query are from it, at most, in cells of their level: those of the
/// initialisation are as far.
const NEAR: f64 = 4.0;

/// A call to measure.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Queries; one for every cell if none.
    queries: Option<usize>,
    /// Points near the place of their query, as in a model, or anywhere in the picture.
    near: bool,
}

impl Case {
    /// Encoder and decoder.
    pub(super) const ALL: [Self; 4] = [
        Self { name: "encoder, near", queries: None, near: true },
        Self { name: "encoder, anywhere", queries: None, near: false },
        Self { name: "decoder, near", queries: Some(300), near: true },
        Self { name: "decoder, anywhere", queries: Some(300), near: false },
    ];
}

/// The arguments of a call.
pub(super) struct Inputs {
    pub(super) levels: Vec<[usize; 2]>,
    pub(super) value: Tensor<4>,
    pub(super) locations: Tensor<6>,
    pub(super) weights: Tensor<5>,
}

impl Inputs {
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // any numbers will do
    pub(super) fn new(case: &Case, device: &Device, dtype: FloatDType) -> Self {
        let l = LEVELS.len();
        let s: usize = LEVELS.iter().map(|[h, w]| h * w).sum();
        let q = case.queries.unwrap_or(s);
        let centres: Vec<[f64; 2]> = LEVELS
            .iter()
            .flat_map(|&[h, w]| (0..h * w).map(move |i| (i, h, w)))
            .map(|(i, h, w)| [((i % w) as f64 + 0.5) / w as f64, ((i / w) as f64 + 0.5) / h as f64])
            .collect();
        let location = |i: usize| {
            let r = recipe_value("bench.locations", 1, i as u64);
            let (axis, level, query) = (i % 2, i / (2 * P) % l, i / (2 * P * l * M));
            let side = LEVELS[level][1 - axis] as f64;
            let centre = centres[query * (s / q)][axis];
            (if case.near { centre + NEAR * r / side } else { 0.5 + 0.5 * r }) as f32
        };
        let numbers = |name: &str, count: usize| -> Vec<f32> {
            (0..count).map(|i| recipe_value(name, 1, i as u64) as f32).collect()
        };
        let count = q * M * l * P * 2;
        let locations: Vec<f32> = (0..count).map(location).collect();
        let f32 = (device, DType::F32);
        let value = TensorData::new(numbers("bench.value", s * M * D), [1, s, M, D]);
        let weights = TensorData::new(numbers("bench.weights", count / 2), [1, q, M, l, P]);
        Self {
            levels: LEVELS.to_vec(),
            value: Tensor::<4>::from_data(value, f32).cast(dtype),
            locations: Tensor::from_data(TensorData::new(locations, [1, q, M, l, P, 2]), f32),
            weights: Tensor::from_data(weights, f32),
        }
    }

    pub(super) fn queries(&self) -> usize {
        self.locations.dims()[1]
    }

    /// Inputs read and output written, each once.
    pub(super) fn forward_bytes(&self) -> usize {
        self.input_bytes() + self.output_bytes()
    }

    /// Inputs and the gradient of the output read, gradients of the inputs written.
    pub(super) fn backward_bytes(&self) -> usize {
        2 * self.input_bytes() + self.output_bytes()
    }

    fn input_bytes(&self) -> usize {
        let value = self.value.shape().num_elements() * self.value.dtype().size();
        let points = self.locations.shape().num_elements() + self.weights.shape().num_elements();
        value + points * DType::F32.size()
    }

    fn output_bytes(&self) -> usize {
        self.queries() * M * D * self.value.dtype().size()
    }
}
