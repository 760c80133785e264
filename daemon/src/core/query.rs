//! QUERY: what is known of ids (spec/wire.md, section 5).
//!
//! Owns: the answer. It changes nothing; what is remembered is `lane`'s.

use e2e_protocol::limits::{HEADER_BYTES, QUERY_COUNT_MAX};
use e2e_protocol::wire::query::{IdState, Query, States};

use super::lane::Seen;
use super::{ConnId, Core};

impl Core {
    pub(super) fn handle_query(&mut self, id: ConnId, slot: u32, query: &Query) {
        let is_private = self.policy.presence_private;
        let lanes = self.users.at(slot).and_then(|user| user.active.as_mut()).map(|active| &mut active.lanes);
        let lane = lanes.and_then(|lanes| lanes.at(lanes.position(query.lane)?)).map(|lane| &*lane);
        let state_of = |number| match lane.map_or(Seen::New, |lane| lane.seen(number)) {
            Seen::New | Seen::Uncertain => IdState::Unknown,
            Seen::Pending => IdState::Waiting,
            Seen::Stored | Seen::Done if is_private => IdState::Accepted,
            Seen::Stored => IdState::Stored,
            Seen::Done => IdState::Done,
        };
        let mut frame = [0; HEADER_BYTES + 24 + QUERY_COUNT_MAX as usize];
        if let Ok(count) = States::emit(&mut frame, query, state_of)
            && let Some(connection) = self.connections.get_mut(id)
        {
            connection.output.push_frame(&mut self.outputs, frame.get(..count).unwrap_or_default());
            self.flush_later(id);
        }
    }
}
