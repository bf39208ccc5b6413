//! The conditions on the arguments of an MSDA call, and the error that names the argument which
//! breaks one.

use std::fmt;

use burn::tensor::{DType, Tensor};

/// An argument of [`msda`](crate::msda).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsdaArgument {
    /// `value`.
    Value,
    /// `levels`.
    Levels,
    /// `locations`.
    Locations,
    /// `weights`.
    Weights,
}

/// The limit on tensors, which kernels index in 32 bits.
const ELEMENTS: &str = "up to 2^32 - 1 numbers are supported";

/// Arguments of [`try_msda`](crate::try_msda) that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MsdaError {
    /// An axis is empty: no batch, query, head, channel, level, point or cell.
    #[error("msda: `{argument}` has {what} of size zero: {found:?}")]
    Empty {
        /// The argument that is wrong.
        argument: MsdaArgument,
        /// The axis, the side of a level, or L for a list without levels.
        what: &'static str,
        /// The shape, or the level (H, W).
        found: Vec<usize>,
    },
    /// A shape that contradicts the other arguments.
    #[error("msda: `{argument}` has shape {found:?}, expected {expected:?} ({layout})")]
    Shape {
        /// The argument that is wrong.
        argument: MsdaArgument,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the other arguments ask for.
        expected: Vec<usize>,
        /// The names of the axes.
        layout: &'static str,
    },
    /// The levels do not cover the cells of `value`.
    #[error("msda: `levels` {levels:?} have {cells} cells together, but `value` has S = {s}")]
    Cells {
        /// Sizes (H, W).
        levels: Vec<[usize; 2]>,
        /// Sum of H * W.
        cells: usize,
        /// Second axis of `value`.
        s: usize,
    },
    /// More cells or numbers than the kernels can count.
    #[error("msda: `{argument}` is too large: {found:?}; {limit}")]
    TooLarge {
        /// The argument that is wrong.
        argument: MsdaArgument,
        /// Its shape; a level (H, W).
        found: Vec<usize>,
        /// The largest number that the kernels can index.
        limit: &'static str,
    },
    /// More numbers in the output than the kernels can count.
    #[error("msda: an output of shape {found:?} is too large; {ELEMENTS}")]
    OutputTooLarge {
        /// B, Q, M * D.
        found: [usize; 3],
    },
    /// An element type that there is no kernel for.
    #[error("msda: `{argument}` is {found:?}; f32, f16 and bf16 are supported")]
    Precision {
        /// The argument that is wrong.
        argument: MsdaArgument,
        /// Its type.
        found: DType,
    },
    /// Tensors on different devices.
    #[error("msda: `{argument}` is on {found}, `value` on {expected}")]
    Device {
        /// The argument that is wrong.
        argument: MsdaArgument,
        /// Its device.
        found: String,
        /// The device of `value`.
        expected: String,
    },
}

impl fmt::Display for MsdaArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "value",
            Self::Levels => "levels",
            Self::Locations => "locations",
            Self::Weights => "weights",
        })
    }
}

/// Checks everything that the kernels rely on.
pub(crate) fn arguments(
    value: &Tensor<4>,
    levels: &[[usize; 2]],
    locations: &Tensor<6>,
    weights: &Tensor<5>,
) -> Result<(), MsdaError> {
    shapes(value.dims(), levels, locations.dims(), weights.dims())?;
    for (argument, found) in [
        (MsdaArgument::Value, value.dtype()),
        (MsdaArgument::Locations, locations.dtype()),
        (MsdaArgument::Weights, weights.dtype()),
    ] {
        if !matches!(found, DType::F32 | DType::F16 | DType::BF16) {
            return Err(MsdaError::Precision { argument, found });
        }
    }
    let expected = value.device();
    for (argument, found) in
        [(MsdaArgument::Locations, locations.device()), (MsdaArgument::Weights, weights.device())]
    {
        if found != expected {
            let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
            return Err(MsdaError::Device { argument, found, expected });
        }
    }
    Ok(())
}

