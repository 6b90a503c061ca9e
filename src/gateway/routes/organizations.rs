//! What administrators of an organization see and do there. To everybody else the organization does not exist.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answers::{Common, Malformed, NotFound, OfBody};
use super::extract::{Asked, Body, Named};
use super::sessions::EndedAll;
use crate::api::SessionPolicy;
use crate::api::duration;
use crate::api::policy::ActivitySource;
use crate::gateway::Gateway;
use crate::gateway::act::End;
use crate::gateway::asker::Asker;
use crate::gateway::filter::{EndAllBody, LARGEST_PAGE, ListQuery, read_time};
use crate::gateway::past::Whose;
use crate::gateway::problem::Problem;
use crate::gateway::record::{Action, unread};
use crate::gateway::rights::Right;
use crate::gateway::view::SessionView;
use crate::plan::policy::Rules;
use crate::store::audit::{AuditQuery, Record};

impl Gateway {
    /// Lets through who has this right in the organization; to all others there is none.
    async fn administers(&self, asker: &Asker, organization: &str, right: Right) -> Result<(), Problem> {
        match is_name(organization) && self.rights.has(&asker.caller, organization, right).await? {
            true => Ok(()),
            false => Err(Problem::not_found("Organization")),
        }
    }
}

/// Whether a namespace could be called that.
fn is_name(text: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    (1..=63).contains(&text.len()) && text.chars().all(letters)
}

/// Everybody's sessions in an organization
///
/// The newest first, history included, in pages of 500 or of `limit`; for its administrators.
#[utoipa::path(get, path = "/api/organizations/{org}/sessions", tag = "organizations",
    params(("org" = String, Path, description = "the organization"), ListQuery), security(("token" = [])), responses(
    (status = 200, body = [SessionView], headers(("Link" = Option<String>, description = "the next page, with `limit`"))), Malformed, NotFound, Common,
))]
pub async fn sessions(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(org): Named,
    OriginalUri(uri): OriginalUri,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, Problem> {
    gateway.administers(&asker, &org, Right::See).await?;
    let mut wanted = query.read(gateway.clock.now())?;
    // The past of a whole organization has no bound.
    wanted.limit = wanted.limit.or(Some(LARGEST_PAGE));
    let standing = gateway.board.sessions_in(&org);
    let page = gateway.page(standing, Whose::Organization(&org), &wanted).await?;
    Ok(page.answer(&gateway, &uri))
}

/// Ends everybody's live sessions in an organization
///
/// Those that the body means; all of them without one. `dry_run` ends nothing.
#[utoipa::path(post, path = "/api/organizations/{org}/disconnect-all", tag = "organizations",
    params(("org" = String, Path, description = "the organization")), request_body(content = Option<EndAllBody>),
    security(("token" = [])), responses(
    (status = 200, body = EndedAll), OfBody, NotFound, Common,
))]
pub async fn disconnect_all(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(org): Named,
    Body(body): Body<EndAllBody>,
) -> Result<Json<EndedAll>, Problem> {
    gateway.administers(&asker, &org, Right::End).await?;
    let there = gateway.board.sessions_in(&org);
    let change = async move |gateway: Arc<Gateway>| {
        gateway.end_all(&asker, there, body, Action::EndSession, End::Administrator).await
    };
    gateway.whole(change).await.map(Json)
}

/// A live attachment to a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionView {
    /// Its id.
    pub id: String,
    /// The Workspace's display name.
    pub service_name: String,
    /// The Workspace's name.
    pub service_id: String,
    /// The gateways that carry it.
    pub edge_routers: Vec<String>,
    /// `Dial` (a client reaches a workspace) or `Bind` (a workspace hosts).
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether no person is behind it.
    pub is_system: bool,
    /// When it began.
    pub created_at: DateTime<Utc>,
}

/// The connections that gateways carry in an organization
///
/// None: this version carries no traffic of sessions.
#[utoipa::path(get, path = "/api/organizations/{org}/connections", tag = "organizations",
    params(("org" = String, Path, description = "the organization")), security(("token" = [])), responses(
    (status = 200, body = [ConnectionView]), NotFound, Common,
))]
pub async fn connections(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(org): Named,
) -> Result<Json<Vec<ConnectionView>>, Problem> {
    gateway.administers(&asker, &org, Right::See).await?;
    Ok(Json(Vec::new()))
}

