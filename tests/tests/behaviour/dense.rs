//! Convolutions, linear layers and attention of our own against Burn's operations, which are composed of
//! other kernels: outputs and gradients, over sizes at which kernels go wrong.

use burn::tensor::activation::{relu, softmax};
use burn::tensor::ops::{ConvOptions as Plain, MaxPoolOptions};
use burn::tensor::{Bool, Device, Distribution, Tensor, TensorData, module};
use detr_ops::dense::{ConvOptions, attention, conv2d, linear, max_pool};

fn device() -> Device {
    Device::flex()
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Sums of `terms` products of numbers below one differ by rounding alone.
fn assert_near(found: &[f32], expected: &[f32], terms: usize, title: &str) {
    assert_eq!(found.len(), expected.len(), "{title}");
    #[allow(clippy::cast_precision_loss)]
    let allowed = 4e-7 * terms as f32;
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= allowed, "{title}: {i} is {found}, not {expected}");
    }
}

/// A convolution: images, channels, filters, input, kernel, stride, padding, dilation.
type Sizes = (usize, usize, usize, [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2]);

const CONVOLUTIONS: [Sizes; 15] = [
    // The stem, and what a bottleneck has.
    (2, 3, 8, [37, 53], [7, 7], [2, 2], [3, 3], [1, 1]),
    (1, 64, 70, [19, 23], [1, 1], [1, 1], [0, 0], [1, 1]),
    (3, 16, 24, [13, 11], [3, 3], [1, 1], [1, 1], [1, 1]),
    (2, 16, 24, [13, 12], [3, 3], [2, 2], [1, 1], [1, 1]),
    (2, 8, 8, [14, 9], [3, 3], [1, 1], [2, 2], [2, 2]),
    (2, 5, 7, [9, 10], [1, 1], [2, 2], [0, 0], [1, 1]),
    // Different along both axes; a stride that leaves cells out; padding beyond the input.
    (1, 3, 5, [8, 15], [2, 5], [3, 2], [1, 4], [2, 1]),
    (1, 2, 3, [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]),
    (1, 2, 3, [2, 3], [3, 3], [2, 2], [4, 4], [1, 1]),
    // More cells than a tile has, in images that no tile divides.
    (5, 4, 3, [41, 67], [3, 3], [1, 1], [1, 1], [1, 1]),
    // Winograd's: all threads on one block, and many blocks; odd sizes, every padding.
    (2, 67, 69, [19, 26], [3, 3], [1, 1], [1, 1], [1, 1]),
    (1, 64, 72, [27, 26], [3, 3], [1, 1], [0, 0], [1, 1]),
    (1, 72, 64, [21, 35], [3, 3], [1, 1], [2, 0], [1, 1]),
    (40, 64, 64, [1, 2], [3, 3], [1, 1], [2, 3], [1, 1]),
    (3, 64, 66, [61, 101], [3, 3], [1, 1], [1, 1], [1, 1]),
];

struct Case {
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    residual: Tensor<4>,
    grad: Tensor<4>,
    options: ConvOptions,
    depth: usize,
}

fn case(sizes: &Sizes, relu: bool) -> Case {
    let &(images, channels, filters, [h, w], [kh, kw], stride, padding, dilation) = sizes;
    let device = device().autodiff();
    let options = ConvOptions { stride, padding, dilation, relu };
    let out = |n: usize, k: usize, axis: usize| {
        (n + 2 * padding[axis] - dilation[axis] * (k - 1) - 1) / stride[axis] + 1
    };
    let shape = [images, filters, out(h, kh, 0), out(w, kw, 1)];
    Case {
        x: random([images, channels, h, w], &device).require_grad(),
        weight: random([filters, channels, kh, kw], &device).require_grad(),
        bias: random([filters], &device).require_grad(),
        residual: random(shape, &device).require_grad(),
        grad: random(shape, &device),
        options,
        depth: channels * kh * kw + 2,
    }
}

/// Returns the output, and the gradients of x, weight, bias and, if it was added, the residual.
fn gradients(case: &Case, output: Tensor<4>, residual: bool) -> Vec<Vec<f32>> {
    let mut grads = (output.clone() * case.grad.clone()).sum().backward();
    let mut found = vec![
        numbers(output),
        numbers(case.x.grad_remove(&mut grads).unwrap()),
        numbers(case.weight.grad_remove(&mut grads).unwrap()),
        numbers(case.bias.grad_remove(&mut grads).unwrap()),
    ];
    if residual {
        found.push(numbers(case.residual.grad_remove(&mut grads).unwrap()));
    }
    found
}

