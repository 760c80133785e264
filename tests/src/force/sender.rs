//! A sender that goes on whatever happens: what has no result when a connection ends is sent again, under the same id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use e2e_protocol::ids::Lane;
use e2e_protocol::limits::LANE_WINDOW;
use e2e_protocol::wire::Frame;
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_protocol::wire::transfer::ResultCode;

use super::{Field, envelope};
use crate::raw::{Raw, send_frame};

/// The one lane of a sender.
pub(super) const LANE: Lane = Lane(0xF0);

/// Before connecting, or sending what was refused, once more.
const PAUSE: Duration = Duration::from_millis(20);

/// What a sender was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The numbers that the relay answers for, and whether STORED was said first.
    pub(super) accepted: BTreeMap<u64, bool>,
}

/// Sends to `to` until the field says that it is enough, and each message has a result.
pub(super) fn send(field: &Field, from: &str, to: &str) -> Told {
    let mut told = Told::default();
    // Numbers without a result. A connection may bring one for each twice, so it is known which are on it.
    let (mut open, mut next) = (BTreeSet::new(), 1);
    while field.sending.load(SeqCst) || !open.is_empty() {
        let login = Raw::try_login(field.address(), from, Purpose::Register, Receive::No);
        let Some((mut raw, uid)) = login.and_then(|(mut raw, _)| raw.try_uid_of(to).map(|uid| (raw, uid)))
        else {
            thread::sleep(PAUSE);
            continue;
        };
        for number in &open {
            raw.send(&send_frame(uid, LANE, *number, &envelope(*number)));
        }
        loop {
            while field.sending.load(SeqCst) && open.first().is_none_or(|oldest| next < oldest + LANE_WINDOW)
            {
                raw.send(&send_frame(uid, LANE, next, &envelope(next)));
                open.insert(next);
                next += 1;
            }
            if open.is_empty() {
                break;
            }
            let Some(again) = raw.try_next(|frame| take(frame, field, &mut told, &mut open)).flatten() else {
                break;
            };
            if !again.is_empty() {
                thread::sleep(PAUSE);
            }
            for number in again {
                raw.send(&send_frame(uid, LANE, number, &envelope(number)));
            }
        }
    }
    told
}

/// Takes what came; gives the numbers to send again, or `None` if the connection is over.
fn take(frame: Frame<'_>, field: &Field, told: &mut Told, open: &mut BTreeSet<u64>) -> Option<Vec<u64>> {
    let result = match frame {
        Frame::Result(result) if result.lane == LANE => result,
        Frame::Error(error) if error.closes => return None,
        _ => return Some(Vec::new()),
    };
    let numbers = result.first.0..result.first.0 + u64::from(result.count);
    match result.code {
        ResultCode::Stored | ResultCode::Collected | ResultCode::Done => {
            for number in numbers.filter(|number| open.remove(number)) {
                told.accepted.insert(number, result.code == ResultCode::Stored);
                field.accepted.fetch_add(1, SeqCst);
            }
            Some(Vec::new())
        }
        ResultCode::Refused | ResultCode::Uncertain => {
            Some(numbers.filter(|number| open.contains(number)).collect())
        }
        code => panic!("{code:?} of {numbers:?}"),
    }
}
