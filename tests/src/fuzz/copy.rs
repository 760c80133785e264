//! The copy of a store, on its way to the administrator.
//!
//! Owns: what holds for any bytes at the receiving end. The first byte chooses whether they are taken as they are, or are changes to a
//! good copy.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e_protocol::ids::Sequence;
use e2e_relayd::store::{Request, Store, fsck, receive_copy};

use crate::process::Directory;

/// A small good one.
pub(super) fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let directory = Directory::new();
        let (store, _) = Store::open(directory.path(), [1; 32], 1_790_000_000_000).expect("a new store");
        let handle = store.start(|| ()).expect("its threads");
        for slot in 0..3 {
            let (first, last) = (Sequence(1), Sequence(1));
            handle.submit(Request::Append { slot, first, last, messages: 1, bytes: vec![7; 100] });
        }
        let (out, mut input) = UnixStream::pair().expect("a pair of sockets");
        handle.copy_to(out, |_| ()).expect("no other copy is made");
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).expect("the copy");
        bytes
    })
}

/// Receives it.
pub(super) fn receive(input: &[u8]) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Some((choice, rest)) = input.split_first() else { return };
    let mut bytes = if choice % 2 == 0 { rest.to_vec() } else { good().to_vec() };
    if choice % 2 == 1 {
        // Three bytes each: where, and what is there instead.
        for change in rest.chunks_exact(3) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len();
            bytes[at] ^= change[2];
        }
        bytes.truncate(bytes.len() - usize::from(rest.len() % 3 == 2));
    }
    let directory = Directory::new();
    let into = directory.path().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    match receive_copy(&bytes[..], &into) {
        Ok(_) => {
            assert!(bytes.starts_with(good()) || bytes == good() || choice % 2 == 0, "damage was taken");
            let _ = fsck(&into).expect("what was taken is a store");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(fs::symlink_metadata(&into).is_err(), "what was not taken leaves nothing");
        }
    }
}
