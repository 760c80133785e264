//! The work for a peer: the same pairs, sizes, windows and times as for the relay.
//!
//! Owns: the loop, and when something may be sent. A window counts messages that were not received yet, or, where
//! nobody receives, not acknowledged. A payload starts with the time at which it was meant to be sent.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e_tests::process::{cpu_seconds, resident_bytes};
use mio::{Events, Interest, Poll, Token};

use super::super::Work;
use super::super::figures::Figures;
use super::super::socket::Socket;
use super::Task;
use super::server::Server;

/// What a system speaks.
pub(crate) trait Dialect {
    /// What a new connection says.
    fn greeting(&self, pair: usize, receives: bool) -> Vec<u8>;
    /// How much of these bytes is the answer, once it is there.
    fn greeted(&self, bytes: &[u8]) -> Option<usize>;
    /// Appends one message of a pair.
    fn publish(&self, out: &mut Vec<u8>, pair: usize, number: u64, payload: &[u8]);
    /// Looks at what came: shows each message, appends what has to be answered. Returns how much was used, and how
    /// many messages were acknowledged.
    fn take(&self, bytes: &[u8], out: &mut Vec<u8>, see: &mut dyn FnMut(&[u8])) -> (usize, u64);
}

/// The first line, without its end, and how long it is with it.
pub(crate) fn line_end(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let at = bytes.windows(2).position(|window| window == b"\r\n")?;
    Some((&bytes[..at], at + 2))
}

/// A connection that was greeted.
fn connect(server: &Server, dialect: &dyn Dialect, pair: usize, receives: bool) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).expect("the peer accepts");
    stream.set_nodelay(true).expect("the option is there");
    stream.write_all(&dialect.greeting(pair, receives)).expect("it reads");
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece).expect("it answers");
        assert!(count > 0, "the peer closed: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..count]);
        if dialect.greeted(&bytes).is_some() {
            return stream;
        }
    }
}

/// What an idle connection costs in resident memory, bytes.
pub(crate) fn idle(server: &Server, count: usize, dialect: &dyn Dialect) -> u64 {
    const FIRST: usize = 100;
    let mut connections: Vec<_> = (0..FIRST).map(|index| connect(server, dialect, index, true)).collect();
    let before = resident_bytes(server.id());
    connections.extend((FIRST..FIRST + count).map(|index| connect(server, dialect, index, true)));
    std::thread::sleep(Duration::from_secs(1));
    let after = resident_bytes(server.id());
    drop(connections);
    after.saturating_sub(before) / (count as u64).max(1)
}

struct Pair {
    sender: Socket,
    receiver: Option<Socket>,
    sent: u64,
    received: u64,
    acknowledged: u64,
    /// Where nobody receives: when each message without an acknowledgement was meant to be sent. They come in its order.
    waiting_us: VecDeque<u64>,
}

/// More than the window of one that never reads: what the system keeps or drops for it is its business.
const STALLED_AT_ONCE: u64 = 64;

