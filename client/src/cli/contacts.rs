//! `contacts` and `verify`: whose keys are pinned, and comparing them over another channel. Neither
//! needs a relay.

use e2e_protocol::ids::Name;
use rand_chacha::ChaCha20Rng;

use super::failure::{Exit, Failure, not_registered};
use super::options::Options;
use super::{open_home, print};
use crate::engine::{Contact, Turn};
use crate::host::now_ms;
use crate::state::Account;

/// Groups of five digits on a line.
const GROUPS_PER_LINE: usize = 4;
const GROUP_DIGITS: usize = 5;

pub(super) fn list(options: &Options, mut rng: ChaCha20Rng) -> Result<(), Failure> {
    let home = open_home(options, &mut rng)?;
    let mut turn = Turn::begin(&home, now_ms(), &mut rng)?;
    if Account::load(&turn.state)?.is_none() {
        return Err(not_registered());
    }
    let lines = turn.contacts()?.into_iter().map(|contact| {
        let Contact { name, pin, verified, changed, missing } = contact;
        let standing = match (changed, verified) {
            (Some(shown), _) => format!("changed to {shown}: nothing passes until it is accepted"),
            (None, true) => "verified".to_owned(),
            (None, false) => "not verified".to_owned(),
        };
        let missing = if missing > 0 { format!("; {missing} messages missing") } else { String::new() };
        format!("{name} {pin} {standing}{missing}\n")
    });
    print(&lines.collect::<String>())
}

pub(super) fn verify(
    options: &Options,
    mut rng: ChaCha20Rng,
    name: &Name,
    code: Option<&str>,
) -> Result<(), Failure> {
    let home = open_home(options, &mut rng)?;
    let mut turn = Turn::begin(&home, now_ms(), &mut rng)?;
    if Account::load(&turn.state)?.is_none() {
        return Err(not_registered());
    }
    let (Some(contact), Some(number)) = (turn.contact(name)?, turn.number_with(name)?) else {
        return Err(Failure::new(Exit::NotPermitted, format!("no key of {name} is known"))
            .hint(format!("the first message to or from {name} brings it")));
    };
    let Some(code) = code else {
        print(&grouped(&number))?;
        let verified = if contact.verified { "verified" } else { "not verified yet" };
        tell!("{name} is {verified}: ask {name} by another way for the number that their client shows");
        tell!("hint: e2e-client verify {name} NUMBER compares it and marks the key");
        return Ok(());
    };
    let digits: String = code.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    if digits != number {
        return Err(Failure::new(
            Exit::BadData,
            format!("this is not the number of the two keys of you and {name}"),
        )
        .hint("a slip, or somebody stands between you: compare again before you write anything secret"));
    }
    turn.set_verified(name)?;
    turn.commit()?;
    tell!("{name} is verified");
    Ok(())
}

/// The number as people read it out.
fn grouped(number: &str) -> String {
    let mut text = String::new();
    for (at, digit) in number.chars().enumerate() {
        if at > 0 && at % GROUP_DIGITS == 0 {
            text.push(if (at / GROUP_DIGITS).is_multiple_of(GROUPS_PER_LINE) { '\n' } else { ' ' });
        }
        text.push(digit);
    }
    text.push('\n');
    text
}
