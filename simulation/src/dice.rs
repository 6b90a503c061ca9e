//! The only randomness of a simulation. Owns how a seed becomes numbers, the same on every machine.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A seeded source of random numbers. Clones share it; a fork is one of its own.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: [u8; 32],
    generator: Arc<Mutex<ChaCha8Rng>>,
}

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self::of(Sha256::digest(seed.to_le_bytes()).into())
    }

    fn of(seed: [u8; 32]) -> Self {
        Self { seed, generator: Arc::new(Mutex::new(ChaCha8Rng::from_seed(seed))) }
    }

    /// Other dice, that depend on the seed and on `name` alone: not on what was thrown before.
    pub fn fork(&self, name: &str) -> Self {
        Self::of(Sha256::new().chain_update(self.seed).chain_update(name.as_bytes()).finalize().into())
    }

    /// Any number.
    pub fn number(&self) -> u64 {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub fn below(&self, bound: u64) -> u64 {
        // A bias of 2^-64 for each unit of the bound does not matter here.
        let product = u128::from(self.number()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// True `percent` times out of a hundred.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`; `None` of none.
    pub fn pick<'a, T>(&self, choices: &'a [T]) -> Option<&'a T> {
        let index = self.below(u64::try_from(choices.len()).unwrap_or(u64::MAX));
        choices.get(usize::try_from(index).unwrap_or_default())
    }

    /// A time in the range, in whole milliseconds.
    pub fn time(&self, range: &RangeInclusive<Duration>) -> Duration {
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (low, high) = (millis(range.start()), millis(range.end()));
        Duration::from_millis(low + self.below(high.saturating_sub(low) + 1))
    }

    /// A UUID, version 4.
    pub fn uuid(&self) -> String {
        let (high, low) = (self.number(), self.number());
        let (high, low) = ((high & !0xf000) | 0x4000, (low & !(3 << 62)) | (2 << 62));
        let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
        format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
    }

    /// A suffix as the API server makes it for `generateName`.
    pub fn suffix(&self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5).filter_map(|_| self.pick(ALPHABET)).map(|byte| char::from(*byte)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_others() {
        let throw = |seed: u64| {
            let dice = Dice::new(seed);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(throw(1), throw(1));
        assert_ne!(throw(1), throw(2));
    }

    #[test]
    fn a_fork_does_not_depend_on_what_was_thrown_before() {
        let (fresh, used) = (Dice::new(7), Dice::new(7));
        used.number();
        assert_eq!(fresh.fork("kubelet").number(), used.fork("kubelet").number());
        assert_ne!(fresh.fork("kubelet").number(), fresh.fork("scheduler").number());
    }

    #[test]
    fn throws_stay_in_their_bounds_and_reach_them() {
        let dice = Dice::new(3);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[usize::try_from(dice.below(3)).unwrap()] = true;
            let time = dice.time(&(Duration::from_millis(5)..=Duration::from_millis(6)));
            assert!((5..=6).contains(&time.as_millis()));
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.pick::<u8>(&[]), None);
    }

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let uuid = Dice::new(5).uuid();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    }
}
