//! Points in time and spans of it, for people and for files. Points are in UTC; spans are measured by a
//! clock that nobody sets.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A point in time as in RFC 3339, `2026-11-21T15:02:03Z`, from seconds since 1970.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
pub fn rfc3339(unix: f64) -> String {
    // To the year 9999.
    let seconds = unix.clamp(0.0, 253_402_300_799.0) as u64;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar. The year is taken
/// from March on, so that the leap day is its last.
fn date(days: u64) -> (u64, u64, u64) {
    // Since 1 March of the year 0; 400 years have 146097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    // Without the leap days before it, a day's year is its 365th part.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, and again.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + next, month, day)
}

/// A span as people say it: `8.2s`, `3m12s`, `5h07m`, `2d03h`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
pub fn span(seconds: f64) -> String {
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
    fn spans_have_two_units() {
        for (seconds, text) in [
            (0.04, "0.0s"),
            (59.96, "1m00s"),
            (192.0, "3m12s"),
            (18_420.0, "5h07m"),
            (183_600.0, "2d03h"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
