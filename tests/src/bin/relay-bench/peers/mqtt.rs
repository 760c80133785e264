//! MQTT 3.1.1 with QoS 1, as mosquitto speaks it: each message is acknowledged to its sender, and by its receiver.

use super::load::Dialect;

/// At least once.
pub(crate) struct Qos1;

/// A packet: its first byte, and a body shorter than 2 MiB.
fn packet(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    out.push(first);
    let mut left: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        let digit = u8::try_from(left % 128).expect("below 128");
        left /= 128;
        out.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn text(of: &str) -> Vec<u8> {
    let length = u16::try_from(of.len()).expect("short");
    [&length.to_be_bytes()[..], of.as_bytes()].concat()
}

/// The packet at the front: its first byte, its body, and how long it is.
fn first_packet(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let digit = usize::from(*bytes.get(at)?);
        length |= (digit & 0x7F) << (7 * (at - 1));
        at += 1;
        if digit & 0x80 == 0 {
            break;
        }
    }
    Some((bytes[0], bytes.get(at..at + length)?, at + length))
}

impl Dialect for Qos1 {
    fn greeting(&self, pair: usize, receives: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let id = text(&format!("{}{pair}", if receives { "r" } else { "s" }));
        packet(&mut out, 0x10, &[&text("MQTT"), &[4, 2, 0, 0], &id]);
        if receives {
            packet(&mut out, 0x82, &[&[0, 1], &text(&format!("p{pair}")), &[1]]);
        }
        out
    }

    fn greeted(&self, bytes: &[u8]) -> Option<usize> {
        let (first, body, length) = first_packet(bytes)?;
        assert_eq!((first, body), (0x20, &[0, 0][..]), "CONNACK");
        match first_packet(&bytes[length..]) {
            Some((0x90, _, more)) => Some(length + more),
            _ => Some(length),
        }
    }

    fn publish(&self, out: &mut Vec<u8>, pair: usize, number: u64, payload: &[u8]) {
        let id = u16::try_from(number % 65_535 + 1).expect("in range");
        packet(out, 0x32, &[&text(&format!("p{pair}")), &id.to_be_bytes(), payload]);
    }

    fn take(&self, bytes: &[u8], out: &mut Vec<u8>, see: &mut dyn FnMut(&[u8])) -> (usize, u64) {
        let (mut at, mut acknowledged) = (0, 0);
        while let Some((first, body, length)) = first_packet(&bytes[at..]) {
            match first & 0xF0 {
                0x40 => acknowledged += 1,
                0x30 => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    packet(out, 0x40, &[&body[2 + topic..4 + topic]]);
                    see(&body[4 + topic..]);
                }
                // SUBACK may come behind the greeting.
                0x90 => {}
                other => panic!("a packet of type {other:#x}"),
            }
            at += length;
        }
        (at, acknowledged)
    }
}
