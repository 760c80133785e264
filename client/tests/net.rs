//! The connection: frames in pieces, addresses, and closing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use e2e_client::net::{Connection, Received, Server};
use e2e_protocol::wire::session::emit_ping;
use e2e_protocol::wire::{Frame, FrameError, FrameType};

const LONG: Duration = Duration::from_secs(60);

fn server(address: impl ToString) -> Server {
    address.to_string().parse().unwrap()
}

fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = Connection::open(&server(listener.local_addr().unwrap())).unwrap();
    (connection, listener.accept().unwrap().0)
}

fn ping(number: u8) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let length = emit_ping(&mut bytes, FrameType::Ping, [number; 8]).unwrap();
    bytes.truncate(length);
    bytes
}

fn taken(connection: &mut Connection) -> Result<Vec<[u8; 8]>, FrameError> {
    let mut pings = Vec::new();
    connection.take_frames(|frame| {
        let Frame::Ping(opaque) = frame else { panic!("{frame:?}") };
        pings.push(*opaque);
        Ok::<_, FrameError>(())
    })?;
    Ok(pings)
}

#[test]
fn frame_in_one_byte_pieces_is_put_together() {
    let (mut connection, mut relay) = pair();
    let bytes = ping(1);
    for (at, byte) in bytes.iter().enumerate() {
        relay.write_all(&[*byte]).unwrap();
        assert_eq!(connection.receive(LONG).unwrap(), Received::Bytes);
        let expected: &[[u8; 8]] = if at + 1 == bytes.len() { &[[1; 8]] } else { &[] };
        assert_eq!(taken(&mut connection).unwrap(), expected);
    }
}

#[test]
fn many_frames_at_once_are_taken_in_order() {
    let (mut connection, mut relay) = pair();
    let bytes: Vec<u8> =
        (0..=255).chain(0..=255).chain(0..=255).chain(0..=255).chain(0..=255).flat_map(ping).collect();
    let expected: Vec<[u8; 8]> = bytes.chunks(28).map(|frame| frame[20..].try_into().unwrap()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            relay.write_all(&bytes).unwrap();
        });
        let mut pings = Vec::new();
        while pings.len() < expected.len() {
            assert_eq!(connection.receive(LONG).unwrap(), Received::Bytes);
            pings.extend(taken(&mut connection).unwrap());
        }
        assert_eq!(pings, expected);
    });
}

#[test]
fn what_is_no_frame_is_an_error() {
    let (mut connection, mut relay) = pair();
    relay.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
    connection.receive(LONG).unwrap();
    assert_eq!(taken(&mut connection), Err(FrameError::BadMagic));
}

#[test]
fn a_length_of_4_gib_is_refused_at_once() {
    let (mut connection, mut relay) = pair();
    let mut bytes = ping(1);
    bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    relay.write_all(&bytes[..12]).unwrap();
    connection.receive(LONG).unwrap();
    assert_eq!(taken(&mut connection), Err(FrameError::TooLong));
}

#[test]
fn nothing_comes_of_waiting_for_nothing() {
    let (mut connection, _relay) = pair();
    assert_eq!(connection.receive(Duration::ZERO).unwrap(), Received::Nothing);
}

#[test]
fn end_of_the_relays_bytes_is_told() {
    let (mut connection, relay) = pair();
    drop(relay);
    assert_eq!(connection.receive(LONG).unwrap(), Received::Closed);
}

#[test]
fn ending_lets_the_relay_read_everything() {
    let (mut connection, mut relay) = pair();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut read = Vec::new();
            relay.read_to_end(&mut read).unwrap();
            assert_eq!(read.len(), 1 << 20);
            drop(relay);
        });
        connection.send(&vec![1; 1 << 20]).unwrap();
        connection.end_sending().unwrap();
        assert_eq!(connection.receive(LONG).unwrap(), Received::Closed);
    });
}

#[test]
fn connects_to_names_and_addresses() {
    for host in ["127.0.0.1", "localhost"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Connection::open(&server(format!("{host}:{port}"))).unwrap();
    }
    if let Ok(listener) = TcpListener::bind("[::1]:0") {
        Connection::open(&server(listener.local_addr().unwrap())).unwrap();
    }
}

#[test]
fn reads_addresses_in_every_usual_form() {
    for (text, shown) in [
        ("relay", "relay:5001"),
        ("relay:7", "relay:7"),
        ("192.0.2.1:65535", "192.0.2.1:65535"),
        ("2001:db8::1", "[2001:db8::1]:5001"),
        ("[2001:db8::1]", "[2001:db8::1]:5001"),
        ("[2001:db8::1]:7", "[2001:db8::1]:7"),
    ] {
        assert_eq!(server(text).to_string(), shown, "{text}");
    }
    for bad in
        ["", ":", ":7", "relay:", "relay:0", "relay:99999", "relay:x", "a:1:2", "[::1", "[::1]7", "[::1]:"]
    {
        assert!(bad.parse::<Server>().is_err(), "{bad}");
    }
}
