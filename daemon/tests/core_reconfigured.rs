//! Limits that change while the relay is under load: what was accounted for by the old ones stays accounted for.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::limits::FRAME_BYTES_MAX;
use e2e_protocol::wire::people::{Watch, Who};
use e2e_relayd::core::Policy;
use e2e_relayd::core::admin::Answer;
use e2e_relayd::limits::Limits;
use e2e_relayd::settings::Settings;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Some limits as low as may be, others as they are, those that a reload keeps left alone. People can connect, and what lasts stays
/// bearable.
fn any_limits(rng: &mut ChaCha20Rng) -> Limits {
    let running = Settings::default();
    let mut settings = Settings::default();
    for (name, value, _) in running.limits.described() {
        let is_kept =
            ["connections", "logins", "registrations", "output"].iter().any(|kept| name.starts_with(kept));
        if rng.next_u32().is_multiple_of(3) && !name.ends_with("_ms") && !is_kept {
            let mut low = settings.limits.clone();
            let least = [1, FRAME_BYTES_MAX as u64]
                .into_iter()
                .find(|least| low.set(name, *least).is_ok() && low.check().is_ok());
            settings.limits.set(name, least.unwrap_or(value)).unwrap();
        }
    }
    settings.keep_from_start(&running);
    settings.limits
}

#[test]
fn accounts_fit_whatever_limits_become_under_load() {
    let who = ["alice", "bob", "carol", "dave"];
    for seed in 0..30 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut world = World::new();
        let uids: Vec<_> = who.iter().map(|who| world.claim(who)).collect();
        let mut number = 0;
        for _ in 0..80 {
            let (one, other) = (rng.next_u32() as usize % 4, rng.next_u32() as usize % 4);
            match rng.next_u32() % 8 {
                0 | 1 => {
                    let limits = any_limits(&mut rng);
                    let presence_private = rng.next_u32().is_multiple_of(2);
                    let policy =
                        Policy { presence_private, hide_names: presence_private, ..Policy::default() };
                    world.core.handle_reconfigured(limits, policy);
                }
                2 => {
                    let receive = if rng.next_u32().is_multiple_of(2) { TAKE_OVER } else { credit(2) };
                    world.try_login(who[one], e2e_protocol::wire::session::Purpose::Login, receive);
                }
                3 if !world.links.is_empty() => {
                    let peer = rng.next_u32() as usize % world.links.len();
                    if world.is_open(peer) {
                        let delivered = world.delivered(peer);
                        world.ack_all(peer, &delivered);
                    }
                }
                4 if !world.links.is_empty() => {
                    let peer = rng.next_u32() as usize % world.links.len();
                    if world.is_open(peer) {
                        world.hang_up(peer);
                    }
                }
                5 if !world.links.is_empty() => {
                    let peer = rng.next_u32() as usize % world.links.len();
                    if world.is_open(peer) && world.links[peer].welcome.is_some() {
                        let all: Vec<_> = who.iter().map(|who| name(who)).collect();
                        world.put(peer, |out| Who::emit(out, 7, Watch::Yes, &all));
                    }
                }
                6 if rng.next_u32().is_multiple_of(4) => {
                    if let Ok(asked) = world.core.remove_name(&name(who[one])) {
                        // As the loop does, which takes orders in a turn.
                        world.turn();
                        world.settle();
                        assert_eq!(world.core.poll_answer(), Some(Answer::Removed(asked)), "{seed}");
                        world.core.handle_reconfigured(Limits::default(), Policy::default());
                        world.claim(who[one]);
                    }
                }
                _ => {
                    if let Some(peer) = (0..world.links.len())
                        .rev()
                        .find(|peer| world.is_open(*peer) && world.links[*peer].welcome.is_some())
                    {
                        for _ in 0..rng.next_u32() % 40 {
                            number += 1;
                            let envelope = vec![7; 1 + rng.next_u32() as usize % 9_000];
                            world.send(
                                peer,
                                uids[other],
                                1 + u64::from(rng.next_u32() % 20),
                                number,
                                &envelope,
                            );
                        }
                    }
                }
            }
            if rng.next_u32().is_multiple_of(2) {
                world.settle();
                let ms = u64::from(rng.next_u32() % 3_000);
                world.advance(ms);
            }
        }
        world.settle();
        world.core.handle_stop();
        world.settle();
        world.advance(20_000);
        assert!(world.core.is_stopped(), "{seed}");
    }
}
