//! The body of the fuzz target about answers of an API server that refuse.

use kube::core::Status;

use super::error::CallError;

/// Whatever an API server, or who sits before one, answers, it is one kind of failure, and what is refused for good is
/// nothing that may yet change.
///
/// # Panics
/// When it is not.
pub fn answers(data: &[u8]) {
    let Ok(status) = serde_json::from_slice::<Status>(data) else { return };
    let error = CallError::Api(kube::Error::Api(status.clone().boxed()));
    assert_eq!(error.words(), status.message, "the API server's own words");
    assert_eq!(error.code(), Some(status.code));
    let verdicts = [error.is_conflict(), error.is_not_found(), error.is_refusal()];
    assert!(verdicts.iter().filter(|verdict| **verdict).count() <= 1, "{status:?}: {verdicts:?}");
    assert!(!(error.is_refusal() && error.is_denial()), "refused for good, and for what may change: {status:?}");
    // An object is only given up where the API server says that it is wrong.
    assert!(!error.is_refusal() || [400, 422].contains(&status.code), "{status:?}");
    let kind = error.kind();
    assert!(CallError::KINDS.contains(&kind), "{kind}");
    assert_eq!(kind == "refused", error.is_refusal(), "{status:?} is {kind}");
    assert_eq!(kind == "conflict", error.is_conflict(), "{status:?} is {kind}");
}
