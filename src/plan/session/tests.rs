//! The planner against a world that does what the plans say: what a session lives through, told as sentences,
//! and properties that hold whatever happens in whatever order.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::Reason;
use crate::api::session::{DesiredState, SessionSpec};
use crate::api::time::to_wire_micro;

/// A session with its surroundings, on which plans are carried out.
struct Life {
    world: World,
    now: Instant,
    wake: Option<Instant>,
    notes: Vec<String>,
    deleted: bool,
}

const START: i64 = 1_800_000_000;

fn at(second: i64) -> Instant {
    DateTime::from_timestamp(START + second, 0).unwrap_or_default()
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn workspace(spec: Value) -> Arc<Workspace> {
    let mut merged = json!({
        "type": "web",
        "access": {"protocol": "HTTP", "port": 80},
        "template": {"spec": {"containers": [{"name": "main", "image": "box"}]}},
    });
    for (key, value) in spec.as_object().cloned().unwrap_or_default() {
        merged[key] = value;
    }
    Arc::new(parse(json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "box", "namespace": "n", "uid": "w", "generation": 1}, "spec": merged,
    })))
}

fn policy(spec: Value) -> PolicySource {
    PolicySource::Found("p".to_owned(), parse(spec))
}

impl Life {
    fn new(spec: Value) -> Self {
        let mut merged = json!({"workspaceRef": {"name": "box"}, "user": {"id": "ana"}});
        for (key, value) in spec.as_object().cloned().unwrap_or_default() {
            merged[key] = value;
        }
        let spec: SessionSpec = parse(merged);
        let mut session = Session::new("mine", spec);
        session.metadata.namespace = Some("n".to_owned());
        session.metadata.uid = Some("s".to_owned());
        session.metadata.generation = Some(1);
        session.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(to_wire_micro(at(0)).0));
        Self {
            world: World {
                session: Arc::new(session),
                workspace: Some(workspace(json!({}))),
                workspace_unread: false,
                policy: PolicySource::BuiltIn,
                rivals: Vec::new(),
                pods: Vec::new(),
                instance_gone: false,
                volume_holder: None,
                attempt: Attempt::None,
            },
            now: at(0),
            wake: None,
            notes: Vec::new(),
            deleted: false,
        }
    }

    fn session(&mut self) -> &mut Session {
        Arc::make_mut(&mut self.world.session)
    }

    fn status(&self) -> SessionStatus {
        self.world.session.status.clone().unwrap_or_default()
    }

    fn phase(&self) -> Phase {
        self.status().phase.unwrap_or(Phase::Pending)
    }

    fn ended(&self) -> Option<(Phase, Reason)> {
        let status = self.status();
        status.ended_at.and(status.phase).zip(status.reason)
    }

    fn holds(&self, type_: Type) -> bool {
        condition::is_true(&self.status().conditions, type_)
    }

    /// Decides and carries out at most `limit` steps, as an operator that dies in between does.
    fn look_and_take(&mut self, limit: usize) -> usize {
        let plan = decide(&self.world, self.now);
        self.wake = plan.wake;
        let steps = plan.steps.len();
        for step in plan.steps.into_iter().take(limit) {
            self.carry_out(step);
        }
        if steps <= limit {
            self.notes.extend(plan.notes.into_iter().map(|note| note.reason));
        }
        steps
    }

    /// Looks until there is nothing more to do, as the loop does with what it wrote.
    fn look(&mut self) {
        for _ in 0..10 {
            if self.deleted || self.look_and_take(usize::MAX) == 0 {
                return;
            }
        }
        panic!("the plan does not come to rest: {:?}", decide(&self.world, self.now).steps);
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Publish(status) => self.session().status = Some(*status),
            Step::Mark { finalizer } => {
                let meta = &mut self.session().metadata;
                meta.labels.get_or_insert_default().insert(VELERO_EXCLUDE_LABEL.to_owned(), "true".to_owned());
                meta.finalizers = finalizer.then(|| vec![SESSION_FINALIZER.to_owned()]);
                self.deleted = !finalizer && meta.deletion_timestamp.is_some();
            }
            Step::EnsureClaim(_) => {}
            Step::EnsurePod(pod) => {
                if self.world.pods.is_empty() {
                    let mut pod: Pod = parse(*pod);
                    pod.metadata.uid = Some("pod-uid".to_owned());
                    self.world.pods = vec![Arc::new(pod)];
                }
                self.world.attempt = Attempt::None;
            }
            Step::Restamp { .. } => {}
            Step::Dial { .. } => self.world.attempt = Attempt::Reached,
            Step::DeletePod { uid, .. } => self.world.pods.retain(|pod| pod.uid().as_deref() != Some(&uid)),
            Step::DeleteSession => self.deleted = true,
        }
    }

    fn pod_status(&mut self, status: Value) {
        if let Some(pod) = self.world.pods.first_mut() {
            Arc::make_mut(pod).status = Some(parse(status));
        }
        self.look();
    }

    fn pod_ready(&mut self) {
        self.pod_status(
            json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}),
        );
    }

    fn launched(spec: Value, policy: PolicySource) -> Self {
        let mut life = Self::new(spec);
        life.world.policy = policy;
        life.look();
        life.pod_ready();
        life
    }

    fn pass(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
        self.look();
    }

    fn used_now(&mut self) {
        let now = self.now;
        self.session().status.get_or_insert_default().activity =
            Some(crate::api::session::Activity { last_at: Some(now), ..Default::default() });
        self.look();
    }

    fn delete(&mut self) {
        let now = to_wire_micro(self.now).0;
        self.session().metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        self.look();
    }

    fn rival(&mut self, admitted: bool, created: i64) {
        self.world.rivals.push(Rival {
            created: at(created),
            uid: format!("r{created}"),
            user: "bob".to_owned(),
            admitted,
            aside: false,
        });
    }
}

