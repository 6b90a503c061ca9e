//! `berth let-go`: what an uninstall does last. A live Session holds a finalizer, so that its instance is released before
//! it goes; once no operator is there to remove it, whoever deletes the Session or its namespace would wait for ever.
//! This command takes the operator's place for a moment, by its lease, and lets go of all. It ends no session: an
//! operator that comes back finds them as they are.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::api::{SESSION_FINALIZER, Session};
use crate::app;
use crate::clock::Clock;
use crate::cluster::apply::remove_finalizer;
use crate::cluster::error::{CallError, optional};
use crate::cluster::lease::Contender;
use crate::metrics::Metrics;
use crate::operator::LEASE;
use crate::settings::own_name;

/// How many Sessions are asked for at a time.
const PAGE: u32 = 500;
/// How often one Session is tried before the command gives up on it: it may be changed under our hands.
const TRIES: usize = 5;

/// What `berth let-go` is told.
#[derive(Args, Clone, Debug)]
pub struct LetGo {
    /// The namespace that held the operator, with its lease.
    #[arg(long, env = "BERTH_NAMESPACE", default_value = "berth-system")]
    pub namespace: String,
    /// What this process is called in the lease; in a pod, the pod's name.
    #[arg(long, env = "BERTH_IDENTITY")]
    pub identity: Option<String>,
    /// A namespace to look in, once for each; without any, the whole cluster.
    #[arg(long = "watch-namespace", env = "BERTH_WATCH_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// How long to wait for the operator to go, in seconds.
    #[arg(long, default_value_t = 90, value_name = "SECONDS")]
    pub wait: u64,
}

/// Waits until no operator leads, and lets go of every Session.
///
/// # Errors
/// When an operator stays, or a Session could not be let go of.
pub async fn run(told: LetGo) -> anyhow::Result<()> {
    let client = app::connect(&Metrics::default()).await?.client;
    let identity = told.identity.unwrap_or_else(own_name);
    let mut contender = Contender::new(client.clone(), &told.namespace, LEASE, &identity, Clock::system());
    tracing::info!(namespace = told.namespace, "waiting until no operator leads");
    let leads = contender.acquire(|outcome| {
        if let Err(error) = outcome {
            tracing::debug!(%error, "lease not taken yet");
        }
    });
    tokio::time::timeout(Duration::from_secs(told.wait), leads).await.with_context(|| {
        format!("an operator still leads by the lease {}/{LEASE}: scale it down or uninstall it first", told.namespace)
    })?;
    let let_go = tokio::select! {
        done = let_go_of_all(&client, &told.watch_namespaces) => done,
        () = contender.keep() => Err(anyhow::anyhow!("the lease was lost to another: is an operator back?")),
    };
    contender.remove().await;
    tracing::info!(sessions = let_go?, "let go of all Sessions: they live on, and can be deleted by anybody");
    Ok(())
}

async fn let_go_of_all(client: &Client, namespaces: &[String]) -> anyhow::Result<usize> {
    let named = namespaces.iter().filter(|namespace| !namespace.is_empty());
    let mut scopes: Vec<Api<Session>> = named.map(|namespace| Api::namespaced(client.clone(), namespace)).collect();
    if scopes.is_empty() {
        scopes.push(Api::all(client.clone()));
    }
    let (mut done, mut stay) = (0, Vec::new());
    for scope in scopes {
        // A namespace that cannot be looked into keeps no other from being let go of.
        let sessions = held(&scope).await.unwrap_or_else(|error| {
            stay.push(format!("{}: {error:#}", scope.resource_url()));
            Vec::new()
        });
        for (namespace, name) in sessions {
            let api: Api<Session> = Api::namespaced(client.clone(), &namespace);
            match let_go(&api, &name).await {
                Ok(()) => done += 1,
                Err(error) => stay.push(format!("{namespace}/{name}: {}", error.words())),
            }
        }
    }
    anyhow::ensure!(stay.is_empty(), "{done} let go of, but not of {}", stay.join("; "));
    Ok(done)
}

/// The Sessions that our finalizer holds.
async fn held(scope: &Api<Session>) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = match optional(scope.list_metadata(&params)).await.context("cannot list the Sessions")? {
            Some(page) => page,
            // The kind is gone, and with it all Sessions.
            None => return Ok(found),
        };
        let ours = page.items.iter().filter(|it| it.finalizers().iter().any(|name| name == SESSION_FINALIZER));
        found.extend(ours.map(|it| (it.namespace().unwrap_or_default(), it.name_any())));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Removes our finalizer from one Session, and leaves those of others.
async fn let_go(api: &Api<Session>, name: &str) -> Result<(), CallError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let Some(session) = optional(api.get_metadata(name)).await? else { return Ok(()) };
        match remove_finalizer(api, &session.metadata).await {
            Err(error) if error.is_conflict() && tries < TRIES => {}
            outcome => return outcome,
        }
    }
}
