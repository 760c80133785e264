//! Many stored messages, a SIGKILL, and all of them back.

use std::path::Path;
use std::time::Instant;

use e2e_protocol::ids::Lane;
use e2e_protocol::limits::LANE_WINDOW;
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_protocol::wire::transfer::ResultCode;

use crate::client::files;
use crate::process::{Relay, resident_bytes_most};
use crate::raw::{AMPLE, Raw, send_frame};

/// Messages in one mailbox: below what one sender may have waiting in it.
const PER_MAILBOX: u64 = 25_000;

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    /// Messages that came back, each once and in order.
    pub messages: u64,
    /// Mailboxes they lay in.
    pub mailboxes: u64,
    /// Bytes of the database then.
    pub database_bytes: u64,
    /// Until all were stored, seconds.
    pub stored_seconds: f64,
    /// From the SIGKILL's end until the next relay listened, seconds.
    pub start_seconds: f64,
    /// Until all were collected, seconds.
    pub collected_seconds: f64,
    /// The most resident memory of the relay that took them, and of the one that gave them out, bytes.
    pub resident_bytes: [u64; 2],
}

impl Stored {
    /// As a JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        let [took, gave] = self.resident_bytes.map(|bytes| bytes as f64 / 1024.0 / 1024.0);
        format!(
            "{{\"stored\":{},\"mailboxes\":{},\"database_mib\":{:.0},\"lost\":0,\"stored_secs\":{:.1},\"start_ms\":{:.0},\"collected_secs\":{:.1},\
             \"resident_mib_storing\":{took:.1},\"resident_mib_collecting\":{gave:.1}}}",
            self.messages,
            self.mailboxes,
            self.database_bytes as f64 / 1024.0 / 1024.0,
            self.stored_seconds,
            self.start_seconds * 1e3,
            self.collected_seconds
        )
    }
}

/// Stores so many messages, with envelopes of so many bytes, on a relay at `state`, kills it, and collects them from
/// the next.
///
/// # Panics
/// If one is missing, comes twice, out of order, or altered.
#[must_use]
pub fn restart_with(messages: u64, envelope_bytes: usize, state: &Path) -> Stored {
    let envelope =
        |number: u64| number.to_be_bytes().into_iter().cycle().take(envelope_bytes).collect::<Vec<_>>();
    let mut relay = Relay::start(state, &[]);
    let mailboxes = messages.div_ceil(PER_MAILBOX);
    let mut stored = Stored { messages, mailboxes, ..Stored::default() };
    let in_mailbox = |index: u64| PER_MAILBOX.min(messages - index * PER_MAILBOX);
    let started = Instant::now();
    for index in 0..mailboxes {
        let to = Raw::try_login(relay.address(), &receiver(index), Purpose::Register, Receive::No)
            .expect("it registers")
            .1
            .uid;
        let login =
            Raw::try_login(relay.address(), &format!("sender-{index}"), Purpose::Register, Receive::No);
        let (mut sender, _) = login.expect("it registers");
        let (mut next, mut done, count) = (1, 0, in_mailbox(index));
        while done < count {
            while next <= count && next - done <= LANE_WINDOW / 2 {
                sender.send(&send_frame(to, Lane(1), next, &envelope(next)));
                next += 1;
            }
            let results = sender.next_results();
            assert_eq!((results.code, results.first), (ResultCode::Stored, done + 1));
            done += results.count;
        }
    }
    stored.stored_seconds = started.elapsed().as_secs_f64();
    stored.resident_bytes[0] = resident_bytes_most(relay.id());
    relay.kill();
    stored.database_bytes = files(state).iter().flat_map(std::fs::metadata).map(|file| file.len()).sum();
    let killed = Instant::now();
    let relay = Relay::start(state, &[]);
    stored.start_seconds = killed.elapsed().as_secs_f64();
    let started = Instant::now();
    for index in 0..mailboxes {
        let login =
            Raw::try_login(relay.address(), &receiver(index), Purpose::Register, Receive::TakeOver(AMPLE));
        let (mut raw, welcome) = login.expect("it logs in");
        assert_eq!(welcome.queued, in_mailbox(index));
        for number in 1..=welcome.queued {
            let delivery = raw.next_delivery();
            assert_eq!(delivery.routing.number.0, number);
            assert!(delivery.envelope == envelope(number));
            raw.acknowledge(delivery.routing.sequence, 1);
        }
        raw.ping();
    }
    stored.collected_seconds = started.elapsed().as_secs_f64();
    stored.resident_bytes[1] = resident_bytes_most(relay.id());
    stored
}

fn receiver(index: u64) -> String {
    format!("receiver-{index}")
}