fn short() -> PolicySource {
    policy(
        json!({"idle": {"after": "10s", "warnAfter": "20s", "disconnectAfter": "30s"}, "maxDuration": "120s", "warnBefore": "15s", "history": {"keepFor": "60s"}}),
    )
}

#[test]
fn a_launch_writes_its_claim_first_then_the_marks_then_the_pod() {
    let life = Life::new(json!({}));
    let steps = decide(&life.world, life.now).steps;
    assert!(matches!(&steps[0], Step::Publish(status) if status.phase == Some(Phase::Starting)));
    assert!(matches!(steps[1], Step::Mark { finalizer: true }));
    assert!(matches!(steps[2], Step::EnsurePod(_)));
    assert_eq!(steps.len(), 3);
}

#[test]
fn a_session_becomes_active_when_its_pod_is_ready() {
    let life = Life::launched(json!({}), PolicySource::BuiltIn);
    let status = life.status();
    assert_eq!(life.phase(), Phase::Active);
    assert_eq!(status.ready_at, Some(at(0)));
    assert_eq!(status.url.as_deref(), Some("http://10.0.0.1:80"));
    assert_eq!(status.disconnect_at, Some(at(1800)));
    assert_eq!(status.disconnect_reason, Some(Reason::IdleTimeout));
    assert_eq!(life.notes, ["Active"]);
}

#[test]
fn without_a_slot_a_session_waits_and_says_why() {
    let mut life = Life::new(json!({}));
    life.rival(true, -5);
    life.look();
    assert_eq!(life.phase(), Phase::Pending);
    assert_eq!(
        life.status().message.as_deref(),
        Some("waiting for the slot: the Workspace takes one session at a time")
    );
    assert_eq!(life.notes, ["NoSlot"]);
    life.world.rivals.clear();
    life.look();
    assert_eq!(life.phase(), Phase::Starting);
}

#[test]
fn without_a_slot_a_session_that_does_not_want_to_wait_fails() {
    let mut life = Life::new(json!({"whenFull": "Fail"}));
    life.rival(true, -5);
    life.look();
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::LimitExceeded)));
    assert!(life.holds(Type::Stalled));
}

#[test]
fn the_queue_has_an_end() {
    let mut life = Life::new(json!({}));
    life.world.policy = policy(json!({"queueTimeout": "60s"}));
    life.rival(true, -5);
    life.look();
    assert_eq!(life.wake, Some(at(60)));
    life.pass(60);
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::QueueTimeout)));
}

#[test]
fn what_is_missing_or_wrong_is_waited_for_by_name() {
    for (change, reason) in [
        (json!({"maintenance": true}), "Maintenance"),
        (
            json!({"template": {"spec": {"hostNetwork": true, "containers": [{"name": "a", "image": "b"}]}}}),
            "TemplateInvalid",
        ),
    ] {
        let mut life = Life::new(json!({}));
        life.world.workspace = Some(workspace(change));
        life.look();
        assert_eq!((life.phase(), life.notes), (Phase::Pending, vec![reason.to_owned()]));
    }
    let mut life = Life::new(json!({}));
    life.world.policy = PolicySource::Missing("gone".to_owned());
    life.look();
    assert_eq!((life.phase(), life.notes), (Phase::Pending, vec!["PolicyNotFound".to_owned()]));
    let mut life = Life::new(json!({}));
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.look();
    assert_eq!((life.phase(), life.notes), (Phase::Pending, vec!["WorkspaceNotFound".to_owned()]));
}

