//! How many instances a pool is to have at a time, and when that changes: by the number that is written, by the hours, and by
//! what was launched lately. Owns that sum; what is done about it is `pool`'s.

use std::str::FromStr;

use chrono_tz::Tz;
use croner::Cron;

use crate::api::time::Instant;
use crate::api::warm::{MAX_REPLICAS, Warm, Window};

/// What the hours ask for, until they ask for something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// So many instances.
    pub count: usize,
    /// The earliest instant at which time alone changes that.
    pub until: Option<Instant>,
    /// What of the schedule cannot be read, in a sentence that names the field. The rest counts without it.
    pub problem: Option<String>,
}

/// What the schedule of `warm` asks for at `now`. To find the dates of cron costs something: the answer holds until its end.
pub fn hours(warm: &Warm, now: Instant) -> Hours {
    let mut hours = Hours::default();
    for (index, window) in warm.schedule.iter().enumerate() {
        match edges(window, now) {
            Ok((open, until)) => {
                hours.count = hours.count.max(if open { count(window.replicas) } else { 0 });
                hours.until = hours.until.into_iter().chain(until).min();
            }
            Err(why) => hours.problem = hours.problem.or(Some(format!("spec.warm.schedule[{index}].{why}"))),
        }
    }
    hours
}

/// What is wanted of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// So many instances.
    pub count: usize,
    /// The earliest instant at which time alone changes that.
    pub until: Option<Instant>,
    /// What cannot be read.
    pub problem: Option<String>,
}

/// What `warm` wants at `now`, where its hours ask for this, and sessions were launched at these times.
pub fn wanted(warm: &Warm, hours: Hours, launches: &[Instant], now: Instant) -> Wanted {
    let Hours { count: of_hours, until, problem } = hours;
    let mut wanted = Wanted { count: count(warm.replicas).max(of_hours), until, problem };
    if let Some(demand) = &warm.demand {
        match demand.window.delta() {
            Ok(window) => {
                let recent = || launches.iter().map(|at| *at + window).filter(|until| *until > now);
                wanted.count = wanted.count.max(recent().count().min(count(demand.max)));
                wanted.until = wanted.until.into_iter().chain(recent().min()).min();
            }
            Err(error) => wanted.problem = wanted.problem.or(Some(format!("spec.warm.demand.window: {error}"))),
        }
    }
    wanted
}

/// A number that was written, within what the schema allows.
pub fn count(written: i32) -> usize {
    usize::try_from(written.clamp(0, MAX_REPLICAS)).unwrap_or(0)
}

