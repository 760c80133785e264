//! The event loop on real sockets: what the core in memory can't show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use core_common::frames;
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::session::{Hello, Purpose};
use e2e_protocol::wire::{ErrorCode, Frame};
use e2e_relayd::clock::{Clock, system_ms};
use e2e_relayd::core::{Core, Policy};
use e2e_relayd::event_loop::EventLoop;
use e2e_relayd::limits::Limits;
use e2e_relayd::listen::listen;
use e2e_relayd::store::Store;

const PATIENCE: Duration = Duration::from_secs(10);

/// A relay in a thread, with its own state directory.
struct Relay {
    addresses: Vec<SocketAddr>,
    signals: UnixStream,
    thread: Option<JoinHandle<()>>,
    directory: std::path::PathBuf,
}

impl Relay {
    fn start(listeners: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("e2e-loop-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let listeners: Vec<_> =
            (0..listeners).map(|_| listen("127.0.0.1:0".parse().unwrap()).unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let (signals, receiver) = UnixStream::pair().unwrap();
        let (store, snapshot) = Store::open(&directory, [1; 32], system_ms()).unwrap();
        let clock = Clock::start(snapshot.clock);
        let core = Core::new(Limits::default(), Policy::default(), &snapshot, [2; 32]);
        let mut event_loop = EventLoop::new(core, clock, listeners, receiver).unwrap();
        let waker = event_loop.waker();
        let thread = std::thread::spawn(move || {
            let mut store = store.start(move || waker.wake().unwrap()).unwrap();
            event_loop.run(&mut store).unwrap();
            store.shutdown();
        });
        Self { addresses, signals, thread: Some(thread), directory }
    }

    fn connect(&self, listener: usize) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[listener]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.signals.write_all(&[1]).unwrap();
        self.thread.take().unwrap().join().unwrap();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn hello() -> [u8; 28] {
    let mut frame = [0; 28];
    Hello { version_min: 1, version_max: 1, purpose: Purpose::Login }.emit(&mut frame).unwrap();
    frame
}

/// The code of the one ERROR that comes before the end.
fn last_words(mut stream: TcpStream) -> ErrorCode {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an end, and not a reset");
    let mut code = None;
    let used = frames(&bytes, BODY_BYTES_MAX, |frame| match frame {
        Frame::Error(error) => code = error.code.known(),
        other => panic!("{other:?}"),
    });
    assert_eq!(used, bytes.len());
    code.unwrap()
}

#[test]
fn answers_and_ends_where_the_peer_closed_its_direction_at_once() {
    let relay = Relay::start(1);
    let mut stream = relay.connect(0);
    stream.write_all(&hello()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 88, "a CHALLENGE and the end");
}

#[test]
fn says_its_last_words_to_who_sent_more_than_was_read() {
    let relay = Relay::start(1);
    for _ in 0..20 {
        let mut stream = relay.connect(0);
        stream.write_all(&[0xEE; 200_000]).unwrap();
        assert_eq!(last_words(stream), ErrorCode::BadMagic);
    }
}

#[test]
fn accepts_a_burst_at_one_listener_and_the_other_without_delay() {
    let relay = Relay::start(2);
    let start = Instant::now();
    let mut streams: Vec<_> = (0..300).map(|_| relay.connect(0)).collect();
    streams.push(relay.connect(1));
    for stream in &mut streams {
        stream.write_all(&hello()).unwrap();
    }
    for stream in &mut streams {
        stream.read_exact(&mut [0; 88]).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn stops_and_says_so() {
    let relay = Relay::start(1);
    let stream = relay.connect(0);
    let mut probe = relay.connect(0);
    probe.write_all(&hello()).unwrap();
    probe.read_exact(&mut [0; 88]).unwrap();
    drop(relay);
    assert_eq!(last_words(stream), ErrorCode::Restarting);
}
