//! What the service manager is told, where there is one: that the relay is ready, that it is alive, what it is busy with, that it
//! stops.
//!
//! Owns: when which of it is said. The event loop calls [`Supervisor::tick`] itself, so that a loop that hangs is found out. Must not
//! know how it is said (sd_notify, in a library) nor what the words mean.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::limits::STATUS_MS;

/// See the module. Without a service manager it does nothing.
#[derive(Debug)]
pub struct Supervisor {
    /// So often it waits to hear that the loop turns.
    alive_every_ms: Option<u64>,
    next_alive_ms: u64,
    next_status_ms: u64,
    /// What was said last.
    status: String,
}

impl Supervisor {
    /// The one that started this process, if it wants to be told: $NOTIFY_SOCKET, and $WATCHDOG_USEC.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let mut watchdog_us = 0;
        let has_watchdog = sd_notify::watchdog_enabled(false, &mut watchdog_us);
        // Three times in the time that it allows.
        let every = Duration::from_micros(watchdog_us / 3).as_millis();
        let alive_every_ms = has_watchdog.then(|| u64::try_from(every).unwrap_or(u64::MAX).max(1));
        Some(Self { alive_every_ms, next_alive_ms: 0, next_status_ms: 0, status: String::new() })
    }

    /// The configuration is read again; [`Supervisor::ready`] says when that is over.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => say(&[NotifyState::Reloading, now]),
            Err(error) => log::debug!("the system doesn't say the time: {error}"),
        }
    }

    /// The relay listens.
    pub fn ready(&mut self) {
        say(&[NotifyState::Ready]);
    }

    /// No further connection is accepted.
    pub fn stopping(&mut self) {
        say(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// When [`Supervisor::tick`] is due.
    #[must_use]
    pub fn next_ms(&self) -> u64 {
        match self.alive_every_ms {
            Some(_) => self.next_alive_ms.min(self.next_status_ms),
            None => self.next_status_ms,
        }
    }

    /// Once in a turn of the loop.
    pub fn tick(&mut self, now_ms: u64, status: impl FnOnce() -> String) {
        if let Some(every_ms) = self.alive_every_ms.filter(|_| self.next_alive_ms <= now_ms) {
            self.next_alive_ms = now_ms + every_ms;
            say(&[NotifyState::Watchdog]);
        }
        if self.next_status_ms <= now_ms {
            self.next_status_ms = now_ms + STATUS_MS;
            let status = status();
            if status != self.status {
                say(&[NotifyState::Status(&status)]);
                self.status = status;
            }
        }
    }
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        log::debug!("the service manager cannot be told: {error}");
    }
}
