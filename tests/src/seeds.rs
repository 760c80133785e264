//! Many seeds of a simulation, one or several at a time, and what came of all.
//!
//! Owns: which seeds are run, the sum, and telling which failed. Must not know what is simulated.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Failing seeds that are printed.
const SHOWN_MAX: usize = 20;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome<C> {
    /// What happened.
    pub counts: C,
    /// What did not hold.
    pub violations: Vec<String>,
}

/// Runs one seed. A panic is a violation.
pub fn run_one<C: Default>(run: impl FnOnce() -> Outcome<C>) -> Outcome<C> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Outcome { counts: C::default(), violations: vec![format!("a panic: {}", said.unwrap_or_default())] }
    })
}

/// Runs these seeds on so many threads. Says on standard error what did not hold in the first that fail. Gives the sum,
/// and how many failed.
///
/// # Panics
/// If `run` does: what a seed does is caught by [`run_one`].
pub fn run_all<C: Default + Send>(
    seeds: Range<u64>,
    threads: u64,
    run: impl Fn(u64) -> Outcome<C> + Sync,
    plus: fn(C, &C) -> C,
) -> (C, usize) {
    let next = AtomicU64::new(seeds.start);
    let done = Mutex::new((C::default(), 0_usize));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let outcome = run(seed);
                    let mut done = done.lock().unwrap();
                    done.0 = plus(std::mem::take(&mut done.0), &outcome.counts);
                    if let Some(first) = outcome.violations.first() {
                        if done.1 < SHOWN_MAX {
                            eprintln!("seed {seed}: {first}");
                        }
                        done.1 += 1;
                    }
                }
            });
        }
    });
    done.into_inner().unwrap()
}
