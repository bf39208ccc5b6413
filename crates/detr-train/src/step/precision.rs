//! Implements mixed precision (Micikevicius et al. 2018, <https://arxiv.org/abs/1710.03740>): parameters, their
//! gradients, the optimizer and the losses are f32; the model runs on a copy of the parameters in half precision. Burn
//! has no autocast, so the copy is made in every step: a cast is a differentiable operation, and gradients arrive in
//! f32 at the parameters. Models compute some operations in f32 all the same, as they do for inference in half
//! precision; `docs/training-precision.md` lists them. The rule of the loss scale is `torch.amp.GradScaler`'s.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use detr_model::{Model, float_dtype};
use detr_types::Precision;
use serde::{Deserialize, Serialize};

/// Why a model cannot be trained in a precision on its device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrecisionError {
    /// The device does not compute in the precision.
    #[error("precision is {precision}, which {device} does not compute in\nhint: use {works}")]
    Unsupported {
        /// The precision that was asked for.
        precision: Precision,
        /// The device, as Burn names it.
        device: String,
        /// The precisions that it computes in.
        works: String,
    },
    /// The parameters are not f32, so small updates would be lost.
    #[error(
        "precision is {precision}, but the model's parameters are {found}\nhint: load the model in f32; the step makes its own copy in {precision}"
    )]
    Parameters {
        /// The precision that was asked for.
        precision: Precision,
        /// The type of the parameters, as Burn names it.
        found: String,
    },
}

/// The factor on the losses before the backward pass, so that small gradients are not zero in f16. Gradients are
/// divided by it before anything looks at them. It is state that a checkpoint has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// The scale, a power of two.
    pub scale: f64,
    /// Steps in a row that did not overflow, since the scale changed.
    pub good_steps: u32,
}

/// Refuses a precision that the model's device lacks, and parameters that are not f32.
///
/// # Errors
/// Names the type that was found, or the precisions that the device has.
pub fn check_precision(precision: Precision, model: &Model) -> Result<(), PrecisionError> {
    let mut finder = OtherTypeFinder(None);
    model.visit(&mut finder);
    if let Some(found) = finder.0 {
        return Err(PrecisionError::Parameters { precision, found: format!("{found:?}") });
    }
    for device in model.devices().into_iter().map(Device::inner) {
        let supports = |one| one == Precision::F32 || device.supports_dtype(float_dtype(one));
        if !supports(precision) {
            let works = [Precision::F32, Precision::Bf16, Precision::F16].into_iter();
            let works: Vec<String> =
                works.filter(|&one| supports(one)).map(|one| one.to_string()).collect();
            let (device, works) = (format!("{device:?}"), works.join(" or "));
            return Err(PrecisionError::Unsupported { precision, device, works });
        }
    }
    Ok(())
}

/// Returns the copy of a model that the forward pass runs on. The batch norms, which are constants, are folded into
/// the convolutions in f32: f16 cannot hold the square root of a small variance.
pub(crate) fn compute_copy(precision: Precision, model: &Model) -> Model {
    match precision {
        Precision::F32 => model.clone(),
        half => model.clone().fold().map(&mut Caster { dtype: float_dtype(half), norms: 0 }),
    }
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: 65_536.0, good_steps: 0 }
    }
}

impl LossScale {
    /// Returns the scale that training in a precision starts with, or `None` for a precision without one.
    #[must_use]
    pub fn of(precision: Precision) -> Option<Self> {
        (precision == Precision::F16).then(Self::default)
    }

    /// The number of good steps after which the scale doubles.
    pub const GROWTH_INTERVAL: u32 = 2000;
    /// The smallest scale; gradients that overflow at it are not its fault.
    pub const SMALLEST: f64 = 1.0;
    /// The largest scale, at which a scaled loss is still far from the largest f32.
    pub const LARGEST: f64 = 16_777_216.0;

    /// Takes note of a step whose gradients were finite.
    pub fn succeeded(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= Self::GROWTH_INTERVAL {
            *self = Self { scale: (self.scale * 2.0).min(Self::LARGEST), good_steps: 0 };
        }
    }

    /// Halves the scale after gradients that were not finite. Returns false and does nothing if it is the smallest
    /// already.
    pub fn overflowed(&mut self) -> bool {
        let lower = self.scale / 2.0;
        if lower < Self::SMALLEST {
            return false;
        }
        *self = Self { scale: lower, good_steps: 0 };
        true
    }
}

/// Casts all parameters but those of layer norms, which compute in f32.
struct Caster {
    dtype: FloatDType,
    /// The number of layer norms that the mapper is inside of.
    norms: usize,
}

impl Caster {
    fn is_norm(container: &str) -> bool {
        container.ends_with("LayerNorm")
    }
}

impl ModuleMapper for Caster {
    fn enter_module(&mut self, _name: &str, container: &str) {
        self.norms += usize::from(Self::is_norm(container));
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.norms -= usize::from(Self::is_norm(container));
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.norms > 0 {
            return param;
        }
        param.map(|tensor| tensor.cast(self.dtype))
    }
}

/// Finds the type of the first parameter that is not f32.
struct OtherTypeFinder(Option<DType>);

impl ModuleVisitor for OtherTypeFinder {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let dtype = param.val().dtype();
        if dtype != DType::F32 {
            self.0.get_or_insert(dtype);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_scale_follows_the_rule_of_grad_scaler() {
        let mut scale = LossScale::default();
        assert_eq!(scale, LossScale { scale: 65_536.0, good_steps: 0 });
        assert!(scale.overflowed());
        assert_eq!(scale, LossScale { scale: 32_768.0, good_steps: 0 });
        for _ in 0..1999 {
            scale.succeeded();
        }
        assert_eq!(scale, LossScale { scale: 32_768.0, good_steps: 1999 });
        scale.succeeded();
        assert_eq!(scale, LossScale { scale: 65_536.0, good_steps: 0 });
        scale.succeeded();
        while scale.overflowed() {}
        assert_eq!(scale, LossScale { scale: 1.0, good_steps: 0 });
    }

    #[test]
    fn a_loss_scale_survives_json() {
        let scale = LossScale { scale: 1024.0, good_steps: 17 };
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<LossScale>(&text).unwrap(), scale);
    }
}
