//! Times and durations as text, for people and for files. Times are in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, in seconds since 1970.
const YEAR_9999: f64 = 253_402_300_799.0;

/// Returns the current time in seconds since 1970.
#[must_use]
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Formats a time in seconds since 1970 as in RFC 3339, to the second: `2026-11-21T15:02:03Z`.
#[must_use]
pub fn rfc3339(unix: f64) -> String {
    let seconds = Duration::from_secs_f64(unix.clamp(0.0, YEAR_9999));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + seconds).to_string()
}

/// Formats a duration in seconds with its two largest units, as in `8.2s`, `3m12s`, `5h07m` or `2d03h`; `-` if it is
/// negative or not finite.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
pub fn format_duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 59.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600, whole / 60);
    match () {
        () if hours == 0 => format!("{minutes}m{:02}s", whole % 60),
        () if days == 0 => format!("{hours}h{:02}m", minutes % 60),
        () => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, text) in [
            (0.0, "1970-01-01T00:00:00Z"),
            (951_782_399.9, "2000-02-28T23:59:59Z"),
            (951_827_696.0, "2000-02-29T12:34:56Z"),
            (1_709_251_199.0, "2024-02-29T23:59:59Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00Z"),
            (-5.0, "1970-01-01T00:00:00Z"),
            (f64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(unix), text);
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0.04, "0.0s"),
            (59.96, "1m00s"),
            (192.0, "3m12s"),
            (18_420.0, "5h07m"),
            (183_600.0, "2d03h"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(format_duration(seconds), text);
        }
    }
}
