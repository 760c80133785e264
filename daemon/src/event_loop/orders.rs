//! What guests ask for, carried out.
//!
//! Owns: each order of the administrator's, and the metrics page, as answers to guests. What the core is told to do: `core::admin`. Must
//! not know how a guest is read or written (`guests`).

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::EventLoop;
use super::guests::{Said, State};
use crate::clock::system_ms;
use crate::control::{
    ANSWER_END, ANSWER_ERROR, ANSWER_OK, NAMES_HEAD, Order, TOKENS_HEAD, name_line, token_line,
};
use crate::core::admin::Answer;
use crate::http;
use crate::limits::{COPY_READER_MS, NAMES_PER_PIECE};
use crate::metrics::{self, LoopFigures, Sources};
use crate::store::{CopyError, StoreHandle};
use crate::{process, status};

/// Where the metrics are.
pub(super) const METRICS_PATH: &str = "/metrics";

impl EventLoop {
    /// A guest's socket has something to say, or takes more, or its peer has hung up.
    pub(super) fn serve(&mut self, index: usize, has_hung_up: bool, store: &StoreHandle) {
        let now_ms = self.clock.now().monotonic_ms;
        match self.guests.hear(index, now_ms) {
            None => {}
            Some(Said::Line(line)) => match Order::parse(&line) {
                Ok(order) => self.carry_out(index, order, store),
                Err(error) => self.refuse(index, &error),
            },
            Some(Said::Http(bytes)) => match http::parse(&bytes, METRICS_PATH) {
                http::Request::Incomplete => {}
                http::Request::Page { with_body } => {
                    let page = self.metrics_page(store);
                    let answer = http::answer("200 OK", metrics::CONTENT_TYPE, &page, with_body);
                    self.guests.tell(index, &answer, State::Leaves, now_ms);
                }
                http::Request::Refused(status) => {
                    let answer = http::answer(status, "text/plain", &format!("{status}\n"), true);
                    self.guests.tell(index, &answer, State::Leaves, now_ms);
                }
            },
        }
        self.write_guest(index);
        if has_hung_up {
            self.guests.hang_up(index);
        }
    }

    fn carry_out(&mut self, index: usize, order: Order, store: &StoreHandle) {
        match order {
            Order::Status => {
                let page = self.status_page(store);
                self.answer(index, &page);
            }
            Order::Metrics => {
                let page = self.metrics_page(store);
                self.answer(index, &page);
            }
            Order::Names(names) if names.is_empty() => {
                self.put_off(index, &format!("{ANSWER_OK}\n{NAMES_HEAD}"), State::Lists(0));
            }
            Order::Names(names) => {
                let mut lines = NAMES_HEAD.to_owned();
                for name in names {
                    match self.core.name_state(&name) {
                        Some(state) => lines.push_str(&name_line(&state)),
                        None => return self.refuse(index, &format!("{name}: nobody has this name")),
                    }
                }
                self.answer(index, &lines);
            }
            Order::Remove(name) => {
                log::info!("the administrator removes a name");
                let asked = self.core.remove_name(&name);
                self.await_answer(index, asked);
            }
            Order::Disconnect(name) => match self.core.disconnect(&name) {
                Ok(count) => self.answer(index, &format!("{count} connections ended\n")),
                Err(error) => self.refuse(index, error),
            },
            Order::MakeToken { once, label } => {
                let asked = self.core.make_token(once, &label);
                self.await_answer(index, asked);
            }
            Order::ListTokens => {
                let lines: String = self.core.tokens().iter().map(token_line).collect();
                self.answer(index, &format!("{TOKENS_HEAD}{lines}"));
            }
            Order::RevokeToken(number) => {
                let asked = self.core.revoke_token(number);
                self.await_answer(index, asked);
            }
            Order::Drain => {
                self.answer(index, "");
                self.write_guest(index);
                log::info!("stopping: the administrator says so");
                self.stop();
            }
            Order::Reload if self.reloading.is_none() => self.refuse(index, "there is nothing to read again"),
            Order::Reload => {
                self.put_off(index, "", State::AwaitsReload);
                self.begin_reload();
            }
            Order::Copy => self.copy(index, store),
        }
    }

    fn answer(&mut self, index: usize, text: &str) {
        self.put_off(index, &format!("{ANSWER_OK}\n{text}{ANSWER_END}\n"), State::Leaves);
    }

    fn refuse(&mut self, index: usize, why: &str) {
        self.put_off(index, &format!("{ANSWER_ERROR} {why}\n"), State::Leaves);
    }

    fn put_off(&mut self, index: usize, text: &str, state: State) {
        let now_ms = self.clock.now().monotonic_ms;
        self.guests.tell(index, text, state, now_ms);
    }

