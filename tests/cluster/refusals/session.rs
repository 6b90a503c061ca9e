//! What is refused of Sessions: when they are created, edited, observed, and after their end.

use super::{By, Row};

pub const CREATED: &[Row] = &[
    Row { wrong: "no user", written: "spec: {user: null}", by: By::Schema, says: "spec.user: Required value" },
    Row {
        wrong: "a user without an id",
        written: "spec: {user: {id: null, email: ada@example.org}}",
        by: By::Schema,
        says: "spec.user.id: Required value",
    },
    Row {
        wrong: "an empty user id",
        written: r#"spec: {user: {id: ""}}"#,
        by: By::Schema,
        says: r#"spec.user.id: Invalid value: "": spec.user.id in body should be at least 1 chars long"#,
    },
    Row {
        wrong: "a user id that is too long",
        written: "spec: {user: {id: a×254}}",
        by: By::Schema,
        says: "spec.user.id: Too long: may not be more than 253 bytes",
    },
    Row {
        wrong: "a user id that forges a line of a log",
        written: r#"spec: {user: {id: "ada\nroot"}}"#,
        by: By::Rule,
        says: r#"spec.user.id: Invalid value: "ada\nroot": write the Kubernetes username: control characters, invisible ones and direction overrides are not allowed"#,
    },
    Row {
        wrong: "an e-mail address that is none",
        written: "spec: {user: {email: ada}}",
        by: By::Rule,
        says: r#"spec.user.email: Invalid value: "ada": write an e-mail address such as ada@example.org, or leave it out"#,
    },
    Row {
        wrong: "a display name with a control character",
        written: r#"spec: {user: {displayName: "\u001b[31mada"}}"#,
        by: By::Rule,
        says: r#"spec.user.displayName: Invalid value: "\x1b[31mada": write printable text: control characters, invisible ones and direction overrides are not allowed"#,
    },
    Row {
        wrong: "a display name that turns the row around",
        written: r#"spec: {user: {displayName: "ada \u202enimda"}}"#,
        by: By::Rule,
        says: r#"spec.user.displayName: Invalid value: "ada \u202enimda": write printable text: control characters, invisible ones and direction overrides are not allowed"#,
    },
    Row {
        wrong: "a display name with a character that nobody sees",
        written: r#"spec: {user: {displayName: "a\u200bda"}}"#,
        by: By::Rule,
        says: r#"spec.user.displayName: Invalid value: "a\u200bda": write printable text: control characters, invisible ones and direction overrides are not allowed"#,
    },
    Row {
        wrong: "a display name that is too long",
        written: "spec: {user: {displayName: a×129}}",
        by: By::Schema,
        says: "spec.user.displayName: Too long: may not be more than 128 bytes",
    },
    Row {
        wrong: "no Workspace",
        written: "spec: {workspaceRef: null}",
        by: By::Schema,
        says: "spec.workspaceRef: Required value",
    },
    Row {
        wrong: "a Workspace without a name",
        written: r#"spec: {workspaceRef: {name: ""}}"#,
        by: By::Schema,
        says: r#"[spec.workspaceRef.name: Invalid value: "": spec.workspaceRef.name in body should be at least 1 chars long, spec.workspaceRef.name: Invalid value: "": write the object's name: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit]"#,
    },
    Row {
        wrong: "a reference that is no name",
        written: "spec: {workspaceRef: {name: ../other/desktop}}",
        by: By::Rule,
        says: r#"spec.workspaceRef.name: Invalid value: "../other/desktop": write the object's name: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"#,
    },
    Row {
        wrong: "a name in capitals",
        written: "metadata: {name: Desk}",
        by: By::Schema,
        says: r#"metadata.name: Invalid value: "Desk": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
    },
    Row {
        wrong: "a name that is too long",
        written: "metadata: {name: a×254}",
        by: By::Schema,
        says: r#"metadata.name: Invalid value: "a×254": must be no more than 253 characters"#,
    },
    Row {
        wrong: "an unknown word for a full Workspace",
        written: "spec: {whenFull: Wait}",
        by: By::Schema,
        says: r#"spec.whenFull: Unsupported value: "Wait": supported values: "Queue", "Fail""#,
    },
    Row {
        wrong: "an unknown state",
        written: "spec: {desiredState: Paused}",
        by: By::Schema,
        says: r#"spec.desiredState: Unsupported value: "Paused": supported values: "Connected", "Disconnected", "Terminated""#,
    },
    Row {
        wrong: "a wish without a unit",
        written: r#"spec: {idle: {disconnectAfter: "30"}}"#,
        by: By::Rule,
        says: r#"spec.idle.disconnectAfter: Invalid value: "30": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a wish that is a number",
        written: "spec: {idle: {disconnectAfter: 30}}",
        by: By::Schema,
        says: r#"spec.idle.disconnectAfter: Invalid value: "integer": spec.idle.disconnectAfter in body must be of type string: "integer""#,
    },
    Row {
        wrong: "a negative wish",
        written: "spec: {idle: {disconnectAfter: -5m}}",
        by: By::Rule,
        says: r#"spec.idle.disconnectAfter: Invalid value: "-5m": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a wish of nothing",
        written: "spec: {idle: {disconnectAfter: 0s}}",
        by: By::Rule,
        says: r#"spec.idle.disconnectAfter: Invalid value: "0s": write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m"#,
    },
    Row {
        wrong: "a keepalive that is no time",
        written: "spec: {keepAliveAt: yesterday}",
        by: By::Rule,
        says: r#"spec.keepAliveAt: Invalid value: "yesterday": write a time with its offset, such as 2026-01-31T12:00:00Z"#,
    },
    Row {
        wrong: "a keepalive that is a date alone",
        written: r#"spec: {keepAliveAt: "2026-01-31"}"#,
        by: By::Rule,
        says: r#"spec.keepAliveAt: Invalid value: "2026-01-31": write a time with its offset, such as 2026-01-31T12:00:00Z"#,
    },
    Row {
        wrong: "a keepalive at an offset that no clock has",
        written: r#"spec: {keepAliveAt: "2026-01-31T12:00:00+99:00"}"#,
        by: By::Rule,
        says: r#"spec.keepAliveAt: Invalid value: "2026-01-31T12:00:00+99:00": write a time with its offset, such as 2026-01-31T12:00:00Z"#,
    },
    Row {
        wrong: "a keepalive on a day that does not exist",
        written: r#"spec: {keepAliveAt: "2026-02-30T12:00:00Z"}"#,
        by: By::Rule,
        says: r#"spec.keepAliveAt: Invalid value: "string": type conversion error from 'string' to 'google.protobuf.Timestamp' evaluating rule: write a time with its offset, such as 2026-01-31T12:00:00Z"#,
    },
    Row {
        wrong: "a field that does not exist",
        written: "spec: {colour: red}",
        by: By::Schema,
        says: r#"Session in version "v1alpha1" cannot be handled as a Session: strict decoding error: unknown field "spec.colour""#,
    },
    Row { wrong: "no spec", written: "spec: null", by: By::Schema, says: "spec: Required value" },
];

