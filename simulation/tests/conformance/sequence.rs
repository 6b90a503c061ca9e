//! Sequences of requests: how a seed becomes one, and how it is run on one side. Owns what is remembered between
//! requests; the objects are `objects`'.

use std::collections::BTreeMap;

use berth_simulation::Dice;
use serde_json::{Value, json};

use crate::normal::Names;
use crate::objects::{KINDS, Kind, metadata};
use crate::side::{Ask, Frames, Side, events};

/// One request, without what only its side knows.
#[derive(Clone, Debug)]
pub enum Step {
    Create {
        kind: Kind,
        name: &'static str,
        change: Value,
        dry: bool,
        strict: bool,
    },
    Get {
        kind: Kind,
        name: &'static str,
        metadata_only: bool,
    },
    List {
        kind: Kind,
        query: &'static str,
        metadata_only: bool,
    },
    Pages {
        kind: Kind,
    },
    Put {
        kind: Kind,
        name: &'static str,
        change: Value,
        version: Version,
        uid: Uid,
        status: bool,
    },
    Patch {
        kind: Kind,
        name: &'static str,
        change: Value,
        version: Version,
        uid: Uid,
        status: bool,
        metadata_only: bool,
        dry: bool,
    },
    Delete {
        kind: Kind,
        name: &'static str,
        version: Version,
        uid: Uid,
        how: Option<&'static str>,
        grace: Option<i64>,
        dry: bool,
    },
    Watch {
        kind: Kind,
        from: From,
        query: &'static str,
        metadata_only: bool,
    },
}

/// Which resource version goes with a request.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    None,
    Newest,
    Older,
}

/// Which uid goes with a request.
#[derive(Clone, Copy, Debug)]
pub enum Uid {
    None,
    Right,
    Wrong,
}

/// From where a watch begins.
#[derive(Clone, Copy, Debug)]
pub enum From {
    Unset,
    Zero,
    List,
    Initial,
    InitialOff,
    Wrongly,
}

const NAMES: [&str; 2] = ["a", "b"];
const QUERIES: [&str; 5] = ["", ",color=red", ",color!=red", ",color in (red,blue)", ",!color"];

/// Who else writes to what is compared.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Berth's operator: Sessions and Workspaces are then only tried.
    pub operator: bool,
    /// Kubernetes' controllers: claims are then only tried.
    pub controllers: bool,
}

/// The sequence of these dice.
pub fn steps(dice: &Dice, others: Others) -> Vec<Step> {
    let Some(kind) = dice.pick(&KINDS).copied() else { return Vec::new() };
    let tries = (kind.is_reconciled() && others.operator) || (kind == Kind::Claim && others.controllers);
    let count = 4 + dice.below(14);
    (0..count).map(|_| if tries { create(dice, kind, true) } else { step(dice, kind) }).collect()
}

fn step(dice: &Dice, kind: Kind) -> Step {
    let name = dice.pick(&NAMES).copied().unwrap_or_default();
    let metadata_only = dice.chance(20);
    let query = dice.pick(&QUERIES).copied().unwrap_or_default();
    let version = |dice: &Dice| *dice.pick(&[Version::None, Version::Newest, Version::Newest, Version::Older]).unwrap();
    let uid = |dice: &Dice| *dice.pick(&[Uid::None, Uid::None, Uid::Right, Uid::Wrong]).unwrap();
    let status = |dice: &Dice| kind.has_status() && dice.chance(40);
    let change = |dice: &Dice, status: bool| match dice.below(3) {
        0 if status => dice.pick(&metadata()).cloned(),
        _ if status => dice.pick(&kind.statuses()).cloned(),
        0 => dice.pick(&kind.changes()).cloned(),
        1 => dice.pick(&kind.changes()[..2]).cloned(),
        _ => dice.pick(&metadata()).cloned(),
    };
    match dice.below(20) {
        0..=4 => create(dice, kind, false),
        5 => Step::Get { kind, name, metadata_only },
        6 => Step::List { kind, query, metadata_only },
        7 => Step::Pages { kind },
        8..=9 => {
            let status = status(dice);
            Step::Put {
                kind,
                name,
                change: change(dice, status).unwrap(),
                version: version(dice),
                uid: uid(dice),
                status,
            }
        }
        10..=14 => {
            let status = status(dice);
            let change = change(dice, status).unwrap();
            Step::Patch {
                kind,
                name,
                change,
                version: version(dice),
                uid: uid(dice),
                status,
                metadata_only,
                dry: dice.chance(10),
            }
        }
        15..=17 => {
            // A real collector would do the rest of the other two at its own time.
            let how = if dice.chance(50) { Some("Background") } else { None };
            let grace = if dice.chance(30) { Some(i64::try_from(dice.below(3)).unwrap()) } else { None };
            Step::Delete { kind, name, version: version(dice), uid: uid(dice), how, grace, dry: dice.chance(15) }
        }
        _ => {
            let froms =
                [From::Unset, From::Zero, From::List, From::List, From::Initial, From::InitialOff, From::Wrongly];
            Step::Watch { kind, from: *dice.pick(&froms).unwrap(), query, metadata_only }
        }
    }
}

