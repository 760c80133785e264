//! The e2e-relay protocol: frames, limits and identifiers.
//!
//! Without features this crate is `no_std` and allocates nothing; it is what the relay and a small
//! device share. Feature `login` adds the verification of a login, feature `e2e` the keys and
//! sessions of the clients. The relay never turns `e2e` on: nothing that decrypts is linked into it.
//!
//! Where to go next: [`ids`] for the identifiers, [`wire`] for the frames (spec/wire.md),
//! `login` for the proof of possession, `e2e` for the end-to-end layer (spec/crypto.md).

#![cfg_attr(not(feature = "e2e"), no_std)]

pub mod ids;
pub mod limits;
pub mod wire;

#[cfg(feature = "login")]
pub mod login;

#[cfg(feature = "e2e")]
pub mod e2e;
