//! `kubectl berth list`: the sessions that are live, and with a flag those that have ended, or the Workspaces.

use std::collections::HashMap;

use futures::{Stream, StreamExt};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::exit::{Exit, Failure};
use super::gateway::escaped;
use super::objects::{self, Found, Kind, LIVE, Wanted, full_name};
use super::output::{self, Columns, Format, FormatFlags, note, print};
use super::remote;
use super::target::{Scope, Target, TargetFlags};
use super::view;
use super::wait::hopeless;
use crate::api::time::Instant;
use crate::api::{Session, Workspace};
use crate::clock::Clock;

/// List live sessions, or the workspaces that can be launched
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth list                        who uses what in this namespace, since when and until when
  kubectl berth list -A -o wide             in all namespaces, with pods, nodes and URLs
  kubectl berth list --workspaces           what can be launched
  kubectl berth list --all -l team=blue     ended sessions too, of one team
  kubectl berth list -w                     and each change as it happens
  kubectl berth list --mine -A              your own, by the gateway that BERTH_GATEWAY names
  kubectl berth list -o name | xargs -r kubectl delete --wait=false")]
pub struct List {
    /// Ended sessions too.
    #[arg(long, conflicts_with = "workspaces")]
    all: bool,
    /// Your own, by the gateway: nobody needs the right to list for that.
    #[arg(long, conflicts_with_all = ["workspaces", "all", "selector", "watch"])]
    mine: bool,
    /// List the Workspaces instead.
    #[arg(long)]
    workspaces: bool,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Those with these labels, such as team=blue.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Stay, and print each change.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: FormatFlags,
}

/// What a kind needs to be listed.
pub trait Listed: Kind + Clone {
    /// The headers of its table.
    fn headers(with_namespace: bool, is_wide: bool) -> Vec<&'static str>;
    /// Its cells.
    fn row(&self, with_namespace: bool, is_wide: bool, now: Instant) -> Vec<String>;
}

impl Listed for Session {
    fn headers(with_namespace: bool, is_wide: bool) -> Vec<&'static str> {
        view::session_headers(with_namespace, is_wide)
    }

    fn row(&self, with_namespace: bool, is_wide: bool, now: Instant) -> Vec<String> {
        view::session_row(self, with_namespace, is_wide, now)
    }
}

impl Listed for Workspace {
    fn headers(with_namespace: bool, is_wide: bool) -> Vec<&'static str> {
        view::workspace_headers(with_namespace, is_wide)
    }

    fn row(&self, with_namespace: bool, is_wide: bool, now: Instant) -> Vec<String> {
        view::workspace_row(self, with_namespace, is_wide, now)
    }
}

impl List {
    /// Lists.
    ///
    /// # Errors
    /// When the API server does not give the objects.
    pub async fn run(self, flags: &TargetFlags) -> Result<Exit, Failure> {
        if self.mine {
            return self.own(flags).await;
        }
        let target = flags.connect().await?;
        if self.workspaces {
            self.list::<Workspace>(&target, None, |_| true).await
        } else if self.all {
            self.list::<Session>(&target, None, |_| true).await
        } else {
            self.list(&target, Some(LIVE), view::is_live).await
        }
    }

    async fn own(&self, flags: &TargetFlags) -> Result<Exit, Failure> {
        let Some((gateway, namespace)) = flags.gateway().await? else {
            return Err(Failure::new(Exit::Usage, "your own sessions are told by the gateway, and none is named")
                .next("add --gateway https://berth.example.org, or set BERTH_GATEWAY"));
        };
        let place = if self.all_namespaces { String::new() } else { format!("&organization={}", escaped(&namespace)) };
        let sessions = gateway.all(&format!("/api/sessions?history=false&limit=500{place}"), usize::MAX).await?;
        let live: Vec<Value> = sessions.into_iter().filter(|session| session["ended_at"].is_null()).collect();
        remote::show(&live, false, self.all_namespaces, self.output, Clock::system().now())
    }

    async fn list<K: Listed>(
        &self,
        target: &Target,
        fields: Option<&str>,
        is_wanted: impl Fn(&K) -> bool,
    ) -> Result<Exit, Failure> {
        let scope = target.scope(self.all_namespaces);
        let wanted = Wanted { fields, labels: self.selector.as_deref() };
        let mut found: Vec<Found<K>> = objects::list(target, &scope, &wanted).await?;
        found.retain(|found| is_wanted(&found.object));
        found.sort_by_key(|found| {
            (found.object.namespace(), found.object.creation_timestamp(), found.object.name_any())
        });
        let mut printer = Printer::<K>::new(self.output, self.all_namespaces);
        if self.watch {
            printer.begin(&found)?;
            return self.follow(target, &scope, printer, is_wanted).await;
        }
        if found.is_empty() && matches!(self.output.format, Format::Table | Format::Wide) {
            let what = if self.workspaces {
                "workspaces"
            } else if self.all {
                "sessions"
            } else {
                "live sessions"
            };
            note(&format!("no {what} in {scope}"));
            return Ok(Exit::Done);
        }
        printer.all(&found)?;
        Ok(Exit::Done)
    }

