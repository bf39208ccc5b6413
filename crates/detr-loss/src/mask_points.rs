//! The cross-entropy and the dice loss of masks of every decoder layer, at points of the image (Cheng et al. 2022,
//! <https://arxiv.org/abs/2112.01527>, section 3.3; `SetCriterion.loss_masks` of `Mask2Former`). A mask of an image of
//! 800 by 1066 has 850 thousand pixels, of which it is enough to look at 12544.
//!
//! Three quarters of the points are those at which a mask is uncertain. `Mask2Former` sorts three times as many random
//! points by their logits; here every three of them compete, which needs no sorting and no reading from the device. The
//! points are those of a sequence that fills the image evenly. It starts elsewhere for other targets, so that
//! augmentation moves the points and a step is still a function of its batch. Of a small image all pixels are taken.

use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use detr_model::reduce::sum_rows;

use crate::assignment::Assignment;
use crate::masks::resize_part;
use crate::targets::{Target, TargetMasks, Targets};

/// Points whose losses count, 112 * 112 in `Mask2Former`.
const POINTS: usize = 12_544;
/// The number of points that are the most uncertain of three candidates.
const UNCERTAIN: usize = POINTS / 4 * 3;
/// Points that are looked at.
const CANDIDATES: usize = 3 * UNCERTAIN + (POINTS - UNCERTAIN);

/// Returns the cross-entropy and the dice loss of the matched masks of every layer, `[1]` each. `images` has the mask
/// logits of every image, layer by layer.
pub(crate) fn point_losses(
    images: &[Vec<Option<Tensor<3>>>],
    assignment: &Assignment,
    targets: &Targets,
    num_boxes: f64,
) -> Vec<(Tensor<1>, Tensor<1>)> {
    let device = targets.boxes.device();
    let zero = || Tensor::<1>::zeros([1], (&device, DType::F32));
    let layers = assignment.layers.len();
    let mut losses: Vec<_> = (0..layers).map(|_| (zero(), zero())).collect();
    let padded = padded_size(targets);
    for (image, (masks, target)) in images.iter().zip(targets.images()).enumerate() {
        for (layer, mask) in masks.iter().enumerate() {
            // The mask of a query without an object takes part in the graph, with no gradient.
            if let Some(mask) = mask.as_ref().filter(|_| assignment.layers[layer][image].is_empty())
            {
                let none = mask.clone().cast(FloatDType::F32).sum() * 0.0;
                losses[layer] =
                    (losses[layer].0.clone() + none.clone(), losses[layer].1.clone() + none);
            }
        }
        let Some(truth) = &target.masks else { continue };
        // All layers of an image are compared at once.
        let there = masks
            .iter()
            .enumerate()
            .filter(|(layer, _)| !assignment.layers[*layer][image].is_empty())
            .filter_map(|(layer, m)| m.as_ref().map(|m| (layer, m)));
        let (rows, maps): (Vec<(usize, usize)>, Vec<Tensor<3>>) =
            there.map(|(layer, m)| ((layer, m.dims()[0]), m.clone())).unzip();
        if maps.is_empty() {
            continue;
        }
        let maps = Tensor::cat(maps, 0).cast(FloatDType::F32);
        let objects: Vec<usize> = rows
            .iter()
            .flat_map(|&(layer, _)| assignment.layers[layer][image].iter().map(|pair| pair.1))
            .collect();
        let (logits, wanted) = if truth.size[0] * truth.size[1] <= CANDIDATES {
            every_pixel(maps, truth, &objects, padded)
        } else {
            at_points(maps, target, truth, &objects, padded)
        };
        let (cross_entropy, dice) = losses_of_masks(logits, wanted);
        let mut from = 0;
        for (layer, count) in rows {
            let of_layer = |t: &Tensor<2>| t.clone().slice_dim(0, from..from + count).sum();
            let (mask, other) = &mut losses[layer];
            *mask = mask.clone() + of_layer(&cross_entropy) / num_boxes;
            *other = other.clone() + of_layer(&dice) / num_boxes;
            from += count;
        }
    }
    losses
}