fn create(dice: &Dice, kind: Kind, dry: bool) -> Step {
    let name = dice.pick(&NAMES).copied().unwrap_or_default();
    let change = match dice.below(6) {
        0 | 1 => dice.pick(&kind.changes()).cloned(),
        2 => dice.pick(&metadata()).cloned(),
        3 => dice.pick(&kind.statuses()).cloned(),
        _ => None,
    };
    Step::Create {
        kind,
        name,
        change: change.unwrap_or(json!({})),
        dry: dry || dice.chance(10),
        strict: dice.chance(15),
    }
}

/// What one side remembers.
struct Memory<'a> {
    side: &'a Side,
    label: &'a str,
    names: Names,
    /// By path: the versions that it had, and its uid.
    known: BTreeMap<String, (Vec<String>, String)>,
    root: String,
    watches: Vec<(Kind, Frames)>,
    lists: BTreeMap<String, String>,
}

/// Runs a sequence; what came back, comparable.
pub async fn run(side: &Side, label: &str, steps: &[Step]) -> Vec<Value> {
    let root = ask("GET", format!("/api/v1/namespaces/{}/configmaps/root", side.namespace), None);
    let (_, root) = side.send(root).await;
    let root = root["metadata"]["uid"].as_str().unwrap().to_owned();
    let mut memory = Memory {
        side,
        label,
        names: Names::default(),
        known: BTreeMap::new(),
        root,
        watches: Vec::new(),
        lists: BTreeMap::new(),
    };
    let mut answers = Vec::new();
    for step in steps {
        let answer = memory.step(step).await;
        answers.push(answer);
    }
    answers.extend(memory.finish().await);
    answers
}

fn ask(method: &'static str, path: String, body: Option<Value>) -> Ask {
    Ask { method, path, type_: "application/json", metadata_only: false, body }
}

/// Waits until the watch cache has all that was written of the objects that `list` asks for: a watch that names no version, or 0,
/// begins with what the cache has, and a real one may be a few writes behind.
async fn caught_up(side: &Side, list: &str) {
    let (_, listed) = side.send(ask("GET", list.to_owned(), None)).await;
    let Some(version) = listed["metadata"]["resourceVersion"].as_str() else { return };
    let cached = format!("{list}&resourceVersion={version}&resourceVersionMatch=NotOlderThan");
    let (code, answer) = side.send(ask("GET", cached, None)).await;
    assert_eq!(code, 200, "{answer}");
}

