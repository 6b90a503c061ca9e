//! A request that is not done: the `Status` that says so. Owns its shape and the API server's sentences.

use serde_json::{Map, Value, json};

/// Why a request is not done, as a `Status` of Kubernetes says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// One word, such as `Conflict`.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// `details`, with the name, the kind and the causes.
    pub details: Value,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One word, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// The path of the field.
    pub field: String,
    /// A sentence, without the path.
    pub message: String,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: Value::Null }
    }

    /// A refusal that asks to come again after some seconds: 429, 500, 503 and 504 may.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.detail("retryAfterSeconds", json!(seconds));
        self
    }

    /// The server cannot be used: 503.
    pub fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    }

    /// Too many requests: 429.
    pub fn throttled() -> Self {
        Self::new(
            429,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        )
        .retry_after(1)
    }

    /// The server failed: 500.
    pub fn internal(message: &str) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// The server did not do it in time, which does not say that it was not done: 504.
    pub fn timeout() -> Self {
        Self::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout")
    }

    /// Not allowed: 403.
    pub fn forbidden(resource: &str, name: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("{resource} {name:?} is forbidden: {why}")).about(resource, name)
    }

    /// Cannot be understood: 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// Not there: 404.
    pub fn not_found(resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found")).about(resource, name)
    }

    /// There already: 409.
    pub fn already_exists(resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} {name:?} already exists")).about(resource, name)
    }

    /// Not as the request says that it is: 409.
    pub fn conflict(resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// What is asked for is compacted: 410.
    pub fn expired(message: &str) -> Self {
        Self::new(410, "Expired", message)
    }

    /// An object that may not be: 422.
    pub fn invalid(kind: &str, group: &str, name: &str, causes: &[Cause]) -> Self {
        let sentences: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let (full, words) = match sentences.as_slice() {
            [one] => (kind_and_group(kind, group), one.clone()),
            several => (kind_and_group(kind, group), format!("[{}]", several.join(", "))),
        };
        let mut refusal = Self::new(422, "Invalid", format!("{full} {name:?} is invalid: {words}"));
        let listed =
            causes.iter().map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}));
        if !name.is_empty() {
            refusal.detail("name", json!(name));
        }
        if !group.is_empty() {
            refusal.detail("group", json!(group));
        }
        refusal.detail("kind", json!(kind));
        refusal.detail("causes", listed.collect());
        refusal
    }

    /// With the resource that it is about, written `sessions.berth.dev`.
    fn about(mut self, resource: &str, name: &str) -> Self {
        let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
        self.detail("name", json!(name));
        if !group.is_empty() {
            self.detail("group", json!(group));
        }
        self.detail("kind", json!(kind));
        self
    }

    /// Sets one field of the details.
    pub fn detail(&mut self, field: &str, value: Value) {
        if !self.details.is_object() {
            self.details = Value::Object(Map::new());
        }
        if let Some(details) = self.details.as_object_mut() {
            details.insert(field.to_owned(), value);
        }
    }

    /// The `Status` that says it.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

fn kind_and_group(kind: &str, group: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") }
}
