//! `kubectl berth history`: the sessions that have ended and are still kept as resources.

use std::cmp::Reverse;

use kube::ResourceExt;

use super::exit::{Exit, Failure};
use super::gateway::Gateway;
use super::objects::{self, ENDED, Found, Wanted, full_name, no_such_session};
use super::output::{self, Columns, Format, FormatFlags, clean, note, print};
use super::remote::{self, Asked};
use super::target::TargetFlags;
use super::view;
use crate::api::Session;
use crate::api::time::{Instant, display};
use crate::clock::Clock;

/// Show sessions that have ended: who, what, how and why
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth history                     what ended in this namespace, the latest first
  kubectl berth history terminal-x7k2p      all that is kept of one session
  kubectl berth history -A --user ana       one person's, in all namespaces
  kubectl berth history -o json | jq -r '.items[].status.reason' | sort | uniq -c

A session is kept for as long as its policy's history.keepFor says. With --gateway the gateway is asked, which keeps them
longer: everybody's where you may see those, else your own.")]
pub struct History {
    /// One session.
    #[arg(value_name = "SESSION", conflicts_with_all = ["all_namespaces", "selector", "workspace", "user"])]
    ended_session: Option<String>,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Those with these labels, such as team=blue.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Those on this Workspace.
    #[arg(long, value_name = "WORKSPACE")]
    workspace: Option<String>,
    /// Those of this user.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    #[command(flatten)]
    output: FormatFlags,
}

impl History {
    /// Shows them.
    ///
    /// # Errors
    /// When the API server does not give them, or the session named is not among them.
    pub async fn run(self, flags: &TargetFlags) -> Result<Exit, Failure> {
        if let Some((gateway, namespace)) = flags.gateway().await? {
            return self.of_gateway(&gateway, &namespace).await;
        }
        let target = flags.connect().await?;
        if let Some(name) = &self.ended_session {
            let Some(found) = objects::find::<Session>(&target, name).await? else {
                return Err(no_such_session(&target, name).await);
            };
            if view::is_live(&found.object) {
                return Err(Failure::new(Exit::NotFound, format!("session {name} has not ended"))
                    .next("`kubectl berth list` shows it"));
            }
            return self.one(&found);
        }
        let scope = target.scope(self.all_namespaces);
        let wanted = Wanted { fields: Some(ENDED), labels: self.selector.as_deref() };
        let mut ended: Vec<Found<Session>> = objects::list(&target, &scope, &wanted).await?;
        ended.retain(|found| self.is_wanted(&found.object));
        ended.sort_by_key(|found| (Reverse(view::status(&found.object).ended_at), found.object.name_any()));
        let whole = output::list_of(ended.iter().map(|found| found.whole.clone()).collect());
        if let Some(document) = output::document(&whole, self.output.format)? {
            print(&document)?;
        } else if self.output.format == Format::Name {
            let names: Vec<String> = ended.iter().map(|found| full_name::<Session>(&found.object.name_any())).collect();
            if !names.is_empty() {
                print(&names.join("\n"))?;
            }
        } else if ended.is_empty() {
            note(&format!("no ended sessions in {scope}"));
        } else {
            let (is_wide, now) = (self.output.format == Format::Wide, Clock::system().now());
            let row = |found: &Found<Session>| view::ended_row(&found.object, self.all_namespaces, is_wide, now);
            let rows: Vec<Vec<String>> = ended.iter().map(row).collect();
            let mut columns = Columns::new(view::ended_headers(self.all_namespaces, is_wide));
            print(&columns.lines(&rows, !self.output.no_headers).join("\n"))?;
        }
        Ok(Exit::Done)
    }

