//! Multi-head attention as `torch.nn.MultiheadAttention` computes and stores it (Vaswani et al.
//! 2017, section 3.2.2): one fused input projection, so checkpoints load as they are.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Initializer};
use burn::tensor::{Bool, Device, Tensor};

use detr_ops::{dense, record};

use crate::nn::{Init, Linear, softmax_f32};

/// Largest score matrix held at once, in elements: queries are taken in blocks below it, which
/// bounds memory at the large feature maps of DC5 and changes no result.
const MAX_SCORES: usize = 16 << 20;

/// Multi-head attention.
#[derive(Module, Debug)]
pub struct MultiheadAttention {
    /// `[3D, D]`: query, key and value projections, in PyTorch's layout.
    pub in_proj_weight: Param<Tensor<2>>,
    /// `[3D]`.
    pub in_proj_bias: Param<Tensor<1>>,
    /// Output projection.
    pub out_proj: Linear,
    /// Dropout of the attention weights.
    pub dropout: Dropout,
    nheads: usize,
}

impl MultiheadAttention {
    /// Creates an attention of `nheads` heads on vectors of width `hidden_dim`. The fused input
    /// projection is Xavier uniform as one `[3D, D]` matrix, as the reference's initialisation
    /// makes it.
    #[must_use]
    pub fn new(hidden_dim: usize, nheads: usize, dropout: f64, device: &Device) -> Self {
        let xavier = Initializer::XavierUniform { gain: 1.0 };
        Self {
            in_proj_weight: xavier.init_with(
                [3 * hidden_dim, hidden_dim],
                Some(hidden_dim),
                Some(3 * hidden_dim),
                device,
            ),
            in_proj_bias: Initializer::Zeros.init([3 * hidden_dim], device),
            out_proj: Linear::new(hidden_dim, hidden_dim, Init::XavierZeroBias, device),
            dropout: DropoutConfig::new(dropout).init(),
            nheads,
        }
    }

    /// Lets every query attend to all keys that are not padding.
    ///
    /// # Shapes
    /// - `query` `[B, Q, D]`, `key` and `value` `[B, S, D]`
    /// - `key_padding_mask` `[B, S]`, true = padding; at least one key of each image is not
    /// - output `[B, Q, D]`
    #[must_use]
    pub fn forward(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        key_padding_mask: Option<&Tensor<2, Bool>>,
    ) -> Tensor<3> {
        let [b, q_len, d] = query.dims();
        let s = key.dims()[1];
        let head_dim = d / self.nheads;
        #[allow(clippy::cast_precision_loss)] // head widths are small
        let scale = 1.0 / (head_dim as f64).sqrt();

        let q = self.split_heads(self.project(query, 0) * scale);
        let k = self.split_heads(self.project(key, 1));
        let v = self.split_heads(self.project(value, 2));
        if let Some(heads) = dense::attention(&q, &k, &v, key_padding_mask) {
            return self.out_proj.forward(heads);
        }
        let k = k.swap_dims(2, 3);
        let mask = key_padding_mask.map(|mask| mask.clone().reshape([b, 1, 1, s]));

        let attend = |q: Tensor<4>| {
            let mut scores = q.matmul(k.clone());
            if let Some(mask) = &mask {
                let mask = mask.clone().expand(scores.dims());
                scores = scores.mask_fill(mask, f32::NEG_INFINITY);
            }
            self.dropout.forward(softmax_f32(scores)).matmul(v.clone())
        };
        let block = (MAX_SCORES / (b * self.nheads * s)).max(1);
        let heads = if block >= q_len || record::is_recorded(&q) {
            attend(q)
        } else {
            let blocks = (0..q_len)
                .step_by(block)
                .map(|from| attend(q.clone().slice_dim(2, from..(from + block).min(q_len))))
                .collect();
            Tensor::cat(blocks, 2)
        };
        self.out_proj.forward(heads.swap_dims(1, 2).reshape([b, q_len, d]))
    }

    /// Applies the query (0), key (1) or value (2) projection.
    fn project(&self, x: Tensor<3>, part: usize) -> Tensor<3> {
        let d = x.dims()[2];
        let rows = part * d..(part + 1) * d;
        let weight = self.in_proj_weight.val().slice_dim(0, rows.clone()).transpose();
        let bias = self.in_proj_bias.val().slice_dim(0, rows);
        dense::linear(x, weight, Some(bias), false)
    }

    /// `[B, S, D] -> [B, M, S, D/M]`.
    fn split_heads(&self, x: Tensor<3>) -> Tensor<4> {
        let [b, s, d] = x.dims();
        x.reshape([b, s, self.nheads, d / self.nheads]).swap_dims(1, 2)
    }
}