pub const LIVE_EDITED: &[Row] = &[
    Row {
        wrong: "another Workspace",
        written: "spec: {workspaceRef: {name: other}}",
        by: By::Rule,
        says: "spec: Invalid value: spec.workspaceRef cannot be changed: end this session and create one for the other workspace",
    },
    Row {
        wrong: "another user",
        written: "spec: {user: {id: eve}}",
        by: By::Rule,
        says: "spec: Invalid value: spec.user cannot be changed: a session is one person's; create another Session",
    },
    Row {
        wrong: "another display name",
        written: "spec: {user: {displayName: Eve}}",
        by: By::Rule,
        says: "spec: Invalid value: spec.user cannot be changed: a session is one person's; create another Session",
    },
    Row {
        wrong: "another client",
        written: "spec: {client: {device: phone}}",
        by: By::Rule,
        says: "spec: Invalid value: spec.client is declared at launch and cannot be changed",
    },
    Row {
        wrong: "another choice for a full Workspace",
        written: "spec: {whenFull: Fail}",
        by: By::Rule,
        says: "spec: Invalid value: spec.whenFull is chosen at launch and cannot be changed",
    },
    Row {
        wrong: "another wish about idleness",
        written: "spec: {idle: {disconnectAfter: 1h}}",
        by: By::Rule,
        says: "spec: Invalid value: spec.idle is chosen at launch and cannot be changed; set spec.keepAliveAt to stay",
    },
    Row {
        wrong: "a keepalive that moves back",
        written: r#"spec: {keepAliveAt: "2026-01-01T00:00:00Z"}"#,
        by: By::Rule,
        says: "spec: Invalid value: spec.keepAliveAt moves only forward: write the time of now, such as 2026-01-31T12:00:00Z",
    },
    Row {
        wrong: "a keepalive taken back",
        written: "spec: {keepAliveAt: null}",
        by: By::Rule,
        says: "spec: Invalid value: spec.keepAliveAt moves only forward: write the time of now, such as 2026-01-31T12:00:00Z",
    },
];

