//! `export` and `import`: a name moves to another device.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use e2e_protocol::e2e::at_rest::KeyParameters;
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure, not_registered};
use super::open_home;
use super::options::Options;
use super::secrets::Wanted;
use crate::state::Transaction;
use crate::state::export::{EXPORT_BYTES_MAX, Export, ExportError};
use crate::state::permissions::FILE_MODE;

pub(super) fn export(options: &Options, mut rng: ChaCha20Rng, to: &Path) -> Result<(), Failure> {
    let home = open_home(options, &mut rng)?;
    let (export, left) = Export::from_home(&Transaction::begin(&home)?).map_err(failure)?;
    if to.symlink_metadata().is_ok() {
        return Err(cannot_write(to, &io::ErrorKind::AlreadyExists.into()));
    }
    let passphrase = wanted(options, "passphrase for the exported file").choose()?;
    let file = export.seal(&passphrase, KeyParameters::fresh(&mut rng), &mut rng).map_err(failure)?;
    write_new(to, &file).map_err(|error| cannot_write(to, &error))?;
    let name = export.account.name;
    tell!("exported {name} to {}", to.display());
    tell!("fingerprint {}", export.identity.fingerprint());
    tell!(
        "it holds the keys of {} contacts, and no sessions, prekeys or messages; in this home stay: {} without a receipt in the outbox, {} not shown",
        export.contacts.len(),
        left.outbox,
        left.inbox
    );
    tell!("once it is imported elsewhere, do not use this home any more: a name is one device");
    Ok(())
}

pub(super) fn import(options: &Options, mut rng: ChaCha20Rng, from: &Path) -> Result<(), Failure> {
    let cannot_read =
        |error: io::Error| Failure::new(Exit::BadData, format!("cannot read {}: {error}", from.display()));
    let mut file = Zeroizing::new(Vec::new());
    let limit = u64::try_from(EXPORT_BYTES_MAX).unwrap_or(u64::MAX);
    File::open(from)
        .and_then(|opened| opened.take(limit.saturating_add(1)).read_to_end(&mut file))
        .map_err(cannot_read)?;
    if file.len() > EXPORT_BYTES_MAX {
        return Err(failure(ExportError::Malformed));
    }
    KeyParameters::of(&file).map_err(|error| failure(error.into()))?;
    let home = open_home(options, &mut rng)?;
    Export::check_empty(&Transaction::begin(&home)?).map_err(failure)?;

    let passphrase = wanted(options, "passphrase of the exported file").get()?;
    let export = Export::open(&file, &passphrase).map_err(failure)?;
    let mut state = Transaction::begin(&home)?;
    export.put_into(&mut state).map_err(failure)?;
    state.commit()?;
    tell!("imported {}, and the keys of {} contacts", export.account.name, export.contacts.len());
    tell!("fingerprint {}", export.identity.fingerprint());
    tell!("do not use the old home any more: a name is one device");
    tell!("the next recv publishes new prekeys; until then nobody can start a conversation that opens here");
    if !home.is_protected() {
        tell!("this home has no passphrase; e2e-client passphrase sets one");
    }
    Ok(())
}

fn wanted<'a>(options: &'a Options, what: &'a str) -> Wanted<'a> {
    Wanted { what, file: options.passphrases.export.as_ref(), variable: "E2E_EXPORT_PASSPHRASE_FILE" }
}

/// Makes a file that wasn't there, durable, for its owner only.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    });
    if written.is_err() {
        // Half of it is of no use to anybody.
        let _ = fs::remove_file(path);
    }
    written
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let error = format!("{} exists already; nothing is overwritten", path.display());
            Failure::new(Exit::CannotWrite, error).hint("choose another FILE")
        }
        _ => Failure::new(Exit::CannotWrite, format!("cannot write {}: {error}", path.display())),
    }
}

fn failure(error: ExportError) -> Failure {
    match error {
        ExportError::NotRegistered => not_registered(),
        ExportError::NotEmpty(account) => {
            Failure::new(Exit::NotPermitted, format!("this home has an identity already: {}", account.name))
                .hint("import into a new home: -H DIR")
        }
        ExportError::HasKey => Failure::new(Exit::NotPermitted, "this home has an identity key already")
            .hint("import into a new home: -H DIR"),
        ExportError::Malformed => Failure::new(Exit::BadData, "this is not an exported identity"),
        ExportError::Newer(_) => Failure::new(Exit::BadData, "a newer client exported this identity")
            .hint("import it with that client"),
        ExportError::Cost(log2_n) => Failure::new(
            Exit::BadData,
            format!("this is not an exported identity: it asks for a key derivation of 2^{log2_n} steps"),
        ),
        ExportError::WrongPassphrase => {
            Failure::new(Exit::NotPermitted, "the passphrase is wrong, or the file was changed")
        }
        ExportError::State(error) => error.into(),
    }
}