/// Whether the window is open, and when it opens or closes next. It is open where it has opened since it closed.
fn edges(window: &Window, now: Instant) -> Result<(bool, Option<Instant>), String> {
    let zone: Tz = window.time_zone.as_str().parse().map_err(|_| {
        format!("timeZone {} is not known: write an IANA name, such as Europe/Warsaw", window.time_zone.as_str())
    })?;
    let local = now.with_timezone(&zone);
    let read = |field: &str, cron: &str| {
        let read = Cron::from_str(cron).map_err(|error| format!("{field} {cron:?} cannot be read: {error}"))?;
        let never = || format!("{field} {cron:?} never comes: mend the date");
        let next = read.find_next_occurrence(&local, false).map_err(|_| never())?;
        // Before the first year of its calendar there was none.
        let last = read.find_previous_occurrence(&local, true).ok();
        Ok::<_, String>((last.map(|at| at.to_utc()), next.to_utc()))
    };
    let ((opened, opens), (closed, closes)) =
        (read("start", window.start.as_str())?, read("end", window.end.as_str())?);
    Ok((opened > closed, Some(opens.min(closes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn warm(value: Value) -> Warm {
        serde_json::from_value(value).unwrap()
    }

    /// What is wanted by hours that were just read.
    fn wanted(warm: &Warm, launches: &[Instant], now: Instant) -> Wanted {
        super::wanted(warm, hours(warm, now), launches, now)
    }

    fn office(zone: &str) -> Warm {
        let window = json!({ "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "timeZone": zone, "replicas": 20 });
        warm(json!({ "replicas": 2, "schedule": [window] }))
    }

    fn at(text: &str) -> Instant {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_start_to_its_end_in_its_own_time_zone() {
        for (zone, now, count, until) in [
            // A Tuesday in summer, and one in winter: eight in Warsaw is six and seven in Greenwich.
            ("Europe/Warsaw", "2026-07-07T05:59:59Z", 2, "2026-07-07T06:00:00Z"),
            ("Europe/Warsaw", "2026-07-07T06:00:00Z", 20, "2026-07-07T16:00:00Z"),
            ("Europe/Warsaw", "2026-01-06T06:59:59Z", 2, "2026-01-06T07:00:00Z"),
            ("Europe/Warsaw", "2026-01-06T07:00:00Z", 20, "2026-01-06T17:00:00Z"),
            ("UTC", "2026-07-07T17:59:59Z", 20, "2026-07-07T18:00:00Z"),
            ("UTC", "2026-07-07T18:00:00Z", 2, "2026-07-08T08:00:00Z"),
            // From Friday evening to Monday morning.
            ("UTC", "2026-07-11T12:00:00Z", 2, "2026-07-13T08:00:00Z"),
        ] {
            let wanted = wanted(&office(zone), &[], at(now));
            assert_eq!(wanted, Wanted { count, until: Some(at(until)), problem: None }, "{zone} {now}");
        }
    }

    #[test]
    fn an_hour_that_a_clock_skips_or_repeats_ends_no_window_for_good() {
        // Europe/Warsaw: 2026-03-29 has no 02:30, 2026-10-25 has two.
        let window = json!({ "start": "30 2 * * *", "end": "30 4 * * *", "timeZone": "Europe/Warsaw", "replicas": 5 });
        let warm = warm(json!({ "schedule": [window] }));
        for (now, count) in [("2026-03-29T01:45:00Z", 5), ("2026-03-29T02:31:00Z", 0), ("2026-10-25T02:45:00Z", 5)] {
            assert_eq!(wanted(&warm, &[], at(now)).count, count, "{now}");
        }
    }

    #[test]
    fn demand_wants_as_many_as_were_launched_lately_and_no_more_than_it_may() {
        let warm = warm(json!({ "replicas": 1, "demand": { "window": "10m", "max": 3 } }));
        let now = at("2026-07-07T12:00:00Z");
        let ago = |minutes: &[i64]| -> Vec<Instant> {
            minutes.iter().map(|minutes| now - chrono::TimeDelta::minutes(*minutes)).collect()
        };
        for (launches, count, until) in
            [(&[][..], 1, None), (&[10, 11], 1, None), (&[4, 9, 12], 2, Some(1)), (&[1, 2, 3, 4, 5], 3, Some(5))]
        {
            let until = until.map(|minutes| now + chrono::TimeDelta::minutes(minutes));
            assert_eq!(wanted(&warm, &ago(launches), now), Wanted { count, until, problem: None }, "{launches:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_counts() {
        for (field, value, named) in [
            ("start", "61 * * * *", "spec.warm.schedule[0].start \"61 * * * *\" cannot be read"),
            ("end", "* * * * 9", "spec.warm.schedule[0].end \"* * * * 9\" cannot be read"),
            // The thirtieth of February.
            ("start", "0 0 30 2 *", "spec.warm.schedule[0].start \"0 0 30 2 *\" never comes"),
            ("timeZone", "Europe/Nowhere", "spec.warm.schedule[0].timeZone Europe/Nowhere is not known"),
        ] {
            let mut written = json!(office("UTC"));
            written["schedule"][0][field] = json!(value);
            let wanted = wanted(&warm(written), &[], at("2026-07-07T12:00:00Z"));
            assert_eq!((wanted.count, wanted.until), (2, None));
            assert!(wanted.problem.as_ref().unwrap().starts_with(named), "{:?}", wanted.problem);
        }
    }

    #[test]
    fn a_window_may_open_more_often_than_it_closes() {
        let window = json!({ "start": "0 8 * * 1-5", "end": "0 18 * * 5", "replicas": 5 });
        let warm = warm(json!({ "schedule": [window] }));
        for (now, count) in [("2026-07-07T20:00:00Z", 5), ("2026-07-10T17:59:00Z", 5), ("2026-07-10T18:00:00Z", 0)] {
            assert_eq!(wanted(&warm, &[], at(now)).count, count, "{now}");
        }
    }

    proptest! {
        #[test]
        fn before_the_instant_that_is_named_nothing_changes(minute in 0i64..20_000, part in 0.0f64..1.0, ago in proptest::collection::vec(0i64..3000, 0..6)) {
            let mut warm = office("America/New_York");
            warm.demand = Some(serde_json::from_value(json!({ "window": "20m", "max": 4 })).unwrap());
            let now = at("2026-10-20T00:00:00Z") + chrono::TimeDelta::minutes(minute);
            let launches: Vec<Instant> = ago.iter().map(|seconds| now - chrono::TimeDelta::seconds(*seconds)).collect();
            let first = wanted(&warm, &launches, now);
            let until = first.until.unwrap();
            prop_assert!(until > now);
            let left = (until - now).num_milliseconds() - 1;
            for part in [part, 1.0] {
                let moment = now + chrono::TimeDelta::milliseconds((left as f64 * part) as i64);
                prop_assert_eq!(wanted(&warm, &launches, moment).count, first.count);
            }
        }
    }
}
