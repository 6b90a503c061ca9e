//! Time on the wire. Our own types hold `chrono` times; Kubernetes' types hold `jiff` ones, and this is the
//! only file that names it. Status holds whole seconds, as Kubernetes' own times do.

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use schemars::{Schema, SchemaGenerator, json_schema};

/// The schema of a time that others than the operator write. The format `date-time` would take more than
/// [`Instant`] does, such as an offset of 99 hours: an object that cannot be read would be the result.
pub fn written_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "nullable": true,
        "maxLength": 35,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?(Z|[-+]([01][0-9]|2[0-3]):[0-5][0-9])$') && timestamp(self) > timestamp('2000-01-01T00:00:00Z')",
            "message": "write a time with its offset, such as 2026-01-31T12:00:00Z",
        }],
    })
}

/// The schema of a time that the operator alone writes. The format `date-time` by itself would take offsets that no
/// time has, such as `x5Z`, from whoever else may write a status.
pub fn own_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "pattern": OWN_TIME })
}

/// The same, for a field that may be absent.
pub fn own_time_or_none(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "format": "date-time", "pattern": OWN_TIME })
}

const OWN_TIME: &str =
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[-+]([01][0-9]|2[0-3]):[0-5][0-9])$";

/// An instant, UTC.
pub type Instant = DateTime<Utc>;

/// A time of a Kubernetes object as one of ours. A time outside of what `chrono` can hold becomes the epoch.
pub fn from_wire(time: &Time) -> Instant {
    // Whole seconds and a fraction that both count forward, also before 1970.
    let (nanos, second) = (time.0.as_nanosecond(), 1_000_000_000);
    let (whole, fraction) = (i64::try_from(nanos.div_euclid(second)), u32::try_from(nanos.rem_euclid(second)));
    whole
        .ok()
        .zip(fraction.ok())
        .and_then(|(whole, fraction)| DateTime::from_timestamp(whole, fraction))
        .unwrap_or_default()
}

/// One of our times for a Kubernetes object, with microseconds.
pub fn to_wire_micro(time: Instant) -> MicroTime {
    MicroTime(jiff::Timestamp::from_microsecond(time.timestamp_micros()).unwrap_or_default())
}

/// The whole second at or before `time`: for what was observed, so that it never lies in the future.
pub fn floor_second(time: Instant) -> Instant {
    // chrono's own rounding knows the years from 1677 to 2262 alone.
    DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time)
}

/// The whole second at or after `time`: for deadlines, so that nobody is ended early.
pub fn ceil_second(time: Instant) -> Instant {
    let floor = floor_second(time);
    if floor == time { floor } else { floor + TimeDelta::seconds(1) }
}

/// `time` as people read it in messages: RFC 3339, whole seconds, UTC.
pub fn display(time: Instant) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_rounded_up_and_an_observation_down() {
        let time = DateTime::from_timestamp(10, 1).unwrap_or_default();
        assert_eq!(ceil_second(time).timestamp(), 11);
        assert_eq!(floor_second(time).timestamp(), 10);
        assert_eq!(ceil_second(floor_second(time)).timestamp(), 10);
    }

    #[test]
    fn a_time_of_any_year_is_rounded_to_whole_seconds() {
        for text in ["1601-01-01T00:00:00.25Z", "2999-12-31T23:59:58.5Z"] {
            let time: Instant = text.parse().unwrap();
            assert_eq!(
                time - floor_second(time),
                TimeDelta::milliseconds(time.timestamp_subsec_millis().into()),
                "{text}"
            );
            assert_eq!(ceil_second(time) - floor_second(time), TimeDelta::seconds(1), "{text}");
        }
    }

    #[test]
    fn a_wire_time_before_1970_keeps_its_fraction() {
        let time: Instant = "1969-12-31T23:59:58.25Z".parse().unwrap();
        assert_eq!(from_wire(&Time(to_wire_micro(time).0)), time);
    }

    #[test]
    fn a_wire_time_keeps_its_second() {
        let time = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        assert_eq!(from_wire(&Time(to_wire_micro(time).0)), time);
    }
}
