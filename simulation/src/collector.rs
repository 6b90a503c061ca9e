//! The garbage collector and the end of namespaces: what is owned by nothing any more goes, and a namespace goes with all
//! that is in it. Owns when; what a deletion is, is the API server's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::actor::{Agenda, Hands, path, wait};
use crate::apiserver::kinds::Kind;
use crate::apiserver::meta::{finalizers, is_going, text};
use crate::apiserver::verbs::delete::{FOREGROUND, ORPHAN};
use crate::{ApiServer, Dice};

/// The collector of a cluster.
pub struct Collector {
    server: ApiServer,
    dice: Dice,
    hands: Hands,
}

/// An object with its kind.
type Found = (Arc<Kind>, Arc<Value>);

/// One thing to do.
enum Task {
    /// Delete this, whose owners are gone or going.
    Delete(Found, &'static str),
    /// Take an owner from this.
    Disown(Found, String),
    /// Take this finalizer: what it held for is done.
    Release(Found, &'static str),
    /// The namespace is empty.
    Finalize(Arc<Value>),
}

impl Collector {
    /// The collector of this cluster.
    pub fn new(server: &ApiServer, dice: &Dice) -> Self {
        Self { server: server.clone(), dice: dice.fork("collector"), hands: Hands::new(server, "collector") }
    }

    /// Does its work for ever.
    pub async fn run(self) {
        let mut agenda = Agenda::default();
        loop {
            let seen = self.server.revision();
            let tasks = self.tasks();
            for (name, task) in &tasks {
                if agenda.is_due(name, || self.dice.time(&(Duration::from_millis(5)..=Duration::from_millis(2000)))) {
                    self.execute(task).await;
                    agenda.tried(name);
                }
            }
            let next = agenda.keep(|name| tasks.contains_key(name));
            // What is written all the time owns nothing and is owned by nobody.
            wait(&self.server, seen, next, |it| !matches!(it, "events.events.k8s.io" | "leases.coordination.k8s.io"))
                .await;
        }
    }

    fn all(&self) -> Vec<Found> {
        let mut kinds = Vec::new();
        self.server.kinds(|served| kinds.extend(served.all().cloned()));
        let objects = |kind: Arc<Kind>| {
            let found = self.server.objects(&kind.resource());
            found.into_iter().map(move |object| (Arc::clone(&kind), object)).collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(objects).collect()
    }

    fn tasks(&self) -> BTreeMap<String, Task> {
        let all = self.all();
        let by_uid: BTreeMap<&str, &Found> = all.iter().map(|found| (text(&found.1, "/metadata/uid"), found)).collect();
        let mut tasks = BTreeMap::new();
        let mut add = |what: &str, found: &Found, task| {
            tasks.insert(format!("{what} {}", text(&found.1, "/metadata/uid")), task);
        };
        for found in &all {
            let (kind, object) = found;
            let holds = |finalizer: &str| is_going(object) && finalizers(object).iter().any(|name| name == finalizer);
            let uid = text(object, "/metadata/uid");
            let dependents = || all.iter().filter(move |(_, it)| owners(it).any(|owner| owner["uid"] == uid));
            if holds(ORPHAN) {
                match dependents().next() {
                    Some(dependent) => add("disown", dependent, Task::Disown(dependent.clone(), uid.to_owned())),
                    None => add("release", found, Task::Release(found.clone(), ORPHAN)),
                }
            }
            if holds(FOREGROUND) {
                let blocks = |(_, it): &&Found| {
                    owners(it).any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
                };
                if dependents().filter(blocks).count() == 0 {
                    add("release", found, Task::Release(found.clone(), FOREGROUND));
                }
            }
            let solid = |owner: &Value| {
                by_uid.get(text(owner, "/uid")).filter(|(_, owner)| {
                    owner["metadata"]["namespace"] == object["metadata"]["namespace"]
                        || text(owner, "/metadata/namespace").is_empty()
                })
            };
            if owners(object).next().is_some() && !is_going(object) {
                let stands: Vec<&Found> = owners(object).filter_map(|owner| solid(owner).copied()).collect();
                let waiting =
                    |(_, owner): &&Found| is_going(owner) && finalizers(owner).iter().any(|name| name == FOREGROUND);
                if stands.is_empty() {
                    add("delete", found, Task::Delete(found.clone(), "Background"));
                } else if stands.iter().all(waiting) {
                    add("delete", found, Task::Delete(found.clone(), "Foreground"));
                }
            }
            if kind.kind == "Namespace" && is_going(object) {
                let name = text(object, "/metadata/name");
                let mut inside = all.iter().filter(|(_, it)| text(it, "/metadata/namespace") == name).peekable();
                if inside.peek().is_none() {
                    add("finalize", found, Task::Finalize(Arc::clone(object)));
                }
                for found in inside.filter(|(_, it)| !is_going(it)) {
                    add("delete", found, Task::Delete(found.clone(), "Background"));
                }
            }
        }
        tasks
    }

    async fn execute(&self, task: &Task) {
        let at = |(kind, object): &Found| {
            let root = if kind.group.is_empty() {
                "/api/v1".to_owned()
            } else {
                format!("/apis/{}/{}", kind.group, kind.version)
            };
            path(&root, &kind.plural, object)
        };
        let same = |object: &Value| json!({"uid": object["metadata"]["uid"], "resourceVersion": object["metadata"]["resourceVersion"]});
        match task {
            Task::Delete(found, how) => {
                let uid = &found.1["metadata"]["uid"];
                let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": how, "preconditions": {"uid": uid}});
                self.hands.delete(&at(found), &options).await;
            }
            Task::Disown(found, uid) => {
                let rest: Vec<&Value> = owners(&found.1).filter(|owner| owner["uid"] != uid.as_str()).collect();
                let mut metadata = same(&found.1);
                metadata["ownerReferences"] = json!(rest);
                self.hands.merge(&at(found), &json!({ "metadata": metadata })).await;
            }
            Task::Release(found, finalizer) => {
                let rest: Vec<String> = finalizers(&found.1).into_iter().filter(|name| name != finalizer).collect();
                let mut metadata = same(&found.1);
                metadata["finalizers"] = json!(rest);
                self.hands.merge(&at(found), &json!({ "metadata": metadata })).await;
            }
            Task::Finalize(namespace) => {
                let mut empty = Value::clone(namespace);
                empty["spec"]["finalizers"] = json!([]);
                let at = path("/api/v1", "namespaces", namespace);
                self.hands.put(&format!("{at}/finalize"), &empty).await;
            }
        }
    }
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}
