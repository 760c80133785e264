//! Connections from the listening sockets.
//!
//! Owns: accepting, within a turn's budget, and setting a connection up. Must not know what it says.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::Interest;
use mio::net::TcpStream;

use super::sources::Source;
use super::{EventLoop, Socket, Speaks};
use crate::address::AddressKey;
use crate::limits::{ACCEPT_PAUSE_MS, ACCEPTS_PER_TURN};
use crate::partials::Partial;
use crate::reason::Reason;

impl EventLoop {
    /// Has the system say when there is somebody to accept.
    pub(super) fn register_listeners(&mut self) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            self.poll.registry().register(listener, Source::Listener(index).token(), Interest::READABLE)?;
        }
        // Who came before gives no further edge.
        self.accepting = true;
        Ok(())
    }

    /// The opposite.
    pub(super) fn deregister_listeners(&mut self) {
        for listener in self.listeners.iter_mut() {
            if let Err(error) = self.poll.registry().deregister(listener) {
                log::warn!("a listening socket cannot be left alone: {error}");
            }
        }
        self.accepting = false;
    }

    pub(super) fn accept(&mut self, now_ms: u64) {
        if !self.accepting || now_ms < self.accept_after_ms {
            return;
        }
        // One of each listener after the other, so that a flood at one leaves the others their share.
        for _ in 0..ACCEPTS_PER_TURN {
            let mut is_done = true;
            for index in 0..self.listeners.len() {
                let accepted = self.listeners.get(index).map(mio::net::TcpListener::accept);
                match accepted {
                    Some(Ok((stream, peer))) => {
                        is_done = false;
                        if let Err(error) = self.open(stream, peer) {
                            log::debug!("cannot set up a connection from {peer}: {error}");
                        }
                    }
                    // The peer was gone before it was accepted.
                    Some(Err(error)) if error.kind() == ErrorKind::ConnectionAborted => {
                        is_done = false;
                        self.core.note(Reason::AcceptAborted);
                    }
                    Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                        self.core.note(Reason::AcceptFailed);
                        log::warn!("cannot accept a connection: {error}");
                        self.accept_after_ms = now_ms + ACCEPT_PAUSE_MS;
                        return;
                    }
                    _ => {}
                }
            }
            if is_done {
                self.accepting = false;
                return;
            }
        }
    }

    fn open(&mut self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_nodelay(true).inspect_err(|_| self.core.note(Reason::SetupFailed))?;
        let is_proxy = self.proxies.iter().any(|proxies| proxies.contains(peer.ip()));
        let address = if is_proxy { AddressKey::Behind } else { AddressKey::from(peer.ip()) };
        let id = self.core.handle_opened(address);
        let index = id.index as usize;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) =
            self.poll.registry().register(&mut stream, Source::Connection(index).token(), interest)
        {
            self.core.handle_unusable(id);
            return Err(error);
        }
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        if let Some(place) = self.sockets.get_mut(index) {
            log::debug!("connection {index} from {peer}");
            *place = Some(Socket {
                id,
                stream,
                partial: Partial::default(),
                speaks: if is_proxy { Speaks::Proxy } else { Speaks::Nothing(None) },
                readable: true,
                ended: false,
                blocked: false,
                queued: true,
            });
            self.newcomers.push_back(id);
        }
        Ok(())
    }
}
