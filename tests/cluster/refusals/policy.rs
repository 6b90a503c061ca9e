//! What is refused of SessionPolicies.

use super::{By, Row};

pub const CREATED: &[Row] = &[
    Row {
        wrong: "a duration without a unit",
        written: r#"spec: {maxDuration: "480"}"#,
        by: By::Rule,
        says: r#"spec.maxDuration: Invalid value: "480": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a duration that is a number",
        written: "spec: {maxDuration: 480}",
        by: By::Schema,
        says: r#"spec.maxDuration: Invalid value: "integer": spec.maxDuration in body must be of type string: "integer""#,
    },
    Row {
        wrong: "a negative duration",
        written: "spec: {maxDuration: -8h}",
        by: By::Rule,
        says: r#"spec.maxDuration: Invalid value: "-8h": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a duration of zero",
        written: "spec: {maxDuration: 0h0m}",
        by: By::Rule,
        says: r#"spec.maxDuration: Invalid value: "0h0m": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a duration in days",
        written: "spec: {maxDuration: 30d}",
        by: By::Rule,
        says: r#"spec.maxDuration: Invalid value: "30d": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a broken duration",
        written: "spec: {maxDuration: 1h2}",
        by: By::Rule,
        says: r#"spec.maxDuration: Invalid value: "1h2": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a fraction",
        written: "spec: {maxDuration: 1.5h}",
        by: By::Rule,
        says: r#"spec.maxDuration: Invalid value: "1.5h": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "an absurd duration",
        written: "spec: {maxDuration: 87600h}",
        by: By::Rule,
        says: r#"spec.maxDuration: Invalid value: "87600h": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a duration that no number holds",
        written: "spec: {maxDuration: 99999999999999999999h}",
        by: By::Rule,
        says: r#"spec.maxDuration: Invalid value: "99999999999999999999h": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "history for ever",
        written: "spec: {history: {keepFor: forever}}",
        by: By::Rule,
        says: r#"spec.history.keepFor: Invalid value: "forever": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a warning as late as its disconnect",
        written: "spec: {idle: {warnAfter: 30m, disconnectAfter: 30m}}",
        by: By::Rule,
        says: "spec.idle: Invalid value: idle.warnAfter must be shorter than idle.disconnectAfter: the warning comes before the disconnect",
    },
    Row {
        wrong: "idle after the warning",
        written: "spec: {idle: {after: 20m, warnAfter: 10m}}",
        by: By::Rule,
        says: "spec.idle: Invalid value: idle.after must not be longer than idle.warnAfter: a session is idle before it is warned",
    },
    Row {
        wrong: "idle after the disconnect",
        written: "spec: {idle: {after: 40m, disconnectAfter: 30m}}",
        by: By::Rule,
        says: "spec.idle: Invalid value: idle.after must be shorter than idle.disconnectAfter: a session is idle before it is disconnected",
    },
    Row {
        wrong: "a warning as long as the session",
        written: "spec: {warnBefore: 8h, maxDuration: 8h}",
        by: By::Rule,
        says: "spec: Invalid value: spec.warnBefore must be shorter than spec.maxDuration: the warning comes before the end",
    },
    Row {
        wrong: "an alert that never comes",
        written: "spec: {alertAfter: 9h, maxDuration: 8h}",
        by: By::Rule,
        says: "spec: Invalid value: spec.alertAfter must not be longer than spec.maxDuration: no session lasts that long",
    },
    Row {
        wrong: "a limit of none",
        written: "spec: {limits: {sessionsPerUser: 0}}",
        by: By::Rule,
        says: "spec.limits.sessionsPerUser: Invalid value: 0: write from 1 to 10000; leave it out for no limit, and set spec.maintenance of a Workspace to launch nothing new",
    },
    Row {
        wrong: "a limit that does something else",
        written: "spec: {limits: {onExceeded: EndNewest}}",
        by: By::Schema,
        says: r#"spec.limits.onExceeded: Unsupported value: "EndNewest": supported values: "Reject", "EndOldest""#,
    },
    Row {
        wrong: "a choice that is a text",
        written: r#"spec: {idle: {allowKeepAlive: "no"}}"#,
        by: By::Schema,
        says: r#"spec.idle.allowKeepAlive: Invalid value: "string": spec.idle.allowKeepAlive in body must be of type boolean: "string""#,
    },
    Row {
        wrong: "a requirement that this version does not know",
        written: "spec: {mfa: {required: true}}",
        by: By::Schema,
        says: r#"SessionPolicy in version "v1alpha1" cannot be handled as a SessionPolicy: strict decoding error: unknown field "spec.mfa""#,
    },
];