    async fn of_gateway(&self, gateway: &Gateway, namespace: &str) -> Result<Exit, Failure> {
        if self.selector.is_some() {
            return Err(Failure::new(Exit::Usage, "the gateway knows no labels").next("leave out -l, or --gateway"));
        }
        let asked = Asked {
            namespace: Some(namespace).filter(|_| !self.all_namespaces),
            workspace: self.workspace.as_deref(),
            user: self.user.as_deref(),
        };
        let (mut sessions, is_own) = asked.of(gateway).await?;
        if let Some(name) = &self.ended_session {
            sessions.retain(|session| session["name"] == name.as_str() || session["id"] == name.as_str());
            let Some(session) = sessions.first() else {
                return Err(Failure::new(Exit::NotFound, format!("no ended session {name} in namespace {namespace}")));
            };
            match output::document(session, self.output.format)? {
                Some(document) => print(&document)?,
                None if self.output.format == Format::Name => print(&full_name::<Session>(name))?,
                None => print(&remote::story(session))?,
            }
            return Ok(Exit::Done);
        }
        if is_own && matches!(self.output.format, Format::Table | Format::Wide) {
            note("your own sessions: those of others are not yours to see");
        }
        remote::show(&sessions, true, self.all_namespaces, self.output, Clock::system().now())
    }

    fn is_wanted(&self, session: &Session) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        !view::is_live(session)
            && same(&self.workspace, session.spec.workspace_ref.name.as_str())
            && same(&self.user, session.spec.user.id.as_str())
    }

    fn one(&self, found: &Found<Session>) -> Result<Exit, Failure> {
        if let Some(document) = output::document(&found.whole, self.output.format)? {
            print(&document)?;
        } else if self.output.format == Format::Name {
            print(&full_name::<Session>(&found.object.name_any()))?;
        } else {
            print(&story(&found.object, Clock::system().now()))?;
        }
        Ok(Exit::Done)
    }
}

/// All that is kept of a session, a line each.
fn story(session: &Session, now: Instant) -> String {
    let status = view::status(session);
    let time = |at: Option<Instant>| at.map(|at| format!("{} ({} ago)", display(at), view::age(now - at)));
    let spec = &session.spec;
    let shown = status.workspace.as_ref().map(|workspace| format!(" ({})", workspace.display_name)).unwrap_or_default();
    let request = status.end_request.as_ref().and_then(|request| request.actor.as_ref()).map(ToString::to_string);
    let lines = [
        ("Name", Some(session.name_any())),
        ("Namespace", session.namespace()),
        ("User", Some(spec.user.id.to_string())),
        ("Workspace", Some(format!("{}{shown}", spec.workspace_ref.name))),
        ("Started", time(view::started(session))),
        ("Usable from", time(status.ready_at)),
        ("Ended", time(status.ended_at)),
        ("Duration", status.duration.clone()),
        ("Ended as", Some(view::phase(session).to_owned())),
        ("Reason", status.reason.map(|reason| reason.as_str().to_owned())),
        ("Message", status.message.clone()),
        ("Asked for by", request),
        ("Address", status.client.as_ref().and_then(|client| client.ip_address.as_ref()).map(ToString::to_string)),
        ("Pod", status.instance.as_ref().map(|instance| instance.pod.clone())),
        ("Node", status.instance.as_ref().and_then(|instance| instance.node.clone())),
    ];
    let line =
        |(label, text): (&str, Option<String>)| text.map(|text| format!("{:<14}{}", format!("{label}:"), clean(&text)));
    lines.into_iter().filter_map(line).collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::tests::{second, session};
    use serde_json::json;

    #[test]
    fn the_story_of_a_session_says_how_it_ended() {
        let ended = json!({
            "phase": "Disconnected", "reason": "IdleTimeout", "duration": "31m", "endedAt": second(2860).to_rfc3339(),
        });
        let story = story(&session("a", ended), second(2920));
        for line in ["User:         ana", "Reason:       IdleTimeout", "Duration:     31m", "(60s ago)"] {
            assert!(story.contains(line), "{story}");
        }
        assert!(!story.contains("Pod:"), "what is not known is not said");
    }
}