#[test]
fn a_start_that_takes_too_long_fails_with_the_pods_own_reason() {
    let mut life = Life::new(json!({}));
    life.world.policy = policy(json!({"startTimeout": "20s"}));
    life.look();
    life.pod_status(
        json!({"containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"box\""}}}]}),
    );
    assert_eq!(life.phase(), Phase::Starting);
    assert!(life.status().message.unwrap().contains("Back-off pulling"));
    assert_eq!(life.notes, ["ImagePullBackOff"]);
    life.pass(20);
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::StartTimeout)));
    assert!(life.status().message.unwrap().contains("Back-off pulling"));
    assert!(life.world.pods.is_empty());
}

#[test]
fn an_operator_that_was_away_past_the_start_timeout_finds_a_usable_session_usable() {
    let mut life = Life::new(json!({}));
    life.world.policy = policy(json!({"startTimeout": "20s"}));
    life.look();
    life.now += TimeDelta::seconds(600);
    life.pod_ready();
    assert_eq!(life.phase(), Phase::Active);
}

#[test]
fn a_workspace_that_cannot_be_read_is_not_gone() {
    let mut life = Life::launched(json!({}), short());
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.world.workspace_unread = true;
    life.look();
    assert!(!life.holds(Type::WorkspaceMissing));
}

#[test]
fn a_session_that_does_not_want_to_wait_does_not_wait_for_its_volumes_either() {
    let mut life = Life::new(json!({"whenFull": "Fail"}));
    life.world.volume_holder = Some("other".to_owned());
    life.look();
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::LimitExceeded)));
}

#[test]
fn a_refused_instance_fails_at_once_and_a_quota_is_waited_for() {
    let mut life = Life::new(json!({}));
    life.look_and_take(2);
    life.world.attempt = Attempt::RetryAt(at(5), "exceeded quota".to_owned());
    life.look();
    assert_eq!(life.status().message.as_deref(), Some("exceeded quota"));
    assert!(life.world.pods.is_empty());
    assert_eq!(life.wake, Some(at(5)));
    life.pass(5);
    assert_eq!(life.world.pods.len(), 1);
    let mut life = Life::new(json!({}));
    life.look_and_take(2);
    life.world.attempt = Attempt::Refused("spec.containers: Required value".to_owned());
    life.look();
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::InvalidSpec)));
}

#[test]
fn an_unused_session_is_idle_then_warned_then_disconnected() {
    let mut life = Life::launched(json!({}), short());
    assert_eq!(life.wake, Some(at(10)));
    life.pass(9);
    assert_eq!(life.phase(), Phase::Active);
    life.pass(1);
    assert_eq!((life.phase(), life.status().idle_since), (Phase::Idle, Some(at(0))));
    assert!(!life.holds(Type::EndingSoon));
    life.pass(10);
    assert!(life.holds(Type::EndingSoon));
    assert!(life.status().message.unwrap().contains("any activity keeps it"));
    life.pass(9);
    assert_eq!(life.ended(), None);
    life.pass(1);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
    assert_eq!(life.status().duration.as_deref(), Some("30s"));
    assert_eq!(life.notes, ["Active", "EndingSoon", "IdleTimeout"]);
    assert!(life.world.pods.is_empty());
    assert!(life.world.session.finalizers().is_empty());
}

#[test]
fn activity_makes_an_idle_session_active_and_takes_the_warning_back() {
    let mut life = Life::launched(json!({}), short());
    life.pass(25);
    assert!(life.holds(Type::EndingSoon));
    life.used_now();
    assert_eq!(life.phase(), Phase::Active);
    assert!(!life.holds(Type::EndingSoon));
    assert_eq!(life.status().disconnect_at, Some(at(55)));
}

#[test]
fn a_keepalive_counts_only_where_the_policy_allows_it() {
    for (allowed, phase) in [(true, Phase::Active), (false, Phase::Idle)] {
        let rules =
            json!({"idle": {"after": "10s", "warnAfter": "20s", "disconnectAfter": "30s", "allowKeepAlive": allowed}});
        let mut life = Life::launched(json!({}), policy(rules));
        life.pass(15);
        life.session().spec.keep_alive_at = Some(at(15));
        life.look();
        assert_eq!(life.phase(), phase);
    }
}

