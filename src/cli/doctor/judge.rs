//! What the facts mean: a verdict for each, and how to mend what is wrong. Pure: it asks nobody, and is given the time.

use chrono::TimeDelta;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::facts::{Definition, Definitions, Fact, NEEDED, Operator, Server};
use super::schema::{Compared, compare};
use crate::api::condition::{self, Type};
use crate::api::session::Phase;
use crate::api::time::{Instant, from_wire};
use crate::api::workspace::WorkspacePhase;
use crate::api::{GROUP, Session, VERSION, Workspace};
use crate::cli::exit::{Exit, Failure};
use crate::cli::target::Scope;
use crate::cli::view;

/// The oldest Kubernetes that Berth runs on.
const OLDEST: (u32, u32) = (1, 33);
/// Clocks that differ by more are told about, as sessions do with ClockSkew.
const SKEW: TimeDelta = TimeDelta::seconds(5);
/// How long what the operator does at once may take before something is wrong.
const SLACK: TimeDelta = TimeDelta::seconds(60);
/// How many names one message has.
const NAMED: usize = 5;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, and deserves a look.
    Warning,
    /// It does not work.
    Failed,
}

impl Verdict {
    /// The verdict as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// The same in words.
    pub message: String,
    /// What to do about it.
    pub mend: Option<String>,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, message: message.into(), mend: None }
    }

    fn warning(name: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, message: message.into(), mend: Some(mend.into()) }
    }

    fn failed(name: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::warning(name, message, mend) }
    }

    /// A check that could not be made. Who may not look has not found anything wrong.
    fn unknown(name: &'static str, failure: &Failure) -> Self {
        let verdict = if failure.exit == Exit::Refused { Verdict::Warning } else { Verdict::Failed };
        let message = format!("not checked: {}", failure.message());
        Self { name, verdict, message, mend: failure.what_next().map(ToOwned::to_owned) }
    }

    /// The worst of several findings, all in one.
    fn of_all(name: &'static str, findings: Vec<Self>) -> Self {
        let Some(worst) = findings.iter().map(|finding| finding.verdict).max() else {
            return Self::ok(name, "nothing");
        };
        let told: Vec<&Self> = findings.iter().filter(|finding| finding.verdict == worst).collect();
        let message = told.iter().map(|finding| finding.message.as_str()).collect::<Vec<&str>>().join("; ");
        Self { name, verdict: worst, message, mend: told.first().and_then(|finding| finding.mend.clone()) }
    }

    /// The check as a program reads it.
    pub fn to_json(&self) -> Value {
        let mut whole = json!({ "name": self.name, "verdict": self.verdict.as_str(), "message": self.message });
        if let Some(mend) = &self.mend {
            whole["mend"] = json!(mend);
        }
        whole
    }
}

/// The API server.
pub fn server(fact: &Fact<Server>) -> Check {
    const NAME: &str = "api-server";
    match fact {
        Err(failure) => {
            let (message, mend) = (failure.message().to_owned(), failure.what_next().map(ToOwned::to_owned));
            Check { name: NAME, verdict: Verdict::Failed, message, mend }
        }
        Ok(server) if server.version < OLDEST => Check::failed(
            NAME,
            format!("Kubernetes {} is too old", server.git_version),
            format!("upgrade the cluster to {}.{} or newer", OLDEST.0, OLDEST.1),
        ),
        Ok(server) => Check::ok(NAME, format!("Kubernetes {}", server.git_version)),
    }
}

/// This machine's clock; `ahead` of the API server's by so much.
pub fn clock(ahead: TimeDelta) -> Check {
    const NAME: &str = "clock";
    if ahead.abs() > SKEW {
        let side = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
        let message = format!("this machine's clock is {} {side} the API server's", view::age(ahead.abs()));
        return Check::warning(
            NAME,
            message,
            "let both set their clocks by NTP; ages and keepalives are off until then",
        );
    }
    Check::ok(NAME, "this machine and the API server agree")
}

