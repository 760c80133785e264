//! The event loop: sockets, the clock and the store around the core.
//!
//! Owns: every socket, the read buffer and partial frames. One thread; nothing in it waits but the
//! poll. It must not know what a frame means: bytes become frames in `e2e_protocol::wire`, and frames
//! go to [`Core`]. Bytes in and out: `bytes`. Who comes in: `accept`; what comes before frames or in their place: `entry`. Who comes for
//! no messages: `guests`, and what they ask for: `orders`. A new configuration: `reconfigure`.
//!
//! A turn: poll; accept; read what is ready, within budgets; take the store's
//! answers; let the core end its turn; do what it says. Sockets are registered once, edge-triggered,
//! for both directions, so a connection that has more to read than its budget is kept in mind.

mod accept;
mod bytes;
mod entry;
mod guests;
mod orders;
mod reconfigure;
mod sources;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Waker};

use crate::clock::Clock;
use crate::core::{Action, ConnId, Core};
use crate::limits::{EVENTS_PER_TURN, LISTENERS_MAX, PARTING_MAX, PARTING_MS, READ_BUFFER_BYTES};
use crate::listen::{ListenError, Listeners};
use crate::partials::{Partial, Partials};
use crate::proxy::Network;
use crate::reason::Reason;
use crate::reload::{Read as ReadConfiguration, Reloader};
use crate::settings::Settings;
use crate::store::StoreHandle;
use crate::supervisor::Supervisor;
use crate::text::Text;
use guests::Guests;
use reconfigure::Reloading;
use sources::Source;

/// Slices of one vectored write.
const SLICES: usize = 16;

/// One connection's socket.
#[derive(Debug)]
struct Socket {
    id: ConnId,
    stream: TcpStream,
    /// The start of a frame whose end has not come.
    partial: Partial,
    speaks: Speaks,
    /// The system may have bytes for us.
    readable: bool,
    /// The system said that the peer sends no more: no edge will say it again.
    ended: bool,
    /// It took less than there is: the system says when it takes more.
    blocked: bool,
    queued: bool,
}

/// What a connection's bytes are.
#[derive(Debug)]
enum Speaks {
    /// A trusted proxy's header is to come.
    Proxy,
    /// Nothing has come that would say, or only for whom a trusted proxy speaks.
    Nothing(Option<Box<SocketAddr>>),
    Frames,
    Text(Box<Text>),
}

/// What one takes.
pub(crate) const SOCKET_BYTES: usize = size_of::<Option<Socket>>();

/// See the module.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    waker: Arc<Waker>,
    listeners: Listeners,
    signals: UnixStream,
    sockets: Vec<Option<Socket>>,
    /// Sockets that have something new to read, and those that had more than was read at once: these wait for those.
    fresh: VecDeque<ConnId>,
    busy: VecDeque<ConnId>,
    /// The same of those that have not logged in.
    newcomers: VecDeque<ConnId>,
    /// Sockets that take bytes again.
    writable: Vec<ConnId>,
    /// A listener may have connections for us; not tried before `accept_after_ms`.
    accepting: bool,
    accept_after_ms: u64,
    buffer: Vec<u8>,
    partials: Partials,
    /// Who says for whom they speak, and who may have STAT and HEX.
    proxies: Vec<Network>,
    debuggers: Vec<Network>,
    /// Sessions in text: of those who are not trusted, and of those who are.
    texts: [usize; 2],
    /// Sockets whose last words are on their way, and until when they are kept.
    parting: VecDeque<(u64, TcpStream)>,
    guests: Guests,
    /// Since the start.
    turns: u64,
    supervisor: Option<Supervisor>,
    reloading: Option<Box<Reloading>>,
    core: Core,
    clock: Clock,
}

