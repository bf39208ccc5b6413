//! The first of two stages: every token of the encoder proposes a box, and the best become the
//! decoder's queries (`gen_encoder_output_proposals` and `get_proposal_pos_embed` of the
//! reference's `models/deformable_transformer.py`; section A.4 of the paper).

use burn::tensor::activation::sigmoid;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, Transaction};
use detr_ops::{record, traffic};

/// Logit of a coordinate where nothing is proposed. The reference has infinity, whose sigmoid is the
/// same 1 in f32, but which shaders may assume away.
const NOTHING: f32 = 1e4;

/// The boxes before the network refines them.
pub(crate) struct Proposals {
    /// `[B or 1, S, 4]`: logits of centre and size, f32.
    pub(crate) logits: Tensor<3>,
    /// `[B or 1, S, 1]`, true where nothing is proposed: padding, and boxes at the border.
    pub(crate) invalid: Tensor<3, Bool>,
}

impl Proposals {
    /// Proposes one square around every cell, a twentieth of the image wide on the finest level and
    /// twice as wide on each coarser one.
    ///
    /// # Shapes
    /// - `masks`: `[B, h, w]` per level, true = padding; none if all images fill the batch
    pub(crate) fn new(
        levels: &[[usize; 2]],
        masks: Option<&[Tensor<3, Bool>]>,
        device: &Device,
    ) -> Self {
        let mut boxes = Vec::with_capacity(levels.len());
        let mut padding = Vec::with_capacity(levels.len());
        for (level, &[h, w]) in levels.iter().enumerate() {
            let grid = cell_centres([h, w], device).reshape([1, h * w, 2]);
            let extent = match masks {
                Some(masks) => valid_cells(&masks[level]),
                None => constant(&[side(w), side(h)], device).reshape([1, 2]),
            };
            let b = extent.dims()[0];
            let centre = grid / extent.reshape([b, 1, 2]);
            let exponent = i32::try_from(level).expect("a few levels");
            let size =
                Tensor::full([b, h * w, 2], 0.05 * 2f32.powi(exponent), (device, DType::F32));
            boxes.push(Tensor::cat(vec![centre, size], 2));
            if let Some(masks) = masks {
                padding.push(masks[level].clone().reshape([b, h * w, 1]));
            }
        }
        let boxes = Tensor::cat(boxes, 1);
        let outside =
            boxes.clone().lower_equal_elem(0.01).bool_or(boxes.clone().greater_equal_elem(0.99));
        let mut invalid = outside.any_dim(2);
        if !padding.is_empty() {
            invalid = invalid.bool_or(Tensor::cat(padding, 1));
        }
        let [b, s, _] = boxes.dims();
        let everywhere = invalid.clone().expand([b, s, 4]);
        // The logarithm must not see values that are replaced afterwards.
        let boxes = boxes.mask_fill(everywhere.clone(), 0.5);
        let logits = (boxes.clone() / (boxes * -1.0 + 1.0)).log();
        Self { logits: logits.mask_fill(everywhere, NOTHING), invalid }
    }
}

/// Centres of the cells of a map, `[h, w, 2]` as (x, y), in cells.
pub(crate) fn cell_centres([h, w]: [usize; 2], device: &Device) -> Tensor<3> {
    let ramp = |n: usize| {
        let values: Vec<f32> = (0..n).map(|i| side(i) + 0.5).collect();
        constant(&values, device)
    };
    let x = ramp(w).reshape([1, w, 1]).expand([h, w, 1]);
    let y = ramp(h).reshape([h, 1, 1]).expand([h, w, 1]);
    Tensor::cat(vec![x, y], 2)
}

/// Returns the number of columns of the first row and of rows of the first column that are no
/// padding: `[B, 2]`, (x, y).
pub(crate) fn valid_cells(mask: &Tensor<3, Bool>) -> Tensor<2> {
    let [b, _, _] = mask.dims();
    let count = |edge: Tensor<3, Bool>| {
        let [b, h, w] = edge.dims();
        let valid: Tensor<2> = edge.bool_not().float().cast(DType::F32).reshape([b, h * w]);
        valid.sum_dim(1)
    };
    let columns = count(mask.clone().slice_dim(1, 0..1));
    let rows = count(mask.clone().slice_dim(2, 0..1));
    Tensor::cat(vec![columns, rows], 1).reshape([b, 2])
}

/// Selects the `k` best tokens of every image by score, `[B, S] -> [B, k]`; the first ones on a
/// tie.
///
/// They are chosen on the host, because backends differ in how they order equal scores: all tokens
/// that propose nothing have one. It is the only place where `forward` waits for the device. A capture device, which
/// computes nothing, records the choice instead.
pub(crate) fn best_tokens(scores: Tensor<2>, k: usize) -> Tensor<2, Int> {
    if let Some(chosen) = record::top_k(&scores, k) {
        return chosen;
    }
    let [b, s] = scores.dims();
    let device = scores.device();
    let read = traffic::read(Transaction::default().register(scores.detach()));
    // Burn's operations panic where the device fails, and so does this one; the caller of the model
    // catches it.
    let read = read.unwrap_or_else(|error| panic!("{}", error.message));
    let scores: Vec<f32> =
        read.iter().flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect();
    let mut chosen = Vec::with_capacity(b * k);
    for scores in scores.chunks_exact(s) {
        let mut order: Vec<i32> = (0..).take(s).collect();
        let better = |&i: &i32, &j: &i32| {
            let score = |i: i32| scores[usize::try_from(i).unwrap_or_default()];
            score(j).total_cmp(&score(i)).then(i.cmp(&j))
        };
        if k < s {
            order.select_nth_unstable_by(k, better);
            order.truncate(k);
        }
        order.sort_unstable_by(better);
        chosen.extend(order);
    }
    Tensor::from_data(TensorData::new(chosen, [b, k]), &device)
}

/// Sines and cosines of the four coordinates, `width` channels each.
///
/// # Shapes
/// - `logits` `[B, Q, 4]`, f32
/// - output `[B, Q, 4 * width]`
pub(crate) fn proposal_pos_embed(logits: Tensor<3>, width: usize) -> Tensor<3> {
    const TEMPERATURE: f32 = 10_000.0;
    let [b, q, _] = logits.dims();
    let divisors: Vec<f32> =
        (0..width / 2).map(|i| TEMPERATURE.powf(side(2 * i) / side(width))).collect();
    let divisors = constant(&divisors, &logits.device()).reshape([1, 1, 1, width / 2]);
    let angle = sigmoid(logits) * (2.0 * std::f64::consts::PI);
    let angle = angle.reshape([b, q, 4, 1]) / divisors;
    Tensor::stack::<5>(vec![angle.clone().sin(), angle.cos()], 4).reshape([b, q, 4 * width])
}

fn constant(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::F32))
}

#[allow(clippy::cast_precision_loss)] // sides of feature maps are small
fn side(n: usize) -> f32 {
    n as f32
}
