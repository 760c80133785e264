//! The relay sees nothing: neither what crosses its sockets nor what it keeps contains a plaintext, or a
//! key that opens one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::{Frame, Parsed};
use e2e_tests::client::{World, files};
use e2e_tests::process::Relay;
use e2e_tests::proxy::{Crossed, Proxy};
use e2e_tests::raw::rng;
use rand_chacha::rand_core::Rng;

/// Bytes that are looked for: of a plaintext, of a key.
const TEXT_WINDOW: usize = 8;
const KEY_WINDOW: usize = 16;

/// A text without any repetition that could be met by chance.
fn random_text(characters: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = vec![0; characters];
    rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect()
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect::<Vec<_>>();
    bits.as_chunks::<6>()
        .0
        .iter()
        .map(|six| ALPHABET[usize::from(six.iter().fold(0, |n, bit| n << 1 | bit))])
        .collect()
}

fn hex(bytes: &[u8], upper: bool) -> Vec<u8> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if upper { text.to_uppercase().into_bytes() } else { text.into_bytes() }
}

/// What would betray a secret, in all spellings that come to mind.
fn spellings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("as it is", secret.to_vec()),
        ("backwards", secret.iter().rev().copied().collect()),
        ("in hex", hex(secret, false)),
        ("in upper-case hex", hex(secret, true)),
        ("in base64", base64(secret)),
        ("in base64, a byte later", base64(&secret[1..])),
        ("in base64, two bytes later", base64(&secret[2..])),
        ("in UTF-16LE", secret.iter().flat_map(|byte| [*byte, 0]).collect()),
        ("in UTF-16BE", secret.iter().flat_map(|byte| [0, *byte]).collect()),
    ]
}

/// All windows of some secrets, to be looked for in one pass.
struct Search {
    bytes: usize,
    windows: HashMap<u128, String>,
    /// Which first three bytes are worth a second look: most are not.
    heads: Vec<bool>,
}

impl Search {
    fn new(bytes: usize) -> Self {
        Self { bytes, windows: HashMap::new(), heads: vec![false; 1 << 24] }
    }

    fn add(&mut self, what: &str, secret: &[u8]) {
        for window in secret.windows(self.bytes) {
            // A run of few bytes is no secret.
            if window.iter().collect::<HashSet<_>>().len() > 3 {
                self.heads[head(window)] = true;
                self.windows.entry(number(window)).or_insert_with(|| what.to_owned());
            }
        }
    }

    /// Takes out what begins or ends in something public: that may stand side by side with anything.
    fn without(&mut self, public: &[Vec<u8>]) {
        let half = self.bytes / 2;
        let public: HashSet<u128> = public.iter().flat_map(|bytes| bytes.windows(half).map(number)).collect();
        let shift = 8 * (self.bytes - half);
        let mask = (1 << (8 * half)) - 1;
        self.windows
            .retain(|window, _| !public.contains(&(window >> shift)) && !public.contains(&(window & mask)));
    }

    fn found_in(&self, bytes: &[u8]) -> Option<String> {
        bytes.windows(self.bytes).enumerate().find_map(|(at, window)| {
            let what = if self.heads[head(window)] { self.windows.get(&number(window)) } else { None };
            what.map(|what| format!("{what} at {at}: {window:02x?}"))
        })
    }
}

fn head(window: &[u8]) -> usize {
    window[..3].iter().fold(0, |head, byte| head << 8 | usize::from(*byte))
}

fn number(window: &[u8]) -> u128 {
    window.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Everything that the relay had in its hands.
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn gather(proxy: &Proxy, relay: &Relay, state: &Path) -> Self {
        let mut all = Vec::new();
        for (index, Crossed { to_relay, to_client }) in proxy.crossed().into_iter().enumerate() {
            all.push((format!("connection {index}, to the relay"), to_relay));
            all.push((format!("connection {index}, to the client"), to_client));
        }
        for file in files(state) {
            all.push((file.display().to_string(), fs::read(&file).unwrap()));
        }
        all.push(("the log".to_owned(), relay.log().into_bytes()));
        Self(all)
    }

    fn find(&self, search: &Search) -> Option<(&str, String)> {
        self.0.iter().find_map(|(place, bytes)| Some((place.as_str(), search.found_in(bytes)?)))
    }
}

/// What is meant to be public: keys that are published, and what stands in the clear in envelopes.
fn public_bytes(proxy: &Proxy) -> Vec<Vec<u8>> {
    let mut public: Vec<Vec<u8>> = Vec::new();
    for Crossed { to_relay, to_client } in proxy.crossed() {
        for stream in [to_relay, to_client] {
            let mut rest = &stream[..];
            while let Ok(Parsed::Frame(frame, count)) = Frame::parse(rest, BODY_BYTES_MAX) {
                match frame {
                    Frame::Proof(proof) => public.push(proof.identity_key.to_vec()),
                    Frame::Publish(publish) => {
                        public.extend(publish.signed_prekey.iter().map(|prekey| prekey.modulus.to_vec()));
                        let moduli = publish.batch.iter().flat_map(|batch| batch.moduli);
                        public.extend(moduli.map(|modulus| modulus.to_vec()));
                    }
                    Frame::Challenge(challenge) => public.push(challenge.relay_id.0.to_vec()),
                    Frame::Entry(entry) => public.push(entry.fingerprint.0.to_vec()),
                    // The header with the session's id, INIT, which its sender keeps as long as it repeats it, and the tag.
                    Frame::Send(message) => {
                        let envelope = message.envelope();
                        let init = usize::from(u16::from_be_bytes([envelope[32], envelope[33]]));
                        public.push(envelope[..56 + init].to_vec());
                        public.push(envelope[envelope.len() - 32..].to_vec());
                    }
                    Frame::Ack(ack) => public.extend(ack.receipts.iter().map(|receipt| receipt.0.to_vec())),
                    _ => {}
                }
                rest = &rest[count..];
            }
        }
    }
    public
}