/// Somebody who calls the API.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiSessionView {
    /// By what the token is known.
    pub id: String,
    /// The Kubernetes username.
    pub identity_name: String,
    /// The uid, where the authenticator gives one; else the username.
    pub identity_id: String,
    /// Where the last call came from.
    pub ip_address: String,
    /// Whether a second factor is asked for.
    pub mfa_required: bool,
    /// True only on evidence.
    pub mfa_complete: bool,
    /// The last call.
    pub last_activity: DateTime<Utc>,
    /// The first one that is remembered.
    pub created_at: DateTime<Utc>,
}

/// Who of an organization has called this gateway within the last hour
///
/// Those who have a session there, each token once.
#[utoipa::path(get, path = "/api/organizations/{org}/api-sessions", tag = "organizations",
    params(("org" = String, Path, description = "the organization")), security(("token" = [])), responses(
    (status = 200, body = [ApiSessionView]), NotFound, Common,
))]
pub async fn api_sessions(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(org): Named,
) -> Result<Json<Vec<ApiSessionView>>, Problem> {
    gateway.administers(&asker, &org, Right::See).await?;
    let there = gateway.board.sessions_in(&org);
    let mut people: HashSet<&str> = there.iter().map(|session| session.spec.user.id.as_str()).collect();
    people.insert(&asker.caller.username);
    let all = gateway.visitors.all(gateway.clock.now()).into_iter();
    let views = all.filter(|visitor| people.contains(visitor.username.as_str())).map(|visitor| ApiSessionView {
        id: visitor.token,
        identity_id: visitor.uid.unwrap_or_else(|| visitor.username.clone()),
        identity_name: visitor.username,
        ip_address: visitor.address.ip.to_string(),
        mfa_required: false,
        mfa_complete: false,
        last_activity: visitor.last,
        created_at: visitor.first,
    });
    Ok(Json(views.collect()))
}

/// A policy with every value spelled out.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyView {
    /// The resource's name; null for the values that hold where there is none.
    pub name: Option<String>,
    /// Why it cannot be used, if so.
    pub trouble: Option<String>,
    /// Idle after this long without input.
    pub idle_after: String,
    /// Warned after this long without input.
    pub warn_after: String,
    /// Disconnected after this long without input.
    pub disconnect_after: String,
    /// The longest wish for that.
    pub user_max: String,
    /// Whether a keepalive counts as activity.
    pub allow_keep_alive: bool,
    /// Whose word makes silence idleness: `status` or `gateway`.
    #[schema(value_type = String)]
    pub activity_source: ActivitySource,
    /// The longest life of a session.
    pub max_duration: String,
    /// How long before that the warning comes.
    pub warn_before: String,
    /// How long a start may take.
    pub start_timeout: String,
    /// How long a session may wait for a slot.
    pub queue_timeout: String,
    /// From when on a session counts as long-running.
    pub alert_after: String,
    /// How long an ended session stays as a resource.
    pub keep_for: String,
    /// How many sessions one user may have; null for as many as there are slots.
    pub sessions_per_user: Option<i32>,
    /// What becomes of one too many: `Reject` or `EndOldest`.
    pub on_exceeded: Option<String>,
}

impl PolicyView {
    fn of(rules: Rules, name: Option<String>, trouble: Option<String>) -> Self {
        Self {
            name,
            trouble,
            idle_after: duration::write(rules.idle_after),
            warn_after: duration::write(rules.warn_after),
            disconnect_after: duration::write(rules.disconnect_after),
            user_max: duration::write(rules.user_max),
            allow_keep_alive: rules.allow_keep_alive,
            activity_source: rules.activity_source,
            max_duration: duration::write(rules.max_duration),
            warn_before: duration::write(rules.warn_before),
            start_timeout: duration::write(rules.start_timeout),
            queue_timeout: duration::write(rules.queue_timeout),
            alert_after: duration::write(rules.alert_after),
            keep_for: duration::write(rules.keep_for),
            sessions_per_user: rules.limit.map(|limit| limit.per_user),
            on_exceeded: rules.limit.map(|limit| format!("{:?}", limit.on_exceeded)),
        }
    }

    fn read(policy: &SessionPolicy) -> Self {
        let name = policy.name_any();
        match Rules::of(&name, &policy.spec) {
            Ok(rules) => Self::of(rules, Some(name), None),
            Err(error) => Self::of(Rules::built_in(), Some(name), Some(error.to_string())),
        }
    }
}

