//! Who has called of late, by token: what operators' tables call API sessions. Owns when one is forgotten; nothing of a token
//! but its hash is in here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::TimeDelta;

use super::asker::Address;
use super::caller::Caller;
use crate::api::time::Instant;

/// For how long somebody counts who does not call any more.
const REMEMBERED: TimeDelta = TimeDelta::hours(1);
/// How many are remembered.
const MOST: usize = 10_000;

/// One who calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Visitor {
    /// By what the token is known.
    pub token: String,
    /// The Kubernetes username.
    pub username: String,
    /// The uid, where the authenticator gives one.
    pub uid: Option<String>,
    /// Where the last call came from.
    pub address: Address,
    /// The last call.
    pub last: Instant,
    /// The first one.
    pub first: Instant,
}

/// Who has called of late.
#[derive(Debug, Default)]
pub struct Visitors(Mutex<HashMap<String, Visitor>>);

impl Visitors {
    /// Somebody calls.
    pub fn seen(&self, caller: &Caller, address: Address, now: Instant) {
        let mut visitors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if visitors.len() >= MOST && !visitors.contains_key(&caller.token) {
            visitors.retain(|_, visitor| now - visitor.last < REMEMBERED);
        }
        if let Some(known) = visitors.get_mut(&caller.token) {
            known.last = now;
            known.address = address;
        } else if visitors.len() < MOST {
            let visitor = Visitor {
                token: caller.token.clone(),
                username: caller.username.clone(),
                uid: caller.uid.clone(),
                address,
                last: now,
                first: now,
            };
            visitors.insert(caller.token.clone(), visitor);
        }
    }

    /// Those who called within the last hour, the last one first.
    pub fn all(&self, now: Instant) -> Vec<Visitor> {
        let visitors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Visitor> =
            visitors.values().filter(|visitor| now - visitor.last < REMEMBERED).cloned().collect();
        all.sort_by(|one, next| next.last.cmp(&one.last).then_with(|| one.token.cmp(&next.token)));
        all
    }
}
