//! Messages: pairs of senders and receivers, all in one thread, over non-blocking sockets.
//!
//! Each sender keeps a window of messages without a result; each receiver acknowledges what a read
//! brought in ranges. An envelope starts with the time at which it was meant to be sent, so that a
//! late generator shows as latency.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e_protocol::ids::{Lane, Number, Receipt, Sequence, Uid};
use e2e_protocol::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_protocol::wire::transfer::{Ack, ResultCode};
use e2e_protocol::wire::{ErrorCode, Frame, FrameType, Parsed, Routing, routed::emit_routed};
use e2e_tests::process::{Relay, cpu_seconds, resident_bytes};
use e2e_tests::raw::{AMPLE, Raw};
use mio::{Events, Interest, Poll, Token};

use super::Work;
use super::figures::Figures;
use super::socket::Socket;

/// A connection that is logged in.
struct Peer(Socket);

impl Peer {
    fn new(raw: Raw) -> Self {
        Self(Socket::new(raw.stream))
    }

    fn push(&mut self, emit: impl FnOnce(&mut [u8]) -> Result<usize, e2e_protocol::wire::NoRoom>) {
        let out = &mut self.0.to_write;
        let start = out.len();
        out.resize(start + FRAME_BYTES_MAX + 1024, 0);
        let count = emit(&mut out[start..]).expect("there is room");
        out.truncate(start + count);
    }

    /// Reads what is there, and shows each frame.
    fn read(&mut self, mut look: impl FnMut(Frame<'_>)) {
        self.0.read(|bytes, _| {
            let mut at = 0;
            while let Parsed::Frame(frame, count) =
                Frame::parse(&bytes[at..], BODY_BYTES_MAX).expect("a frame")
            {
                look(frame);
                at += count;
            }
            at
        });
    }
}

struct Sender {
    peer: Peer,
    lane: Lane,
    /// To whom, one after the other: a mailbox that is full makes way for the next.
    recipients: VecDeque<Uid>,
    number: u64,
    in_flight: usize,
    /// When each number was meant to be sent, by number modulo its length.
    sent_us: Vec<u64>,
    /// Whenever it has sent something, the next one is another's.
    in_turn: bool,
}

/// More messages than any window holds.
const WINDOW_MAX: usize = 4_096;

struct Receiver {
    peer: Peer,
    /// What a read brought and is not acknowledged.
    first: u64,
    count: usize,
}

/// The whole of one measurement.
struct Load<'a> {
    work: &'a Work,
    epoch: Instant,
    envelope: Vec<u8>,
    receipts: Vec<Receipt>,
    latencies_us: Vec<u32>,
    measuring: bool,
    /// Results that ended a message: COLLECTED, or STORED where nobody receives.
    done: u64,
    intended: u64,
}

/// Everybody sends to somebody who receives. With `stalled`, one more pair's receiver never reads.
pub(crate) fn delivered(relay: &Relay, work: &Work, stalled: bool) -> Figures {
    let address = relay.address();
    let receivers = (0..work.pairs).map(|_| {
        let receive = Receive::TakeOver(AMPLE);
        let (raw, welcome) = Raw::login(address, &new_name("r"), Purpose::Register, receive);
        (raw, welcome.uid)
    });
    let (senders, receivers) = pair_up(relay, work, receivers.collect());
    let victim = stalled.then(|| {
        let receive = Receive::TakeOver(AMPLE);
        let (raw, welcome) = Raw::login(address, &new_name("stalled"), Purpose::Register, receive);
        (raw, sender(relay, work.pairs, VecDeque::from([welcome.uid])))
    });
    let (victim_socket, victim_sender) = victim.unzip();
    let figures = run(relay, work, senders, receivers, victim_sender, ResultCode::Collected);
    drop(victim_socket);
    figures
}

/// Each pair's sender sends to its share of these, who all receive, one after the other.
pub(crate) fn in_turn(relay: &Relay, work: &Work, receivers: Vec<(Raw, Uid)>) -> Figures {
    let (mut senders, receivers) = pair_up(relay, work, receivers);
    senders.iter_mut().for_each(|sender| sender.in_turn = true);
    run(relay, work, senders, receivers, None, ResultCode::Collected)
}

