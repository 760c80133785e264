//! A non-blocking connection with its buffers.
//!
//! Owns: reading and writing bytes. Must not know what they mean.

use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;

/// Bytes that one read takes at most: more than any message of any system here.
const BUFFER_BYTES: usize = 256 * 1024;

/// See the module.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    filled: usize,
    pub(crate) to_write: Vec<u8>,
    written: usize,
}

impl Socket {
    /// Over a connection that was made, and has nothing unread.
    pub(crate) fn new(stream: std::net::TcpStream) -> Self {
        stream.set_nonblocking(true).expect("the option is there");
        Self {
            stream: TcpStream::from_std(stream),
            received: vec![0; BUFFER_BYTES],
            filled: 0,
            to_write: Vec::new(),
            written: 0,
        }
    }

    /// Writes what waits, as far as it goes.
    pub(crate) fn flush(&mut self) {
        while self.written < self.to_write.len() {
            match self.stream.write(&self.to_write[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("writing: {error}"),
            }
        }
        self.written = 0;
        self.to_write.clear();
    }

    /// Reads what is there. `take` is shown all that came and returns how much of it was used; it may put
    /// something to write into the second.
    pub(crate) fn read(&mut self, mut take: impl FnMut(&[u8], &mut Vec<u8>) -> usize) {
        loop {
            match self.stream.read(&mut self.received[self.filled..]) {
                Ok(0) => panic!("the connection was closed by the other side"),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("reading: {error}"),
            }
            let used = take(&self.received[..self.filled], &mut self.to_write);
            self.received.copy_within(used..self.filled, 0);
            self.filled -= used;
        }
    }
}
