//! Normalisations and attention, forward and backward.

use burn::tensor::{FloatDType, Tensor};

use super::values::{LAYOUTS, Layout, matrix, random};
use super::{EPSILON, Extent, Need, OperationError, Test, TestedOperation};
use crate::self_test::tensor;

/// The error that these may have in f32, for each unit of the largest result.
const F32: f64 = 3e-5;

pub(super) fn run(test: &mut Test<'_>) -> Result<(), OperationError> {
    let full = test.extent == Extent::Full;
    for layout in LAYOUTS {
        layer_norm(test, [4_200, 256], layout)?;
        layer_norm(test, [37, 91], layout)?;
    }
    frozen_norm(test, [2, 64, 50, 67])?;
    attention(test, [2, 8, 100, 300, 32])?;
    if full {
        layer_norm(test, [22_223, 256], Layout::Contiguous)?;
        attention(test, [1, 8, 1_050, 1_050, 32])?;
    }
    Ok(())
}

fn layer_norm(
    test: &mut Test<'_>,
    [rows, width]: [usize; 2],
    layout: Layout,
) -> Result<(), OperationError> {
    let bound = test.bound(F32);
    let forward = TestedOperation::rounded("layer normalisation", Need::Prediction, bound);
    let backward =
        TestedOperation::rounded("layer normalisation, gradients", Need::Training, bound);
    // Models normalise in f32 whatever they compute in.
    let dtype = FloatDType::F32;
    let call = format!("{rows}x{width}, {}", format!("{layout:?}").to_lowercase());
    let numbers = random(rows * width, 71, dtype);
    let [gamma, beta] = [72, 73].map(|seed| random(width, seed, dtype));
    let grad = random(rows * width, 74, dtype);

    let mut expected = Vec::with_capacity(numbers.len());
    let mut expected_x = Vec::with_capacity(numbers.len());
    let mut expected_gamma = vec![0.0; width];
    let mut expected_beta = vec![0.0; width];
    for (x, grad) in numbers.chunks_exact(width).zip(grad.chunks_exact(width)) {
        let mean = average(x.iter().copied());
        let variance = average(x.iter().map(|x| (x - mean).powi(2)));
        let scale = (variance + EPSILON).sqrt().recip();
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * scale).collect();
        for (i, (normal, grad)) in normal.iter().zip(grad).enumerate() {
            expected.push(normal * gamma[i] + beta[i]);
            expected_gamma[i] += grad * normal;
            expected_beta[i] += grad;
        }
        let inner: Vec<f64> = grad.iter().zip(&gamma).map(|(grad, gamma)| grad * gamma).collect();
        let mean = average(inner.iter().copied());
        let slope = average(inner.iter().zip(&normal).map(|(a, b)| a * b));
        expected_x.extend(
            inner
                .iter()
                .zip(&normal)
                .map(|(inner, normal)| scale * (inner - mean - normal * slope)),
        );
    }

    let vector = |numbers: &[f64]| tensor::<1>(numbers, [width], test.device, dtype);
    let x = matrix(&numbers, [rows, width], layout, test.device, dtype);
    let plain = test.operations.layer_norm(x.clone(), vector(&gamma), vector(&beta));
    let x = x.autodiff().require_grad();
    let [gamma, beta] = [&gamma, &beta].map(|v| vector(v).autodiff().require_grad());
    let y = test.operations.layer_norm(x.clone(), gamma.clone(), beta.clone());
    let weighted = matrix(&grad, [rows, width], layout, test.device, dtype).autodiff();
    let mut grads = (y.clone() * weighted).sum().backward();
    test.compare(forward, &call, Some(plain), &expected)?;
    test.compare(forward, &call, Some(y.inner()), &expected)?;
    test.compare(backward, &call, x.grad_remove(&mut grads), &expected_x)?;
    test.compare(backward, &call, gamma.grad_remove(&mut grads), &expected_gamma)?;
    test.compare(backward, &call, beta.grad_remove(&mut grads), &expected_beta)
}

#[allow(clippy::cast_precision_loss)] // some thousand numbers
fn average(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len() as f64;
    numbers.sum::<f64>() / count
}

