//! The body of the fuzz target about what watches bring: objects in any order of lists, events and our own writes, some
//! of which cannot be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::pod::Pod;
use arbitrary::{Error, Result, Unstructured};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::{Refused, read};
use crate::api::SESSION_UID_LABEL;
use crate::cluster::cache::{Cache, Scope, Stores};

/// The one watch there is: of the whole cluster.
const SCOPE: Scope = None;

/// Once a watch has brought all that happened, the cache has what stands and nothing else: what can be read as it is,
/// and what cannot be as neither gone nor there.
///
/// # Panics
/// When it does not.
pub fn watches(data: &[u8]) {
    // Bytes that tell of nothing say nothing.
    let _ = history(&mut Unstructured::new(data));
}

/// An object as it stands.
#[derive(Clone, Debug, PartialEq)]
struct Standing {
    uid: String,
    version: u64,
    of: String,
    is_readable: bool,
}

impl Standing {
    fn object(&self, name: &str) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "n", "uid": self.uid, "resourceVersion": self.version.to_string(),
                "labels": {SESSION_UID_LABEL: self.of}},
        });
        if !self.is_readable {
            pod["spec"] = json!("what a newer version writes");
        }
        pod
    }
}

/// What happened at the API server and is not told yet.
enum Told {
    Stands(String, Standing),
    Gone(String, Standing),
}

/// An API server with one kind of objects, and a cache that is told of them.
#[derive(Default)]
struct Server {
    stands: BTreeMap<String, Standing>,
    version: u64,
    made: u64,
    untold: Vec<Told>,
}

fn history(bytes: &mut Unstructured<'_>) -> Result<()> {
    let cache = Stores::default().pods;
    let mut server = Server::default();
    list(&server, &cache, None)?;
    for _ in 0..40 {
        if bytes.is_empty() {
            break;
        }
        let name = (*bytes.choose(&["a", "b", "c"])?).to_owned();
        match bytes.int_in_range(0u8..=8)? {
            0..=2 => {
                let written = server.write(&name, bytes.ratio(2u8, 3u8)?, bytes.choose(&["s", "t"])?);
                // What can be read may have been our own write, whose answer may come before the event or after.
                if written.is_readable && bytes.ratio(1u8, 2u8)? {
                    cache.own(pod(&written.object(&name))?);
                }
            }
            3 => server.remove(&name),
            4..=6 => {
                let count = bytes.int_in_range(0usize..=server.untold.len().min(4))?;
                let told: Vec<Told> = server.untold.drain(..count).collect();
                told.iter().try_for_each(|told| tell(&cache, told))?;
            }
            7 => {
                server.untold.clear();
                list(&server, &cache, None)?;
            }
            _ => {
                // A write of ours, whose answer comes while the list is under way.
                server.untold.clear();
                list(&server, &cache, Some((&name, bytes.choose(&["s", "t"])?)))?;
                let before = server.stands.get(&name).cloned();
                if before.is_some_and(|before| before.is_readable) {
                    server.write(&name, true, "s");
                }
            }
        }
    }
    let told = std::mem::take(&mut server.untold);
    told.iter().try_for_each(|told| tell(&cache, told))?;
    agrees(&server, &cache);
    Ok(())
}

impl Server {
    fn write(&mut self, name: &str, is_readable: bool, of: &str) -> Standing {
        self.version += 1;
        self.made += 1;
        let uid = self.stands.get(name).map_or_else(|| format!("u{}", self.made), |before| before.uid.clone());
        let standing = Standing { uid, version: self.version, of: of.to_owned(), is_readable };
        self.stands.insert(name.to_owned(), standing.clone());
        self.untold.push(Told::Stands(name.to_owned(), standing.clone()));
        standing
    }

    fn remove(&mut self, name: &str) {
        if let Some(gone) = self.stands.remove(name) {
            self.version += 1;
            self.untold.push(Told::Gone(name.to_owned(), Standing { version: self.version, ..gone }));
        }
    }
}

fn pod(object: &Value) -> Result<Pod> {
    serde_json::from_value(object.clone()).map_err(|_| Error::IncorrectFormat)
}

fn guarded(object: &Value) -> Result<DeserializeGuard<Pod>> {
    let guarded = serde_json::from_value(object.clone());
    assert!(guarded.is_ok(), "one object stops the watch: {object}");
    guarded.map_err(|_| Error::IncorrectFormat)
}

/// Lists everything anew, as a watch does when it begins; an answer to a write of ours may come in between.
fn list(server: &Server, cache: &Cache<Pod>, written: Option<(&str, &str)>) -> Result<()> {
    take(cache, Event::Init);
    for (name, standing) in &server.stands {
        take(cache, Event::InitApply(guarded(&standing.object(name))?));
    }
    if let Some((name, of)) = written
        && let Some(standing) = server.stands.get(name).filter(|standing| standing.is_readable)
    {
        let newer = Standing { version: server.version, of: of.to_owned(), ..standing.clone() };
        cache.own(pod(&newer.object(name))?);
    }
    take(cache, Event::InitDone);
    Ok(())
}

fn tell(cache: &Cache<Pod>, told: &Told) -> Result<()> {
    match told {
        Told::Stands(name, standing) => take(cache, Event::Apply(guarded(&standing.object(name))?)),
        Told::Gone(name, standing) => take(cache, Event::Delete(guarded(&standing.object(name))?)),
    }
    Ok(())
}

/// What the watch does with an event, but for telling anybody.
fn take(cache: &Cache<Pod>, event: Event<DeserializeGuard<Pod>>) {
    match read(event) {
        Ok(event) => drop(cache.take(&SCOPE, &event)),
        Err(Refused { object, gone: false }) => {
            let InvalidObject { metadata, .. } = &*object;
            let again = cache.why_unreadable("n", metadata.name.as_deref().unwrap_or_default()).is_some();
            let taken = cache.take_unreadable(&SCOPE, &object);
            assert!(taken.is_news || again, "nobody is told of {metadata:?}");
        }
        Err(Refused { object, gone: true }) => drop(cache.forget(&object.metadata)),
    }
}

fn agrees(server: &Server, cache: &Cache<Pod>) {
    let known: BTreeMap<String, Arc<Pod>> =
        cache.reader().state().into_iter().map(|pod| (pod.name_any(), pod)).collect();
    for (name, standing) in &server.stands {
        let why = cache.why_unreadable("n", name);
        assert_eq!(why.is_none(), standing.is_readable, "{name}: {standing:?} is unreadable for {why:?}");
        match known.get(name) {
            Some(pod) => {
                assert_eq!(pod.uid().as_ref(), Some(&standing.uid), "another {name} is known");
                let version = pod.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0);
                assert!(
                    !standing.is_readable || version == standing.version,
                    "{name} is known at {version}: {standing:?}"
                );
                let of = pod.labels().get(SESSION_UID_LABEL).cloned().unwrap_or_default();
                assert!(
                    cache.under(&of).iter().any(|found| found.name_any() == *name),
                    "{name} is not found under {of}"
                );
            }
            None => assert!(!standing.is_readable, "{name} stands and is not known: {standing:?}"),
        }
    }
    let left: Vec<&String> = known.keys().filter(|name| !server.stands.contains_key(*name)).collect();
    assert!(left.is_empty(), "{left:?} are known and gone");
    let unreadable = server.stands.values().filter(|standing| !standing.is_readable).count();
    assert_eq!(cache.unreadable_count(), i64::try_from(unreadable).unwrap_or_default());
    assert_eq!(cache.under("s").len() + cache.under("t").len(), known.len(), "the index has others than are known");
}
