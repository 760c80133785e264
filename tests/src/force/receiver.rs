//! A receiver that comes and goes, acknowledges at once or late or not at all, and remembers what it has seen.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use e2e_protocol::ids::Sequence;
use e2e_protocol::wire::Frame;
use e2e_protocol::wire::session::{Credit, Purpose, Receive};

use super::{Field, envelope};
use crate::dice::Dice;
use crate::process::wait_for;
use crate::raw::{AMPLE, Raw};

/// Everything that a receiver has seen.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// How often each number came.
    pub(super) times: BTreeMap<u64, u64>,
    /// What came with other bytes, or out of its sequence.
    pub(super) wrong: u64,
}

impl Arrived {
    pub(super) fn add(&mut self, other: Self) {
        for (number, times) in other.times {
            *self.times.entry(number).or_default() += times;
        }
        self.wrong += other.wrong;
    }

    /// Notes a message; `last` is the sequence before it on this connection.
    fn note(&mut self, number: u64, bytes: &[u8], sequence: Sequence, last: &mut Sequence) {
        *self.times.entry(number).or_default() += 1;
        if bytes != envelope(number) || sequence <= *last {
            self.wrong += 1;
        }
        *last = sequence;
    }
}

/// The sequence of the next message, noted; `None` if the connection is over.
fn next(raw: &mut Raw, arrived: &mut Arrived, last: &mut Sequence) -> Option<Sequence> {
    loop {
        let came = raw.try_next(|frame| match frame {
            Frame::Deliver(message) => {
                let (number, sequence) = (message.routing.number.0, message.routing.sequence);
                arrived.note(number, message.envelope(), sequence, last);
                Some(Some(sequence))
            }
            Frame::Error(error) if error.closes => Some(None),
            _ => None,
        })?;
        if let Some(sequence) = came {
            return sequence;
        }
    }
}

/// Receives until the field says that it is enough, and its connection ends.
pub(super) fn receive(field: &Field, name: &str, seed: u64) -> Arrived {
    let mut dice = Dice::new(seed);
    let mut arrived = Arrived::default();
    while field.receiving.load(SeqCst) {
        let credit = dice.pick(&[
            AMPLE,
            Credit { messages: 100, bytes: 1 << 20 },
            Credit { messages: 7, bytes: 20_000 },
        ]);
        let login = Raw::try_login(field.address(), name, Purpose::Register, Receive::TakeOver(credit));
        let Some((mut raw, _)) = login else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        let stays = dice.range(1..3_000);
        let (mut last, mut taken) = (Sequence(0), 0);
        // It is durable, then acknowledged: a step of its own now and then.
        while let Some(sequence) = next(&mut raw, &mut arrived, &mut last) {
            taken += 1;
            if taken == stays {
                break; // without an acknowledgement for the last
            }
            if dice.per_mille(2) {
                thread::sleep(Duration::from_millis(dice.range(1..400)));
            }
            raw.acknowledge(sequence, 1);
        }
        drop(raw);
        if dice.per_mille(300) && field.receiving.load(SeqCst) {
            thread::sleep(Duration::from_millis(dice.range(1..300)));
        }
    }
    arrived
}

/// Takes what is left in a mailbox, and sees that it is empty then.
pub(super) fn drain(field: &Field, name: &str) -> Arrived {
    let mut arrived = Arrived::default();
    wait_for("an empty mailbox", || {
        let receive = Receive::TakeOver(AMPLE);
        let (mut raw, welcome) = Raw::try_login(field.address(), name, Purpose::Register, receive)?;
        let mut last = Sequence(0);
        for _ in 0..welcome.queued {
            let sequence = next(&mut raw, &mut arrived, &mut last)?;
            raw.acknowledge(sequence, 1);
        }
        raw.ping();
        (welcome.queued == 0).then_some(())
    });
    arrived
}
