//! What a process asks its host for, random bytes and the time of day, answered by a seed on the threads of a
//! simulation. Owns two symbols of the C library, which every program that links this crate gets in place of the
//! library's; on all other threads the kernel answers, as ever.
//!
//! What is not reached by this: the order in which `tokio::select!` without `biased` looks at its branches, which
//! follows from how many runtimes the process has made before. One process for one seed makes that the same, too.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::sync::Once;

use ahash::random_state::RandomSource;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Dice, SimClock};

thread_local! {
    static BYTES: RefCell<Option<ChaCha8Rng>> = const { RefCell::new(None) };
    static TIME: RefCell<Option<SimClock>> = const { RefCell::new(None) };
    static HASHERS: Cell<usize> = const { Cell::new(0) };
}

/// Makes this thread deterministic: to be called first on it, one thread for one run. Hash maps that were made on it
/// before stay as they are.
pub fn enter(dice: &Dice) {
    static HASHING: Once = Once::new();
    // The fixed part of its keys is asked for once in the life of a process: with the same bytes in each.
    HASHING.call_once(|| {
        BYTES.with_borrow_mut(|bytes| *bytes = Some(ChaCha8Rng::seed_from_u64(0)));
        // It fails where a hash map was made before: then they are as random as in any process.
        let _ = ahash::random_state::set_random_source(Counting);
        let _ = ahash::RandomState::new();
    });
    let dice = dice.fork("host");
    fastrand::seed(dice.number());
    HASHERS.set(usize::try_from(dice.number()).unwrap_or_default());
    BYTES.with_borrow_mut(|bytes| *bytes = Some(ChaCha8Rng::seed_from_u64(dice.number())));
}

/// From now on this is the time of day on this thread.
pub fn tell_time(clock: &SimClock) {
    TIME.with_borrow_mut(|time| *time = Some(clock.clone()));
}

/// Counts the hash maps of a thread, where the library would count those of a process, and by their addresses.
struct Counting;

impl RandomSource for Counting {
    fn gen_hasher_seed(&self) -> usize {
        HASHERS.replace(HASHERS.get().wrapping_add(1))
    }
}

/// As in the C library.
#[expect(unsafe_code, reason = "it takes the place of the C library's function of this name, and has its signature")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    // SAFETY: the caller gives a buffer that can be written to for this length, as to the C library's function.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<u8>>(), length) };
    let filled = BYTES.try_with(|bytes| match bytes.try_borrow_mut().ok()?.as_mut() {
        Some(bytes) => {
            let mut drawn = vec![0; buffer.len()];
            bytes.fill_bytes(&mut drawn);
            for (place, byte) in buffer.iter_mut().zip(drawn) {
                place.write(byte);
            }
            Some(buffer.len())
        }
        None => None,
    });
    let filled = filled.ok().flatten();
    let count = filled.or_else(|| {
        rustix::rand::getrandom(buffer, rustix::rand::GetRandomFlags::from_bits_retain(flags))
            .ok()
            .map(|(got, _)| got.len())
    });
    count.and_then(|count| isize::try_from(count).ok()).unwrap_or(-1)
}

/// As in the C library.
#[expect(unsafe_code, reason = "it takes the place of the C library's function of this name, and has its signature")]
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: i32, time: *mut rustix::time::Timespec) -> i32 {
    let simulated = TIME.try_with(|time| time.try_borrow().ok().and_then(|time| time.as_ref().map(SimClock::now)));
    let told = match (clock, simulated.ok().flatten()) {
        (REAL_TIME, Some(now)) => {
            Ok(rustix::time::Timespec { tv_sec: now.timestamp(), tv_nsec: i64::from(now.timestamp_subsec_nanos()) })
        }
        _ => kernel_time(clock),
    };
    match told {
        Ok(now) => {
            // SAFETY: the caller gives a place for the time, as to the C library's function.
            unsafe { time.write(now) };
            0
        }
        Err(()) => -1,
    }
}

const REAL_TIME: i32 = 0;

fn kernel_time(clock: i32) -> Result<rustix::time::Timespec, ()> {
    use rustix::time::{DynamicClockId, clock_gettime_dynamic};
    let id = rustix::time::ClockId::try_from(clock).map_err(drop)?;
    clock_gettime_dynamic(DynamicClockId::Known(id)).map_err(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use std::hash::RandomState;

    fn orders(seed: u64) -> (Vec<u32>, Vec<u32>, u64) {
        let run = move || {
            enter(&Dice::new(seed));
            let first: HashSet<u32, RandomState> = (0..64).collect();
            let second: ahash::AHashMap<u32, u32> = (0..64).map(|number| (number, 0)).collect();
            (first.into_iter().collect(), second.into_keys().collect(), fastrand::u64(..))
        };
        std::thread::spawn(run).join().unwrap()
    }

    #[test]
    fn hash_maps_and_jitter_follow_from_the_seed() {
        let (one, other) = (orders(1), orders(2));
        assert_eq!(one, orders(1));
        assert!(one.0 != other.0 && one.1 != other.1 && one.2 != other.2);
    }

    #[test]
    fn a_thread_outside_of_a_simulation_has_the_hosts_bytes_and_time() {
        let order =
            || std::thread::spawn(|| (0..64).collect::<HashSet<u32>>().into_iter().collect::<Vec<_>>()).join().unwrap();
        assert_ne!(order(), order());
        let map: HashMap<u8, u8> = HashMap::new();
        assert!(map.is_empty());
        let before = std::time::Instant::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(before.elapsed().as_millis() >= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_day_is_the_simulations() {
        let clock = SimClock::new();
        tell_time(&clock);
        tokio::time::sleep(std::time::Duration::from_secs(90)).await;
        #[expect(clippy::disallowed_methods, reason = "this is what is tested")]
        let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
        assert_eq!(now, clock.now());
    }
}
