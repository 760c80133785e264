//! A sender and a receiver who exchange messages while something else happens on their relay.

use std::net::SocketAddr;

use e2e_protocol::ids::{Lane, Uid};
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_protocol::wire::transfer::ResultCode;

use crate::raw::{AMPLE, Raw, receipt_for, send_frame};

/// Two logged-in connections.
#[derive(Debug)]
pub struct Pair {
    /// Who sends.
    pub sender: Raw,
    /// Who receives.
    pub receiver: Raw,
    /// The receiver's uid.
    pub to: Uid,
    lane: Lane,
    number: u64,
}

impl Pair {
    /// Registers `NAME-from` and `NAME-to`.
    ///
    /// # Panics
    /// If the relay refuses.
    #[must_use]
    pub fn new(address: SocketAddr, name: &str) -> Self {
        let (receiver, welcome) =
            Raw::login(address, &format!("{name}-to"), Purpose::Register, Receive::TakeOver(AMPLE));
        let (sender, _) = Raw::login(address, &format!("{name}-from"), Purpose::Register, Receive::No);
        Self { sender, receiver, to: welcome.uid, lane: Lane(0xBE), number: 0 }
    }

    /// Sends one message, and sees it delivered, acknowledged and reported, with its receipt.
    ///
    /// # Panics
    /// If anything else happens.
    pub fn exchange(&mut self) {
        self.number += 1;
        let envelope = format!("message {}", self.number);
        self.sender.send(&send_frame(self.to, self.lane, self.number, envelope.as_bytes()));
        let delivery = self.receiver.next_delivery();
        assert_eq!(String::from_utf8_lossy(&delivery.envelope), envelope);
        assert_eq!((delivery.routing.lane, delivery.routing.number.0), (self.lane, self.number));
        let sequence = delivery.routing.sequence;
        self.receiver.acknowledge(sequence, 1);
        let results = loop {
            // STORED comes first where the acknowledgement took its time.
            let results = self.sender.next_results();
            if results.code != ResultCode::Stored {
                break results;
            }
        };
        assert_eq!((results.code, results.first, results.count), (ResultCode::Collected, self.number, 1));
        assert_eq!(results.receipts, [receipt_for(sequence.0)]);
    }
}
