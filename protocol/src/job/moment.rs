//! A date of a job file as a point in time.

use toml::value::{Date, Datetime, Offset};

use crate::Timestamp;

/// The point in time, or why it is none.
pub(super) fn timestamp(at: &Datetime) -> Result<Timestamp, &'static str> {
    let (Some(date), Some(time)) = (&at.date, &at.time) else {
        return Err("is only a part of a date and time");
    };
    let offset_minutes = match at.offset {
        None => return Err("is a local time: which moment that is depends on who reads it"),
        Some(Offset::Z) => 0,
        Some(Offset::Custom { minutes }) => i64::from(minutes),
    };
    let minutes = (days(date) * 24 + i64::from(time.hour)) * 60 + i64::from(time.minute) - offset_minutes;
    let millis = i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    let ms = (minutes * 60 + i64::from(time.second.unwrap_or(0))) * 1000 + millis;
    u64::try_from(ms).map(Timestamp::from_ms).map_err(|_| "lies before 1970")
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(date: &Date) -> i64 {
    // A year that begins in March has its leap day at its end, and its months have 31, 30, 31, 30, 31 days over and over.
    let (year, month) = match (i64::from(date.year), i64::from(date.month)) {
        (year, month @ ..=2) => (year - 1, month + 9),
        (year, month) => (year, month - 3),
    };
    let in_years = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let in_months = (153 * month + 2) / 5;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    in_years + in_months + i64::from(date.day) - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // As `date --utc --date TEXT +%s` says.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-12-01T08:00:00Z", 1_796_112_000),
            ("2026-12-01T09:00:00+01:00", 1_796_112_000),
            ("2026-11-30T22:30:00-09:30", 1_796_112_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            let at: Datetime = text.parse().expect(text);
            assert_eq!(timestamp(&at), Ok(Timestamp::from_ms(seconds * 1000)), "{text}");
        }
        let at: Datetime = "1970-01-01T00:00:01.5Z".parse().expect("half a second");
        assert_eq!(timestamp(&at), Ok(Timestamp::from_ms(1500)));
    }
}
