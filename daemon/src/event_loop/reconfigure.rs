//! A new configuration for a relay that runs.
//!
//! Owns: what of it takes effect at once, in which order, and what is said about the rest. All of it or nothing: what can
//! fail comes first. No connection is dropped.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::UnixStream;

use super::EventLoop;
use crate::core::Policy;
use crate::listen::Opened;
use crate::logging;
use crate::reload::{Configuration, Reloader};
use crate::settings::Settings;

/// What it takes to read the configuration while the relay runs.
#[derive(Debug)]
pub(super) struct Reloading {
    /// The settings that the relay runs with.
    pub(super) running: Settings,
    pub(super) reloader: Reloader,
    /// A byte comes for each time that somebody says so.
    pub(super) signals: UnixStream,
}

impl EventLoop {
    /// Begins to read the configuration, if somebody says so.
    pub(super) fn take_reloads(&mut self) {
        let Some(Reloading { signals, .. }) = self.reloading.as_deref_mut() else { return };
        let mut bytes = [0; 16];
        let mut is_asked = false;
        while matches!(signals.read(&mut bytes), Ok(count) if count > 0) {
            is_asked = true;
        }
        if is_asked {
            self.begin_reload();
        }
    }

    pub(super) fn begin_reload(&mut self) {
        let waker = Arc::clone(&self.waker);
        if let Some(Reloading { reloader, .. }) = self.reloading.as_deref_mut() {
            if let Some(supervisor) = &mut self.supervisor {
                supervisor.reloading();
            }
            reloader.begin(waker);
        }
    }

    /// Takes up a configuration that was read meanwhile.
    pub(super) fn reconfigure(&mut self) {
        let Some(Reloading { running, reloader, .. }) = self.reloading.as_deref_mut() else { return };
        let Some((read, is_asked_again)) = reloader.poll() else { return };
        let running = running.clone();
        let outcome = read.and_then(|configuration| self.take_up(&running, configuration));
        match &outcome {
            Ok(()) => log::info!("the configuration was read again"),
            Err(error) => log::error!("the configuration stays as it was: {error}"),
        }
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.ready();
        }
        // Who asked meanwhile may have changed the file meanwhile: the next answer is for all.
        if is_asked_again {
            self.begin_reload();
        } else {
            self.answer_reload(outcome.as_ref().copied().map_err(String::as_str));
        }
    }

    fn take_up(&mut self, running: &Settings, configuration: Configuration) -> Result<(), String> {
        let Configuration { mut settings, tokens } = configuration;
        // What can fail comes first, and changes nothing.
        let (listen, is_explicit) = settings.listen();
        let moves = !self.core.is_stopping() && settings.listen != running.listen;
        let opened = moves.then(|| self.listeners.open_missing(&listen, is_explicit)).transpose();
        let opened = opened.map_err(|error| error.to_string())?;
        let moves = settings.metrics != running.metrics;
        let metrics = moves.then(|| self.guests.metrics.open_missing(&settings.metrics, true)).transpose();
        let metrics = metrics.map_err(|error| format!("metrics: {error}"))?;
        if let Some(opened) = opened {
            self.listen_at(&listen, opened);
        }
        if let Some(opened) = metrics {
            self.guests.serve_metrics_at(&settings.metrics, opened, self.poll.registry());
        }
        for name in settings.differing_at_start(running) {
            log::warn!("{name} has changed: that takes effect at the next start");
        }
        settings.keep_from_start(running);
        let policy = Policy::new(&settings, tokens);
        self.core.handle_reconfigured(settings.limits.clone(), policy);
        (self.proxies, self.debuggers) = (settings.proxies.clone(), settings.debuggers.clone());
        logging::set_level(settings.log);
        if let Some(reloading) = &mut self.reloading {
            reloading.running = settings;
        }
        Ok(())
    }

    fn listen_at(&mut self, addresses: &[SocketAddr], opened: Opened) {
        self.deregister_listeners();
        self.listeners.change(addresses, opened);
        if let Err(error) = self.register_listeners() {
            log::error!("a listening socket cannot be watched: {error}");
        }
        let addresses: Vec<_> =
            self.listeners.addresses().unwrap_or_default().iter().map(ToString::to_string).collect();
        log::info!("listening on {}", addresses.join(" "));
    }
}
