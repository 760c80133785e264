//! The outbox policy, one verdict for each answer that there can be (spec/crypto.md, "Outbox").

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use e2e_client::engine::outbox::{
    Answer, KEPT_MS_MAX, REJECT_PAUSE_MS_MIN, RETRY_PAUSE_MS_MAX, RETRY_PAUSE_MS_MIN, STORED_PAUSE_MS,
    Verdict, is_too_old, retry_pause_ms, verdict,
};
use e2e_client::engine::{Drop, Fate, Wait};
use e2e_client::state::OutboxItem;
use e2e_client::state::items::Sealed;
use e2e_protocol::e2e::{Kind, Plaintext};
use e2e_protocol::ids::{MessageId, Receipt, SessionId};
use e2e_protocol::wire::{Code, ErrorCode};

const NOW_MS: u64 = 1_800_000_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const RECEIPT: Receipt = Receipt([5; 32]);

fn item() -> OutboxItem {
    let plaintext = Plaintext {
        id: MessageId([1; 16]),
        kind: Kind::Text,
        time_ms: NOW_MS,
        body: b"text".to_vec().into(),
    };
    OutboxItem {
        first_sent_ms: NOW_MS,
        sealed: Some(Sealed {
            session: SessionId([2; 16]),
            epoch: 0,
            receipt: RECEIPT,
            envelope: vec![3; 100],
        }),
        ..OutboxItem::new("bob".parse().unwrap(), plaintext)
    }
}

fn refused(code: ErrorCode, retry_after_ms: u64) -> Answer {
    Answer::Refused { code: code.into(), retry_after_ms }
}

#[test]
fn lets_go_on_the_receipt_that_it_expects() {
    assert_eq!(verdict(&item(), Answer::Collected(RECEIPT), NOW_MS), Verdict::LetGo);
}

#[test]
fn lets_go_on_no_other_answer_but_age() {
    let mut wrong = RECEIPT;
    wrong.0[31] ^= 1;
    let mut answers = vec![
        Answer::Collected(wrong),
        Answer::Collected(Receipt::ZERO),
        Answer::Stored,
        Answer::Uncertain,
        Answer::Expired,
        Answer::Done,
    ];
    answers.extend(ErrorCode::ALL.map(|code| refused(code, 0)));
    for answer in answers {
        assert_ne!(verdict(&item(), answer, NOW_MS), Verdict::LetGo, "{answer:?}");
    }
}

#[test]
fn sends_the_same_envelope_under_a_new_number_after_a_forged_receipt() {
    let verdict = verdict(&item(), Answer::Collected(Receipt([6; 32])), NOW_MS);
    assert_eq!(verdict, Verdict::SendAgain { renumber: true, until_ms: NOW_MS, why: Wait::Unproven });
}

#[test]
fn encrypts_anew_after_a_reject_at_once_then_after_ten_minutes_doubling_to_a_day() {
    let mut item = item();
    let mut pauses = Vec::new();
    for rejects in 0..10 {
        item.rejects = rejects;
        let Verdict::EncryptAnew { until_ms } = verdict(&item, Answer::Collected(Receipt::ZERO), NOW_MS)
        else {
            panic!("a reject is a reject");
        };
        pauses.push(until_ms - NOW_MS);
    }
    let minutes: Vec<u64> = pauses.iter().map(|ms| ms / 60_000).collect();
    assert_eq!(minutes, [0, 10, 20, 40, 80, 160, 320, 640, 1_280, 1_440]);
    assert_eq!(pauses[1], REJECT_PAUSE_MS_MIN);
}

#[test]
fn forgets_an_empty_message_after_a_reject() {
    let mut item = item();
    item.plaintext.kind = Kind::Nothing;
    assert_eq!(verdict(&item, Answer::Collected(Receipt::ZERO), NOW_MS), Verdict::Forget);
}

#[test]
fn keeps_what_is_stored_until_its_receipt_and_asks_after_a_day() {
    let verdict = verdict(&item(), Answer::Stored, NOW_MS);
    let until_ms = NOW_MS + STORED_PAUSE_MS;
    assert_eq!(verdict, Verdict::Keep { until_ms, fate: Fate::Stored });
}

#[test]
fn keeps_what_is_accepted_and_takes_a_new_number_when_it_is_said_again() {
    let until_ms = NOW_MS + STORED_PAUSE_MS;
    let first = verdict(&item(), Answer::Accepted, NOW_MS);
    assert_eq!(first, Verdict::Keep { until_ms, fate: Fate::Accepted });
    let again = verdict(&OutboxItem { stored: true, ..item() }, Answer::Accepted, NOW_MS);
    assert_eq!(again, Verdict::SendAgain { renumber: true, until_ms, why: Wait::Unproven });
}

