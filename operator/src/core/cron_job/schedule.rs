//! When a schedule is due.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A schedule that was read.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// A schedule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The five fields.
    #[error("schedule {schedule:?}: {cause}")]
    Pattern {
        /// What was given.
        schedule: String,
        /// What is wrong.
        cause: String,
    },
    /// The time zone.
    #[error("there is no time zone {name:?}; give one such as Europe/Berlin")]
    TimeZone {
        /// What was given.
        name: String,
    },
}

impl Schedule {
    /// Reads five fields of cron, or a name such as `@daily`. The time zone is UTC if none is given.
    ///
    /// # Errors
    /// When the fields or the zone cannot be read.
    pub fn parse(schedule: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(schedule)
            .map_err(|error| ScheduleError::Pattern {
                schedule: schedule.to_owned(),
                cause: error.to_string(),
            })?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::TimeZone {
                name: name.to_owned(),
            })?,
        };
        Ok(Self { cron, zone })
    }

    /// The first time after `moment`; none if there is none.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&self.local(moment), false);
        next.ok().map(|next| next.timestamp())
    }

    /// The last time after `since` and not after `now`: of several that were missed only one is made up for.
    pub fn last_in(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let last = self.cron.find_previous_occurrence(&self.local(now), true);
        let last = last.ok()?.timestamp();
        (last > since && last <= now).then_some(last)
    }

    fn local(&self, moment: Timestamp) -> Zoned {
        moment.to_zoned(self.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_those_of_the_zone() {
        let schedule = Schedule::parse("30 2 * * *", Some("Europe/Berlin")).unwrap();
        let next = schedule.next_after(time("2026-01-10T12:00:00Z")).unwrap();
        assert_eq!(next, time("2026-01-11T01:30:00Z"));
        let next = schedule.next_after(time("2026-07-10T12:00:00Z")).unwrap();
        assert_eq!(next, time("2026-07-11T00:30:00Z"));
    }

    #[test]
    fn names_and_lists_are_read() {
        let daily = Schedule::parse("@daily", None).unwrap();
        assert_eq!(
            daily.next_after(time("2026-02-28T00:00:00Z")),
            Some(time("2026-03-01T00:00:00Z"))
        );
        let weekdays = Schedule::parse("0 9,17 * * MON-FRI", None).unwrap();
        assert_eq!(
            weekdays.next_after(time("2026-11-20T17:00:00Z")),
            Some(time("2026-11-23T09:00:00Z"))
        );
    }

    #[test]
    fn last_missed_time_is_given_once() {
        let hourly = Schedule::parse("0 * * * *", None).unwrap();
        let now = time("2026-11-22T10:20:00Z");
        let last = hourly.last_in(time("2026-11-22T06:30:00Z"), now);
        assert_eq!(last, Some(time("2026-11-22T10:00:00Z")));
        assert_eq!(hourly.last_in(last.unwrap(), now), None);
        let on_time = time("2026-11-22T11:00:00Z");
        assert_eq!(hourly.last_in(last.unwrap(), on_time), Some(on_time));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = Schedule::parse("61 * * * *", None).unwrap_err();
        assert!(error.to_string().contains("61 * * * *"), "{error}");
        for with_seconds_or_too_few in ["0 0 * * * *", "* * * *", ""] {
            assert!(Schedule::parse(with_seconds_or_too_few, None).is_err());
        }
        let error = Schedule::parse("* * * * *", Some("Mars/Base")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no time zone \"Mars/Base\"; give one such as Europe/Berlin"
        );
    }

    proptest! {
        /// Walking by `next_after` and asking `last_in` agree on what the schedule is.
        #[test]
        fn next_and_last_agree(minute in 0..60u8, hour in prop::option::of(0..24u8), start in 1_700_000_000i64..1_900_000_000) {
            let hour = hour.map_or("*".to_owned(), |hour| hour.to_string());
            let schedule = Schedule::parse(&format!("{minute} {hour} * * *"), Some("America/New_York")).unwrap();
            let start = Timestamp::from_second(start).unwrap();
            let next = schedule.next_after(start).unwrap();
            prop_assert!(next > start);
            prop_assert_eq!(schedule.last_in(start, next), Some(next));
            let before = Timestamp::from_second(next.as_second() - 1).unwrap();
            prop_assert_eq!(schedule.last_in(start, before), None);
        }
    }
}
