//! Who comes for a moment and for no messages: the administrator at the control socket, and who fetches the metrics.
//!
//! Owns: their sockets, what they have said so far, what they are told, and how long they may take. Few at a time, so that they cost the
//! relay little whatever they do. Must not know what an order means (`orders`).

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use mio::net::{TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry};
use rustix::fs::Mode;

use super::orders::METRICS_PATH;
use super::sources::Source;
use crate::limits::{ACCEPTS_PER_TURN, GUEST_INPUT_BYTES_MAX, GUEST_MS, GUESTS_MAX};
use crate::listen::{Listeners, Opened};

/// Who is there, and where others come in.
#[derive(Debug, Default)]
pub(super) struct Guests {
    control: Option<Control>,
    pub(super) metrics: Listeners,
    /// Somebody may wait to be let in.
    waits: bool,
    guests: [Option<Guest>; GUESTS_MAX],
}

/// The control socket, which goes with the relay.
#[derive(Debug)]
struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // Who finds it left over finds that nobody answers.
        let _ = fs::remove_file(&self.path);
    }
}

/// One of them.
#[derive(Debug)]
struct Guest {
    stream: Stream,
    state: State,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes that it has said, those among them that were of no use any more.
    said: usize,
    /// The peer sends no more.
    ended: bool,
    /// It is sent away then if nothing has happened.
    until_ms: u64,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// How far a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not said all.
    Speaks,
    /// It waits for the answer with this number.
    Awaits(u64),
    /// It waits until the configuration was read.
    AwaitsReload,
    /// It is told of the names from this slot on.
    Lists(u32),
    /// It goes when it has all of the answer.
    Leaves,
}

/// What a guest has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A line at the control socket.
    Line(String),
    /// So much of a request for the metrics.
    Http(Vec<u8>),
}

