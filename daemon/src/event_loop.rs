//! The event loop: sockets, the clock and the store around the core.
//!
//! Owns: every socket, the read buffer and partial frames. One thread; nothing in it waits but the
//! poll. It must not know what a frame means: bytes become frames in `e2e_protocol::wire`, and frames
//! go to [`Core`]. What comes before frames or in their place: `entry`.
//!
//! A turn: poll; accept; read what is ready, within budgets; take the store's
//! answers; let the core end its turn; do what it says. Sockets are registered once, edge-triggered,
//! for both directions, so a connection that has more to read than its budget is kept in mind.

mod accept;
mod entry;
mod guests;
mod orders;
mod reconfigure;
mod sources;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use e2e_protocol::wire::{Frame, Parsed};
use mio::event::Event;
use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Waker};

use crate::clock::Clock;
use crate::core::{Action, ConnId, Core};
use crate::limits::{
    EVENTS_PER_TURN, FIRST_READ_BYTES_MAX, FIRST_READ_BYTES_MIN, FIRST_READ_BYTES_SHARED, FURTHER_READ_BYTES,
    FURTHER_READ_BYTES_PER_TURN, LISTENERS_MAX, NEWCOMERS_PER_TURN, PARTING_MAX, PARTING_MS,
    READ_BUFFER_BYTES, READ_BYTES_PER_TURN,
};
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
    /// A copy of the store is being made.
    is_copying: Arc<AtomicBool>,
    /// Since the start.
    turns: u64,
    supervisor: Option<Supervisor>,
    /// The settings that it runs with, how they are read again, and who says that they should be.
    reloader: Option<(Box<Settings>, Reloader, UnixStream)>,
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
            is_copying: Arc::default(),
            turns: 0,
            supervisor: None,
            reloader: None,
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
        self.reloader = Some((Box::new(running), Reloader::new(read), signals));
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
        self.guests.serve_metrics_at(addresses, self.poll.registry())
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
                    Source::Control => self.guests.accept_control(self.poll.registry(), now.monotonic_ms),
                    Source::Metrics(index) => {
                        self.guests.accept_metrics(index, self.poll.registry(), now.monotonic_ms);
                    }
                    Source::Guest(index) => self.serve(index, store),
                }
            }
            self.turns += 1;
            self.guests.expire(now.monotonic_ms);
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
        if !(self.fresh.is_empty() && self.busy.is_empty() && self.newcomers.is_empty()) {
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
            if let Some(supervisor) = &mut self.supervisor {
                supervisor.stopping();
            }
            self.stop();
        }
    }

    /// Nobody else is let in; those who are here are sent away once what they left is stored.
    fn stop(&mut self) {
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

    /// Reads what is there: first from everybody who has something new to say, a little, then from some of those who have not logged in, then from those who had more. So
    /// who floods waits for itself, and who says little for nobody's flood.
    fn read_ready(&mut self) {
        let mut left = READ_BYTES_PER_TURN;
        // Few get more at once: that makes fewer turns, and fewer and larger writes. Many get less, so that a turn stays short.
        let share = FIRST_READ_BYTES_SHARED / self.fresh.len().max(1);
        let share = share.clamp(FIRST_READ_BYTES_MIN, FIRST_READ_BYTES_MAX);
        for _ in 0..self.fresh.len() {
            if left == 0 {
                return;
            }
            let Some(id) = self.fresh.pop_front() else { return };
            left = left.saturating_sub(self.read(id, share));
        }
        for _ in 0..self.newcomers.len().min(NEWCOMERS_PER_TURN) {
            let Some(id) = self.newcomers.pop_front() else { return };
            left = left.saturating_sub(self.read(id, FIRST_READ_BYTES_MIN));
        }
        let mut left = left.min(FURTHER_READ_BYTES_PER_TURN);
        for _ in 0..self.busy.len() {
            if left == 0 {
                return;
            }
            let Some(id) = self.busy.pop_front() else { return };
            left = left.saturating_sub(self.read(id, FURTHER_READ_BYTES));
        }
    }

    /// Reads from one connection until there is no more, or this much was read; returns how much.
    fn read(&mut self, id: ConnId, bytes_max: usize) -> usize {
        let mut budget = bytes_max;
        if let Some(socket) = self.socket(id) {
            socket.queued = false;
            self.read_within(id, &mut budget);
            self.drop_begun_frames();
        }
        bytes_max - budget
    }

    fn read_within(&mut self, id: ConnId, budget: &mut usize) {
        while self.core.may_read(id) {
            if *budget == 0 {
                if let Some(socket) = self.socket(id) {
                    socket.queued = true;
                    self.busy.push_back(id);
                }
                return;
            }
            let Some(socket) = self.sockets.get_mut(id.index as usize).and_then(Option::as_mut) else {
                return;
            };
            if !socket.readable || matches!(&socket.speaks, Speaks::Text(text) if text.is_full()) {
                return;
            }
            let kept = socket.partial.bytes().len();
            let end = self.buffer.len().min(kept + *budget);
            let room = self.buffer.get_mut(..end).and_then(|buffer| buffer.split_at_mut_checked(kept));
            let Some((head, room)) = room else { return };
            head.copy_from_slice(socket.partial.bytes());
            match socket.stream.read(room) {
                Ok(0) => {
                    socket.readable = false;
                    self.finish_text(id);
                    return self.core.handle_end_of_input(id);
                }
                Ok(count) => {
                    // A short read has emptied the socket; the next edge says when there is more. But the end
                    // may have been announced together with these bytes.
                    socket.readable = count == room.len() || socket.ended;
                    *budget = budget.saturating_sub(count);
                    self.core.handle_heard(id);
                    self.take(id, kept + count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    socket.readable = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.core.handle_lost(id),
            }
        }
    }

    /// Makes what it is of the first `filled` bytes of the buffer.
    fn take(&mut self, id: ConnId, filled: usize) {
        match self.socket(id).map(|socket| &socket.speaks) {
            Some(Speaks::Frames) => self.take_frames(id, 0, filled),
            Some(_) => self.take_entry(id, filled),
            None => {}
        }
    }

    /// Cuts what is between `start` and `filled` in the buffer into frames; keeps what is left over.
    fn take_frames(&mut self, id: ConnId, start: usize, filled: usize) {
        let mut rest = self.buffer.get(start..filled).unwrap_or_default();
        while !rest.is_empty() {
            match Frame::parse(rest, self.core.body_bytes_max(id)) {
                Ok(Parsed::Frame(frame, count)) => {
                    self.core.handle_frame(id, frame);
                    rest = rest.get(count..).unwrap_or_default();
                }
                Ok(Parsed::Incomplete { .. }) => break,
                Err(error) => {
                    self.core.handle_bad_frame(id, error);
                    rest = &[];
                }
            }
        }
        let is_next = rest.len() < filled;
        if let Some(socket) = self.sockets.get_mut(id.index as usize).and_then(Option::as_mut) {
            self.partials.keep(id, &mut socket.partial, rest, is_next);
        }
    }

    /// Ends connections whose frames were begun longest ago, while all that were begun take too much memory.
    fn drop_begun_frames(&mut self) {
        while let Some(id) = self.partials.surplus(self.core.limits().partial_bytes_in_all_max) {
            self.core.handle_surplus(id);
            let Some(socket) = self.sockets.get_mut(id.index as usize).and_then(Option::as_mut) else {
                return;
            };
            self.partials.clear(&mut socket.partial);
        }
    }

    /// Writes what the core has for a connection until the socket takes no more. With less output it may
    /// be read again.
    fn write(&mut self, id: ConnId) {
        self.write_out(id);
        if self.core.may_read(id)
            && let Some(socket) = self.socket(id)
            && socket.readable
            && !std::mem::replace(&mut socket.queued, true)
        {
            self.busy.push_back(id);
        }
    }

    fn write_out(&mut self, id: ConnId) {
        if self.socket(id).is_some_and(|socket| matches!(socket.speaks, Speaks::Text(_))) {
            return self.write_text(id);
        }
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.core.gather(id, &mut slices);
            let slices = slices.get(..filled).unwrap_or_default();
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let Some(socket) = self.sockets.get_mut(id.index as usize).and_then(Option::as_mut) else {
                return;
            };
            if socket.id != id || offered == 0 {
                return;
            }
            let written = match slices {
                [one] => socket.stream.write(one),
                several => socket.stream.write_vectored(several),
            };
            match written {
                Ok(count) => {
                    socket.blocked = count < offered;
                    self.core.handle_written(id, count);
                    if count < offered {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    socket.blocked = true;
                    return self.core.handle_written(id, 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.core.handle_lost(id),
            }
        }
    }
}
