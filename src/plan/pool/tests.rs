//! What becomes of a pool, told as sentences, and whatever happens to it.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::plan::schedule;

fn at(second: i64) -> Instant {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap_or_default()
}

fn workspace(warm: Value, more: &Value) -> Arc<Workspace> {
    let mut spec = json!({
        "type": "web", "access": {"protocol": "HTTP", "port": 80}, "maxSessions": 100, "warm": warm,
        "template": {"spec": {"containers": [{"name": "main", "image": "box"}]}},
    });
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        spec[key] = value;
    }
    let metadata = json!({"name": "box", "namespace": "n", "uid": "w", "generation": 1});
    let object = json!({"apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "metadata": metadata, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A pool on which plans are carried out. Its pods are what the API server has.
struct Life {
    world: World,
    now: Instant,
    made: u32,
    /// The names that were ever used: one that is asked for twice is there already.
    names: BTreeSet<String>,
}

impl Life {
    fn new(replicas: i32) -> Self {
        let workspace = workspace(json!({ "replicas": replicas }), &json!({}));
        let mut life = Self {
            world: World {
                workspace,
                hash: String::new(),
                wanted: Wanted::default(),
                pods: Vec::new(),
                serving: Vec::new(),
                names: HashMap::new(),
                holding: 0,
                promised: HashSet::new(),
                drained: BTreeSet::new(),
                blocker: None,
                secret: None,
                hardening: Arc::default(),
                start_timeout: TimeDelta::minutes(5),
                failed: None,
                broken: BTreeMap::new(),
                refused: HashMap::new(),
            },
            now: at(0),
            made: 0,
            names: BTreeSet::new(),
        };
        life.rehash();
        life
    }

    fn rehash(&mut self) {
        let workspace = &self.world.workspace;
        let warm = workspace.spec.warm.as_ref();
        let wanted = warm.map(|warm| schedule::wanted(warm, schedule::hours(warm, self.now), &[], self.now));
        self.world.wanted = wanted.unwrap_or_default();
        self.world.hash = template_hash(workspace, workspace.spec.template.as_ref().unwrap(), &self.world.hardening);
    }

    fn edit(&mut self, warm: Value, more: &Value) {
        self.world.workspace = workspace(warm, more);
        self.rehash();
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::EnsureSecret(_) => {}
            Step::Make(pod) => {
                let mut pod = *pod;
                let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
                if self.world.pods.iter().chain(&self.world.serving).any(|pod| pod.name_any() == name) {
                    return;
                }
                self.made += 1;
                self.names.insert(name);
                pod["metadata"]["uid"] = json!(format!("p{}", self.made));
                pod["metadata"]["resourceVersion"] = json!("1");
                pod["metadata"]["creationTimestamp"] = json!(self.now);
                self.world.pods.push(Arc::new(serde_json::from_value(pod).unwrap()));
            }
            Step::Remove { uid, resource_version, .. } => {
                let is_it =
                    |pod: &Arc<Pod>| pod.uid().as_ref() == Some(&uid) && pod.resource_version() == resource_version;
                self.world.pods.retain(|pod| !is_it(pod));
            }
        }
    }

    fn look(&mut self) -> Plan<Step> {
        let plan = decide(&self.world, self.now);
        for step in plan.steps.clone() {
            self.carry_out(step);
        }
        plan
    }

    /// Looks until nothing is left to be done; each pod that was made is ready by the next look.
    fn rest(&mut self) {
        for _ in 0..60 {
            if self.look().steps.is_empty() {
                return;
            }
            self.all_ready();
        }
        panic!("it does not come to rest: {:?}", decide(&self.world, self.now).steps);
    }

    fn status(&mut self, index: usize, status: Value) {
        let pod = Arc::make_mut(&mut self.world.pods[index]);
        pod.status = Some(serde_json::from_value(status).unwrap());
        let version = pod.resource_version().and_then(|version| version.parse::<u32>().ok()).unwrap_or_default();
        pod.metadata.resource_version = Some((version + 1).to_string());
    }

    fn all_ready(&mut self) {
        for index in 0..self.world.pods.len() {
            if self.world.pods[index].status.is_none() {
                self.status(index, json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
            }
        }
    }

    /// A session takes the pod.
    fn adopt(&mut self, index: usize) {
        let mut pod = self.world.pods.remove(index);
        let meta = &mut Arc::make_mut(&mut pod).metadata;
        meta.labels.get_or_insert_default().insert(SESSION_UID_LABEL.to_owned(), format!("s{index}"));
        meta.resource_version = Some("99".to_owned());
        self.world.serving.push(pod);
    }

    fn waiting(&self) -> usize {
        self.world.pods.len()
    }

    fn standing(&self) -> Standing {
        standing(&self.world, self.now)
    }
}

fn made_names(plan: &Plan<Step>) -> Vec<String> {
    let name = |step: &Step| match step {
        Step::Make(pod) => Some(pod["metadata"]["name"].as_str()?.to_owned()),
        _ => None,
    };
    plan.steps.iter().filter_map(name).collect()
}

#[test]
fn a_pool_is_filled_in_growing_batches() {
    let mut life = Life::new(30);
    let mut made = Vec::new();
    while life.waiting() < 30 {
        made.push(life.look().steps.len());
        life.all_ready();
    }
    assert_eq!(made, [8, 8, 14]);
    assert_eq!(life.standing(), Standing { desired: 30, replicas: 30, ready: 30, lack: None, until: None });
    assert_eq!(life.look().steps, vec![]);
}

#[test]
fn a_pod_of_the_pool_belongs_to_its_workspace_and_nobody_is_named_in_it() {
    let mut life = Life::new(1);
    life.look();
    let pod = &life.world.pods[0];
    assert!(is_member(pod, "w") && is_of_a_pool(pod) && !is_member(pod, "another"));
    assert!(!is_adoptable(pod, "w", &life.world.hash), "it is not ready");
    assert_eq!(
        pod.annotations().get("cluster-autoscaler.kubernetes.io/safe-to-evict").map(String::as_str),
        Some("true")
    );
    assert!(!pod.annotations().contains_key("berth.dev/user"));
    life.all_ready();
    assert!(is_adoptable(&life.world.pods[0], "w", &life.world.hash));
    assert!(!is_adoptable(&life.world.pods[0], "w", "of an older template"));
}

#[test]
fn a_refill_is_named_after_what_it_replaces_however_often_it_is_tried() {
    let mut life = Life::new(3);
    life.rest();
    life.adopt(1);
    let first = decide(&life.world, life.now);
    assert_eq!(made_names(&first).len(), 1);
    assert_eq!(made_names(&decide(&life.world, life.now)), made_names(&first), "the same after a crash");
    life.rest();
    assert_eq!((life.waiting(), life.made), (3, 4));
    // The one that took its place is adopted as well: the next is named after that.
    life.adopt(2);
    let second = decide(&life.world, life.now);
    assert_ne!(made_names(&second), made_names(&first));
    assert!(made_names(&second).iter().all(|name| !life.names.contains(name)));
}

#[test]
fn an_operator_whose_answers_were_lost_makes_no_pod_twice() {
    let mut life = Life::new(5);
    // It saw none of what it made.
    let stale = life.world.clone();
    life.look();
    let again = decide(&stale, life.now);
    for step in again.steps {
        life.carry_out(step);
    }
    assert_eq!(life.waiting(), 5);
}

#[test]
fn a_name_that_somebody_else_has_is_passed_over() {
    let mut life = Life::new(1);
    let first = made_names(&decide(&life.world, life.now)).remove(0);
    life.world.names.insert(first.clone(), "u1".to_owned());
    let second = made_names(&decide(&life.world, life.now)).remove(0);
    life.world.names.insert(second.clone(), "u2".to_owned());
    let third = made_names(&decide(&life.world, life.now)).remove(0);
    assert!(first != second && second != third && first != third);
}

#[test]
fn an_edit_of_the_template_replaces_all_in_batches_and_an_edit_of_anything_else_none() {
    let mut life = Life::new(20);
    life.rest();
    life.edit(json!({ "replicas": 20 }), &json!({ "displayName": "Another name", "maxSessions": 99 }));
    assert_eq!(decide(&life.world, life.now).steps, vec![]);
    life.edit(
        json!({ "replicas": 20 }),
        &json!({ "template": {"spec": {"containers": [{"name": "main", "image": "newer"}]}} }),
    );
    assert_eq!(life.standing().ready, 0, "none of them can be had");
    // One that was not judged yet, or is refused, takes nothing away.
    life.world.blocker = Some(Blocker::TemplateUntried);
    assert_eq!(life.look().steps, vec![]);
    life.world.blocker = None;
    let count = |plan: &Plan<Step>| {
        let removed = plan.steps.iter().filter(|step| matches!(step, Step::Remove { .. })).count();
        (removed, plan.steps.len() - removed)
    };
    assert_eq!(count(&life.look()), (8, 8));
    assert_eq!(count(&life.look()), (0, 0), "before those that were made are ready");
    life.all_ready();
    assert_eq!(count(&life.look()), (8, 8));
    life.all_ready();
    life.rest();
    assert_eq!((life.waiting(), life.standing().ready), (20, 20));
}

#[test]
fn a_pool_shrinks_by_the_least_useful_and_by_none_that_was_promised() {
    let mut life = Life::new(4);
    life.look();
    for index in [0, 1, 2] {
        life.status(index, json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    }
    life.edit(json!({ "replicas": 2 }), &json!({}));
    life.world.promised = life.world.pods.iter().take(3).filter_map(|pod| pod.uid()).collect();
    let removed: Vec<_> = life.look().steps;
    assert!(matches!(&removed[..], [Step::Remove { uid, .. }] if uid == "p4"), "{removed:?}");
    life.world.promised.clear();
    life.look();
    assert_eq!((life.waiting(), life.standing().ready), (2, 2));
    for nothing in [json!({ "replicas": 0 }), Value::Null] {
        life.edit(nothing, &json!({}));
        life.rest();
        assert_eq!(life.waiting(), 0);
    }
}

#[test]
fn a_pool_in_maintenance_is_empty_and_none_is_larger_than_could_be_had() {
    let mut life = Life::new(20);
    life.edit(json!({ "replicas": 20 }), &json!({ "maxSessions": 3 }));
    life.rest();
    assert_eq!((life.waiting(), life.standing().desired), (3, 3));
    life.edit(json!({ "replicas": 20 }), &json!({ "maintenance": true }));
    life.rest();
    assert_eq!(life.waiting(), 0);
}

#[test]
fn pods_that_went_bad_are_replaced_and_the_next_is_made_later() {
    let mut life = Life::new(2);
    life.rest();
    life.status(0, json!({"phase": "Failed", "reason": "Evicted"}));
    let plan = life.look();
    assert!(
        matches!(&plan.steps[0], Step::Remove { bad: Some((0, why)), .. } if why.contains("Evicted")),
        "{:?}",
        plan.steps
    );
    assert_eq!(plan.notes[0].reason, "WarmInstanceReplaced");
    assert_eq!(life.waiting(), 2);
    life.world.broken.insert(0, (at(10), "it stopped".to_owned()));
    life.world.pods.retain(|pod| slot(pod) != Some(0));
    let plan = life.look();
    assert_eq!((plan.steps, plan.wake), (vec![], Some(at(10))));
    assert!(life.standing().lack.unwrap().1.contains("the last failed: it stopped"));
    // The other place is filled again at once.
    life.all_ready();
    life.adopt(0);
    let plan = life.look();
    assert_eq!((made_names(&plan).len(), life.waiting()), (1, 1));
    assert_eq!(slot(&life.world.pods[0]), Some(1));
    life.now = at(10);
    assert_eq!(life.look().steps.len(), 1);
    assert!(life.world.pods.iter().any(|pod| slot(pod) == Some(0)));
}

#[test]
fn a_secret_that_is_refused_is_made_again_later_and_not_at_once() {
    let mut life = Life::new(1);
    life.world.secret = Some(Credential::default());
    life.look();
    life.world.failed = Some((at(40), "exceeded quota".to_owned()));
    let plan = decide(&life.world, at(35));
    assert_eq!((plan.steps, plan.wake), (vec![], Some(at(40))));
    assert!(matches!(decide(&life.world, at(40)).steps[..], [Step::EnsureSecret(_)]));
}

#[test]
fn a_pod_whose_adoption_was_refused_is_not_counted_as_one_to_be_had_until_it_is_tried_again() {
    let mut life = Life::new(2);
    life.rest();
    let uid = life.world.pods[0].uid().unwrap();
    life.world.refused.insert(uid, (at(60), "a policy denied it".to_owned()));
    let standing = life.standing();
    assert_eq!((standing.ready, standing.until), (1, Some(at(60))));
    let (reason, message) = standing.lack.unwrap();
    assert!(reason == "NotAdoptable" && message.contains("a policy denied it"), "{message}");
    assert_eq!(life.look().steps, vec![], "it is neither replaced nor doubled");
    life.now = at(60);
    assert_eq!(life.standing().lack, None);
}

#[test]
fn a_pod_that_is_about_to_be_deleted_is_given_to_nobody_and_replaced() {
    let mut life = Life::new(1);
    life.rest();
    life.status(
        0,
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"},
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}),
    );
    assert!(!is_adoptable(&life.world.pods[0], "w", &life.world.hash));
    assert!(matches!(life.look().steps[..], [Step::Remove { bad: None, .. }, Step::Make(_)]));
}

#[test]
fn a_pod_that_was_somebodys_is_given_to_nobody_else() {
    for said in [USER_ANNOTATION, SESSION_ANNOTATION] {
        let mut life = Life::new(1);
        life.rest();
        let pod = Arc::make_mut(&mut life.world.pods[0]);
        pod.metadata.annotations.get_or_insert_default().insert(said.to_owned(), "ana".to_owned());
        assert!(!is_adoptable(&life.world.pods[0], "w", &life.world.hash));
        assert!(matches!(life.look().steps[0], Step::Remove { .. }));
    }
}

#[test]
fn a_pod_in_trouble_is_given_as_much_time_as_a_start_may_take() {
    let mut life = Life::new(1);
    life.rest();
    let troubled = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": at(5)}],
        "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    life.status(0, troubled);
    let plan = decide(&life.world, at(6));
    assert_eq!((plan.steps, plan.wake), (vec![], Some(at(305))));
    assert_eq!(decide(&life.world, at(304)).steps, vec![]);
    assert!(life.standing().lack.unwrap().1.contains("CrashLoopBackOff"));
    let steps = decide(&life.world, at(305)).steps;
    assert!(matches!(&steps[..], [Step::Remove { bad: Some(_), .. }, Step::Make(_)]), "{steps:?}");
}

#[test]
fn a_pod_that_never_becomes_ready_is_given_up_and_its_secret_made_again_before() {
    let mut life = Life::new(1);
    life.world.secret = Some(Credential::default());
    life.look();
    let plan = decide(&life.world, at(1));
    assert_eq!((plan.steps, plan.wake), (vec![], Some(at(30))));
    let plan = decide(&life.world, at(30));
    assert!(matches!(plan.steps[..], [Step::EnsureSecret(_)]), "{:?}", plan.steps);
    assert_eq!(plan.wake, Some(at(300)));
    assert!(matches!(decide(&life.world, at(300)).steps[0], Step::Remove { bad: Some(_), .. }));
}

#[test]
fn how_long_a_pod_waited_for_a_node_is_not_held_against_it() {
    let mut life = Life::new(1);
    life.look();
    life.status(0, json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(900)}]}));
    let plan = decide(&life.world, at(901));
    assert_eq!((plan.steps, plan.wake), (vec![], Some(at(1200))));
}