    fn await_answer(&mut self, index: usize, asked: Result<u64, &'static str>) {
        match asked {
            Ok(number) => self.put_off(index, "", State::Awaits(number)),
            Err(error) => self.refuse(index, error),
        }
    }

    /// Writes what a guest is told, and goes on with a list that is longer.
    fn write_guest(&mut self, index: usize) {
        let now_ms = self.clock.now().monotonic_ms;
        while let Some(slot) = self.guests.write(index, now_ms) {
            let (states, next) = self.core.names_from(slot, NAMES_PER_PIECE);
            let mut lines: String = states.iter().map(name_line).collect();
            if next.is_none() {
                lines.push_str(ANSWER_END);
                lines.push('\n');
            }
            self.guests.tell(index, &lines, next.map_or(State::Leaves, State::Lists), now_ms);
        }
    }

    /// Tells those who wait what came of what they asked for.
    pub(super) fn serve_answers(&mut self) {
        while let Some(answer) = self.core.poll_answer() {
            let (asked, text) = match &answer {
                Answer::Removed(asked) | Answer::TokenRevoked(asked) => (*asked, Ok(String::new())),
                Answer::TokenMade(asked, token) => {
                    (*asked, Ok(format!("{}\n", String::from_utf8_lossy(&token.secret))))
                }
                Answer::Failed(asked) => (*asked, Err("the relay's disk failed")),
            };
            self.tell_waiting(State::Awaits(asked), &text);
        }
    }

    /// Tells those who wait for the configuration whether it was taken up.
    pub(super) fn answer_reload(&mut self, outcome: Result<(), &str>) {
        self.tell_waiting(State::AwaitsReload, &outcome.map(|()| String::new()));
    }

    fn tell_waiting(&mut self, awaited: State, outcome: &Result<String, &str>) {
        let waiting: Vec<_> = self.guests.waiting().filter(|(_, state)| *state == awaited).collect();
        for (index, _) in waiting {
            match outcome {
                Ok(text) => self.answer(index, text),
                Err(error) => self.refuse(index, error),
            }
            self.write_guest(index);
        }
    }

    /// Has the store written to a guest, by a thread that may wait for it.
    fn copy(&mut self, index: usize, store: &StoreHandle) {
        let Some(stream) = self.guests.give_up(index, self.poll.registry()) else { return };
        // Who takes nothing for so long is gone.
        let _ = stream.set_write_timeout(Some(Duration::from_millis(COPY_READER_MS)));
        let is_begun = Arc::new(AtomicBool::new(false));
        let refusing = Arc::new((stream.try_clone(), Arc::clone(&is_begun)));
        let fail = move |error: &CopyError| {
            log::warn!("a copy of the store was not made: {error}");
            // Who has got a part of it finds that it ends too early.
            if let (Ok(stream), is_begun) = &*refusing
                && !is_begun.load(Ordering::Relaxed)
            {
                let mut stream: &UnixStream = stream;
                let _ = writeln!(stream, "{ANSWER_ERROR} {error}");
            }
        };
        let fail_early = fail.clone();
        let done = move |result: Result<_, _>| match result {
            Ok(report) => log::info!("a copy of the store was made: {report}"),
            Err(error) => fail(&error),
        };
        if let Err(error) = store.copy_to(Answering { is_begun, stream }, done) {
            fail_early(&error);
        }
    }

    fn figures(&self) -> LoopFigures {
        let (begun_frames, begun_frame_bytes) = self.partials.counts();
        LoopFigures {
            turns: self.turns,
            accepting_is_paused: self.accepting && self.accept_after_ms > self.clock.now().monotonic_ms,
            text_sessions: self.texts.iter().sum(),
            begun_frames,
            begun_frame_bytes,
        }
    }

    fn metrics_page(&self, store: &StoreHandle) -> String {
        let (store, event_loop, process) = (store.figures(), self.figures(), process::Figures::read());
        metrics::page(Sources { core: &self.core, store: &store, event_loop: &event_loop, process: &process })
    }

    fn status_page(&self, store: &StoreHandle) -> String {
        let (store, event_loop, process) = (store.figures(), self.figures(), process::Figures::read());
        let sources = Sources { core: &self.core, store: &store, event_loop: &event_loop, process: &process };
        let addresses = self.listeners.addresses().unwrap_or_default();
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        status::page(sources, &addresses, system_ms() / 1_000)
    }
}

/// A socket on which the first that is written says that the order is carried out.
struct Answering {
    is_begun: Arc<AtomicBool>,
    stream: UnixStream,
}

impl Write for Answering {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_begun.swap(true, Ordering::Relaxed) {
            self.stream.write_all(ANSWER_OK.as_bytes())?;
            self.stream.write_all(b"\n")?;
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
