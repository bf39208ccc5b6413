//! Means as numpy takes them: the order of additions decides the last bit, and the numbers must
//! be pycocotools'.

/// Lanes that numpy sums side by side.
const LANES: usize = 8;
/// Longest run that numpy sums without splitting it.
const BLOCK: usize = 128;

/// `np.mean` of the values that exist (are not -1), or -1 if none does.
pub(crate) fn mean_of_existing(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.filter(|&value| value > -1.0).collect();
    if values.is_empty() {
        return -1.0;
    }
    #[allow(clippy::cast_precision_loss)] // far below 2^53 values
    let count = values.len() as f64;
    pairwise(&values) / count
}

/// numpy's pairwise summation of a contiguous array.
fn pairwise(values: &[f64]) -> f64 {
    let count = values.len();
    if count > BLOCK {
        let half = count / 2 - (count / 2) % LANES;
        return pairwise(&values[..half]) + pairwise(&values[half..]);
    }
    let (blocks, tail) = values.as_chunks::<LANES>();
    let Some((first, rest)) = blocks.split_first() else {
        return tail.iter().fold(0.0, |sum, value| sum + value);
    };
    let mut lanes = *first;
    for block in rest {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
    tail.iter().fold(sum, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp)] // exact by design
    fn what_does_not_exist_is_left_out() {
        assert_eq!(mean_of_existing([0.25, -1.0, 0.75].into_iter()), 0.5);
        assert_eq!(mean_of_existing([-1.0].into_iter()), -1.0);
    }

    /// Sums of `1 / (i + 1)` by numpy 2.4: `np.sum(1 / np.arange(1, n + 1))`.
    #[test]
    fn sums_are_numpys_to_the_last_bit() {
        for (count, expected) in [
            (5, 0x4002_4444_4444_4444),
            (8, 0x4005_be2b_e2be_2be2),
            (127, 0x4015_b38a_e954_1ca6),
            (129, 0x4015_c37b_0914_9ba9),
            (1000, 0x401d_f11f_45f4_e61a),
            (5050, 0x4022_357b_8b5c_608e),
        ] {
            let values: Vec<f64> = (1..=count).map(|i| 1.0 / f64::from(i)).collect();
            assert_eq!(pairwise(&values).to_bits(), expected, "{count} values");
        }
    }
}
