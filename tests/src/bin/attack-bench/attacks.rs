//! What is done to the relay. Each attack is bounded in time, in what it holds open, and by pauses, so that what the pair meets is the
//! relay and not an attacker who keeps the second core, and the kernel's queues there, to itself.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use e2e_protocol::ids::{Lane, Uid};
use e2e_protocol::login::key_id;
use e2e_protocol::wire::directory::{Batch, Lookup, Publish, SignedPrekey, Want, Whose};
use e2e_protocol::wire::session::{Credit, Hello, Proof, Purpose, Receive, emit_ping};
use e2e_protocol::wire::{Frame, FrameType};
use e2e_tests::raw::{AMPLE, Raw, frame, identity, send_frame};

/// Connections that an attack holds open at once, at most.
const HELD_MAX: usize = 2_000;
/// Names that an attack uses.
const NAMES: usize = 24;

/// After each connection, or each fifty bytes of a dribble: at most some 5,000 connections and 100,000 bytes a second.
const PAUSE: Duration = Duration::from_micros(200);
const PAUSE_BYTES: usize = 50;

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    Connections,
    BadLogins,
    Registrations,
    SlowReaders,
    Dribblers,
    Prekeys,
    UnreadResults,
    FullMailbox,
    StalledRecipient,
}

impl Attack {
    pub(crate) const ALL: [Self; 9] = [
        Self::Connections,
        Self::BadLogins,
        Self::Registrations,
        Self::SlowReaders,
        Self::Dribblers,
        Self::Prekeys,
        Self::UnreadResults,
        Self::FullMailbox,
        Self::StalledRecipient,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::BadLogins => "bad-logins",
            Self::Registrations => "registrations",
            Self::SlowReaders => "slow-readers",
            Self::Dribblers => "dribblers",
            Self::Prekeys => "prekeys",
            Self::UnreadResults => "unread-results",
            Self::FullMailbox => "full-mailbox",
            Self::StalledRecipient => "stalled-recipient",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Connections => "connections from ever new addresses that say nothing",
            Self::BadLogins => "logins from ever new addresses whose signature is none",
            Self::Registrations => "new names from ever new addresses",
            Self::SlowReaders => "names that ask without end and read nothing",
            Self::Dribblers => "HELLOs and long frames, byte by byte, on many connections",
            Self::Prekeys => "names that take another's one-time prekeys",
            Self::UnreadResults => "messages to oneself whose results nobody reads",
            Self::FullMailbox => "messages without end to a mailbox that is full",
            Self::StalledRecipient => "messages without end to somebody who reads nothing",
        }
    }

    /// What has to be there before.
    pub(crate) fn prepare(self, address: SocketAddr) {
        if self == Self::Prekeys {
            publish(&mut log_in(address, [198, 51, 100, 3], "victim", Receive::No));
        }
    }

    /// Attacks until then.
    pub(crate) fn run(self, address: SocketAddr, until: Instant) {
        match self {
            Self::Connections => connections(address, until),
            Self::BadLogins => bad_logins(address, until),
            Self::Registrations => registrations(address, until),
            Self::SlowReaders => slow_readers(address, until),
            Self::Dribblers => dribblers(address, until),
            Self::Prekeys => prekeys(address, until),
            Self::UnreadResults => unread_results(address, until),
            Self::FullMailbox => flood(address, until, false),
            Self::StalledRecipient => flood(address, until, true),
        }
    }
}

/// What a proxy says of a client at this address.
fn header(address: [u8; 4]) -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..], &address, &[127, 0, 0, 1, 0x30, 0x39, 0x13, 0x89]].concat()
}

/// Another address for each number.
fn source(number: u32) -> [u8; 4] {
    (0x0A00_0000 | (number & 0x00FF_FFFF)).to_be_bytes()
}

fn hello(purpose: Purpose) -> Vec<u8> {
    frame(|out| Hello { version_min: 1, version_max: 1, purpose }.emit(out))
}

