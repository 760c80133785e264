//! `passphrase`: sets, changes or removes what the home's files are protected with.

use e2e_protocol::e2e::at_rest::KeyParameters;
use rand_chacha::ChaCha20Rng;

use super::failure::{Exit, Failure};
use super::open_home;
use super::options::Options;
use super::secrets::Wanted;
use crate::state::vault::Protection;

pub(super) fn run(options: &Options, mut rng: ChaCha20Rng, remove: bool) -> Result<(), Failure> {
    let mut home = open_home(options, &mut rng)?;
    let was_protected = home.is_protected();
    if remove {
        if !was_protected {
            return Err(Failure::new(Exit::NotPermitted, "this home has no passphrase"));
        }
        home.convert(None)?;
        tell!("the passphrase is removed: whoever can read the files can read what is in them");
        return Ok(());
    }
    let wanted = Wanted {
        what: "new passphrase",
        file: options.passphrases.new.as_ref(),
        variable: "E2E_NEW_PASSPHRASE_FILE",
    };
    let passphrase = wanted.choose()?;
    let protection = Protection::new(&passphrase, KeyParameters::fresh(&mut rng), &mut rng)?;
    home.convert(Some(protection))?;
    if was_protected {
        tell!("the passphrase is changed");
    } else {
        tell!("the passphrase is set; without it nobody, you included, can read what is in this home");
        tell!("backups made before, and free blocks of the disk, may still hold it unprotected");
    }
    Ok(())
}
