//! What happens at a deadline (the queue of them: `timers`).
//!
//! Owns: keepalive, slow readers, and the other things that time alone brings about. Each looks first
//! whether there is still a reason for it.

use e2e_protocol::limits::HEADER_BYTES;
use e2e_protocol::wire::session::emit_ping;
use e2e_protocol::wire::{ErrorCode, FrameType};

use super::connection::{Connection, Phase};
use super::counters::Waiting;
use super::timers::Timer;
use super::{ConnId, Core, Stopping};
use crate::limits::TEXT_LOGIN_MS;
use crate::reason::Reason;

impl Core {
    pub(super) fn handle_timer(&mut self, timer: Timer) {
        let now_ms = self.now.monotonic_ms;
        match timer {
            Timer::Login(id) => {
                let waits = |connection: &Connection| {
                    matches!(connection.phase, Phase::Hello | Phase::Challenged(_))
                        && connection.login_from.age_ms(now_ms) >= self.login_ms(connection)
                };
                if self.connections.get(id).is_some_and(waits) {
                    return self.end(id, ErrorCode::LoginTimeout, "login took too long");
                }
                // From login on, the same deadline goes on as the keepalive's.
                if let Some(connection) = self.connections.get_mut(id)
                    && matches!(connection.phase, Phase::Ready { .. })
                    && !std::mem::replace(&mut connection.keepalive_set, true)
                {
                    self.keep_alive(id);
                }
            }
            Timer::Keepalive(id) => self.keep_alive(id),
            Timer::SlowReader(id) => self.check_slow_reader(id),
            Timer::Linger(id) => {
                let ends = |connection: &Connection| {
                    connection.end_of_input || matches!(connection.phase, Phase::Ending(_))
                };
                if self.connections.get(id).is_some_and(ends) {
                    self.close(id, Reason::LingerExpired);
                }
            }
            Timer::AckWait(slot) => self.check_ack_wait(slot),
            Timer::Presence(slot) => self.tell_presence(slot),
            Timer::Expiry => self.search_expired(),
            Timer::StoreRetry => {
                if self.store_failing_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
                    self.store_failing_until_ms = None;
                }
                for slot in std::mem::take(&mut self.to_reread) {
                    self.read_again(slot);
                }
            }
            Timer::Stop => {
                self.stopping = Some(Stopping::Over);
                let Waiting { messages, stored_messages, .. } = self.counters.waiting;
                let cut = messages.saturating_sub(stored_messages);
                if cut > 0 {
                    self.counters.count_all(Reason::StopCut, cut);
                    log::error!("{}: {cut} messages were not given to the store", Reason::StopCut);
                }
                for id in self.connections.ids() {
                    self.close(id, Reason::Told(ErrorCode::Restarting));
                }
            }
        }
    }

    /// Somebody has logged in: sees that it is noticed if they are not heard any more. The deadline of the login does, if
    /// it is still to come, and soon enough: most connections have one deadline.
    pub(super) fn keep_alive_from_login(&mut self, id: ConnId) {
        let (now_ms, keepalive_ms) = (self.now.monotonic_ms, self.limits.keepalive_ms);
        let Some(connection) = self.connections.get(id) else { return };
        let login_until_ms = now_ms - connection.login_from.age_ms(now_ms) + self.login_ms(connection);
        if !(now_ms + 1..=now_ms + keepalive_ms).contains(&login_until_ms)
            && let Some(connection) = self.connections.get_mut(id)
        {
            connection.keepalive_set = true;
            self.timers.set(now_ms + keepalive_ms, Timer::Keepalive(id));
        }
    }

    /// How long its login may take.
    fn login_ms(&self, connection: &Connection) -> u64 {
        if connection.is_person { TEXT_LOGIN_MS } else { self.limits.login_ms }
    }

    fn keep_alive(&mut self, id: ConnId) {
        let (now_ms, keepalive_ms) = (self.now.monotonic_ms, self.limits.keepalive_ms);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::Ready { .. }) {
            return;
        }
        let silent_ms = connection.heard.age_ms(now_ms);
        let next_ms = now_ms - silent_ms + if connection.pinged { 2 } else { 1 } * keepalive_ms;
        if silent_ms >= 2 * keepalive_ms {
            self.end(id, ErrorCode::IdleTimeout, "nothing was heard for too long");
        } else if silent_ms >= keepalive_ms && !connection.pinged {
            connection.pinged = true;
            let next_ms = now_ms - silent_ms + 2 * keepalive_ms;
            self.timers.set(next_ms, Timer::Keepalive(id));
            self.push(id, HEADER_BYTES + 8, |out| emit_ping(out, FrameType::Ping, now_ms.to_be_bytes()));
        } else {
            self.timers.set(next_ms, Timer::Keepalive(id));
        }
    }

    fn check_slow_reader(&mut self, id: ConnId) {
        let (now_ms, slow_ms) = (self.now.monotonic_ms, self.limits.slow_reader_ms);
        let waits = self.has_output(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.slow_reader_set = false;
        if !waits {
            return;
        }
        let untaken_ms = connection.progress.age_ms(now_ms);
        if untaken_ms >= slow_ms {
            self.end(id, ErrorCode::SlowReader, "what was sent was not read");
        } else {
            connection.slow_reader_set = true;
            let next_ms = now_ms - untaken_ms + slow_ms;
            self.timers.set(next_ms, Timer::SlowReader(id));
        }
    }
}
