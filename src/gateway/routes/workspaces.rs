//! What a caller may launch, and launching it.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::IDEMPOTENCY_KEY;
use super::answers::{Common, Conflict, Forbidden, Malformed, NotFound, OfBody};
use super::extract::{Asked, Body, Named};
use super::sessions::Message;
use crate::api::{Session, Workspace};
use crate::gateway::Gateway;
use crate::gateway::act::{Created, End, Launch, Verdict, has_ended, line};
use crate::gateway::asker::Asker;
use crate::gateway::problem::Problem;
use crate::gateway::record::{Action, Target};
use crate::gateway::rights::Right;
use crate::gateway::view::{TunnelStatus, WorkspaceView};

/// Where a Workspace is looked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Where {
    /// The organization; needed where several that the caller belongs to have one of that name.
    pub organization: Option<String>,
}

/// What the caller may launch
#[utoipa::path(get, path = "/api/workspaces", tag = "workspaces", params(Where), security(("token" = [])), responses(
    (status = 200, body = [WorkspaceView]), Malformed, Common,
))]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Asked(place): Asked<Where>,
) -> Result<Json<Vec<WorkspaceView>>, Problem> {
    let here = |organization: &String| place.organization.as_ref().is_none_or(|wanted| wanted == organization);
    let all = gateway.board.workspaces().into_iter().filter(|((organization, _), _)| here(organization)).collect();
    let mine = gateway.launchable(&asker, all).await?;
    Ok(Json(mine.iter().map(|workspace| WorkspaceView::of(workspace)).collect()))
}

/// One Workspace that the caller may launch
#[utoipa::path(get, path = "/api/workspaces/{id}", tag = "workspaces",
    params(("id" = String, Path, description = "the Workspace's name"), Where), security(("token" = [])), responses(
    (status = 200, body = WorkspaceView), Malformed, NotFound, Conflict, Common,
))]
pub async fn one(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(id): Named,
    Asked(place): Asked<Where>,
) -> Result<Json<WorkspaceView>, Problem> {
    let workspace = gateway.workspace(&asker, &id, place.organization.as_deref()).await?;
    Ok(Json(WorkspaceView::of(&workspace)))
}

/// What a launch may be told.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct LaunchBody {
    /// The device, as its owner calls it.
    pub device: Option<String>,
    /// Wait for a slot where none is free, instead of being refused.
    pub wait: bool,
}

/// A launch that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Launched {
    /// The session's id.
    #[schema(format = "uuid")]
    pub session_id: String,
    /// The session's name.
    pub session_name: String,
    /// The exact phase: one that waits for a slot is Pending.
    pub phase: String,
    /// What was launched.
    pub workspace: WorkspaceView,
    /// Where its viewer is.
    pub stream_url: String,
    /// What was observed of the tunnel.
    pub tunnel_status: TunnelStatus,
    /// What the session is protected by.
    pub security: Security,
}

/// What a session is protected by, as far as it was observed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Security {
    /// Whether the policy asks for a second factor.
    pub mfa_required: bool,
    /// True only on evidence.
    pub mfa_verified: bool,
    /// What was observed of the tunnel.
    pub tunnel: TunnelStatus,
    /// Whether the session is recorded.
    pub recording: bool,
}

/// Launches a Workspace
///
/// Waits shortly for the operator's verdict. Calls with one `Idempotency-Key` are one launch.
#[utoipa::path(post, path = "/api/workspaces/{id}/launch", tag = "workspaces",
    params(("id" = String, Path, description = "the Workspace's name"), Where,
        ("Idempotency-Key" = Option<String>, Header, description = "makes calls that bear it one launch")),
    request_body(content = Option<LaunchBody>), security(("token" = [])), responses(
    (status = 200, body = Launched), OfBody, Forbidden, NotFound, Conflict, Common,
))]
pub async fn launch(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(id): Named,
    Asked(place): Asked<Where>,
    headers: HeaderMap,
    Body(body): Body<LaunchBody>,
) -> Result<Json<Launched>, Problem> {
    let key = idempotency_key(&headers)?;
    let workspace = gateway.workspace(&asker, &id, place.organization.as_deref()).await?;
    if workspace.spec.maintenance {
        return Err(Problem::conflict("the workspace is in maintenance: nobody new is let in for now"));
    }
    let organization = workspace.namespace().unwrap_or_default();
    let launch = Launch {
        user: asker.caller.username.clone(),
        email: email(&asker),
        client: client(&asker, body.device.as_deref()),
        wait: body.wait,
        workspace: id.clone(),
        organization: organization.clone(),
        key,
    };
    let target = Target::workspace(&organization, &id);
    let details =
        json!({ "device": body.device.as_deref().map(line), "wait": body.wait, "userAgent": asker.user_agent });
    let change = async move |gateway: Arc<Gateway>| {
        gateway.recorded(&asker, Action::LaunchWorkspace, &target, details, gateway.launched(&launch)).await
    };
    let session = gateway.whole(change).await?;
    Ok(Json(shown(&session, &workspace)))
}

