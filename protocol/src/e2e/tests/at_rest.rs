//! Protected state files: against vectors of another implementation, and what is refused.

use proptest::prelude::*;
use scrypt::{Params, scrypt};

use super::derivations::Vector;
use super::{rng, unhex};
use crate::e2e::at_rest::{AtRestError, KeyParameters, LOG2_N, LOG2_N_MAX, StateKeys};

const PATH: &str = "peers/bob";

/// What is longer than the content: header, tag, and 1 to 16 bytes of padding.
const OVERHEAD_BYTES: usize = 44 + 32;

fn keys(passphrase: &str) -> StateKeys {
    StateKeys::derive(passphrase.as_bytes(), KeyParameters { log2_n: 1, salt: [7; 16] }).unwrap()
}

#[test]
fn scrypt_is_that_of_rfc_7914() {
    let cases: [(&str, &str, u8, u32, u32, &str); 3] = [
        (
            "",
            "",
            4,
            1,
            1,
            "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442
             fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906",
        ),
        (
            "password",
            "NaCl",
            10,
            8,
            16,
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162
             2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
        ),
        (
            "pleaseletmein",
            "SodiumChloride",
            14,
            8,
            1,
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2
             d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
        ),
    ];
    for (passphrase, salt, log2_n, r, p, expected) in cases {
        let mut out = [0; 64];
        let costs = Params::new(log2_n, r, p).unwrap();
        scrypt(passphrase.as_bytes(), salt.as_bytes(), &costs, &mut out).unwrap();
        assert_eq!(out.as_slice(), unhex(expected), "{passphrase}");
    }
}

#[test]
fn protected_files_are_as_in_the_vectors() {
    for name in ["state", "state-small", "state-empty"] {
        let v = Vector::load(&format!("derive/{name}.txt"));
        let parameters = KeyParameters { log2_n: v.get("log2n").parse().unwrap(), salt: v.array("salt") };
        let file = v.bytes("file");
        assert_eq!(KeyParameters::of(&file), Ok(parameters));
        let keys = StateKeys::derive(&v.bytes("passphrase"), parameters).unwrap();
        assert_eq!(keys.as_bytes(), (&v.array("k enc"), &v.array("k mac")));
        let content = v.bytes("content");
        assert_eq!(keys.seal_with(v.get("path"), &content, &v.array("iv")), file);
        assert_eq!(*keys.open(v.get("path"), &file).unwrap(), content);
    }
    assert_eq!(Vector::load("derive/state.txt").get("log2n"), LOG2_N.to_string());
}

#[test]
fn refuses_a_flipped_bit_in_every_byte() {
    let keys = keys("a");
    let file = keys.seal(PATH, b"some state", &mut rng());
    for at in 0..file.len() {
        for bit in [1, 0x80] {
            let mut bad = file.clone();
            bad[at] ^= bit;
            assert!(keys.open(PATH, &bad).is_err(), "byte {at}");
        }
    }
    for length in 0..file.len() {
        assert!(keys.open(PATH, &file[..length]).is_err(), "{length} bytes");
    }
    assert_eq!(*keys.open(PATH, &file).unwrap(), b"some state");
}

#[test]
fn refuses_a_file_under_another_path_or_other_keys() {
    let file = keys("a").seal(PATH, b"some state", &mut rng());
    assert_eq!(keys("a").open("peers/eve", &file), Err(AtRestError::BadTag));
    assert_eq!(keys("b").open(PATH, &file), Err(AtRestError::BadTag));
    let other = StateKeys::derive(b"a", KeyParameters { log2_n: 1, salt: [8; 16] }).unwrap();
    assert_eq!(other.open(PATH, &file), Err(AtRestError::OtherKeys));
}

#[test]
fn refuses_what_costs_too_much_before_any_work() {
    let mut file = keys("a").seal(PATH, b"", &mut rng());
    for log2_n in [0, LOG2_N_MAX + 1, 63, 64, 255] {
        // log2N stands behind the label.
        file[11] = log2_n;
        assert_eq!(KeyParameters::of(&file), Err(AtRestError::Cost(log2_n)));
        let parameters = KeyParameters { log2_n, salt: [7; 16] };
        assert_eq!(StateKeys::derive(b"a", parameters).err(), Some(AtRestError::Cost(log2_n)));
    }
}

#[test]
fn every_file_has_its_own_iv() {
    let (keys, mut rng) = (keys("a"), rng());
    let files: Vec<_> = (0..3).map(|_| keys.seal(PATH, b"the same", &mut rng)).collect();
    assert!(files[0] != files[1] && files[1] != files[2] && files[0] != files[2]);
}

proptest! {
    #[test]
    fn what_is_sealed_opens(content in proptest::collection::vec(any::<u8>(), 0..600), path in "[a-z]{1,9}") {
        let keys = keys("a");
        let file = keys.seal(&path, &content, &mut rng());
        prop_assert!(file.len() > content.len() + OVERHEAD_BYTES);
        prop_assert!(file.len() <= content.len() + OVERHEAD_BYTES + 16);
        prop_assert_eq!(&*keys.open(&path, &file).unwrap(), &content);
    }

    #[test]
    fn anything_is_refused_without_a_panic(file in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(keys("a").open(PATH, &file).is_err());
        let _ = KeyParameters::of(&file);
    }
}
