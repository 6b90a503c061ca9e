//! `kubectl berth launch`: a Session is created, and waited for until it can be used. Owns what the person is told on
//! the way; the operator does the rest, and goes on whether somebody waits or not.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::exit::{Asked, Exit, Failure};
use super::objects::{self, Wanted, full_name, resource, there_are};
use super::output::{self, Format, note, print};
use super::target::{Target, TargetFlags, call, quoted};
use super::view;
use super::wait::{Followed, Progress, follow, patience};
use crate::api::duration;
use crate::api::session::Phase;
use crate::api::{Session, Workspace};

/// Launch a workspace, and wait until it can be used
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth launch terminal                        launch, wait, and print how to reach it
  kubectl berth launch terminal --idle 15m --when-full Fail
  kubectl berth launch terminal --no-wait -o name      for scripts: the session's name alone
  kubectl berth launch terminal --user ana             for another, where you may
  kubectl berth launch terminal --dry-run=server       would it be accepted?

It exits with 0 once the session can be used, 3 where there is no such workspace, 4 where it is refused, 5 where it
cannot be used in time (it goes on starting), 6 where it ended instead, and 130 after Ctrl-C (it goes on starting).")]
pub struct Launch {
    /// The Workspace.
    #[arg(value_name = "WORKSPACE")]
    launched_workspace: String,
    /// The session's name; without it one that begins with the workspace's.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Whose session it is; without it yours.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Disconnect after this long without input, such as 30m; the policy bounds it.
    #[arg(long, value_name = "DURATION", value_parser = written_duration)]
    idle: Option<String>,
    /// What to do when no slot is free.
    #[arg(long, value_name = "Queue|Fail", default_value = "Queue", ignore_case = true)]
    when_full: WhenFull,
    /// Do not wait until it can be used.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = patience)]
    timeout: Duration,
    /// Ask the API server whether it would take it, and create nothing.
    #[arg(long, value_name = "server", num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    dry_run: Option<DryRun>,
    /// How to print.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum WhenFull {
    /// Wait for one.
    #[value(name = "Queue")]
    Queue,
    /// End as Failed.
    #[value(name = "Fail")]
    Fail,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DryRun {
    /// The API server checks it.
    Server,
}

fn written_duration(text: &str) -> Result<String, String> {
    duration::Duration::new(text).delta().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// What a look at a session that is waited for shows.
#[derive(Debug)]
enum Outcome {
    /// It can be used.
    Usable(Box<Session>),
    /// It ended, or is gone: it will not be usable any more.
    Ended(String),
}

impl Launch {
    /// Launches.
    ///
    /// # Errors
    /// When there is no such workspace, or the API server refuses the session.
    pub async fn run(self, flags: &TargetFlags) -> Result<Exit, Failure> {
        let target = flags.connect().await?;
        self.look_at_workspace(&target).await?;
        let user = match &self.user {
            Some(user) => user.clone(),
            None => caller(&target).await?,
        };
        let session = self.create(&target, &user).await?;
        let name = session.name_any();
        if self.dry_run.is_some() {
            return self.print(&session, &format!("{} created (server dry run)", full_name::<Session>(&name)));
        }
        if self.no_wait {
            return self.print(&session, &format!("{} created", full_name::<Session>(&name)));
        }
        self.wait(&target, &session).await
    }

    /// Says early what would otherwise be found out by waiting. Who may not read workspaces is not held up.
    async fn look_at_workspace(&self, target: &Target) -> Result<(), Failure> {
        let (name, scope) = (&self.launched_workspace, target.scope(false));
        let workspace = match objects::find::<Workspace>(target, name).await {
            Ok(Some(found)) => found.object,
            Ok(None) => {
                let failure = Failure::new(Exit::NotFound, format!("no workspace {name} in {scope}"));
                let there = objects::list::<Workspace>(target, &scope, &Wanted::default()).await.unwrap_or_default();
                return Err(failure.next(there_are("workspaces", there.iter().map(|found| found.object.name_any()))));
            }
            Err(failure) if failure.exit == Exit::Refused => return Ok(()),
            Err(failure) => return Err(failure),
        };
        if let Some(trouble) = view::trouble(&workspace) {
            note(&format!("workspace {name}: {trouble}"));
        }
        Ok(())
    }

    async fn create(&self, target: &Target, user: &str) -> Result<Session, Failure> {
        let asked = Asked::new("create", resource::<Session>(), target.scope(false).to_string());
        let sessions: Api<Session> = Api::namespaced(target.client.clone(), &target.namespace);
        let body = self.body(user);
        let session = serde_json::from_value(body)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write the session: {error}")))?;
        let params = PostParams { dry_run: self.dry_run.is_some(), ..PostParams::default() };
        call(&asked, sessions.create(&params, &session)).await
    }

    fn body(&self, user: &str) -> Value {
        let metadata = match &self.name {
            Some(name) => json!({ "name": name }),
            None => json!({ "generateName": format!("{}-", self.launched_workspace) }),
        };
        let when_full = match self.when_full {
            WhenFull::Queue => "Queue",
            WhenFull::Fail => "Fail",
        };
        let mut spec = json!({
            "workspaceRef": { "name": self.launched_workspace },
            "user": { "id": user },
            "client": { "userAgent": format!("kubectl-berth/{}", env!("CARGO_PKG_VERSION")) },
            "whenFull": when_full,
        });
        if let Some(idle) = &self.idle {
            spec["idle"] = json!({ "disconnectAfter": idle });
        }
        json!({ "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "metadata": metadata, "spec": spec })
    }

    async fn wait(&self, target: &Target, session: &Session) -> Result<Exit, Failure> {
        let name = session.name_any();
        let namespace = session.namespace().unwrap_or_else(|| target.namespace.clone());
        let mut progress = Progress::new();
        progress.line(&format!("{} created", full_name::<Session>(&name)), "waiting for the operator");
        let mut told = None;
        let look = |session: Option<&Session>, progress: &mut Progress| {
            if let Some((line, label)) = session.and_then(news).filter(|(line, _)| told.as_ref() != Some(line)) {
                progress.line(&line, label);
                told = Some(line);
            }
            outcome(session)
        };
        let followed =
            follow(target, &namespace, &name, self.timeout, &mut progress, look).await.map_err(|failure| {
                failure.next(format!(
                    "session {name} was created and goes on starting; launch with --no-wait not to watch it"
                ))
            })?;
        let again = target.pasted(&namespace);
        let goes_on = format!(
            "it goes on starting; `kubectl berth end {} {again}` ends it, `kubectl berth list -w {again}` shows it",
            quoted(&name)
        );
        match followed {
            Followed::Reached(Outcome::Usable(session)) => self.usable(target, &namespace, &session),
            Followed::Reached(Outcome::Ended(why)) => {
                Err(Failure::new(Exit::Ended, format!("session {name} cannot be used: {why}"))
                    .next(format!("`kubectl berth history {} {again}` has the rest", quoted(&name))))
            }
            Followed::TimedOut => {
                let waited = duration::write(chrono::TimeDelta::from_std(self.timeout).unwrap_or_default());
                Err(Failure::new(Exit::TimedOut, format!("session {name} cannot be used after {waited}")).next(goes_on))
            }
            Followed::Interrupted => {
                Err(Failure::new(Exit::Interrupted, format!("not waiting for session {name} any more")).next(goes_on))
            }
        }
    }

    fn usable(&self, target: &Target, namespace: &str, session: &Session) -> Result<Exit, Failure> {
        let mut lines = vec![format!("{} can be used", full_name::<Session>(&session.name_any()))];
        if let Some(url) = view::status(session).url {
            lines.push(format!("url: {url} (within the cluster's network)"));
        }
        if let Some((command, open)) = forward(session, &target.pasted(namespace)) {
            lines.push(command);
            lines.push(format!("then: {open}"));
        }
        self.print(session, &output::clean_lines(&lines.join("\n")))
    }

    fn print(&self, session: &Session, words: &str) -> Result<Exit, Failure> {
        let mut session = session.clone();
        session.metadata.managed_fields = None;
        let whole = serde_json::to_value(&session)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot print the session: {error}")))?;
        match (output::document(&whole, self.format)?, self.format) {
            (Some(document), _) => print(&document)?,
            (None, Format::Name) => print(&full_name::<Session>(&session.name_any()))?,
            (None, _) => print(words)?,
        }
        Ok(Exit::Done)
    }
}

/// The name by which the cluster knows the caller.
///
/// # Errors
/// When the API server does not say.
pub async fn caller(target: &Target) -> Result<String, Failure> {
    let asked = Asked::new("create", "selfsubjectreviews.authentication.k8s.io", "the cluster");
    let reviews: Api<SelfSubjectReview> = Api::all(target.client.clone());
    let review = call(&asked, reviews.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    user.ok_or_else(|| {
        Failure::new(Exit::Failed, "the API server does not say who you are").next("name the user with --user")
    })
}

/// What there is to tell of a session, and what the line that moves says meanwhile.
fn news(session: &Session) -> Option<(String, &'static str)> {
    let status = session.status.as_ref()?;
    let phase = status.phase?;
    let message = status.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    let label = match phase {
        Phase::Pending => "waiting for a slot",
        Phase::Starting => "starting",
        Phase::Active | Phase::Idle | Phase::Disconnected | Phase::Terminated | Phase::Failed => "",
    };
    Some((format!("{}{message}", phase.as_str()), label))
}

/// Whether the wait is over; nothing while the session is on its way.
fn outcome(session: Option<&Session>) -> Option<Outcome> {
    let Some(session) = session else { return Some(Outcome::Ended("it was deleted".to_owned())) };
    let status = view::status(session);
    if status.ended_at.is_some() {
        let reason = status.reason.map_or("no reason given", |reason| reason.as_str());
        let message = status.message.map(|message| format!(": {message}")).unwrap_or_default();
        return Some(Outcome::Ended(format!("{} ({reason}){message}", view::phase(session))));
    }
    matches!(status.phase, Some(Phase::Active | Phase::Idle)).then(|| Outcome::Usable(Box::new(session.clone())))
}

/// The command that brings the session's port to this machine, and what to open then. Nothing for a machine that
/// exists: it is reached as it always was.
pub(super) fn forward(session: &Session, flags: &str) -> Option<(String, String)> {
    let status = session.status.as_ref()?;
    let pod = &status.instance.as_ref()?.pod;
    let (scheme, rest) = status.url.as_deref()?.split_once("://")?;
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let port: u16 = host.rsplit_once(':')?.1.parse().ok()?;
    // Ports below 1024 are not everybody's to listen on.
    let local = if port < 1024 { port + 8000 } else { port };
    let open = match scheme {
        "http" => format!("open http://localhost:{local}{path}"),
        "ssh" => format!("ssh -p {local} localhost"),
        scheme => format!("connect to {scheme}://localhost:{local}"),
    };
    Some((format!("kubectl port-forward {flags} pod/{} {local}:{port}", quoted(pod)), open))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::tests::{second, session};

    fn usable_at(url: &str) -> Session {
        let instance = json!({ "pod": "berth-a", "uid": "u" });
        session("a", json!({ "phase": "Active", "url": url, "instance": instance }))
    }

    #[test]
    fn the_wait_is_over_when_the_session_can_be_used_or_never_will() {
        assert!(outcome(Some(&session("a", json!({})))).is_none());
        assert!(outcome(Some(&session("a", json!({ "phase": "Pending" })))).is_none());
        assert!(matches!(outcome(Some(&usable_at("http://h:1"))), Some(Outcome::Usable(_))));
        assert!(matches!(outcome(None), Some(Outcome::Ended(_))));
        let failed = json!({
            "phase": "Failed", "reason": "LimitExceeded", "message": "no slot is free", "endedAt": second(9).to_rfc3339(),
        });
        let Some(Outcome::Ended(why)) = outcome(Some(&session("a", failed))) else { panic!("it has ended") };
        assert_eq!(why, "Failed (LimitExceeded): no slot is free");
    }

    #[test]
    fn the_port_is_forwarded_and_the_path_kept() {
        let (command, open) = forward(&usable_at("http://10.0.0.1:8888/lab?x=1"), "--namespace demo").unwrap();
        assert_eq!(command, "kubectl port-forward --namespace demo pod/berth-a 8888:8888");
        assert_eq!(open, "open http://localhost:8888/lab?x=1");
        let (command, open) = forward(&usable_at("ssh://[fd00::1]:22"), "--namespace demo").unwrap();
        assert!(command.ends_with("8022:22"), "{command}");
        assert_eq!(open, "ssh -p 8022 localhost");
        assert!(forward(&session("a", json!({ "phase": "Active", "url": "rdp://pc:3389" })), "").is_none());
    }

    #[test]
    fn each_change_is_told_in_the_operators_words() {
        let starting = session("a", json!({ "phase": "Starting", "message": "pulling the image" }));
        assert_eq!(news(&starting), Some(("Starting: pulling the image".to_owned(), "starting")));
        assert_eq!(news(&session("a", json!({}))), None);
    }
}
