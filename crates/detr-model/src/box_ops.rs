//! Box arithmetic on tensors (`util/box_ops.py`). The host's counterpart is `detr_types::boxes`;
//! a property test holds the two together.

use burn::tensor::{DType, Tensor, TensorData};

/// `[.., 4]` centre and size to corners.
#[must_use]
pub fn box_cxcywh_to_xyxy<const D: usize>(boxes: Tensor<D>) -> Tensor<D> {
    let centre = boxes.clone().slice_dim(D - 1, 0..2);
    let half = boxes.slice_dim(D - 1, 2..4) * 0.5;
    Tensor::cat(vec![centre.clone() - half.clone(), centre + half], D - 1)
}

/// `[.., 4]` corners to centre and size.
#[must_use]
pub fn box_xyxy_to_cxcywh<const D: usize>(boxes: Tensor<D>) -> Tensor<D> {
    let low = boxes.clone().slice_dim(D - 1, 0..2);
    let high = boxes.slice_dim(D - 1, 2..4);
    Tensor::cat(vec![(low.clone() + high.clone()) / 2.0, high - low], D - 1)
}

/// Returns the intersection over union of pairs, and the areas of the unions.
///
/// # Shapes
/// - `a`, `b` `[.., 4]`, corners, of one shape or of shapes that broadcast to one
/// - outputs `[.., 1]`; 0/0 = NaN where neither box has an area
#[must_use]
pub fn elementwise_iou<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    iou(&corners(a), &corners(b))
}

/// Computes the generalised `IoU` of pairs (Rezatofighi et al. 2019).
///
/// # Shapes
/// As [`elementwise_iou`]; NaN where neither box has an area.
#[must_use]
pub fn elementwise_giou<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let (a, b) = (corners(a), corners(b));
    let (iou, union) = iou(&a, &b);
    let low = |side: usize| a[side].clone().min_pair(b[side].clone());
    let high = |side: usize| a[side].clone().max_pair(b[side].clone());
    let hull = extent([low(0), low(1), high(2), high(3)]);
    iou - (hull.clone() - union) / hull
}

/// [`elementwise_iou`] of every box of `a` with every box of `b`: `[N, 4]` and `[M, 4]` to `[N, M]`.
#[must_use]
pub fn box_iou(a: Tensor<2>, b: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let (a, b) = pairs(a, b);
    let (iou, union) = elementwise_iou(a, b);
    (iou.squeeze_dim(2), union.squeeze_dim(2))
}

/// [`elementwise_giou`] of every box of `a` with every box of `b`: `[N, 4]` and `[M, 4]` to `[N, M]`.
#[must_use]
pub fn generalized_box_iou(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let (a, b) = pairs(a, b);
    elementwise_giou(a, b).squeeze_dim(2)
}

/// `log(x / (1 - x))` with x kept in [0, 1] and both terms at or above 1e-5 (`util/misc.py`).
/// Where a limit holds, the term it holds passes no gradient.
#[must_use]
pub fn inverse_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    const EPS: f32 = 1e-5;
    let (low, high) = (x.clone().lower_equal_elem(0.0), x.clone().greater_equal_elem(1.0));
    let rest = (x.clone() * -1.0 + 1.0).mask_fill(low, 1.0);
    let rest_limited = rest.clone().lower_equal_elem(EPS);
    let x_limited = x.clone().lower_equal_elem(EPS);
    let x = x.mask_fill(high, 1.0).mask_fill(x_limited, EPS);
    (x / rest.mask_fill(rest_limited, EPS)).log()
}

/// Corners of the set pixels of masks, the upper ones inclusive; `[1e8, 1e8, 0, 0]` for an empty
/// mask.
///
/// # Shapes
/// - `masks` `[N, H, W]`, 0 or 1
/// - output `[N, 4]`
#[must_use]
pub fn masks_to_boxes(masks: &Tensor<3>) -> Tensor<2> {
    const EMPTY: f32 = 1e8;
    let [n, h, w] = masks.dims();
    let device = masks.device();
    let ramp = |len: usize| {
        #[allow(clippy::cast_precision_loss)] // image sides are small
        let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
        Tensor::<1>::from_data(TensorData::new(values, [len]), (&device, DType::F32))
    };
    let x = ramp(w).reshape([1, 1, w]).expand([n, h, w]);
    let y = ramp(h).reshape([1, h, 1]).expand([n, h, w]);
    let outside = masks.clone().equal_elem(0.0);
    let low = |at: &Tensor<3>| {
        let at = at.clone().mask_fill(outside.clone(), EMPTY);
        at.min_dim(2).min_dim(1).reshape([n, 1])
    };
    let high = |at: &Tensor<3>| {
        let at = at.clone() * masks.clone();
        at.max_dim(2).max_dim(1).reshape([n, 1])
    };
    Tensor::cat(vec![low(&x), low(&y), high(&x), high(&y)], 1)
}

/// Broadcasts every box of `a` beside every box of `b`: `[N, M, 4]` each.
fn pairs(a: Tensor<2>, b: Tensor<2>) -> (Tensor<3>, Tensor<3>) {
    let (n, m) = (a.dims()[0], b.dims()[0]);
    (a.reshape([n, 1, 4]).expand([n, m, 4]), b.reshape([1, m, 4]).expand([n, m, 4]))
}

/// Splits boxes into the four columns of corners, `[.., 1]` each: broadcasting pairs them without
/// the pairs of boxes ever being written out.
fn corners<const D: usize>(boxes: Tensor<D>) -> [Tensor<D>; 4] {
    let column = |boxes: Tensor<D>, side: usize| boxes.slice_dim(D - 1, side..=side);
    let [x1, y1, x2] = [0, 1, 2].map(|side| column(boxes.clone(), side));
    [x1, y1, x2, column(boxes, 3)]
}

fn iou<const D: usize>(a: &[Tensor<D>; 4], b: &[Tensor<D>; 4]) -> (Tensor<D>, Tensor<D>) {
    let low = |side: usize| a[side].clone().max_pair(b[side].clone());
    let high = |side: usize| a[side].clone().min_pair(b[side].clone());
    let inter = extent([low(0), low(1), high(2), high(3)]);
    let union = area(a) + area(b) - inter.clone();
    (inter / union.clone(), union)
}

/// Returns the area between the low and the high corner; 0 if they cross.
fn extent<const D: usize>([x1, y1, x2, y2]: [Tensor<D>; 4]) -> Tensor<D> {
    (x2 - x1).clamp_min(0.0) * (y2 - y1).clamp_min(0.0)
}

fn area<const D: usize>([x1, y1, x2, y2]: &[Tensor<D>; 4]) -> Tensor<D> {
    (x2.clone() - x1.clone()) * (y2.clone() - y1.clone())
}
