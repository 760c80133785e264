//! Asking for a passphrase on the terminal.
//!
//! Owns: the prompt, keeping what is typed from being shown, and putting the terminal back. Must not know
//! what the passphrase is for.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};

use e2e_protocol::e2e::at_rest::PASSPHRASE_BYTES_MAX;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize, Zeroizing};

/// The terminal that the user sits at, even if standard input comes from elsewhere.
const TERMINAL: &str = "/dev/tty";

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const DELETE: u8 = 0x7F;

/// What came of asking.
pub(super) enum Answer {
    /// A line, without its end.
    Line(Zeroizing<Vec<u8>>),
    /// The user doesn't want to say: Ctrl-C or Ctrl-D.
    Cancelled,
    /// Nobody is there to be asked.
    NoTerminal,
}

/// A terminal that shows nothing and gives each byte as it is typed. Dropped, it is as before.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn new(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        // Signals too come as bytes, so that Ctrl-C can't end the process while nothing is shown.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
        let _ = self.terminal.write_all(b"\n");
    }
}

/// Asks for a line that is not shown. Who has redirected standard error has nobody sitting there.
///
/// # Errors
/// What the terminal says.
pub(super) fn ask(prompt: &str) -> io::Result<Answer> {
    if !io::stderr().is_terminal() {
        return Ok(Answer::NoTerminal);
    }
    let Ok(terminal) = OpenOptions::new().read(true).write(true).open(TERMINAL) else {
        return Ok(Answer::NoTerminal);
    };
    let mut quiet = Quiet::new(terminal)?;
    // Last: what is typed once the prompt is there counts, and is not shown.
    quiet.terminal.write_all(prompt.as_bytes())?;
    // Never grows, and so leaves no copies behind; one byte more than may be tells what is too long.
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 1));
    loop {
        let mut byte = [0];
        if quiet.terminal.read(&mut byte)? == 0 {
            return Ok(Answer::Cancelled);
        }
        match byte {
            [b'\n' | b'\r'] => return Ok(Answer::Line(line)),
            [CTRL_C | CTRL_D] => return Ok(Answer::Cancelled),
            [CTRL_U] => line.clear(),
            [BACKSPACE | DELETE] => erase_character(&mut line),
            [typed] if line.len() <= PASSPHRASE_BYTES_MAX => line.push(typed),
            _ => {}
        }
        byte.zeroize();
    }
}

/// The last character, which in UTF-8 may be several bytes.
fn erase_character(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0xC0 != 0x80 {
            return;
        }
    }
}
