//! Multi-scale deformable attention with its projections (`models/ops/modules/ms_deform_attn.py`
//! of the reference; Zhu et al. 2021, section 4.1). The sampling itself is `detr_ops`.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Bool, DType, Device, FloatDType, Tensor, TensorData};
use detr_ops::msda;

use crate::nn::{Init, Linear, softmax_f32};

/// Multi-scale deformable attention.
#[derive(Module, Debug)]
pub struct MSDeformAttn {
    /// The layer that places the sampling points: `[D] -> [M, L, P, 2]`, (x, y).
    pub sampling_offsets: Linear,
    /// The layer that weights the sampling points: `[D] -> [M, L, P]`.
    pub attention_weights: Linear,
    /// Projection of the tokens that are looked at.
    pub value_proj: Linear,
    /// Output projection.
    pub output_proj: Linear,
    nheads: usize,
    n_levels: usize,
    n_points: usize,
}

/// The tokens that are sampled: those of all levels, from fine to coarse, each level row by row.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[B, S, D]`.
    pub values: Tensor<3>,
    /// `[B, S]`, true = padding.
    pub mask: Option<Tensor<2, Bool>>,
    /// (H, W) of every level.
    pub levels: Vec<[usize; 2]>,
}

impl MSDeformAttn {
    /// Creates an attention of `nheads` heads on vectors of width `hidden_dim`, with `n_points`
    /// points in each of `n_levels` levels. A fresh one looks with equal weights along one ray per
    /// head.
    #[must_use]
    pub fn new(
        hidden_dim: usize,
        nheads: usize,
        n_levels: usize,
        n_points: usize,
        device: &Device,
    ) -> Self {
        let places = nheads * n_levels * n_points;
        let zeros = |outputs: usize| Linear {
            weight: Initializer::Zeros.init([hidden_dim, outputs], device),
            bias: Some(Initializer::Zeros.init([outputs], device)),
        };
        let rays = initial_offsets(nheads, n_levels, n_points);
        let rays = Tensor::from_data(TensorData::new(rays, [2 * places]), (device, DType::F32));
        let sampling_offsets = Linear { bias: Some(Param::from_tensor(rays)), ..zeros(2 * places) };
        Self {
            sampling_offsets,
            attention_weights: zeros(places),
            value_proj: Linear::new(hidden_dim, hidden_dim, Init::XavierZeroBias, device),
            output_proj: Linear::new(hidden_dim, hidden_dim, Init::XavierZeroBias, device),
            nheads,
            n_levels,
            n_points,
        }
    }

    /// Lets every query read the tokens around its reference.
    ///
    /// A reference of two numbers is a point, and offsets count cells; one of four is a box (centre
    /// and size), and offsets count halves of the box per point (section A.3 of the paper).
    ///
    /// # Shapes
    /// - `query` `[B, Q, D]`
    /// - `reference_points` `[B or 1, Q, L, 2 or 4]` in f32, relative to each padded level
    /// - output `[B, Q, D]`
    #[must_use]
    pub fn forward(
        &self,
        query: Tensor<3>,
        reference_points: Tensor<4>,
        tokens: &Tokens,
    ) -> Tensor<3> {
        let [b, q, d] = query.dims();
        let s = tokens.values.dims()[1];
        let [m, l, p] = [self.nheads, self.n_levels, self.n_points];

        let mut value = self.value_proj.forward(tokens.values.clone());
        if let Some(mask) = &tokens.mask {
            // A padded token is replaced, not multiplied: whatever it holds, zero times NaN would
            // be NaN.
            let mask = mask.clone().reshape([b, s, 1]).expand([b, s, d]);
            value = value.mask_fill(mask, 0.0);
        }
        let offsets = self.sampling_offsets.forward(query.clone()).cast(FloatDType::F32);
        let weights = self.attention_weights.forward(query).cast(FloatDType::F32);
        let weights = softmax_f32(weights.reshape([b, q, m, l * p])).reshape([b, q, m, l, p]);
        let locations = self.locations(offsets, reference_points, &tokens.levels);
        let output = msda(value.reshape([b, s, m, d / m]), &tokens.levels, locations, weights);
        self.output_proj.forward(output)
    }

    /// Offsets `[B, Q, M * L * P * 2]` to places `[B, Q, M, L, P, 2]`, relative to each level.
    fn locations(
        &self,
        offsets: Tensor<3>,
        reference_points: Tensor<4>,
        levels: &[[usize; 2]],
    ) -> Tensor<6> {
        let [b, q, _] = offsets.dims();
        let [m, l, p] = [self.nheads, self.n_levels, self.n_points];
        let [rb, _, _, coordinates] = reference_points.dims();
        let offsets = offsets.reshape([b, q, m, l, p, 2]);
        let centre = reference_points.clone().slice_dim(3, 0..2).reshape([rb, q, 1, l, 1, 2]);
        if coordinates == 2 {
            #[allow(clippy::cast_precision_loss)] // sides of feature maps are small
            let sizes: Vec<f32> = levels.iter().flat_map(|&[h, w]| [w as f32, h as f32]).collect();
            let sizes = Tensor::<1>::from_data(
                TensorData::new(sizes, [2 * l]),
                (&offsets.device(), DType::F32),
            );
            return centre + offsets / sizes.reshape([1, 1, 1, l, 1, 2]);
        }
        #[allow(clippy::cast_precision_loss)] // a few points
        let scale = 0.5 / p as f64;
        let size = reference_points.slice_dim(3, 2..4).reshape([rb, q, 1, l, 1, 2]);
        centre + offsets * (size * scale)
    }
}

/// Returns the initial offsets `[M, L, P, 2]`: head k looks in the direction 2 pi k / M, one cell
/// (in the larger coordinate) further with every point, and the same on all levels.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // small counts, f32 in the end
fn initial_offsets(nheads: usize, n_levels: usize, n_points: usize) -> Vec<f32> {
    let mut offsets = Vec::with_capacity(nheads * n_levels * n_points * 2);
    for head in 0..nheads {
        let angle = 2.0 * std::f64::consts::PI * head as f64 / nheads as f64;
        let (y, x) = angle.sin_cos();
        let larger = x.abs().max(y.abs());
        for _ in 0..n_levels {
            for point in 1..=n_points {
                offsets.push((x / larger * point as f64) as f32);
                offsets.push((y / larger * point as f64) as f32);
            }
        }
    }
    offsets
}
