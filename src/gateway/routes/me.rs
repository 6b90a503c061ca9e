//! Who the caller is, where they belong, and what they may wish.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kube::ResourceExt;
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::Common;
use crate::gateway::Gateway;
use crate::gateway::asker::Asker;
use crate::gateway::problem::Problem;
use crate::gateway::rights::Right;
use crate::gateway::view::MfaView;
use crate::plan::policy::Rules;

/// Who the caller is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The Kubernetes username.
    pub user_id: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Where the caller may launch something, has sessions, or sees others'.
    pub organizations: Vec<Membership>,
    /// What is known of a second factor.
    pub mfa: MfaView,
}

/// An organization that the caller belongs to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Membership {
    /// The namespace.
    pub name: String,
    /// Whether the caller sees everybody's sessions there.
    pub sees_all: bool,
    /// Whether the caller may end everybody's.
    pub ends_all: bool,
    /// What a session may wish there.
    pub preferences: Preferences,
}

/// What a session of the organization's default policy may wish.
#[derive(Debug, Serialize, ToSchema)]
pub struct Preferences {
    /// After how many seconds without input a session is disconnected, unless it wishes otherwise.
    pub idle_timeout_seconds: i64,
    /// The longest that it may wish.
    pub idle_timeout_max_seconds: i64,
}

/// Who am I
#[utoipa::path(get, path = "/api/me", tag = "caller", security(("token" = [])), responses(
    (status = 200, body = Me), Common,
))]
pub async fn me(State(gateway): State<Arc<Gateway>>, asker: Asker) -> Result<Json<Me>, Problem> {
    let caller = &asker.caller;
    let all: BTreeSet<String> = gateway.board.workspaces().into_keys().map(|(organization, _)| organization).collect();
    let own: BTreeSet<String> =
        gateway.board.sessions_of(&caller.username).iter().filter_map(|session| session.namespace()).collect();
    let ask = |right: fn() -> Right, of: &BTreeSet<String>| -> Vec<(String, String, Right)> {
        of.iter().map(|it| (it.clone(), it.clone(), right())).collect()
    };
    let everywhere: BTreeSet<String> = all.union(&own).cloned().collect();
    let see = gateway.rights.among(caller, ask(|| Right::See, &everywhere)).await?;
    let end = gateway.rights.among(caller, ask(|| Right::End, &everywhere)).await?;
    let launch = gateway.launch_places(&asker).await?;
    let belongs = everywhere
        .into_iter()
        .filter(|it| own.contains(it) || see.contains(it) || end.contains(it) || launch.contains(it));
    let organizations = belongs.map(|name| Membership {
        sees_all: see.contains(&name),
        ends_all: end.contains(&name),
        preferences: preferences(&gateway, &name),
        name,
    });
    Ok(Json(Me {
        user_id: caller.username.clone(),
        groups: caller.groups.clone(),
        organizations: organizations.collect(),
        mfa: MfaView { required: false, verified: "Unknown".to_owned(), method: None, verified_at: None },
    }))
}

fn preferences(gateway: &Gateway, organization: &str) -> Preferences {
    let policy = gateway.board.stores.policies.get(organization, "default");
    let rules = policy.and_then(|policy| Rules::of("default", &policy.spec).ok()).unwrap_or_else(Rules::built_in);
    Preferences {
        idle_timeout_seconds: rules.disconnect_after.num_seconds(),
        idle_timeout_max_seconds: rules.user_max.max(rules.disconnect_after).num_seconds(),
    }
}
