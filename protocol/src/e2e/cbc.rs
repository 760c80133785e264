//! AES-256-CBC with PKCS #7 padding (SP 800-38A, RFC 5652 section 6.3).
//!
//! This file owns the cipher. It authenticates nothing: its callers check a tag before they
//! decrypt, and use every key once.

use aes::{Aes256Dec, Aes256Enc};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use zeroize::Zeroizing;

use crate::login::notation::HASH_BYTES;

/// K_enc, where its owner keeps it.
pub(crate) type CipherKey = [u8; HASH_BYTES];

/// Bytes of a block and of an IV.
pub(crate) const BLOCK_BYTES: usize = 16;

/// The padding is not PKCS #7, or the length not a positive multiple of the block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPadding;

/// How long so many bytes are when they are encrypted: 1 to 16 more.
pub(crate) fn encrypted_bytes(plaintext_bytes: usize) -> usize {
    (plaintext_bytes / BLOCK_BYTES + 1) * BLOCK_BYTES
}

/// Encrypts, and appends [`encrypted_bytes`] to `out`.
pub(crate) fn encrypt(key: &CipherKey, iv: &[u8; BLOCK_BYTES], plaintext: &[u8], out: &mut Vec<u8>) {
    let (before, bytes) = (out.len(), encrypted_bytes(plaintext.len()));
    out.resize(before + bytes, 0);
    let to = out.get_mut(before..).unwrap_or_default();
    // It fails only where the padding doesn't fit, and there is room for it by definition.
    #[allow(clippy::expect_used)]
    cbc::Encryptor::<Aes256Enc>::new(key.into(), iv.into())
        .encrypt_padded_b2b::<Pkcs7>(plaintext, to)
        .expect("a block more than the whole ones");
}

/// Decrypts and removes the padding.
pub(crate) fn decrypt(
    key: &CipherKey,
    iv: &[u8; BLOCK_BYTES],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, BadPadding> {
    let mut buffer = Zeroizing::new(data.to_vec());
    let plaintext_bytes = cbc::Decryptor::<Aes256Dec>::new(key.into(), iv.into())
        .decrypt_padded::<Pkcs7>(&mut buffer)
        .map_err(|_| BadPadding)?
        .len();
    buffer.truncate(plaintext_bytes);
    Ok(buffer)
}
