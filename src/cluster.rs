//! All traffic with the API server: watches and what they fill, the reading of the world, the writes. Nothing
//! here decides; what is written comes from a plan.

pub mod apply;
pub mod cache;
pub mod census;
pub mod connection;
pub mod dial;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod guard;
pub mod health;
pub mod keyring;
pub mod lease;
pub mod memory;
pub mod nodes;
pub mod observe;
pub mod observers;
pub mod patience;
pub mod publish;
pub mod slim;
pub mod unreadable;
pub mod wall_clock;
pub mod watch;

use std::sync::Arc;

use kube::Client;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::plan::hardening::Hardening;
use crate::plan::network::Neighbourhood;
use crate::plan::session::Pruner;
use crate::traces::Traces;
use cache::Stores;
use dial::Destinations;
use guard::Guard;
use health::WatchHealth;
use keyring::Keyring;
use lease::Leadership;
use memory::Memory;
use nodes::Drains;
use observers::Observers;
use publish::Publisher;
use watch::Queues;

/// What reading and writing need: one value for the life of the process.
#[derive(Clone)]
pub struct Cluster {
    /// The connection.
    pub client: Client,
    /// What the watches have filled.
    pub stores: Stores,
    /// What this process knows and no object says.
    pub memory: Arc<Memory>,
    /// Where the names of objects go that must be looked at again.
    pub queues: Queues,
    /// Whether this process may still write.
    pub leadership: Leadership,
    /// What stands between this process and its work.
    pub health: WatchHealth,
    /// Events.
    pub publisher: Publisher,
    /// What is counted.
    pub metrics: Metrics,
    /// Where finished launches are handed over.
    pub traces: Traces,
    /// Where endpoints may be.
    pub destinations: Arc<Destinations>,
    /// Whether the admission policies stand.
    pub guard: Guard,
    /// From what credentials of instances are made.
    pub keyring: Keyring,
    /// Which nodes are being drained.
    pub drains: Drains,
    /// Which observers of activity live.
    pub observers: Observers,
    /// What the installation says of every instance.
    pub hardening: Arc<Hardening>,
    /// Who prunes ended sessions.
    pub pruner: Pruner,
    /// Who is around every instance.
    pub neighbourhood: Arc<Neighbourhood>,
    /// The time.
    pub clock: Clock,
}