impl Guests {
    /// Makes the control socket, for its owner only, in place of one that was left over.
    pub(super) fn open_control(&mut self, path: &Path, registry: &Registry) -> io::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        // A path that was mistaken for another must not cost what is there.
        for place in [path, &new] {
            if fs::symlink_metadata(place).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
                let text = format!("{} is there, and no socket", place.display());
                return Err(io::Error::new(ErrorKind::AlreadyExists, text));
            }
        }
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Nobody else may reach it, not for an instant.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(&new);
        rustix::process::umask(before);
        let mut listener = bound?;
        fs::rename(&new, path)?;
        registry.register(&mut listener, Source::Control.token(), Interest::READABLE)?;
        self.control = Some(Control { listener, path: path.to_owned() });
        Ok(())
    }

    /// Serves metrics at these addresses, of which what was not open was `opened`, in place of others.
    pub(super) fn serve_metrics_at(
        &mut self,
        addresses: &[std::net::SocketAddr],
        opened: Opened,
        registry: &Registry,
    ) {
        for listener in self.metrics.iter_mut() {
            let _ = registry.deregister(listener);
        }
        self.metrics.change(addresses, opened);
        for (index, listener) in self.metrics.iter_mut().enumerate() {
            if let Err(error) =
                registry.register(listener, Source::Metrics(index).token(), Interest::READABLE)
            {
                log::error!("metrics cannot be served: {error}");
            }
        }
        for address in self.metrics.addresses().unwrap_or_default() {
            log::info!("metrics at http://{address}{METRICS_PATH}");
        }
    }

    /// Somebody waits at the control socket, or for metrics.
    pub(super) fn note_waiting(&mut self) {
        self.waits = true;
    }

    /// Whether somebody may wait to be let in.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Lets in who waits, as many at each door as one turn may.
    pub(super) fn accept(&mut self, registry: &Registry, now_ms: u64) {
        if !std::mem::take(&mut self.waits) {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let mut is_done = true;
            if let Some(Ok((stream, _))) = self.control.as_ref().map(|control| control.listener.accept()) {
                is_done = false;
                self.let_in(Stream::Unix(stream), registry, now_ms);
            }
            for index in 0..self.metrics.len() {
                if let Some(Ok((stream, _))) = self.metrics.get(index).map(mio::net::TcpListener::accept) {
                    is_done = false;
                    self.let_in(Stream::Tcp(stream), registry, now_ms);
                }
            }
            if is_done {
                return;
            }
        }
        self.waits = true;
    }

    /// One more; who came first goes if there are too many. The administrator is not displaced by who fetches metrics.
    fn let_in(&mut self, mut stream: Stream, registry: &Registry, now_ms: u64) {
        let index = self.guests.iter().position(Option::is_none).or_else(|| {
            let displaceable = self.guests.iter().enumerate().filter_map(|(index, guest)| {
                let guest = guest.as_ref().filter(|guest| matches!(guest.stream, Stream::Tcp(_)))?;
                Some((guest.until_ms, index))
            });
            displaceable.min().map(|(_, index)| index)
        });
        let Some(index) = index else { return };
        let (token, interest) = (Source::Guest(index).token(), Interest::READABLE | Interest::WRITABLE);
        let registered = match &mut stream {
            Stream::Unix(stream) => registry.register(stream, token, interest),
            Stream::Tcp(stream) => registry.register(stream, token, interest),
        };
        if let (Ok(()), Some(place)) = (registered, self.guests.get_mut(index)) {
            let (input, output) = (Vec::new(), Vec::new());
            let until_ms = now_ms + GUEST_MS;
            let (state, said) = (State::Speaks, 0);
            *place = Some(Guest { stream, state, input, output, said, ended: false, until_ms });
        }
    }

    /// Reads what a guest says; what it has said if that is all of it.
    pub(super) fn hear(&mut self, index: usize, now_ms: u64) -> Option<Said> {
        let place = self.guests.get_mut(index)?;
        let guest = place.as_mut()?;
        if !guest.read(now_ms) {
            *place = None;
            return None;
        }
        if guest.state != State::Speaks {
            return None;
        }
        match &guest.stream {
            Stream::Tcp(_) => Some(Said::Http(guest.input.clone())),
            Stream::Unix(_) => {
                let end = guest.input.iter().position(|byte| *byte == b'\n');
                let end = end.or_else(|| guest.ended.then_some(guest.input.len()))?;
                let line = guest.input.get(..end).unwrap_or_default();
                Some(Said::Line(String::from_utf8_lossy(line).into_owned()))
            }
        }
    }

    /// Tells a guest something, and how it goes on.
    pub(super) fn tell(&mut self, index: usize, text: &str, state: State, now_ms: u64) {
        if let Some(guest) = self.guests.get_mut(index).and_then(Option::as_mut) {
            guest.output.extend_from_slice(text.as_bytes());
            guest.state = state;
            guest.until_ms = now_ms + GUEST_MS;
        }
    }

    /// Writes what a guest is told, as far as its socket takes it. Where there is nothing left, and it is told of names: the slot to
    /// go on with.
    pub(super) fn write(&mut self, index: usize, now_ms: u64) -> Option<u32> {
        let place = self.guests.get_mut(index)?;
        let guest = place.as_mut()?;
        match (guest.write(now_ms), guest.state) {
            (Ok(true), State::Lists(slot)) => Some(slot),
            (Ok(true), State::Leaves) | (Err(_), _) => {
                *place = None;
                None
            }
            _ => None,
        }
    }

    /// A guest has hung up: nobody is there for the answer that it waits for, which may take its time.
    pub(super) fn hang_up(&mut self, index: usize) {
        if let Some(place) = self.guests.get_mut(index) {
            place.take_if(|guest| matches!(guest.state, State::Awaits(_) | State::AwaitsReload));
        }
    }

    /// Who waits for something, and for what.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (usize, State)> + '_ {
        let guests = self.guests.iter().enumerate();
        guests.filter_map(|(index, guest)| Some((index, guest.as_ref()?.state)))
    }

    /// Gives up a guest's socket, for a thread that may wait.
    pub(super) fn give_up(&mut self, index: usize, registry: &Registry) -> Option<StdUnixStream> {
        let guest = self.guests.get_mut(index)?.take()?;
        let Stream::Unix(mut stream) = guest.stream else { return None };
        registry.deregister(&mut stream).ok()?;
        let stream = StdUnixStream::from(stream);
        stream.set_nonblocking(false).ok()?;
        Some(stream)
    }

    /// Sends away who took too long.
    pub(super) fn expire(&mut self, now_ms: u64) {
        for place in &mut self.guests {
            if place.as_ref().and_then(Guest::deadline_ms).is_some_and(|until_ms| until_ms <= now_ms) {
                *place = None;
            }
        }
    }

    /// When [`Guests::expire`] is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.guests.iter().flatten().filter_map(Guest::deadline_ms).min()
    }
}

impl Guest {
    /// Who waits for the relay has time.
    fn deadline_ms(&self) -> Option<u64> {
        (!matches!(self.state, State::Awaits(_) | State::AwaitsReload)).then_some(self.until_ms)
    }

    /// Takes what has come; whether the guest is there still.
    fn read(&mut self, now_ms: u64) -> bool {
        let mut bytes = [0; 512];
        loop {
            let read = match &mut self.stream {
                Stream::Unix(stream) => stream.read(&mut bytes),
                Stream::Tcp(stream) => stream.read(&mut bytes),
            };
            match read {
                Ok(0) => {
                    // One that has said something may have shut down this direction only.
                    self.ended = true;
                    return !(self.state == State::Speaks && self.input.is_empty());
                }
                Ok(count) => {
                    self.said += count;
                    if self.said > GUEST_INPUT_BYTES_MAX {
                        return false;
                    }
                    if self.state == State::Speaks {
                        self.input.extend_from_slice(bytes.get(..count).unwrap_or_default());
                        self.until_ms = now_ms + GUEST_MS;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Writes; whether that was all.
    fn write(&mut self, now_ms: u64) -> io::Result<bool> {
        while !self.output.is_empty() {
            let written = match &mut self.stream {
                Stream::Unix(stream) => stream.write(&self.output),
                Stream::Tcp(stream) => stream.write(&self.output),
            };
            match written {
                Ok(count) => {
                    self.output.drain(..count);
                    self.until_ms = now_ms + GUEST_MS;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let (State::Leaves, Stream::Tcp(stream)) = (self.state, &self.stream) {
            stream.shutdown(Shutdown::Write)?;
        }
        Ok(true)
    }
}
