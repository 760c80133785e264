//! What the fuzzers run, as ordinary functions: each takes any bytes and panics if something does not hold.
//!
//! Owns: [`TARGETS`], the one list of them. `tests/fuzz/` makes a fuzzer of each, and the test `fuzz_corpus` runs them
//! over every kept input; docs/fuzzing.md is the page about them. Where to go next: `frames` (bytes to frames and
//! back), `envelope` (what a stranger can put into one), `state` and `home` (a client's files), `relay` (the relay's core under
//! what peers do), `client` (the client's engine under what a relay does), `admin` (what an administrator writes), `copy` (a copy of a store), `seeds` (what fuzzing starts from).

mod admin;
mod client;
mod conversation;
mod copy;
mod edits;
mod envelope;
mod frames;
mod home;
mod input;
mod relay;
mod seeds;
mod state;

/// Frames again from their fields: the same copy as the tests of the wire format use.
#[path = "../../../protocol/tests/common/emit.rs"]
mod emit;

/// The host of the relay's core: the same copy as its own tests use.
#[path = "../../../daemon/tests/core_common/mod.rs"]
mod core_common;

pub use seeds::seeds;

/// One thing that is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// How it is called, here, in `tests/fuzz/` and in docs/fuzzing.md.
    pub name: &'static str,
    /// Takes any bytes; panics if something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target { name: "deframe", run: frames::deframe },
    Target { name: "body", run: frames::body },
    Target { name: "explain", run: frames::explain_bytes },
    Target { name: "envelope", run: envelope::open },
    Target { name: "state", run: state::files },
    Target { name: "home", run: home::files },
    Target { name: "strangers", run: relay::strangers },
    Target { name: "users", run: relay::users },
    Target { name: "client", run: client::engine },
    Target { name: "admin", run: admin::read },
    Target { name: "copy", run: copy::receive },
];

/// Makes what is made once: keys, and a conversation. It takes seconds where code is slow, which no input is to blame for.
pub fn prepare() {
    conversation::homes();
    for who in 0..crate::relay_sim::keys::USERS_MAX {
        crate::relay_sim::keys::identity(who, 0);
    }
}

/// The target with this name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("a target of TARGETS")
}
