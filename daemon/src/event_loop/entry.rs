//! What comes before frames, and what comes in their place: a trusted proxy's header, and sessions in text.
//!
//! Owns: telling them apart by their first bytes, and carrying a text session between its translator
//! ([`crate::text`]) and the core. Must not know what frames mean.

use std::io::{ErrorKind, IoSlice, Write};

use e2e_protocol::wire::{Frame, Parsed};

use super::{EventLoop, SLICES, Speaks};
use crate::address::AddressKey;
use crate::core::{ConnId, ceiling};
use crate::limits::{TEXT_PIECE_BYTES, TEXT_SESSIONS_MAX};
use crate::process::resident_bytes;
use crate::proxy;
use crate::reason::Reason;
use crate::text::{Input, Text};

impl EventLoop {
    /// Takes the first `filled` bytes of the buffer, the first of a connection, or a text session's.
    pub(super) fn take_entry(&mut self, id: ConnId, filled: usize) {
        let mut start = 0;
        let Some(socket) = self.sockets.get_mut(id.index as usize).and_then(Option::as_mut) else { return };
        let bytes = self.buffer.get(..filled).unwrap_or_default();
        if matches!(socket.speaks, Speaks::Proxy) {
            match proxy::parse(bytes) {
                Ok(proxy::Parsed::Incomplete) => {
                    return self.partials.keep(id, &mut socket.partial, bytes, false);
                }
                Ok(proxy::Parsed::Header { source, bytes }) => {
                    // Where the proxy speaks for itself, the peer is the proxy. A socket without one is closed already.
                    let peer = source.or_else(|| socket.stream.peer_addr().ok());
                    let Some(peer) = peer else { return self.core.handle_lost(id) };
                    log::debug!("connection {} is from {peer}", id.index);
                    socket.speaks = Speaks::Nothing(Some(Box::new(peer)));
                    self.core.handle_proxied(id, AddressKey::from(peer.ip()));
                    start = bytes;
                }
                Err(proxy::Malformed) => {
                    self.partials.clear(&mut socket.partial);
                    return self.core.handle_bad_proxy_header(id);
                }
            }
        }
        if let (Speaks::Nothing(source), Some(first)) = (&socket.speaks, bytes.get(start)) {
            let peer = source.as_deref().copied().or_else(|| socket.stream.peer_addr().ok());
            let is_trusted = peer.is_some_and(|peer| {
                let address = peer.ip().to_canonical();
                address.is_loopback() || self.debuggers.iter().any(|net| net.contains(address))
            });
            let has_room =
                self.texts.get(usize::from(is_trusted)).is_some_and(|open| *open < TEXT_SESSIONS_MAX);
            let is_text = (b' '..=b'~').contains(first) && has_room;
            socket.speaks = Speaks::Frames;
            if is_text {
                socket.speaks = Speaks::Text(Box::new(Text::new(is_trusted)));
                if let Some(open) = self.texts.get_mut(usize::from(is_trusted)) {
                    *open += 1;
                }
                if is_trusted {
                    self.core.handle_text(id);
                }
            }
        }
        match socket.speaks {
            Speaks::Text(_) => {
                self.partials.clear(&mut socket.partial);
                let bytes = bytes.get(start..).unwrap_or_default().to_vec();
                self.take_text(id, &bytes);
            }
            _ => self.take_frames(id, start, filled),
        }
    }

    fn text(&mut self, id: ConnId) -> Option<&mut Text> {
        match &mut self.socket(id)?.speaks {
            Speaks::Text(text) => Some(text),
            _ => None,
        }
    }

    fn take_text(&mut self, id: ConnId, mut bytes: &[u8]) {
        while let Some(input) = self.text(id).and_then(|text| text.next(&mut bytes)) {
            self.answer_line(id, input);
        }
        self.write_text(id);
    }

    /// A text session's peer sends no more.
    pub(super) fn finish_text(&mut self, id: ConnId) {
        if let Some(input) = self.text(id).and_then(Text::finish) {
            self.answer_line(id, input);
        }
        self.write_text(id);
    }

    fn answer_line(&mut self, id: ConnId, input: Input) {
        let mut line = None;
        match input {
            Input::Ping => line = Some("PONG".to_owned()),
            Input::Stat => line = Some(self.stat()),
            Input::Hex => line = Some("# one frame a line".to_owned()),
            Input::Bad(what) => {
                self.core.note(Reason::TextLineRefused);
                line = Some(format!("ERROR {what}"));
            }
            Input::Help => {
                if let Some(text) = self.text(id) {
                    text.say_help();
                }
            }
            Input::Frame(bytes) => match Frame::parse(&bytes, self.core.body_bytes_max(id)) {
                Ok(Parsed::Frame(frame, count)) if count == bytes.len() => self.core.handle_frame(id, frame),
                Ok(Parsed::Frame(_, count)) => {
                    self.core.note(Reason::TextLineRefused);
                    line = Some(format!("ERROR the frame ends after {count} of {} bytes", bytes.len()));
                }
                Ok(Parsed::Incomplete { .. }) => {
                    self.core.note(Reason::TextLineRefused);
                    line = Some(format!("ERROR the frame has more than {} bytes", bytes.len()));
                }
                Err(error) => self.core.handle_bad_frame(id, error),
            },
        }
        if let (Some(line), Some(text)) = (line, self.text(id)) {
            text.say(&line);
        }
    }

    /// What the relay is busy with, a number a line.
    fn stat(&self) -> String {
        let (begun, begun_bytes) = self.partials.counts();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mut lines = self.core.stat();
        lines.extend([
            ("begun_frames", count(begun)),
            ("begun_frame_bytes", count(begun_bytes)),
            ("text_sessions", count(self.texts.iter().sum())),
            ("resident_bytes", resident_bytes()),
            ("memory_ceiling_bytes", ceiling::bytes_max(self.core.limits())),
        ]);
        let lines: Vec<_> = lines.into_iter().map(|(name, value)| format!("{name:<24} {value}")).collect();
        lines.join("\n")
    }

    /// Writes what a text session has to say until the socket takes no more.
    pub(super) fn write_text(&mut self, id: ConnId) {
        loop {
            let Some(socket) = self.sockets.get_mut(id.index as usize).and_then(Option::as_mut) else {
                return;
            };
            let Speaks::Text(text) = &mut socket.speaks else { return };
            if socket.id != id {
                return;
            }
            if text.output().is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let filled = self.core.gather(id, &mut slices);
                let slices = slices.get(..filled).unwrap_or_default();
                let Some(first) = slices.iter().find(|slice| !slice.is_empty()) else { return };
                let piece = first.get(..first.len().min(TEXT_PIECE_BYTES)).unwrap_or_default();
                text.show(piece);
                let count = piece.len();
                self.core.handle_written(id, count);
                continue;
            }
            match socket.stream.write(text.output()) {
                Ok(count) => text.written(count),
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