fn frozen_norm(test: &mut Test<'_>, shape: [usize; 4]) -> Result<(), OperationError> {
    let bound = test.bound(F32);
    let forward = TestedOperation::rounded("frozen normalisation", Need::Prediction, bound);
    let backward =
        TestedOperation::rounded("frozen normalisation, gradients", Need::Training, bound);
    let [b, c, h, w] = shape;
    let (cells, call) = (h * w, format!("{b}x{c}x{h}x{w}"));
    let numbers = random(b * c * cells, 81, test.dtype);
    let [scale, shift] = [82, 83].map(|seed| random(c, seed, test.dtype));
    let grad = random(b * c * cells, 84, test.dtype);
    let channel = |i: usize| i / cells % c;
    let expected: Vec<f64> = (numbers.iter().enumerate())
        .map(|(i, x)| x * scale[channel(i)] + shift[channel(i)])
        .collect();
    let expected_x: Vec<f64> =
        grad.iter().enumerate().map(|(i, g)| g * scale[channel(i)]).collect();
    let mut expected_scale = vec![0.0; c];
    let mut expected_shift = vec![0.0; c];
    for (i, (x, grad)) in numbers.iter().zip(&grad).enumerate() {
        expected_scale[channel(i)] += x * grad;
        expected_shift[channel(i)] += grad;
    }
    let whole = |numbers: &[f64]| tensor::<4>(numbers, shape, test.device, test.dtype);
    let vector = |numbers: &[f64]| tensor::<1>(numbers, [c], test.device, test.dtype);
    let x = whole(&numbers).autodiff().require_grad();
    let [scale, shift] = [&scale, &shift].map(|v| vector(v).autodiff().require_grad());
    let y = test.operations.frozen_norm(x.clone(), scale.clone(), shift.clone());
    let mut grads = (y.clone() * whole(&grad).autodiff()).sum().backward();
    test.compare(forward, &call, Some(y.inner()), &expected)?;
    test.compare(backward, &call, x.grad_remove(&mut grads), &expected_x)?;
    test.compare(backward, &call, scale.grad_remove(&mut grads), &expected_scale)?;
    test.compare(backward, &call, shift.grad_remove(&mut grads), &expected_shift)
}

/// Tests the attention of `[b, m, q, d]` queries to `[b, m, s, d]` keys.
fn attention(test: &mut Test<'_>, [b, m, q, s, d]: [usize; 5]) -> Result<(), OperationError> {
    let bound = test.bound(F32);
    let forward = TestedOperation::rounded("attention", Need::Prediction, bound);
    let backward = TestedOperation::rounded("attention, gradients", Need::Training, bound);
    let call = format!("{b}x{m} heads of {d}, {q} queries, {s} keys");
    // Linear layers put heads inside rows.
    let [query, key, value] =
        [(q, 91), (s, 92), (s, 93)].map(|(len, seed)| random(b * len * m * d, seed, test.dtype));
    let grad = random(b * q * m * d, 94, test.dtype);
    let mut expected = vec![0.0; query.len()];
    let mut expected_grads = [vec![0.0; query.len()], vec![0.0; key.len()], vec![0.0; key.len()]];
    for (image, head) in (0..b).flat_map(|image| (0..m).map(move |head| (image, head))) {
        let row = |i: usize, len: usize| ((image * len + i) * m + head) * d;
        for i in 0..q {
            let at = row(i, q);
            let own = &query[at..][..d];
            let mut scores: Vec<f64> = (0..s).map(|k| dot(own, &key[row(k, s)..][..d])).collect();
            let peak = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for score in &mut scores {
                *score = (*score - peak).exp();
            }
            let sum: f64 = scores.iter().sum();
            for score in &mut scores {
                *score /= sum;
            }
            let grad = &grad[at..][..d];
            let by_key: Vec<f64> = (0..s).map(|k| dot(grad, &value[row(k, s)..][..d])).collect();
            let slope = dot(&scores, &by_key);
            for k in 0..s {
                let from = row(k, s);
                let push = scores[k] * (by_key[k] - slope);
                for e in 0..d {
                    expected[at + e] += scores[k] * value[from + e];
                    expected_grads[0][at + e] += push * key[from + e];
                    expected_grads[1][from + e] += push * own[e];
                    expected_grads[2][from + e] += scores[k] * grad[e];
                }
            }
        }
    }
    let upload = |numbers: &[f64], len: usize| -> Tensor<4> {
        let rows: Tensor<3> = tensor(numbers, [b, len, m * d], test.device, test.dtype);
        rows.reshape([b, len, m, d]).swap_dims(1, 2)
    };
    let leaves = [upload(&query, q), upload(&key, s), upload(&value, s)];
    let [q_plain, k_plain, v_plain] = leaves.clone();
    let plain = test.operations.attention(q_plain, k_plain, v_plain);
    let leaves = leaves.map(|leaf| leaf.autodiff().require_grad());
    let [query, key, value] = leaves.clone();
    let y = test.operations.attention(query, key, value);
    let weighted: Tensor<3> = tensor(&grad, [b, q, m * d], test.device, test.dtype);
    let mut grads = (y.clone() * weighted.autodiff()).sum().backward();
    test.compare(forward, &call, Some(plain), &expected)?;
    test.compare(forward, &call, Some(y.inner()), &expected)?;
    for (leaf, expected) in leaves.into_iter().zip(&expected_grads) {
        let found = leaf.grad_remove(&mut grads).map(|grad| {
            let len = grad.dims()[2];
            grad.swap_dims(1, 2).reshape([b, len, m * d])
        });
        test.compare(backward, &call, found, expected)?;
    }
    Ok(())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
