//! Reads of numbers that decide whether a step changes the model, and the search for what was not finite.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, Transaction};
use detr_model::reduce::{sum, sum_rows};
use detr_model::weights::named_parameters;
use detr_model::{DeviceError, Model, traffic};

use super::outcome::NonFiniteInput;

/// Reads a tensor from the device.
pub(super) fn read(tensor: Tensor<1>) -> Result<Vec<f32>, DeviceError> {
    Ok(traffic::read_f32(Transaction::default().register(tensor.detach()))?.concat())
}

/// Returns the first image, or else the first parameter, that is not finite. It is called only when something is
/// wrong. `pixels` are `[B, 3, H, W]`.
pub(super) fn non_finite_input(
    model: &Model,
    pixels: &Tensor<4>,
) -> Result<Option<NonFiniteInput>, DeviceError> {
    let [b, c, h, w] = pixels.dims();
    // 0 times a finite number is 0, and NaN times anything else.
    let images = pixels.clone().inner().reshape([b, c * h * w]) * 0.0;
    let images = read(sum_rows(images).reshape([b]))?;
    if let Some(image) = images.iter().position(|value| !value.is_finite()) {
        return Ok(Some(NonFiniteInput::Image(image)));
    }
    let mut zeros = Zeros::default();
    model.visit(&mut zeros);
    let zeros = read(Tensor::cat(zeros.0, 0))?;
    let broken = zeros.iter().position(|value| !value.is_finite());
    let name = broken.map(|i| named_parameters(model).swap_remove(i).name);
    Ok(name.map(NonFiniteInput::Parameter))
}

/// Makes a 0 of every parameter that is finite.
#[derive(Default)]
struct Zeros(Vec<Tensor<1>>);

impl ModuleVisitor for Zeros {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(sum(param.val().inner() * 0.0));
    }
}
