//! The operators of a trial: the real ones, each started again when it has crashed or exited, as a kubelet does. Owns
//! their processes and their clocks; what they do is Berth's.

use std::time::Duration;

use berth::clock::Clock;
use berth::cluster::patience;
use berth::metrics::Metrics;
use berth::operator::Operator;
use chrono::TimeDelta;
use kube::Client;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tower::Layer;

use super::faults::{Faults, OPERATOR};
use crate::apiserver::service::Front;
use crate::{ApiServer, Dice, SimClock};

/// The namespace of the operators' lease.
pub const NAMESPACE: &str = "berth-system";

/// One operator's place: a process in it is followed by another.
pub struct Place {
    name: String,
    server: ApiServer,
    faults: Faults,
    dice: Dice,
    clock: SimClock,
    /// Whether its clock jumps while there are faults.
    jumps: bool,
    /// Whether another process in this place has another name in the lease, as another pod has.
    renamed: bool,
}

impl Place {
    /// The place number `index`.
    pub fn new(server: &ApiServer, faults: &Faults, dice: &Dice, index: u64) -> Self {
        let name = format!("{OPERATOR}-{index}");
        let dice = dice.fork(&name);
        let skew = match dice.below(3) {
            0 => TimeDelta::milliseconds(i64::try_from(dice.below(4000)).unwrap_or_default() - 2000),
            _ => TimeDelta::zero(),
        };
        Self {
            server: server.clone(),
            faults: faults.clone(),
            clock: server.clock().another(skew),
            jumps: dice.chance(15),
            renamed: dice.chance(50),
            name,
            dice,
        }
    }

    /// Keeps an operator running for ever.
    pub async fn run(self) {
        let mut count = 0_u64;
        loop {
            count += 1;
            let who = format!("{}#{count}", self.name);
            self.live(&who, count).await;
            // Whatever is left of it reaches nobody.
            self.faults.kill(&who);
            sleep(self.dice.time(&(Duration::from_millis(500)..=Duration::from_secs(15)))).await;
        }
    }

    /// The life of one process.
    async fn live(&self, who: &str, count: u64) {
        let identity = if self.renamed { format!("{}-{count}", self.name) } else { self.name.clone() };
        let clock = self.clock.clone();
        let clock = Clock::of(move || clock.now());
        // As the real one is made, on the real connection.
        let client = Client::new(patience::layer().layer(Front::new(self.server.clone(), who)), "default");
        let operator = Operator::new(client, clock, Metrics::default(), &identity, NAMESPACE, Vec::new());
        let (stop, stopped) = watch::channel(false);
        let mut running = AbortOnDropHandle::new(tokio::spawn(operator.run(stopped)));
        // In the calm nobody is told to stop.
        let told = sleep(self.dice.time(&(Duration::from_secs(30)..=Duration::from_secs(3000))));
        tokio::select! {
            biased;
            () = self.faults.killed(who) => return,
            _ = &mut running => return,
            () = self.turn_clock() => return,
            () = told, if !self.faults.is_calm() => {}
        }
        let _ = stop.send(true);
        tokio::select! {
            biased;
            () = self.faults.killed(who) => {}
            _ = &mut running => {}
        }
    }

    /// Sets the wall clock now and then, while there are faults. It never returns.
    async fn turn_clock(&self) {
        let skews = [0, 1, -1, 300, -300, 86_400, -86_400];
        loop {
            sleep(self.dice.time(&(Duration::from_secs(5)..=Duration::from_secs(60)))).await;
            if self.faults.is_calm() {
                self.clock.jump(TimeDelta::zero());
                futures::future::pending::<()>().await;
            }
            if self.jumps {
                self.clock.jump(TimeDelta::seconds(self.dice.pick(&skews).copied().unwrap_or_default()));
            }
        }
    }
}
