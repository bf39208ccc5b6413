//! The focal loss and the dice loss of predicted masks, at the size of the padded targets
//! (`SetCriterion.loss_masks` of the reference).

use burn::tensor::activation::sigmoid;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use detr_model::reduce::sum_rows;

use crate::assignment::Assignment;
use crate::focal::sigmoid_focal;
use crate::predictions::MaskPredictions;
use crate::targets::Targets;

/// Returns the focal loss and the dice loss of the matched masks of the last layer, `[1]` each; zeros if there are
/// none.
pub(crate) fn mask_losses(
    masks: &MaskPredictions,
    assignment: &Assignment,
    targets: &Targets,
    num_boxes: f64,
) -> (Tensor<1>, Tensor<1>) {
    let sizes =
        || targets.images().iter().filter_map(|target| target.masks.as_ref()).map(|m| m.size);
    let height = sizes().map(|size| size[0]).max().unwrap_or(0);
    let width = sizes().map(|size| size[1]).max().unwrap_or(0);
    let (mut matched, mut wanted): (Vec<[usize; 2]>, Vec<f32>) = (Vec::new(), Vec::new());
    for (image, pairs) in assignment.layers.last().into_iter().flatten().enumerate() {
        let Some(truth) = &targets.images()[image].masks else { continue };
        let [rows, columns] = truth.size;
        for &(query, object) in pairs {
            matched.push([image, query]);
            let from = wanted.len();
            wanted.resize(from + height * width, 0.0);
            let bits = &truth.bits[object * rows * columns..][..rows * columns];
            for (row, bits) in bits.chunks_exact(columns.max(1)).enumerate() {
                for (to, &bit) in wanted[from + row * width..].iter_mut().zip(bits) {
                    *to = f32::from(bit);
                }
            }
        }
    }
    let k = matched.len();
    let predicted = match masks {
        _ if k == 0 => None,
        MaskPredictions::All(masks) => Some(select(masks, &matched)),
        MaskPredictions::Layers(_) => None,
        MaskPredictions::Matched(masks) => {
            let masks: Vec<_> = masks.iter().flatten().cloned().collect();
            (!masks.is_empty()).then(|| Tensor::cat(masks, 0))
        }
    };
    let Some(predicted) = predicted else {
        // Masks that no object was given to take part in the graph, with no gradient.
        let zero = match masks {
            MaskPredictions::All(masks) => masks.clone().cast(FloatDType::F32).sum() * 0.0,
            MaskPredictions::Matched(masks) if masks.iter().any(Option::is_some) => {
                let any: Vec<_> = masks.iter().flatten().cloned().collect();
                Tensor::cat(any, 0).cast(FloatDType::F32).sum() * 0.0
            }
            MaskPredictions::Matched(_) | MaskPredictions::Layers(_) => {
                Tensor::zeros([1], (&targets.boxes.device(), DType::F32))
            }
        };
        return (zero.clone(), zero);
    };
    let device = predicted.device();
    let predicted = predicted.cast(FloatDType::F32);
    let predicted = resize(predicted, [height, width]).reshape([k, height * width]);
    let wanted: Tensor<2> =
        Tensor::from_data(TensorData::new(wanted, [k, height * width]), (&device, DType::F32));
    #[allow(clippy::cast_precision_loss)] // cells of a mask
    let cells = (height * width) as f64;
    let focal = sum_rows(sigmoid_focal(predicted.clone(), wanted.clone(), 0.25)).sum() / cells;
    let p = sigmoid(predicted);
    let overlap = sum_rows(p.clone() * wanted.clone()) * 2.0 + 1.0;
    let dice = overlap / (sum_rows(p) + sum_rows(wanted) + 1.0);
    (focal / num_boxes, (dice * -1.0 + 1.0).sum() / num_boxes)
}

/// Picks the masks of pairs of image and query out of `[B, Q, h, w]`.
fn select(masks: &Tensor<4>, matched: &[[usize; 2]]) -> Tensor<3> {
    let [b, q, h, w] = masks.dims();
    let places = matched.iter().map(|[image, query]| image * q + query);
    let places: Vec<i32> = places.map(|at| i32::try_from(at).unwrap_or(i32::MAX)).collect();
    let places = TensorData::new(places, [matched.len()]);
    let places = Tensor::<1, Int>::from_data(places, &masks.device());
    masks.clone().reshape([b * q, h, w]).select(0, places)
}

/// Resizes `[K, h, w] -> [K, H, W]` bilinearly, with the edges of the outer pixels aligned
/// (`align_corners=False`). It is two matrix products, which have a gradient on every backend.
fn resize(maps: Tensor<3>, size: [usize; 2]) -> Tensor<3> {
    resize_part(maps, size, size)
}

/// Resizes in the same way and keeps the first rows and columns, `part` of them.
pub(crate) fn resize_part(
    maps: Tensor<3>,
    [height, width]: [usize; 2],
    [first_rows, first_columns]: [usize; 2],
) -> Tensor<3> {
    let [k, h, w] = maps.dims();
    let device = maps.device();
    let part = |from, to, first| weights(from, to, &device).slice_dim(0, 0..first);
    let rows = part(h, height, first_rows).unsqueeze::<3>().expand([k, first_rows, h]);
    let columns = part(w, width, first_columns).transpose().unsqueeze::<3>();
    let columns = columns.expand([k, w, first_columns]);
    rows.matmul(maps).matmul(columns)
}

/// Returns the share of every source cell in every destination cell, `[to, from]`.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sides of maps are small
fn weights(from: usize, to: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0f32; to * from];
    let scale = from as f32 / to as f32;
    for (i, row) in values.chunks_exact_mut(from).enumerate() {
        let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
        let low = (at.floor() as usize).min(from - 1);
        let part = at - low as f32;
        row[low] += 1.0 - part;
        row[(low + 1).min(from - 1)] += part;
    }
    Tensor::from_data(TensorData::new(values, [to, from]), (device, DType::F32))
}