pub(crate) fn run(server: &Server, work: &Work, task: Task, dialect: &dyn Dialect) -> Figures {
    let stored = task == Task::Stored;
    let mut pairs: Vec<Pair> = (0..work.pairs)
        .map(|pair| Pair {
            receiver: (!stored).then(|| Socket::new(connect(server, dialect, pair, true))),
            sender: Socket::new(connect(server, dialect, pair, false)),
            sent: 0,
            received: 0,
            acknowledged: 0,
            waiting_us: VecDeque::new(),
        })
        .collect();
    let mut victim = (task == Task::Stalled).then(|| {
        let never_read = connect(server, dialect, work.pairs, true);
        (never_read, Socket::new(connect(server, dialect, work.pairs, false)), 0_u64)
    });
    let mut poll = Poll::new().expect("a poll");
    let interest = Interest::READABLE | Interest::WRITABLE;
    for (index, pair) in pairs.iter_mut().enumerate() {
        poll.registry().register(&mut pair.sender.stream, Token(2 * index), interest).unwrap();
        if let Some(receiver) = &mut pair.receiver {
            poll.registry().register(&mut receiver.stream, Token(2 * index + 1), interest).unwrap();
        }
    }
    let mut payload = vec![0x5A; work.size];
    let mut latencies_us: Vec<u32> = Vec::with_capacity(8_000_000);
    let mut events = Events::with_capacity(256);
    let epoch = Instant::now();
    let now_us = || epoch.elapsed().as_micros() as u64;
    let warm_up = Duration::from_secs_f64(work.seconds / 10.0);
    let end = warm_up + Duration::from_secs_f64(work.seconds);
    let (mut intended, mut measured_from) = (0_u64, None);
    let done = |pairs: &[Pair]| {
        pairs.iter().map(|pair| if stored { pair.acknowledged } else { pair.received }).sum::<u64>()
    };
    while epoch.elapsed() < end {
        if measured_from.is_none() && epoch.elapsed() >= warm_up {
            measured_from = Some((Instant::now(), cpu_seconds(server.id()), done(&pairs)));
        }
        let mut put = |pair: &mut Pair, index: usize, at_us: u64| {
            payload[..8].copy_from_slice(&at_us.to_be_bytes());
            dialect.publish(&mut pair.sender.to_write, index, pair.sent, &payload);
            pair.sent += 1;
            if stored {
                pair.waiting_us.push_back(at_us);
            }
        };
        match work.rate {
            Some(rate) => {
                while (intended as f64 * 1e6 / rate) as u64 <= now_us() {
                    let at_us = (intended as f64 * 1e6 / rate) as u64;
                    let index = intended as usize % pairs.len();
                    intended += 1;
                    put(&mut pairs[index], index, at_us);
                }
            }
            None => {
                for (index, pair) in pairs.iter_mut().enumerate() {
                    let settled = if stored { pair.acknowledged } else { pair.received };
                    if pair.sender.to_write.is_empty() {
                        let at_us = now_us();
                        while pair.sent - settled < work.window as u64 {
                            put(pair, index, at_us);
                        }
                    }
                }
            }
        }
        pairs.iter_mut().for_each(|pair| pair.sender.flush());
        if let Some((_, sender, sent)) = &mut victim
            && sender.to_write.is_empty()
        {
            for _ in 0..STALLED_AT_ONCE {
                dialect.publish(&mut sender.to_write, work.pairs, *sent, &payload);
                *sent += 1;
            }
            sender.flush();
            sender.read(|bytes, out| dialect.take(bytes, out, &mut |_| {}).0);
        }
        let timeout = if work.rate.is_some() { Duration::ZERO } else { Duration::from_millis(10) };
        poll.poll(&mut events, Some(timeout)).expect("a poll");
        for event in &events {
            let Token(token) = event.token();
            let Pair { sender, receiver, received, acknowledged, waiting_us, .. } = &mut pairs[token / 2];
            let socket = match (token % 2, receiver) {
                (1, Some(receiver)) => receiver,
                _ => sender,
            };
            let mut note = |sent_us: u64| {
                if measured_from.is_some() && latencies_us.len() < latencies_us.capacity() {
                    latencies_us.push(u32::try_from(now_us().saturating_sub(sent_us)).unwrap_or(u32::MAX));
                }
            };
            socket.read(|bytes, out| {
                let (used, acks) = dialect.take(bytes, out, &mut |message| {
                    *received += 1;
                    note(u64::from_be_bytes(message[..8].try_into().expect("8 bytes")));
                });
                *acknowledged += acks;
                let settled = waiting_us.len().min(acks as usize);
                waiting_us.drain(..settled).for_each(&mut note);
                used
            });
            socket.flush();
        }
    }
    let (from, cpu_before, done_before) = measured_from.expect("the warm-up is over");
    latencies_us.sort_unstable();
    Figures {
        messages: done(&pairs) - done_before,
        seconds: from.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds(server.id()) - cpu_before,
        latencies_us,
        rss_bytes: resident_bytes(server.id()),
        stored,
    }
}
