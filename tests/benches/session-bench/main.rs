//! Measures what one message costs its ends, with criterion, beside vodozemac's Olm, and prints the ratios.
//!
//!     cargo bench -p e2e-tests --features session-bench --bench session-bench -- [FILTER]
//!
//! Owns: the rows, and how each is timed. Our two ends are `ours`, Olm's are `olm`, the table at the end is
//! `table`. It must not know how a session works. What the figures say: docs/sessions-speed.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a benchmark

mod olm;
mod ours;
mod table;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use e2e_protocol::e2e::{KeyPair, Profile};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use ours::{Keys, Pair};
use table::Table;

/// The longest body that a padded length of 128 holds.
const BODY_BYTES: usize = 98;

/// Messages of one chain that are timed in a row: less than a chain has, so that none ends.
const CHAIN_MESSAGES: u64 = 900;

/// Turns of the conversation that is timed as a whole: 16 times the messages between two steps.
const TURNS: u32 = 1_024;

/// Records of a full history.
const RECORDS: usize = 4_000;

/// The two profiles, as the table names them.
const PROFILES: [(&str, Profile); 2] = [("light", Profile::Light), ("strict", Profile::Strict)];

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() {
    // The table takes the fastest samples: short ones, and many, are the least disturbed by others.
    let mut criterion = Criterion::default().nresamples(2_000).configure_from_args();
    let table = Table::default();
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let keys = Keys::make(&mut rng);

    group(&mut criterion, "encrypt", 200, |group| {
        for (name, profile) in PROFILES {
            let mut pair = Pair::one_way(&keys, profile);
            row(group, &table, "encrypt", name, |iterations| {
                in_chains(iterations, &mut |messages| {
                    pair.restart();
                    timed(|| (0..messages).for_each(|_| drop(black_box(pair.encrypt()))))
                })
            });
        }
        let mut pair = olm::Pair::answered();
        row(group, &table, "encrypt", "olm", |iterations| {
            timed(|| (0..iterations).for_each(|_| drop(black_box(pair.encrypt()))))
        });
    });

    group(&mut criterion, "decrypt", 200, |group| {
        for records in [0, RECORDS] {
            for (name, profile) in PROFILES {
                let mut pair = Pair::one_way(&keys, profile);
                pair.fill_records(records);
                let row_name = if records == 0 { "decrypt" } else { "decrypt, 4000 records" };
                row(group, &table, row_name, name, |iterations| {
                    in_chains(iterations, &mut |messages| {
                        pair.restart();
                        let sealed: Vec<_> = (0..messages).map(|_| pair.encrypt()).collect();
                        timed(|| sealed.iter().for_each(|sealed| drop(black_box(pair.decrypt(sealed)))))
                    })
                });
            }
        }
        for row_name in ["decrypt", "decrypt, 4000 records"] {
            let mut pair = olm::Pair::answered();
            row(group, &table, row_name, "olm", |iterations| {
                in_chains(iterations, &mut |messages| {
                    let sealed: Vec<_> = (0..messages).map(|_| pair.encrypt()).collect();
                    timed(|| sealed.iter().for_each(|sealed| drop(black_box(pair.decrypt(sealed)))))
                })
            });
        }
        let mut pair = Pair::one_way(&keys, Profile::Light);
        pair.fill_records(RECORDS);
        let segments = pair.segments();
        row(group, &table, "read 4000 records", "light", |iterations| {
            timed(|| (0..iterations).for_each(|_| drop(black_box(ours::read_records(&segments)))))
        });
        row(group, &table, "remember it", "light", |iterations| {
            timed(|| (0..iterations).for_each(|_| pair.push_record()))
        });
    });

    group(&mut criterion, "turn", 10, |group| {
        for (name, profile) in PROFILES {
            row(group, &table, "turn", name, |iterations| {
                let conversation = |_| Pair::talking(&keys, profile).converse(TURNS);
                (0..iterations).map(conversation).sum::<Duration>() / TURNS
            });
        }
        row(group, &table, "turn", "olm", |iterations| {
            let conversation = |_| olm::Pair::answered().converse(TURNS);
            (0..iterations).map(conversation).sum::<Duration>() / TURNS
        });
    });

    group(&mut criterion, "start", 30, |group| {
        for (name, profile) in PROFILES {
            let mut pair = Pair::strangers(&keys, profile);
            row(group, &table, "start: first encrypt", name, |iterations| {
                let start = |_| {
                    pair.forget();
                    timed(|| drop(black_box(pair.start())))
                };
                (0..iterations).map(start).sum()
            });
            row(group, &table, "start: first decrypt", name, |iterations| {
                let start = |_| {
                    pair.forget();
                    let sealed = pair.start();
                    timed(|| drop(black_box(pair.decrypt(&sealed))))
                };
                (0..iterations).map(start).sum()
            });
        }
        let mut strangers = olm::Strangers::new();
        row(group, &table, "start: first encrypt", "olm", |iterations| {
            (0..iterations).map(|_| strangers.start().0).sum()
        });
        row(group, &table, "start: first decrypt", "olm", |iterations| {
            (0..iterations).map(|_| strangers.start().1).sum()
        });
        row(group, &table, "a ratchet key, idle", "light", |iterations| {
            timed(|| (0..iterations).for_each(|_| drop(black_box(KeyPair::generate(&mut rng)))))
        });
    });

    criterion.final_summary();
    table.print();
}

/// A group of rows, each of `samples` samples of the same number of iterations.
fn group(criterion: &mut Criterion, name: &str, samples: usize, rows: impl FnOnce(&mut Group<'_>)) {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(samples);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(400));
    rows(&mut group);
    group.finish();
}

/// One figure: `time` gives how long so many iterations took.
fn row(group: &mut Group<'_>, table: &Table, row: &str, of: &str, mut time: impl FnMut(u64) -> Duration) {
    group.bench_function(format!("{row}/{of}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let took = time(iterations);
            table.note(row, of, iterations, took);
            took
        });
    });
}

/// Times `iterations` messages, as many at once as one chain may hold.
fn in_chains(iterations: u64, time: &mut dyn FnMut(u64) -> Duration) -> Duration {
    let (chains, rest) = (iterations / CHAIN_MESSAGES, iterations % CHAIN_MESSAGES);
    let mut took: Duration = (0..chains).map(|_| time(CHAIN_MESSAGES)).sum();
    if rest > 0 {
        took += time(rest);
    }
    took
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