fn shapes(
    value: [usize; 4],
    levels: &[[usize; 2]],
    locations: [usize; 6],
    weights: [usize; 5],
) -> Result<(), MsdaError> {
    not_empty(MsdaArgument::Value, &value, &["B", "S", "M", "D"])?;
    if levels.is_empty() {
        let (argument, what) = (MsdaArgument::Levels, "L");
        return Err(MsdaError::Empty { argument, what, found: Vec::new() });
    }
    for level in levels {
        not_empty(MsdaArgument::Levels, level, &["H", "W"])?;
    }
    let [b, s, m, _] = value;
    let cells = levels.iter().map(|&[h, w]| h.saturating_mul(w)).fold(0, usize::saturating_add);
    if cells != s {
        return Err(MsdaError::Cells { levels: levels.to_vec(), cells, s });
    }
    not_empty(MsdaArgument::Locations, &locations, &["B", "Q", "M", "L", "P", "xy"])?;
    let (q, p) = (locations[1], locations[4]);
    same(
        MsdaArgument::Locations,
        &locations,
        &[b, q, m, levels.len(), p, 2],
        "[B, Q, M, L, P, 2]",
    )?;
    same(MsdaArgument::Weights, &weights, &[b, q, m, levels.len(), p], "[B, Q, M, L, P]")?;
    countable(value, levels, locations, weights)
}

/// Kernels count cells with a sign and numbers without, both in 32 bits, and sides in f32.
fn countable(
    value: [usize; 4],
    levels: &[[usize; 2]],
    locations: [usize; 6],
    weights: [usize; 5],
) -> Result<(), MsdaError> {
    let too_large = |argument, found: &[usize], limit| {
        Err(MsdaError::TooLarge { argument, found: found.to_vec(), limit })
    };
    if let Some(level) = levels.iter().find(|level| level.iter().any(|&side| side >= 1 << 24)) {
        return too_large(MsdaArgument::Levels, level, "sides below 2^24 are supported");
    }
    // The cell after a point below the last row is counted before it is found to be outside.
    let widest = levels.iter().map(|&[_, w]| w).max().unwrap_or(0);
    let [b, s, m, d] = value;
    if s.checked_add(widest + 1).is_none_or(|cells| i32::try_from(cells).is_err()) {
        let limit = "S plus the largest width must stay below 2^31 - 1";
        return too_large(MsdaArgument::Value, &value, limit);
    }
    let fits = |shape: &[usize]| {
        let count = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        count.is_some_and(|count| u32::try_from(count).is_ok())
    };
    for (argument, shape) in [
        (MsdaArgument::Value, &value[..]),
        (MsdaArgument::Locations, &locations),
        (MsdaArgument::Weights, &weights),
    ] {
        if !fits(shape) {
            return too_large(argument, shape, ELEMENTS);
        }
    }
    let q = locations[1];
    if !fits(&[b, q, m, d]) {
        return Err(MsdaError::OutputTooLarge { found: [b, q, m * d] });
    }
    Ok(())
}

