//! Following one session by a watch until something is reached, time is up, or the person has enough. Owns the waiting
//! and the line that shows it; not what is waited for.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};

use super::exit::{Asked, Exit, Failure};
use super::objects::resource;
use super::output::{clean, note};
use super::target::{Scope, Target};
use crate::api::Session;
use crate::api::duration;

/// How often the line that shows the waiting moves.
const TICK: Duration = Duration::from_millis(500);

/// How a wait ended.
#[derive(Debug)]
pub enum Followed<T> {
    /// What was waited for, or what makes it impossible.
    Reached(T),
    /// Time was up.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

/// A length of time on the command line: `90s`, `30m`, `1h30m`.
///
/// # Errors
/// In the words of [`duration::ParseError`].
pub fn patience(text: &str) -> Result<Duration, String> {
    let delta = duration::Duration::new(text).delta().map_err(|error| error.to_string())?;
    delta.to_std().map_err(|error| error.to_string())
}

/// What a person sees while waiting: lines that stay, and on a terminal one that moves below them.
pub struct Progress {
    is_shown: bool,
    label: String,
    began: tokio::time::Instant,
}

impl Progress {
    /// For a person at a terminal; without one only the lines that stay are written.
    pub fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), label: String::new(), began: tokio::time::Instant::now() }
    }

    /// Only the lines that stay.
    pub fn still() -> Self {
        Self { is_shown: false, ..Self::new() }
    }

    /// Writes a line that stays; `label` is what the moving line says from now on.
    pub fn line(&mut self, text: &str, label: &str) {
        self.clear();
        note(text);
        self.label = clean(label);
    }

    /// Takes the moving line away.
    pub fn clear(&self) {
        if self.is_shown {
            // Where standard error is closed nobody sees the line.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn tick(&self) {
        if self.is_shown && !self.label.is_empty() {
            let _ = write!(std::io::stderr(), "\r\x1b[K  {} {} s", self.label, self.began.elapsed().as_secs());
        }
    }
}

/// Shows the session to `look`, as it is and whenever it changes, until that answers; `None` is a session that is gone.
///
/// # Errors
/// When the session may not be watched, or is not served any more. All else is tried again until time is up.
pub async fn follow<T>(
    target: &Target,
    namespace: &str,
    name: &str,
    patience: Duration,
    progress: &mut Progress,
    mut look: impl FnMut(Option<&Session>, &mut Progress) -> Option<T>,
) -> Result<Followed<T>, Failure> {
    let scope = Scope::Namespace(namespace.to_owned());
    let sessions: Api<Session> = Api::namespaced(target.client.clone(), namespace);
    let mut changes = watch_object(sessions, name).default_backoff().boxed();
    let mut is_told = false;
    let mut tick = tokio::time::interval(TICK);
    let deadline = tokio::time::sleep(patience);
    let interruption = tokio::signal::ctrl_c();
    tokio::pin!(deadline, interruption);
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(session)) => {
                    if let Some(reached) = look(session.as_ref(), progress) {
                        progress.clear();
                        return Ok(Followed::Reached(reached));
                    }
                }
                Some(Err(error)) => {
                    if let Some(failure) = hopeless(&error, &scope, name) {
                        progress.clear();
                        return Err(failure);
                    }
                    if !is_told {
                        progress.clear();
                        note(&format!("the watch was interrupted and goes on: {error}"));
                        is_told = true;
                    }
                }
                None => return Err(Failure::new(Exit::Failed, "the watch of the session ended")),
            },
            _ = tick.tick() => progress.tick(),
            () = &mut deadline => {
                progress.clear();
                return Ok(Followed::TimedOut);
            }
            _ = &mut interruption => {
                progress.clear();
                return Ok(Followed::Interrupted);
            }
        }
    }
}

/// What no further try can mend.
pub fn hopeless(error: &watcher::Error, scope: &Scope, name: &str) -> Option<Failure> {
    let (verb, error) = match error {
        watcher::Error::InitialListFailed(error) => ("list", error),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => ("watch", error),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => return None,
    };
    let kube::Error::Api(status) = error else { return None };
    let is_final = status.is_forbidden() || status.is_not_found() || status.code == 401;
    let asked = Asked::new(verb, resource::<Session>(), scope.to_string());
    let asked = if name.is_empty() { asked } else { asked.of(name) };
    is_final.then(|| asked.failed(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_written_as_in_resources() {
        assert_eq!(patience("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(patience("10").is_err() && patience("-5m").is_err());
    }
}
