//! Reading our objects: typed for what is decided on, and whole for what is printed, so that `-o json` loses no field
//! that this version does not know. One object that cannot be read stops no list.

use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::exit::{Asked, Exit, Failure};
use super::output::note;
use super::target::{Scope, Target, call};
use crate::api::{Session, Workspace};

/// How many objects one request brings.
const PAGE: u32 = 500;

/// Sessions that are live.
pub const LIVE: &str = "status.endedAt=";
/// Sessions that have ended.
pub const ENDED: &str = "status.endedAt!=";

/// A kind of ours.
pub trait Kind: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + DeserializeOwned {}

impl Kind for Session {}
impl Kind for Workspace {}

/// An object as it was read.
#[derive(Clone, Debug)]
pub struct Found<K> {
    /// As this version reads it.
    pub object: K,
    /// As it stands.
    pub whole: Value,
}

/// What of a kind is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// A selector of fields.
    pub fields: Option<&'a str>,
    /// A selector of labels.
    pub labels: Option<&'a str>,
}

/// `sessions.berth.dev` or `workspaces.berth.dev`.
pub fn resource<K: Kind>() -> String {
    format!("{}.{}", K::plural(&()), K::group(&()))
}

/// The object as kubectl names it: `session.berth.dev/NAME`.
pub fn full_name<K: Kind>(name: &str) -> String {
    format!("{}.{}/{name}", K::kind(&()).to_lowercase(), K::group(&()))
}

fn api<K: Kind>(target: &Target, scope: &Scope) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<K>(&());
    match scope {
        Scope::Namespace(namespace) => Api::namespaced_with(target.client.clone(), namespace, &kind),
        Scope::All => Api::all_with(target.client.clone(), &kind),
    }
}

/// All objects of a kind in `scope` that are wanted. Those that cannot be read are told of and left out.
///
/// # Errors
/// When the API server does not give them.
pub async fn list<K: Kind>(target: &Target, scope: &Scope, wanted: &Wanted<'_>) -> Result<Vec<Found<K>>, Failure> {
    let asked = Asked::new("list", resource::<K>(), scope.to_string());
    let api = api::<K>(target, scope);
    let mut params = ListParams::default().limit(PAGE);
    params.field_selector = wanted.fields.map(ToOwned::to_owned);
    params.label_selector = wanted.labels.map(ToOwned::to_owned);
    let mut found = Vec::new();
    loop {
        let page = call(&asked, api.list(&params)).await?;
        found.extend(page.items.into_iter().filter_map(read::<K>));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// The object of this name, if it is there.
///
/// # Errors
/// When the API server does not say, or this version cannot read it.
pub async fn find<K: Kind>(target: &Target, name: &str) -> Result<Option<Found<K>>, Failure> {
    let scope = target.scope(false);
    let asked = Asked::new("get", resource::<K>(), scope.to_string()).of(name);
    let Some(object) = call(&asked, api::<K>(target, &scope).get_opt(name)).await? else { return Ok(None) };
    typed(object).map(Some).map_err(|error| {
        Failure::new(Exit::Failed, format!("{} cannot be read by this version: {error}", full_name::<K>(name)))
            .next("`kubectl berth doctor` compares the versions")
    })
}

/// Merges `patch` into the spec of a session.
///
/// # Errors
/// When the API server refuses.
pub async fn patch(target: &Target, namespace: &str, name: &str, spec: Value) -> Result<Session, Failure> {
    let scope = Scope::Namespace(namespace.to_owned());
    let asked = Asked::new("patch", resource::<Session>(), scope.to_string()).of(name);
    let sessions: Api<Session> = Api::namespaced(target.client.clone(), namespace);
    call(&asked, sessions.patch(name, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec })))).await
}

/// That no such session is there, and which are.
pub async fn no_such_session(target: &Target, name: &str) -> Failure {
    let scope = target.scope(false);
    let failure = Failure::new(Exit::NotFound, format!("no session {name} in {scope}"));
    let live = list::<Session>(target, &scope, &Wanted { fields: Some(LIVE), labels: None }).await;
    match live {
        Ok(live) => failure.next(there_are("live sessions", live.iter().map(|found| found.object.name_any()))),
        // Who may not list them is not told of them.
        Err(_) => failure,
    }
}

/// That there are these, in words.
pub fn there_are(what: &str, names: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<String> = names.collect();
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<String>>().join(", ");
    match names.len() {
        0 => format!("there are no {what} there; -n names another namespace"),
        count if count > SHOWN => format!("{what} there: {shown} and {} more", count - SHOWN),
        _ => format!("{what} there: {shown}"),
    }
}

fn read<K: Kind>(object: DynamicObject) -> Option<Found<K>> {
    let name = object.name_any();
    match typed(object) {
        Ok(found) => Some(found),
        Err(error) => {
            let name = full_name::<K>(&name);
            note(&format!("warning: {name} cannot be read by this version and is left out: {error}"));
            None
        }
    }
}

/// The object typed, and whole but for what is the API server's own bookkeeping.
///
/// # Errors
/// When this version cannot read it.
pub fn typed<K: Kind>(mut object: DynamicObject) -> Result<Found<K>, serde_json::Error> {
    object.metadata.managed_fields = None;
    let mut whole = serde_json::to_value(&object)?;
    whole["apiVersion"] = json!(K::api_version(&()));
    whole["kind"] = json!(K::kind(&()));
    let object = K::deserialize(&whole)?;
    Ok(Found { object, whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_this_version_does_not_know_is_printed() {
        let stored = json!({
            "metadata": { "name": "a", "managedFields": [{ "manager": "x" }] },
            "spec": { "workspaceRef": { "name": "w" }, "user": { "id": "ana" }, "novel": 1 },
        });
        let found: Found<Session> = typed(serde_json::from_value(stored).unwrap()).unwrap();
        assert_eq!((&found.whole["spec"]["novel"], &found.whole["kind"]), (&json!(1), &json!("Session")));
        assert!(found.whole["metadata"].get("managedFields").is_none());
        assert_eq!(found.object.spec.user.id.as_str(), "ana");
    }

    #[test]
    fn what_is_there_is_named() {
        let names = |count: usize| (0..count).map(|number| format!("w{number}"));
        assert_eq!(there_are("workspaces", names(2)), "workspaces there: w0, w1");
        assert!(there_are("workspaces", names(0)).contains("no workspaces"));
        assert!(there_are("workspaces", names(25)).ends_with("and 5 more"));
    }
}