/// Returns the height and width that masks are padded to.
fn padded_size(targets: &Targets) -> [usize; 2] {
    let sizes =
        || targets.images().iter().filter_map(|target| target.masks.as_ref()).map(|m| m.size);
    [0, 1].map(|axis| sizes().map(|size| size[axis]).max().unwrap_or(0))
}

/// Returns the mean cross-entropy and the dice loss of every mask, `[K, P]` each, to `[K, 1]` each.
fn losses_of_masks(logits: Tensor<2>, wanted: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let [k, p] = logits.dims();
    let other = wanted.clone() * -1.0 + 1.0;
    let likelihood =
        log_sigmoid(logits.clone()) * wanted.clone() + log_sigmoid(logits.clone().neg()) * other;
    #[allow(clippy::cast_precision_loss)] // some ten thousand points
    let cross_entropy = sum_rows(likelihood) / -(p as f64);
    let found = sigmoid(logits);
    let overlap = sum_rows(found.clone() * wanted.clone()) * 2.0 + 1.0;
    let dice = overlap / (sum_rows(found) + sum_rows(wanted) + 1.0);
    (cross_entropy.reshape([k, 1]), (dice * -1.0 + 1.0).reshape([k, 1]))
}

/// Resizes masks to the pixels of their image, `[K, H * W]`, beside those that are wanted.
fn every_pixel(
    maps: Tensor<3>,
    truth: &TargetMasks,
    objects: &[usize],
    padded: [usize; 2],
) -> (Tensor<2>, Tensor<2>) {
    let [height, width] = truth.size;
    let (k, pixels) = (maps.dims()[0], height * width);
    let device = maps.device();
    let logits = resize_part(maps, padded, truth.size).reshape([k, pixels]);
    let wanted = truth.bits.iter().map(|&bit| f32::from(bit)).collect();
    (logits, select(wanted, pixels, objects, &device))
}

/// Looks masks up at points of their image, `[K, P]`, beside what is wanted there.
fn at_points(
    maps: Tensor<3>,
    target: &Target,
    truth: &TargetMasks,
    objects: &[usize],
    padded: [usize; 2],
) -> (Tensor<2>, Tensor<2>) {
    let [height, width] = truth.size;
    let device = maps.device();
    let points = points(target, truth.size);
    let wanted = truth
        .bits
        .chunks_exact(height * width)
        .flat_map(|bits| {
            points.iter().map(|&[y, x]| f32::from(bits[cell(y, height) * width + cell(x, width)]))
        })
        .collect();
    let wanted = select(wanted, points.len(), objects, &device);
    let logits = sample(maps, &points, padded);
    let k = objects.len();
    let triples =
        |t: &Tensor<2>| t.clone().slice_dim(1, 0..3 * UNCERTAIN).reshape([k, UNCERTAIN, 3]);
    let rest = |t: &Tensor<2>| t.clone().slice_dim(1, 3 * UNCERTAIN..CANDIDATES);
    let best = triples(&logits).detach().abs().argmin(2);
    let chosen = |t: &Tensor<2>| {
        let certain = triples(t).gather(2, best.clone()).reshape([k, UNCERTAIN]);
        Tensor::cat(vec![certain, rest(t)], 1)
    };
    (chosen(&logits), chosen(&wanted))
}

/// Returns the rows of the objects, `[K, P]`, of values `[n, P]`.
fn select(values: Vec<f32>, points: usize, objects: &[usize], device: &Device) -> Tensor<2> {
    let n = values.len() / points.max(1);
    let values = Tensor::<2>::from_data(TensorData::new(values, [n, points]), (device, DType::F32));
    values.select(0, indices(objects.iter().copied(), device))
}