fn connect(address: SocketAddr, from: [u8; 4]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    stream.write_all(&header(from)).ok()?;
    Some(stream)
}

/// A name's connection, registered if need be.
pub(crate) fn log_in(address: SocketAddr, from: [u8; 4], name: &str, receive: Receive) -> Raw {
    let mut raw = Raw::connect(address);
    raw.send(&header(from));
    raw.log_in(identity(), name, Purpose::Register, receive, None).expect("the relay lets it in");
    raw
}

pub(crate) fn uid_of(raw: &mut Raw, name: &str) -> Uid {
    raw.uid_of(name)
}

fn publish(raw: &mut Raw) {
    let modulus = |mark: u8| {
        let mut modulus = *identity().modulus();
        modulus[100] = mark;
        modulus
    };
    let signed = modulus(1);
    let signed_prekey = SignedPrekey { modulus: &signed, made_ms: 1, profile: 0, signature: &[1; 256] };
    for batch in 0..8_u8 {
        let moduli: Vec<_> = (0..16).map(|index| modulus(16 + batch * 16 + index)).collect();
        let batch = Batch { signed_prekey: key_id(&signed), signature: &[2; 256], moduli: &moduli };
        raw.send(&frame(|out| {
            Publish { request: 1, signed_prekey: Some(signed_prekey), batch: Some(batch) }.emit(out)
        }));
        raw.next(|frame| assert!(matches!(frame, Frame::Published(_)), "{frame:?}"));
    }
}

fn connections(address: SocketAddr, until: Instant) {
    let mut held = VecDeque::new();
    for number in 0.. {
        if Instant::now() > until {
            return;
        }
        held.extend(connect(address, source(number)));
        if held.len() > HELD_MAX {
            held.pop_front();
        }
        std::thread::sleep(PAUSE);
    }
}

fn bad_logins(address: SocketAddr, until: Instant) {
    let proof = Proof {
        receive: Receive::No,
        identity_key: identity().modulus(),
        signature: &[0x33; 256],
        token_proof: &[0; 32],
        name: "nobody".parse().unwrap(),
    };
    let proof = frame(|out| proof.emit(out));
    let mut under_way: VecDeque<TcpStream> = VecDeque::new();
    for number in 0.. {
        if Instant::now() > until {
            return;
        }
        if let Some(mut stream) = connect(address, source(number))
            && stream.write_all(&hello(Purpose::Login)).is_ok()
            && stream.read(&mut [0; 256]).is_ok()
            && stream.write_all(&proof).is_ok()
        {
            under_way.push_back(stream);
        }
        if under_way.len() > 64 {
            under_way.pop_front();
        }
        std::thread::sleep(PAUSE);
    }
}

fn registrations(address: SocketAddr, until: Instant) {
    for number in 0.. {
        if Instant::now() > until {
            return;
        }
        let mut raw = Raw::connect(address);
        raw.send(&header(source(number)));
        let _ = raw.log_in(identity(), &format!("flood{number}"), Purpose::Register, Receive::No, None);
    }
}