#[test]
fn a_pod_whose_session_owns_it_is_left_alone_whatever_became_of_its_label() {
    let mut life = Life::new(1);
    life.rest();
    let mut pod = json!(*life.world.pods[0]);
    pod["metadata"]["ownerReferences"] = json!([{ "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "name": "mine", "uid": "s", "controller": true }]);
    life.world.pods[0] = Arc::new(serde_json::from_value(pod).unwrap());
    let steps = decide(&life.world, life.now).steps;
    assert!(matches!(&steps[..], [Step::Make(_)]), "{steps:?}");
}

#[test]
fn what_is_a_users_before_there_is_one_keeps_a_pool_empty_and_says_so() {
    let of = |field: &str| json!({ "name": "WHO", "valueFrom": { "fieldRef": { "fieldPath": field } } });
    let container = |more: Value| {
        let mut container = json!({"name": "main", "image": "box"});
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            container[key] = value;
        }
        json!({ "template": { "spec": { "containers": [container] } } })
    };
    // A volume of the template's own, of which one file is mounted.
    let user = json!({ "path": "who", "fieldRef": { "fieldPath": "metadata.annotations['berth.dev/user']" } });
    let told = |volume: Value| {
        let mut volume = volume;
        volume["name"] = json!("told");
        let mut more =
            container(json!({ "volumeMounts": [{ "name": "told", "mountPath": "/who", "subPath": "who" }] }));
        more["template"]["spec"]["volumes"] = json!([volume]);
        more
    };
    let personal = [
        container(json!({ "env": [of("metadata.annotations['berth.dev/user']")] })),
        container(json!({ "env": [of("metadata.labels['berth.dev/session-uid']")] })),
        container(json!({ "volumeMounts": [{ "name": "berth", "mountPath": "/who", "subPath": "user" }] })),
        told(json!({ "downwardAPI": { "items": [user] } })),
        told(json!({ "projected": { "sources": [{ "downwardAPI": { "items": [user] } }] } })),
        json!({ "template": { "spec": { "activeDeadlineSeconds": 60, "containers": [{"name": "main", "image": "box"}] } } }),
    ];
    for template in personal {
        let mut life = Life::new(2);
        life.rest();
        life.edit(json!({ "replicas": 2 }), &template);
        life.rest();
        assert_eq!(life.waiting(), 0, "{template}");
        let (reason, message) = life.standing().lack.unwrap();
        assert!(reason == "Impossible" && message.contains("spec.template.spec"), "{message}");
    }
    let mut life = Life::new(2);
    life.edit(
        json!({ "replicas": 2 }),
        &container(json!({ "env": [of("metadata.name"), { "name": "A", "value": "b" }] })),
    );
    life.rest();
    assert_eq!(life.waiting(), 2);
}

#[test]
fn a_cluster_that_has_no_room_is_asked_for_no_more() {
    let mut life = Life::new(30);
    life.look();
    let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
    life.status(2, status);
    life.all_ready();
    assert_eq!(life.look().steps, vec![]);
    let (reason, message) = life.standing().lack.unwrap();
    assert_eq!(reason, "Unschedulable");
    assert!(message.contains("7 of 30 are ready") && message.contains("0/3 nodes"), "{message}");
}

#[test]
fn pods_of_an_older_template_make_room_for_those_that_find_none() {
    let mut life = Life::new(20);
    life.rest();
    life.edit(
        json!({ "replicas": 20 }),
        &json!({ "template": {"spec": {"containers": [{"name": "main", "image": "large"}]}} }),
    );
    life.look();
    let newest = life.world.pods.len() - 1;
    let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
    life.status(newest, status);
    let steps = life.look().steps;
    assert!(!steps.is_empty() && steps.iter().all(|step| matches!(step, Step::Remove { bad: None, .. })), "{steps:?}");
    life.world.failed = Some((at(60), "refused".to_owned()));
    assert_eq!(life.look().steps, vec![], "what cannot be replaced stays");
}

#[test]
fn a_draining_node_is_left_at_once() {
    let mut life = Life::new(2);
    life.rest();
    Arc::make_mut(&mut life.world.pods[0]).spec.get_or_insert_default().node_name = Some("node-1".to_owned());
    life.world.drained.insert("node-1".to_owned());
    assert_eq!(life.standing().ready, 1);
    let steps = life.look().steps;
    assert!(matches!(&steps[..], [Step::Remove { uid, bad: None, .. }, Step::Make(_)] if uid == "p1"), "{steps:?}");
    // One that tolerates the mark comes up there again and again: later each time.
    let newest = Arc::make_mut(life.world.pods.last_mut().unwrap());
    newest.spec.get_or_insert_default().node_name = Some("node-1".to_owned());
    let steps = life.look().steps;
    assert!(matches!(&steps[0], Step::Remove { bad: Some(_), .. }), "{steps:?}");
}

#[test]
fn a_pod_that_somebody_changed_is_replaced() {
    for change in
        [json!({ "ownerReferences": null }), json!({ "labels": { WARM_SLOT_LABEL: "0", TEMPLATE_LABEL: "?" } })]
    {
        let mut life = Life::new(1);
        life.rest();
        let mut pod = json!(*life.world.pods[0]);
        for (field, value) in change.as_object().cloned().unwrap_or_default() {
            pod["metadata"][field] = value;
        }
        life.world.pods[0] = Arc::new(serde_json::from_value(pod).unwrap());
        assert!(matches!(decide(&life.world, life.now).steps[0], Step::Remove { .. }));
    }
}

#[test]
fn nothing_is_made_before_what_an_instance_needs_stands_and_nothing_for_one_that_goes() {
    let mut life = Life::new(2);
    life.world.blocker = Some(Blocker::Unfenced(None));
    assert_eq!(life.look().steps, vec![]);
    assert_eq!(life.standing().lack.unwrap().0, "NetworkPolicyMissing");
    life.world.blocker = None;
    let now = crate::api::time::to_wire_micro(life.now).0;
    Arc::make_mut(&mut life.world.workspace).metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    assert_eq!(life.look().steps, vec![]);
}

/// What may happen to a pool from outside.
#[derive(Clone, Debug)]
enum Happening {
    Adopted(usize),
    Gone(usize),
    Broken(usize),
    Scaled(i32),
    Edited(u8),
    Crashed(usize),
    Stale,
    Ready,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        4 => (0usize..40).prop_map(Adopted),
        2 => (0usize..40).prop_map(Gone),
        1 => (0usize..40).prop_map(Broken),
        1 => (0i32..12).prop_map(Scaled),
        1 => (0u8..3).prop_map(Edited),
        2 => (0usize..5).prop_map(Crashed),
        2 => Just(Stale),
        3 => Just(Ready),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_happens_the_pool_has_what_is_wanted_and_never_more_than_that_at_once(happenings in proptest::collection::vec(happening(), 1..25)) {
        let (mut life, mut replicas, mut image) = (Life::new(4), 4, 0);
        let mut before = life.world.clone();
        for happening in happenings {
            let count = life.world.pods.len().max(1);
            let some = |index: usize| Some(index % count).filter(|index| *index < life.world.pods.len());
            match happening {
                Happening::Adopted(index) => if let Some(index) = some(index) { life.adopt(index) },
                Happening::Gone(index) if index % 2 == 0 => drop(life.world.serving.pop()),
                Happening::Gone(index) => if let Some(index) = some(index) { drop(life.world.pods.remove(index)) },
                Happening::Broken(index) => if let Some(index) = some(index) { life.status(index, json!({"phase": "Failed"})) },
                Happening::Scaled(to) => replicas = to,
                Happening::Edited(to) => image = to,
                Happening::Crashed(steps) => {
                    for step in decide(&life.world, life.now).steps.into_iter().take(steps) {
                        life.carry_out(step);
                    }
                }
                // A second operator, which has not seen the last things, does its part.
                Happening::Stale => {
                    let known = before.pods.len();
                    for step in decide(&before, life.now).steps {
                        life.carry_out(step);
                    }
                    let bound = usize::try_from(replicas.max(4)).unwrap() + 24;
                    prop_assert!(life.waiting() <= bound, "{} of {replicas}, {known} known", life.waiting());
                }
                Happening::Ready => life.all_ready(),
            }
            before = life.world.clone();
            life.edit(json!({ "replicas": replicas }), &json!({ "template": {"spec": {"containers": [{"name": "main", "image": format!("box:{image}")}]}} }));
            let plan = life.look();
            let taken = |step: &Step| matches!(step, Step::Remove { uid, .. } if life.world.serving.iter().any(|pod| pod.uid().as_ref() == Some(uid)));
            prop_assert!(!plan.steps.iter().any(taken), "a pod was taken from its session");
        }
        life.all_ready();
        life.rest();
        prop_assert_eq!(life.waiting(), usize::try_from(replicas).unwrap());
        prop_assert!(life.standing().lack.is_none());
    }
}