fn shown(session: &Session, workspace: &Workspace) -> Launched {
    let id = session.uid().unwrap_or_default();
    let phase = session.status.as_ref().and_then(|status| status.phase);
    Launched {
        session_name: session.name_any(),
        phase: phase.map_or("Pending", |phase| phase.as_str()).to_owned(),
        workspace: WorkspaceView::of(workspace),
        stream_url: format!("/viewer/{id}"),
        session_id: id,
        tunnel_status: TunnelStatus::Unknown,
        security: Security {
            mfa_required: false,
            mfa_verified: false,
            tunnel: TunnelStatus::Unknown,
            recording: false,
        },
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=255).contains(&text.len()));
    text.map(|text| Some(text.to_owned()))
        .ok_or_else(|| Problem::malformed("Idempotency-Key: write 1 to 255 printable characters, such as a UUID"))
}

/// The e-mail address that the authenticator says, where it looks like one.
fn email(asker: &Asker) -> Option<String> {
    let said = asker.caller.extra.iter().find(|(key, _)| key.rsplit('/').next() == Some("email"));
    let email = said.and_then(|(_, values)| values.first())?;
    let is_one = email.len() <= 254 && email.split('@').filter(|part| !part.is_empty()).count() == 2;
    (is_one && email.chars().all(|letter| letter.is_ascii_graphic())).then(|| email.clone())
}

/// The client as it describes itself, and the address that the gateway has seen.
fn client(asker: &Asker, device: Option<&str>) -> Value {
    let mut client = json!({ "ipAddress": asker.address.ip.to_string() });
    if let Some(device) = device.map(line).filter(|device| !device.is_empty()) {
        client["device"] = json!(device);
    }
    if let Some(agent) = asker.user_agent.as_deref().map(line).filter(|agent| !agent.is_empty()) {
        client["userAgent"] = json!(agent);
    }
    client
}

/// Stops a Workspace
///
/// Ends the caller's live sessions on it as Terminated; an administrator's call ends everybody's.
#[utoipa::path(post, path = "/api/workspaces/{id}/stop", tag = "workspaces",
    params(("id" = String, Path, description = "the Workspace's name"), Where), security(("token" = [])), responses(
    (status = 200, body = Message), Malformed, Forbidden, NotFound, Conflict, Common,
))]
pub async fn stop(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(id): Named,
    Asked(place): Asked<Where>,
) -> Result<Json<Message>, Problem> {
    let workspace = gateway.workspace(&asker, &id, place.organization.as_deref()).await?;
    let organization = workspace.namespace().unwrap_or_default();
    let is_administrator = gateway.rights.has(&asker.caller, &organization, Right::End).await?;
    let is_meant = |session: &Arc<Session>| {
        let its_own = session.spec.user.id.as_str() == asker.caller.username;
        session.spec.workspace_ref.name.as_str() == id && !has_ended(session) && (its_own || is_administrator)
    };
    let meant: Vec<Arc<Session>> = gateway.board.sessions_in(&organization).into_iter().filter(is_meant).collect();
    let target = Target::workspace(&organization, &id);
    let uids: Vec<String> = meant.iter().filter_map(|session| session.uid()).take(100).collect();
    let details = json!({ "count": meant.len(), "sessions": uids });
    let count = meant.len();
    let change = async move |gateway: Arc<Gateway>| {
        let stopped = async {
            let ends = meant.iter().map(|session| gateway.end(session, End::Stopped, &asker.caller.username));
            // All are asked for, also where one fails.
            futures::future::join_all(ends).await.into_iter().try_for_each(|end| end.map(drop))
        };
        gateway.recorded(&asker, Action::StopWorkspace, &target, details, stopped).await
    };
    gateway.whole(change).await?;
    let what = match count {
        0 => "Workspace stopped: no session was live".to_owned(),
        1 => "Workspace stopped".to_owned(),
        count => format!("Workspace stopped: {count} sessions ended"),
    };
    Ok(Json(Message { message: what }))
}

