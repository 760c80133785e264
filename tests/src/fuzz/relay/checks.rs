//! What must hold whatever peers do (spec/wire.md, sections 4 to 6).
//!
//! Owns: what each peer said and was told, and the verdicts. That only whole frames come, in the order of sequences and
//! nothing behind a last word, is looked at where they are read (`core_common::link`).

use std::collections::{HashMap, VecDeque};

use e2e_protocol::limits::{BODY_BYTES_MAX, ENVELOPE_OFFSET};
use e2e_protocol::wire::session::{Credit, Receive};
use e2e_protocol::wire::{Frame, Parsed};

use super::Relay;

/// A PROOF's name, by position in the simulator's, and key.
type Identity = (usize, usize);

#[derive(Default)]
pub(super) struct Ledger {
    peers: HashMap<usize, Said>,
    /// How often each id was sent, by whoever has that name, and how many results came for it.
    sent: HashMap<(usize, u64, u64), (u32, u32)>,
    /// Of each name, the one-time prekeys that were handed out, and how often they were published.
    handed_out: HashMap<(String, u8), u32>,
    published: HashMap<u8, u32>,
}

/// What one peer said.
#[derive(Default)]
struct Said {
    /// What is not a whole frame yet; nothing counts behind what is none.
    partial: Vec<u8>,
    is_broken: bool,
    proven: Option<(Identity, Receive)>,
    /// Sequence and bytes of what was delivered and not acknowledged.
    unacked: VecDeque<(u64, usize)>,
    unacked_bytes: usize,
}

impl Ledger {
    pub(super) fn note_proof(&mut self, peer: usize, who: usize, key: usize, receive: Receive) {
        // The first counts: a second one ends the connection.
        self.peers.entry(peer).or_default().proven.get_or_insert(((who, key), receive));
    }

    pub(super) fn identity(&self, peer: usize) -> Option<Identity> {
        self.peers.get(&peer)?.proven.map(|(identity, _)| identity)
    }

    /// Looks for whole frames in what a peer says.
    pub(super) fn note_said(&mut self, peer: usize, bytes: &[u8]) {
        let said = self.peers.entry(peer).or_default();
        said.partial.extend_from_slice(bytes);
        let partial = std::mem::take(&mut said.partial);
        let mut rest = partial.as_slice();
        while !said.is_broken && !rest.is_empty() {
            match Frame::parse(rest, BODY_BYTES_MAX) {
                Ok(Parsed::Frame(frame, count)) => {
                    match frame {
                        Frame::Send(send) => {
                            let who = said.proven.map_or(usize::MAX, |((who, _), _)| who);
                            let routing = send.routing;
                            self.sent.entry((who, routing.lane.0, routing.number.0)).or_default().0 += 1;
                        }
                        Frame::Ack(ack) => {
                            for _ in 0..ack.receipts.len() {
                                let bytes = said.unacked.pop_front().map_or(0, |(_, bytes)| bytes);
                                said.unacked_bytes -= bytes;
                            }
                        }
                        Frame::Publish(publish) => {
                            for modulus in publish.batch.iter().flat_map(|batch| batch.moduli) {
                                *self.published.entry(modulus[1]).or_default() += 1;
                            }
                        }
                        _ => {}
                    }
                    rest = &rest[count..];
                }
                Ok(Parsed::Incomplete { .. }) => break,
                Err(_) => said.is_broken = true,
            }
        }
        said.partial = rest.to_vec();
    }

    /// The oldest that waits for an acknowledgement, and how many up to `count` follow it without a gap.
    pub(super) fn oldest(&self, peer: usize, count: usize) -> Option<(u64, usize)> {
        let unacked = &self.peers.get(&peer)?.unacked;
        let (first, _) = *unacked.front()?;
        let in_row = (first..).zip(unacked).take_while(|(next, (sequence, _))| next == sequence);
        Some((first, in_row.take(count).count()))
    }
}

impl Relay<'_> {
    pub(super) fn look(&mut self) {
        let (names, connections, ring_bytes) = self.world.core.counts();
        let limits = &self.world.limits;
        assert!(ring_bytes <= limits.ring_bytes_max, "{ring_bytes} bytes of rings");
        // One that is being told that there are too many.
        let over = self.world.links.iter().filter(|link| link.closed.is_none()).count();
        assert!(connections <= over, "{connections} connections, and {over} were opened");
        assert!(names <= limits.names_max, "{names} names");
        for peer in 0..self.world.links.len() {
            self.look_at_deliveries(peer);
            self.look_at_results(peer);
            self.look_at_prekeys(peer);
        }
    }

    fn look_at_deliveries(&mut self, peer: usize) {
        let delivered = self.world.delivered(peer);
        if delivered.is_empty() {
            return;
        }
        let said = self.ledger.peers.entry(peer).or_default();
        for delivery in &delivered {
            let bytes = ENVELOPE_OFFSET + delivery.envelope.len();
            said.unacked.push_back((delivery.sequence, bytes));
            said.unacked_bytes += bytes;
        }
        let credit = match said.proven {
            Some((_, Receive::TakeOver(credit) | Receive::IfNobody(credit))) => credit,
            _ => Credit { messages: 0, bytes: 0 },
        };
        let fits =
            said.unacked.len() <= credit.messages as usize && said.unacked_bytes <= credit.bytes as usize;
        assert!(fits, "{} messages and {} bytes, over {credit:?}", said.unacked.len(), said.unacked_bytes);
    }

    /// Each SEND has at most two results, and nothing has any that was not sent.
    fn look_at_results(&mut self, peer: usize) {
        let results = std::mem::take(&mut self.world.links[peer].results);
        for told in results {
            let who = self.ledger.identity(peer).map_or(usize::MAX, |(who, _)| who);
            let (sent, heard) = self.ledger.sent.entry((who, told.lane, told.number)).or_default();
            *heard += 1;
            assert!(*heard <= 2 * *sent, "{told:?}: {heard} results of what was sent {sent} times");
        }
    }

    /// No one-time prekey is handed out more often than it was published.
    fn look_at_prekeys(&mut self, peer: usize) {
        let found = std::mem::take(&mut self.world.links[peer].found);
        for entry in found {
            let Some(mark) = entry.one_time else { continue };
            let handed_out = self.ledger.handed_out.entry((entry.name.clone(), mark)).or_default();
            *handed_out += 1;
            let published = self.ledger.published.get(&mark).copied().unwrap_or_default();
            assert!(*handed_out <= published, "{entry:?}: published {published} times");
        }
    }
}
