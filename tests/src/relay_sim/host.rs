//! A relay's process: the real core, its turns, its clock, how it starts and ends.
//!
//! Owns: what the event loop does (`daemon/src/event_loop.rs`), over links instead of sockets, and two defects that
//! sit there. Must not know what clients make of what they get, nor when something happens.

use std::io::IoSlice;

use e2e_protocol::ids::RelayId;
use e2e_protocol::limits::FRAME_BYTES_MAX;
use e2e_protocol::wire::{Frame, Parsed};
use e2e_relayd::address::AddressKey;
use e2e_relayd::core::{Action, ConnId, Core, Now, Policy};
use e2e_relayd::limits::Limits;
use e2e_relayd::store::Snapshot;

use super::LinkIndex;
use super::defect::Defect;
use super::ledger::Ledger;
use super::link::{Fate, Link, Phase};
use super::store::Store;
use crate::dice::Dice;

/// Of the relay's id and its nonces: the same in each seed and at each start, so that signatures can be kept.
const RELAY_SEED: [u8; 32] = [9; 32];
const SLICES: usize = 16;
/// Above the limit of a connection's output it is not read from; but what it sent before has results that come late, each of
/// some 80 bytes: those of all its lanes' windows, and of what was read at once.
const OUTPUT_BYTES_OVER: usize = 32 * 1024;

pub(super) struct Host {
    pub(super) core: Option<Core>,
    pub(super) limits: Limits,
    pub(super) store: Store,
    /// How often it was started, and when last, by virtual time and by its own clock.
    pub(super) boot: u64,
    started_ms: u64,
    relay_ms_at_start: u64,
    relay_id: Option<RelayId>,
    stored_boot: u32,
    by_index: Vec<LinkIndex>,
    /// The most that waited for a connection that does not receive.
    most_output: usize,
    defect: Option<Defect>,
}

/// All connections, and which of them are not over on both sides.
pub(super) struct Links {
    pub(super) all: Vec<Link>,
    pub(super) live: Vec<LinkIndex>,
}

impl Host {
    pub(super) fn new(limits: Limits, store: Store, defect: Option<Defect>) -> Self {
        Self {
            core: None,
            limits,
            store,
            boot: 0,
            started_ms: 0,
            relay_ms_at_start: 0,
            relay_id: None,
            stored_boot: 0,
            by_index: Vec::new(),
            most_output: 0,
            defect,
        }
    }

    /// The relay's clock.
    pub(super) fn relay_ms(&self, now_ms: u64) -> u64 {
        self.relay_ms_at_start + (now_ms - self.started_ms)
    }

    fn now(&self, now_ms: u64) -> Now {
        Now { monotonic_ms: now_ms - self.started_ms, relay_ms: self.relay_ms(now_ms) }
    }

    /// Starts the relay, if the disk lets it.
    pub(super) fn start(&mut self, now_ms: u64, system_ms: u64, ledger: &mut Ledger) {
        let Ok(snapshot) = Snapshot::load(&*self.store.disk, RELAY_SEED, system_ms) else { return };
        if *self.relay_id.get_or_insert(snapshot.relay_id) != snapshot.relay_id {
            ledger.violation("the relay has another id".into());
        }
        if snapshot.boot <= self.stored_boot {
            ledger.violation(format!("start {} after {}", snapshot.boot, self.stored_boot));
        }
        self.stored_boot = snapshot.boot;
        self.boot += 1;
        self.started_ms = now_ms;
        self.relay_ms_at_start = snapshot.clock.max(system_ms);
        self.core = Some(Core::new(self.limits.clone(), Policy::default(), &snapshot, RELAY_SEED));
        self.by_index.clear();
        ledger.note(now_ms, || format!("the relay starts, boot {}", snapshot.boot));
    }

    /// The process dies; nobody says so to anybody.
    pub(super) fn crash(&mut self, now_ms: u64, dice: &mut Dice) {
        self.core = None;
        self.store.crash(now_ms, self.relay_ms(now_ms), dice);
    }

    /// The process has stopped as it was told to.
    pub(super) fn exit(&mut self, now_ms: u64) {
        self.core = None;
        self.store.shut_down(now_ms, self.relay_ms(now_ms));
    }