/// Returns the points of an image in pixels, (y, x): those of Martin Roberts's sequence R2, which spreads any number of
/// points evenly (<https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences/>).
#[allow(clippy::cast_precision_loss)] // sides and numbers of points are small
fn points(target: &Target, [height, width]: [usize; 2]) -> Vec<[f64; 2]> {
    // The inverse of the plastic number and its square.
    const STEP: [f64; 2] = [0.754_877_666_246_692_8, 0.569_840_290_998_053_3];
    let start = target.boxes.iter().flat_map(|bbox| bbox.to_array()).map(f64::from).sum::<f64>();
    // Neighbours of the sequence are far apart, so that three of them are candidates of one place only by chance.
    let along =
        |number: usize, axis: usize| (start * 997.0 + (number + 1) as f64 * STEP[axis]).fract();
    (0..CANDIDATES)
        .map(|number| [along(number, 0) * height as f64, along(number, 1) * width as f64])
        .collect()
}

/// Looks maps `[K, h, w]`, which cover `padded` pixels, up at points between their cells, `[K, P]`: bilinearly, as
/// `grid_sample` does without aligned corners and with repeated edges.
fn sample(maps: Tensor<3>, points: &[[f64; 2]], padded: [usize; 2]) -> Tensor<2> {
    let [k, h, w] = maps.dims();
    let device = maps.device();
    let maps = maps.reshape([k, h * w]);
    let taps: Vec<[Tap; 2]> = points
        .iter()
        .map(|&[y, x]| [Tap::new(y, padded[0], h), Tap::new(x, padded[1], w)])
        .collect();
    let mut sum: Option<Tensor<2>> = None;
    for (below, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let at = taps.iter().map(|[row, column]| row.cells[below] * w + column.cells[right]);
        let weights: Vec<f32> =
            taps.iter().map(|[row, column]| row.weights[below] * column.weights[right]).collect();
        let weights = TensorData::new(weights, [1, taps.len()]);
        let weights = Tensor::<2>::from_data(weights, (&device, DType::F32));
        let part = maps.clone().select(1, indices(at, &device)) * weights;
        sum = Some(match sum {
            Some(sum) => sum + part,
            None => part,
        });
    }
    sum.expect("four corners")
}

/// The two cells of an axis that a point lies between, with their shares.
struct Tap {
    cells: [usize; 2],
    weights: [f32; 2],
}

impl Tap {
    /// Finds the cells of a point `at` on an axis of `pixels`, which has so many `cells`.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sides are small
    fn new(at: f64, pixels: usize, cells: usize) -> Self {
        let last = cells - 1;
        let at = (at * cells as f64 / pixels as f64 - 0.5).clamp(0.0, last as f64);
        let low = (at as usize).min(last);
        let share = (at - low as f64) as f32;
        Self { cells: [low, (low + 1).min(last)], weights: [1.0 - share, share] }
    }
}

/// Returns the pixel that a point lies in.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // inside of the image
fn cell(at: f64, pixels: usize) -> usize {
    (at as usize).min(pixels - 1)
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|value| i32::try_from(value).unwrap_or(i32::MAX)).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

#[cfg(test)]
mod tests {
    use detr_types::Cxcywh;

    use super::*;

    /// Makes a target of one object that covers the left part of an image, up to a column.
    fn half(size: [usize; 2], columns: usize) -> Target {
        let bits = (0..size[0] * size[1]).map(|at| u8::from(at % size[1] < columns)).collect();
        Target {
            labels: vec![0],
            boxes: vec![Cxcywh { cx: 0.25, cy: 0.5, w: 0.5, h: 1.0 }],
            masks: Some(TargetMasks { size, bits }),
        }
    }

    /// Maps whose logit is a line in x, 0 in the middle of the image.
    #[allow(clippy::cast_precision_loss)] // a side
    fn ramp(k: usize, [h, w]: [usize; 2]) -> Tensor<3> {
        let device = Device::flex();
        let row: Vec<f32> =
            (0u16..).take(w).map(|x| 8.0 - 16.0 * (f32::from(x) + 0.5) / w as f32).collect();
        let data = TensorData::new(row.repeat(k * h), [k, h, w]);
        Tensor::from_data(data, (&device, DType::F32))
    }

