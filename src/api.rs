//! The resources of `berth.dev/v1alpha1`, and every string that goes over the wire: group, labels,
//! annotations, finalizers, field managers. It owns the shape of the data and the rules that the API
//! server checks; it decides nothing and talks to nobody.

pub mod condition;
pub mod duration;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod network;
pub mod pod;
pub mod policy;
pub mod reason;
pub mod session;
pub mod text;
pub mod time;
pub mod warm;
pub mod workspace;

pub use network::Network;
pub use policy::{SessionPolicy, SessionPolicySpec};
pub use reason::Reason;
pub use session::{Session, SessionSpec, SessionStatus};
pub use workspace::{Workspace, WorkspaceSpec, WorkspaceStatus};

/// The API group of all kinds.
pub const GROUP: &str = "berth.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";

/// Field manager of the operator's writes.
pub const OPERATOR_MANAGER: &str = "berth-operator";
/// Field manager of the gateway's writes.
pub const GATEWAY_MANAGER: &str = "berth-gateway";

/// The label of the Leases in Berth's namespace whose holders observe activity.
pub const OBSERVER_LABEL: &str = "berth.dev/observer";
/// Name under which the operator reports events.
pub const EVENT_REPORTER: &str = "berth.dev/operator";

/// What `status.observedGeneration` is before anybody has looked, by the definitions' default: no generation.
pub const NOT_OBSERVED: i64 = -1;

/// Finalizer on a live Session: its end is written and its instance released before it goes.
pub const SESSION_FINALIZER: &str = "berth.dev/session";

/// Label that marks what the operator made; its value is [`MANAGED_BY`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "berth";
/// Label of an instance: the uid of the Session that it serves.
pub const SESSION_UID_LABEL: &str = "berth.dev/session-uid";
/// Label of an instance and of a retained claim: the uid of the Workspace.
pub const WORKSPACE_UID_LABEL: &str = "berth.dev/workspace-uid";
/// Label of an instance that was made for a pool: the number of its place there.
pub const WARM_SLOT_LABEL: &str = "berth.dev/warm-slot";
/// Label of such an instance: what it was made of, as a hash.
pub const TEMPLATE_LABEL: &str = "berth.dev/template";
/// Annotation of such an instance: the uid of the one whose place it took.
pub const REPLACES_ANNOTATION: &str = "berth.dev/replaces";
/// Annotation of an instance: the Session's name, which may be too long for a label.
pub const SESSION_ANNOTATION: &str = "berth.dev/session";
/// Annotation of an instance and of a retained claim: the Workspace's name.
pub const WORKSPACE_ANNOTATION: &str = "berth.dev/workspace";
/// Annotation of an instance and of a retained claim: `spec.user.id` of the session.
pub const USER_ANNOTATION: &str = "berth.dev/user";

/// Annotation of an instance: scheme, port and path that it was made to answer on, as `http:8080/lab`. The
/// Workspace may be edited later, and its instances stay as they are.
pub const ACCESS_ANNOTATION: &str = "berth.dev/access";

/// Label with which Velero leaves an object out of a backup: a restored Session must not launch.
pub const VELERO_EXCLUDE_LABEL: &str = "velero.io/exclude-from-backup";

/// Labels and annotations by which a GitOps tool or Helm says that an object is its own. What carries one is
/// never pruned: the tool would create it again, and that would be a launch.
pub const TRACKING_KEYS: [&str; 6] = [
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "app.kubernetes.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
    "meta.helm.sh/release-name",
];
