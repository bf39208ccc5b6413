//! Sums and largest elements in steps, none of which goes over more than [`MOST`] elements along one axis.
//!
//! Some drivers silently leave out what comes later, as Mesa 22.3's software renderer does from about 65,000
//! elements on. The self-test shows what a device gets wrong.

use burn::tensor::Tensor;

/// The longest axis that is reduced in one step.
pub const MOST: usize = 32_768;

/// Elements of a step where an axis is longer.
const WIDTH: usize = 4_096;

/// Sums all elements.
#[must_use]
pub fn sum<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let count = x.shape().num_elements();
    if count <= MOST { x.sum() } else { sum_rows(x.reshape([1, count])).reshape([1]) }
}

/// Returns the largest of all elements, of which there is at least one.
#[must_use]
pub fn max<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let count = x.shape().num_elements();
    rows(x.reshape([1, count]), &|x| x.max_dim(2)).reshape([1])
}

/// Sums every row.
///
/// # Shapes
/// - `x` `[R, N]`
/// - output `[R, 1]`
#[must_use]
pub fn sum_rows(x: Tensor<2>) -> Tensor<2> {
    rows(x, &|x| x.sum_dim(2))
}

/// Reduces rows with an operation along the last axis whose result does not depend on the order.
fn rows(x: Tensor<2>, step: &dyn Fn(Tensor<3>) -> Tensor<3>) -> Tensor<2> {
    let [r, n] = x.dims();
    if n <= MOST {
        return step(x.reshape([r, 1, n])).reshape([r, 1]);
    }
    // A width that leaves no rest needs no copy.
    let width = (WIDTH / 16..=WIDTH).rev().find(|&width| n.is_multiple_of(width)).unwrap_or(WIDTH);
    let whole = n / width * width;
    let reduce = |x: Tensor<2>, width: usize| {
        let parts = x.dims()[1] / width;
        step(x.reshape([r, parts, width])).reshape([r, parts])
    };
    if whole == n {
        return rows(reduce(x, width), step);
    }
    let head = reduce(x.clone().slice([0..r, 0..whole]), width);
    let rest = reduce(x.slice([0..r, whole..n]), n - whole);
    rows(Tensor::cat(vec![head, rest], 1), step)
}
