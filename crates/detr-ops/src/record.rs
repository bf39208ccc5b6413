//! Operations of this crate as a capture device records them: one custom operation each, so that an exporter can
//! lower them in more than one way. On every other device these functions return `None`.

use burn::backend::DispatchTensorKind;
use burn::backend::capture::CaptureBackend;
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_ir::{CustomOpIr, OperationIr, ScalarIr, TensorIr};
use burn_router::RouterClient;

/// The name of [`msda`](fn@crate::msda) in a recorded graph. Inputs are the values, locations and weights; scalars are
/// the heights and widths of the levels, in turn.
pub const MSDA: &str = "detr.msda";

/// The name of [`top_k`] in a recorded graph. The input is the scores, the scalar is k.
pub const TOP_K: &str = "detr.top-k";

/// The name of [`dense::linear`](crate::dense::linear) without what follows it in a recorded graph. Inputs are the rows,
/// the weight `[I, O]`, and the bias where there is one. Burn's own recording depends on the number of rows.
pub const LINEAR: &str = "detr.linear";

/// Returns whether operations on the tensor are recorded instead of computed. What bounds memory by cutting work into
/// blocks has nothing to bound then.
#[must_use]
pub fn is_recorded<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.clone().into_dispatch().kind, DispatchTensorKind::Capture(_))
}

/// Records multi-scale deformable attention, whose arguments have been checked.
pub(crate) fn msda(
    value: &Tensor<4>,
    levels: &[[usize; 2]],
    locations: &Tensor<6>,
    weights: &Tensor<5>,
) -> Option<Tensor<3>> {
    if !is_recorded(value) {
        return None;
    }
    let shape = crate::problem::output_shape(&value.shape(), &locations.shape());
    let dtype = value.dtype();
    let value = value.clone().try_into_primitive::<CaptureBackend>().ok()?;
    let locations = locations.clone().try_into_primitive::<CaptureBackend>().ok()?;
    let weights = weights.clone().try_into_primitive::<CaptureBackend>().ok()?;
    let client = value.client.clone();
    let output = TensorIr::uninit(client.create_empty_handle(), shape, dtype);
    let inputs = [value.into_ir(), locations.into_ir(), weights.into_ir()];
    let operation =
        CustomOpIr::with_scalars(MSDA, &inputs, &[output], scalars(levels.as_flattened()));
    let output = client.register(OperationIr::Custom(operation)).pop()?;
    Some(Tensor::from_primitive::<CaptureBackend>(output))
}

/// Records a linear layer.
pub(crate) fn linear<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    if !is_recorded(x) {
        return None;
    }
    let mut shape = x.dims();
    shape[D - 1] = weight.dims()[1];
    let dtype = x.dtype();
    let x = x.clone().try_into_primitive::<CaptureBackend>().ok()?;
    let weight = weight.clone().try_into_primitive::<CaptureBackend>().ok()?;
    let client = x.client.clone();
    let output = TensorIr::uninit(client.create_empty_handle(), Shape::new(shape), dtype);
    let mut inputs = vec![x.into_ir(), weight.into_ir()];
    if let Some(bias) = bias {
        inputs.push(bias.clone().try_into_primitive::<CaptureBackend>().ok()?.into_ir());
    }
    let operation = CustomOpIr::new(LINEAR, &inputs, &[output]);
    let output = client.register(OperationIr::Custom(operation)).pop()?;
    Some(Tensor::from_primitive::<CaptureBackend>(output))
}

/// Records the choice of the `k` largest scores of every row, in falling order, the first ones on a tie.
///
/// # Shapes
/// - `scores` `[B, S]`
/// - output `[B, k]`
#[must_use]
pub fn top_k(scores: &Tensor<2>, k: usize) -> Option<Tensor<2, Int>> {
    if !is_recorded(scores) {
        return None;
    }
    let [b, _] = scores.dims();
    let scores = scores.clone().try_into_primitive::<CaptureBackend>().ok()?;
    let client = scores.client.clone();
    let output = TensorIr::uninit(client.create_empty_handle(), Shape::new([b, k]), DType::I64);
    let operation = CustomOpIr::with_scalars(TOP_K, &[scores.into_ir()], &[output], scalars(&[k]));
    let output = client.register(OperationIr::Custom(operation)).pop()?;
    Some(Tensor::from_primitive::<CaptureBackend>(output))
}

fn scalars(sizes: &[usize]) -> Vec<ScalarIr> {
    sizes.iter().map(|&size| ScalarIr::UInt(size as u64)).collect()
}