/// Deals out who receives among the pairs' senders, who log in.
fn pair_up(relay: &Relay, work: &Work, receivers: Vec<(Raw, Uid)>) -> (Vec<Sender>, Vec<Receiver>) {
    let to = |pair| receivers.iter().skip(pair).step_by(work.pairs).map(|(_, uid)| *uid).collect();
    let senders = (0..work.pairs).map(|pair| sender(relay, pair, to(pair))).collect();
    let receives = |(raw, _)| Receiver { peer: Peer::new(raw), first: 0, count: 0 };
    (senders, receivers.into_iter().map(receives).collect())
}

/// Nobody receives.
pub(crate) fn stored(relay: &Relay, work: &Work) -> Figures {
    let address = relay.address();
    // Mailboxes hold 100,000 messages or 64 MiB; enough of them for what a fast disk takes.
    let frame_bytes = work.size as u64 + 64;
    let mailbox_messages = (64 * 1024 * 1024 / frame_bytes).min(100_000);
    let mailboxes = (work.seconds * 1.2 * 2_000_000.0 / mailbox_messages as f64).ceil() as usize;
    let per_pair = mailboxes.div_ceil(work.pairs) + 1;
    let senders = (0..work.pairs).map(|pair| {
        let recipients =
            (0..per_pair).map(|_| Raw::login(address, &new_name("m"), Purpose::Register, Receive::No).1.uid);
        let recipients = recipients.collect();
        sender(relay, pair, recipients)
    });
    let senders = senders.collect();
    run(relay, work, senders, Vec::new(), None, ResultCode::Stored)
}

/// A name that nobody had before: one relay may be measured several times, and nothing of before is to come again.
fn new_name(begins: &str) -> String {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    format!("{begins}{}", NAMES.fetch_add(1, Ordering::Relaxed))
}

fn sender(relay: &Relay, pair: usize, recipients: VecDeque<Uid>) -> Sender {
    let (raw, _) = Raw::login(relay.address(), &new_name("s"), Purpose::Register, Receive::No);
    Sender {
        peer: Peer::new(raw),
        lane: Lane(pair as u64 + 1),
        recipients,
        number: 0,
        in_flight: 0,
        sent_us: vec![0; WINDOW_MAX],
        in_turn: false,
    }
}

fn run(
    relay: &Relay,
    work: &Work,
    mut senders: Vec<Sender>,
    mut receivers: Vec<Receiver>,
    mut victim: Option<Sender>,
    counts: ResultCode,
) -> Figures {
    let mut poll = Poll::new().expect("a poll");
    let interest = Interest::READABLE | Interest::WRITABLE;
    for (index, sender) in senders.iter_mut().enumerate() {
        poll.registry().register(&mut sender.peer.0.stream, Token(index), interest).unwrap();
    }
    for (index, receiver) in receivers.iter_mut().enumerate() {
        let token = Token(senders.len() + index);
        poll.registry().register(&mut receiver.peer.0.stream, token, interest).unwrap();
    }
    let mut load = Load {
        work,
        epoch: Instant::now(),
        envelope: vec![0x5A; work.size],
        receipts: vec![Receipt([0xAC; 32]); 512],
        latencies_us: Vec::with_capacity(8_000_000),
        measuring: false,
        done: 0,
        intended: 0,
    };
    let mut events = Events::with_capacity(256);
    let warm_up = Duration::from_secs_f64(work.seconds / 10.0);
    let end = warm_up + Duration::from_secs_f64(work.seconds);
    let mut measured_from = (Instant::now(), 0.0, 0);
    while load.epoch.elapsed() < end {
        if !load.measuring && load.epoch.elapsed() >= warm_up {
            load.measuring = true;
            measured_from = (Instant::now(), cpu_seconds(relay.id()), load.done);
        }
        load.send(&mut senders);
        if let Some(victim) = &mut victim {
            load.fill(victim);
            victim.peer.0.flush();
            load.read_results(victim, ResultCode::Collected, false);
        }
        let timeout = if work.rate.is_some() { Duration::ZERO } else { Duration::from_millis(10) };
        poll.poll(&mut events, Some(timeout)).expect("a poll");
        for event in &events {
            let Token(index) = event.token();
            if let Some(sender) = senders.get_mut(index) {
                load.read_results(sender, counts, true);
                sender.peer.0.flush();
            } else if let Some(receiver) = receivers.get_mut(index - senders.len()) {
                load.receive(receiver);
            }
        }
    }
    let (from, cpu_before, done_before) = measured_from;
    let seconds = from.elapsed().as_secs_f64();
    load.latencies_us.sort_unstable();
    Figures {
        messages: load.done - done_before,
        seconds,
        cpu_seconds: cpu_seconds(relay.id()) - cpu_before,
        latencies_us: load.latencies_us,
        rss_bytes: resident_bytes(relay.id()),
        stored: counts == ResultCode::Stored,
    }
}