#[test]
fn convolutions_are_those_of_burn() {
    for sizes in &CONVOLUTIONS {
        for (with_residual, rectified) in [(false, false), (false, true), (true, true)] {
            let mut case = case(sizes, rectified);
            let residual = with_residual.then(|| case.residual.clone());
            let (x, weight) = (case.x.clone(), case.weight.clone());
            let found = conv2d(x, weight, Some(case.bias.clone()), residual.clone(), case.options);
            let ConvOptions { stride, padding, dilation, .. } = case.options;
            let plain = Plain::new(stride, padding, dilation, 1);
            let (x, weight) = (case.x.clone(), case.weight.clone());
            let mut expected = module::conv2d(x, weight, Some(case.bias.clone()), plain);
            if let Some(residual) = residual {
                expected = expected + residual;
            }
            if rectified {
                // Rounding decides whether a gradient goes through what is nearly zero.
                let at_kink = expected.clone().detach().abs().lower_elem(1e-3);
                case.grad = case.grad.mask_fill(at_kink, 0.0);
                expected = relu(expected);
            }
            let cells: usize = case.grad.dims().iter().product::<usize>() / case.grad.dims()[1];
            let terms = [case.depth, case.depth * case.grad.dims()[1], cells, cells, 2];
            let found = gradients(&case, found, with_residual);
            let expected = gradients(&case, expected, with_residual);
            let names = ["output", "x", "weight", "bias", "residual"];
            for (((found, expected), terms), name) in
                found.iter().zip(&expected).zip(terms).zip(names)
            {
                assert_near(found, expected, terms, &format!("{name} of {sizes:?}"));
            }
        }
    }
}

#[test]
fn a_convolution_without_bias_or_gradient_is_the_same() {
    let device = device();
    let (x, weight) = (random([2, 6, 9, 9], &device), random([4, 6, 3, 3], &device));
    let options = ConvOptions { stride: [1, 1], padding: [1, 1], dilation: [1, 1], relu: false };
    // Strides that are not those of a tensor row by row.
    let (x, weight) = (x.swap_dims(2, 3), weight.swap_dims(2, 3));
    let found = conv2d(x.clone(), weight.clone(), None, None, options);
    let expected = module::conv2d(x, weight, None, Plain::new([1, 1], [1, 1], [1, 1], 1));
    assert_near(&numbers(found), &numbers(expected), 54, "conv");
}

#[test]
fn linear_layers_are_those_of_burn() {
    let device = device().autodiff();
    for (rows, inputs, outputs) in
        [(1, 1, 1), (7, 33, 65), (300, 256, 91), (100, 64, 1024), (2, 9, 4)]
    {
        for rectified in [false, true] {
            let x = random([2, rows, inputs], &device).require_grad();
            let weight = random([outputs, inputs], &device).require_grad();
            let bias = random([outputs], &device).require_grad();
            let grad = random([2, rows, outputs], &device);
            let run = |own: bool| {
                // The weight is transposed, as PyTorch stores it.
                let w = weight.clone().transpose();
                let y = if own {
                    linear(x.clone(), w, Some(bias.clone()), rectified)
                } else {
                    let y = module::linear(x.clone(), w, Some(bias.clone()));
                    if rectified { relu(y) } else { y }
                };
                let mut grads = (y.clone() * grad.clone()).sum().backward();
                [
                    numbers(y),
                    numbers(x.grad_remove(&mut grads).unwrap()),
                    numbers(weight.grad_remove(&mut grads).unwrap()),
                    numbers(bias.grad_remove(&mut grads).unwrap()),
                ]
            };
            for (found, expected) in run(true).iter().zip(&run(false)) {
                let terms = inputs.max(outputs).max(2 * rows) + 1;
                assert_near(found, expected, terms, &format!("{rows} {inputs} {outputs}"));
            }
        }
    }
}

