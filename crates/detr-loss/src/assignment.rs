//! The assignment problem on the host: the Kuhn-Munkres algorithm of the `pathfinding` crate, behind
//! a guard, since it never ends on what is not a number.

use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;

/// Steps of a cost: 2^20 for 1, so sums of matchings differ from exact ones by a millionth.
const STEPS: f64 = (1 << 20) as f64;
/// Costs are cut off at this, which no real one comes near: sums still fit 64 bits.
const LARGEST: f64 = 4_294_967_296.0; // 2^32

/// A cost that is not a number, or infinite.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the cost of row {row} and column {column} is {value}")]
pub struct AssignmentError {
    /// Row.
    pub row: usize,
    /// Column.
    pub column: usize,
    /// The cost.
    pub value: f32,
}

/// Pairs of rows and columns with the least sum of costs, in the order of the rows; as many as there
/// are rows or columns, whichever are fewer.
///
/// # Shapes
/// - `costs` `[rows, columns]`, row-major
///
/// # Errors
/// A cost that is not finite.
pub fn assign(
    costs: &[f32],
    rows: usize,
    columns: usize,
) -> Result<Vec<(usize, usize)>, AssignmentError> {
    if let Some(at) = costs.iter().position(|cost| !cost.is_finite()) {
        return Err(AssignmentError { row: at / columns, column: at % columns, value: costs[at] });
    }
    if rows == 0 || columns == 0 {
        return Ok(Vec::new());
    }
    // The algorithm wants the fewer along the rows.
    let turned = rows > columns;
    let (few, many) = if turned { (columns, rows) } else { (rows, columns) };
    let cost =
        |i: usize, j: usize| if turned { costs[j * columns + i] } else { costs[i * columns + j] };
    let weights = Matrix::from_fn(few, many, |(i, j)| steps(cost(i, j)));
    let (_, chosen) = kuhn_munkres_min(&weights);
    let mut pairs: Vec<(usize, usize)> =
        chosen.into_iter().enumerate().map(|(i, j)| if turned { (j, i) } else { (i, j) }).collect();
    pairs.sort_unstable();
    Ok(pairs)
}

#[allow(clippy::cast_possible_truncation)] // cut off before
fn steps(cost: f32) -> i64 {
    (f64::from(cost).clamp(-LARGEST, LARGEST) * STEPS).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Least sum over all ways to pair, tried one by one.
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

    #[test]
    fn the_total_is_that_of_brute_force() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            #[allow(clippy::cast_precision_loss)] // 24 bits
            let value = (state >> 40) as f32 / (1u32 << 22) as f32 - 2.0;
            value
        };
        for rows in 1..=7usize {
            for columns in 1..=7usize {
                let costs: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
                let pairs = assign(&costs, rows, columns).unwrap();
                assert_eq!(pairs.len(), rows.min(columns));
                let total: f64 =
                    pairs.iter().map(|&(r, c)| f64::from(costs[r * columns + c])).sum();
                let least = brute_force(&costs, rows, columns);
                assert!((total - least).abs() < 1e-5, "{rows}x{columns}: {total} {least}");
            }
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
