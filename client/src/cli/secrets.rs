//! Where passphrases come from: a file that the environment names, or the terminal.
//!
//! Owns: what a passphrase may be, and what is said if there is none. Must not know what it protects.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use e2e_protocol::e2e::at_rest::PASSPHRASE_BYTES_MAX;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use super::terminal::{Answer, ask};

/// A passphrase, 1 to [`PASSPHRASE_BYTES_MAX`] bytes. Erased when dropped.
pub(super) type Passphrase = Zeroizing<Vec<u8>>;

/// One passphrase: how it is called, and where it comes from.
pub(super) struct Wanted<'a> {
    /// The prompt, without its colon.
    pub(super) what: &'a str,
    /// The file whose first line it is, if the environment names one.
    pub(super) file: Option<&'a PathBuf>,
    /// The variable that can.
    pub(super) variable: &'static str,
}

impl Wanted<'_> {
    /// One that exists.
    pub(super) fn get(&self) -> Result<Passphrase, Failure> {
        match self.file {
            Some(path) => from_file(path),
            None => self.type_in(self.what).and_then(check),
        }
    }

    /// A new one: what is typed is asked for twice.
    pub(super) fn choose(&self) -> Result<Passphrase, Failure> {
        if let Some(path) = self.file {
            return from_file(path);
        }
        let first = check(self.type_in(self.what)?)?;
        if *self.type_in("the same again")? != *first {
            return Err(Failure::new(Exit::BadData, "the two passphrases are not the same"));
        }
        Ok(first)
    }

    fn type_in(&self, what: &str) -> Result<Passphrase, Failure> {
        match ask(&format!("{what}: ")) {
            Ok(Answer::Line(line)) => Ok(line),
            Ok(Answer::Cancelled) => Err(Failure::new(Exit::NotPermitted, "no passphrase was given")),
            Ok(Answer::NoTerminal) => {
                let error = format!("no {}: there is no terminal to ask on", self.what);
                Err(Failure::new(Exit::NotPermitted, error)
                    .hint(format!("${} names a file whose first line it is", self.variable)))
            }
            Err(error) => {
                Err(Failure::new(Exit::NotPermitted, format!("the terminal can't be used: {error}")))
            }
        }
    }
}

/// The first line of a file, which may be a pipe.
fn from_file(path: &PathBuf) -> Result<Passphrase, Failure> {
    // With room for a line that is too long by one and its end, reading never grows the buffer.
    let mut text = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 4));
    let mut bytes = Zeroizing::new([0; 1]);
    let failure = |error| Failure::new(Exit::BadData, format!("cannot read {}: {error}", path.display()));
    let mut file = File::open(path).map_err(failure)?;
    while text.len() < PASSPHRASE_BYTES_MAX + 2 && file.read(bytes.as_mut_slice()).map_err(failure)? == 1 {
        if *bytes == [b'\n'] {
            break;
        }
        text.extend_from_slice(bytes.as_slice());
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    check(text)
}

fn check(passphrase: Passphrase) -> Result<Passphrase, Failure> {
    if passphrase.is_empty() {
        return Err(Failure::new(Exit::BadData, "the passphrase is empty"));
    }
    if passphrase.len() > PASSPHRASE_BYTES_MAX {
        let error = format!("the passphrase is longer than {PASSPHRASE_BYTES_MAX} bytes");
        return Err(Failure::new(Exit::BadData, error));
    }
    Ok(passphrase)
}
