//! The focal loss (Lin et al. 2017, "Focal Loss for Dense Object Detection"), and the matching cost that is
//! made of it.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, sigmoid};

/// Returns the sigmoid focal loss of every element, `-alpha_t (1 - p_t)^2 log(p_t)`. The targets are 0 or 1.
pub(crate) fn sigmoid_focal<const D: usize>(
    logits: Tensor<D>,
    targets: Tensor<D>,
    alpha: f64,
) -> Tensor<D> {
    let other = targets.clone() * -1.0 + 1.0;
    let log_likelihood = log_sigmoid(logits.clone()) * targets.clone()
        + log_sigmoid(logits.clone().neg()) * other.clone();
    let p = sigmoid(logits);
    let miss = p.clone() * other.clone() + (p * -1.0 + 1.0) * targets.clone();
    let alpha = targets * alpha + other * (1.0 - alpha);
    (log_likelihood * miss.square() * alpha).neg()
}

/// Returns the cost of a class of probability `p`: the focal loss if it is the object's class, less the loss
/// if it is background. The references fix alpha and gamma here, whatever the loss has.
pub(crate) fn focal_cost(p: Tensor<4>) -> Tensor<4> {
    const ALPHA: f64 = 0.25;
    const EPS: f64 = 1e-8;
    let rest = p.clone() * -1.0 + 1.0;
    let positive = rest.clone().square() * (p.clone() + EPS).log() * -ALPHA;
    let negative = p.square() * (rest + EPS).log() * -(1.0 - ALPHA);
    positive - negative
}
