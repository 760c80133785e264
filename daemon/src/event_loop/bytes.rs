//! Bytes from the sockets to the core, and back.
//!
//! Owns: how much is read of whom in a turn, cutting it into frames, and writing until a socket takes no more. Must not know what a
//! frame means.

use std::io::{ErrorKind, IoSlice, Read, Write};

use e2e_protocol::wire::{Frame, Parsed};

use super::{EventLoop, SLICES, Speaks};
use crate::core::ConnId;
use crate::limits::{
    FIRST_READ_BYTES_MAX, FIRST_READ_BYTES_MIN, FIRST_READ_BYTES_SHARED, FURTHER_READ_BYTES,
    FURTHER_READ_BYTES_PER_TURN, NEWCOMERS_PER_TURN, READ_BYTES_PER_TURN,
};

impl EventLoop {
    /// Reads what is there: first from everybody who has something new to say, a little, then from some of those who have not logged in, then from those who had more. So
    /// who floods waits for itself, and who says little for nobody's flood.
    pub(super) fn read_ready(&mut self) {
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
    pub(super) fn take_frames(&mut self, id: ConnId, start: usize, filled: usize) {
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
    pub(super) fn write(&mut self, id: ConnId) {
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
