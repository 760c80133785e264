//! redis's protocol: pub/sub, and a list that is written to the disk.

use super::load::{Dialect, line_end};

/// Publish and subscribe.
pub(crate) struct PubSub;

/// Appending to a list, acknowledged once it is fsynced.
pub(crate) struct List;

fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

impl Dialect for PubSub {
    fn greeting(&self, pair: usize, receives: bool) -> Vec<u8> {
        let mut out = Vec::new();
        if receives {
            command(&mut out, &[b"SUBSCRIBE", format!("p{pair}").as_bytes()]);
        } else {
            command(&mut out, &[b"PING"]);
        }
        out
    }

    fn greeted(&self, bytes: &[u8]) -> Option<usize> {
        let is_whole = bytes == b"+PONG\r\n" || bytes.ends_with(b":1\r\n");
        is_whole.then_some(bytes.len())
    }

    fn publish(&self, out: &mut Vec<u8>, pair: usize, _: u64, payload: &[u8]) {
        command(out, &[b"PUBLISH", format!("p{pair}").as_bytes(), payload]);
    }

    fn take(&self, bytes: &[u8], _: &mut Vec<u8>, see: &mut dyn FnMut(&[u8])) -> (usize, u64) {
        let mut at = 0;
        while let Some((line, next)) = line_end(&bytes[at..]) {
            match line.first() {
                // How many received it: the sender's answer.
                Some(b':') => at += next,
                Some(b'*') => {
                    let Some((payload, used)) = third(&bytes[at + next..]) else { break };
                    see(payload);
                    at += next + used;
                }
                _ => panic!("{}", String::from_utf8_lossy(line)),
            }
        }
        (at, 0)
    }
}

/// The last of three bulk strings, and how long all are.
fn third(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (mut at, mut last) = (0, &bytes[..0]);
    for _ in 0..3 {
        let (line, next) = line_end(&bytes[at..])?;
        let length: usize = std::str::from_utf8(&line[1..]).ok()?.parse().ok()?;
        let start = at + next;
        last = bytes.get(start..start + length)?;
        bytes.get(start + length + 1)?;
        at = start + length + 2;
    }
    Some((last, at))
}

impl Dialect for List {
    fn greeting(&self, _: usize, _: bool) -> Vec<u8> {
        PubSub.greeting(0, false)
    }

    fn greeted(&self, bytes: &[u8]) -> Option<usize> {
        PubSub.greeted(bytes)
    }

    fn publish(&self, out: &mut Vec<u8>, pair: usize, _: u64, payload: &[u8]) {
        command(out, &[b"RPUSH", format!("l{pair}").as_bytes(), payload]);
    }

    fn take(&self, bytes: &[u8], _: &mut Vec<u8>, _: &mut dyn FnMut(&[u8])) -> (usize, u64) {
        let (mut at, mut acknowledged) = (0, 0);
        while let Some((line, next)) = line_end(&bytes[at..]) {
            assert_eq!(line.first(), Some(&b':'), "{}", String::from_utf8_lossy(line));
            at += next;
            acknowledged += 1;
        }
        (at, acknowledged)
    }
}