    fn losses(target: Target, map: [usize; 2], layers: usize) -> Vec<[f32; 2]> {
        let device = Device::flex();
        let targets = Targets::new(vec![target], 1, &device).unwrap();
        let assignment = Assignment { layers: vec![vec![vec![(0, 0)]]; layers] };
        let images = vec![vec![Some(ramp(1, map)); layers]];
        let found = point_losses(&images, &assignment, &targets, 1.0);
        let read = |t: Tensor<1>| t.into_scalar::<f32>();
        found.into_iter().map(|(mask, dice)| [read(mask), read(dice)]).collect()
    }

    #[test]
    #[allow(clippy::float_cmp)] // the very same numbers
    fn points_fill_the_image_evenly_and_move_with_the_target() {
        let found = points(&half([400, 600], 300), [400, 600]);
        assert_eq!(found.len(), CANDIDATES);
        let mut counts = [0usize; 24];
        for [y, x] in &found {
            assert!((0.0..400.0).contains(y) && (0.0..600.0).contains(x));
            counts[cell(*y / 100.0, 4) * 6 + cell(*x / 100.0, 6)] += 1;
        }
        let even = CANDIDATES / 24;
        assert!(counts.iter().all(|&count| count.abs_diff(even) < even / 50), "{counts:?}");
        let mut other = half([400, 600], 300);
        other.boxes[0].cx = 0.26;
        assert_ne!(points(&other, [400, 600])[0], found[0]);
    }

    #[test]
    fn a_linear_map_is_sampled_exactly() {
        let at = [[0.0, 3.0], [7.9, 8.0], [4.0, 11.5]];
        let found =
            sample(ramp(2, [4, 4]), &at, [8, 16]).into_data().try_into_vec::<f32>().unwrap();
        for (found, [_, x]) in found.iter().zip(at.iter().cycle()) {
            let expected = 8.0 - x.clamp(2.0, 14.0);
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    #[allow(clippy::float_cmp)] // the very same numbers
    fn every_layer_has_its_losses_and_points_choose_the_uncertain_border() {
        // A small image: all pixels.
        let small = losses(half([64, 64], 32), [16, 16], 3);
        assert_eq!(small.len(), 3);
        assert!(small.iter().all(|layer| layer == &small[0]), "{small:?}");
        let exact: f64 = (0..64)
            .map(|x| (8.0 - (f64::from(x) + 0.5) / 4.0).abs())
            .map(|logit| (1.0 + (-logit).exp()).ln())
            .sum::<f64>()
            / 64.0;
        assert!((f64::from(small[0][0]) - exact).abs() < 5e-3, "{} {exact}", small[0][0]);
        // The same mask in a large image, of which points are taken: those near the border are harder.
        let large = losses(half([640, 640], 320), [160, 160], 1)[0];
        assert!(
            large[0] > small[0][0] * 1.2 && large[0] < small[0][0] * 3.0,
            "{large:?} {small:?}"
        );
        // The wrong half costs more.
        let wrong = losses(half([640, 640], 640), [160, 160], 1)[0];
        assert!(wrong[0] > 2.0 * large[0] && wrong[1] > large[1], "{wrong:?} {large:?}");
    }

    #[test]
    fn images_without_masks_or_pairs_cost_nothing() {
        let device = Device::flex();
        let mut without = half([64, 64], 32);
        without.masks = None;
        let targets = Targets::new(vec![without], 1, &device).unwrap();
        let assignment = Assignment { layers: vec![vec![Vec::new()]; 2] };
        let found = point_losses(&[vec![None, None]], &assignment, &targets, 1.0);
        assert_eq!(found.len(), 2);
        for (mask, dice) in found {
            assert!((mask + dice).into_scalar::<f32>().abs() < f32::MIN_POSITIVE);
        }
    }
}
