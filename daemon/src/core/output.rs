//! What is said to a connection, and its end.
//!
//! Owns: putting frames into a connection's output, announcing it to the host, and taking a connection
//! out of everything that it was part of. A message's way to a connection: `deliver`.

use e2e_protocol::limits::{ERROR_TEXT_BYTES_MAX, HEADER_BYTES};
use e2e_protocol::wire::session::ErrorFrame;
use e2e_protocol::wire::{ErrorCode, NoRoom};

use super::connection::Phase;
use super::timers::Timer;
use super::{Action, ConnId, Core, retry_after_seconds};
use crate::reason::Reason;

impl Core {
    /// Says why, and closes the connection once that is written.
    pub(super) fn end(&mut self, id: ConnId, code: ErrorCode, text: &str) {
        self.end_after(id, code, retry_after_seconds(code), text);
    }

    /// The same, where it is known when it may be tried again.
    pub(super) fn end_after(&mut self, id: ConnId, code: ErrorCode, retry_seconds: u32, text: &str) {
        let Some(connection) = self.connections.get(id) else { return };
        if matches!(connection.phase, Phase::Ending(_)) {
            return;
        }
        log::debug!("connection {} ends: {code}: {text}", id.index);
        self.push_error_after(id, code, 0, retry_seconds, text);
        self.leave(id, Phase::Ending(code.into()));
        self.timers.set(self.now.monotonic_ms + self.limits.linger_ms, Timer::Linger(id));
    }

    /// The connection is over now, whatever was left to say.
    pub(super) fn close(&mut self, id: ConnId, reason: Reason) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if std::mem::replace(&mut connection.close_queued, true) {
            return;
        }
        // What ended it was counted when it was told; if it is cut before it has that, this is another reason.
        if !matches!(connection.phase, Phase::Ending(told) if told == reason) {
            self.counters.count(reason);
        }
        log::debug!("connection {} from {} is over: {reason}", id.index, connection.address);
        self.leave(id, Phase::Ending(reason));
        self.actions.push_back(Action::Close(id, reason));
    }

    /// Takes a connection out of everything that it was part of.
    fn leave(&mut self, id: ConnId, phase: Phase) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let before = std::mem::replace(&mut connection.phase, phase);
        self.watches.forget(id);
        match before {
            Phase::Ready { slot, credit } => {
                if credit.is_some() {
                    self.detach_receiver(slot, id);
                }
                if let Some(user) = self.users.at(slot) {
                    user.connections = user.connections.saturating_sub(1);
                }
            }
            Phase::Ending(_) => {}
            Phase::Hello | Phase::Challenged(_) | Phase::Proving(_) | Phase::Registering { .. } => {
                self.connections.leave_login(id);
            }
        }
    }

    /// Appends a frame to a connection's output.
    pub(super) fn push(
        &mut self,
        id: ConnId,
        frame_bytes: usize,
        emit: impl FnOnce(&mut [u8]) -> Result<usize, NoRoom>,
    ) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.output.push(&mut self.outputs, frame_bytes, emit);
            self.flush_later(id);
        }
    }

    /// Appends an ERROR: `request` zero means that it closes.
    pub(super) fn push_error(&mut self, id: ConnId, code: ErrorCode, request: u32, text: &str) {
        self.push_error_after(id, code, request, retry_after_seconds(code), text);
    }

    /// The same, where it is known when it may be tried again.
    pub(super) fn push_error_after(
        &mut self,
        id: ConnId,
        code: ErrorCode,
        request: u32,
        retry_after_seconds: u32,
        text: &str,
    ) {
        self.counters.count(code.into());
        let frame =
            ErrorFrame { code: code.into(), closes: request == 0, request, retry_after_seconds, text };
        self.push(id, HEADER_BYTES + 13 + ERROR_TEXT_BYTES_MAX, |out| frame.emit(out));
    }

    /// Notes that a connection has output.
    pub(super) fn flush_later(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.announced
            && !std::mem::replace(&mut connection.flush_queued, true)
        {
            self.to_flush.push(id);
        }
    }

    /// Announces a connection's output, or its end where there is none left and nothing is owed.
    pub(super) fn flush(&mut self, id: ConnId) {
        let has_output = self.has_output(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.flush_queued = false;
        if has_output {
            if !std::mem::replace(&mut connection.announced, true) {
                self.actions.push_back(Action::Write(id));
            }
        } else if let Phase::Ending(reason) = connection.phase {
            self.close(id, reason);
        } else if connection.end_of_input && !self.is_owed(id) {
            self.close(id, Reason::PeerClosed);
        }
    }

    /// Whether the relay still owes this peer an answer to something that it sent.
    fn is_owed(&mut self, id: ConnId) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        let slot = match connection.phase {
            Phase::Proving(_) | Phase::Registering { .. } => return true,
            Phase::Ready { slot, .. } => slot,
            Phase::Hello | Phase::Challenged(_) | Phase::Ending(_) => return false,
        };
        let active = self.users.at(slot).and_then(|user| user.active.as_ref());
        connection.requests_pending > 0 || active.is_some_and(|active| active.lanes.owe(id))
    }
}
