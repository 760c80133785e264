//! Listening sockets.
//!
//! Owns: binding, and taking those that a service manager has bound. An IPv6 socket takes IPv6 only, so that the defaults 0.0.0.0:5001 and [::]:5001 can
//! both be bound. Must not know what is accepted.

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::BACKLOG_MAX;

/// The listening sockets that this process was given by who started it (systemd's $LISTEN_FDS): they outlive it.
///
/// # Errors
/// If one of them is no listening TCP socket.
pub fn passed() -> io::Result<Vec<TcpListener>> {
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