    /// Prints what changes, until interrupted. A session that was shown is shown once more when it ends.
    async fn follow<K: Listed>(
        &self,
        target: &Target,
        scope: &Scope,
        mut printer: Printer<K>,
        is_wanted: impl Fn(&K) -> bool,
    ) -> Result<Exit, Failure> {
        let mut changes = std::pin::pin!(changes::<K>(target, scope, self.selector.as_deref()));
        let interruption = tokio::signal::ctrl_c();
        tokio::pin!(interruption);
        let mut is_told = false;
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                _ = &mut interruption => return Ok(Exit::Interrupted),
            };
            match change {
                Some(Ok(Event::Apply(object) | Event::InitApply(object))) => {
                    let Ok(found) = objects::typed::<K>(object) else { continue };
                    if is_wanted(&found.object) || printer.has_shown(&found) {
                        printer.change(&found)?;
                    }
                    is_told = false;
                }
                Some(Ok(Event::Delete(object))) => printer.forget(&object.uid().unwrap_or_default()),
                Some(Ok(Event::Init | Event::InitDone)) => {}
                Some(Err(error)) => match hopeless(&error, scope, "") {
                    Some(failure) => return Err(failure),
                    None if is_told => {}
                    None => {
                        note(&format!("the watch was interrupted and goes on: {error}"));
                        is_told = true;
                    }
                },
                None => return Err(Failure::new(Exit::Failed, "the watch ended")),
            }
        }
    }
}

fn changes<K: Kind>(
    target: &Target,
    scope: &Scope,
    labels: Option<&str>,
) -> impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + use<K> {
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = match scope {
        Scope::Namespace(namespace) => Api::namespaced_with(target.client.clone(), namespace, &kind),
        Scope::All => Api::all_with(target.client.clone(), &kind),
    };
    let config = watcher::Config { label_selector: labels.map(ToOwned::to_owned), ..watcher::Config::default() };
    watcher(api, config).default_backoff()
}

/// Prints objects in one form, and knows which it has printed.
pub struct Printer<K> {
    flags: FormatFlags,
    with_namespace: bool,
    columns: Columns,
    /// By uid, what was last printed of an object: equal things are not printed again.
    shown: HashMap<String, Value>,
    kind: std::marker::PhantomData<K>,
}

impl<K: Listed> Printer<K> {
    /// A printer that has printed nothing.
    pub fn new(flags: FormatFlags, with_namespace: bool) -> Self {
        let columns = Columns::new(K::headers(with_namespace, flags.format == Format::Wide));
        Self { flags, with_namespace, columns, shown: HashMap::new(), kind: std::marker::PhantomData }
    }

    /// Prints all, and is done.
    fn all(&mut self, found: &[Found<K>]) -> Result<(), Failure> {
        let objects = output::list_of(found.iter().map(|found| found.whole.clone()).collect());
        if let Some(document) = output::document(&objects, self.flags.format)? {
            return print(&document);
        }
        let lines = self.lines(found, !self.flags.no_headers);
        if lines.is_empty() { Ok(()) } else { print(&lines.join("\n")) }
    }

    /// Prints all that is there, each on its own, before the changes.
    fn begin(&mut self, found: &[Found<K>]) -> Result<(), Failure> {
        for found in found {
            self.shown.insert(found.object.uid().unwrap_or_default(), essence(&found.whole));
        }
        if matches!(self.flags.format, Format::Json | Format::Yaml) {
            return found.iter().try_for_each(|found| self.one(found));
        }
        let lines = self.lines(found, !self.flags.no_headers);
        if lines.is_empty() { Ok(()) } else { print(&lines.join("\n")) }
    }

    fn has_shown(&self, found: &Found<K>) -> bool {
        found.object.uid().is_some_and(|uid| self.shown.contains_key(&uid))
    }

    fn forget(&mut self, uid: &str) {
        self.shown.remove(uid);
    }

    /// Prints an object that is new or has changed.
    fn change(&mut self, found: &Found<K>) -> Result<(), Failure> {
        let essence = essence(&found.whole);
        let uid = found.object.uid().unwrap_or_default();
        if self.shown.insert(uid, essence.clone()).as_ref() == Some(&essence) { Ok(()) } else { self.one(found) }
    }

    fn one(&mut self, found: &Found<K>) -> Result<(), Failure> {
        match (output::document(&found.whole, self.flags.format)?, self.flags.format) {
            (Some(document), Format::Yaml) => print(&format!("---\n{document}")),
            (Some(document), _) => print(&document),
            (None, _) => print(&self.lines(std::slice::from_ref(found), false).join("\n")),
        }
    }

    fn lines(&mut self, found: &[Found<K>], with_headers: bool) -> Vec<String> {
        if self.flags.format == Format::Name {
            return found.iter().map(|found| full_name::<K>(&found.object.name_any())).collect();
        }
        let (now, is_wide) = (Clock::system().now(), self.flags.format == Format::Wide);
        let row = |found: &Found<K>| found.object.row(self.with_namespace, is_wide, now);
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        self.columns.lines(&rows, with_headers)
    }
}

/// What of an object a change is worth a line for: not its bookkeeping.
fn essence(whole: &Value) -> Value {
    serde_json::json!({ "spec": whole["spec"], "status": whole["status"], "labels": whole["metadata"]["labels"] })
}
