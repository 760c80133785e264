//! Proof of possession, as the relay checks it.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod e2e_support;

use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::{Fingerprint, Nonce, RelayId};
use e2e_protocol::login::{
    LOGIN_BYTES_MAX, Login, LoginError, Purpose, token_proof, verify_login, verify_token_proof,
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