/// The CRDs.
pub fn definitions(fact: Fact<Definitions>) -> Check {
    const NAME: &str = "definitions";
    let definitions = match fact {
        Err(failure) => return Check::unknown(NAME, &failure),
        Ok(Definitions::Read(definitions)) => definitions,
        Ok(Definitions::Served(served)) => {
            let missing: Vec<&str> = ["sessions", "workspaces", "sessionpolicies"]
                .into_iter()
                .filter(|name| !served.iter().any(|it| it == name))
                .collect();
            return match missing.is_empty() {
                true => Check::ok(NAME, format!("{GROUP}/{VERSION} is served; you may not read how it is defined")),
                false => {
                    Check::failed(NAME, format!("{GROUP}/{VERSION} does not serve {}", missing.join(", ")), INSTALL)
                }
            };
        }
    };
    let all = Check::of_all(NAME, definitions.iter().map(definition).collect());
    if all.verdict == Verdict::Ok {
        return Check::ok(NAME, format!("{} of {} are as new as this program", definitions.len(), definitions.len()));
    }
    all
}

/// How Berth is installed.
const INSTALL: &str = "install Berth: helm install berth charts/berth --namespace berth-system --create-namespace";
/// How Berth is upgraded.
const UPGRADE: &str = "upgrade Berth, with its CRDs: helm upgrade berth charts/berth --namespace berth-system";
/// How the plugin is upgraded.
const UPGRADE_PLUGIN: &str = "install the kubectl-berth of the version that the cluster runs";

fn definition(definition: &Definition) -> Check {
    const NAME: &str = "definitions";
    let name = &definition.name;
    let Some(theirs) = &definition.theirs else {
        return Check::failed(NAME, format!("{name} is missing"), INSTALL);
    };
    let conditions = theirs.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
        return Check::failed(NAME, format!("{name} is not established"), format!("kubectl describe crd {name}"));
    }
    if !theirs.spec.versions.iter().any(|version| version.name == VERSION && version.served) {
        return Check::failed(NAME, format!("{name} does not serve {VERSION}"), UPGRADE);
    }
    match compare(&definition.ours, theirs, VERSION) {
        Compared::Same => Check::ok(NAME, format!("{name} is as new as this program")),
        Compared::Lacks(fields) => {
            let message = format!("{name} is older than this program and lacks {}", some(&fields));
            Check::failed(NAME, message, UPGRADE)
        }
        Compared::HasMore(fields) => {
            let message = format!("{name} is newer than this program: it has {}", some(&fields));
            Check::warning(NAME, message, UPGRADE_PLUGIN)
        }
        Compared::OtherRules => {
            let message = format!("{name} has the same fields as this program knows, under other rules");
            Check::warning(NAME, message, "bring the chart and kubectl-berth to the same version")
        }
    }
}

/// The operators.
pub fn operators(fact: Fact<Vec<Operator>>) -> Check {
    const NAME: &str = "operator";
    match fact {
        Err(failure) => Check::unknown(NAME, &failure),
        Ok(operators) if operators.is_empty() => Check::failed(NAME, "no operator is installed", INSTALL),
        Ok(operators) => {
            Check::of_all(NAME, operators.iter().map(|one| operator(one, env!("CARGO_PKG_VERSION"))).collect())
        }
    }
}

fn operator(operator: &Operator, ours: &str) -> Check {
    const NAME: &str = "operator";
    let Operator { namespace, ready, wanted, image, version } = operator;
    let look = format!("kubectl --namespace {namespace} describe pods -l app.kubernetes.io/name=berth-operator");
    if *wanted == 0 {
        let mend = format!("kubectl --namespace {namespace} scale deployment berth-operator --replicas 1");
        return Check::failed(NAME, format!("the operator in namespace {namespace} is scaled to zero"), mend);
    }
    if *ready == 0 {
        return Check::failed(NAME, format!("none of {wanted} operators in namespace {namespace} is ready"), look);
    }
    if ready < wanted {
        return Check::warning(NAME, format!("{ready} of {wanted} operators in namespace {namespace} are ready"), look);
    }
    match version.clone().or_else(|| tagged(image)) {
        Some(theirs) if theirs != ours => Check::warning(
            NAME,
            format!("the operator in namespace {namespace} is version {theirs}, this program {ours}"),
            "bring the chart and kubectl-berth to the same version",
        ),
        Some(theirs) => {
            Check::ok(NAME, format!("{ready} of {wanted} ready in namespace {namespace}, version {theirs}"))
        }
        None => Check::ok(NAME, format!("{ready} of {wanted} ready in namespace {namespace}, image {image}")),
    }
}