#[test]
fn an_activity_from_the_future_counts_once_and_is_told() {
    let mut life = Life::launched(json!({}), short());
    life.pass(5);
    life.session().spec.keep_alive_at = Some(at(100_000));
    life.look();
    assert!(life.holds(Type::ClockSkew));
    assert_eq!(life.status().disconnect_at, Some(at(35)));
    life.pass(30);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn the_maximum_duration_ends_even_a_busy_session_and_warns_first() {
    let mut life = Life::launched(json!({}), short());
    for _ in 0..10 {
        life.pass(10);
        life.used_now();
    }
    assert!(!life.holds(Type::EndingSoon));
    life.pass(5);
    assert!(life.holds(Type::EndingSoon));
    life.pass(10);
    life.used_now();
    life.pass(5);
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::MaxDuration)));
}

#[test]
fn a_wish_to_be_disconnected_earlier_is_granted() {
    let mut life = Life::launched(json!({"idle": {"disconnectAfter": "25s"}}), short());
    assert_eq!(life.status().disconnect_at, Some(at(25)));
    life.pass(25);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn a_policy_that_vanishes_leaves_its_rules() {
    let mut life = Life::launched(json!({}), short());
    life.world.policy = PolicySource::Missing("p".to_owned());
    life.look();
    assert!(life.holds(Type::PolicyMissing));
    assert_eq!(life.status().disconnect_at, Some(at(30)));
    // Nor do built-in values take the place of a `default` that vanished.
    life.world.policy = PolicySource::BuiltIn;
    life.pass(30);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn a_tightened_policy_gives_its_notice() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.pass(600);
    life.world.policy = short();
    life.look();
    assert_eq!(life.ended(), None);
    assert!(life.holds(Type::EndingSoon));
    // The idle notice of the new policy is ten seconds.
    assert_eq!(life.status().disconnect_at, Some(at(610)));
    life.pass(10);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn a_deleted_workspace_ends_its_sessions_after_a_warning() {
    let mut life = Life::launched(json!({}), short());
    life.pass(5);
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.look();
    assert!(life.holds(Type::WorkspaceMissing) && life.holds(Type::EndingSoon));
    assert_eq!(life.status().disconnect_at, Some(at(20)));
    life.pass(15);
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::WorkspaceDeleted)));
}

#[test]
fn a_workspace_deleted_under_a_waiting_session_ends_it_at_once() {
    let mut life = Life::new(json!({}));
    life.rival(true, -5);
    life.look();
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.look();
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::WorkspaceDeleted)));
}

#[test]
fn a_phase_that_a_hand_wrote_moves_no_session() {
    for phase in phase::PHASES {
        let mut life = Life::launched(json!({}), short());
        let before = life.status();
        life.session().status = Some(SessionStatus { phase: Some(phase), ..before.clone() });
        life.look();
        assert_eq!(life.status(), before, "{phase:?}");
    }
    let mut waiting = Life::new(json!({}));
    waiting.world.workspace = None;
    waiting.look();
    let before = waiting.status();
    waiting.session().status = Some(SessionStatus { phase: Some(Phase::Active), ..before.clone() });
    waiting.look();
    assert_eq!(waiting.status(), before, "nothing was launched, whatever the phase claims");
}

#[test]
fn an_edit_of_the_workspace_leaves_live_sessions_alone() {
    let mut life = Life::launched(json!({}), short());
    let pods = life.world.pods.clone();
    life.world.workspace = Some(workspace(json!({"maintenance": true, "template": {"spec": {"containers": []}}})));
    life.look();
    assert_eq!((life.phase(), &life.world.pods), (Phase::Active, &pods));
}

#[test]
fn an_instance_keeps_its_address_when_the_workspace_is_edited_while_it_starts_or_later() {
    let moved = || Some(workspace(json!({"access": {"protocol": "VNC", "port": 5900}})));
    let mut life = Life::new(json!({}));
    life.look();
    life.world.workspace = moved();
    life.pod_ready();
    assert_eq!(life.status().url.as_deref(), Some("http://10.0.0.1:80"));
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.world.workspace = moved();
    life.look();
    assert_eq!(life.status().url.as_deref(), Some("http://10.0.0.1:80"));
}

