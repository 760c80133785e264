//! The receipt: proof that the recipient's client opened an envelope and made it durable.
//!
//! This file owns comparing it. It is made in `message`, from a key that only the two ends have.
//! Source: spec/crypto.md, "Receipts".

use crate::ids::Receipt;
use crate::login::notation::equal;

/// What an answer from the recipient's side says about the envelope that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The recipient's client opened it and made it durable. Not: somebody read it.
    Received,
    /// The recipient's client says that it could not open it. Anybody on the path can fake this.
    Rejected,
    /// Neither: something on the path made it up. The envelope is sent again.
    Forged,
}

/// Judges `answered`, which came with a message's result, by the `expected` receipt, in constant time.
#[must_use]
pub fn judge(expected: &Receipt, answered: &Receipt) -> Answer {
    if equal(&expected.0, &answered.0) {
        Answer::Received
    } else if *answered == Receipt::ZERO {
        Answer::Rejected
    } else {
        Answer::Forged
    }
}
