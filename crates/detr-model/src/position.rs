//! Position encodings (`models/position_encoding.py`).

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Bool, DType, Device, FloatDType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Entries of a learned table, so the largest side of a feature map.
pub const LEARNED_CELLS: usize = 50;
/// The same number, for sizes in pixels.
pub(crate) const MAX_LEARNED_CELLS: u32 = 50;

/// The kinds of position embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionKind {
    /// Fixed sines and cosines.
    #[default]
    Sine,
    /// Two learned tables of 50 entries.
    Learned,
}

/// A position encoding; `1` in the checkpoint paths `backbone.1.row_embed.weight`.
#[derive(Module, Debug)]
pub enum PositionEmbedding {
    /// Fixed.
    Sine(PositionEmbeddingSine),
    /// A learned embedding.
    Learned(PositionEmbeddingLearned),
}

/// Sines and cosines of the normalised distance from the top left corner.
#[derive(Module, Debug)]
pub struct PositionEmbeddingSine {
    /// Channels per axis.
    pub num_pos_feats: usize,
    /// Whether positions run from 0 to 2 pi over the valid part, as in every published model;
    /// otherwise they count cells.
    pub normalize: bool,
    /// The offset that is added to a count before it is normalised: 0 in DETR, whose first cell is
    /// at 1, and -0.5 in Deformable DETR, which means the centre of the cell.
    pub offset: f64,
}

/// Two tables of [`LEARNED_CELLS`] entries, columns first.
#[derive(Module, Debug)]
pub struct PositionEmbeddingLearned {
    /// `[50, D/2]`, by row.
    pub row_embed: Embedding,
    /// `[50, D/2]`, by column.
    pub col_embed: Embedding,
}

impl PositionEmbedding {
    /// Creates an encoding of width `hidden_dim`.
    #[must_use]
    pub fn new(kind: PositionKind, hidden_dim: usize, device: &Device) -> Self {
        match kind {
            PositionKind::Sine => Self::Sine(PositionEmbeddingSine::new(hidden_dim / 2)),
            PositionKind::Learned => {
                Self::Learned(PositionEmbeddingLearned::new(hidden_dim / 2, device))
            }
        }
    }

    /// Computes the encoding of every cell of a feature map, in f32.
    ///
    /// # Shapes
    /// - `mask` `[B, h, w]`, true = padding; without one, the images fill the map
    /// - output `[B, D, h, w]`, or `[1, D, h, w]` where all images share it
    #[must_use]
    pub fn forward(
        &self,
        mask: Option<&Tensor<3, Bool>>,
        size: [usize; 2],
        device: &Device,
    ) -> Tensor<4> {
        match self {
            Self::Sine(sine) => sine.forward(mask, size, device),
            Self::Learned(learned) => learned.forward(size),
        }
    }
}

impl PositionEmbeddingSine {
    /// Creates the normalised encoding with `num_pos_feats` channels per axis.
    #[must_use]
    pub const fn new(num_pos_feats: usize) -> Self {
        Self { num_pos_feats, normalize: true, offset: 0.0 }
    }

    /// Moves positions to the centres of the cells, as Deformable DETR has it.
    #[must_use]
    pub const fn centred(num_pos_feats: usize) -> Self {
        Self { num_pos_feats, normalize: true, offset: -0.5 }
    }

    /// Computes [`PositionEmbedding::forward`]. Channels: y before x, sine and cosine interleaved.
    #[must_use]
    pub fn forward(
        &self,
        mask: Option<&Tensor<3, Bool>>,
        [h, w]: [usize; 2],
        device: &Device,
    ) -> Tensor<4> {
        let n = self.num_pos_feats;
        let (y, x) = if let Some(mask) = mask {
            let valid = mask.clone().bool_not().float().cast(FloatDType::F32);
            let y = self.encode(valid.clone().cumsum(1), 1, device);
            (y, self.encode(valid.cumsum(2), 2, device))
        } else {
            // A row has one code for all its cells, and so has a column.
            let ones = |shape: [usize; 3]| Tensor::<3>::ones(shape, (device, DType::F32));
            let y = self.encode(ones([1, h, 1]).cumsum(1), 1, device);
            let x = self.encode(ones([1, 1, w]).cumsum(2), 2, device);
            (y.expand([1, h, w, n]), x.expand([1, h, w, n]))
        };
        Tensor::cat(vec![y, x], 3).permute([0, 3, 1, 2])
    }

    /// Encodes counts of valid cells `[B, h, w]` along `axis` as channels `[B, h, w, n]`.
    fn encode(&self, mut count: Tensor<3>, axis: usize, device: &Device) -> Tensor<4> {
        const EPS: f64 = 1e-6;
        const TEMPERATURE: f32 = 10_000.0;
        if self.normalize {
            let len = count.dims()[axis];
            let total = count.clone().slice_dim(axis, len - 1..len);
            count = (count + self.offset) / (total + EPS) * (2.0 * std::f64::consts::PI);
        }
        let [b, h, w] = count.dims();
        let n = self.num_pos_feats;
        // One divisor per pair of channels: 10000^(2 floor(i/2) / n), in f32 as in the reference.
        #[allow(clippy::cast_precision_loss)] // channel counts are small
        let divisors: Vec<f32> =
            (0..n / 2).map(|i| TEMPERATURE.powf((2 * i) as f32 / n as f32)).collect();
        let divisors =
            Tensor::<1>::from_data(TensorData::new(divisors, [n / 2]), (device, DType::F32));
        let angle = count.unsqueeze_dim::<4>(3) / divisors.reshape([1, 1, 1, n / 2]);
        Tensor::stack::<5>(vec![angle.clone().sin(), angle.cos()], 4).reshape([b, h, w, n])
    }
}

impl PositionEmbeddingLearned {
    /// Tables drawn uniformly from [0, 1).
    #[must_use]
    pub fn new(num_pos_feats: usize, device: &Device) -> Self {
        let table = || {
            EmbeddingConfig::new(LEARNED_CELLS, num_pos_feats)
                .with_initializer(Initializer::Uniform { min: 0.0, max: 1.0 })
                .init(device)
        };
        Self { row_embed: table(), col_embed: table() }
    }

    /// Computes the encoding, the same for every image: `[1, D, h, w]`, columns before rows.
    /// Neither side of the map may pass [`LEARNED_CELLS`].
    #[must_use]
    pub fn forward(&self, [h, w]: [usize; 2]) -> Tensor<4> {
        learned_grid(self.col_embed.weight.val(), self.row_embed.weight.val(), [h, w])
            .cast(FloatDType::F32)
    }
}

/// Joins a column and a row table (`[50, n]` each) to `[1, 2n, h, w]`.
pub(crate) fn learned_grid(columns: Tensor<2>, rows: Tensor<2>, [h, w]: [usize; 2]) -> Tensor<4> {
    let n = columns.dims()[1];
    let x = columns.slice_dim(0, 0..w).reshape([1, 1, w, n]).expand([1, h, w, n]);
    let y = rows.slice_dim(0, 0..h).reshape([1, h, 1, n]).expand([1, h, w, n]);
    Tensor::cat(vec![x, y], 3).permute([0, 3, 1, 2])
}
