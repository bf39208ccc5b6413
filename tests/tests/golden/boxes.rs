//! Group 10: box arithmetic, on tensors and on the host, with gradients.

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_model::box_ops::{
    box_cxcywh_to_xyxy, box_iou, box_xyxy_to_cxcywh, generalized_box_iou, inverse_sigmoid,
    masks_to_boxes,
};
use detr_types::Xyxy;

use crate::backends::Bench;
use crate::case::{Case, Failures};

/// Start of the names of `GIoU` of pairs.
const DIAGONAL: &str = "giou_diag_rows";

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    on_tensors(case, bench, &mut failures);
    on_the_host(case, bench, &mut failures);
    gradients(case, bench, &mut failures);
    failures
}

fn tensor<const D: usize>(case: &Case, name: &str, device: &Device) -> Tensor<D> {
    let stored = &case.tensors[name];
    #[allow(clippy::cast_possible_truncation)] // written as f32
    let values: Vec<f32> = stored.values.iter().map(|&v| v as f32).collect();
    Tensor::from_data(TensorData::new(values, stored.shape.clone()), (device, DType::F32))
}

fn on_tensors(case: &Case, bench: &Bench, failures: &mut Failures) {
    let slack = bench.slack;
    let get = |name: &str| tensor::<2>(case, name, &bench.device);
    for name in ["a_cxcywh", "b_cxcywh", "masks", "inverse_sigmoid.x"] {
        failures.used(name);
    }
    let a = box_cxcywh_to_xyxy(get("a_cxcywh"));
    let b = box_cxcywh_to_xyxy(get("b_cxcywh"));
    failures.tensor(case, slack, "a_xyxy", a.clone());
    failures.tensor(case, slack, "b_xyxy", b.clone());
    failures.tensor(case, slack, "a_back", box_xyxy_to_cxcywh(a.clone()));
    // Tables are made from the stored corners, so that no rounding of the conversion enters.
    let (a, b) = (get("a_xyxy"), get("b_xyxy"));
    let (iou, union) = box_iou(a.clone(), b.clone());
    failures.tensor(case, slack, "iou", iou);
    failures.tensor(case, slack, "union", union);
    failures.tensor(case, slack, "giou", generalized_box_iou(a.clone(), b));
    failures.tensor(case, slack, "giou_pred_pred", generalized_box_iou(a.clone(), a));
    if case.has("inverse_sigmoid.x") {
        let x = tensor::<1>(case, "inverse_sigmoid.x", &bench.device);
        failures.tensor(case, slack, "inverse_sigmoid.y", inverse_sigmoid(x));
    }
    if case.has("masks") {
        let masks = tensor::<3>(case, "masks", &bench.device);
        failures.tensor(case, slack, "masks_to_boxes", masks_to_boxes(&masks));
    }
}

/// Compares the host's definition with the same tables.
fn on_the_host(case: &Case, bench: &Bench, failures: &mut Failures) {
    #[allow(clippy::cast_possible_truncation)] // written as f32
    let boxes = |name: &str| -> Vec<Xyxy> {
        let rows = case.tensors[name].values.chunks_exact(4);
        rows.map(|v| Xyxy { x1: v[0] as f32, y1: v[1] as f32, x2: v[2] as f32, y2: v[3] as f32 })
            .collect()
    };
    let (a, b) = (boxes("a_xyxy"), boxes("b_xyxy"));
    let table = |f: fn(Xyxy, Xyxy) -> f32| -> Vec<f64> {
        a.iter().flat_map(|&a| b.iter().map(move |&b| f64::from(f(a, b)))).collect()
    };
    let shape = [a.len(), b.len()];
    failures.values(case, bench.slack, "iou", &shape, &table(Xyxy::iou));
    failures.values(case, bench.slack, "giou", &shape, &table(Xyxy::giou));
}

fn gradients(case: &Case, bench: &Bench, failures: &mut Failures) {
    let device = bench.device.clone().autodiff();
    // The name says the first row, `giou_diag_rows6`.
    for first in case.after(DIAGONAL) {
        diagonal(case, bench, &device, first, failures);
    }
    if !case.has("inverse_sigmoid.x") {
        return;
    }
    let x = tensor::<1>(case, "inverse_sigmoid.x", &device).require_grad();
    let n = x.dims()[0];
    let gradients = inverse_sigmoid(x.clone()).sum().backward();
    let grad = values(x.grad(&gradients).expect("a gradient"));
    failures.values_within(case, 1e-2 * bench.slack, "inverse_sigmoid.grad", &[n], &grad);
}

/// Compares boxes of the same rows, from `first` on, with each other.
fn diagonal(case: &Case, bench: &Bench, device: &Device, first: &str, failures: &mut Failures) {
    let name = format!("{DIAGONAL}{first}");
    let rows = case.shape(&name).expect("a shape")[0];
    let stated = case.json["giou_diag_first_row"].as_u64().map(|row| row.to_string());
    let first: usize = stated.as_deref().unwrap_or(first).parse().expect("a row");
    let a = tensor::<2>(case, "a_cxcywh", device);
    let a = a.slice_dim(0, first..first + rows).require_grad();
    let b = tensor::<2>(case, "b_cxcywh", device).slice_dim(0, first..first + rows);
    let table = generalized_box_iou(box_cxcywh_to_xyxy(a.clone()), box_cxcywh_to_xyxy(b));
    let diagonal = Tensor::cat(
        (0..rows).map(|i| table.clone().slice([i..i + 1, i..i + 1]).reshape([1])).collect(),
        0,
    );
    // The case states no tolerance for gradients: 2e-6 of their largest magnitude, the least that
    // any tensor is given.
    let atol = 2e-6 * bench.slack;
    failures.values_within(case, atol, &name, &[rows], &values(diagonal.clone()));
    let gradients = diagonal.sum().backward();
    let grad = a.grad(&gradients).expect("a gradient");
    let grad = values(grad.reshape([rows * 4]));
    let name = name.replace(DIAGONAL, "giou_diag_grad_a_cxcywh_rows");
    failures.values_within(case, 2.0 * atol, &name, &[rows, 4], &grad);
}

fn values(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data().iter::<f32>().map(f64::from).collect()
}