#[test]
fn a_restarting_container_keeps_the_phase_and_takes_readiness() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.pod_status(json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}));
    assert_eq!(life.phase(), Phase::Active);
    let ready = condition::find(&life.status().conditions, Type::Ready).cloned().unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (condition::Status::False, "OOMKilled"));
    life.pod_ready();
    assert!(life.holds(Type::Ready));
}

#[test]
fn a_missing_cache_entry_ends_nothing_until_the_api_server_says_so() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.world.pods.clear();
    life.look();
    assert_eq!(life.ended(), None);
    life.world.instance_gone = true;
    life.look();
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::InstanceLost)));
}

#[test]
fn whoever_asks_for_the_end_gets_it_in_their_words() {
    for (state, end) in [
        (DesiredState::Disconnected, (Phase::Disconnected, Reason::UserDisconnected)),
        (DesiredState::Terminated, (Phase::Terminated, Reason::AdministratorEnded)),
    ] {
        let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
        life.session().spec.desired_state = state;
        life.look();
        assert_eq!(life.ended(), Some(end));
    }
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.session().status.get_or_insert_default().end_request =
        Some(parse(json!({"as": "Terminated", "reason": "WorkspaceStopped", "actor": "eve"})));
    life.look();
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::WorkspaceStopped)));
    assert!(life.status().message.unwrap().contains("eve"));
}

#[test]
fn a_deleted_session_is_ended_released_and_let_go() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.delete();
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::SessionDeleted)));
    assert!(life.deleted && life.world.pods.is_empty());
}

#[test]
fn history_is_kept_as_long_as_the_policy_says_unless_a_tool_tracks_it() {
    for tracked in [false, true] {
        let mut life = Life::launched(json!({}), short());
        if tracked {
            life.session().metadata.annotations =
                Some([("argocd.argoproj.io/tracking-id".to_owned(), "x".to_owned())].into_iter().collect());
        }
        life.session().spec.desired_state = DesiredState::Disconnected;
        life.look();
        life.pass(59);
        assert!(!life.deleted);
        life.pass(1);
        assert_eq!(life.deleted, !tracked);
    }
}

#[test]
fn a_pod_that_turns_up_after_the_end_is_deleted() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    let pods = life.world.pods.clone();
    life.session().spec.desired_state = DesiredState::Disconnected;
    life.look();
    life.world.pods = pods;
    life.look();
    assert!(life.world.pods.is_empty());
}

#[test]
fn an_endpoint_is_usable_once_it_was_reached() {
    let mut life = Life::new(json!({}));
    let mut endpoint = workspace(json!({"endpoint": {"host": "pc-7.example.org"}}));
    Arc::make_mut(&mut endpoint).spec.template = None;
    life.world.workspace = Some(endpoint);
    life.look();
    assert_eq!(life.phase(), Phase::Active);
    assert_eq!(life.status().url.as_deref(), Some("http://pc-7.example.org:80"));
    assert!(life.world.pods.is_empty());
    life.world.workspace = Some(workspace(json!({"access": {"protocol": "SSH", "port": 22}})));
    life.look();
    assert_eq!(life.status().url.as_deref(), Some("http://pc-7.example.org:80"));
}

/// What may happen to a session from outside.
#[derive(Clone, Debug)]
enum Happening {
    Pass(i64),
    PodReady,
    PodTroubled,
    PodVanishes,
    PodEvicted,
    Used,
    KeepAlive(i64),
    Disconnect,
    Terminate,
    Delete,
    WorkspaceGoes,
    WorkspaceReturns,
    Maintenance(bool),
    PolicyTightens,
    PolicyGoes,
    RivalHolds,
    RivalsLeave,
    Crash(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        6 => (1i64..40).prop_map(Pass),
        6 => Just(PodReady),
        2 => Just(PodTroubled),
        1 => Just(PodVanishes),
        1 => Just(PodEvicted),
        4 => Just(Used),
        1 => (-50i64..200).prop_map(KeepAlive),
        1 => Just(Disconnect),
        1 => Just(Terminate),
        1 => Just(Delete),
        1 => Just(WorkspaceGoes),
        1 => Just(WorkspaceReturns),
        1 => any::<bool>().prop_map(Maintenance),
        1 => Just(PolicyTightens),
        1 => Just(PolicyGoes),
        1 => Just(RivalHolds),
        2 => Just(RivalsLeave),
        3 => (0usize..4).prop_map(Crash),
    ]
}