#[test]
fn sends_the_same_id_again_when_uncertain() {
    let verdict = verdict(&item(), Answer::Uncertain, NOW_MS);
    assert!(matches!(verdict, Verdict::SendAgain { renumber: false, why: Wait::Uncertain, .. }));
}

#[test]
fn sends_under_a_new_number_when_done_but_unproven() {
    let verdict = verdict(&item(), Answer::Done, NOW_MS);
    assert_eq!(verdict, Verdict::SendAgain { renumber: true, until_ms: NOW_MS, why: Wait::Unproven });
}

#[test]
fn sends_under_a_new_number_when_the_id_is_used_up() {
    for code in [ErrorCode::IdTooOld, ErrorCode::IdConflict] {
        let verdict = verdict(&item(), refused(code, 0), NOW_MS);
        assert!(matches!(verdict, Verdict::SendAgain { renumber: true, until_ms: NOW_MS, .. }), "{code}");
    }
}

#[test]
fn looks_the_recipient_up_again_when_the_uid_is_old() {
    for code in [ErrorCode::UnknownRecipient, ErrorCode::KeyChanged] {
        let verdict = verdict(&item(), refused(code, 0), NOW_MS);
        assert!(matches!(verdict, Verdict::LookUp { until_ms: NOW_MS, .. }), "{code}");
    }
}

#[test]
fn waits_as_long_as_the_relay_asks_for() {
    for code in [ErrorCode::MailboxFull, ErrorCode::Busy, ErrorCode::StoreFailed] {
        let Verdict::SendAgain { renumber: false, until_ms, .. } =
            verdict(&item(), refused(code, 90_000), NOW_MS)
        else {
            panic!("{code}");
        };
        assert_eq!(until_ms, NOW_MS + 90_000);
        let Verdict::SendAgain { until_ms, .. } = verdict(&item(), refused(code, 0), NOW_MS) else {
            panic!()
        };
        assert_eq!(until_ms, NOW_MS + RETRY_PAUSE_MS_MIN, "never at once");
    }
}

#[test]
fn treats_an_unknown_code_by_its_upper_byte() {
    let later = Answer::Refused { code: Code(0x02FE), retry_after_ms: 0 };
    assert!(matches!(verdict(&item(), later, NOW_MS), Verdict::SendAgain { renumber: false, .. }));
    let never = Answer::Refused { code: Code(0x01FE), retry_after_ms: 0 };
    let Verdict::SendAgain { renumber: false, why, .. } = verdict(&item(), never, NOW_MS) else {
        panic!("the relay's word alone let go of a message");
    };
    assert_eq!(why, Wait::Refused(Code(0x01FE)));
}

#[test]
fn gives_up_an_expired_message_after_30_days_and_not_before() {
    let answer = Answer::Expired;
    let before = verdict(&item(), answer, NOW_MS + KEPT_MS_MAX - 1);
    assert!(matches!(before, Verdict::SendAgain { renumber: false, .. }));
    assert_eq!(verdict(&item(), answer, NOW_MS + KEPT_MS_MAX), Verdict::Drop(Drop::TooOld));
    assert_eq!(KEPT_MS_MAX, 30 * DAY_MS);
}

#[test]
fn what_was_never_sent_does_not_grow_old() {
    let unsent = OutboxItem { first_sent_ms: 0, ..item() };
    assert!(!is_too_old(&unsent, NOW_MS + 100 * DAY_MS));
}

#[test]
fn a_lying_relay_cannot_make_a_flood() {
    let pauses: Vec<u64> = (0..20).map(retry_pause_ms).collect();
    assert_eq!(pauses[..3], [0, RETRY_PAUSE_MS_MIN, 2 * RETRY_PAUSE_MS_MIN]);
    assert_eq!(pauses[19], RETRY_PAUSE_MS_MAX);
    assert_eq!(retry_pause_ms(u32::MAX), RETRY_PAUSE_MS_MAX);
    let mut tired = item();
    tired.retries = 5;
    for answer in [Answer::Collected(Receipt([6; 32])), Answer::Done, refused(ErrorCode::IdTooOld, 0)] {
        let Verdict::SendAgain { until_ms, .. } = verdict(&tired, answer, NOW_MS) else {
            panic!("{answer:?}")
        };
        assert_eq!(until_ms, NOW_MS + retry_pause_ms(5));
    }
}
