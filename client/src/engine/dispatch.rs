//! Sending: from the outbox to the relay, and what comes back (spec/wire.md, section 5).
//!
//! Owns: which messages of this process' lanes are due, on their way, or wait for an answer of the
//! directory. Their contents are read from the state whenever something is done with them, because
//! another process may have settled them. What an answer means is `outbox`'s.

use std::collections::BTreeMap;

use e2e_protocol::e2e::{Bundle, EncryptError, Kind, Plaintext, ShownKey};
use e2e_protocol::ids::{Fingerprint, Lane, MessageId, Name, Number, Receipt, Uid};
use e2e_protocol::login::fingerprint;
use e2e_protocol::wire::directory::{Entry, Want};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::transfer::{Outcome, ResultCode};
use e2e_protocol::wire::{Code, ErrorCode, FrameType, Routing};

use super::directory::{Question, bundle};
use super::event::{Drop, Event, Fate, Wait};
use super::outbox::{self, Answer, PAUSE_MS_MAX, STORED_PAUSE_MS, Verdict};
use super::{Engine, Stage, Turn};
use crate::state::items::Sealed;
use crate::state::{Key, OutboxItem, StateError};

/// How a message is called by its sender and the relay.
type Id = (Lane, Number);

#[derive(Default)]
pub(super) struct Dispatch {
    tracked: BTreeMap<Id, Progress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// To be looked at, at this time.
    Due(u64),
    /// Held back: it, or one before it, found no room among those without a result.
    Held,
    /// The directory is asked about its recipient.
    Asking(Name),
    /// Sent on this connection; no result yet.
    InFlight,
}

impl Dispatch {
    pub(super) fn track(&mut self, id: Id, due_ms: u64) {
        self.tracked.insert(id, Progress::Due(due_ms));
    }

    /// The connection is gone: what was on its way is due again.
    pub(super) fn reset(&mut self) {
        for progress in self.tracked.values_mut() {
            if !matches!(progress, Progress::Due(_)) {
                *progress = Progress::Due(0);
            }
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        self.tracked.values().any(|progress| !matches!(progress, Progress::Due(_)))
    }

    /// Whether nothing in this lane is due or on its way.
    pub(super) fn is_idle(&self, lane: Lane, now_ms: u64) -> bool {
        let later = |progress: &Progress| matches!(progress, Progress::Due(due_ms) if *due_ms > now_ms);
        self.tracked.iter().filter(|((of, _), _)| *of == lane).all(|(_, progress)| later(progress))
    }

    /// The lane is another process' to look after, or this one's later.
    pub(super) fn forget(&mut self, lane: Lane) {
        self.tracked.retain(|(of, _), _| *of != lane);
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let due = |progress: &Progress| match progress {
            Progress::Due(due_ms) => Some(*due_ms),
            Progress::Held | Progress::Asking(_) | Progress::InFlight => None,
        };
        self.tracked.values().filter_map(due).min()
    }

    /// Whether the relay, which remembers `window` numbers of a lane, would still remember those on
    /// their way, were this one sent too. No more are on their way in all lanes together.
    fn has_room(&self, (lane, number): Id, window: u16) -> bool {
        let in_flight = || self.tracked.iter().filter(|(_, progress)| **progress == Progress::InFlight);
        let oldest = in_flight().find(|((of, _), _)| *of == lane);
        in_flight().count() < usize::from(window)
            && oldest.is_none_or(|((_, oldest), _)| number.0 < oldest.0.saturating_add(window.into()))
    }

    fn hold(&mut self, id: Id) {
        self.tracked.insert(id, Progress::Held);
    }

    fn is_held(&self, id: Id) -> bool {
        self.tracked.get(&id) == Some(&Progress::Held)
    }

    /// Whether the next message would go out at once.
    fn has_room_for_new(&self, window: u16) -> bool {
        let waiting = |progress: &&Progress| matches!(progress, Progress::InFlight | Progress::Held);
        self.tracked.values().filter(waiting).count() < usize::from(window)
    }

    fn is_asking(&self, name: &Name) -> bool {
        self.tracked.values().any(|progress| *progress == Progress::Asking(*name))
    }

    fn asking(&self, name: &Name) -> Vec<Id> {
        let asking = self.tracked.iter().filter(|(_, progress)| **progress == Progress::Asking(*name));
        asking.map(|(id, _)| *id).collect()
    }
}

impl Engine {
    /// Puts a message into the outbox and sends it, at once if the connection stands. `None` if this
    /// process was not made to send.
    ///
    /// # Errors
    /// [`StateError`] if the state can't be used.
    pub fn handle_message(
        &mut self,
        turn: &mut Turn<'_>,
        to: Name,
        plaintext: Plaintext,
    ) -> Result<Option<MessageId>, StateError> {
        if !self.config.send {
            return Ok(None);
        }
        let id = self.lanes.next_id(turn)?;
        let message_id = plaintext.id;
        OutboxItem::new(to, plaintext).store(&mut turn.state, Key::Outbox(id.0, id.1));
        self.dispatch.track(id, 0);
        self.advance_outbox(turn)?;
        Ok(Some(message_id))
    }

