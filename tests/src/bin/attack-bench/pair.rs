//! Two users who write to each other while somebody else attacks: one sends at fixed times, the other receives.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use e2e_protocol::ids::{Lane, Receipt, Sequence};
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::session::Receive;
use e2e_protocol::wire::transfer::Ack;
use e2e_protocol::wire::{Frame, Parsed};
use e2e_tests::raw::{AMPLE, frame, send_frame};

use super::attacks::{log_in, uid_of};

/// Between two messages.
const INTERVAL: Duration = Duration::from_millis(2);

/// See the module.
pub(crate) struct Pair {
    sender: TcpStream,
    receiver: TcpStream,
    to: e2e_protocol::ids::Uid,
    number: u64,
    received: Vec<u8>,
    epoch: Instant,
}

/// What was measured.
pub(crate) struct Latencies {
    pub(crate) messages: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Latencies {
    pub(crate) fn of(mut latencies: Vec<f64>) -> Self {
        latencies.sort_unstable_by(f64::total_cmp);
        let percentile = |fraction: f64| {
            let last = latencies.len().saturating_sub(1);
            latencies.get((last as f64 * fraction).round() as usize).copied().unwrap_or(f64::INFINITY)
        };
        Self { messages: latencies.len(), p50_us: percentile(0.5), p99_us: percentile(0.99) }
    }
}

impl Pair {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let receiver = log_in(address, [198, 51, 100, 1], "live-bob", Receive::TakeOver(AMPLE));
        let mut sender = log_in(address, [198, 51, 100, 2], "live-alice", Receive::No);
        let to = uid_of(&mut sender, "live-bob");
        receiver.stream.set_nonblocking(true).unwrap();
        sender.stream.set_nonblocking(true).unwrap();
        let (sender, receiver) = (sender.stream, receiver.stream);
        Self { sender, receiver, to, number: 0, received: Vec::new(), epoch: Instant::now() }
    }

    /// Sends for so long; a message that is late doesn't hold up the next. Returns how long each took, microseconds.
    pub(crate) fn run(&mut self, duration: Duration) -> Vec<f64> {
        let start = Instant::now();
        let mut next = start;
        let mut latencies = Vec::new();
        let mut missing = 0_i64;
        while start.elapsed() < duration || (missing > 0 && start.elapsed() < 2 * duration) {
            let now = Instant::now();
            if now >= next && start.elapsed() < duration {
                self.number += 1;
                let at = next.duration_since(self.epoch).as_nanos() as u64;
                let envelope = [&at.to_be_bytes()[..], &[0x5A; 120]].concat();
                let send = send_frame(self.to, Lane(1), self.number, &envelope);
                // The relay reads on: the socket always takes a message.
                self.sender.write_all(&send).expect("the relay reads");
                missing += 1;
                next += INTERVAL;
            }
            missing -= self.receive(&mut latencies) as i64;
            drain(&mut self.sender);
            let idle = next.saturating_duration_since(Instant::now()).min(Duration::from_micros(20));
            if !idle.is_zero() {
                std::thread::sleep(idle);
            }
        }
        latencies
    }

    fn receive(&mut self, latencies: &mut Vec<f64>) -> usize {
        let before = latencies.len();
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.receiver.read(&mut bytes) {
                Ok(0) => panic!("the relay closed the pair's connection"),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("reading: {error}"),
            }
        }
        let now = self.epoch.elapsed().as_nanos() as u64;
        let mut at = 0;
        let mut acks = Vec::new();
        while let Parsed::Frame(parsed, count) =
            Frame::parse(&self.received[at..], BODY_BYTES_MAX).expect("a frame")
        {
            if let Frame::Deliver(message) = parsed {
                let sent = u64::from_be_bytes(message.envelope()[..8].try_into().expect("8 bytes"));
                latencies.push(now.saturating_sub(sent) as f64 / 1e3);
                let sequence = Sequence(message.routing.sequence.0);
                acks.extend(frame(|out| Ack::emit(out, sequence, &[Receipt([0xAC; 32])])));
            }
            at += count;
        }
        self.received.drain(..at);
        if !acks.is_empty() {
            self.receiver.write_all(&acks).expect("the relay reads");
        }
        latencies.len() - before
    }
}

fn drain(stream: &mut TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while matches!(stream.read(&mut bytes), Ok(count) if count > 0) {}
}