impl Memory<'_> {
    fn path(&self, kind: Kind, name: &str) -> String {
        format!("{}/{}-{name}", kind.path(&self.side.namespace), self.label)
    }

    /// The object of a step: the good one, changed, under its name and label.
    fn object(&self, kind: Kind, name: &str, change: &Value) -> Value {
        let mut object = kind.good();
        json_patch::merge(&mut object, &self.owned(change));
        let own = json!({"metadata": {"name": format!("{}-{name}", self.label), "labels": {"run": self.label}}});
        json_patch::merge(&mut object, &own);
        object
    }

    fn owned(&self, change: &Value) -> Value {
        serde_json::from_str(&change.to_string().replace("UID OF ROOT", &self.root)).unwrap()
    }

    fn selector(&self, query: &str) -> String {
        let text = format!("run={}{query}", self.label);
        text.replace('=', "%3D").replace(',', "%2C").replace(' ', "%20").replace('!', "%21")
    }

    /// The version and the uid that go with a request about this object.
    fn conditions(&self, path: &str, version: Version, uid: Uid) -> (Option<String>, Option<String>) {
        let known = self.known.get(path);
        let version = known.and_then(|(versions, _)| match version {
            Version::None => None,
            Version::Newest => versions.last().cloned(),
            Version::Older => versions.first().cloned(),
        });
        let uid = match uid {
            Uid::None => None,
            Uid::Right => known.map(|(_, uid)| uid.clone()),
            Uid::Wrong => Some("00000000-0000-4000-8000-000000000000".to_owned()),
        };
        (version, uid)
    }

    async fn send(&mut self, ask: Ask, object: Option<&str>) -> Value {
        let (code, body) = self.side.send(ask).await;
        if let (Some(path), Some(version), Some(uid)) =
            (object, body["metadata"]["resourceVersion"].as_str(), body["metadata"]["uid"].as_str())
        {
            let known = self.known.entry(path.to_owned()).or_default();
            if known.1 != uid {
                *known = (Vec::new(), uid.to_owned());
            }
            if known.0.last().map(String::as_str) != Some(version) {
                known.0.push(version.to_owned());
            }
        }
        self.names.answer(code, &body)
    }

    async fn step(&mut self, step: &Step) -> Value {
        match step {
            Step::Create { kind, name, change, dry, strict } => {
                let query = format!(
                    "?{}{}",
                    if *dry { "dryRun=All&" } else { "" },
                    if *strict { "fieldValidation=Strict" } else { "fieldValidation=Ignore" }
                );
                let body = self.object(*kind, name, change);
                let object = self.path(*kind, name);
                let path = kind.path(&self.side.namespace) + &query;
                self.send(ask("POST", path, Some(body)), (!dry).then_some(&object)).await
            }
            Step::Get { kind, name, metadata_only } => {
                let path = self.path(*kind, name);
                self.send(Ask { metadata_only: *metadata_only, ..ask("GET", path.clone(), None) }, Some(&path)).await
            }
            Step::List { kind, query, metadata_only } => {
                let path = format!("{}?labelSelector={}", kind.path(&self.side.namespace), self.selector(query));
                self.send(Ask { metadata_only: *metadata_only, ..ask("GET", path, None) }, None).await
            }
            Step::Pages { kind } => {
                let path = format!("{}?limit=1&labelSelector={}", kind.path(&self.side.namespace), self.selector(""));
                // Where a page ends depends on what others have there; the pages together do not.
                let (mut items, mut token) = (Vec::new(), String::new());
                loop {
                    let escaped = token.replace('=', "%3D").replace('/', "%2F");
                    let (code, mut page) = self.side.send(ask("GET", format!("{path}&continue={escaped}"), None)).await;
                    assert_eq!(code, 200, "{page}");
                    token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
                    items.extend(page["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
                    if token.is_empty() {
                        return self.names.answer(200, &json!({"kind": "List", "items": items}));
                    }
                }
            }
            Step::Put { kind, name, change, version, uid, status } => {
                let path = self.path(*kind, name);
                let (version, uid) = self.conditions(&path, *version, *uid);
                let mut body = self.object(*kind, name, change);
                json_patch::merge(&mut body, &json!({"metadata": {"resourceVersion": version, "uid": uid}}));
                let target = if *status { format!("{path}/status") } else { path.clone() };
                self.send(ask("PUT", target, Some(body)), Some(&path)).await
            }
            Step::Patch { kind, name, change, version, uid, status, metadata_only, dry } => {
                let path = self.path(*kind, name);
                let (version, uid) = self.conditions(&path, *version, *uid);
                let mut body = self.owned(change);
                for (field, value) in [("resourceVersion", version), ("uid", uid)] {
                    if let Some(value) = value {
                        body["metadata"][field] = json!(value);
                    }
                }
                let target =
                    format!("{path}{}{}", if *status { "/status" } else { "" }, if *dry { "?dryRun=All" } else { "" });
                let ask = Ask {
                    type_: "application/merge-patch+json",
                    metadata_only: *metadata_only,
                    ..ask("PATCH", target, Some(body))
                };
                self.send(ask, (!dry).then_some(&path)).await
            }
            Step::Delete { kind, name, version, uid, how, grace, dry } => {
                let path = self.path(*kind, name);
                let (version, uid) = self.conditions(&path, *version, *uid);
                let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {}});
                json_patch::merge(
                    &mut options,
                    &json!({"propagationPolicy": how, "gracePeriodSeconds": grace, "preconditions": {"resourceVersion": version, "uid": uid}}),
                );
                if *dry {
                    options["dryRun"] = json!(["All"]);
                }
                self.send(ask("DELETE", path.clone(), Some(options)), (!dry).then_some(&path)).await
            }
            Step::Watch { kind, from, query, metadata_only } => self.watch(*kind, *from, query, *metadata_only).await,
        }
    }

    async fn watch(&mut self, kind: Kind, from: From, query: &str, metadata_only: bool) -> Value {
        let base = format!("{}?labelSelector={}", kind.path(&self.side.namespace), self.selector(query));
        if matches!(from, From::Unset | From::Zero) {
            caught_up(self.side, &base).await;
        }
        let from = match from {
            From::Unset => String::new(),
            From::Zero => "&resourceVersion=0".to_owned(),
            From::Initial => {
                "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true".to_owned()
            }
            From::InitialOff => "&sendInitialEvents=false&resourceVersionMatch=NotOlderThan".to_owned(),
            From::Wrongly => "&resourceVersionMatch=NotOlderThan".to_owned(),
            From::List => {
                // From the first list of this sequence on, so that there is something to tell.
                if !self.lists.contains_key(&base) {
                    let (_, list) = self.side.send(ask("GET", base.clone(), None)).await;
                    self.lists.insert(
                        base.clone(),
                        list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
                    );
                }
                format!("&resourceVersion={}", self.lists[&base])
            }
        };
        let ask = Ask { metadata_only, ..ask("GET", format!("{base}{from}&watch=true&timeoutSeconds=60"), None) };
        let (code, frames) = self.side.open(ask).await;
        if code != 200 {
            let bytes: Vec<bytes::Bytes> = futures::StreamExt::collect(frames).await;
            let body = serde_json::from_slice(&bytes.concat()).unwrap_or_default();
            return self.names.answer(code, &body);
        }
        self.watches.push((kind, frames));
        json!(code)
    }

    /// Makes a last object of each kind that is watched, and reads each watch up to it; then tidies up.
    async fn finish(mut self) -> Vec<Value> {
        let mut answers = Vec::new();
        let last = format!("{}-last", self.label);
        for (kind, frames) in std::mem::take(&mut self.watches) {
            let path = kind.path(&self.side.namespace);
            // Every selector takes one of these.
            for color in [json!("red"), Value::Null] {
                let mut body = self.object(kind, "last", &json!({}));
                json_patch::merge(
                    &mut body,
                    &json!({"metadata": {"name": format!("{last}{}", if color.is_null() { "-plain" } else { "" }), "labels": {"color": color}}}),
                );
                self.side.send(ask("POST", path.clone(), Some(body))).await;
            }
            let seen = events(frames, |event| {
                event["object"]["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(&last))
            })
            .await;
            // Other bookmarks come when they come.
            let told =
                |event: &&Value| event["type"] != "BOOKMARK" || event.pointer("/object/metadata/annotations").is_some();
            answers.push(seen.iter().filter(told).map(|event| self.names.answer(0, event)).collect());
        }
        answers
    }
}
