//! `kubectl berth keepalive`: "I am still here", said of sessions by their `spec.keepAliveAt`.

use kube::ResourceExt;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::objects::{self, full_name, no_such_session};
use super::output::{note, print};
use super::target::{Target, TargetFlags};
use super::view;
use crate::api::Session;
use crate::api::time::{Instant, display, floor_second};
use crate::clock::Clock;

/// Say that you are still there: it counts as activity now
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth keepalive terminal-x7k2p
  kubectl berth list -o name | cut -d/ -f2 | xargs -r kubectl berth keepalive

It counts where the policy's idle.allowKeepAlive allows it, and does not move the maximum duration.")]
pub struct Keepalive {
    /// The sessions.
    #[arg(value_name = "SESSION", required = true)]
    live_sessions: Vec<String>,
}

impl Keepalive {
    /// Says it of each.
    ///
    /// # Errors
    /// When nothing could be tried; a failure with one session does not stop the others.
    pub async fn run(self, flags: &TargetFlags) -> Result<Exit, Failure> {
        let target = flags.connect().await?;
        let mut exits = Vec::new();
        for name in &self.live_sessions {
            match keep(&target, name).await {
                Ok(words) => {
                    print(&format!("{} {words}", full_name::<Session>(name)))?;
                    exits.push(Exit::Done);
                }
                Err(failure) => {
                    failure.tell();
                    exits.push(failure.exit);
                }
            }
        }
        Ok(Exit::of_several(exits))
    }
}

async fn keep(target: &Target, name: &str) -> Result<String, Failure> {
    let Some(found) = objects::find::<Session>(target, name).await? else {
        return Err(no_such_session(target, name).await);
    };
    let session = found.object;
    if !view::is_live(&session) {
        return Err(Failure::new(Exit::Refused, format!("session {name} has ended and cannot be kept"))
            .next(format!("`kubectl berth launch {}` launches again", session.spec.workspace_ref.name)));
    }
    let policy = view::status(&session).policy;
    if policy.as_ref().is_some_and(|policy| !policy.allow_keep_alive) {
        note(&format!("warning: the policy of {} does not count this as activity", session.name_any()));
    }
    let at = display(moved(&session, Clock::system().now()));
    objects::patch(target, &target.namespace, name, json!({ "keepAliveAt": at })).await?;
    let idle = policy.and_then(|policy| policy.disconnect_after.delta().ok());
    let until = idle.map(|idle| format!("; without input it ends in {}", view::age(idle))).unwrap_or_default();
    Ok(format!("is kept alive{until}"))
}

/// The time to write: now, and never before what stands, since it moves only forward.
fn moved(session: &Session, now: Instant) -> Instant {
    session.spec.keep_alive_at.map_or(floor_second(now), |before| before.max(floor_second(now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::tests::{second, session};

    #[test]
    fn it_never_moves_back() {
        let mut kept = session("a", json!({}));
        assert_eq!(moved(&kept, second(2000)), second(2000));
        kept.spec.keep_alive_at = Some(second(2005));
        assert_eq!(moved(&kept, second(2000)), second(2005));
    }
}
