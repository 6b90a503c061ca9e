//! Whether the admission policies stand as this version wrote them: without them anybody could launch as anybody. Owns the
//! watch of them and the words for what is wrong; that nobody is launched meanwhile is the planner's.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Cluster;
use super::watch::waiting_everywhere;
use crate::install::admission::Guarded;

/// The policies that must stand, and whether they do. Without any to look for, nothing is claimed of them.
#[derive(Clone, Default)]
pub struct Guard(Option<Arc<Inner>>);

struct Inner {
    wanted: Vec<Guarded>,
    standing: watch::Sender<Standing>,
}

/// What is known of the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    NotLookedAt,
    AsInstalled,
    /// This is wrong with them.
    Otherwise(String),
}

/// How long the work waits at its beginning for a first look at the policies.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// How long until both kinds are listed anew, after one could not be read.
const AGAIN: Duration = Duration::from_secs(5);

/// A change of what was seen.
enum Seen {
    Policies,
    Bindings,
    /// One of the two kinds cannot be read.
    Trouble(String),
}

impl Guard {
    /// Looks for these policies. Until they were seen, they count as missing.
    pub fn of(wanted: Vec<Guarded>) -> Self {
        Self(Some(Arc::new(Inner { wanted, standing: watch::Sender::new(Standing::NotLookedAt) })))
    }

    /// Waits a moment for the first look, so that those who wait already are not told to wait for it.
    pub async fn looked_at(&self) {
        let Some(inner) = &self.0 else { return };
        let mut standing = inner.standing.subscribe();
        let _ = tokio::time::timeout(FIRST_LOOK, standing.wait_for(|it| *it != Standing::NotLookedAt)).await;
    }

    /// Why nobody may be launched, if so.
    pub fn trouble(&self) -> Option<String> {
        match &*self.0.as_ref()?.standing.borrow() {
            Standing::NotLookedAt => Some("they were not looked at yet".to_owned()),
            Standing::AsInstalled => None,
            Standing::Otherwise(why) => Some(why.clone()),
        }
    }
}

/// Watches the policies that `cluster` is to be guarded by until the process ends; without any, does nothing until then.
pub async fn run(cluster: Cluster) {
    let Some(inner) = &cluster.guard.0 else { return std::future::pending().await };
    cluster.metrics.guarded(false);
    loop {
        let why = look(&cluster, inner).await;
        // What was seen before is no evidence any more: both are listed before it counts again.
        inner.stand(&cluster, Standing::Otherwise(why));
        tokio::time::sleep(AGAIN).await;
    }
}

/// Watches until one of the two kinds cannot be read; why.
async fn look(cluster: &Cluster, inner: &Inner) -> String {
    let (policies, policy_events) = watched::<ValidatingAdmissionPolicy>(&cluster.client, || Seen::Policies);
    let (bindings, binding_events) = watched::<ValidatingAdmissionPolicyBinding>(&cluster.client, || Seen::Bindings);
    let events = futures::stream::select(policy_events, binding_events);
    pin_mut!(events);
    let mut listed = (false, false);
    while let Some(seen) = events.next().await {
        match seen {
            Seen::Policies => listed.0 = true,
            Seen::Bindings => listed.1 = true,
            Seen::Trouble(why) => return why,
        }
        if listed == (true, true) {
            let wrong = wrong(&inner.wanted, &policies, &bindings);
            inner.stand(cluster, wrong.map_or(Standing::AsInstalled, Standing::Otherwise));
        }
    }
    "their watch ended".to_owned()
}

impl Inner {
    /// Takes in how the policies stand; where that is news, it is told, and all who wait are looked at again.
    fn stand(&self, cluster: &Cluster, standing: Standing) {
        if self.standing.send_replace(standing.clone()) == standing {
            return;
        }
        match &standing {
            Standing::Otherwise(why) => tracing::error!(why, "nobody is launched: the admission policies do not stand"),
            _ => tracing::info!("the admission policies stand as installed"),
        }
        cluster.metrics.guarded(standing == Standing::AsInstalled);
        waiting_everywhere(cluster);
    }
}

/// A store of a kind and the events after which it is worth a look.
fn watched<K>(client: &Client, seen: fn() -> Seen) -> (Store<K>, impl futures::Stream<Item = Seen>)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let events = reflector::reflector(writer, watcher(Api::<K>::all(client.clone()), watcher::Config::default()));
    let events = events.default_backoff().filter_map(move |event| {
        let seen = match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => Some(seen()),
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            // What was never seen, or may not be seen any more, is no evidence. A connection that is cut is taken up again.
            Err(watcher::Error::InitialListFailed(error)) => Some(Seen::Trouble(unread::<K>(&error))),
            Err(watcher::Error::WatchStartFailed(error)) if is_refused(&error) => {
                Some(Seen::Trouble(unread::<K>(&error)))
            }
            Err(_) => None,
        };
        std::future::ready(seen)
    });
    (store, events)
}

fn unread<K: Resource<DynamicType = ()>>(error: &kube::Error) -> String {
    format!("{} cannot be read: {error}", K::plural(&()))
}

/// Whether the API server does not let us, or does not know us.
fn is_refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [401, 403].contains(&status.code))
}

/// What is wrong with what stands, if anything.
fn wrong(
    wanted: &[Guarded],
    policies: &Store<ValidatingAdmissionPolicy>,
    bindings: &Store<ValidatingAdmissionPolicyBinding>,
) -> Option<String> {
    wanted.iter().find_map(|Guarded { policy, binding }| {
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        let stands = policies.get(&ObjectRef::new(name));
        let bound = bindings.get(&ObjectRef::new(name));
        let judge = |kind: &str, is: Option<bool>| match is {
            None => Some(format!("the {kind} {name} is missing")),
            Some(false) => Some(format!("the {kind} {name} is not as it was installed")),
            Some(true) => None,
        };
        judge("ValidatingAdmissionPolicy", stands.map(|it| it.spec == policy.spec))
            .or_else(|| judge("ValidatingAdmissionPolicyBinding", bound.map(|it| denies_alike(&it, binding))))
    })
}

/// Whether a binding denies wherever the other does. It may audit and warn besides: to add that is no weakening, and a list
/// that several write is merged.
fn denies_alike(stands: &ValidatingAdmissionPolicyBinding, wanted: &ValidatingAdmissionPolicyBinding) -> bool {
    let (Some(mut stands), Some(wanted)) = (stands.spec.clone(), &wanted.spec) else { return false };
    let denies = stands.validation_actions.iter().flatten().any(|action| action == "Deny");
    stands.validation_actions.clone_from(&wanted.validation_actions);
    denies && stands == *wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn binding(spec: Value) -> ValidatingAdmissionPolicyBinding {
        serde_json::from_value(json!({ "metadata": { "name": "b" }, "spec": spec })).unwrap()
    }

    #[test]
    fn a_binding_that_denies_less_is_not_the_one_that_was_installed() {
        let wanted = binding(json!({ "policyName": "p", "validationActions": ["Deny"] }));
        for (spec, alike) in [
            (json!({ "policyName": "p", "validationActions": ["Deny"] }), true),
            (json!({ "policyName": "p", "validationActions": ["Audit", "Deny"] }), true),
            (json!({ "policyName": "p", "validationActions": ["Audit"] }), false),
            (json!({ "policyName": "q", "validationActions": ["Deny"] }), false),
            (
                json!({ "policyName": "p", "validationActions": ["Deny"], "matchResources": { "excludeResourceRules": [] } }),
                false,
            ),
        ] {
            assert_eq!(denies_alike(&binding(spec.clone()), &wanted), alike, "{spec}");
        }
    }
}
