//! The TCP connection to a relay, blocking, with frames in and bytes out.
//!
//! Owns: addresses, timeouts, and putting frames together from what the socket gives. Must not know
//! what frames mean: that is the engine's.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use e2e_protocol::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, PORT};
use e2e_protocol::wire::{Frame, FrameError, Parsed};

/// How long one address may take to answer.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the relay may not read from us before the connection is given up.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// Room for one frame and some of the next.
const BUFFER_BYTES: usize = 2 * FRAME_BYTES_MAX;

/// Where a relay is: a host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

/// This is not `HOST`, `HOST:PORT`, or an IPv6 address, in brackets if a port follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadServer;

impl FromStr for Server {
    type Err = BadServer;

    /// Reads `HOST:PORT`, where a host that is an IPv6 address stands in brackets. Without a port it is 5001.
    fn from_str(text: &str) -> Result<Self, BadServer> {
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(BadServer)?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(BadServer)?) })
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BadServer)?,
        };
        if host.is_empty() { Err(BadServer) } else { Ok(Self { host: host.to_owned(), port }) }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    filled: usize,
}

/// What waiting for the relay gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes, perhaps with frames in them.
    Bytes,
    /// Nothing in this time, or a signal came.
    Nothing,
    /// The relay closed the connection.
    Closed,
}

impl Connection {
    /// Connects to the first of the relay's addresses that answers.
    ///
    /// # Errors
    /// That of the last address that was tried.
    pub fn open(server: &Server) -> io::Result<Self> {
        let mut failure = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for address in (server.host.as_str(), server.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(WRITE_TIME_MAX))?;
                    let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
                    return Ok(Self { stream, buffer, filled: 0 });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits up to `time` for bytes; less if a signal comes.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn receive(&mut self, time: Duration) -> io::Result<Received> {
        // A timeout of zero would mean none.
        self.stream.set_read_timeout(Some(time.max(Duration::from_millis(1))))?;
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        debug_assert!(!room.is_empty(), "all whole frames were taken out");
        match self.stream.read(room) {
            Ok(0) => Ok(Received::Closed),
            Ok(count) => {
                self.filled += count;
                Ok(Received::Bytes)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(Received::Nothing),
                _ => Err(error),
            },
        }
    }

    /// Hands over each whole frame that has come, in order.
    ///
    /// # Errors
    /// What `take` gives; [`FrameError`] if the bytes are not frames.
    pub fn take_frames<E: From<FrameError>>(
        &mut self,
        mut take: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut taken = 0;
        loop {
            let rest = self.buffer.get(taken..self.filled).unwrap_or_default();
            match Frame::parse(rest, BODY_BYTES_MAX)? {
                Parsed::Incomplete { .. } => break,
                Parsed::Frame(frame, frame_bytes) => {
                    take(&frame)?;
                    taken += frame_bytes;
                }
            }
        }
        self.buffer.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        Ok(())
    }

    /// Ends the sending direction: the relay reads what was sent, says what it still has to say, and closes.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn end_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}