impl Gateway {
    /// Those of these Workspaces that the caller may launch.
    async fn launchable(
        &self,
        asker: &Asker,
        all: Vec<((String, String), Arc<Workspace>)>,
    ) -> Result<Vec<Arc<Workspace>>, Problem> {
        let mut organizations: Vec<String> = all.iter().map(|((organization, _), _)| organization.clone()).collect();
        organizations.dedup();
        let asked = organizations.into_iter().map(|it| (it.clone(), it, Right::LaunchAll)).collect();
        let whole = self.rights.among(&asker.caller, asked).await?;
        let (known, single): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|((organization, _), _)| whole.contains(organization));
        let asked = single
            .into_iter()
            .map(|((organization, name), workspace)| (workspace, organization, Right::Launch(name)))
            .collect();
        let mut mine: Vec<Arc<Workspace>> = known.into_iter().map(|(_, workspace)| workspace).collect();
        mine.extend(self.rights.among(&asker.caller, asked).await?);
        mine.sort_by_key(|workspace| (workspace.namespace(), workspace.name_any()));
        Ok(mine)
    }

    /// The organizations that have something that the caller may launch.
    ///
    /// # Errors
    /// When nobody says.
    pub async fn launch_places(&self, asker: &Asker) -> Result<BTreeSet<String>, Problem> {
        let mine = self.launchable(asker, self.board.workspaces().into_iter().collect()).await?;
        Ok(mine.iter().filter_map(|workspace| workspace.namespace()).collect())
    }

    /// The Workspace of this name that the caller may launch, in this organization or in the only one that has it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    async fn workspace(
        &self,
        asker: &Asker,
        name: &str,
        organization: Option<&str>,
    ) -> Result<Arc<Workspace>, Problem> {
        let is_it = |(place, named): &(String, String)| named == name && organization.is_none_or(|it| it == place);
        let all = self.board.workspaces().into_iter().filter(|(place, _)| is_it(place)).collect();
        let mut mine = self.launchable(asker, all).await?;
        match mine.len() {
            0 => Err(Problem::not_found("Workspace")),
            1 => Ok(mine.remove(0)),
            _ => {
                let places: Vec<String> = mine.iter().filter_map(|workspace| workspace.namespace()).collect();
                Err(Problem::conflict(format!(
                    "several organizations have a workspace {name}: add ?organization= with one of {}",
                    places.join(", ")
                )))
            }
        }
    }

    /// Launches, and waits for the verdict. What comes to nothing is not left behind.
    async fn launched(&self, launch: &Launch) -> Result<Arc<Session>, Problem> {
        let Created { session, is_ours } = self.create(launch).await?;
        match self.verdict(session).await {
            Verdict::Launched(session) => {
                // A launch stands whether or not this can be said of it.
                let (gateway, launched) = (self.clone(), Arc::clone(&session));
                self.changes.spawn(async move { gateway.vouch(&launched).await });
                Ok(session)
            }
            Verdict::Refused(session, why) => {
                if is_ours {
                    self.withdraw(&session, &launch.user).await;
                }
                Err(Problem::conflict(why))
            }
            Verdict::Unheard(session) => {
                if is_ours {
                    self.withdraw(&session, &launch.user).await;
                }
                Err(Problem::unavailable("Berth's operator has not answered: the launch was withdrawn"))
            }
        }
    }

    /// Ends a session that its user does not know of.
    async fn withdraw(&self, session: &Session, user: &str) {
        if has_ended(session) {
            return;
        }
        if let Err(problem) = self.ask_to_end(session, End::Disconnected, user).await {
            tracing::warn!(name = session.name_any(), detail = problem.detail(), "a launch could not be withdrawn");
        }
    }
}
