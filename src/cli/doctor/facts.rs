//! What the doctor asks the cluster. Each fact is what was answered or why there is no answer; what it means is
//! `judge`'s.

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{join_all, try_join_all};
use http::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::{Api, ResourceExt};

use crate::api::{GROUP, Session, VERSION, Workspace};
use crate::cli::exit::{Asked, Exit, Failure};
use crate::cli::objects::{self, Found, LIVE, Wanted};
use crate::cli::target::{Scope, Target, call};
use crate::clock::Clock;
use crate::install;

/// The name of the operator's Deployment, and of its lease.
const OPERATOR: &str = "berth-operator";

/// An answer, or why there is none.
pub type Fact<T> = Result<T, Failure>;

/// The API server, as it answers.
#[derive(Debug)]
pub struct Server {
    /// Major and minor version.
    pub version: (u32, u32),
    /// The version in full.
    pub git_version: String,
    /// How far this machine's clock is ahead of the API server's; zero where it did not say.
    pub ahead: TimeDelta,
}

/// Asks the API server for its version and its time.
pub async fn server(target: &Target) -> Fact<Server> {
    let asked = Asked::new("get", "/version", "the cluster");
    let info = call(&asked, target.client.apiserver_version()).await?;
    let request = Request::get("/version").body(Body::empty());
    let request = request.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let before = Clock::system().now();
    let response = call(&asked, target.client.send(request)).await?;
    let middle = before + (Clock::system().now() - before) / 2;
    let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.with_timezone(&Utc));
    // The header has whole seconds: on average half a second has passed.
    let ahead = date.map_or(TimeDelta::zero(), |date| middle - date - TimeDelta::milliseconds(500));
    Ok(Server { version: (leading(&info.major), leading(&info.minor)), git_version: info.git_version, ahead })
}

/// The number that `text` begins with: some providers write `33+`.
fn leading(text: &str) -> u32 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

/// A definition of a kind.
#[derive(Debug)]
pub struct Definition {
    /// The name of the CRD.
    pub name: String,
    /// As this program has it.
    pub ours: Box<CustomResourceDefinition>,
    /// As it stands; nothing where it does not.
    pub theirs: Option<Box<CustomResourceDefinition>>,
}

/// How much can be seen of the definitions.
#[derive(Debug)]
pub enum Definitions {
    /// All of them.
    Read(Vec<Definition>),
    /// Only that these are served, by their plural names.
    Served(Vec<String>),
}

/// Reads the CRDs; who may not, sees at least what is served.
pub async fn definitions(target: &Target) -> Fact<Definitions> {
    let api: Api<CustomResourceDefinition> = Api::all(target.client.clone());
    let read = install::crds().into_iter().map(|(_, ours)| {
        let api = api.clone();
        async move {
            let name = ours.name_any();
            let asked = Asked::new("get", "customresourcedefinitions.apiextensions.k8s.io", "the cluster").of(&name);
            let theirs = call(&asked, api.get_opt(&name)).await?.map(Box::new);
            Ok::<Definition, Failure>(Definition { name, ours: Box::new(ours), theirs })
        }
    });
    match try_join_all(read).await {
        Err(failure) if failure.exit == Exit::Refused => {
            let served = format!("{GROUP}/{VERSION}");
            let asked = Asked::new("get", format!("/apis/{served}"), "the cluster");
            let listed = match call(&asked, target.client.list_api_group_resources(&served)).await {
                Err(failure) if failure.exit == Exit::NotFound => return Ok(Definitions::Served(Vec::new())),
                listed => listed?,
            };
            Ok(Definitions::Served(listed.resources.into_iter().map(|resource| resource.name).collect()))
        }
        read => read.map(Definitions::Read),
    }
}

/// An operator, as its Deployment stands.
#[derive(Debug)]
pub struct Operator {
    /// Its namespace.
    pub namespace: String,
    /// How many of its pods are ready.
    pub ready: i32,
    /// How many there should be.
    pub wanted: i32,
    /// Its image.
    pub image: String,
    /// The version that its labels tell.
    pub version: Option<String>,
}

/// Looks for operators, in all namespaces or where they are said to be.
pub async fn operators(target: &Target, namespace: &str) -> Fact<Vec<Operator>> {
    let params = ListParams::default().labels(&format!("app.kubernetes.io/name={OPERATOR}"));
    let everywhere: Api<Deployment> = Api::all(target.client.clone());
    let asked = Asked::new("list", "deployments.apps", Scope::All.to_string());
    let found = match call(&asked, everywhere.list(&params)).await {
        Err(failure) if failure.exit == Exit::Refused => {
            let there: Api<Deployment> = Api::namespaced(target.client.clone(), namespace);
            let asked = Asked::new("list", "deployments.apps", format!("namespace {namespace}"));
            call(&asked, there.list(&params)).await?
        }
        found => found?,
    };
    Ok(found.items.iter().map(operator).collect())
}

