//! AES-256-CBC with PKCS #7 padding (SP 800-38A, RFC 5652 section 6.3).
//!
//! This file owns the cipher. It authenticates nothing: its callers check a tag before they
//! decrypt, and use every key once.

use aes::Aes256;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use zeroize::Zeroizing;

use super::secret::Secret;

/// Bytes of a block and of an IV.
pub(crate) const BLOCK_BYTES: usize = 16;

/// The padding is not PKCS #7, or the length not a positive multiple of the block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPadding;

/// Encrypts: 1 to 16 bytes longer than `plaintext`.
pub(crate) fn encrypt(key: &Secret, iv: &[u8; BLOCK_BYTES], plaintext: &[u8]) -> Vec<u8> {
    cbc::Encryptor::<Aes256>::new(key.as_bytes().into(), iv.into()).encrypt_padded_vec::<Pkcs7>(plaintext)
}

/// Decrypts and removes the padding.
pub(crate) fn decrypt(
    key: &Secret,
    iv: &[u8; BLOCK_BYTES],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, BadPadding> {
    let mut buffer = Zeroizing::new(data.to_vec());
    let plaintext_bytes = cbc::Decryptor::<Aes256>::new(key.as_bytes().into(), iv.into())
        .decrypt_padded::<Pkcs7>(&mut buffer)
        .map_err(|_| BadPadding)?
        .len();
    buffer.truncate(plaintext_bytes);
    Ok(buffer)
}
