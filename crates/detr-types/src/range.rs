//! The error of a setting that is out of its range, and the checks that make it.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// A value of a configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{field} is {value}, expected {expected}{}",
    hint.as_ref().map_or_else(String::new, |hint| format!("\nhint: {hint}"))
)]
pub struct RangeError {
    /// The dotted path of the field, such as `std[1]` or `random_resize.max_size`.
    pub field: String,
    /// Its value.
    pub value: String,
    /// The values that it can have.
    pub expected: Cow<'static, str>,
    /// The advice that ends the message.
    pub hint: Option<Cow<'static, str>>,
}

impl RangeError {
    /// Makes the error of a field, without a hint.
    #[must_use]
    pub fn new(
        field: impl Into<String>,
        value: impl Display,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (field, expected) = (field.into(), expected.into());
        Self { field, value: value.to_string(), expected, hint: None }
    }

    /// Puts the field below a table: `below("data.loader")` makes `data.loader.workers` of `workers`.
    #[must_use]
    pub fn below(self, table: impl Display) -> Self {
        Self { field: format!("{table}.{}", self.field), ..self }
    }

    /// Adds a hint, in place of one that is there.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Refuses a field unless the condition holds.
///
/// # Errors
/// The condition does not hold.
pub fn require(
    ok: bool,
    field: impl Into<String>,
    value: impl Display,
    expected: impl Into<Cow<'static, str>>,
) -> Result<(), RangeError> {
    if ok { Ok(()) } else { Err(RangeError::new(field, value, expected)) }
}

/// Refuses a number outside of a range, and NaN.
///
/// # Errors
/// The number is outside.
#[allow(clippy::needless_pass_by_value)] // ranges are written where they are passed
pub fn in_range<T: PartialOrd + Display>(
    field: impl Into<String>,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), RangeError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(RangeError::new(field, value, format!("{} to {}", range.start(), range.end())))
}

/// Refuses a negative or infinite number, and NaN.
///
/// # Errors
/// The number is one of these.
pub fn not_negative(field: impl Into<String>, value: f64) -> Result<(), RangeError> {
    require(value.is_finite() && value >= 0.0, field, value, "a finite number, 0 or more")
}

/// Refuses a number that is not above 0, or infinite.
///
/// # Errors
/// The number is one of these.
pub fn positive(field: impl Into<String>, value: f64) -> Result<(), RangeError> {
    require(value.is_finite() && value > 0.0, field, value, "a finite number above 0")
}

/// Refuses a number outside of `[0, 1)`.
///
/// # Errors
/// The number is outside.
pub fn below_one(field: impl Into<String>, value: f64) -> Result<(), RangeError> {
    require((0.0..1.0).contains(&value), field, value, "a number from 0 to below 1")
}

/// Refuses a number outside of `[0, 1]`.
///
/// # Errors
/// The number is outside.
pub fn zero_to_one(
    field: impl Into<String>,
    value: impl Into<f64> + Copy + Display,
) -> Result<(), RangeError> {
    require((0.0..=1.0).contains(&value.into()), field, value, "a number from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_whole_path_and_end_in_the_hint() {
        let error = in_range("random_resize.max_size", 0, 1..=16_384).unwrap_err();
        assert_eq!(error.to_string(), "random_resize.max_size is 0, expected 1 to 16384");
        let error = error.below("transforms[2]").below("data").with_hint("leave it out");
        assert_eq!(
            error.to_string(),
            "data.transforms[2].random_resize.max_size is 0, expected 1 to 16384\n\
             hint: leave it out"
        );
    }

    #[test]
    fn bounds_are_in_their_ranges_and_nan_is_in_none() {
        type Check = fn(&'static str, f64) -> Result<(), RangeError>;
        let checks: [(Check, &[f64], &[f64]); 5] = [
            (|field, value| in_range(field, value, 0.5..=2.0), &[0.5, 2.0], &[0.49, 2.01]),
            (not_negative, &[0.0, 1e300], &[-1e-300, f64::INFINITY]),
            (positive, &[1e-300], &[0.0, f64::INFINITY]),
            (below_one, &[0.0, 0.999], &[1.0, -0.1]),
            (zero_to_one, &[0.0, 1.0], &[1.001, -0.1]),
        ];
        for (i, (check, inside, outside)) in checks.into_iter().enumerate() {
            for value in inside {
                assert_eq!(check("x", *value), Ok(()), "check {i}");
            }
            for value in outside.iter().chain(&[f64::NAN]) {
                let error = check("x", *value).unwrap_err();
                assert_eq!((error.field, error.value), ("x".to_owned(), value.to_string()));
            }
        }
    }
}
