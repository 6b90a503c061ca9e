//! What of a session's life is recorded, as its resource tells it. Owns which states are news and the words of their records;
//! each is recorded once for a session, whoever sees it how often.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::view::started;
use crate::api::condition::{self, Type};
use crate::api::session::Phase;
use crate::api::time::{Instant, from_wire};
use crate::api::{Reason, Session, SessionStatus};
use crate::store::audit::{Draft, Outcome};

/// Who is named where the operator did it.
const OPERATOR: &str = "berth-operator";
/// Who is named where nobody could tell: the resource does not say who created it.
const UNKNOWN: &str = "unknown";

/// What this process has told of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    created: bool,
    active: bool,
    /// Idle now, by the last activity at that time.
    idle: Option<Instant>,
    /// How often it was idle by that.
    times: (Option<Instant>, u32),
    /// Warned of this, by a condition that stands since then.
    warned: Option<(Instant, String)>,
    ended: bool,
}

impl Told {
    /// Whether the end was told.
    pub fn is_ended(&self) -> bool {
        self.ended
    }
}

/// What of `session` was not told yet, seen at `now`; from now on it is.
pub fn news(told: &mut Told, session: &Session, now: Instant) -> Vec<Draft> {
    let mut drafts = Vec::new();
    if !told.created {
        told.created = true;
        drafts.extend(created(session));
    }
    let Some(status) = &session.status else { return drafts };
    if let Some(ready) = status.ready_at
        && !told.active
    {
        told.active = true;
        let details = json!({ "url": status.url, "instance": status.instance });
        drafts.extend(draft(session, "session_active", "active", ready, OPERATOR, None, details));
    }
    if status.ended_at.is_some() {
        if !told.ended {
            told.ended = true;
            drafts.extend(ended(session, status));
        }
        return drafts;
    }
    match (status.phase, status.idle_since) {
        (Some(Phase::Idle), Some(since)) if told.idle != Some(since) => {
            told.idle = Some(since);
            let times = if told.times.0 == Some(since) { told.times.1 + 1 } else { 0 };
            told.times = (Some(since), times);
            let once = format!("idle/{}/{times}", since.timestamp());
            drafts.extend(draft(session, "session_idle", &once, now, OPERATOR, None, json!({ "idleSince": since })));
        }
        (Some(Phase::Active), _) => {
            if let Some(since) = told.idle.take() {
                let unknown = condition::find(&status.conditions, Type::ActivityKnown)
                    .filter(|known| known.status != condition::Status::True)
                    .map(|known| known.reason.clone());
                // Nobody has seen that it is used again: nobody knows that it is not.
                let action = if unknown.is_some() { "session_unwatched" } else { "session_resumed" };
                let once = format!("resumed/{}/{}", since.timestamp(), told.times.1);
                let details = json!({ "idleSince": since, "activity": status.activity });
                drafts.extend(draft(session, action, &once, now, OPERATOR, unknown, details));
            }
        }
        _ => {}
    }
    drafts.extend(warned(told, session, status));
    drafts
}

/// Whether the record is one of those that no outage of the store may cost.
pub fn is_kept_for_sure(draft: &Draft) -> bool {
    ["session_created", "session_active", "session_ended", "session_vanished"].contains(&draft.action.as_str())
}

/// The session went, and nobody has seen its end.
pub fn vanished(session: &Session) -> Option<Draft> {
    let at = session.metadata.deletion_timestamp.as_ref().or(session.metadata.creation_timestamp.as_ref())?;
    draft(session, "session_vanished", "ended", from_wire(at), UNKNOWN, None, json!({}))
}

fn created(session: &Session) -> Option<Draft> {
    let client = session.spec.client.as_ref();
    let details = json!({ "whenFull": session.spec.when_full, "client": client });
    draft(session, "session_created", "created", started(session), UNKNOWN, None, details)
}

fn warned(told: &mut Told, session: &Session, status: &SessionStatus) -> Option<Draft> {
    let warning =
        condition::find(&status.conditions, Type::EndingSoon).filter(|it| it.status == condition::Status::True);
    let now = warning.map(|warning| (warning.last_transition_time, warning.reason.clone()));
    if now == told.warned {
        return None;
    }
    told.warned = now;
    let warning = warning?;
    let since = warning.last_transition_time;
    let once = format!("warned/{}/{}", since.timestamp(), warning.reason);
    let details = json!({ "endsAt": status.disconnect_at, "message": warning.message });
    draft(session, "session_warned", &once, since, OPERATOR, Some(warning.reason.clone()), details)
}

