//! A kubelet: what becomes of pods on a node. Owns the order and the times of a pod's life; how a status is written is
//! in `status`.

mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::actor::{AGAIN, Hands, is_settled, path, wait};
use crate::apiserver::meta::{is_going, number, text};
use crate::{ApiServer, Dice};
use status::Act;

/// What is to become of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It runs, is ready, and stops in its grace when it is deleted.
    Well,
    /// It runs and is never ready.
    NeverReady,
    /// Its image cannot be pulled.
    NoImage,
    /// A container exits so long after the start: it is started again, or the pod has failed, as its policy says.
    Exits {
        /// After the start.
        after: Duration,
        /// With this code.
        code: i32,
    },
    /// The kubelet evicts it so long after the start.
    Evicted {
        /// After the start.
        after: Duration,
    },
    /// Its node falls silent so long after it was seen: nothing of it changes any more, and a deletion is not confirmed.
    Silent {
        /// After the pod was seen.
        after: Duration,
    },
}

/// Says of a pod, when it is first seen, what is to become of it. The dice are the pod's own.
pub type Plans = Arc<dyn Fn(&Value, &Dice) -> Plan + Send + Sync>;

/// How long things take.
#[derive(Clone, Debug)]
pub struct Times {
    /// Until the kubelet has seen a pod.
    pub see: RangeInclusive<Duration>,
    /// Until its containers run.
    pub start: RangeInclusive<Duration>,
    /// Until they are ready.
    pub ready: RangeInclusive<Duration>,
    /// Until they have stopped; the grace bounds it.
    pub stop: RangeInclusive<Duration>,
}

impl Default for Times {
    fn default() -> Self {
        let range = |low, high| Duration::from_millis(low)..=Duration::from_millis(high);
        Self { see: range(1, 200), start: range(100, 4000), ready: range(50, 3000), stop: range(10, 4000) }
    }
}

/// A kubelet.
pub struct Kubelet {
    server: ApiServer,
    dice: Dice,
    node: String,
    hands: Hands,
    times: Times,
    plans: Plans,
    lives: BTreeMap<String, Life>,
    addresses: u32,
}

/// What is yet to become of a pod.
struct Life {
    dice: Dice,
    acts: VecDeque<(Instant, Act)>,
    silent: Option<Instant>,
    ip: String,
    stopping: bool,
}

impl Kubelet {
    /// The kubelet of a node, by whose plans all is well.
    pub fn new(server: &ApiServer, dice: &Dice, node: &str) -> Self {
        Self {
            server: server.clone(),
            dice: dice.fork(&format!("kubelet {node}")),
            node: node.to_owned(),
            hands: Hands::new(server, &format!("kubelet-{node}")),
            times: Times::default(),
            plans: Arc::new(|_, _| Plan::Well),
            lives: BTreeMap::new(),
            addresses: 1,
        }
    }

    /// With these plans.
    pub fn plans(self, plans: impl Fn(&Value, &Dice) -> Plan + Send + Sync + 'static) -> Self {
        Self { plans: Arc::new(plans), ..self }
    }

    /// With these times.
    pub fn times(self, times: Times) -> Self {
        Self { times, ..self }
    }

    /// Does its work for ever.
    pub async fn run(mut self) {
        loop {
            let seen = self.server.revision();
            let pods = self.server.objects("pods");
            let mine: Vec<&Arc<Value>> = pods.iter().filter(|pod| text(pod, "/spec/nodeName") == self.node).collect();
            let uids: BTreeSet<&str> = mine.iter().map(|pod| text(pod, "/metadata/uid")).collect();
            self.lives.retain(|uid, _| uids.contains(uid.as_str()));
            for pod in mine {
                self.attend(pod).await;
            }
            let next = self.lives.values().filter_map(Life::next).min();
            wait(&self.server, seen, next, |it| it == "pods").await;
        }
    }

    /// Does what is due about a pod.
    async fn attend(&mut self, pod: &Value) {
        let uid = text(pod, "/metadata/uid").to_owned();
        if !self.lives.contains_key(&uid) {
            let life = self.begin(pod);
            self.lives.insert(uid.clone(), life);
        }
        let Some(life) = self.lives.get_mut(&uid) else { return };
        let now = Instant::now();
        if life.silent.is_some_and(|silent| silent <= now) {
            life.acts.clear();
            return;
        }
        if is_going(pod) && !life.stopping {
            life.stopping = true;
            let grace = u64::try_from(number(pod, "/metadata/deletionGracePeriodSeconds").unwrap_or_default());
            let grace = Duration::from_secs(grace.unwrap_or_default());
            let stop = now + life.dice.time(&self.times.stop).min(grace);
            life.acts = VecDeque::from([(stop, Act::Stop), (stop, Act::Confirm)]);
        }
        while let Some((_, act)) = life.acts.front().filter(|(due, _)| *due <= Instant::now()).cloned() {
            let code = match act {
                Act::Confirm => {
                    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
                    self.hands.delete(&path("/api/v1", "pods", pod), &options).await
                }
                _ => {
                    // The newest, so that what others wrote stays.
                    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
                    let Some(newest) = self.server.object("pods", namespace, name) else { return };
                    let time = self.server.clock().now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                    let patch = status::patch(&newest, &uid, act, &life.ip, &time);
                    self.hands.merge(&format!("{}/status", path("/api/v1", "pods", pod)), &patch).await
                }
            };
            if is_settled(code) {
                life.acts.pop_front();
            } else if let Some(first) = life.acts.front_mut() {
                first.0 = Instant::now() + AGAIN;
            }
        }
    }

    /// What is to become of a pod that is seen for the first time.
    fn begin(&mut self, pod: &Value) -> Life {
        let dice = self.dice.fork(text(pod, "/metadata/uid"));
        let plan = (self.plans)(pod, &dice);
        let seen = Instant::now() + dice.time(&self.times.see);
        let start = seen + dice.time(&self.times.start);
        let ready = start + dice.time(&self.times.ready);
        let mut acts = VecDeque::from([(seen, Act::Admit)]);
        let mut silent = None;
        match plan {
            Plan::NoImage => acts.extend([
                (start, Act::Wait("ErrImagePull", "failed to pull and unpack image: not found")),
                (ready, Act::Wait("ImagePullBackOff", "Back-off pulling image")),
            ]),
            Plan::NeverReady => acts.push_back((start, Act::Run)),
            _ => acts.extend([(start, Act::Run), (ready, Act::Ready)]),
        }
        match plan {
            Plan::Exits { after, code } if text(pod, "/spec/restartPolicy") == "Always" => {
                acts.push_back((start + after, Act::Restart(code)));
                acts.push_back((start + after + dice.time(&self.times.ready), Act::Ready));
            }
            Plan::Exits { after, code } => acts.push_back((start + after, Act::Exit(code))),
            Plan::Evicted { after } => acts.push_back((start + after, Act::Evict)),
            Plan::Silent { after } => silent = Some(seen + after),
            _ => {}
        }
        // An end that comes before it was ready.
        acts.make_contiguous().sort_by_key(|(due, _)| *due);
        if let Some(end) = acts.iter().position(|(_, act)| matches!(act, Act::Exit(_) | Act::Evict)) {
            acts.truncate(end + 1);
        }
        self.addresses += 1;
        let ip = format!("10.244.{}.{}", self.addresses / 256, self.addresses % 256);
        Life { dice, acts, silent, ip, stopping: false }
    }
}

impl Life {
    fn next(&self) -> Option<Instant> {
        self.acts.front().map(|(due, _)| *due)
    }
}
