//! Points in time, as people say and read them.
//!
//! `2d`, `2 hours ago`, `yesterday`, `2026-11-30`, `2026-11-30 12:00`, `12:00`, or with a zone: `2026-11-30T12:00:00Z`. Without one
//! the reader's is meant, and times are shown in that.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, ZonedDateTime};

use super::exit::CliError;

/// A moment or a whole day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Moment(Timestamp),
    Day(Date),
}

impl When {
    /// What was said, now and here.
    ///
    /// # Errors
    /// It is no time.
    pub fn new(text: &str) -> Result<When, CliError> {
        When::at(text, &ZonedDateTime::now())
    }

    fn at(text: &str, now: &ZonedDateTime) -> Result<When, CliError> {
        let wrong = || {
            CliError::Usage(format!(
                "{text:?} is no time: say 2d, '2 hours ago', yesterday, 2026-11-30, or '2026-11-30 12:00'"
            ))
        };
        let said = text.trim();
        let day = |days: i64| now.date().checked_sub(days.days()).map(When::Day).map_err(|_| wrong());
        match said.to_ascii_lowercase().as_str() {
            "now" => return Ok(When::Moment(now.timestamp())),
            "today" => return day(0),
            "yesterday" => return day(1),
            _ => {}
        }
        if let Ok(moment) = said.parse::<Timestamp>() {
            return Ok(When::Moment(moment));
        }
        let here = |time: DateTime| {
            time.to_zoned_datetime(now.time_zone().clone()).map(|zoned| When::Moment(zoned.timestamp()))
        };
        if let Ok(date) = said.parse::<Date>()
            && !said.contains([':', 'T', 't'])
        {
            return Ok(When::Day(date));
        }
        if let Ok(time) = said.parse::<DateTime>() {
            return here(time).map_err(|_| wrong());
        }
        if let Ok(time) = said.parse::<Time>()
            && said.contains(':')
        {
            return here(now.date().to_datetime(time)).map_err(|_| wrong());
        }
        // Of `2d` and `2 days ago` only one is negative, and both are meant to be past.
        let span = said.parse::<Span>().map_err(|_| wrong())?;
        let past = now.checked_sub(span.abs()).map_err(|_| wrong())?;
        Ok(When::Moment(past.timestamp()))
    }

    /// The moment, or the first of the day.
    pub fn first(&self) -> SystemTime {
        self.first_in(&TimeZone::system())
    }

    /// The moment, or the last of the day.
    pub fn last(&self) -> SystemTime {
        self.last_in(&TimeZone::system())
    }

    fn first_in(&self, zone: &TimeZone) -> SystemTime {
        match self {
            When::Moment(moment) => system(*moment),
            When::Day(date) => start(*date, zone),
        }
    }

    fn last_in(&self, zone: &TimeZone) -> SystemTime {
        match self {
            When::Moment(moment) => system(*moment),
            When::Day(date) => match date.tomorrow() {
                Ok(next) => start(next, zone) - std::time::Duration::from_nanos(1),
                Err(_) => system(Timestamp::MAX),
            },
        }
    }
}

fn start(date: Date, zone: &TimeZone) -> SystemTime {
    let furthest = if date.year() < 1970 { Timestamp::MIN } else { Timestamp::MAX };
    system(date.to_zoned_datetime(zone.clone()).map_or(furthest, |zoned| zoned.timestamp()))
}

fn system(moment: Timestamp) -> SystemTime {
    SystemTime::try_from(moment).unwrap_or(UNIX_EPOCH)
}

/// As [`utc`], in the reader's zone: `2026-01-31T23:59:59+01:00`, and with `Z` where that is UTC.
pub fn local(time: SystemTime) -> String {
    local_in(time, &TimeZone::system())
}

fn local_in(time: SystemTime, zone: &TimeZone) -> String {
    let stamp = stamp(time);
    match zone.to_offset(stamp).is_zero() {
        true => utc(time),
        false => stamp.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    }
}

/// A point in time in UTC, to the second: `2026-01-31T23:59:59Z`.
pub fn utc(time: SystemTime) -> String {
    format!("{:.0}", stamp(time))
}

/// To the second before.
fn stamp(time: SystemTime) -> Timestamp {
    let furthest = if time < UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::try_from(time).unwrap_or(furthest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn now() -> ZonedDateTime {
        "2026-12-01T01:30:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn says(text: &str) -> (String, String) {
        let when = When::at(text, &now()).unwrap_or_else(|e| panic!("{text}: {e}"));
        (utc(when.first_in(&berlin())), local_in(when.last_in(&berlin()), &berlin()))
    }

    #[test]
    fn moments() {
        for (text, first) in [
            ("now", "2026-12-01T00:30:00Z"),
            ("2h", "2026-11-30T22:30:00Z"),
            ("2 hours ago", "2026-11-30T22:30:00Z"),
            (" 2h ago ", "2026-11-30T22:30:00Z"),
            ("90 minutes", "2026-11-30T23:00:00Z"),
            ("15m", "2026-12-01T00:15:00Z"),
            ("2d", "2026-11-29T00:30:00Z"),
            ("1 week 1 day ago", "2026-11-23T00:30:00Z"),
            ("1 month ago", "2026-11-01T00:30:00Z"),
            ("2026-11-30 12:00", "2026-11-30T11:00:00Z"),
            ("2026-11-30T12:00:30", "2026-11-30T11:00:30Z"),
            ("2026-11-30T12:00Z", "2026-11-30T12:00:00Z"),
            ("2026-11-30 12:00-05:00", "2026-11-30T17:00:00Z"),
            ("2026-07-01 12:00", "2026-07-01T10:00:00Z"),
            ("00:10", "2026-11-30T23:10:00Z"),
        ] {
            assert_eq!(says(text).0, first, "{text}");
        }
    }

    #[test]
    fn days_have_a_beginning_and_an_end() {
        for (text, first, last) in [
            ("today", "2026-11-30T23:00:00Z", "2026-12-01T23:59:59+01:00"),
            ("Yesterday", "2026-11-29T23:00:00Z", "2026-11-30T23:59:59+01:00"),
            ("2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T23:59:59+02:00"),
        ] {
            assert_eq!(says(text), (first.into(), last.into()), "{text}");
        }
        let last = When::Day(Date::MAX).last_in(&berlin());
        assert!(last > SystemTime::now() && When::Day(Date::MIN).first_in(&berlin()) < UNIX_EPOCH);
    }

    #[test]
    fn what_is_no_time_is_told() {
        for text in
            ["", "soon", "2", "2 hours hence", "2026-13-01", "12", "1y1", "99999999 years ago", "\u{1b}[2J"]
        {
            let said = When::at(text, &now()).unwrap_err().to_string();
            assert!(said.contains("is no time: say 2d") && !said.contains('\u{1b}'), "{text}: {said}");
        }
    }

    #[test]
    fn dates() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(utc(UNIX_EPOCH - Duration::from_secs(1)), "1969-12-31T23:59:59Z");
        assert_eq!(local_in(UNIX_EPOCH, &berlin()), "1970-01-01T01:00:00+01:00");
        assert_eq!(local_in(UNIX_EPOCH, &TimeZone::UTC), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn no_date_panics() {
        let late = UNIX_EPOCH.checked_add(Duration::from_secs(i64::MAX as u64));
        let early = UNIX_EPOCH.checked_sub(Duration::from_secs(i64::MAX as u64));
        for time in [late, early].into_iter().flatten() {
            assert!(utc(time).ends_with('Z') && !local_in(time, &berlin()).is_empty());
        }
    }
}
