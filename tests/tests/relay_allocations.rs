//! A message that goes from a sender to a recipient who is there takes no memory anew.
//!
//! The loop of the relay runs in a thread of this process, over real sockets; every allocation of that thread is counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test
#![allow(unsafe_code)] // the counting allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use e2e_protocol::ids::{Lane, Uid};
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_relayd::clock::{Clock, system_ms};
use e2e_relayd::core::{Core, Policy};
use e2e_relayd::event_loop::EventLoop;
use e2e_relayd::limits::Limits;
use e2e_relayd::listen::listen;
use e2e_relayd::store::Store;
use e2e_tests::process::Directory;
use e2e_tests::raw::{AMPLE, Raw, send_frame};

/// Allocations of threads that are counted.
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count() {
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A relay in a thread.
struct Threaded {
    address: SocketAddr,
    signals: UnixStream,
    thread: JoinHandle<()>,
}

impl Threaded {
    fn start(directory: &Directory) -> Self {
        let (store, snapshot) =
            Store::open(directory.path(), [1; 32], system_ms()).expect("an empty directory");
        // However slow the machine is, what is delivered is acknowledged in time and needs no storing.
        let limits = Limits { ack_wait_ms: 3_600_000, ..Limits::default() };
        let listener = listen("127.0.0.1:0".parse().unwrap()).expect("a port is free");
        let address = listener.local_addr().unwrap();
        let (reader, signals) = UnixStream::pair().unwrap();
        let clock = Clock::start(snapshot.clock);
        let core = Core::new(limits, Policy::default(), &snapshot, [2; 32]);
        let mut event_loop = EventLoop::new(core, clock, vec![listener], reader).unwrap();
        let waker = event_loop.waker();
        let thread = std::thread::spawn(move || {
            let mut store = store.start(move || waker.wake().unwrap()).unwrap();
            IS_COUNTED.set(true);
            event_loop.run(&mut store).unwrap();
            IS_COUNTED.set(false);
            store.shutdown();
        });
        Self { address, signals, thread }
    }

    fn stop(mut self) {
        self.signals.write_all(b"s").unwrap();
        self.thread.join().expect("the loop ends well");
    }
}

/// Messages in flight for each pair.
const WINDOW: u64 = 50;

struct Pair {
    sender: Raw,
    receiver: Raw,
    to: Uid,
    number: u64,
}

impl Pair {
    fn new(relay: SocketAddr, name: &str) -> Self {
        let receive = Receive::TakeOver(AMPLE);
        let (receiver, welcome) = Raw::login(relay, &format!("{name}-to"), Purpose::Register, receive);
        let (sender, _) = Raw::login(relay, &format!("{name}-from"), Purpose::Register, Receive::No);
        Self { sender, receiver, to: welcome.uid, number: 0 }
    }

    fn send(&mut self, envelope: &[u8]) {
        let mut frames = Vec::new();
        for _ in 0..WINDOW {
            self.number += 1;
            frames.extend_from_slice(&send_frame(self.to, Lane(7), self.number, envelope));
        }
        self.sender.send(&frames);
    }

    /// Sees all of a window delivered, acknowledged and reported.
    fn settle(&mut self, envelope: &[u8]) {
        let first = self.receiver.next_delivery();
        assert_eq!((first.routing.number.0, &first.envelope[..]), (self.number - WINDOW + 1, envelope));
        for _ in 1..WINDOW {
            self.receiver.next_delivery();
        }
        self.receiver.acknowledge(first.routing.sequence, WINDOW);
        let mut reported = 0;
        while reported < WINDOW {
            reported += self.sender.next_results().count;
        }
    }
}

#[test]
fn a_routed_message_allocates_nothing() {
    const MESSAGES: u64 = 100_000;
    /// What happens once may happen late: a buffer that has to be larger than ever, a second one at the same time.
    const TRIES: usize = 4;
    let directory = Directory::new();
    let relay = Threaded::start(&directory);
    let mut pairs: Vec<_> = (0..4).map(|index| Pair::new(relay.address, &format!("pair{index}"))).collect();
    assert!(COUNT.load(Ordering::Relaxed) > 0, "logins allocate, so the thread is counted");
    let envelopes = [vec![0x5A; 128], vec![0xA5; 1024]];
    let mut exchange = |messages: u64| {
        for round in 0..messages / (WINDOW * pairs.len() as u64) {
            let envelope = &envelopes[round as usize % envelopes.len()];
            pairs.iter_mut().for_each(|pair| pair.send(envelope));
            pairs.iter_mut().for_each(|pair| pair.settle(envelope));
        }
    };
    exchange(MESSAGES / 10);
    let counts: Vec<u64> = (0..TRIES)
        .map(|_| {
            let before = COUNT.load(Ordering::Relaxed);
            exchange(MESSAGES);
            COUNT.load(Ordering::Relaxed) - before
        })
        .scan(false, |found, count| (!std::mem::replace(found, count == 0)).then_some(count))
        .collect();
    assert_eq!(counts.last(), Some(&0), "allocations for each {MESSAGES} messages: {counts:?}");
    relay.stop();
}
