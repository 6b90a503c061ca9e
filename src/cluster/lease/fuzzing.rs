//! The body of the fuzz target about leases that others wrote.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{DURATION, Move, Seen, choose};
use crate::api::fuzzing::is_written_alike;

/// The one who chooses.
const ME: &str = "me";

/// Whatever a lease says, nobody takes it from another who may still believe in it, and everybody gets it in the end.
///
/// # Panics
/// When that does not hold.
pub fn leases(data: &[u8]) {
    // Bytes that are no lease say nothing.
    let _ = choices(&mut Unstructured::new(data));
}

fn choices(bytes: &mut Unstructured<'_>) -> Result<()> {
    let holder = *bytes.choose(&[Some("other"), Some("other"), Some(ME), Some(""), None])?;
    let (is_deleted, transitions): (bool, Option<i32>) = (bytes.arbitrary()?, bytes.arbitrary()?);
    let waited = Duration::from_millis(bytes.int_in_range(0u64..=40_000)?);
    // A lease may ask for any length of time: shorter than ours, none at all, or one that nobody lives to see.
    for seconds in [Some(bytes.arbitrary::<i32>()?), None, Some(-1), Some(0), Some(7), Some(30)] {
        let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": seconds, "leaseTransitions": transitions});
        chosen(spec, holder.filter(|holder| !holder.is_empty()), seconds, is_deleted, waited);
    }
    chosen(Value::Null, None, None, is_deleted, waited);
    assert_eq!(choose(None, ME, Instant::now()), Move::Create);
    Ok(())
}

/// What is chosen about a lease with this `spec`, held by `holder` for `seconds`, `waited` after it was last seen to
/// change, and around the time at which it runs out.
fn chosen(spec: Value, holder: Option<&str>, seconds: Option<i32>, is_deleted: bool, waited: Duration) {
    let lease = is_written_alike::<Lease>(&json!({"metadata": {"name": "berth"}, "spec": spec}));
    assert!(lease.is_some(), "a lease is not read: {spec}");
    let since = Instant::now();
    let seen = Seen { lease: lease.unwrap_or_default(), since, deleted: is_deleted };
    // What a lease asks for is honoured from our own length up: a shorter one would let two lead at once.
    let asked = u64::try_from(seconds.unwrap_or_default()).unwrap_or_default();
    let lasts = DURATION.max(Duration::from_secs(asked));
    for waited in [waited, lasts.saturating_sub(Duration::from_millis(1)), lasts] {
        let Some(now) = since.checked_add(waited) else { continue };
        let taken = if is_deleted { Move::Create } else { Move::Take };
        let wanted = match holder {
            None => taken,
            Some(ME) if is_deleted => Move::Create,
            Some(ME) => Move::Renew,
            Some(_) if waited < lasts => Move::Wait,
            Some(_) => taken,
        };
        let chosen = choose(Some(&seen), ME, now);
        assert_eq!(chosen, wanted, "after {waited:?} of {lasts:?}, held by {holder:?}, deleted: {is_deleted}");
    }
}
