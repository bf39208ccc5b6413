//! The gradients of the formula in f64 against finite differences.

use detr_ops::formula::HostCall;

use super::random::{Call, Stream};

/// Step of the differences; the points of a call are farther than this from every kink.
const STEP: f64 = 1e-6;

/// Returns the difference quotient of the weighted output along one input.
fn slope(call: &HostCall, numbers: fn(&mut HostCall) -> &mut Vec<f64>, i: usize) -> f64 {
    let total = |step: f64| -> f64 {
        let mut call = call.clone();
        numbers(&mut call)[i] += step;
        call.output().iter().zip(&call.grad).map(|(out, grad)| out * grad).sum()
    };
    (total(STEP) - total(-STEP)) / (2.0 * STEP)
}

#[test]
fn gradients_are_the_slopes_of_the_output() {
    for seed in 0..12 {
        let levels = vec![[3, 5], [2, 3], [1, 2]];
        let call = Call::of(Stream::new(seed), levels, [2, 23, 2, 3], 3, 2).host();
        let gradients = call.gradients();
        let close = |name: &str, i: usize, found: f64, slope: f64| {
            let difference = (found - slope).abs();
            assert!(difference < 1e-7 * (1.0 + slope.abs()), "{name} {i}: {found}, {slope}");
        };
        for i in (0..call.value.len()).step_by(7) {
            close("value", i, gradients.value[i], slope(&call, |call| &mut call.value, i));
        }
        for (i, &found) in gradients.weights.iter().enumerate() {
            close("weight", i, found, slope(&call, |call| &mut call.weights, i));
        }
        for (i, &found) in gradients.locations.iter().enumerate() {
            // A step is lost in the digits of a number this large.
            if call.locations[i].abs() < 10.0 {
                close("location", i, found, slope(&call, |call| &mut call.locations, i));
            }
        }
    }
}
