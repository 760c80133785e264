//! Where a connection comes from, as far as limits care.
//!
//! Owns: what counts as one source. An IPv4 address is one; of an IPv6 address the /64, which is what one site
//! is given at least. Must not know sockets or what is limited.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One source of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressKey {
    /// An IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address.
    V6([u8; 8]),
    /// Nobody knows yet: a trusted proxy is about to say.
    Behind,
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4(bits) => write!(f, "{}", Ipv4Addr::from_bits(bits)),
            Self::Behind => f.write_str("behind a proxy"),
            Self::V6(site) => {
                write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(site)) << 64))
            }
        }
    }
}