/// The policies of an organization, every value spelled out
///
/// Where none is called `default`, the values that hold for Workspaces without one stand first, without a name.
#[utoipa::path(get, path = "/api/organizations/{org}/policies", tag = "organizations",
    params(("org" = String, Path, description = "the organization")), security(("token" = [])), responses(
    (status = 200, body = [PolicyView]), NotFound, Common,
))]
pub async fn policies(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(org): Named,
) -> Result<Json<Vec<PolicyView>>, Problem> {
    gateway.administers(&asker, &org, Right::See).await?;
    let here = |policy: &SessionPolicy| policy.namespace().as_deref() == Some(org.as_str());
    let mut policies = gateway.board.stores.policies.reader().state_filter(here);
    policies.sort_by_key(|policy| policy.name_any());
    let built_in = policies.iter().all(|policy| policy.name_any() != "default");
    let first = built_in.then(|| PolicyView::of(Rules::built_in(), None, None));
    Ok(Json(first.into_iter().chain(policies.iter().map(|policy| PolicyView::read(policy))).collect()))
}

/// Which records are asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AuditFilter {
    /// By this actor.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// At this time or later.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
    /// Before this place in the chain: the next page.
    #[param(value_type = Option<u64>)]
    pub before: Option<String>,
    /// At most so many, up to 500, which it is without.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
}

/// A record of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordView {
    /// Its place in the chain, which is the whole installation's.
    pub seq: u64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// The kind of what it was done to.
    pub target_kind: String,
    /// Its name.
    pub target_name: String,
    /// Its uid, where it is known.
    pub target_uid: Option<String>,
    /// `Success`, `Failure` or `Denied`.
    pub outcome: String,
    /// Why it ended so.
    pub reason: Option<String>,
    /// Where the call came from.
    pub address: Option<String>,
    /// How that is known: `connection` or `forwarded`.
    pub address_source: Option<String>,
    /// What else there is to say.
    pub details: serde_json::Value,
    /// The hash of the record before it.
    pub previous: String,
    /// Its own hash.
    pub hash: String,
}

impl From<Record> for RecordView {
    fn from(record: Record) -> Self {
        let entry = record.entry;
        Self {
            seq: record.seq,
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            target_kind: entry.target_kind,
            target_name: entry.target_name,
            target_uid: entry.target_uid,
            outcome: entry.outcome.as_str().to_owned(),
            reason: entry.reason,
            address: entry.address,
            address_source: entry.address_source,
            details: entry.details,
            previous: record.previous,
            hash: record.hash,
        }
    }
}

/// The audit of an organization, the newest record first
#[utoipa::path(get, path = "/api/organizations/{org}/audit", tag = "organizations",
    params(("org" = String, Path, description = "the organization"), AuditFilter), security(("token" = [])), responses(
    (status = 200, body = [RecordView]), Malformed, NotFound, Common,
))]
pub async fn audit(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(org): Named,
    Asked(filter): Asked<AuditFilter>,
) -> Result<Json<Vec<RecordView>>, Problem> {
    gateway.administers(&asker, &org, Right::See).await?;
    let number = |field: &str, text: &Option<String>, most: u64| -> Result<Option<u64>, Problem> {
        let read = |text: &String| text.parse().ok().filter(|number| (1..=most).contains(number));
        let wrong = || Problem::malformed(format!("{field}: write a number from 1 to {most}"));
        text.as_ref().map(|text| read(text).ok_or_else(wrong)).transpose()
    };
    let limit = number("limit", &filter.limit, 500)?.unwrap_or(500);
    let query = AuditQuery {
        organizations: Some(vec![org]),
        actor: filter.actor,
        action: filter.action,
        since: filter.since.as_deref().map(|text| read_time("since", text)).transpose()?,
        until: filter.until.as_deref().map(|text| read_time("until", text)).transpose()?,
        after_seq: None,
        before_seq: number("before", &filter.before, u64::MAX >> 1)?,
        newest_first: true,
        limit: u32::try_from(limit).unwrap_or(500),
    };
    let records = gateway.store.records(&query).await.map_err(unread)?;
    Ok(Json(records.into_iter().map(RecordView::from).collect()))
}
