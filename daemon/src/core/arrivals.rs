//! A connection was accepted: whether it is let in, and who makes room for it.
//!
//! Owns: what counts before login, in all and for each source address. A flood is answered cheaply, and at its own
//! cost: whoever has the most connections that have not logged in loses the oldest of them, so that others still get in.

use e2e_protocol::limits::SKIPPED_BEFORE_LOGIN_MAX;
use e2e_protocol::wire::ErrorCode;

use super::moment::Moment;
use super::rates::{Act, per_minute};
use super::timers::Timer;
use super::{ConnId, Core, retry_after_seconds};
use crate::address::AddressKey;
use crate::limits::TEXT_LOGIN_MS;
use crate::reason::Reason;

impl Core {
    /// A connection was accepted from this address, or from a trusted proxy that has yet to say from where.
    pub fn handle_opened(&mut self, address: AddressKey) -> ConnId {
        let id = self.connections.insert(address, self.now.monotonic_ms);
        self.counters.totals.connections += 1;
        self.timers.set(self.now.monotonic_ms + self.limits.login_ms, Timer::Login(id));
        let busy = (ErrorCode::TooManyConnections, retry_after_seconds(ErrorCode::TooManyConnections));
        if self.stopping.is_some() {
            self.connections.addresses.open(address, id);
            self.end(id, ErrorCode::Restarting, "the relay is stopping");
        } else if self.connections.len() > self.limits.connections_max {
            self.connections.addresses.open(address, id);
            self.end_after(id, busy.0, busy.1, "the relay has too many connections");
        } else {
            self.count_in(id, address);
        }
        id
    }

    /// A trusted proxy said from where this connection comes.
    pub fn handle_proxied(&mut self, id: ConnId, address: AddressKey) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.is_past_login() {
            return;
        }
        let before = std::mem::replace(&mut connection.address, address);
        self.connections.addresses.leave_login(before, id);
        self.connections.addresses.close(before);
        self.count_in(id, address);
    }

    /// Whether somebody is logged in on it.
    #[must_use]
    pub fn is_logged_in(&self, id: ConnId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.slot().is_some())
    }

    /// The host can't use a connection that it has just opened.
    pub fn handle_unusable(&mut self, id: ConnId) {
        self.close(id, Reason::SetupFailed);
    }

    /// A trusted proxy did not say it as it should.
    pub fn handle_bad_proxy_header(&mut self, id: ConnId) {
        self.close(id, Reason::BadProxyHeader);
    }

    /// This is a debugging session of somebody who is trusted: a person may take their time.
    pub fn handle_text(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(id) {
            (connection.login_from, connection.is_person) = (Moment::at(self.now.monotonic_ms), true);
            self.timers.set(self.now.monotonic_ms + TEXT_LOGIN_MS, Timer::Login(id));
        }
    }

    /// Counts a connection among those of its address, and sees who makes room for it.
    fn count_in(&mut self, id: ConnId, address: AddressKey) {
        let now_ms = self.now.monotonic_ms;
        let (of_address, waiting) = self.connections.addresses.open(address, id);
        let is_known = address != AddressKey::Behind;
        let rate = per_minute(self.limits.connections_per_address_minute);
        let retry_seconds = retry_after_seconds(ErrorCode::TooManyConnections);
        let refused = if is_known && of_address > self.limits.connections_per_address_max {
            Some((retry_seconds, "your address has too many connections"))
        } else if is_known && let Err(seconds) = self.rates.take(Act::Connect(address), rate, now_ms) {
            Some((seconds, "your address connects too often"))
        } else {
            None
        };
        if let Some((seconds, text)) = refused {
            return self.end_after(id, ErrorCode::TooManyConnections, seconds, text);
        }
        let displaced = if is_known && waiting > self.limits.connections_before_login_per_address_max {
            self.connections.addresses.oldest_of(address)
        } else if self.connections.before_login > self.limits.connections_before_login_max {
            self.connections.addresses.oldest_of_the_worst()
        } else {
            None
        };
        if let Some(oldest) = displaced {
            self.end(oldest, ErrorCode::TooManyConnections, "too many connections wait for their login");
        }
    }

    /// A frame of an unknown type that may be skipped came before login: a few are, so that the bytes are bounded.
    pub(super) fn skip_before_login(&mut self, id: ConnId) {
        self.counters.count(Reason::FrameSkipped);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.skipped = connection.skipped.saturating_add(1);
        if connection.skipped > SKIPPED_BEFORE_LOGIN_MAX {
            self.end(id, ErrorCode::UnexpectedFrame, "too many frames before login");
        }
    }
}