#[test]
fn attention_is_softmax_of_scores_times_values() {
    let device = device();
    for (b, m, q, s, d) in
        [(2, 8, 100, 850, 32), (1, 2, 1, 1, 4), (3, 4, 37, 5, 8), (2, 1, 300, 300, 16)]
    {
        #[allow(clippy::cast_precision_loss)] // a small number
        let scale = 20.0 / (d as f64).sqrt();
        // Heads as the models make them, by swapping dimensions; scores up to 20.
        let heads = |n: usize| random([b, n, m, d], &device).swap_dims(1, 2);
        let (query, key, value) = (heads(q) * scale, heads(s), heads(s));
        // The last keys of the second image are padding.
        let padding: Vec<bool> = (0..b * s).map(|i| i / s == 1 && i % s > s / 2).collect();
        let padding = Tensor::<2, Bool>::from_data(TensorData::new(padding, [b, s]), &device);
        for padding in [None, Some(padding)] {
            let found = attention(&query, &key, &value, padding.as_ref()).unwrap();
            let mut scores = query.clone().matmul(key.clone().swap_dims(2, 3));
            if let Some(padding) = padding {
                let mask = padding.reshape([b, 1, 1, s]).expand([b, m, q, s]);
                scores = scores.mask_fill(mask, f32::NEG_INFINITY);
            }
            let expected = softmax(scores, 3).matmul(value.clone());
            let expected = expected.swap_dims(1, 2).reshape([b, q, m * d]);
            // Scores have rounding errors of their own size, which the exponential passes on.
            assert_near(&numbers(found), &numbers(expected), 30, &format!("{b} {m} {q} {s} {d}"));
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let device = device();
    let x = random([2, 40, 33, 47], &device);
    let [filters, weight] = [random([48, 360], &device), random([48, 64], &device)];
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let options =
                ConvOptions { stride: [1, 1], padding: [1, 1], dilation: [1, 1], relu: true };
            let filters = filters.clone().reshape([48, 40, 3, 3]);
            let y = conv2d(x.clone(), filters, None, None, options);
            let y = linear(y.flatten::<3>(2, 3).swap_dims(1, 2), weight.clone(), None, false);
            let [b, n, _] = y.dims();
            let heads = y.reshape([b, n, 4, 16]).swap_dims(1, 2) * 0.01;
            let bits = numbers(attention(&heads, &heads, &heads, None).unwrap());
            bits.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn maximum_pooling_is_burns_with_its_gradient() {
    let device = device().autodiff();
    for (h, w) in [(1, 1), (2, 1), (7, 5), (12, 33), (19, 20)] {
        // Whole numbers, so that many are equal: the first of them gets the gradient.
        let x = (random([2, 3, h, w], &device) * 3.0).round();
        let grad = random([2, 3, h.div_ceil(2), w.div_ceil(2)], &device);
        let run = |f: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            let x = x.clone().require_grad();
            let y = f(x.clone());
            let mut grads = (y.clone() * grad.clone()).sum().backward();
            (numbers(y), numbers(x.grad_remove(&mut grads).unwrap()))
        };
        let options = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
        let plain = run(&|x| module::max_pool2d(x, options.clone()));
        let (found, found_grad) = run(&max_pool);
        assert_eq!(found, plain.0, "{h} {w}");
        assert_near(&found_grad, &plain.1, 4, &format!("gradient of {h} {w}"));
    }
}

#[test]
fn what_is_not_a_number_stays_visible() {
    let device = device();
    let options = ConvOptions { stride: [1, 1], padding: [0, 0], dilation: [1, 1], relu: true };
    let x = random([1, 3, 4, 4], &device);
    let x = x.slice_assign([0..1, 1..2, 2..3, 2..3], Tensor::full([1, 1, 1, 1], f32::NAN, &device));
    let y = conv2d(x.clone(), random([2, 3, 1, 1], &device), None, None, options);
    assert_eq!(numbers(y).iter().filter(|value| value.is_nan()).count(), 2);
    let rows = x.reshape([1, 12, 4]);
    let y = linear(rows.clone(), random([4, 5], &device), None, true);
    assert_eq!(numbers(y).iter().filter(|value| value.is_nan()).count(), 5);
    let heads = rows.reshape([1, 1, 12, 4]);
    let y = attention(&heads, &heads, &heads, None).unwrap();
    assert!(numbers(y).iter().all(|value| value.is_nan()), "every query sees the key");
    // Row 6 and column 2, of which each is the middle of one output.
    let y = max_pool(heads);
    assert_eq!(numbers(y).iter().filter(|value| value.is_nan()).count(), 1);
}
