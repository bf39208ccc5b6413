//! Clipping by the norm of all gradients together (`torch.nn.utils.clip_grad_norm_`). Nothing here waits
//! for the device.

use burn::tensor::Tensor;
use detr_model::reduce::sum;

/// The norms of gradients, on the device, in f32.
#[derive(Clone, Debug)]
pub struct GradientNorm {
    /// The L2 norm of all gradients together, `[1]`.
    pub total: Tensor<1>,
    /// The L2 norm of each gradient, `[gradients]`. A NaN or infinity in a gradient makes its norm one.
    pub each: Tensor<1>,
}

impl GradientNorm {
    /// Computes the norms of some gradients. Returns `None` if there are no gradients.
    #[must_use]
    pub fn of<'a>(gradients: impl IntoIterator<Item = &'a Tensor<1>>) -> Option<Self> {
        let norms: Vec<Tensor<1>> =
            gradients.into_iter().map(|gradient| sum(gradient.clone().square()).sqrt()).collect();
        if norms.is_empty() {
            return None;
        }
        let each = Tensor::cat(norms, 0);
        Some(Self { total: each.clone().square().sum().sqrt(), each })
    }
}

/// Returns the factor that clips gradients of this norm, `min(1, max_norm / (norm + 1e-6))`, `[1]`.
#[must_use]
pub fn clip_coefficient(norm: Tensor<1>, max_norm: f64) -> Tensor<1> {
    norm.add_scalar(1e-6).recip().mul_scalar(max_norm).clamp_max(1.0)
}