pub const LIVE_OBSERVED: &[Row] = &[
    Row {
        wrong: "an activity at no time",
        written: "status: {activity: {lastAt: recently}}",
        by: By::Rule,
        says: r#"status.activity.lastAt: Invalid value: "recently": write a time with its offset, such as 2026-01-31T12:00:00Z"#,
    },
    Row {
        wrong: "an end request without a reason",
        written: "status: {endRequest: {as: Terminated}}",
        by: By::Schema,
        says: "status.endRequest.reason: Required value",
    },
    Row {
        wrong: "an end request into no ended phase",
        written: "status: {endRequest: {as: Paused, reason: IdleTimeout}}",
        by: By::Schema,
        says: r#"status.endRequest.as: Unsupported value: "Paused": supported values: "Disconnected", "Terminated""#,
    },
    Row {
        wrong: "an unknown phase",
        written: "status: {phase: Asleep}",
        by: By::Schema,
        says: r#"status.phase: Unsupported value: "Asleep": supported values: "Pending", "Starting", "Active", "Idle", "Disconnected", "Terminated", "Failed""#,
    },
    Row {
        wrong: "a time of the operator's at an offset that no clock has",
        written: r#"status: {readyAt: "2026-01-31T12:00:00x5Z"}"#,
        by: By::Schema,
        says: "status.readyAt: Invalid value: \"2026-01-31T12:00:00x5Z\": readyAt in body should match '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[-+]([01][0-9]|2[0-3]):[0-5][0-9])$'",
    },
    Row {
        wrong: "an end without an ended phase",
        written: r#"status: {endedAt: "2026-01-31T12:00:00Z"}"#,
        by: By::Rule,
        says: "<nil>: Invalid value: status.endedAt goes with one of the ended phases Disconnected, Terminated and Failed",
    },
    Row {
        wrong: "an ended phase without an end",
        written: "status: {phase: Terminated}",
        by: By::Rule,
        says: "<nil>: Invalid value: status.phase Disconnected, Terminated and Failed go with status.endedAt: to end a session write spec.desiredState",
    },
];

pub const END_REQUESTED: &[Row] = &[
    Row {
        wrong: "another reason for the end",
        written: "status: {endRequest: {reason: IdleTimeout}}",
        by: By::Rule,
        says: "<nil>: Invalid value: status.endRequest is written once: the session is ending already",
    },
    Row {
        wrong: "another end",
        written: "status: {endRequest: {as: Disconnected}}",
        by: By::Rule,
        says: "<nil>: Invalid value: status.endRequest is written once: the session is ending already",
    },
    Row {
        wrong: "the request taken back",
        written: "status: {endRequest: null}",
        by: By::Rule,
        says: "<nil>: Invalid value: status.endRequest is written once: the session is ending already",
    },
];

pub const ENDED_EDITED: &[Row] = &[
    Row {
        wrong: "a keepalive for an ended session",
        written: r#"spec: {keepAliveAt: "2026-02-01T00:00:00Z"}"#,
        by: By::Rule,
        says: "<nil>: Invalid value: this session has ended and its spec does not change any more: create a new Session to launch again",
    },
    Row {
        wrong: "an ended session connected again",
        written: "spec: {desiredState: Connected}",
        by: By::Rule,
        says: "[<nil>: Invalid value: this session has ended and its spec does not change any more: create a new Session to launch again, spec: Invalid value: spec.desiredState moves only from Connected to Disconnected to Terminated: create a new Session to launch again]",
    },
    Row {
        wrong: "an ended session ended otherwise",
        written: "spec: {desiredState: Terminated}",
        by: By::Rule,
        says: "<nil>: Invalid value: this session has ended and its spec does not change any more: create a new Session to launch again",
    },
];

