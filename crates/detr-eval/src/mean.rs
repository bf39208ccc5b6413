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
