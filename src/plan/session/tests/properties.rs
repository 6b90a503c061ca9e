//! What holds for a session whatever happens to it, in whatever order.

use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use super::life::{Life, policy, short, workspace};
use crate::api::session::DesiredState;
use crate::api::time::to_wire_micro;

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
    TemplateTurnsUnsound,
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
        1 => Just(TemplateTurnsUnsound),
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
            Happening::TemplateTurnsUnsound => {
                if self.world.workspace.is_some() {
                    let spec = json!({"hostNetwork": true, "containers": [{"name": "main", "image": "box"}]});
                    self.world.workspace = Some(workspace(json!({"template": {"spec": spec}})));
                }
            }
            Happening::PolicyTightens if self.world.workspace.is_some() => {
                self.world.policy = policy(json!({"idle": {"after": "2s", "warnAfter": "4s", "disconnectAfter": "8s"}, "maxDuration": "20s", "warnBefore": "5s"}));
            }
            Happening::PolicyGoes if self.world.workspace.is_some() => self.world.policy = PolicySource::Missing("p".to_owned()),
            Happening::PolicyTightens | Happening::PolicyGoes => {}
            Happening::RivalHolds => self.rival(true, -1),
            Happening::RivalsLeave => self.world.rivals = Rivals::default(),
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
