//! Leadership: who may write. A small lease of our own after client-go's algorithm; docs/adr/0004 says why not a
//! library. Taking, renewing and giving up all carry the resource version that was observed, and expiry is
//! counted on this process's monotonic clock from the moment it last saw the lease change, so that clocks may
//! disagree.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use super::error::{CallError, within};
use crate::api::time::to_wire_micro;
use crate::clock::Clock;
use crate::planted::{self, Bug};

/// How long a lease holds after its last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that has not renewed for this long stops writing; a request lasts no longer than the rest.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often a leader renews.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How long one request about the lease may take: so short that two that stall leave time for a third.
const LEASE_CALL: Duration = Duration::from_secs(2);
/// The pause after a renewal that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often another looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whether this process may write, for all who do.
#[derive(Clone, Default)]
pub struct Leadership {
    valid_until: Arc<Mutex<Option<Instant>>>,
}

impl Leadership {
    /// # Errors
    /// When the lease was lost, or was not renewed in time.
    pub fn check(&self) -> Result<(), CallError> {
        if self.holds() || planted::is(Bug::FormerLeaderWrites) { Ok(()) } else { Err(CallError::NotLeader) }
    }

    /// Whether this process may write now.
    pub fn holds(&self) -> bool {
        let until = *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn set(&self, until: Option<Instant>) {
        *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// One contender for the lease.
pub struct Contender {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    leadership: Leadership,
    seen: Option<Seen>,
}

/// The lease as last observed, and since when it has not changed.
struct Seen {
    lease: Lease,
    since: Instant,
    /// Somebody deleted it since. Its holder learns of that only when it renews, and holds until then.
    deleted: bool,
}

/// What to do about the lease as it stands.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Create,
    Take,
    Renew,
    Wait,
}

impl Contender {
    /// A contender called `identity` for the lease `name` in `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, clock: Clock) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            clock,
            leadership: Leadership::default(),
            seen: None,
        }
    }

