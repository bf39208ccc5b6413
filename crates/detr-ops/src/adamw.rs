//! An update by `AdamW` of one parameter: a single pass over it where there is a kernel (flex, CubeCL), and a dozen
//! operations of Burn's elsewhere. On a GPU a step of training has some hundred parameters, most of them small, so that
//! what counts is how often something is launched.
#![allow(deprecated)] // Burn deprecates backends, which the macro below has to name

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchTensorKind, backend_extension};
use burn::tensor::{DType, Tensor};

/// An update: Adam with decoupled weight decay (Loshchilov and Hutter 2019), as `torch.optim.AdamW` computes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adamw {
    /// Decay of the mean gradient and of its mean square.
    pub betas: [f64; 2],
    /// The number that is added to the denominator.
    pub eps: f64,
    /// Updates of the parameter, this one included.
    pub step: u64,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub decay: f64,
}

/// The factors of an update that are the same for all numbers of a parameter, in the precision of
/// these numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    /// The weights of the old mean and of the gradient.
    pub(crate) mean: [f32; 2],
    /// The weights of the old mean square and of the squared gradient.
    pub(crate) square: [f32; 2],
    /// The divisor of the root, and the number that is added to it afterwards.
    pub(crate) root: [f32; 2],
    /// The factor of the old value, and that of the number subtracted from it.
    pub(crate) value: [f32; 2],
}

impl Adamw {
    fn factors(&self) -> Factors {
        let Self { betas: [b1, b2], eps, step, lr, decay } = *self;
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        let [c1, c2] = [b1, b2].map(|beta| 1.0 - beta.powi(exponent));
        #[allow(clippy::cast_possible_truncation)] // the precision of parameters
        let pair = |a: f64, b: f64| [a as f32, b as f32];
        Factors {
            mean: pair(b1, 1.0 - b1),
            square: pair(b2, 1.0 - b2),
            root: pair(c2.sqrt(), eps),
            value: pair(1.0 - lr * decay, lr / c1),
        }
    }

    /// Returns the value, mean gradient and mean square after the update. All have the same length and are
    /// f32; before the first update the means are zero.
    #[must_use]
    pub fn update(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        mean: Tensor<1>,
        square: Tensor<1>,
    ) -> [Tensor<1>; 3] {
        let factors = self.factors();
        let f32s = [&value, &gradient, &mean, &square].iter().all(|one| one.dtype() == DType::F32);
        if f32s && is_listed(&value.clone().into_dispatch().kind) {
            let (value, mean, square) = <Dispatch as AdamwOps>::adamw(
                value.into_dispatch(),
                gradient.into_dispatch(),
                mean.into_dispatch(),
                square.into_dispatch(),
                factors,
            );
            return [value, mean, square].map(Tensor::from_dispatch);
        }
        plain(value, gradient, mean, square, factors)
    }
}

fn plain(
    value: Tensor<1>,
    gradient: Tensor<1>,
    mean: Tensor<1>,
    square: Tensor<1>,
    factors: Factors,
) -> [Tensor<1>; 3] {
    let mean = mean * factors.mean[0] + gradient.clone() * factors.mean[1];
    let square = square * factors.square[0] + gradient.square() * factors.square[1];
    let root = square.clone().sqrt() / factors.root[0] + factors.root[1];
    let value = value * factors.value[0] - mean.clone() / root * factors.value[1];
    [value, mean, square]
}

/// A backend with a kernel for it. All tensors are f32 and of one length.
#[backend_extension(
    Cube: cfg(feature = "cube"),
    Flex: cfg(feature = "flex"),
    Fusion: cfg(feature = "fusion")
)]
pub(crate) trait AdamwOps: Backend {
    #[fusion(meta = |value, _gradient, mean, square, _factors| {
        (value.clone(), mean.clone(), square.clone())
    })]
    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

#[allow(unreachable_patterns)] // where no other backend is compiled in
fn is_listed(kind: &DispatchTensorKind) -> bool {
    match kind {
        #[cfg(feature = "cube")]
        DispatchTensorKind::Cube(_) => true,
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        _ => false,
    }
}
