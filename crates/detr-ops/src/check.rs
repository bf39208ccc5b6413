//! What the arguments of an MSDA call must satisfy, and the error that says which one does not.

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

/// Arguments of [`try_msda`](crate::try_msda) that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MsdaError {
    /// An axis is empty: no batch, query, head, channel, level, point or cell.
    #[error("msda: `{argument}` has {what} of size zero: {found:?}")]
    Empty {
        /// Which argument.
        argument: MsdaArgument,
        /// The axis, or the side of a level.
        what: &'static str,
        /// The shape, or the level (H, W).
        found: Vec<usize>,
    },
    /// A shape that contradicts the other arguments.
    #[error("msda: `{argument}` has shape {found:?}, expected {expected:?} ({layout})")]
    Shape {
        /// Which argument.
        argument: MsdaArgument,
        /// Its shape.
        found: Vec<usize>,
        /// What the other arguments ask for.
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
    #[error("msda: `{argument}` is too large: {found:?}")]
    TooLarge {
        /// Which argument.
        argument: MsdaArgument,
        /// Its shape.
        found: Vec<usize>,
    },
    /// An element type that there is no kernel for.
    #[error("msda: `{argument}` is {found:?}; f32, f16 and bf16 are supported")]
    Precision {
        /// Which argument.
        argument: MsdaArgument,
        /// Its type.
        found: DType,
    },
    /// Tensors on different devices.
    #[error("msda: `{argument}` is on {found}, `value` on {expected}")]
    Device {
        /// Which argument.
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
        let (argument, what) = (MsdaArgument::Levels, "a list");
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
    // Kernels count cells and sides in 32 bits; sides must be exact in f32.
    let countable = i32::try_from(s).is_ok() && levels.iter().flatten().all(|&n| n < 1 << 24);
    if !countable {
        let (argument, found) = (MsdaArgument::Value, value.to_vec());
        return Err(MsdaError::TooLarge { argument, found });
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

    /// The message for arguments that do not fit.
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
        assert!(text.contains("`levels`"), "{text}");
    }

    #[test]
    fn level_sizes_beyond_any_memory_do_not_overflow() {
        let text = message(VALUE, &[[usize::MAX, 2], [3, 7]], LOCATIONS, WEIGHTS);
        assert!(text.contains("`levels`"), "{text}");
    }
}
