//! Sessions as the gateway tells of them: one's own, and those that have ended and whose resources are gone. Owns their rows, which
//! are those that the resources have, as far as the gateway tells.

use serde_json::Value;

use super::exit::{Exit, Failure};
use super::gateway::{Gateway, escaped};
use super::output::{self, Columns, Format, FormatFlags, clean, note, print};
use super::view::age;
use crate::api::time::Instant;

/// How many sessions are shown at most.
const MOST: usize = 100_000;

/// Which ended sessions are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// In this namespace; in all without.
    pub namespace: Option<&'a str>,
    /// On this Workspace.
    pub workspace: Option<&'a str>,
    /// Of this user.
    pub user: Option<&'a str>,
}

impl Asked<'_> {
    /// What the gateway has of them: everybody's, where the caller may see those, and else their own. Says which.
    ///
    /// # Errors
    /// When the gateway does not give them.
    pub async fn of(self, gateway: &Gateway) -> Result<(Vec<Value>, bool), Failure> {
        let mut query = "?limit=500".to_owned();
        if let Some(workspace) = self.workspace {
            query.push_str(&format!("&workspace={}", escaped(workspace)));
        }
        let user = self.user.map(|user| format!("&user={}", escaped(user))).unwrap_or_default();
        let everybodys = match self.namespace {
            Some(namespace) => {
                match gateway
                    .all(&format!("/api/organizations/{}/sessions{query}{user}", escaped(namespace)), MOST)
                    .await
                {
                    Ok(sessions) => Some(sessions),
                    // To who may not see others' there is no such organization.
                    Err(failure) if failure.exit == Exit::NotFound => None,
                    Err(failure) => return Err(failure),
                }
            }
            None => None,
        };
        let is_own = everybodys.is_none();
        let mut sessions = match everybodys {
            Some(sessions) => sessions,
            None => {
                let place = self.namespace.map(|it| format!("&organization={}", escaped(it))).unwrap_or_default();
                gateway.all(&format!("/api/sessions{query}{place}"), MOST).await?
            }
        };
        sessions.retain(|session| {
            let is_of = self.user.is_none_or(|user| session["user_id"] == user);
            is_of && session["ended_at"].is_string()
        });
        Ok((sessions, is_own))
    }
}

/// Prints sessions in this form.
///
/// # Errors
/// When they cannot be printed.
pub fn show(
    sessions: &[Value],
    ended: bool,
    with_namespace: bool,
    output: FormatFlags,
    now: Instant,
) -> Result<Exit, Failure> {
    let whole = output::list_of(sessions.to_vec());
    if let Some(document) = output::document(&whole, output.format)? {
        print(&document)?;
    } else if sessions.is_empty() {
        note(if ended { "no ended sessions" } else { "no live sessions" });
    } else if output.format == Format::Name {
        let names: Vec<String> =
            sessions.iter().map(|session| format!("session.berth.dev/{}", text(session, "name"))).collect();
        print(&names.join("\n"))?;
    } else {
        let mut headers = match ended {
            true => vec!["NAME", "USER", "WORKSPACE", "ENDED", "AS", "REASON", "DURATION"],
            false => vec!["NAME", "USER", "WORKSPACE", "PHASE", "SINCE", "UNTIL"],
        };
        if with_namespace {
            headers.insert(0, "NAMESPACE");
        }
        headers.push("MESSAGE");
        let rows: Vec<Vec<String>> = sessions.iter().map(|session| row(session, ended, with_namespace, now)).collect();
        print(&Columns::new(headers).lines(&rows, !output.no_headers).join("\n"))?;
    }
    Ok(Exit::Done)
}

/// All that the gateway tells of one session, a line each.
pub fn story(session: &Value) -> String {
    let lines = [
        ("Name", "name"),
        ("Id", "id"),
        ("Namespace", "organization"),
        ("User", "user_id"),
        ("Workspace", "workspace_id"),
        ("Started", "started_at"),
        ("Ended", "ended_at"),
        ("Duration", "duration"),
        ("Ended as", "phase"),
        ("Reason", "reason"),
        ("Message", "message"),
        ("Address", "ip_address"),
    ];
    let line = |(label, field): (&str, &str)| {
        let known = session[field].as_str().filter(|text| !text.is_empty())?;
        Some(format!("{:<14}{}", format!("{label}:"), clean(known)))
    };
    lines.into_iter().filter_map(line).collect::<Vec<String>>().join("\n")
}

fn text(session: &Value, field: &str) -> String {
    session[field].as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

fn row(session: &Value, ended: bool, with_namespace: bool, now: Instant) -> Vec<String> {
    let time = |field: &str| session[field].as_str().and_then(|text| text.parse::<Instant>().ok());
    let ago = |field: &str| time(field).map(|at| age(now - at));
    let mut row = vec![text(session, "name"), text(session, "user_id"), text(session, "workspace_id")];
    match ended {
        true => row.extend([
            ago("ended_at").map_or("-".to_owned(), |ago| format!("{ago} ago")),
            text(session, "phase"),
            text(session, "reason"),
            text(session, "duration"),
        ]),
        false => row.extend([
            text(session, "phase"),
            ago("started_at").unwrap_or_else(|| "-".to_owned()),
            time("disconnect_at")
                .filter(|at| *at > now)
                .map_or("-".to_owned(), |at| format!("{} ({})", age(at - now), text(session, "disconnect_reason"))),
        ]),
    }
    if with_namespace {
        row.insert(0, text(session, "organization"));
    }
    row.push(session["message"].as_str().unwrap_or_default().to_owned());
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::tests::second;
    use serde_json::json;

    #[test]
    fn a_session_that_the_gateway_tells_of_has_the_row_of_a_resource() {
        let session = json!({ "name": "mine", "organization": "n", "user_id": "ana", "workspace_id": "box", "phase": "Active",
            "started_at": second(0).to_rfc3339(), "disconnect_at": second(1800).to_rfc3339(), "disconnect_reason": "IdleTimeout",
            "message": null, "ended_at": null });
        let shown = row(&session, false, true, second(600));
        assert_eq!(shown, ["n", "mine", "ana", "box", "Active", "10m", "20m (IdleTimeout)", ""]);
        assert!(story(&session).contains("User:         ana") && !story(&session).contains("Message"));
    }
}
