//! The vectors that start from a state of the recipient's session (spec/crypto.md, "Vectors"): step/ and
//! reject/step-*. The state is written in the layout that `Peer` reads.

use std::fs;
use std::path::Path;

use super::derivations::{Vector, key, name};
use super::rng;
use crate::e2e::codec::Writer;
use crate::e2e::identity::{Identity, Me};
use crate::e2e::preamble_memory::PreambleMemory;
use crate::e2e::records::Records;
use crate::e2e::{Inbox, Opened, Peer, Prekeys, Profile};
use crate::ids::{MessageId, Receipt};
use crate::login::key_id;

const NOW: u64 = 1_790_000_000_000;

/// A chain, as [`crate::e2e::chain::Chain`] encodes it, from the epoch, number and key of a state line.
fn chain(out: &mut Writer, line: &[&str]) {
    out.u32(line[0].parse().unwrap());
    out.array::<32>(&super::array(line[2]));
    out.u32(line[1].parse().unwrap());
}

fn peer(v: &Vector) -> Peer {
    let mut out = Writer::new(2);
    out.bytes(v.get("sender").as_bytes());
    out.bool(true);
    out.array(key(v.get("pinned")).modulus());
    out.bool(false);
    out.bool(false);
    out.u64(0);
    let split = |line: &str| -> Option<Vec<String>> {
        v.find(line).map(|line| line.split(' ').map(str::to_owned).collect())
    };
    out.count(1);
    out.array::<32>(&v.array("state th"));
    out.bool(v.get("state role") == "initiator");
    out.u8(v.get("state profile").parse().unwrap());
    out.u8(v.get("state peer profile").parse().unwrap());
    out.u32(v.get("state epoch").parse().unwrap());
    out.array::<32>(&v.array("state root"));
    out.bool(false);
    out.u64(NOW);
    out.u64(1);
    out.u32(0);
    out.u64(NOW);
    out.array(&key_id(key(v.get("state spk")).modulus()).0);
    let sending = split("state sending");
    out.bool(sending.is_some());
    if let Some(sending) = sending {
        chain(&mut out, &sending.iter().map(String::as_str).collect::<Vec<_>>());
        out.array(key(&sending[3]).modulus());
        out.bytes(&[]);
        out.u32(0);
    }
    let receiving = split("state receiving");
    out.bool(receiving.is_some());
    if let Some(receiving) = receiving {
        chain(&mut out, &receiving.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let peer_ratchet = v.find("state peer ratchet");
    out.bool(peer_ratchet.is_some());
    if let Some(peer_ratchet) = peer_ratchet {
        out.array(key(peer_ratchet).modulus());
    }
    let ratchets = (0..10).filter_map(|epoch| Some((epoch, v.find(&format!("state ratchet {epoch}"))?)));
    let ratchets: Vec<_> = ratchets.collect();
    out.count(ratchets.len());
    for (epoch, name) in ratchets {
        out.u32(epoch);
        key(name).to_stored().encode(&mut out);
    }
    out.u64(1);
    out.count(0);
    out.count(0);
    // Pace: no INIT of ours.
    out.bool(false);
    out.u64(0);
    out.u8(0);
    out.bool(false);
    Peer::decode(&out.finish()).unwrap()
}

fn play(path: &str) -> usize {
    let v = Vector::load(path);
    if v.find("state role").is_none() {
        return 0;
    }
    let (own, identity) =
        (name(v.get("recipient")), Identity::from(key(&format!("{}-ik", v.get("recipient")))));
    let profile = Profile::from_u8(v.get("state profile").parse().unwrap()).unwrap();
    let me = Me { name: &own, identity: &identity, profile };
    let mut prekeys = Prekeys::new();
    if v.get("recipient") == "bob" {
        prekeys.publish_spk(me, &key("bob-spk"), NOW, &mut rng());
        prekeys.publish_batch(me, &[key("bob-opk-1"), key("bob-opk-2")], &mut rng()).unwrap();
    }
    let (mut peer, mut records, mut preambles) = (peer(&v), Records::new(), PreambleMemory::new());
    let mut count = 0;
    while let Some(envelope) = v.find(&format!("envelope {}", count + 1)) {
        count += 1;
        let of = |what: &str| format!("{what} {count}");
        let before = prekeys.private_operations();
        let mut inbox = Inbox { me, prekeys: &mut prekeys, records: &records, preambles: &mut preambles };
        let outcome = peer.decrypt(&mut inbox, &super::unhex(envelope), NOW, &mut rng());
        match (v.get(&of("expect")), outcome) {
            (expect @ ("open" | "open known"), Ok(Opened::New(message))) => {
                assert_eq!(message.known, expect == "open known");
                assert_eq!(message.record.receipt, Receipt(v.array(&of("receipt"))), "{path} {count}");
                assert_eq!(message.plaintext.id, MessageId(v.array(&of("id"))));
                assert_eq!(*message.plaintext.body, v.bytes(&of("body")));
                records.push(&message.record);
            }
            ("again", Ok(Opened::Again(receipt))) => assert_eq!(receipt, Receipt(v.array(&of("receipt")))),
            (expect, Err(reject)) => {
                let reason = format!("{:?}", reject.reason);
                let (reason, _) = reason.split_once('(').unwrap_or((&reason, ""));
                assert_eq!(expect, format!("reject {reason}"), "{path} {count}");
            }
            (expect, Ok(_)) => panic!("{path} {count} opens, expected: {expect}"),
        }
        let operations = prekeys.private_operations() - before;
        assert_eq!(operations.to_string(), v.get(&of("private operations")), "{path} {count}");
        peer = Peer::decode(&peer.encode()).unwrap();
    }
    assert!(count > 0, "{path}: no envelope");
    count
}

#[test]
fn vectors_with_a_state_come_out_as_they_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/crypto");
    let mut played = 0;
    for folder in ["step", "reject"] {
        for file in fs::read_dir(root.join(folder)).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            if file.ends_with(".txt") {
                played += usize::from(play(&format!("{folder}/{file}")) > 0);
            }
        }
    }
    assert!(played >= 40, "{played}");
}