    /// Sends an empty message to a contact with whom a step is due, if nothing else is on its way to do it.
    /// False if there is no room: the step is still due then.
    pub(super) fn step_with(&mut self, turn: &mut Turn<'_>, name: Name) -> Result<bool, StateError> {
        let now_ms = turn.now_ms;
        if !self.config.send || !turn.peer(&name)?.0.peer.needs_empty_message(now_ms) {
            return Ok(true);
        }
        let window = self.welcome().map_or(0, |welcome| welcome.in_flight);
        if !self.dispatch.has_room_for_new(window) {
            return Ok(false);
        }
        let empty = Plaintext::new(Kind::Nothing, Vec::new(), now_ms, turn.rng);
        self.handle_message(turn, name, empty).map(|_| true)
    }

    /// Sends what is due, as far as there is room.
    pub(super) fn advance_outbox(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        if !matches!(self.stage, Stage::Ready(_)) {
            return Ok(());
        }
        let now_ms = turn.now_ms;
        let ready = |progress: &Progress| match progress {
            Progress::Due(due_ms) => outbox::is_due(*due_ms, now_ms),
            Progress::Held => true,
            Progress::Asking(_) | Progress::InFlight => false,
        };
        let ids = self.dispatch.tracked.iter().filter(|(_, at)| ready(at)).map(|(id, _)| *id).collect();
        self.dispatch_in_order(turn, ids, None)
    }

    /// Does the next thing for each, as they were written: what earlier processes left goes before what this
    /// one adds, and what finds no room holds up all that comes after it, in whichever lane.
    fn dispatch_in_order(
        &mut self,
        turn: &mut Turn<'_>,
        mut ids: Vec<Id>,
        bundle: Option<&Bundle<'_>>,
    ) -> Result<(), StateError> {
        self.lanes.sort(&mut ids);
        let mut ids = ids.into_iter();
        for id in ids.by_ref() {
            self.dispatch_one(turn, id, bundle)?;
            if self.dispatch.is_held(id) {
                break;
            }
        }
        ids.for_each(|id| self.dispatch.hold(id));
        Ok(())
    }