/// The version in an image's tag, where it is one.
fn tagged(image: &str) -> Option<String> {
    let image = image.split('@').next()?;
    let (_, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    let version = tag.strip_prefix('v').unwrap_or(tag);
    let numbers = version.split('-').next()?.split('.').collect::<Vec<&str>>();
    let is_version = numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok());
    is_version.then(|| version.to_owned())
}

/// The leases by which one operator leads; `now` by the API server's clock.
pub fn leases(fact: Fact<Vec<(String, Option<Lease>)>>, now: Instant) -> Check {
    match fact {
        Err(failure) => Check::unknown("lease", &failure),
        Ok(leases) => {
            Check::of_all("lease", leases.iter().map(|(namespace, one)| lease(namespace, one, now)).collect())
        }
    }
}

fn lease(namespace: &str, lease: &Option<Lease>, now: Instant) -> Check {
    const NAME: &str = "lease";
    let logs = format!("kubectl --namespace {namespace} logs deployment/berth-operator");
    let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
    let held = spec.and_then(|spec| {
        spec.holder_identity.as_deref().filter(|holder| !holder.is_empty()).zip(spec.renew_time.as_ref())
    });
    let Some((holder, renewed)) = held else {
        return Check::failed(NAME, format!("no operator leads in namespace {namespace}"), logs);
    };
    let lasts = TimeDelta::seconds(spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(15).into());
    let since = now - from_wire(&Time(renewed.0));
    if since < -SKEW {
        let message = format!("the clock of {holder} is {} ahead of the API server's", view::age(-since));
        return Check::failed(NAME, message, "let the nodes set their clocks by NTP; deadlines are off until then");
    }
    if since > lasts {
        let message = format!("{holder} has not renewed its lease for {}, or its clock is behind", view::age(since));
        return Check::failed(NAME, message, logs);
    }
    Check::ok(NAME, format!("{holder} leads, renewed {} ago", view::age(since)))
}

/// What the caller may do.
pub fn permissions(fact: Fact<Vec<(&'static str, &'static str)>>, scope: &Scope) -> Check {
    const NAME: &str = "permissions";
    let missing = match fact {
        Err(failure) => return Check::unknown(NAME, &failure),
        Ok(missing) => missing,
    };
    if missing.is_empty() {
        return Check::ok(NAME, format!("you may do in {scope} what every command needs"));
    }
    let words: Vec<String> = missing.iter().map(|(verb, resource)| format!("{verb} {resource}")).collect();
    let message = format!("in {scope} you may not {}", words.join(", "));
    let mend = "ask an administrator for those verbs; docs/kubectl.md says which command needs which";
    if missing.len() == NEEDED.len() { Check::failed(NAME, message, mend) } else { Check::warning(NAME, message, mend) }
}

/// Storage for volume claims.
pub fn storage(fact: Fact<Vec<(String, bool)>>) -> Check {
    const NAME: &str = "storage";
    let classes = match fact {
        Err(failure) => return Check::unknown(NAME, &failure),
        Ok(classes) => classes,
    };
    let defaults: Vec<String> =
        classes.iter().filter(|(_, is_default)| *is_default).map(|(name, _)| name.clone()).collect();
    match defaults.as_slice() {
        [] => Check::warning(
            NAME,
            "no StorageClass is the default: claims that name none stay pending",
            "kubectl annotate storageclass NAME storageclass.kubernetes.io/is-default-class=true, or name a class in each claim",
        ),
        [one] => Check::ok(NAME, format!("StorageClass {one} is the default")),
        several => Check::warning(
            NAME,
            format!("{} StorageClasses are the default: {}", several.len(), several.join(", ")),
            "kubectl annotate storageclass NAME storageclass.kubernetes.io/is-default-class- on all but one",
        ),
    }
}

/// The Workspaces.
pub fn workspaces(fact: Fact<Vec<Workspace>>, scope: &Scope, now: Instant) -> Check {
    const NAME: &str = "workspaces";
    let workspaces = match fact {
        Err(failure) => return Check::unknown(NAME, &failure),
        Ok(workspaces) => workspaces,
    };
    let troubles: Vec<((String, String), String)> =
        workspaces.iter().filter_map(|workspace| Some((place(workspace, scope), trouble(workspace, now)?))).collect();
    match troubles.first() {
        None => Check::ok(NAME, format!("{} in {scope}, all can be launched or say why not", workspaces.len())),
        Some(((_, name), _)) => {
            let told: Vec<String> = troubles.iter().map(|((name, _), trouble)| format!("{name}: {trouble}")).collect();
            let mend =
                format!("kubectl describe workspace {name}; its events and conditions say what to write instead");
            Check::failed(NAME, some(&told), mend)
        }
    }
}

