//! A connection was accepted: whether it is let in, and who makes room for it.
//!
//! Owns: what counts before login, in all and for each source address. A flood is answered cheaply, and at its own
//! cost: whoever has the most connections that have not logged in loses the oldest of them, so that others still get in.

use e2e_protocol::limits::SKIPPED_BEFORE_LOGIN_MAX;
use e2e_protocol::wire::ErrorCode;

use super::connection::Connection;
use super::rates::{Act, per_minute};
use super::timers::Timer;
use super::{ConnId, Core, retry_after_seconds};
use crate::address::AddressKey;

impl Core {
    /// A connection was accepted from this address.
    pub fn handle_opened(&mut self, address: AddressKey) -> ConnId {
        let now_ms = self.now.monotonic_ms;
        let id = self.connections.insert(Connection::new(address, now_ms));
        let (of_address, waiting) = self.connections.addresses.open(address, id);
        let rate = per_minute(self.limits.connections_per_address_minute);
        let retry_seconds = retry_after_seconds(ErrorCode::TooManyConnections);
        let refused = if self.stopping.is_some() {
            Some((ErrorCode::Restarting, retry_after_seconds(ErrorCode::Restarting), "the relay is stopping"))
        } else if self.connections.len() > self.limits.connections_max {
            Some((ErrorCode::TooManyConnections, retry_seconds, "the relay has too many connections"))
        } else if of_address > self.limits.connections_per_address_max {
            Some((ErrorCode::TooManyConnections, retry_seconds, "your address has too many connections"))
        } else if let Err(seconds) = self.rates.take(Act::Connect(address), rate, now_ms) {
            Some((ErrorCode::TooManyConnections, seconds, "your address connects too often"))
        } else {
            None
        };
        if let Some((code, seconds, text)) = refused {
            self.end_after(id, code, seconds, text);
            return id;
        }
        self.timers.set(now_ms + self.limits.login_ms, Timer::Login(id));
        let displaced = if waiting > self.limits.connections_before_login_per_address_max {
            self.connections.addresses.oldest_of(address)
        } else if self.connections.before_login > self.limits.connections_before_login_max {
            self.connections.addresses.oldest_of_the_worst()
        } else {
            None
        };
        if let Some(oldest) = displaced {
            self.end(oldest, ErrorCode::TooManyConnections, "too many connections wait for their login");
        }
        id
    }

    /// A frame of an unknown type that may be skipped came before login: a few are, so that the bytes are bounded.
    pub(super) fn skip_before_login(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.skipped = connection.skipped.saturating_add(1);
        if connection.skipped > SKIPPED_BEFORE_LOGIN_MAX {
            self.end(id, ErrorCode::UnexpectedFrame, "too many frames before login");
        }
    }
}
