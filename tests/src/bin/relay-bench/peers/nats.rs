//! nats-server's protocol: core, which acknowledges nothing, and JetStream, which does.

use super::load::{Dialect, line_end};

/// Publish and subscribe, without acknowledgements.
pub(crate) struct Core;

impl Dialect for Core {
    fn greeting(&self, pair: usize, receives: bool) -> Vec<u8> {
        let subscribe = if receives { format!("SUB p{pair} 1\r\n") } else { String::new() };
        format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\n{subscribe}PING\r\n").into_bytes()
    }

    fn greeted(&self, bytes: &[u8]) -> Option<usize> {
        let at = bytes.windows(6).position(|window| window == b"PONG\r\n")?;
        Some(at + 6)
    }

    fn publish(&self, out: &mut Vec<u8>, pair: usize, _: u64, payload: &[u8]) {
        out.extend_from_slice(format!("PUB p{pair} {}\r\n", payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn take(&self, bytes: &[u8], out: &mut Vec<u8>, see: &mut dyn FnMut(&[u8])) -> (usize, u64) {
        messages(bytes, out, |payload| see(payload))
    }
}

/// Publishing into a stream on the disk; each message is acknowledged once it is there, without fsync.
pub(crate) struct JetStream;

impl Dialect for JetStream {
    fn greeting(&self, pair: usize, _: bool) -> Vec<u8> {
        let stream = "{\"name\":\"S\",\"subjects\":[\"p.*\"],\"storage\":\"file\",\"num_replicas\":1}";
        format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB i{pair} 1\r\n\
             PUB $JS.API.STREAM.CREATE.S i{pair} {}\r\n{stream}\r\nPING\r\n",
            stream.len()
        )
        .into_bytes()
    }

    fn greeted(&self, bytes: &[u8]) -> Option<usize> {
        // The stream's answer comes whenever it was made; then acknowledgements begin.
        let answered = bytes.windows(16).position(|window| window == b"io.nats.jetstrea")?;
        let (_, end) = line_end(&bytes[answered..])?;
        Core.greeted(bytes).map(|pong| pong.max(answered + end))
    }

    fn publish(&self, out: &mut Vec<u8>, pair: usize, _: u64, payload: &[u8]) {
        out.extend_from_slice(format!("PUB p.{pair} i{pair} {}\r\n", payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn take(&self, bytes: &[u8], out: &mut Vec<u8>, _: &mut dyn FnMut(&[u8])) -> (usize, u64) {
        let mut acknowledged = 0;
        let (used, _) = messages(bytes, out, |answer| {
            assert!(answer.starts_with(b"{\"stream\""), "{}", String::from_utf8_lossy(answer));
            acknowledged += 1;
        });
        (used, acknowledged)
    }
}

/// Every MSG, whole; answers PING.
fn messages(bytes: &[u8], out: &mut Vec<u8>, mut see: impl FnMut(&[u8])) -> (usize, u64) {
    let mut at = 0;
    while let Some((line, next)) = line_end(&bytes[at..]) {
        if line.starts_with(b"MSG ") {
            let length =
                line.rsplit(|byte| *byte == b' ').next().and_then(|text| std::str::from_utf8(text).ok());
            let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
            let start = at + next;
            let Some(payload) = bytes.get(start..start + length + 2) else { break };
            see(&payload[..length]);
            at = start + length + 2;
            continue;
        }
        if line == b"PING" {
            out.extend_from_slice(b"PONG\r\n");
        }
        assert!(!line.starts_with(b"-ERR"), "{}", String::from_utf8_lossy(line));
        at += next;
    }
    (at, 0)
}
