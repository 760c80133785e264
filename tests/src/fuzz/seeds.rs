//! What fuzzing starts from: the vectors of spec/, and good inputs of each target.
//!
//! Owns: turning them into inputs. Nothing of it is kept as files: those in `tests/fuzz/corpus/` are what fuzzing found.

use e2e_protocol::e2e::{Profile, RatchetKeys};
use e2e_protocol::limits::HEADER_BYTES;

use super::conversation::{ALICE, homes};
use super::state::exported_content;
use crate::sessions::keys::{RATCHETS, me, pool};
use crate::vectors;

/// Inputs of the target with this name, best the smallest first.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let frames =
        || vectors::wire().into_iter().map(|vector| vector.bytes).filter(|bytes| bytes.len() < 4_096);
    match target {
        "deframe" => {
            let two = |bytes: Vec<u8>| [&[0][..], &bytes, &bytes].concat();
            frames().map(two).collect()
        }
        "body" => frames().filter_map(|bytes| body(&bytes)).collect(),
        "explain" => frames().chain(homes().iter().flat_map(|home| home.envelopes.clone())).collect(),
        "envelope" => envelopes(),
        "state" => states(),
        "home" => vec![
            vec![1, 2, 2, 0, 0, 0, 0, 1, 0, 0, 3, 2, 0, 0],
            vec![0, 1, 1, 0, 3, 1, 2, 3, 0, 12, 1, 1, 2, 1, 1, 0, 2, 9, 9, 0],
        ],
        "strangers" => [0, 1, 2].into_iter().flat_map(|registration| acts(&[registration])).collect(),
        "users" => acts(&[0]).into_iter().chain(acts(&[1])).collect(),
        "client" => (0..6)
            .map(|choice| [&[choice][..], &[3, 0, 0, 0, 0, 0, 8, 0, 1, 0, 0].repeat(4)].concat())
            .collect(),
        "admin" => {
            let texts = [
                (0, e2e_relayd::manual::default_configuration()),
                (0, e2e_relayd::manual::default_configuration().replace("\n#", "\n")),
                (0, "listen = [\"[::1]:0\"]\nhide-names = true\n[limits]\nnames_max = 0x10\n".to_owned()),
                (1, "names alice bob".to_owned()),
                (1, "token make once for friends".to_owned()),
                (1, "token revoke 7".to_owned()),
                (2, "GET /metrics HTTP/1.1\r\nHost: relay\r\n\r\n".to_owned()),
            ];
            texts.into_iter().map(|(choice, text)| [&[choice][..], text.as_bytes()].concat()).collect()
        }
        "copy" => vec![
            vec![1],
            vec![1, 0, 20, 1],
            vec![1, 1, 0, 128, 2, 0, 1],
            vec![1, 0, 0, 0, 0, 0],
            [&[0][..], super::copy::good()].concat(),
        ],
        other => panic!("no target {other}"),
    }
}

/// Type, marks, body.
fn body(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = frame.split_at_checked(HEADER_BYTES)?;
    Some([&[header[5], 0], body].concat())
}

fn envelopes() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (at, home) in (0_u8..).zip(homes()) {
        for envelope in 0..u8::try_from(home.envelopes.len()).unwrap_or(0) {
            all.push(vec![2, at, envelope, 0]);
            all.push(vec![2, at, envelope, 1, 0, 40, 1]);
        }
        all.push([&[1, at][..], &home.envelopes[0]].concat());
    }
    all.extend([vec![0, 0, 0, 0, 0], vec![0, 1, 1, 0, 1], vec![0, 1, 1, 1, 0, 200, 1, 0]]);
    all
}

fn states() -> Vec<Vec<u8>> {
    let home = &homes()[4];
    let mut keys = RatchetKeys::new();
    keys.add(&pool()[RATCHETS.start]);
    let identity = me(ALICE, Profile::Light).identity.encode();
    let with = |which: u8, content: &[u8]| [&[which][..], content].concat();
    vec![
        with(0, &identity),
        with(1, &[3, 0, 0, 3, 1, 0]),
        with(3, &keys.encode()),
        with(4, &home.peer),
        with(5, &[4, 0]),
        with(6, &[0, 0, 0, 112]),
        with(9, &exported_content()),
        with(10, &[0]),
    ]
}

/// Acts of a relay's peers: everybody logs in, sends, acknowledges, asks, publishes and goes.
fn acts(first: &[u8]) -> Vec<Vec<u8>> {
    let rows: [&[u8]; 8] = [
        &[1, 0, 0, 0, 0, 0, 1, 0, 29],
        &[1, 3, 0, 1, 3, 2, 1, 0, 29],
        &[0, 2, 0, 0, 1, 0, 0, 29, 3, 0, 0, 0, 0, 0, 0, 1, 0, 0, 29],
        &[4, 0, 1, 0, 1, 0, 1, 7, 0, 29, 10, 1, 0, 0, 9, 0, 29],
        &[4, 0, 1, 0, 2, 0, 1, 7, 0, 30, 2, 30, 7],
        &[16, 0, 2, 0, 0, 3, 0, 29, 14, 1, 2, 0, 1, 0, 29],
        &[18, 0, 1, 1, 0, 29, 1, 0, 1, 0, 0, 0, 1, 0, 29],
        &[4, 0, 1, 0, 3, 0, 1, 7, 0, 29, 36, 2, 29],
    ];
    let one = |row: &&[u8]| [first, row].concat();
    let all = [first, &rows.concat()].concat();
    rows.iter().map(one).chain([all]).collect()
}
