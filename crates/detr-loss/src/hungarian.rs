//! The assignment problem on the host, solved by the Hungarian (Kuhn-Munkres) algorithm of the `pathfinding`
//! crate. Costs that are NaN are refused before, since the algorithm would never end on them.

use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;

/// Costs are rounded to steps, of which 1 has 2^20, so that sums are exact to a millionth.
const STEPS: f64 = (1 << 20) as f64;
/// Costs are cut off at this, so that sums in steps fit 64 bits. No real cost comes near it.
const LARGEST: f64 = 4_294_967_296.0; // 2^32

/// A cost that is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the cost of row {row} and column {column} is {value}")]
pub struct AssignmentError {
    /// The row.
    pub row: usize,
    /// The column.
    pub column: usize,
    /// The cost.
    pub value: f32,
}

/// Returns the pairs (row, column) with the least sum of costs, in the order of the rows. There are
/// `min(rows, columns)` of them.
///
/// # Shapes
/// - `costs` `[rows, columns]`, row-major
///
/// # Errors
/// A cost is not finite.
pub fn assign(
    costs: &[f32],
    rows: usize,
    columns: usize,
) -> Result<Vec<(usize, usize)>, AssignmentError> {
    assign_part(costs, columns, rows, columns)
}

/// Solves the problem of [`assign`] for the first columns of a matrix that has `stride` of them.
pub(crate) fn assign_part(
    costs: &[f32],
    stride: usize,
    rows: usize,
    columns: usize,
) -> Result<Vec<(usize, usize)>, AssignmentError> {
    if rows == 0 || columns == 0 {
        return Ok(Vec::new());
    }
    for (row, costs) in costs.chunks_exact(stride).enumerate() {
        if let Some(column) = costs[..columns].iter().position(|cost| !cost.is_finite()) {
            return Err(AssignmentError { row, column, value: costs[column] });
        }
    }
    // The algorithm wants the fewer along the rows.
    let turned = rows > columns;
    let (few, many) = if turned { (columns, rows) } else { (rows, columns) };
    let mut lines = Vec::with_capacity(few * many);
    for i in 0..few {
        if turned {
            lines.extend(costs.chunks_exact(stride).map(|row| row[i]));
        } else {
            lines.extend_from_slice(&costs[i * stride..i * stride + columns]);
        }
    }
    let chosen = cheapest(&lines, many).unwrap_or_else(|| {
        let wanted = wanted(&lines, few, many);
        let cost = |(i, j): (usize, usize)| steps(lines[i * many + wanted[j]]);
        let (_, chosen) = kuhn_munkres_min(&Matrix::from_fn(few, wanted.len(), cost));
        chosen.into_iter().map(|j| wanted[j]).collect()
    });
    let pairs = chosen.into_iter().enumerate();
    let mut pairs: Vec<_> = pairs.map(|(i, j)| if turned { (j, i) } else { (i, j) }).collect();
    pairs.sort_unstable();
    Ok(pairs)
}

/// Returns the cheapest column of every row, or `None` if two rows share one. Nothing is cheaper than that.
fn cheapest(lines: &[f32], many: usize) -> Option<Vec<usize>> {
    let mut is_taken = vec![false; many];
    lines
        .chunks_exact(many)
        .map(|line| {
            let (mut least, mut column) = (f32::INFINITY, 0);
            for (j, &cost) in line.iter().enumerate() {
                if cost < least {
                    (least, column) = (cost, j);
                }
            }
            (!std::mem::replace(&mut is_taken[column], true)).then_some(column)
        })
        .collect()
}

/// Returns the columns that are among the `few` cheapest ones of some row. The others are not needed: a row
/// that got one of them could have one of its cheapest instead, since the other rows cannot take them all.
fn wanted(lines: &[f32], few: usize, many: usize) -> Vec<usize> {
    let mut is_wanted = vec![false; many];
    let mut sorted = Vec::with_capacity(many);
    for line in lines.chunks_exact(many) {
        sorted.clear();
        sorted.extend(line.iter().map(|&cost| ordered(cost)));
        let (_, &mut most, _) = sorted.select_nth_unstable(few - 1);
        for (wanted, &cost) in is_wanted.iter_mut().zip(line) {
            *wanted |= ordered(cost) <= most;
        }
    }
    (0..many).filter(|&column| is_wanted[column]).collect()
}