    pub(super) fn open(&mut self, now_ms: u64, link: LinkIndex) -> Option<ConnId> {
        let now = self.now(now_ms);
        let core = self.core.as_mut()?;
        core.begin_turn(now);
        let id = core.handle_opened(AddressKey::V6((link as u64).to_be_bytes()));
        let place = id.index as usize;
        if self.by_index.len() <= place {
            self.by_index.resize(place + 1, 0);
        }
        self.by_index[place] = link;
        Some(id)
    }

    /// The relay's end of a connection is reset.
    pub(super) fn lose(&mut self, now_ms: u64, link: &mut Link) {
        let now = self.now(now_ms);
        if let Some(core) = self.core.as_mut().filter(|_| link.relay_open) {
            core.begin_turn(now);
            core.handle_lost(link.id);
        }
        link.relay_open = false;
    }

    /// When it has to have a turn, whatever the links do.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let core = self.core.as_ref()?;
        let deadline = core.next_deadline_ms().map(|at_ms| self.started_ms + at_ms);
        [deadline, self.store.next_ms()].into_iter().flatten().min()
    }

    /// One turn; returns whether anything moved.
    pub(super) fn turn(
        &mut self,
        now_ms: u64,
        links: &mut Links,
        dice: &mut Dice,
        ledger: &mut Ledger,
    ) -> bool {
        let now = self.now(now_ms);
        let Some(mut core) = self.core.take() else { return false };
        let mut moved = core.next_deadline_ms().is_some_and(|at_ms| at_ms <= now.monotonic_ms);
        core.begin_turn(now);
        for at in 0..links.live.len() {
            let link = &mut links.all[links.live[at]];
            moved |= self.feed(&mut core, link, now_ms, dice);
        }
        self.store.work(now_ms, now.relay_ms, dice);
        while let Some(completion) = self.store.next_answer() {
            moved = true;
            core.handle_completion(completion);
        }
        core.end_turn();
        for at in 0..links.live.len() {
            let index = links.live[at];
            let link = &links.all[index];
            if link.relay_open && link.blocked && link.socket.len() < link.socket_bytes_max {
                moved = true;
                self.write(&mut core, links, index, dice);
            }
        }
        while let Some(action) = core.poll_action() {
            moved = true;
            match action {
                Action::Write(id) => {
                    if let Some(index) = self.link_of(links, id) {
                        self.write(&mut core, links, index, dice);
                    }
                }
                Action::Close(id, _) => {
                    if let Some(index) = self.link_of(links, id) {
                        links.all[index].relay_open = false;
                    }
                }
                Action::Store(request) => self.store.submit(request, now_ms, dice),
            }
        }
        self.check_limits(&core, ledger);
        self.core = Some(core);
        moved
    }

    fn link_of(&self, links: &Links, id: ConnId) -> Option<LinkIndex> {
        let index = *self.by_index.get(id.index as usize)?;
        let link = &links.all[index];
        (link.id == id && link.relay_open && link.boot == self.boot).then_some(index)
    }

    /// The relay reads what it may; returns whether there was anything.
    fn feed(&mut self, core: &mut Core, link: &mut Link, now_ms: u64, dice: &mut Dice) -> bool {
        if !link.relay_open || link.ended || now_ms < link.up_after_ms || !core.may_read(link.id) {
            return false;
        }
        if link.up_waiting() == 0 {
            match link.fate {
                Fate::Lives | Fate::Ghost => return false,
                Fate::Ends => core.handle_end_of_input(link.id),
                Fate::Lost => {
                    core.handle_lost(link.id);
                    link.relay_open = false;
                }
            }
            link.ended = true;
            return true;
        }
        let count = link.up_waiting().min(link.piece);
        link.partial.extend_from_slice(&link.up[link.up_at..][..count]);
        link.up_at += count;
        core.handle_heard(link.id);
        let partial = std::mem::take(&mut link.partial);
        let mut rest = partial.as_slice();
        while !rest.is_empty() {
            match Frame::parse(rest, core.body_bytes_max(link.id)) {
                Ok(Parsed::Frame(frame, bytes)) => {
                    self.take(core, link, frame, &rest[..bytes], dice);
                    rest = &rest[bytes..];
                }
                Ok(Parsed::Incomplete { .. }) => break,
                Err(error) => {
                    core.handle_bad_frame(link.id, error);
                    rest = &[];
                }
            }
        }
        self.release_held(core, link);
        link.partial = rest.to_vec();
        true
    }

    /// Gives a frame to the core; with the defect `reorder`, some after the one that follows.
    fn take(&mut self, core: &mut Core, link: &mut Link, frame: Frame<'_>, bytes: &[u8], dice: &mut Dice) {
        let Some(defect @ Defect::Reorder) = self.defect else { return core.handle_frame(link.id, frame) };
        let is_send = matches!(frame, Frame::Send(_));
        if is_send && link.held.is_empty() && dice.per_mille(defect.per_mille()) {
            link.held = bytes.to_vec();
            return;
        }
        if !is_send {
            self.release_held(core, link);
        }
        core.handle_frame(link.id, frame);
        self.release_held(core, link);
    }

    fn release_held(&mut self, core: &mut Core, link: &mut Link) {
        let held = std::mem::take(&mut link.held);
        if let Ok(Parsed::Frame(frame, _)) = Frame::parse(&held, core.body_bytes_max(link.id)) {
            core.handle_frame(link.id, frame);
        }
    }

    /// Writes what the socket takes.
    fn write(&mut self, core: &mut Core, links: &mut Links, index: LinkIndex, dice: &mut Dice) {
        loop {
            let target = self.target(links, index, dice);
            let id = links.all[index].id;
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = core.gather(id, &mut slices);
            let link = &mut links.all[target];
            // A stray goes whole, so that both ends stay between frames.
            let mut room = if target == index {
                link.socket_bytes_max.saturating_sub(link.socket.len())
            } else {
                usize::MAX
            };
            let (mut offered, mut taken) = (0, 0);
            for slice in &slices[..filled] {
                let count = slice.len().min(room);
                link.socket.extend_from_slice(&slice[..count]);
                (offered, taken, room) = (offered + slice.len(), taken + count, room - count);
            }
            let link = &mut links.all[index];
            link.blocked = taken < offered;
            if link.credit().is_none() {
                self.most_output = self.most_output.max(offered);
            }
            if offered == 0 {
                return;
            }
            core.handle_written(id, taken);
            if link.blocked {
                return;
            }
        }
    }

    /// Whose socket the bytes go to; with the defect `cross-connection`, sometimes another user's.
    fn target(&self, links: &Links, index: LinkIndex, dice: &mut Dice) -> LinkIndex {
        let Some(defect @ Defect::CrossConnection) = self.defect else { return index };
        let link = &links.all[index];
        if link.blocked || link.phase != Phase::Ready || !dice.per_mille(defect.per_mille()) {
            return index;
        }
        let is_fit = |other: &Link| {
            let is_idle = !other.blocked && other.socket.is_empty() && other.unread.is_empty();
            is_idle && other.relay_open && other.is_speaking() && other.who != link.who
        };
        links.live.iter().copied().find(|other| is_fit(&links.all[*other])).unwrap_or(index)
    }

    fn check_limits(&self, core: &Core, ledger: &mut Ledger) {
        let (_, connections, ring_bytes) = core.counts();
        let limits = &self.limits;
        if ring_bytes > limits.ring_bytes_max {
            ledger.violation(format!("{ring_bytes} bytes of rings, over the limit"));
        }
        if connections > limits.connections_max + 1 {
            ledger.violation(format!("{connections} connections, over the limit"));
        }
        let append_bytes_max = limits.append_bytes_max.max(FRAME_BYTES_MAX);
        // A store that answers too early is given more.
        if self.defect.is_none()
            && self.store.in_flight_bytes > limits.store_in_flight_bytes_max + append_bytes_max
        {
            ledger.violation(format!("{} bytes on their way to the store", self.store.in_flight_bytes));
        }
        if self.most_output > limits.output_bytes_max + OUTPUT_BYTES_OVER {
            ledger.violation(format!("{} bytes wait for one connection", self.most_output));
        }
    }
}
