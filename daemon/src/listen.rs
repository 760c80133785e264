//! Listening sockets.
//!
//! Owns: binding, taking those that a service manager has bound, and changing from some addresses to others. An IPv6 socket
//! takes IPv6 only, so that the defaults 0.0.0.0:5001 and [::]:5001 can both be bound. Must not know what is accepted.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{BACKLOG_MAX, LISTENERS_MAX};

/// The sockets of a relay that listens.
#[derive(Debug, Default)]
pub struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    /// As it was asked for; `None`: it was passed here, and stays.
    wanted: Option<SocketAddr>,
    socket: TcpListener,
}

/// Sockets that nobody accepts from yet.
#[derive(Debug)]
pub struct Opened(Vec<Listener>);

/// Why the relay can't listen.
#[derive(Debug)]
pub enum ListenError {
    /// A socket that was passed here is none that listens.
    Passed(io::Error),
    /// The system refuses this address.
    Address(SocketAddr, io::Error),
    /// There are more than [`LISTENERS_MAX`].
    TooMany,
}

impl ListenError {
    /// Whether another program has the port.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Address(_, error) if error.kind() == io::ErrorKind::AddrInUse)
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(error) => write!(f, "a socket that was passed here: {error}"),
            Self::Address(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::TooMany => write!(f, "{LISTENERS_MAX} addresses to listen on at most"),
        }
    }
}

impl Listeners {
    /// The sockets that were passed here, and those of `wanted`: only where there are none of the former, unless
    /// `is_explicit`, somebody chose them.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn open(wanted: &[SocketAddr], is_explicit: bool) -> Result<Self, ListenError> {
        let passed = passed().map_err(ListenError::Passed)?;
        let mut listeners =
            Self(passed.into_iter().map(|socket| Listener { wanted: None, socket }).collect());
        let Opened(opened) = listeners.open_missing(wanted, is_explicit)?;
        listeners.0.extend(opened);
        Ok(listeners)
    }

    /// Opens those of `wanted` that are not open, for [`Listeners::change`]: nothing is changed yet.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn open_missing(&self, wanted: &[SocketAddr], is_explicit: bool) -> Result<Opened, ListenError> {
        let passed = self.0.iter().filter(|listener| listener.wanted.is_none()).count();
        if passed > 0 && !is_explicit {
            return Ok(Opened(Vec::new()));
        }
        if passed + wanted.len() > LISTENERS_MAX {
            return Err(ListenError::TooMany);
        }
        let mut opened = Vec::new();
        for address in wanted {
            if self.0.iter().any(|listener| listener.wanted == Some(*address)) {
                continue;
            }
            match listen(*address) {
                Ok(socket) => opened.push(Listener { wanted: Some(*address), socket }),
                // A machine without IPv6 is served by the other default address.
                Err(error)
                    if address.is_ipv6() && !is_explicit && error.kind() != io::ErrorKind::AddrInUse =>
                {
                    log::info!("not listening on {address}: {error}");
                }
                Err(error) => return Err(ListenError::Address(*address, error)),
            }
        }
        Ok(Opened(opened))
    }

    /// Listens at `wanted`, of which what was not open was `opened`, in place of where it listened; sockets that were passed here
    /// stay. Connections that were accepted are not touched, nor are sockets at addresses that stay.
    pub fn change(&mut self, wanted: &[SocketAddr], Opened(opened): Opened) {
        self.0.retain(|listener| listener.wanted.is_none_or(|address| wanted.contains(&address)));
        self.0.extend(opened);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&TcpListener> {
        self.0.get(index).map(|listener| &listener.socket)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut TcpListener> {
        self.0.iter_mut().map(|listener| &mut listener.socket)
    }

    /// Where they listen.
    ///
    /// # Errors
    /// What the system says.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(|listener| listener.socket.local_addr()).collect()
    }
}

/// Sockets that stay whatever is configured.
impl From<Vec<TcpListener>> for Listeners {
    fn from(sockets: Vec<TcpListener>) -> Self {
        Self(sockets.into_iter().map(|socket| Listener { wanted: None, socket }).collect())
    }
}

/// The listening sockets that this process was given by who started it (systemd's $LISTEN_FDS): they outlive it.
fn passed() -> io::Result<Vec<TcpListener>> {
    let mut given = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..given.len() {
        if let Some(listener) = given.take_tcp_listener(index)? {
            listener.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(listener));
        }
    }
    Ok(listeners)
}

/// Listens on `address`; port 0 lets the system choose.
///
/// # Errors
/// What the system says: in use, not permitted, no such address or family.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG_MAX).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}
