//! A session with its surroundings, on which plans are carried out as the operator does.

use chrono::{DateTime, TimeDelta};
use serde_json::json;

use super::super::*;
use crate::api::session::SessionSpec;
use crate::api::time::to_wire_micro;
use crate::api::{Reason, SESSION_FINALIZER, VELERO_EXCLUDE_LABEL};
use crate::plan::admission::Rival;

/// A session with its surroundings, on which plans are carried out.
pub(super) struct Life {
    pub(super) world: World,
    pub(super) now: Instant,
    pub(super) wake: Option<Instant>,
    pub(super) notes: Vec<String>,
    pub(super) deleted: bool,
}

const START: i64 = 1_800_000_000;

pub(super) fn at(second: i64) -> Instant {
    DateTime::from_timestamp(START + second, 0).unwrap_or_default()
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(super) fn workspace(spec: Value) -> Arc<Workspace> {
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
        "status": {"conditions": [{
            "type": "TemplateValid", "status": "True", "reason": "Accepted", "message": crate::plan::workspace::accepted(&Hardening::default()), "observedGeneration": 1,
            "lastTransitionTime": at(0),
        }]},
    })))
}

pub(super) fn policy(spec: Value) -> PolicySource {
    PolicySource::Found("p".to_owned(), parse(spec))
}

impl Life {
    pub(super) fn new(spec: Value) -> Self {
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
                workspace_unread: None,
                policy: PolicySource::BuiltIn,
                rivals: Rivals::default(),
                pods: Vec::new(),
                warm: None,
                instance_gone: false,
                volume_holder: None,
                attempt: Attempt::None,
                unguarded: None,
                hardening: Arc::default(),
                fence: Fence::Stands,
                secret: None,
                draining: Draining::No,
                observer: Observer::Unheard,
                own: Vec::new(),
                pruned_by: Pruner::Operator,
            },
            now: at(0),
            wake: None,
            notes: Vec::new(),
            deleted: false,
        }
    }

    pub(super) fn session(&mut self) -> &mut Session {
        Arc::make_mut(&mut self.world.session)
    }

    pub(super) fn status(&self) -> SessionStatus {
        self.world.session.status.clone().unwrap_or_default()
    }

    pub(super) fn phase(&self) -> Phase {
        self.status().phase.unwrap_or(Phase::Pending)
    }

    pub(super) fn ended(&self) -> Option<(Phase, Reason)> {
        let status = self.status();
        status.ended_at.and(status.phase).zip(status.reason)
    }

    pub(super) fn holds(&self, type_: Type) -> bool {
        condition::is_true(&self.status().conditions, type_)
    }

    /// Decides and carries out at most `limit` steps, as an operator that dies in between does.
    pub(super) fn look_and_take(&mut self, limit: usize) -> usize {
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
    pub(super) fn look(&mut self) {
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
            Step::EnsureClaim(_) | Step::EnsureSecret(_) => {}
            Step::EnsurePod(pod) => {
                assert_ne!(pod["spec"]["hostNetwork"], true, "no pod is made of what may not run");
                if self.world.pods.is_empty() {
                    let mut pod: Pod = parse(*pod);
                    pod.metadata.uid = Some("pod-uid".to_owned());
                    self.world.pods = vec![Arc::new(pod)];
                }
                self.world.attempt = Attempt::None;
            }
            Step::Adopt { uid, metadata, .. } => {
                if let Some(pod) = self.world.warm.take().filter(|pod| pod.uid().as_ref() == Some(&uid)) {
                    let mut whole = json!(*pod);
                    for field in ["labels", "annotations"] {
                        for (key, value) in metadata[field].as_object().into_iter().flatten() {
                            whole["metadata"][field][key] = value.clone();
                        }
                    }
                    whole["metadata"]["ownerReferences"] = metadata["ownerReferences"].clone();
                    self.world.pods.push(Arc::new(parse(whole)));
                }
            }
            Step::Restamp { .. } => {}
            Step::Dial(target) => self.world.attempt = Attempt::Reached(target),
            Step::DeletePod { uid, .. } | Step::Discard { uid, .. } => {
                self.world.pods.retain(|pod| pod.uid().as_deref() != Some(&uid))
            }
            Step::DeleteSession => self.deleted = true,
        }
    }

    pub(super) fn pod_status(&mut self, status: Value) {
        if let Some(pod) = self.world.pods.first_mut() {
            Arc::make_mut(pod).status = Some(parse(status));
        }
        self.look();
    }

    pub(super) fn pod_ready(&mut self) {
        self.pod_status(
            json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}),
        );
    }

    pub(super) fn launched(spec: Value, policy: PolicySource) -> Self {
        let mut life = Self::new(spec);
        life.world.policy = policy;
        life.look();
        life.pod_ready();
        life
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
        self.look();
    }

    pub(super) fn used_now(&mut self) {
        let now = self.now;
        self.session().status.get_or_insert_default().activity =
            Some(crate::api::session::Activity { last_at: Some(now), ..Default::default() });
        self.look();
    }

    pub(super) fn delete(&mut self) {
        let now = to_wire_micro(self.now).0;
        self.session().metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        self.look();
    }

    pub(super) fn rival(&mut self, admitted: bool, created: i64) {
        let user = "bob".to_owned();
        if admitted {
            self.world.rivals.holding += 1;
            self.world.rivals.holders.insert(user);
        } else {
            let uid = format!("r{created}");
            self.world.rivals.waiting.push(Rival { created: at(created), uid, user, aside: false });
        }
    }
}

pub(super) fn short() -> PolicySource {
    policy(
        json!({"idle": {"after": "10s", "warnAfter": "20s", "disconnectAfter": "30s"}, "maxDuration": "120s", "warnBefore": "15s", "history": {"keepFor": "60s"}}),
    )
}