    /// Does the next thing that a message needs: encrypt it, ask for its recipient, send it.
    fn dispatch_one(
        &mut self,
        turn: &mut Turn<'_>,
        id: Id,
        bundle: Option<&Bundle<'_>>,
    ) -> Result<(), StateError> {
        let Some(mut item) = OutboxItem::load(&turn.state, &key(id))? else {
            self.dispatch.tracked.remove(&id);
            return Ok(());
        };
        if outbox::is_too_old(&item, turn.now_ms) {
            self.drop_item(turn, id, &item, Drop::TooOld);
            return Ok(());
        }
        if turn.peer(&item.to)?.0.peer.changed().is_some() {
            // Nothing goes out; but the directory may show the pinned key again.
            self.ask_about(turn, id, item.to, Want::Address);
            return Ok(());
        }
        let window = self.welcome().map_or(1, |welcome| welcome.in_flight.max(1));
        if !self.dispatch.has_room(id, window) {
            self.dispatch.hold(id);
            return Ok(());
        }
        if item.sealed.is_none() {
            // A session that the recipient started meanwhile must not let it overtake those that wait.
            if bundle.is_none() && self.dispatch.is_asking(&item.to) {
                self.dispatch.tracked.insert(id, Progress::Asking(item.to));
                return Ok(());
            }
            match self.encrypt(turn, &item, bundle)? {
                Ok(sealed) => item.sealed = Some(sealed),
                Err(error) => return self.handle_not_encrypted(turn, id, item, error),
            }
            if item.first_sent_ms == 0 {
                item.first_sent_ms = turn.now_ms;
            }
            item.store(&mut turn.state, key(id));
        }
        let uid = turn.peer(&item.to)?.0.uid;
        if uid == Uid::NONE {
            self.ask_about(turn, id, item.to, Want::Address);
        } else if let Some(sealed) = &item.sealed {
            let routing = Routing { peer: uid, lane: id.0, number: id.1, ..Routing::default() };
            turn.emit(|out| emit_routed(out, FrameType::Send, &routing, &sealed.envelope));
            self.dispatch.tracked.insert(id, Progress::InFlight);
        }
        Ok(())
    }

    fn encrypt(
        &mut self,
        turn: &mut Turn<'_>,
        item: &OutboxItem,
        bundle: Option<&Bundle<'_>>,
    ) -> Result<Result<Sealed, EncryptError>, StateError> {
        let now_ms = turn.now_ms;
        let (peer, ratchets, rng) = turn.sending(&item.to)?;
        let sealed = peer.encrypt(self.me(), &item.plaintext, bundle, ratchets, now_ms, rng);
        self.upkeep.want_ratchets(ratchets.wanted());
        if let Ok(sealed) = &sealed
            && sealed.without_one_time
        {
            turn.event(Event::NoOneTimePrekey { to: item.to });
        }
        Ok(sealed.map(|sealed| Sealed {
            session: sealed.sid,
            epoch: sealed.epoch,
            receipt: sealed.expected_receipt,
            envelope: sealed.envelope,
        }))
    }

    fn handle_not_encrypted(
        &mut self,
        turn: &mut Turn<'_>,
        id: Id,
        item: OutboxItem,
        error: EncryptError,
    ) -> Result<(), StateError> {
        // What only moves a session on is of no use without the session.
        if item.plaintext.kind == Kind::Nothing {
            self.erase_item(turn, id);
            return Ok(());
        }
        match error {
            EncryptError::NeedBundle { one_time } => {
                let want = if one_time { Want::OneTime } else { Want::Bundle };
                self.ask_about(turn, id, item.to, want);
            }
            EncryptError::WaitUntil(until_ms) => {
                self.postpone(turn, id, item, until_ms, Wait::SessionPending);
            }
            EncryptError::KeyChanged(shown) => self.handle_key_changed(turn, id, item, shown)?,
            EncryptError::BadBundle(why) => {
                self.refuse(turn, id, item, Drop::BadBundle(why), Wait::BadBundle(why));
            }
            EncryptError::TooLong | EncryptError::OwnName => {
                self.drop_item(turn, id, &item, Drop::Unsendable);
            }
        }
        Ok(())
    }

    fn handle_key_changed(
        &mut self,
        turn: &mut Turn<'_>,
        id: Id,
        item: OutboxItem,
        shown: Fingerprint,
    ) -> Result<(), StateError> {
        let pinned = turn.peer(&item.to)?.0.peer.pin().unwrap_or(Fingerprint::ZERO);
        let (drop, wait) = (Drop::KeyChanged { pinned, shown }, Wait::KeyChanged { pinned, shown });
        self.refuse(turn, id, item, drop, wait);
        Ok(())
    }

