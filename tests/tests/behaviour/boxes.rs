//! One definition of `IoU` and `GIoU` on the host and one on tensors: on random boxes, also empty,
//! equal, touching and nested ones, they say the same. Inverted boxes are left out: the reference
//! refuses them.

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_model::box_ops::{box_cxcywh_to_xyxy, box_iou, box_xyxy_to_cxcywh, generalized_box_iou};
use detr_model::weights::recipe_value;
use detr_types::{Cxcywh, Xyxy};

const COUNT: usize = 64;

/// Draws boxes on a coarse grid: their edges meet often, and many have no area.
fn coarse(seed: u64) -> Vec<Xyxy> {
    boxes(|index| (recipe_value("coarse", seed, index as u64) * 2.0).round() / 4.0 + 0.5)
}

/// Draws boxes anywhere.
fn fine(seed: u64) -> Vec<Xyxy> {
    boxes(|index| recipe_value("fine", seed, index as u64))
}

#[allow(clippy::cast_possible_truncation)] // any numbers will do
fn boxes(at: impl Fn(usize) -> f64) -> Vec<Xyxy> {
    let side = |n: usize, side: usize| (at(4 * n + side) as f32, at(4 * n + side + 2) as f32);
    let between = |(a, b): (f32, f32)| (a.min(b), a.max(b));
    (0..COUNT)
        .map(|n| (between(side(n, 0)), between(side(n, 1))))
        .map(|((x1, x2), (y1, y2))| Xyxy { x1, y1, x2, y2 })
        .collect()
}

fn tensor(boxes: &[Xyxy]) -> Tensor<2> {
    let values: Vec<f32> = boxes.iter().flat_map(|b| [b.x1, b.y1, b.x2, b.y2]).collect();
    Tensor::from_data(TensorData::new(values, [boxes.len(), 4]), (&Device::flex(), DType::F32))
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

#[test]
fn host_and_tensors_agree_on_overlaps() {
    let (mut undefined, mut apart) = (0, 0);
    for seed in 0..8 {
        for (a, b) in [(coarse(seed), coarse(seed + 100)), (fine(seed), fine(seed + 100))] {
            let (iou, union) = box_iou(tensor(&a), tensor(&b));
            let giou = generalized_box_iou(tensor(&a), tensor(&b));
            let tables = [values(iou), values(union), values(giou)];
            for (row, a) in a.iter().enumerate() {
                for (column, b) in b.iter().enumerate() {
                    let at = row * COUNT + column;
                    let host = [a.iou(*b), a.overlap(*b).1, a.giou(*b)];
                    for (host, table) in host.iter().zip(&tables) {
                        let same = host.is_nan() && table[at].is_nan();
                        let near = (host - table[at]).abs() <= 1e-6;
                        assert!(same || near, "{a:?} {b:?}: {host} and {}", table[at]);
                    }
                    undefined += usize::from(host[0].is_nan());
                    apart += usize::from(host[2] < 0.0);
                    if host[0].is_finite() {
                        assert!((0.0..=1.0).contains(&host[0]), "{a:?} {b:?}");
                        assert!(host[2].is_nan() || host[2] <= host[0] + 1e-6, "{a:?} {b:?}");
                        assert_eq!(host[0].to_bits(), b.iou(*a).to_bits(), "{a:?} {b:?}");
                    }
                }
            }
        }
    }
    assert!(undefined > 100 && apart > 100, "{undefined} {apart}");
}

#[test]
fn host_and_tensors_convert_alike() {
    let boxes = [coarse(1), fine(2)].concat();
    let back = values(box_xyxy_to_cxcywh(tensor(&boxes)));
    let again = values(box_cxcywh_to_xyxy(box_xyxy_to_cxcywh(tensor(&boxes))));
    for ((b, found), again) in boxes.iter().zip(back.chunks(4)).zip(again.chunks(4)) {
        let Cxcywh { cx, cy, w, h } = b.to_cxcywh();
        let host = b.to_cxcywh().to_xyxy();
        for (host, found) in [cx, cy, w, h].iter().zip(found) {
            assert!((host - found).abs() <= 1e-7, "{b:?}");
        }
        for (host, again) in [host.x1, host.y1, host.x2, host.y2].iter().zip(again) {
            assert!((host - again).abs() <= 1e-6, "{b:?}");
        }
    }
}
