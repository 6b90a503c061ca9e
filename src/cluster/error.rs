//! What can go wrong between us and the API server, by what is to be done about it.

use std::time::Duration;

/// How long one request may take. The lease outlives the renewal deadline by as much, so that no request of a
/// former leader is under way when the next one begins.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// This process is not the leader any more.
    #[error("not the leader any more")]
    NotLeader,
    /// No answer in time: whether it was done is not known.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The API server or the way to it failed.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// An object stands under the name of ours and is not ours.
    #[error("{0}")]
    NotOurs(String),
    /// What stands could not be looked at, which says nothing about what is to be made.
    #[error("{0}")]
    NotSeen(String),
    /// The answer or the object cannot be read.
    #[error("cannot read {what}: {error}")]
    Unreadable {
        /// What was to be read.
        what: &'static str,
        /// Why not.
        error: serde_json::Error,
    },
    /// What was tried, the instance or a template, gave an answer that the planner has to decide on.
    #[error("there is something new to decide on")]
    Attempt,
}

impl CallError {
    /// Whether the object has changed since it was observed, so that the decision must be taken anew.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the API server refuses the object for what it is, now and later.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code(), Some(400 | 422)) && !self.is_denial()
    }

    /// The same failure of a look: an answer that would refuse an object refuses none that was only asked for.
    #[must_use]
    pub fn of_a_look(self) -> Self {
        if self.is_refusal() { Self::NotSeen(self.words()) } else { self }
    }

    /// Whether something beside the object stands against it, which may change: the namespace's Pod Security
    /// level, an admission policy or a webhook. A policy's denial has the same code as an invalid object.
    pub fn is_denial(&self) -> bool {
        let says = |words: &str| matches!(self, Self::Api(kube::Error::Api(status)) if status.message.contains(words));
        says("violates PodSecurity") || says("denied request") || says("denied the request")
    }

    /// The words that [`Self::kind`] has.
    pub const KINDS: [&str; 7] = ["no_answer", "not_ours", "unreadable", "conflict", "refused", "forbidden", "api"];

    /// One word for the kind of failure.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoAnswer(_) => "no_answer",
            Self::NotOurs(_) => "not_ours",
            Self::Unreadable { .. } => "unreadable",
            error if error.is_conflict() => "conflict",
            error if error.is_refusal() => "refused",
            error if error.code() == Some(403) || error.is_denial() => "forbidden",
            Self::Api(_) | Self::NotSeen(_) | Self::NotLeader | Self::Attempt => "api",
        }
    }

    /// The API server's own words, or ours.
    pub fn words(&self) -> String {
        match self {
            Self::Api(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        }
    }

    /// The HTTP status of the answer, if there was one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

/// Bounds a request in time.
pub async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    within(CALL_TIMEOUT, call).await
}

/// Bounds a request to this time, which is no longer than [`CALL_TIMEOUT`].
pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::NoAnswer(limit)),
    }
}

/// As [`bounded`], with "not there" as an answer.
pub async fn optional<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<Option<T>, CallError> {
    match bounded(call).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn every_kind_of_failure_is_among_those_that_are_counted_from_the_beginning() {
        let answered = |code, message: &str| {
            CallError::Api(kube::Error::Api(Box::new(Status::failure(message, "").with_code(code))))
        };
        let unreadable = serde_json::from_str::<u8>("{").unwrap_err();
        let failures = [
            CallError::NoAnswer(CALL_TIMEOUT),
            CallError::NotOurs(String::new()),
            CallError::Unreadable { what: "a pod", error: unreadable },
            answered(409, "changed"),
            answered(422, "is invalid"),
            answered(403, "may not"),
            answered(422, "ValidatingAdmissionPolicy denied request"),
            answered(503, "later"),
            CallError::NotSeen(String::new()),
            CallError::NotLeader,
            CallError::Attempt,
        ];
        let mut kinds: Vec<_> = failures.iter().map(CallError::kind).collect();
        kinds.dedup();
        assert_eq!(kinds, CallError::KINDS);
    }
}
