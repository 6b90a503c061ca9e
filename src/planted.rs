//! Broken variants of the operator, to show that its tests would see them. Owns the list and the switch. Only the feature
//! `planted` has them: without it nothing is ever planted, and asking costs nothing.

/// A way in which controllers are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// A pod's name does not follow from its session.
    GeneratedName = 1,
    /// A delete names no uid.
    DeleteWithoutUid,
    /// What a cache does not have counts as gone.
    CacheIsEvidence,
    /// An API server that does not answer counts as one that says no.
    ErrorIsEvidence,
    /// The pod is made before the slot is written.
    EffectBeforeClaim,
    /// The pod is deleted before the end is written.
    ReleaseBeforeEnd,
    /// A lease runs out by the wall clocks of two machines.
    WallClockLease,
    /// Nobody asks whether it still leads before a write.
    FormerLeaderWrites,
    /// What failed is tried again at once, for ever.
    UnboundedRetry,
    /// What failed is not tried again.
    NoRetry,
    /// A finalizer stays.
    FinalizerStays,
    /// An older event undoes a newer write.
    OlderWins,
    /// What a new list does not have stays.
    ListForgetsNothing,
    /// A status is written over whatever stands.
    BlindStatus,
    /// Two decisions at once give one slot twice.
    NoPromise,
    /// A connection that vanished is listened to for ever.
    NoPatience,
    /// A pod of a pool is adopted whatever became of it since it was seen, and by whoever asks.
    BlindAdoption,
    /// One that is going or not ready is adopted.
    AdoptsAnything,
    /// A refill's name does not follow from what it replaces.
    GeneratedRefill,
    /// What a pool gives up is deleted whatever became of it since it was seen.
    BlindRemoval,
    /// What the hours of a pool asked for first is asked for ever.
    OldHours,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::GeneratedName,
        Self::DeleteWithoutUid,
        Self::CacheIsEvidence,
        Self::ErrorIsEvidence,
        Self::EffectBeforeClaim,
        Self::ReleaseBeforeEnd,
        Self::WallClockLease,
        Self::FormerLeaderWrites,
        Self::UnboundedRetry,
        Self::NoRetry,
        Self::FinalizerStays,
        Self::OlderWins,
        Self::ListForgetsNothing,
        Self::BlindStatus,
        Self::NoPromise,
        Self::NoPatience,
        Self::BlindAdoption,
        Self::AdoptsAnything,
        Self::GeneratedRefill,
        Self::BlindRemoval,
        Self::OldHours,
    ];

    /// The bug of this name, as `Debug` writes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
    }
}

/// Whether this bug was planted: the one that BERTH_PLANTED names.
#[cfg(feature = "planted")]
pub(crate) fn is(bug: Bug) -> bool {
    static PLANTED: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    *PLANTED.get_or_init(|| Bug::named(&std::env::var("BERTH_PLANTED").ok()?)) == Some(bug)
}

/// Whether this bug was planted: nothing can be.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