/// Writes what goes; returns whether the connection is still there.
fn push(stream: &mut TcpStream, bytes: &[u8], at: &mut usize) -> bool {
    match stream.write(&bytes[*at..]) {
        Ok(count) => {
            *at = (*at + count) % bytes.len();
            true
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn slow_readers(address: SocketAddr, until: Instant) {
    let open = |index: usize| {
        let raw = log_in(address, source(index as u32), &format!("slow{index}"), Receive::No);
        raw.stream.set_nonblocking(true).unwrap();
        (raw.stream, 0)
    };
    let mut streams: Vec<_> = (0..NAMES).map(open).collect();
    let whose = Whose::Name("slow0".parse().unwrap());
    let lookup = frame(|out| Lookup { request: 1, want: Want::Address, whose }.emit(out));
    let ping = frame(|out| emit_ping(out, FrameType::Ping, *b"unread!!"));
    let asked = [lookup, ping].concat().repeat(100);
    while Instant::now() < until {
        for (index, (stream, at)) in streams.iter_mut().enumerate() {
            if !push(stream, &asked, at) {
                (*stream, *at) = open(index);
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn dribblers(address: SocketAddr, until: Instant) {
    let mut streams = VecDeque::new();
    for index in 0..NAMES {
        let mut raw = log_in(address, source(index as u32), &format!("drip{index}"), Receive::No);
        let to = raw.uid_of("drip0");
        streams.push_back((raw.stream, send_frame(to, Lane(1), 1, &[7; 16_384]), 0));
    }
    for number in 0..500 {
        streams.extend(
            connect(address, source(1_000 + number)).map(|stream| (stream, hello(Purpose::Login), 0)),
        );
    }
    for count in 1.. {
        if count % PAUSE_BYTES == 0 {
            std::thread::sleep(PAUSE);
        }
        let Some((mut stream, bytes, at)) = streams.pop_front().filter(|_| Instant::now() < until) else {
            return;
        };
        if at < bytes.len() && stream.write_all(&bytes[at..=at]).is_ok() {
            streams.push_back((stream, bytes, at + 1));
        } else {
            let number = streams.len() as u32 + 5_000;
            streams.extend(connect(address, source(number)).map(|stream| (stream, hello(Purpose::Login), 0)));
        }
    }
}

fn prekeys(address: SocketAddr, until: Instant) {
    let mut thieves: Vec<_> = (0..NAMES)
        .map(|index| log_in(address, source(index as u32), &format!("thief{index}"), Receive::No))
        .collect();
    let whose = Whose::Name("victim".parse().unwrap());
    let lookup = frame(|out| Lookup { request: 1, want: Want::OneTime, whose }.emit(out));
    while Instant::now() < until {
        for thief in &mut thieves {
            thief.send(&lookup);
        }
        for thief in &mut thieves {
            thief.next(|_| {});
        }
    }
}

fn unread_results(address: SocketAddr, until: Instant) {
    let open = |index: usize| {
        let mut raw = log_in(address, source(index as u32), &format!("deaf{index}"), Receive::No);
        let to = raw.uid_of(&format!("deaf{index}"));
        let sends: Vec<_> =
            (1..=1_000).flat_map(|number| send_frame(to, Lane(number), 1, &[7; 64])).collect();
        raw.stream.set_nonblocking(true).unwrap();
        (raw.stream, sends, 0)
    };
    let mut streams: Vec<_> = (0..NAMES).map(open).collect();
    while Instant::now() < until {
        for (index, (stream, sends, at)) in streams.iter_mut().enumerate() {
            if !push(stream, sends, at) {
                (*stream, *sends, *at) = open(index);
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Many send to one; with `stalled` it is connected and reads nothing.
fn flood(address: SocketAddr, until: Instant, stalled: bool) {
    let receive = Receive::TakeOver(if stalled { AMPLE } else { Credit { messages: 1, bytes: 16_448 } });
    let victim = log_in(address, [198, 51, 100, 3], "victim", receive);
    if !stalled {
        let _ = victim.stream.shutdown(Shutdown::Both);
    }
    let mut senders: Vec<_> = (0..NAMES)
        .map(|index| {
            let mut raw = log_in(address, source(index as u32), &format!("flood{index}"), Receive::No);
            let to = raw.uid_of("victim");
            raw.stream.set_nonblocking(true).unwrap();
            (raw.stream, to, 0_u64, Vec::new(), 0)
        })
        .collect();
    let mut results = vec![0; 64 * 1024];
    while Instant::now() < until {
        for (stream, to, number, sends, at) in &mut senders {
            while matches!(stream.read(&mut results), Ok(count) if count > 0) {}
            if *at == 0 {
                let numbers = *number + 1..=*number + 50;
                *sends = numbers.flat_map(|number| send_frame(*to, Lane(1), number, &[7; 1_024])).collect();
                *number += 50;
            }
            if !push(stream, sends, at) {
                return;
            }
        }
    }
}
