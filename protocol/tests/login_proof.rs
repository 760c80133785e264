//! Proof of possession, as the relay checks it.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod e2e_support;

use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::{Fingerprint, Nonce, RelayId, Uid};
use e2e_protocol::login::{
    LOGIN_BYTES_MAX, Login, LoginError, Purpose, Removal, RollOver, RollOverError, token_proof, verify_login,
    verify_removal, verify_roll_over, verify_token_proof,
};
use e2e_support::{key, name, rng};

#[test]
fn signature_is_bound_to_every_field() {
    let identity = Identity::from(key("alice-ik"));
    let (relay_id, nonce, alice) = (RelayId([1; 32]), Nonce([2; 32]), name("alice"));
    let login = Login {
        version: 1,
        purpose: Purpose::Login,
        relay_id: &relay_id,
        nonce: &nonce,
        name: &alice,
        fingerprint: identity.fingerprint(),
    };
    let signature = identity.sign_login(&login, &mut rng(1));
    let verdict = |login: &Login<'_>| verify_login(identity.modulus(), login, &signature);
    assert_eq!(verdict(&login), Ok(()));
    let other_name = name("alicf");
    for other in [
        Login { version: 2, ..login },
        Login { purpose: Purpose::Register, ..login },
        Login { relay_id: &RelayId([3; 32]), ..login },
        Login { nonce: &Nonce([3; 32]), ..login },
        Login { name: &other_name, ..login },
    ] {
        assert_eq!(verdict(&other), Err(LoginError::BadSignature));
        assert!(!verify_token_proof(b"token", &other, &token_proof(b"token", &login)));
    }
    let other = Login { fingerprint: &Fingerprint([3; 32]), ..login };
    assert_eq!(verdict(&other), Err(LoginError::WrongFingerprint));
}

#[test]
fn key_that_is_no_modulus_is_refused_first() {
    let mut modulus = *key("alice-ik").modulus();
    modulus[255] &= 0xfe;
    let login = Login {
        version: 1,
        purpose: Purpose::Login,
        relay_id: &RelayId::ZERO,
        nonce: &Nonce::ZERO,
        name: &name("alice"),
        fingerprint: &Fingerprint::ZERO,
    };
    assert_eq!(verify_login(&modulus, &login, &[0; 256]), Err(LoginError::BadModulus));
}

#[test]
fn longest_login_fits() {
    let login = Login {
        version: u16::MAX,
        purpose: Purpose::Register,
        relay_id: &RelayId::ZERO,
        nonce: &Nonce::ZERO,
        name: &name(&"a".repeat(32)),
        fingerprint: &Fingerprint([9; 32]),
    };
    let bytes = login.signed_bytes();
    assert_eq!(bytes.as_bytes().len(), LOGIN_BYTES_MAX);
    assert!(bytes.as_bytes().ends_with(&[9; 32]));
}

#[test]
fn roll_over_is_signed_by_both_keys_over_every_field() {
    let (old, new) = (Identity::from(key("alice-ik")), Identity::from(key("bob-ik")));
    let alice = name("alice");
    let roll_over =
        RollOver { name: &alice, former: old.fingerprint(), fingerprint: new.fingerprint(), time_ms: 7 };
    let expected = [
        &b"\x09RLY1/roll\x00\x00\x00\x05alice"[..],
        &old.fingerprint().0,
        &new.fingerprint().0,
        &7_u64.to_be_bytes(),
    ];
    assert_eq!(roll_over.signed_bytes().as_bytes(), expected.concat());
    let by_old = old.sign_roll_over(&roll_over, &mut rng(1));
    let by_new = new.sign_roll_over(&roll_over, &mut rng(2));
    let (old, new) = (old.modulus(), new.modulus());
    assert_eq!(verify_roll_over(&alice, old, new, 7, &by_old, &by_new), Ok(()));
    let former = Err(RollOverError::BadFormerSignature);
    assert_eq!(verify_roll_over(&name("alicf"), old, new, 7, &by_old, &by_new), former);
    assert_eq!(verify_roll_over(&alice, old, new, 8, &by_old, &by_new), former);
    assert_eq!(verify_roll_over(&alice, new, old, 7, &by_new, &by_old), former, "the other way round");
    assert_eq!(verify_roll_over(&alice, old, new, 7, &by_new, &by_new), former);
    let one_only = verify_roll_over(&alice, old, new, 7, &by_old, &by_old);
    assert_eq!(one_only, Err(RollOverError::BadSignature));
    let same = verify_roll_over(&alice, old, old, 7, &by_old, &by_old);
    assert_eq!(same, Err(RollOverError::SameKey));
    let mut even = *new;
    even[255] &= 0xfe;
    assert_eq!(verify_roll_over(&alice, old, &even, 7, &by_old, &by_new), Err(RollOverError::BadModulus));
    assert_eq!(verify_roll_over(&alice, &even, new, 7, &by_old, &by_new), Err(RollOverError::BadModulus));
}

#[test]
fn longest_roll_over_fits() {
    let (a, b) = (Fingerprint([8; 32]), Fingerprint([9; 32]));
    let roll_over = RollOver { name: &name(&"a".repeat(32)), former: &a, fingerprint: &b, time_ms: u64::MAX };
    assert!(roll_over.signed_bytes().as_bytes().ends_with(&[0xff; 8]));
}

#[test]
fn removal_is_signed_over_every_field() {
    let identity = Identity::from(key("alice-ik"));
    let (relay_id, alice, uid) = (RelayId([1; 32]), name("alice"), Uid(0x0102_0304_0506_0708));
    let removal = Removal { relay_id: &relay_id, uid, name: &alice, fingerprint: identity.fingerprint() };
    let expected = [
        &b"\x0bRLY1/remove"[..],
        &[1; 32],
        &[1, 2, 3, 4, 5, 6, 7, 8],
        b"\x00\x00\x00\x05alice",
        &identity.fingerprint().0,
    ];
    assert_eq!(removal.signed_bytes().as_bytes(), expected.concat());
    let signature = identity.sign_removal(&removal, &mut rng(1));
    let verifies = |removal: &Removal<'_>| verify_removal(identity.modulus(), removal, &signature);
    assert!(verifies(&removal));
    let other_name = name("alicf");
    for other in [
        Removal { relay_id: &RelayId([3; 32]), ..removal },
        Removal { uid: Uid(1), ..removal },
        Removal { name: &other_name, ..removal },
        Removal { fingerprint: &Fingerprint([3; 32]), ..removal },
    ] {
        assert!(!verifies(&other), "{other:?}");
    }
    let other = Identity::from(key("bob-ik"));
    let by_other = other.sign_removal(&Removal { fingerprint: other.fingerprint(), ..removal }, &mut rng(2));
    assert!(!verify_removal(identity.modulus(), &removal, &by_other), "another key");
}