    /// What all writers ask before they write.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Waits until the lease is ours. `report` is told what became of each look.
    pub async fn acquire(&mut self, mut report: impl FnMut(Result<(), CallError>)) {
        loop {
            let looked = self.step().await;
            let ours = matches!(looked, Ok(true));
            report(looked.map(drop));
            if ours {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Keeps the lease; returns when it is lost or could not be renewed in time.
    pub async fn keep(&mut self) {
        while self.leadership.holds() {
            tokio::time::sleep(RENEW_EVERY).await;
            // A renewal that fails is tried again as long as there is time.
            let mut landed = false;
            while self.leadership.holds() {
                match self.step().await {
                    Ok(true) => break,
                    Ok(false) => return,
                    // One that was given up landed all the same: what stands is known by now, and ours.
                    Err(error) if error.is_conflict() && !std::mem::replace(&mut landed, true) => {}
                    Err(error) => {
                        tracing::warn!(%error, "lease not renewed");
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                }
            }
        }
        self.leadership.set(None);
    }

    /// Gives the lease up, so that another need not wait for it to run out.
    pub async fn release(&mut self) {
        self.leadership.set(None);
        let Some(seen) = self.seen.take() else { return };
        let mut lease = seen.lease;
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity)) {
            spec.holder_identity = None;
            spec.renew_time = None;
            spec.acquire_time = None;
            if let Err(error) = within(LEASE_CALL, self.api.replace(&self.name, &PostParams::default(), &lease)).await {
                tracing::warn!(%error, "lease not given up");
            }
        }
    }

    /// Deletes the lease, if it is still ours as we last wrote it: then nobody leads, and nobody is to.
    pub async fn remove(&mut self) {
        self.leadership.set(None);
        let Some(Seen { lease, .. }) = self.seen.take() else { return };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        if holder != Some(&self.identity) {
            return;
        }
        let same = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
        let params = DeleteParams::default().preconditions(same);
        if let Err(error) = within(LEASE_CALL, self.api.delete(&self.name, &params)).await {
            tracing::warn!(%error, "lease not deleted");
        }
    }

    /// One look and one move; whether the lease is ours afterwards.
    async fn step(&mut self) -> Result<bool, CallError> {
        let asked = Instant::now();
        // A leader renews what it last wrote, without looking first; another writer shows as a conflict.
        if !self.leadership.holds() {
            self.look().await?;
        }
        let chosen = match choose(self.seen.as_ref(), &self.identity, asked) {
            Move::Wait if planted::is(Bug::WallClockLease) && self.looks_old() => Move::Take,
            chosen => chosen,
        };
        let written = match chosen {
            Move::Wait => {
                self.leadership.set(None);
                return Ok(false);
            }
            Move::Create => within(LEASE_CALL, self.api.create(&PostParams::default(), &self.lease(None))).await,
            Move::Take | Move::Renew => {
                let lease = self.lease(self.seen.as_ref().map(|seen| (&seen.lease, chosen == Move::Take)));
                within(LEASE_CALL, self.api.replace(&self.name, &PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some(Seen { lease, since: asked, deleted: false });
                self.leadership.set(Some(asked + RENEW_DEADLINE));
                Ok(true)
            }
            Err(error) if error.is_conflict() || error.is_not_found() => {
                self.look().await?;
                let ours = matches!(choose(self.seen.as_ref(), &self.identity, asked), Move::Renew);
                if !ours {
                    self.leadership.set(None);
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the lease has run out by what two wall clocks say: not a way to tell.
    fn looks_old(&self) -> bool {
        let renewed = self.seen.as_ref().and_then(|seen| seen.lease.spec.as_ref()?.renew_time.clone());
        let now = to_wire_micro(self.clock.now()).0.as_second();
        renewed.is_none_or(|renewed| now - renewed.0.as_second() >= DURATION.as_secs().cast_signed())
    }

    async fn look(&mut self) -> Result<(), CallError> {
        let lease = within(LEASE_CALL, self.api.get_opt(&self.name)).await?;
        let unchanged = |seen: &Seen, lease: &Lease| seen.lease.resource_version() == lease.resource_version();
        self.seen = match (self.seen.take(), lease) {
            (seen, None) => seen.map(|seen| Seen { deleted: true, ..seen }),
            (Some(seen), Some(lease)) if unchanged(&seen, &lease) => Some(seen),
            (_, Some(lease)) => Some(Seen { lease, since: Instant::now(), deleted: false }),
        };
        Ok(())
    }

    /// The lease as we want it: new, or the one that was observed, taken over or renewed.
    fn lease(&self, from: Option<(&Lease, bool)>) -> Lease {
        let now = to_wire_micro(self.clock.now());
        let mut lease = from.map(|(lease, _)| lease.clone()).unwrap_or_default();
        lease.metadata.name = Some(self.name.clone());
        lease.metadata.managed_fields = None;
        let taken = from.is_none_or(|(_, taken)| taken);
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if taken {
            let before = spec.lease_transitions;
            spec.lease_transitions = Some(before.map_or(0, |count| count.saturating_add(1)));
            spec.acquire_time = Some(now.clone());
            spec.holder_identity = Some(self.identity.clone());
        }
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

/// What to do at `now` about the lease as it was last seen.
fn choose(seen: Option<&Seen>, identity: &str, now: Instant) -> Move {
    let Some(seen) = seen else { return Move::Create };
    let holder =
        seen.lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty());
    match holder {
        holder if seen.deleted && holder.is_none_or(|holder| holder == identity) => Move::Create,
        None => Move::Take,
        Some(holder) if holder == identity => Move::Renew,
        Some(_) => {
            let written = seen
                .lease
                .spec
                .as_ref()
                .and_then(|spec| spec.lease_duration_seconds)
                .and_then(|secs| u64::try_from(secs).ok());
            let lasts = written.map_or(DURATION, Duration::from_secs).max(DURATION);
            match now.duration_since(seen.since) >= lasts {
                true if seen.deleted => Move::Create,
                true => Move::Take,
                false => Move::Wait,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, since: Instant) -> Seen {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        Seen { lease: Lease { spec: Some(spec), ..Lease::default() }, since, deleted: false }
    }

    #[test]
    fn a_lease_is_taken_only_after_it_stood_unchanged_for_its_whole_duration() {
        let start = Instant::now();
        let lease = seen("other", start);
        assert_eq!(choose(Some(&lease), "me", start + Duration::from_secs(14)), Move::Wait);
        assert_eq!(choose(Some(&lease), "me", start + Duration::from_secs(15)), Move::Take);
        assert_eq!(choose(Some(&lease), "other", start), Move::Renew);
        assert_eq!(choose(Some(&seen("", start)), "me", start), Move::Take);
        assert_eq!(choose(None, "me", start), Move::Create);
    }

    #[test]
    fn a_lease_that_somebody_deleted_holds_as_long_as_its_holder_may_believe_in_it() {
        let start = Instant::now();
        let lease = Seen { deleted: true, ..seen("other", start) };
        assert_eq!(choose(Some(&lease), "me", start + Duration::from_secs(14)), Move::Wait);
        assert_eq!(choose(Some(&lease), "me", start + Duration::from_secs(15)), Move::Create);
        assert_eq!(choose(Some(&lease), "other", start), Move::Create, "the holder does not renew what is not there");
        assert_eq!(choose(Some(&Seen { deleted: true, ..seen("", start) }), "me", start), Move::Create);
    }

    #[test]
    fn a_leader_stops_before_another_may_begin() {
        const { assert!(RENEW_DEADLINE.as_secs() + super::super::error::CALL_TIMEOUT.as_secs() <= DURATION.as_secs()) };
    }

    #[test]
    fn two_renewals_that_stall_leave_time_for_a_third() {
        let stalled = LEASE_CALL.as_secs() + RETRY_AFTER.as_secs();
        assert!(RENEW_EVERY.as_secs() + 2 * stalled < RENEW_DEADLINE.as_secs());
    }
}