#[test]
fn the_relay_holds_neither_plaintext_nor_keys() {
    // Everything from the first connection on, so not from a copy of users who are registered already.
    let mut world = World::new();
    assert_eq!(world.relay.stop("TERM"), Some(0));
    world.relay = Relay::start(&world.state(), &["-v", "-v"]);
    let proxy = Proxy::start(world.relay.address());
    let (eve, fay) = (world.client_at("eve", proxy.address()), world.client_at("fay", proxy.address()));
    eve.run(&["register", "eve"]).printed();
    fay.run(&["register", "fay"]).printed();

    let mut keys = Search::new(KEY_WINDOW);
    let mut secret_files = 0;
    let mut take_keys = |keys: &mut Search| {
        for client in [&eve, &fay] {
            let folders = ["peers", "records"].map(|folder| client.home.join(folder));
            let mut paths: Vec<_> = folders.iter().flat_map(|folder| files(folder)).collect();
            paths.extend(["identity", "prekeys"].map(|name| client.home.join(name)));
            for path in paths {
                keys.add(&path.display().to_string(), &fs::read(&path).unwrap());
                secret_files += 1;
            }
        }
    };

    // The first message and more of a session, stored and live, both ways; what is on disk in between
    // has the keys of what follows.
    let texts: Vec<String> = [300, 20, 4_000, 90, 12_000, 8].map(random_text).to_vec();
    take_keys(&mut keys);
    eve.send("fay", &texts[0]);
    take_keys(&mut keys);
    eve.send("fay", &texts[1]);
    eve.send("fay", &texts[2]);
    take_keys(&mut keys);
    assert_eq!(fay.receive(), texts[..3].iter().map(|text| format!("eve: {text}")).collect::<Vec<_>>());
    take_keys(&mut keys);
    let receiving = eve.start_recv(&[]);
    fay.send("eve", &texts[3]);
    fay.send("eve", &texts[4]);
    assert_eq!(receiving.wait_for_lines(2)[1], format!("fay: {}", texts[4]));
    assert_eq!(receiving.stop("TERM").code, Some(0));
    take_keys(&mut keys);
    // One stays in the relay's store.
    assert_eq!(eve.send("fay", &texts[5]), "fay: stored\n");
    assert!(secret_files > 20, "{secret_files}");

    let seen = Seen::gather(&proxy, &world.relay, &world.state());
    let everything: usize = seen.0.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(everything > 40_000, "{everything} bytes seen");

    let mut plaintexts = Search::new(TEXT_WINDOW);
    for text in &texts {
        for (spelling, bytes) in spellings(text.as_bytes()) {
            plaintexts.add(&format!("a text {spelling}"), &bytes);
        }
    }
    assert!(plaintexts.windows.len() > 50_000);
    assert_eq!(seen.find(&plaintexts), None);

    let public = public_bytes(&proxy);
    assert!(public.iter().map(Vec::len).sum::<usize>() > 2 * 18 * 256);
    keys.without(&public);
    // 18 keys each, of two primes of 128 bytes.
    assert!(keys.windows.len() > 2 * 17 * 2 * 100, "{} windows of keys", keys.windows.len());
    assert_eq!(seen.find(&keys), None);
    // In other spellings, too.
    let mut spelled = Search::new(KEY_WINDOW);
    for client in [&eve, &fay] {
        for name in ["identity", "prekeys"] {
            for (spelling, bytes) in spellings(&fs::read(client.home.join(name)).unwrap()).into_iter().skip(1)
            {
                spelled.add(&format!("{name} {spelling}"), &bytes);
            }
        }
    }
    assert_eq!(seen.find(&spelled), None);

    // And the search finds what is there: names in the relay's state, a public key on the wire.
    let mut control = Search::new(TEXT_WINDOW);
    control.add("a public key", &public[1]);
    assert!(seen.find(&control).is_some());
    for name in ["identity", "prekeys", "peers/fay"] {
        assert!(keys.found_in(&fs::read(eve.home.join(name)).unwrap()).is_some(), "{name}");
    }
    let stored = files(&world.state()).iter().flat_map(fs::read).collect::<Vec<_>>().concat();
    assert!(stored.windows(3).any(|window| window == b"eve"));
    assert_eq!(fay.receive(), [format!("eve: {}", texts[5])]);
}

#[test]
fn clients_print_no_secret_however_much_they_log() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let text = random_text(40);
    let sent = alice.run(&["-v", "-v", "-v", "send", "bob", "-m", &text]);
    let received = bob.run(&["-v", "-v", "-v", "recv", "-t", "0"]);
    assert_eq!(received.stdout, format!("alice: {text}\n"));
    let said = sent.stdout + &sent.stderr + &received.stderr;
    assert!(!said.contains(&text), "{said}");
    let mut keys = Search::new(KEY_WINDOW);
    for client in [&alice, &bob] {
        for name in ["identity", "prekeys"] {
            for (spelling, bytes) in spellings(&fs::read(client.home.join(name)).unwrap()) {
                keys.add(&format!("{name} {spelling}"), &bytes);
            }
        }
    }
    assert_eq!(keys.found_in(said.as_bytes()), None);
}