/// Returns an integer that compares as the finite number does. Integers are faster to sort.
fn ordered(cost: f32) -> i32 {
    let bits = cost.to_bits().cast_signed();
    bits ^ ((bits >> 31) & i32::MAX)
}

/// Rounds a cost to the nearest step. It is faster than `f64::round`, which is a function call on older
/// processors.
#[allow(clippy::cast_possible_truncation)] // cut off before
fn steps(cost: f32) -> i64 {
    let steps = f64::from(cost).clamp(-LARGEST, LARGEST) * STEPS;
    (steps + 0.5_f64.copysign(steps)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the least sum over all ways to pair, tried one by one.
    fn brute_force(costs: &[f32], rows: usize, columns: usize) -> f64 {
        fn best(
            costs: &[f32],
            columns: usize,
            row: usize,
            rows: usize,
            used: u32,
            skip: usize,
        ) -> f64 {
            if row == rows {
                return 0.0;
            }
            let mut least = f64::INFINITY;
            for column in (0..columns).filter(|column| used & (1 << column) == 0) {
                let rest = best(costs, columns, row + 1, rows, used | 1 << column, skip);
                least = least.min(f64::from(costs[row * columns + column]) + rest);
            }
            if skip > 0 {
                least = least.min(best(costs, columns, row + 1, rows, used, skip - 1));
            }
            least
        }
        best(costs, columns, 0, rows, 0, rows.saturating_sub(columns))
    }

    /// Returns a generator of numbers from -2 to 2.
    fn random() -> impl FnMut() -> f32 {
        let mut state = 1u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            #[allow(clippy::cast_precision_loss)] // 24 bits
            let value = (state >> 40) as f32 / (1u32 << 22) as f32 - 2.0;
            value
        }
    }

    fn total(costs: &[f32], columns: usize, pairs: &[(usize, usize)]) -> f64 {
        pairs.iter().map(|&(r, c)| f64::from(costs[r * columns + c])).sum()
    }

    #[test]
    fn the_total_is_that_of_brute_force() {
        let mut next = random();
        for rows in 1..=7usize {
            for columns in 1..=7usize {
                let costs: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
                let pairs = assign(&costs, rows, columns).unwrap();
                assert_eq!(pairs.len(), rows.min(columns));
                let total = total(&costs, columns, &pairs);
                let least = brute_force(&costs, rows, columns);
                assert!((total - least).abs() < 1e-5, "{rows}x{columns}: {total} {least}");
            }
        }
    }

    #[test]
    fn columns_that_are_left_out_change_no_total() {
        let mut next = random();
        for (few, many, levels) in [(12, 90, 4.0), (30, 61, 1000.0), (1, 5, 1.0), (20, 20, 3.0)] {
            // Rows that want the same columns, and ties.
            let common: Vec<f32> = (0..many).map(|_| 4.0 * next()).collect();
            let costs: Vec<f32> =
                (0..few * many).map(|at| ((common[at % many] + next()) * levels).round()).collect();
            let all = Matrix::from_fn(few, many, |(i, j)| steps(costs[i * many + j]));
            #[allow(clippy::cast_precision_loss)] // whole numbers
            let least = kuhn_munkres_min(&all).0 as f64 / STEPS;
            let pairs = assign(&costs, few, many).unwrap();
            assert!((total(&costs, many, &pairs) - least).abs() < 1e-9, "{few}x{many}");
            let turned: Vec<f32> =
                (0..few * many).map(|at| costs[at % few * many + at / few]).collect();
            let pairs = assign(&turned, many, few).unwrap();
            assert!(pairs.is_sorted());
            let pairs: Vec<_> = pairs.into_iter().map(|(column, row)| (row, column)).collect();
            assert!((total(&costs, many, &pairs) - least).abs() < 1e-9, "{many}x{few}");
        }
    }

    #[test]
    fn costs_that_are_not_finite_are_named_and_huge_ones_are_not_in_the_way() {
        let error = assign(&[1.0, 2.0, 3.0, f32::NAN], 2, 2).unwrap_err();
        assert_eq!((error.row, error.column), (1, 1));
        assert!(assign(&[f32::NEG_INFINITY], 1, 1).is_err());
        assert_eq!(assign(&[f32::MAX, 1.0, 1.0, f32::MAX], 2, 2).unwrap(), [(0, 1), (1, 0)]);
        assert_eq!(assign(&[], 0, 5).unwrap(), []);
        assert_eq!(assign(&[], 5, 0).unwrap(), []);
    }
}