impl Load<'_> {
    fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    fn send(&mut self, senders: &mut [Sender]) {
        let Some(rate) = self.work.rate else {
            for sender in senders {
                self.fill(sender);
                sender.peer.0.flush();
            }
            return;
        };
        // Each message has a time at which it is meant to go; who is late doesn't skip any.
        let now_us = self.now_us();
        while (self.intended as f64 * 1e6 / rate) as u64 <= now_us {
            let at_us = (self.intended as f64 * 1e6 / rate) as u64;
            let index = self.intended as usize % senders.len();
            self.intended += 1;
            self.put(&mut senders[index], at_us);
        }
        senders.iter_mut().for_each(|sender| sender.peer.0.flush());
    }

    /// Fills a sender's window.
    fn fill(&mut self, sender: &mut Sender) {
        if sender.in_flight < self.work.window && sender.peer.0.to_write.is_empty() {
            let now_us = self.now_us();
            while sender.in_flight < self.work.window {
                self.put(sender, now_us);
            }
            if sender.in_turn {
                sender.recipients.rotate_left(1);
            }
        }
    }

    fn put(&mut self, sender: &mut Sender, at_us: u64) {
        let Some(&to) = sender.recipients.front() else { panic!("no mailbox is left that is not full") };
        sender.number += 1;
        sender.in_flight += 1;
        self.envelope[..8].copy_from_slice(&at_us.to_be_bytes());
        sender.sent_us[sender.number as usize % WINDOW_MAX] = at_us;
        let number = Number(sender.number);
        let routing = Routing { peer: to, lane: sender.lane, number, ..Routing::default() };
        sender.peer.push(|out| emit_routed(out, FrameType::Send, &routing, &self.envelope));
    }

    fn read_results(&mut self, sender: &mut Sender, counts: ResultCode, counted: bool) {
        let now_us = self.now_us();
        let (measuring, latencies) = (self.measuring && counts == ResultCode::Stored, &mut self.latencies_us);
        let Sender { peer, in_flight, recipients, sent_us, .. } = sender;
        let (mut done, mut full) = (0, false);
        peer.read(|frame| {
            let Frame::Result(outcome) = frame else { return };
            if outcome.code == counts {
                done += u64::from(outcome.count);
                if measuring && latencies.len() + WINDOW_MAX < latencies.capacity() {
                    let sent = |number: Number| sent_us[number.0 as usize % WINDOW_MAX];
                    let late =
                        |number| u32::try_from(now_us.saturating_sub(sent(number))).unwrap_or(u32::MAX);
                    latencies.extend(outcome.numbers().map(late));
                }
            } else if outcome.code == ResultCode::Refused {
                // A run of which a part was refused measures nothing.
                assert_eq!(outcome.reason, ErrorCode::MailboxFull.into(), "refused");
                full = true;
            } else {
                return;
            }
            *in_flight = in_flight.saturating_sub(outcome.count.into());
        });
        if full {
            recipients.pop_front();
        }
        if counted {
            self.done += done;
        }
    }

    fn receive(&mut self, receiver: &mut Receiver) {
        let Receiver { peer, first, count } = receiver;
        let (epoch, measuring, latencies) = (self.epoch, self.measuring, &mut self.latencies_us);
        let mut acks: Vec<(u64, usize)> = Vec::new();
        peer.read(|frame| {
            let Frame::Deliver(message) = frame else { return };
            let sequence = message.routing.sequence.0;
            if *count == 512 || (*count > 0 && sequence != *first + *count as u64) {
                acks.push((*first, std::mem::take(count)));
            }
            if *count == 0 {
                *first = sequence;
            }
            *count += 1;
            if measuring && latencies.len() < latencies.capacity() {
                let sent = u64::from_be_bytes(message.envelope()[..8].try_into().expect("8 bytes"));
                let now = epoch.elapsed().as_micros() as u64;
                latencies.push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
            }
        });
        if *count > 0 {
            acks.push((*first, std::mem::take(count)));
        }
        for (first, count) in acks {
            peer.push(|out| Ack::emit(out, Sequence(first), &self.receipts[..count]));
        }
        peer.0.flush();
    }
}
