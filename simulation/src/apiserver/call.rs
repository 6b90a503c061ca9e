//! A request as it is understood: who, which verb, on what. Owns the reading of paths and queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::kinds::{Kind, Kinds};
use super::path;
use super::refusal::Refusal;

/// A verb of the API, as RBAC calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads many.
    List,
    /// Follows many.
    Watch,
    /// Makes one.
    Create,
    /// Replaces one.
    Update,
    /// Changes one.
    Patch,
    /// Deletes one.
    Delete,
    /// Deletes many.
    DeleteCollection,
}

impl Verb {
    /// As RBAC writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number, from 1, in the order in which requests came.
    pub number: u64,
    /// Who sends it.
    pub who: String,
    /// When it came, since the start.
    pub at: Duration,
    /// What is to be done.
    pub verb: Verb,
    /// To which kind.
    pub kind: Arc<Kind>,
    /// In which namespace; empty for all, and for kinds without.
    pub namespace: String,
    /// To which object; empty for many. Of a create: the name in the body.
    pub name: String,
    /// `status`, `binding`, or empty.
    pub subresource: String,
    /// Whether something is to be stored.
    pub is_write: bool,
    /// Whether it is only tried.
    pub is_dry: bool,
    /// The parameters.
    pub query: BTreeMap<String, String>,
    /// What was sent; null without a body.
    pub body: Arc<Value>,
    /// The media type of what was sent.
    pub content_type: String,
    /// Whether only metadata is asked for.
    pub metadata_only: bool,
}

impl Call {
    /// Understands the request that `who` sends at this time.
    ///
    /// # Errors
    /// When there is no such resource, or the request cannot be read.
    pub fn read(kinds: &Kinds, who: &str, at: Duration, request: &http::Request<Bytes>) -> Result<Self, Refusal> {
        path::read(kinds, who, at, request)
    }
}