    /// The directory's answer about a recipient.
    pub(super) fn handle_recipient(
        &mut self,
        turn: &mut Turn<'_>,
        name: &Name,
        entry: &Entry<'_>,
    ) -> Result<(), StateError> {
        // Where there is a bundle its key counts: the fingerprint beside it is a hint.
        let shown = entry.bundle.map_or(entry.fingerprint, |bundle| fingerprint(bundle.identity_key));
        let changed = turn.peer(name)?.0.peer.key_shown(shown) == ShownKey::Changed;
        if !changed {
            turn.remember_uid(name, entry.uid)?;
            turn.peer(name)?.0.uid = entry.uid;
        } else if !self.is_changed_for_good(turn, *name) {
            // Those who ask wait for the answer about roll-overs.
            return Ok(());
        }
        let bundle = entry.bundle.as_ref().map(bundle);
        self.resume(turn, name, changed.then_some(shown), bundle.as_ref())
    }

    /// The directory answered about a recipient's key: those who wait for it go on.
    pub(super) fn retry_recipient(&mut self, turn: &mut Turn<'_>, name: &Name) -> Result<(), StateError> {
        let changed = turn.peer(name)?.0.peer.changed();
        self.resume(turn, name, changed, None)
    }

    /// Those who wait for the directory go on, in their order.
    fn resume(
        &mut self,
        turn: &mut Turn<'_>,
        name: &Name,
        changed: Option<Fingerprint>,
        bundle: Option<&Bundle<'_>>,
    ) -> Result<(), StateError> {
        let asking = self.dispatch.asking(name);
        for id in &asking {
            self.dispatch.track(*id, 0);
        }
        let Some(shown) = changed else {
            return self.dispatch_in_order(turn, asking, bundle);
        };
        for id in asking {
            match OutboxItem::load(&turn.state, &key(id))? {
                Some(item) => self.handle_key_changed(turn, id, item, shown)?,
                None => drop(self.dispatch.tracked.remove(&id)),
            }
        }
        Ok(())
    }

    /// The directory has no answer about a recipient.
    pub(super) fn handle_no_recipient(
        &mut self,
        turn: &mut Turn<'_>,
        name: &Name,
        code: Code,
        retry_after_ms: u64,
    ) -> Result<(), StateError> {
        for id in self.dispatch.asking(name) {
            let Some(mut item) = OutboxItem::load(&turn.state, &key(id))? else {
                self.dispatch.tracked.remove(&id);
                continue;
            };
            if code == Code::from(ErrorCode::UnknownName) {
                self.refuse(turn, id, item, Drop::UnknownName, Wait::NameGone);
            } else if code.retry() {
                item.retries = item.retries.saturating_add(1);
                let pause_ms = outbox::retry_pause_ms(item.retries).max(retry_after_ms).min(PAUSE_MS_MAX);
                let until_ms = turn.now_ms.saturating_add(pause_ms);
                self.postpone(turn, id, item, until_ms, Wait::Refused(code));
            } else {
                self.refuse(turn, id, item, Drop::Refused(code), Wait::Refused(code));
            }
        }
        Ok(())
    }

    pub(super) fn handle_result(
        &mut self,
        turn: &mut Turn<'_>,
        outcome: &Outcome<'_>,
    ) -> Result<(), StateError> {
        let mut receipts = outcome.receipts.iter();
        for number in outcome.numbers() {
            let answer = match outcome.code {
                // The parser saw to it that there is one for each.
                ResultCode::Collected => Answer::Collected(receipts.next().unwrap_or(Receipt::ZERO)),
                ResultCode::Stored => Answer::Stored,
                ResultCode::Accepted => Answer::Accepted,
                ResultCode::Refused => Answer::Refused {
                    code: outcome.reason,
                    retry_after_ms: u64::from(outcome.retry_after_seconds) * 1_000,
                },
                ResultCode::Uncertain => Answer::Uncertain,
                ResultCode::Expired => Answer::Expired,
                ResultCode::Done => Answer::Done,
            };
            self.settle(turn, (outcome.lane, number), answer)?;
        }
        self.advance_outbox(turn)
    }

