//! Which sessions are asked for: the filters of queries and bodies, read and held against a session. Pure.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use kube::ResourceExt;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::view::{CoarseStatus, coarse, started};
use crate::api::Session;
use crate::api::duration::Duration;
use crate::api::session::Phase;
use crate::api::time::Instant;
use crate::plan::phase::PHASES;

/// How many sessions a page has at most.
pub const LARGEST_PAGE: usize = 500;

/// What may be asked of a list of sessions.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `active`, `disconnected` or `terminated`.
    pub status: Option<String>,
    /// `Pending`, `Starting`, `Active`, `Idle`, `Disconnected`, `Terminated` or `Failed`.
    pub phase: Option<String>,
    /// The name of a Workspace.
    pub workspace: Option<String>,
    /// Of this organization alone.
    pub organization: Option<String>,
    /// Of this user alone; where one sees others' sessions.
    pub user: Option<String>,
    /// These sessions alone: their ids, with commas.
    pub ids: Option<String>,
    /// Begun this long ago or longer, as `2h` or `90m`.
    pub older_than: Option<String>,
    /// Begun at this time or later.
    pub since: Option<String>,
    /// Begun before this time.
    pub until: Option<String>,
    /// With those whose resource is gone.
    #[param(value_type = Option<bool>)]
    pub history: Option<String>,
    /// At most so many, up to 500; without it the answer is complete.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// Where the page before ended, as the header `Link` has it.
    pub cursor: Option<String>,
}

/// Which sessions are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    status: Option<CoarseStatus>,
    phase: Option<Phase>,
    /// Of this Workspace.
    pub workspace: Option<String>,
    /// Of this organization.
    pub organization: Option<String>,
    user: Option<String>,
    ids: Option<BTreeSet<String>>,
    since: Option<Instant>,
    until: Option<Instant>,
    /// Whether those are meant, too, whose resource is gone.
    pub history: bool,
    /// The page, if the answer is to be one.
    pub limit: Option<usize>,
    /// The last session of the page before.
    pub cursor: Option<Place>,
}

/// A place in a list that goes from the newest to the oldest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the session began.
    pub started: Instant,
    /// Its uid.
    pub uid: String,
}

impl Place {
    /// Where this session is.
    pub fn of(session: &Session) -> Self {
        Self { started: started(session), uid: session.uid().unwrap_or_default() }
    }

    /// The place as a cursor.
    pub fn write(&self) -> String {
        format!("{}_{}", self.started.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true), self.uid)
    }

    fn read(text: &str) -> Result<Self, Problem> {
        let parts = text.split_once('_');
        let place = parts.and_then(|(started, uid)| Some(Self { started: started.parse().ok()?, uid: uid.to_owned() }));
        place.ok_or_else(|| Problem::malformed("cursor: take it from the header Link of the page before"))
    }
}

impl ListQuery {
    /// What is meant at `now`.
    ///
    /// # Errors
    /// When a value is none; the field is named.
    pub fn read(self, now: Instant) -> Result<Wanted, Problem> {
        let status = self.status.as_deref().map(read_status).transpose()?;
        let phase = self.phase.as_deref().map(read_phase).transpose()?;
        let limit = self.limit.as_deref().map(read_limit).transpose()?;
        let older = self.older_than.as_deref().map(|text| read_age("older_than", text)).transpose()?;
        let until = self.until.as_deref().map(|text| read_time("until", text)).transpose()?;
        let before = older.map(|age| now - age);
        Ok(Wanted {
            status,
            phase,
            workspace: self.workspace,
            organization: self.organization,
            user: self.user,
            ids: self.ids.map(|ids| ids.split(',').map(|id| id.trim().to_owned()).collect()),
            since: self.since.as_deref().map(|text| read_time("since", text)).transpose()?,
            until: [until, before].into_iter().flatten().min(),
            history: match self.history.as_deref() {
                None | Some("true") => true,
                Some("false") => false,
                Some(_) => return Err(Problem::malformed("history: write true or false")),
            },
            limit,
            cursor: self.cursor.as_deref().map(Place::read).transpose()?,
        })
    }
}

impl Wanted {
    /// Those whose status is this.
    pub fn with_status(status: CoarseStatus) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// Whether `session` is meant.
    pub fn has(&self, session: &Session) -> bool {
        let phase = session.status.as_ref().and_then(|status| status.phase).unwrap_or(Phase::Pending);
        let place = Place::of(session);
        self.status.is_none_or(|status| coarse(phase) == status)
            && self.phase.is_none_or(|wanted| wanted == phase)
            && self.workspace.as_ref().is_none_or(|name| session.spec.workspace_ref.name.as_str() == name)
            && self.organization.as_ref().is_none_or(|name| session.namespace().as_ref() == Some(name))
            && self.user.as_ref().is_none_or(|user| session.spec.user.id.as_str() == user)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&place.uid))
            && self.since.is_none_or(|since| place.started >= since)
            && self.until.is_none_or(|until| place.started < until)
            && self.cursor.as_ref().is_none_or(|cursor| place < *cursor)
    }

    /// The bounds of when a session began, for the store.
    pub fn times(&self) -> (Option<Instant>, Option<Instant>) {
        (self.since, self.until)
    }

    /// The phase, for the store.
    pub fn phase(&self) -> Option<&'static str> {
        self.phase.map(Phase::as_str)
    }

    /// Whether one that has ended may be meant.
    pub fn may_have_ended(&self) -> bool {
        self.history && self.status != Some(CoarseStatus::Active)
    }
}