pub const ENDED_REWRITTEN: &[Row] = &[
    Row {
        wrong: "an ended session made Active again",
        written: "status: {phase: Active, endedAt: null}",
        by: By::Rule,
        says: "[<nil>: Invalid value: status.endedAt is written once: this session has ended; create a new Session to launch again, <nil>: Invalid value: status.phase, status.reason and status.duration of an ended session do not change: create a new Session to launch again]",
    },
    Row {
        wrong: "an end moved",
        written: r#"status: {endedAt: "2026-01-31T12:00:00Z"}"#,
        by: By::Rule,
        says: "<nil>: Invalid value: status.endedAt is written once: this session has ended; create a new Session to launch again",
    },
    Row {
        wrong: "an end of another kind",
        written: "status: {phase: Failed}",
        by: By::Rule,
        says: "<nil>: Invalid value: status.phase, status.reason and status.duration of an ended session do not change: create a new Session to launch again",
    },
    Row {
        wrong: "another reason, or another duration",
        written: "status: {reason: IdleTimeout, duration: 9h}",
        by: By::Rule,
        says: "<nil>: Invalid value: status.phase, status.reason and status.duration of an ended session do not change: create a new Session to launch again",
    },
    Row {
        wrong: "the whole status removed",
        written: "status: null",
        by: By::Rule,
        says: "[<nil>: Invalid value: status.endedAt is written once: this session has ended; create a new Session to launch again, <nil>: Invalid value: status.phase, status.reason and status.duration of an ended session do not change: create a new Session to launch again]",
    },
];

pub const ENDED_REPLACED: &[Row] = &[
    Row {
        wrong: "the whole status removed by a replacement",
        written: "status: null",
        by: By::Rule,
        says: "[<nil>: Invalid value: status.endedAt is written once: this session has ended; create a new Session to launch again, <nil>: Invalid value: status.phase, status.reason and status.duration of an ended session do not change: create a new Session to launch again]",
    },
    Row {
        wrong: "an empty status in its place",
        written: "status: {}",
        by: By::Rule,
        says: "[<nil>: Invalid value: status.endedAt is written once: this session has ended; create a new Session to launch again, <nil>: Invalid value: status.phase, status.reason and status.duration of an ended session do not change: create a new Session to launch again]",
    },
];

pub const REFERRING: &[Row] = &[
    Row {
        wrong: "a Workspace that does not exist",
        written: "spec: {workspaceRef: {name: nowhere}}",
        by: By::Operator,
        says: "waiting for Workspace nowhere: it does not exist in this namespace",
    },
    Row {
        wrong: "a policy that does not exist",
        written: "policyRef: {name: strict}",
        by: By::Operator,
        says: "waiting for SessionPolicy strict: the Workspace names it, and it does not exist in this namespace",
    },
];

pub const THROUGH_KUBECTL: &[Row] = &[
    Row {
        wrong: "an object of a newer version",
        written: "apiVersion: berth.dev/v1beta1",
        by: By::Kubectl,
        says: r#"error: resource mapping not found for name: "refused" namespace: "" from "STDIN": no matches for kind "Session" in version "berth.dev/v1beta1"; ensure CRDs are installed first"#,
    },
    Row {
        wrong: "a misspelt kind",
        written: "kind: Sesion",
        by: By::Kubectl,
        says: r#"error: resource mapping not found for name: "refused" namespace: "" from "STDIN": no matches for kind "Sesion" in version "berth.dev/v1alpha1"; ensure CRDs are installed first"#,
    },
    Row {
        wrong: "a field that does not exist, with kubectl's own words around",
        written: "spec: {user: {mail: ada@example.org}}",
        by: By::Schema,
        says: r#"Error from server (BadRequest): error when creating "STDIN": Session in version "v1alpha1" cannot be handled as a Session: strict decoding error: unknown field "spec.user.mail""#,
    },
];