    /// Acts on an answer about a message. One that isn't in the outbox (any more) is none of ours.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>, id: Id, answer: Answer) -> Result<(), StateError> {
        let item = OutboxItem::load(&turn.state, &key(id))?;
        let Some((mut item, (session, epoch))) = item.and_then(|item| {
            item.sealed.as_ref().map(|sealed| (sealed.session, sealed.epoch)).map(|place| (item, place))
        }) else {
            return Ok(());
        };
        let verdict = outbox::verdict(&item, answer, turn.now_ms);
        log::debug!("{} {}: {answer:?}, so {verdict:?}", item.to, item.plaintext.id);
        match verdict {
            Verdict::LetGo => {
                turn.peer(&item.to)?.0.peer.receipt_verified(session, epoch);
                self.erase_item(turn, id);
                turn.event(fate(&item, Fate::Collected));
            }
            Verdict::Keep { until_ms, fate: what } => {
                turn.event(fate(&item, what));
                item.stored = true;
                self.store_until(turn, id, item, until_ms);
            }
            Verdict::SendAgain { renumber, until_ms, why } => {
                item.retries = item.retries.saturating_add(1);
                let id = if renumber { self.renumber(turn, id)? } else { id };
                self.postpone(turn, id, item, until_ms, why);
            }
            Verdict::EncryptAnew { until_ms } => {
                turn.peer(&item.to)?.0.peer.reject_seen(session);
                item.rejects = item.rejects.saturating_add(1);
                item.sealed = None;
                let id = self.renumber(turn, id)?;
                self.postpone(turn, id, item, until_ms, Wait::Rejected);
            }
            Verdict::Forget => {
                turn.peer(&item.to)?.0.peer.reject_seen(session);
                self.erase_item(turn, id);
            }
            Verdict::LookUp { until_ms, why } => {
                turn.peer(&item.to)?.0.uid = Uid::NONE;
                item.retries = item.retries.saturating_add(1);
                self.postpone(turn, id, item, until_ms, why);
            }
            Verdict::Drop(why) => self.drop_item(turn, id, &item, why),
        }
        Ok(())
    }

    /// The same message under a new id, in a lane of our own.
    fn renumber(&mut self, turn: &mut Turn<'_>, id: Id) -> Result<Id, StateError> {
        self.erase_item(turn, id);
        self.lanes.next_id(turn)
    }

    /// What was never sent is dropped: its user is told, and decides. What was sent before is kept,
    /// and tried again once a day: it was promised.
    fn refuse(&mut self, turn: &mut Turn<'_>, id: Id, item: OutboxItem, drop: Drop, wait: Wait) {
        if item.first_sent_ms == 0 {
            self.drop_item(turn, id, &item, drop);
        } else {
            let until_ms = turn.now_ms.saturating_add(STORED_PAUSE_MS);
            self.postpone(turn, id, item, until_ms, wait);
        }
    }

    fn ask_about(&mut self, turn: &mut Turn<'_>, id: Id, name: Name, want: Want) {
        self.dispatch.tracked.insert(id, Progress::Asking(name));
        self.ask(turn, Question::Recipient(name, want));
    }

    fn postpone(&mut self, turn: &mut Turn<'_>, id: Id, item: OutboxItem, until_ms: u64, why: Wait) {
        turn.event(fate(&item, Fate::Waits { until_ms, why }));
        self.store_until(turn, id, item, until_ms);
    }

    fn store_until(&mut self, turn: &mut Turn<'_>, id: Id, mut item: OutboxItem, until_ms: u64) {
        item.not_before_ms = until_ms;
        item.store(&mut turn.state, key(id));
        // A notice may be about a lane of another process, which then looks after the message itself.
        if self.lanes.holds(id.0) {
            self.dispatch.track(id, until_ms);
        }
    }

    fn drop_item(&mut self, turn: &mut Turn<'_>, id: Id, item: &OutboxItem, why: Drop) {
        self.erase_item(turn, id);
        turn.event(fate(item, Fate::Dropped(why)));
    }

    fn erase_item(&mut self, turn: &mut Turn<'_>, id: Id) {
        self.dispatch.tracked.remove(&id);
        turn.state.remove(key(id));
    }
}

fn key((lane, number): Id) -> Key {
    Key::Outbox(lane, number)
}

fn fate(item: &OutboxItem, fate: Fate) -> Event {
    Event::Fate { id: item.plaintext.id, to: item.to, fate }
}