/// What `disconnect-all` ends; what is not written does not matter.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EndAllBody {
    /// These sessions alone: their ids.
    #[serde(alias = "session_ids")]
    pub ids: Option<Vec<String>>,
    /// Of this Workspace.
    #[serde(alias = "workspace_id")]
    pub workspace: Option<String>,
    /// Of this organization.
    pub organization: Option<String>,
    /// Of this user; where one may end others' sessions.
    #[serde(alias = "user_id")]
    pub user: Option<String>,
    /// Begun this long ago or longer, as `2h` or `90m`.
    pub older_than: Option<String>,
    /// End nothing, and say what would be ended.
    pub dry_run: bool,
}

impl EndAllBody {
    /// What is meant at `now`.
    ///
    /// # Errors
    /// When a value is none; the field is named.
    pub fn read(&self, now: Instant) -> Result<Wanted, Problem> {
        let age = self.older_than.as_deref().map(|text| read_age("older_than", text)).transpose()?;
        Ok(Wanted {
            workspace: self.workspace.clone(),
            organization: self.organization.clone(),
            user: self.user.clone(),
            ids: self.ids.as_ref().map(|ids| ids.iter().cloned().collect()),
            until: age.map(|age| now - age),
            ..Wanted::default()
        })
    }
}

fn read_status(text: &str) -> Result<CoarseStatus, Problem> {
    match text {
        "active" => Ok(CoarseStatus::Active),
        "disconnected" => Ok(CoarseStatus::Disconnected),
        "terminated" => Ok(CoarseStatus::Terminated),
        _ => Err(Problem::malformed("status: write active, disconnected or terminated")),
    }
}

fn read_phase(text: &str) -> Result<Phase, Problem> {
    let found = PHASES.into_iter().find(|phase| phase.as_str() == text);
    found.ok_or_else(|| {
        let all = PHASES.map(Phase::as_str).join(", ");
        Problem::malformed(format!("phase: write one of {all}"))
    })
}

fn read_limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit));
    limit.ok_or_else(|| Problem::malformed(format!("limit: write a number from 1 to {LARGEST_PAGE}")))
}

/// A time as clients write it; a `+` that became a space in a query is one again.
pub fn read_time(field: &str, text: &str) -> Result<Instant, Problem> {
    let time = chrono::DateTime::parse_from_rfc3339(&text.replace(' ', "+"));
    time.map(|time| time.to_utc())
        .map_err(|_| Problem::malformed(format!("{field}: write a time such as 2026-01-31T12:00:00Z")))
}

fn read_age(field: &str, text: &str) -> Result<TimeDelta, Problem> {
    let age = Duration::new(text).delta();
    age.map_err(|_| Problem::malformed(format!("{field}: write a duration such as 90m, 2h or 1h30m")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::json;

    fn at(second: i64) -> Instant {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn session(uid: &str, began: i64, phase: &str) -> Session {
        let object = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Session",
            "metadata": { "name": uid, "namespace": "demo", "uid": uid, "creationTimestamp": at(began) },
            "spec": { "workspaceRef": { "name": "box" }, "user": { "id": "ana" } }, "status": { "phase": phase },
        });
        serde_json::from_value(object).unwrap()
    }

    fn query(of: &[(&str, &str)]) -> Result<Wanted, Problem> {
        let query: ListQuery =
            serde_json::from_value(json!(std::collections::BTreeMap::from_iter(of.iter().copied()))).unwrap();
        query.read(at(10_000))
    }

    #[test]
    fn each_filter_leaves_out_what_it_does_not_mean() {
        let one = session("a", 1000, "Idle");
        for (field, right, wrong) in [
            ("status", "active", "terminated"),
            ("phase", "Idle", "Active"),
            ("workspace", "box", "lab"),
            ("organization", "demo", "other"),
            ("user", "ana", "ben"),
            ("ids", "b, a", "b"),
            ("since", "1970-01-01T00:16:40Z", "1970-01-01T00:16:41Z"),
            ("until", "1970-01-01T00:16:41Z", "1970-01-01T00:16:40Z"),
            ("older_than", "2h", "3h"),
            ("cursor", "1970-01-01T00:16:40Z_b", "1970-01-01T00:16:40Z_a"),
        ] {
            assert!(query(&[(field, right)]).unwrap().has(&one), "{field}={right}");
            assert!(!query(&[(field, wrong)]).unwrap().has(&one), "{field}={wrong}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_by_its_name() {
        for (field, value) in [
            ("status", "live"),
            ("phase", "idle"),
            ("limit", "0"),
            ("limit", "501"),
            ("limit", "many"),
            ("since", "yesterday"),
            ("until", "12"),
            ("older_than", "30d"),
            ("older_than", "-5m"),
            ("cursor", "2"),
            ("history", "yes"),
        ] {
            let problem = query(&[(field, value)]).unwrap_err();
            assert!(problem.detail().starts_with(&format!("{field}: ")), "{field}={value}: {problem:?}");
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let place = Place::of(&session("0f8fad5b-d9cb-469f-a165-70867728950e", 1000, "Active"));
        assert_eq!(Place::read(&place.write()), Ok(place));
    }

    #[test]
    fn a_misspelt_filter_of_what_is_to_be_ended_is_refused() {
        let read = |text: &str| serde_json::from_str::<EndAllBody>(text);
        assert!(read(r#"{"work_space": "box"}"#).is_err(), "it would end everything");
        assert!(read(r#"{"workspace_id": "box", "dry_run": true}"#).is_ok());
    }
}
