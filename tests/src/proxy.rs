//! A wire-tap: forwards connections to a relay, keeps what crossed, and can point to another relay or
//! cut connections in the middle of a frame.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Both directions of one connection.
#[derive(Clone, Debug, Default)]
pub struct Crossed {
    /// What the client sent.
    pub to_relay: Vec<u8>,
    /// What the relay sent.
    pub to_client: Vec<u8>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    crossed: Mutex<Vec<Crossed>>,
    open: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
    /// What the relay says is kept back once a SEND went to it.
    mute_after_send: AtomicBool,
    muted: AtomicBool,
    /// The relay is not told that a client has ended.
    hold_ends: AtomicBool,
    ends_held: AtomicUsize,
    /// Keeps what crossed.
    remembers: bool,
    /// So many connections are cut, each in the middle of what it forwards next.
    to_cut: AtomicUsize,
}

/// How a SEND begins.
const SEND: [u8; 6] = [0xE2, b'R', b'L', b'Y', 1, 0x10];

/// See the module. It stops accepting when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a port that the system chooses.
    ///
    /// # Panics
    /// If it can't.
    #[must_use]
    pub fn start(target: SocketAddr) -> Self {
        Self::over(target, true)
    }

    /// The same, but what crossed is not kept: for as long as one likes.
    ///
    /// # Panics
    /// As [`Proxy::start`].
    #[must_use]
    pub fn forgetful(target: SocketAddr) -> Self {
        Self::over(target, false)
    }

    fn over(target: SocketAddr, remembers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            crossed: Mutex::default(),
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
            mute_after_send: AtomicBool::new(false),
            muted: AtomicBool::new(false),
            hold_ends: AtomicBool::new(false),
            ends_held: AtomicUsize::new(0),
            remembers,
            to_cut: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                accepting.forward(client);
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards new connections to another address.
    ///
    /// # Panics
    /// Never while no thread panicked.
    pub fn point_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Cuts so many connections, each in the middle of what is forwarded next in one of its directions.
    pub fn cut(&self, connections: usize) {
        self.shared.to_cut.store(connections, Ordering::SeqCst);
    }

    /// From the next SEND on, clients hear nothing more; until this is called again with `false`.
    pub fn keep_results_back(&self, yes: bool) {
        self.shared.mute_after_send.store(yes, Ordering::SeqCst);
        self.shared.muted.store(false, Ordering::SeqCst);
    }

    /// Keeps from the relay that clients close their sending direction; until this is called again with
    /// `false`.
    pub fn hold_ends(&self, yes: bool) {
        self.shared.hold_ends.store(yes, Ordering::SeqCst);
    }

    /// How many clients have closed theirs meanwhile.
    #[must_use]
    pub fn ends_held(&self) -> usize {
        self.shared.ends_held.load(Ordering::SeqCst)
    }

    /// Everything that crossed so far, one after the other as the connections were made.
    ///
    /// # Panics
    /// Never while no thread panicked.
    #[must_use]
    pub fn crossed(&self) -> Vec<Crossed> {
        self.shared.crossed.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn forward(self: &Arc<Self>, client: TcpStream) {
        let target = *self.target.lock().unwrap();
        // Nobody there: the client sees its connection end.
        let Ok(relay) = TcpStream::connect(target) else { return };
        for stream in [&client, &relay] {
            stream.set_nodelay(true).expect("the option is there");
        }
        let index = {
            let mut crossed = self.crossed.lock().unwrap();
            crossed.push(Crossed::default());
            crossed.len() - 1
        };
        let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
        self.open.lock().unwrap().extend([copy(&client), copy(&relay)]);
        for (from, to, to_relay) in [(copy(&client), copy(&relay), true), (relay, client, false)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(from, to, index, to_relay));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, index: usize, to_relay: bool) {
        let mut bytes = [0; 32 * 1024];
        loop {
            match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    let take_one = |left: usize| left.checked_sub(1);
                    if count > 1
                        && self.to_cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one).is_ok()
                    {
                        let _ = to.write_all(&bytes[..count / 2]);
                        let _ = to.shutdown(Shutdown::Both);
                        let _ = from.shutdown(Shutdown::Both);
                        return;
                    }
                    if self.remembers {
                        let mut crossed = self.crossed.lock().unwrap();
                        let crossed = &mut crossed[index];
                        let kept = if to_relay { &mut crossed.to_relay } else { &mut crossed.to_client };
                        kept.extend_from_slice(&bytes[..count]);
                    }
                    let sends = to_relay && bytes[..count].windows(SEND.len()).any(|window| window == SEND);
                    if sends && self.mute_after_send.load(Ordering::SeqCst) {
                        self.muted.store(true, Ordering::SeqCst);
                    }
                    if !to_relay && self.muted.load(Ordering::SeqCst) {
                        continue;
                    }
                    if to.write_all(&bytes[..count]).is_err() {
                        let _ = from.shutdown(Shutdown::Both);
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if to_relay && self.hold_ends.load(Ordering::SeqCst) {
            self.ends_held.fetch_add(1, Ordering::SeqCst);
            while self.hold_ends.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}