fn not_empty(
    argument: MsdaArgument,
    found: &[usize],
    names: &[&'static str],
) -> Result<(), MsdaError> {
    match found.iter().zip(names).find(|&(&size, _)| size == 0) {
        Some((_, what)) => Err(MsdaError::Empty { argument, what, found: found.to_vec() }),
        None => Ok(()),
    }
}

fn same(
    argument: MsdaArgument,
    found: &[usize],
    expected: &[usize],
    layout: &'static str,
) -> Result<(), MsdaError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.to_vec(), expected.to_vec());
    Err(MsdaError::Shape { argument, found, expected, layout })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [[usize; 2]; 2] = [[3, 5], [2, 3]];
    const VALUE: [usize; 4] = [2, 21, 7, 11];
    const LOCATIONS: [usize; 6] = [2, 13, 7, 2, 4, 2];
    const WEIGHTS: [usize; 5] = [2, 13, 7, 2, 4];

    /// Returns the message for arguments that do not fit.
    fn message(
        value: [usize; 4],
        levels: &[[usize; 2]],
        locations: [usize; 6],
        weights: [usize; 5],
    ) -> String {
        shapes(value, levels, locations, weights).unwrap_err().to_string()
    }

    #[test]
    fn shapes_that_fit_are_accepted() {
        assert_eq!(shapes(VALUE, &LEVELS, LOCATIONS, WEIGHTS), Ok(()));
    }

    #[test]
    fn the_message_names_the_argument_that_does_not_fit() {
        let text = message([2, 20, 7, 11], &LEVELS, LOCATIONS, WEIGHTS);
        assert!(text.contains("`levels`") && text.contains("21 cells"), "{text}");
        let text = message(VALUE, &LEVELS, [2, 13, 6, 2, 4, 2], WEIGHTS);
        assert!(text.contains("`locations`") && text.contains("[B, Q, M, L, P, 2]"), "{text}");
        let text = message(VALUE, &LEVELS, LOCATIONS, [2, 13, 7, 2, 3]);
        assert!(text.contains("`weights`") && text.contains("expected [2, 13, 7, 2, 4]"), "{text}");
    }

    #[test]
    fn empty_axes_are_refused_by_name() {
        let text = message([0, 21, 7, 11], &LEVELS, [0, 13, 7, 2, 4, 2], [0, 13, 7, 2, 4]);
        assert!(text.contains("`value` has B of size zero"), "{text}");
        let text = message(VALUE, &LEVELS, [2, 0, 7, 2, 4, 2], [2, 0, 7, 2, 4]);
        assert!(text.contains("`locations` has Q of size zero"), "{text}");
        let text = message(VALUE, &[[3, 7], [0, 4]], LOCATIONS, WEIGHTS);
        assert!(text.contains("`levels` has H of size zero"), "{text}");
        let text = message(VALUE, &[], LOCATIONS, WEIGHTS);
        assert!(text.contains("`levels` has L of size zero"), "{text}");
    }

    /// Returns the message for one level, from value and level, Q and P.
    fn of_level(value: [usize; 4], level: [usize; 2], q: usize, p: usize) -> String {
        let [b, _, m, _] = value;
        message(value, &[level], [b, q, m, 1, p, 2], [b, q, m, 1, p])
    }

    #[test]
    fn what_kernels_cannot_count_is_refused_by_name() {
        let side = 1 << 24;
        let text = of_level([1, side, 1, 1], [1, side], 1, 1);
        assert!(text.contains("`levels` is too large: [1, 16777216]"), "{text}");
        assert!(text.contains("below 2^24"), "{text}");
        let text = of_level([1, 65_536 * 32_767, 1, 1], [32_767, 65_536], 1, 1);
        assert!(text.contains("`value` is too large") && text.contains("S plus"), "{text}");
        let text = of_level([1 << 12, 1 << 12, 16, 16], [64, 64], 1, 1);
        assert!(text.contains("`value` is too large") && text.contains("2^32 - 1"), "{text}");
        let text = of_level([1, 4, 8, 1], [2, 2], 1 << 26, 4);
        assert!(text.contains("`locations` is too large"), "{text}");
        let text = of_level([1, 4, 8, 1 << 10], [2, 2], 1 << 20, 1);
        assert!(text.contains("output of shape [1, 1048576, 8192] is too large"), "{text}");
    }

    #[test]
    fn the_largest_that_kernels_can_count_is_accepted() {
        // 2^31 - 2^16 - 2^15 cells, and rows of 2^15.
        let (h, w) = ((1 << 16) - 3, 1 << 15);
        let found = shapes([1, h * w, 1, 1], &[[h, w]], [1, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1]);
        assert_eq!(found, Ok(()));
        let (q, p) = ((1 << 24) - 1, 128);
        let found = shapes([1, 4, 1, 1], &[[2, 2]], [1, q, 1, 1, p, 2], [1, q, 1, 1, p]);
        assert_eq!(found, Ok(()));
    }

    #[test]
    fn level_sizes_beyond_any_memory_do_not_overflow() {
        let text = message(VALUE, &[[usize::MAX, 2], [3, 7]], LOCATIONS, WEIGHTS);
        assert!(text.contains("`levels`"), "{text}");
    }
}
