//! The header with which a trusted proxy says for whom it speaks: PROXY protocol, version 2 (spec/wire.md, "Behind a
//! proxy").
//!
//! Owns: its bytes, and which addresses are trusted. Must not know sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What such a header starts with. Its first byte is neither a frame's nor printable.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses: signature, version and command, family, length.
const HEAD_BYTES: usize = 16;

/// What was found at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All fits so far, and more bytes are needed.
    Incomplete,
    /// A header.
    Header {
        /// From where the proxy's client came; `None`: the proxy speaks for itself, or doesn't say.
        source: Option<SocketAddr>,
        /// Bytes of the header.
        bytes: usize,
    },
}

/// It is no header, or one that can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Looks at the header at the start of `bytes`.
///
/// # Errors
/// [`Malformed`], as soon as that is clear.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let compared = bytes.len().min(SIGNATURE.len());
    if bytes.get(..compared) != SIGNATURE.get(..compared) {
        return Err(Malformed);
    }
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Ok(Parsed::Incomplete) };
    let &[.., command, family, high, low] = head else { return Err(Malformed) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if HEAD_BYTES + length > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed);
    }
    // LOCAL: the proxy's own connection, such as a check of health; what follows is not looked at.
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed),
    };
    let Some(addresses) = rest.get(..length) else { return Ok(Parsed::Incomplete) };
    let source = match family {
        _ if is_local => None,
        // Over TCP, IPv4: both addresses, then both ports. Then what this relay doesn't look at.
        0x11 => {
            let address = addresses.first_chunk::<4>().map(|octets| IpAddr::from(Ipv4Addr::from(*octets)));
            Some((address, addresses.get(8..12)))
        }
        0x21 => {
            let address = addresses.first_chunk::<16>().map(|octets| IpAddr::from(Ipv6Addr::from(*octets)));
            Some((address, addresses.get(32..36)))
        }
        // The proxy doesn't know.
        0x00 => None,
        _ => return Err(Malformed),
    };
    let source = match source {
        None => None,
        Some((Some(address), Some(&[high, low, _, _]))) => {
            Some(SocketAddr::new(address, u16::from_be_bytes([high, low])))
        }
        Some(_) => return Err(Malformed),
    };
    Ok(Parsed::Header { source, bytes: HEAD_BYTES + length })
}

/// Addresses with the same first bits: `192.0.2.0/24`, or one: `192.0.2.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Whether an address is one of them. An IPv4 address inside an IPv6 one is that IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| format!("'{address}' is no IP address"))?;
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= bits)
                .ok_or(format!("'{prefix}' is no prefix of {bits} bits"))?,
        };
        Ok(Self { address, prefix })
    }
}