impl EventLoop {
    /// A loop that accepts from `listeners` and stops when a byte comes from `signals`.
    ///
    /// # Errors
    /// If the system's poll can't be set up.
    pub fn new(
        core: Core,
        clock: Clock,
        listeners: impl Into<Listeners>,
        signals: StdUnixStream,
    ) -> io::Result<Self> {
        let listeners = listeners.into();
        debug_assert!(listeners.len() <= LISTENERS_MAX, "the command line takes no more");
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Source::Waker.token())?);
        signals.set_nonblocking(true)?;
        let mut signals = UnixStream::from_std(signals);
        poll.registry().register(&mut signals, Source::Stop.token(), Interest::READABLE)?;
        let mut event_loop = Self {
            poll,
            waker,
            listeners,
            signals,
            sockets: Vec::new(),
            fresh: VecDeque::new(),
            busy: VecDeque::new(),
            newcomers: VecDeque::new(),
            writable: Vec::new(),
            accepting: false,
            accept_after_ms: 0,
            buffer: vec![0; READ_BUFFER_BYTES],
            partials: Partials::default(),
            proxies: Vec::new(),
            debuggers: Vec::new(),
            texts: [0; 2],
            parting: VecDeque::new(),
            guests: Guests::default(),
            turns: 0,
            supervisor: None,
            reloading: None,
            core,
            clock,
        };
        event_loop.register_listeners()?;
        Ok(event_loop)
    }

    /// Trusts these proxies to say for whom they speak, and people at these addresses with STAT and HEX.
    #[must_use]
    pub fn trusting(self, proxies: Vec<Network>, debuggers: Vec<Network>) -> Self {
        Self { proxies, debuggers, ..self }
    }

    /// Tells a service manager how it goes.
    #[must_use]
    pub fn supervised(self, supervisor: Option<Supervisor>) -> Self {
        Self { supervisor, ..self }
    }

    /// Reads the configuration again when a byte comes from `signals`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn reloading(
        mut self,
        running: Settings,
        read: Arc<ReadConfiguration>,
        signals: StdUnixStream,
    ) -> io::Result<Self> {
        signals.set_nonblocking(true)?;
        let mut signals = UnixStream::from_std(signals);
        self.poll.registry().register(&mut signals, Source::Reload.token(), Interest::READABLE)?;
        self.reloading = Some(Box::new(Reloading { running, reloader: Reloader::new(read), signals }));
        Ok(self)
    }

    /// Takes the administrator's orders at this socket.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn control_at(&mut self, path: &Path) -> io::Result<()> {
        self.guests.open_control(path, self.poll.registry())
    }

    /// Serves metrics at these addresses.
    ///
    /// # Errors
    /// If it can't listen there.
    pub fn serve_metrics_at(&mut self, addresses: &[SocketAddr]) -> Result<(), ListenError> {
        let opened = self.guests.metrics.open_missing(addresses, true)?;
        self.guests.serve_metrics_at(addresses, opened, self.poll.registry());
        Ok(())
    }

    /// What wakes the loop from another thread.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Runs until it was told to stop and has stopped cleanly.
    ///
    /// # Errors
    /// Only if the poll itself fails.
    pub fn run(&mut self, store: &mut StoreHandle) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.ready();
        }
        while !self.core.is_stopped() {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let now = self.clock.now();
            self.core.begin_turn(now);
            if let Some(supervisor) = &mut self.supervisor {
                supervisor.tick(now.monotonic_ms, || {
                    let (names, connections, _) = self.core.counts();
                    format!("{connections} connections, {names} names")
                });
            }
            for event in &events {
                match Source::of(event.token()) {
                    Source::Connection(index) => self.note(index, event),
                    Source::Listener(_) => self.accepting = true,
                    Source::Waker => {}
                    Source::Stop => self.take_signals(),
                    Source::Reload => self.take_reloads(),
                    Source::Control | Source::Metrics(_) => self.guests.note_waiting(),
                    Source::Guest(index) => self.serve(index, event.is_write_closed(), store),
                }
            }
            self.turns += 1;
            self.guests.expire(now.monotonic_ms);
            self.guests.accept(self.poll.registry(), now.monotonic_ms);
            while self.parting.front().is_some_and(|(end_ms, _)| *end_ms <= now.monotonic_ms) {
                self.parting.pop_front();
            }
            self.reconfigure();
            self.accept(now.monotonic_ms);
            self.read_ready();
            store.observe_clock(now.relay_ms);
            while let Some(completion) = store.try_completion() {
                self.core.handle_completion(completion);
            }
            self.serve_answers();
            self.core.set_disk_low(store.disk_is_low());
            self.core.end_turn();
            while let Some(id) = self.writable.pop() {
                self.write(id);
            }
            while let Some(action) = self.core.poll_action() {
                match action {
                    Action::Write(id) => self.write(id),
                    Action::Close(id, reason) => self.close(id, reason),
                    Action::Store(request) => store.submit(request),
                }
            }
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        if !(self.fresh.is_empty() && self.busy.is_empty() && self.newcomers.is_empty())
            || self.guests.waits()
        {
            return Some(Duration::ZERO);
        }
        let accept_ms = self.accepting.then_some(self.accept_after_ms);
        let part_ms = self.parting.front().map(|(end_ms, _)| *end_ms);
        let tick_ms = self.supervisor.as_ref().map(Supervisor::next_ms);
        let at_ms = [self.core.next_deadline_ms(), accept_ms, part_ms, tick_ms, self.guests.next_ms()];
        let at_ms = at_ms.into_iter().flatten().min()?;
        let now_ms = self.clock.now().monotonic_ms;
        // One more, so that the deadline has passed when the poll returns.
        let wait_ms = if at_ms > now_ms { at_ms - now_ms + 1 } else { 0 };
        Some(Duration::from_millis(wait_ms))
    }

    fn note(&mut self, index: usize, event: &Event) {
        let Some(socket) = self.sockets.get_mut(index).and_then(Option::as_mut) else { return };
        // Each edge says that the socket takes bytes; that is news only where it did not.
        if event.is_writable() && std::mem::take(&mut socket.blocked) {
            self.writable.push(socket.id);
        }
        if event.is_readable() || event.is_read_closed() {
            socket.readable = true;
            socket.ended |= event.is_read_closed();
            if !std::mem::replace(&mut socket.queued, true) {
                let queue =
                    if self.core.is_logged_in(socket.id) { &mut self.fresh } else { &mut self.newcomers };
                queue.push_back(socket.id);
            }
        }
    }

    fn take_signals(&mut self) {
        let mut bytes = [0; 16];
        while matches!(self.signals.read(&mut bytes), Ok(count) if count > 0) {
            log::info!("stopping");
            self.stop();
        }
    }

    /// Nobody else is let in; those who are here are sent away once what they left is stored.
    fn stop(&mut self) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.stopping();
        }
        self.deregister_listeners();
        self.listeners = Listeners::default();
        self.core.handle_stop();
    }

    fn close(&mut self, id: ConnId, reason: Reason) {
        if let Some(mut socket) = self.take_socket(id) {
            self.partials.clear(&mut socket.partial);
            if let Speaks::Text(text) = &mut socket.speaks {
                if let Some(open) = self.texts.get_mut(usize::from(text.is_trusted())) {
                    *open -= 1;
                }
                // What is left to say was tried before; who reads has it.
                let _ = socket.stream.write(text.output());
            }
            if matches!(reason, Reason::Told(_)) {
                self.part(socket.stream);
            }
        }
    }

    /// Says the end to a peer that was told why, and keeps the socket for a while: what it sent and nobody
    /// reads would make the system reset the connection, and the peer lose our last words.
    fn part(&mut self, mut stream: TcpStream) {
        // A socket that fails here is gone, which is all that is wanted.
        let _ = self.poll.registry().deregister(&mut stream);
        let _ = stream.shutdown(Shutdown::Write);
        if self.parting.len() >= PARTING_MAX {
            self.parting.pop_front();
            self.core.note(Reason::PartedEarly);
        }
        self.parting.push_back((self.clock.now().monotonic_ms + PARTING_MS, stream));
    }

    fn take_socket(&mut self, id: ConnId) -> Option<Socket> {
        self.sockets.get_mut(id.index as usize)?.take_if(|socket| socket.id == id)
    }

    fn socket(&mut self, id: ConnId) -> Option<&mut Socket> {
        self.sockets.get_mut(id.index as usize)?.as_mut().filter(|socket| socket.id == id)
    }
}
