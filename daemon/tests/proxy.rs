//! The header of a trusted proxy, whole, in pieces and spoilt (spec/wire.md, section 14).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::{IpAddr, SocketAddr};

use e2e_relayd::proxy::{Malformed, Network, Parsed, SIGNATURE, parse};
use proptest::prelude::*;

/// A header with these addresses, and further values behind them.
fn header(source: SocketAddr, destination: SocketAddr, further: &[u8]) -> Vec<u8> {
    let mut addresses = Vec::new();
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            addresses.extend([source.octets(), destination.octets()].concat());
            0x11
        }
        (source, destination) => {
            for address in [source, destination] {
                match address {
                    IpAddr::V4(address) => addresses.extend(address.to_ipv6_mapped().octets()),
                    IpAddr::V6(address) => addresses.extend(address.octets()),
                }
            }
            0x21
        }
    };
    addresses.extend(source.port().to_be_bytes());
    addresses.extend(destination.port().to_be_bytes());
    addresses.extend(further);
    let mut bytes = [&SIGNATURE[..], &[0x21, family]].concat();
    bytes.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
    bytes.extend(addresses);
    bytes
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port))
}

proptest! {
    #[test]
    fn reads_what_a_proxy_says_however_it_is_cut(
        source in addresses(),
        destination in addresses(),
        further in proptest::collection::vec(any::<u8>(), 0..64),
        rest in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let bytes = header(source, destination, &further);
        for cut in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Incomplete));
        }
        let all = [&bytes[..], &rest].concat();
        let Ok(Parsed::Header { source: Some(found), bytes: count }) = parse(&all) else {
            return Err(TestCaseError::fail("a header"));
        };
        prop_assert_eq!(found.ip().to_canonical(), source.ip().to_canonical());
        prop_assert_eq!((found.port(), count), (source.port(), bytes.len()));
    }

    #[test]
    fn takes_no_bytes_for_more_than_they_are(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        signed in any::<bool>(),
    ) {
        let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
        if let Ok(Parsed::Header { bytes: count, .. }) = parse(&bytes) {
            prop_assert!(count <= bytes.len());
        }
    }

    #[test]
    fn refuses_a_spoilt_signature_at_once(at in 0_usize..12, bit in 0_u32..8) {
        let mut bytes = header("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap(), &[]);
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(parse(&bytes[..=at]), Err(Malformed));
    }
}

#[test]
fn takes_a_local_or_unknown_source_for_the_proxy_itself() {
    for (command, family) in [(0x20, 0x11), (0x20, 0x00), (0x21, 0x00)] {
        let bytes = [&SIGNATURE[..], &[command, family, 0, 3, 1, 2, 3, 0xE2]].concat();
        assert_eq!(parse(&bytes), Ok(Parsed::Header { source: None, bytes: 19 }));
    }
}

#[test]
fn refuses_headers_that_can_not_be_used() {
    for head in [
        [0x11, 0x11, 0, 12], // version 1
        [0x22, 0x11, 0, 12], // no such command
        [0x21, 0x12, 0, 12], // UDP
        [0x21, 0x31, 0, 12], // a Unix socket
        [0x21, 0x21, 0, 12], // too short for IPv6
        [0x21, 0x11, 0, 11], // too short for IPv4
        [0x21, 0x11, 4, 0],  // too long
    ] {
        let bytes = [&SIGNATURE[..], &head, &[0; 64]].concat();
        assert_eq!(parse(&bytes), Err(Malformed), "{head:02x?}");
    }
}

#[test]
fn trusts_networks_and_nobody_beside() {
    let contains =
        |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
    assert!(contains("192.0.2.0/24", "192.0.2.200"));
    assert!(contains("192.0.2.0/24", "::ffff:192.0.2.200"));
    assert!(!contains("192.0.2.0/24", "192.0.3.1"));
    assert!(contains("192.0.2.1", "192.0.2.1"));
    assert!(!contains("192.0.2.1", "192.0.2.0"));
    assert!(contains("0.0.0.0/0", "203.0.113.9"));
    assert!(!contains("0.0.0.0/0", "2001:db8::1"));
    assert!(contains("2001:db8::/32", "2001:db8:1::1"));
    assert!(!contains("2001:db8::/32", "2001:db9::1"));
    assert!(contains("::/0", "2001:db9::1"));
    for bad in ["", "192.0.2.0/33", "2001:db8::/129", "relay.example", "192.0.2.0/", "192.0.2.0/x"] {
        assert!(bad.parse::<Network>().is_err(), "{bad}");
    }
}