fn trouble(workspace: &Workspace, now: Instant) -> Option<String> {
    match workspace.status.as_ref().and_then(|status| status.phase) {
        Some(WorkspacePhase::Unavailable) => {
            Some(view::trouble(workspace).unwrap_or_else(|| "it is Unavailable".to_owned()))
        }
        Some(WorkspacePhase::Available | WorkspacePhase::InUse | WorkspacePhase::Maintenance) => None,
        None => {
            let created = workspace.metadata.creation_timestamp.as_ref().map(from_wire)?;
            (now - created > SLACK).then(|| "no operator has looked at it".to_owned())
        }
    }
}

/// The live sessions.
pub fn sessions(fact: Fact<Vec<Session>>, scope: &Scope, now: Instant) -> Check {
    const NAME: &str = "sessions";
    let sessions = match fact {
        Err(failure) => return Check::unknown(NAME, &failure),
        Ok(sessions) => sessions,
    };
    let stuck: Vec<((String, String), String)> =
        sessions.iter().filter_map(|session| Some((place(session, scope), stuck(session, now)?))).collect();
    match stuck.first() {
        None => Check::ok(NAME, format!("{} live in {scope}, none is stuck", sessions.len())),
        Some(((_, name), _)) => {
            let told: Vec<String> = stuck.iter().map(|((name, _), why)| format!("{name}: {why}")).collect();
            let mend = format!("see whether the operator leads (above), then: kubectl describe session {name}");
            Check::failed(NAME, some(&told), mend)
        }
    }
}

/// Why the session is stuck, if it is: something that the operator does at once has not happened for a while.
fn stuck(session: &Session, now: Instant) -> Option<String> {
    let status = view::status(session);
    if status.ended_at.is_some() {
        return None;
    }
    let overdue = |since: Option<Instant>, lasts: TimeDelta| since.filter(|since| now - *since > lasts + SLACK);
    if let Some(since) = overdue(session.metadata.deletion_timestamp.as_ref().map(from_wire), TimeDelta::zero()) {
        return Some(format!("being deleted for {}", view::age(now - since)));
    }
    let created = view::started(session);
    let Some(phase) = status.phase else {
        return overdue(created, TimeDelta::zero()).map(|_| "no operator has looked at it".to_owned());
    };
    if let Some(at) = overdue(status.disconnect_at, TimeDelta::zero()) {
        return Some(format!("its end is overdue by {}", view::age(now - at)));
    }
    let rules = status.policy.as_ref();
    let message = status.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    match phase {
        Phase::Pending => {
            let limit = rules?.queue_timeout.as_ref()?.delta().ok()?;
            let since = overdue(created, limit)?;
            Some(format!("Pending for {}, longer than its queueTimeout{message}", view::age(now - since)))
        }
        Phase::Starting => {
            let admitted = condition::find(&status.conditions, Type::Admitted)?.last_transition_time;
            let since = overdue(Some(admitted), rules?.start_timeout.delta().ok()?)?;
            Some(format!("Starting for {}, longer than its startTimeout{message}", view::age(now - since)))
        }
        Phase::Active | Phase::Idle | Phase::Disconnected | Phase::Terminated | Phase::Failed => None,
    }
}

/// The object as it is told of, and as a command names it.
fn place(object: &impl ResourceExt, scope: &Scope) -> (String, String) {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let shown = if *scope == Scope::All { format!("{namespace}/{name}") } else { name.clone() };
    (shown, format!("{name} --namespace {namespace}"))
}

/// The first of many, and how many more there are.
fn some(all: &[String]) -> String {
    let shown = all.iter().take(NAMED).cloned().collect::<Vec<String>>().join(", ");
    if all.len() > NAMED { format!("{shown} and {} more", all.len() - NAMED) } else { shown }
}

#[cfg(test)]
mod tests;