impl Life {
    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Pass(seconds) => self.now += TimeDelta::seconds(*seconds),
            Happening::PodReady => return self.pod_ready(),
            Happening::PodTroubled => return self.pod_status(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]})),
            Happening::PodVanishes => {
                self.world.pods.clear();
                self.world.instance_gone = self.status().instance.is_some();
            }
            Happening::PodEvicted => {
                let now = to_wire_micro(self.now).0;
                if let Some(pod) = self.world.pods.first_mut() {
                    Arc::make_mut(pod).metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
                }
            }
            Happening::Used => return self.used_now(),
            Happening::KeepAlive(offset) => {
                let wish = self.now + TimeDelta::seconds(*offset);
                if self.ended().is_none() && self.world.session.spec.keep_alive_at.is_none_or(|before| before <= wish) {
                    self.session().spec.keep_alive_at = Some(wish);
                }
            }
            Happening::Disconnect if self.ended().is_none() => self.session().spec.desired_state = DesiredState::Disconnected,
            Happening::Terminate if self.ended().is_none() => self.session().spec.desired_state = DesiredState::Terminated,
            Happening::Disconnect | Happening::Terminate => {}
            Happening::Delete => return self.delete(),
            Happening::WorkspaceGoes => (self.world.workspace, self.world.policy) = (None, PolicySource::Unknown),
            Happening::WorkspaceReturns => (self.world.workspace, self.world.policy) = (Some(workspace(json!({}))), short()),
            Happening::Maintenance(maintenance) => {
                if self.world.workspace.is_some() {
                    self.world.workspace = Some(workspace(json!({"maintenance": maintenance})));
                }
            }
            Happening::PolicyTightens if self.world.workspace.is_some() => {
                self.world.policy = policy(json!({"idle": {"after": "2s", "warnAfter": "4s", "disconnectAfter": "8s"}, "maxDuration": "20s", "warnBefore": "5s"}));
            }
            Happening::PolicyGoes if self.world.workspace.is_some() => self.world.policy = PolicySource::Missing("p".to_owned()),
            Happening::PolicyTightens | Happening::PolicyGoes => {}
            Happening::RivalHolds => self.rival(true, -1),
            Happening::RivalsLeave => self.world.rivals.clear(),
            Happening::Crash(steps) => {
                self.look_and_take(*steps);
            }
        }
        self.look();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_the_session_keeps_its_promises(happenings in proptest::collection::vec(happening(), 1..30)) {
        let mut life = Life::new(json!({}));
        life.world.policy = short();
        life.look();
        let mut end: Option<SessionStatus> = None;
        for happening in &happenings {
            if life.deleted {
                break;
            }
            let before = life.status();
            life.happen(happening);
            let status = life.status();
            // The end is sticky, and written once.
            if let Some(end) = &end {
                prop_assert_eq!((&status.phase, &status.ended_at, &status.reason), (&end.phase, &end.ended_at, &end.reason));
            }
            // A transition is one of the matrix.
            if before.phase != status.phase && before.phase.is_some() && status.ended_at.is_none() {
                let lawful = phase::EVENTS.iter().any(|(event, _)| matches!((phase::next(before.phase.unwrap(), *event), status.phase), (Next::Go(to), Some(phase)) if to == phase));
                let through_active = before.phase == Some(Phase::Starting) && status.phase == Some(Phase::Idle);
                let launched = before.phase == Some(Phase::Pending);
                prop_assert!(lawful || through_active || launched, "{:?} -> {:?}", before.phase, status.phase);
            }
            // An ended session has no pod, no finalizer, and a reason.
            if status.ended_at.is_some() {
                prop_assert!(life.world.pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_some()));
                prop_assert!(life.world.session.finalizers().is_empty());
                prop_assert!(status.reason.is_some() && status.disconnect_at.is_none());
                end.get_or_insert(status.clone());
            } else {
                // A live one never sleeps past its own deadline.
                if let Some(deadline) = status.disconnect_at {
                    prop_assert!(life.wake.is_some_and(|wake| wake <= deadline) && deadline > life.now);
                }
                prop_assert!(life.world.pods.len() <= 1);
            }
            // Before the wake there is nothing to do.
            if let Some(wake) = life.wake && wake > life.now && !life.deleted {
                let nearly = wake - TimeDelta::milliseconds(1);
                let early = decide(&life.world, nearly.max(life.now));
                prop_assert_eq!(early.steps, vec![]);
            }
        }
    }
}