fn operator(deployment: &Deployment) -> Operator {
    let spec = deployment.spec.as_ref();
    let containers = spec.and_then(|spec| spec.template.spec.as_ref()).map(|pod| pod.containers.as_slice());
    let image = containers.and_then(|containers| containers.first()).and_then(|container| container.image.clone());
    Operator {
        namespace: deployment.namespace().unwrap_or_default(),
        ready: deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0),
        wanted: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        image: image.unwrap_or_default(),
        version: deployment.labels().get("app.kubernetes.io/version").cloned(),
    }
}

/// The lease of each operator, or of the one that may be where operators are said to be.
pub async fn leases(
    target: &Target,
    operators: &Fact<Vec<Operator>>,
    namespace: &str,
) -> Fact<Vec<(String, Option<Lease>)>> {
    let mut namespaces: Vec<String> = operators.iter().flatten().map(|operator| operator.namespace.clone()).collect();
    if namespaces.is_empty() {
        namespaces.push(namespace.to_owned());
    }
    let read = namespaces.into_iter().map(|namespace| async move {
        let api: Api<Lease> = Api::namespaced(target.client.clone(), &namespace);
        let asked = Asked::new("get", "leases.coordination.k8s.io", format!("namespace {namespace}")).of(OPERATOR);
        let lease = call(&asked, api.get_opt(OPERATOR)).await?;
        Ok::<_, Failure>((namespace, lease))
    });
    try_join_all(read).await
}

/// What the caller needs for all commands: verb, resource.
pub const NEEDED: [(&str, &str); 8] = [
    ("create", "sessions"),
    ("get", "sessions"),
    ("list", "sessions"),
    ("watch", "sessions"),
    ("patch", "sessions"),
    ("get", "workspaces"),
    ("list", "workspaces"),
    ("delete", "sessions"),
];

/// What of [`NEEDED`] the caller may not do.
pub async fn permissions(target: &Target, scope: &Scope) -> Fact<Vec<(&'static str, &'static str)>> {
    let namespace = match scope {
        Scope::Namespace(namespace) => Some(namespace.clone()),
        Scope::All => None,
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(target.client.clone());
    let asked = Asked::new("create", "selfsubjectaccessreviews.authorization.k8s.io", "the cluster");
    let asks = NEEDED.map(|(verb, resource)| {
        let attributes = ResourceAttributes {
            group: Some(GROUP.to_owned()),
            namespace: namespace.clone(),
            resource: Some(resource.to_owned()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let (reviews, asked) = (reviews.clone(), asked.clone());
        async move {
            let answer = call(&asked, reviews.create(&PostParams::default(), &review)).await?;
            let may = answer.status.is_some_and(|status| status.allowed);
            Ok::<_, Failure>((!may).then_some((verb, resource)))
        }
    });
    let answers: Result<Vec<_>, Failure> = join_all(asks).await.into_iter().collect();
    Ok(answers?.into_iter().flatten().collect())
}

/// The storage classes: name, and whether it is the default.
pub async fn storage_classes(target: &Target) -> Fact<Vec<(String, bool)>> {
    const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
    let api: Api<StorageClass> = Api::all(target.client.clone());
    let asked = Asked::new("list", "storageclasses.storage.k8s.io", "the cluster");
    let classes = call(&asked, api.list(&ListParams::default())).await?;
    let is_default = |class: &StorageClass| class.annotations().get(DEFAULT).is_some_and(|value| value == "true");
    Ok(classes.items.iter().map(|class| (class.name_any(), is_default(class))).collect())
}

/// The Workspaces.
pub async fn workspaces(target: &Target, scope: &Scope) -> Fact<Vec<Workspace>> {
    let found = objects::list::<Workspace>(target, scope, &Wanted::default()).await?;
    Ok(found.into_iter().map(|found| found.object).collect())
}

/// The live sessions.
pub async fn sessions(target: &Target, scope: &Scope) -> Fact<Vec<Session>> {
    let found: Vec<Found<Session>> = objects::list(target, scope, &Wanted { fields: Some(LIVE), labels: None }).await?;
    Ok(found.into_iter().map(|found| found.object).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_providers_are_read() {
        assert_eq!((leading("33"), leading("33+"), leading("")), (33, 33, 0));
    }
}