/// The end, by whom it was asked for where somebody did.
fn ended(session: &Session, status: &SessionStatus) -> Option<Draft> {
    let asked = status.end_request.as_ref().and_then(|request| request.actor.as_ref());
    let by_user = status.reason == Some(Reason::UserDisconnected);
    // Somebody may have asked for an end that another cause forestalled.
    let same = status.end_request.as_ref().is_some_and(|request| Some(request.reason) == status.reason);
    let actor = match asked.filter(|_| same) {
        Some(actor) => actor.to_string(),
        None if by_user => session.spec.user.id.to_string(),
        None => OPERATOR.to_owned(),
    };
    let reason = status.reason.map(|reason| reason.as_str().to_owned());
    let details = json!({ "phase": status.phase, "message": status.message, "duration": status.duration });
    draft(session, "session_ended", "ended", status.ended_at?, &actor, reason, details)
}

/// A record of the session, which is made once under `once`.
fn draft(
    session: &Session,
    action: &str,
    once: &str,
    at: Instant,
    actor: &str,
    reason: Option<String>,
    mut details: Value,
) -> Option<Draft> {
    let uid = session.uid()?;
    details["user"] = json!(session.spec.user.id);
    details["workspace"] = json!(session.spec.workspace_ref.name);
    Some(Draft {
        at,
        organization: session.namespace()?,
        actor: actor.to_owned(),
        action: action.to_owned(),
        target_kind: "Session".to_owned(),
        target_name: session.name_any(),
        once: Some(format!("{uid}/{once}")),
        target_uid: Some(uid),
        outcome: Outcome::Success,
        reason,
        address: None,
        address_source: None,
        details,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn at(second: i64) -> Instant {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap_or_default()
    }

    fn session(status: Value) -> Session {
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Session",
            "metadata": { "name": "mine", "namespace": "n", "uid": "u", "creationTimestamp": at(0) },
            "spec": { "workspaceRef": { "name": "box" }, "user": { "id": "ana" } }, "status": status,
        }))
        .unwrap()
    }

    fn told(life: &[Value]) -> Vec<(String, String)> {
        let mut told = Told::default();
        let seen = life.iter().flat_map(|status| news(&mut told, &session(status.clone()), at(500)));
        seen.map(|draft| (draft.action, draft.once.unwrap_or_default())).collect()
    }

    #[test]
    fn each_state_of_a_life_is_told_once_however_often_it_is_seen() {
        let active = json!({ "phase": "Active", "readyAt": at(5) });
        let idle = json!({ "phase": "Idle", "readyAt": at(5), "idleSince": at(9) });
        let warning = json!([{ "type": "EndingSoon", "status": "True", "reason": "IdleTimeout", "message": "ends",
            "lastTransitionTime": at(30) }]);
        let warned = json!({ "phase": "Idle", "readyAt": at(5), "idleSince": at(9), "conditions": warning });
        let ended = json!({ "phase": "Disconnected", "readyAt": at(5), "endedAt": at(60), "reason": "IdleTimeout" });
        let life = [
            json!({}),
            json!({ "phase": "Pending" }),
            active.clone(),
            active.clone(),
            idle.clone(),
            idle,
            active,
            warned.clone(),
            warned,
            ended.clone(),
            ended,
        ];
        let first = at(9).timestamp();
        let expected = [
            ("session_created", "u/created".to_owned()),
            ("session_active", "u/active".to_owned()),
            ("session_idle", format!("u/idle/{first}/0")),
            ("session_resumed", format!("u/resumed/{first}/0")),
            ("session_idle", format!("u/idle/{first}/1")),
            ("session_warned", format!("u/warned/{}/IdleTimeout", at(30).timestamp())),
            ("session_ended", "u/ended".to_owned()),
        ];
        let expected: Vec<(String, String)> = expected.map(|(action, once)| (action.to_owned(), once)).into();
        assert_eq!(told(&life), expected);
    }

    #[test]
    fn who_was_away_tells_what_the_resource_still_says() {
        let ended = json!({ "phase": "Failed", "readyAt": at(5), "endedAt": at(60), "reason": "InstanceLost" });
        let actions: Vec<String> = told(&[ended]).into_iter().map(|(action, _)| action).collect();
        assert_eq!(actions, ["session_created", "session_active", "session_ended"]);
    }

    #[test]
    fn an_end_is_whose_who_asked_for_it_and_a_creation_nobodys_that_the_resource_names() {
        let asked = json!({ "phase": "Terminated", "endedAt": at(60), "reason": "AdministratorEnded",
            "endRequest": { "as": "Terminated", "reason": "AdministratorEnded", "actor": "boss", "at": at(59) } });
        let forestalled = json!({ "phase": "Disconnected", "endedAt": at(60), "reason": "IdleTimeout",
            "endRequest": { "as": "Terminated", "reason": "AdministratorEnded", "actor": "boss", "at": at(59) } });
        let by_user = json!({ "phase": "Disconnected", "endedAt": at(60), "reason": "UserDisconnected" });
        for (status, actor) in [(asked, "boss"), (forestalled, OPERATOR), (by_user, "ana")] {
            let drafts = news(&mut Told::default(), &session(status), at(500));
            let actors: Vec<&str> = drafts.iter().map(|draft| draft.actor.as_str()).collect();
            assert_eq!(actors, [UNKNOWN, actor]);
        }
    }
}
