//! What each byte of an envelope is called: the tables of spec/crypto.md as data, for people who look at bytes.
//!
//! This file owns names, order and lengths of the fields. It must not know whether an envelope is a good one, which
//! is `envelope`'s: so a broken one can be explained as far as it goes.

use super::envelope::{HEADER_BYTES, TAG_BYTES, TYPE_BARE, TYPE_INIT, TYPE_STEP};
use super::init::{INIT_BYTES, INIT_WITH_OPK_BYTES};
use super::step::STEP_BYTES;
use crate::ids::{MODULUS_BYTES, SIGNATURE_BYTES};
use crate::login::notation::HASH_BYTES;
use crate::wire::layout::Item::{self, Choice, Number, Opaque, Zero};
use crate::wire::layout::{Field, PROFILES, explain_as};

const TYPES: &[(u64, &str)] =
    &[(TYPE_BARE as u64, "bare"), (TYPE_INIT as u64, "with INIT"), (TYPE_STEP as u64, "with STEP")];

const HEADER: &[Item] = &[
    Number("version of the envelope", 1),
    Choice("type", 1, TYPES),
    Zero(2),
    Opaque("sid", 16),
    Number("e, the epoch", 4),
    Number("n, the number", 4),
    Number("pn, messages of the chain before", 4),
    Number("length of the preamble", 2),
    Number("length of ek", 2),
    Number("length of data", 4),
    Opaque("iv", 16),
];

const INIT: &[Item] = &[
    Opaque("N(IK_A)", MODULUS_BYTES),
    Opaque("N(R_A)", MODULUS_BYTES),
    Choice("profile_A", 1, PROFILES),
    Opaque("kid(SPK)", 8),
    Opaque("kid(OPK)", 8),
    Opaque("c1", MODULUS_BYTES),
];
const WITHOUT_OPK: &[Item] = &[Item::All(INIT), Opaque("sig", SIGNATURE_BYTES)];
const WITH_OPK: &[Item] = &[Item::All(INIT), Opaque("c2", MODULUS_BYTES), Opaque("sig", SIGNATURE_BYTES)];

const STEP: &[Item] =
    &[Opaque("N(R_new)", MODULUS_BYTES), Opaque("c", MODULUS_BYTES), Opaque("auth", HASH_BYTES)];

/// Shows each field of an envelope, in order and without gaps, as far as it is there. `offset` is where it begins in
/// what its reader looks at.
pub fn explain_envelope<'a>(envelope: &'a [u8], offset: usize, see: &mut dyn FnMut(Field<'a>)) {
    let (header, mut rest) = envelope.split_at(envelope.len().min(HEADER_BYTES));
    explain_as(HEADER, header, offset, see);
    let length = |at: usize, count: usize| {
        let bytes = header.get(at..at + count).unwrap_or_default();
        bytes.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte))
    };
    let (preamble_bytes, ek_bytes, data_bytes) = (length(32, 2), length(34, 2), length(36, 4));
    let preamble = match preamble_bytes {
        INIT_BYTES => WITHOUT_OPK,
        INIT_WITH_OPK_BYTES => WITH_OPK,
        STEP_BYTES => STEP,
        _ => &[Item::Rest("preamble")],
    };
    let parts: [(&[Item], usize); 4] = [
        (preamble, preamble_bytes),
        (&[Item::Rest("ek")], ek_bytes),
        (&[Item::Rest("data")], data_bytes),
        (&[Item::Rest("tag")], TAG_BYTES),
    ];
    for (layout, bytes) in parts {
        let (part, after) = rest.split_at(rest.len().min(bytes));
        if !part.is_empty() {
            explain_as(layout, part, offset + envelope.len() - rest.len(), see);
        }
        rest = after;
    }
    explain_as(&[Item::Rest("left over")], rest, offset + envelope.len() - rest.len(), see);
}
