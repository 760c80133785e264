//! Names, their keys, and what they have with one another.
//!
//! This file owns what is to be true of the tables that have to do with names. It must not know messages.

use std::collections::{BTreeMap, HashSet};

use e2e_protocol::ids::KeyId;
use e2e_protocol::login::fingerprint;

use super::{
    super::{
        StoreError, Table,
        records::{self, BatchHead, User},
        source::Source,
    },
    FsckReport,
    Gravity::{Lost, Wrong},
};

/// Keys and values.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Who holds which slot.
pub(super) struct People {
    users: BTreeMap<u32, Held>,
    /// All of them could be read.
    are_known: bool,
}

struct Held {
    user: User,
    has_identity_key: bool,
    has_signed_prekey: bool,
}

impl People {
    pub(super) fn look(source: &Source<'_>, report: &mut FsckReport) -> Self {
        let mut people = Self { users: BTreeMap::new(), are_known: true };
        people.names(source, report);
        people.keys(source, report);
        people.prekeys(source, report);
        source.each(Table::Blocks, &mut |key, _| match records::parse_block_key(key) {
            Ok((slot, other)) => {
                for slot in [slot, other] {
                    people.look_held(slot, "a block", report);
                }
            }
            Err(error) => malformed(Table::Blocks, key, &error, report),
        });
        source.each(Table::Tokens, &mut |key, value| {
            if let Err(error) = records::parse_token(key, value) {
                malformed(Table::Tokens, key, &error, report);
            }
        });
        people
    }

    /// For people.
    pub(super) fn name(&self, slot: u32) -> String {
        match self.users.get(&slot) {
            Some(held) => held.user.name.to_string(),
            None => format!("slot {slot}"),
        }
    }

    /// Notes it if nobody holds this slot.
    pub(super) fn look_held(&self, slot: u32, what: &str, report: &mut FsckReport) {
        if self.are_known && !self.users.contains_key(&slot) {
            report.note(Wrong, format!("{what} belongs to slot {slot}, which nobody holds"));
        }
    }

    fn names(&mut self, source: &Source<'_>, report: &mut FsckReport) {
        let mut names = HashSet::new();
        let are_whole = source.each(Table::Users, &mut |key, value| match slot_of(key)
            .and_then(|slot| Ok((slot, User::parse(value)?)))
        {
            Ok((slot, user)) => {
                if !names.insert(user.name) {
                    report.note(Wrong, format!("the name {} is there twice, in slot {slot} too", user.name));
                }
                let held = Held { user, has_identity_key: false, has_signed_prekey: false };
                self.users.insert(slot, held);
            }
            Err(error) => {
                self.are_known = false;
                malformed(Table::Users, key, &error, report);
            }
        });
        self.are_known &= are_whole;
        report.names = self.users.len() as u64;
    }

    fn keys(&mut self, source: &Source<'_>, report: &mut FsckReport) {
        self.each(source, Table::IdentityKeys, report, |held, value, report| {
            let modulus = records::parse_modulus(value)?;
            held.has_identity_key = true;
            if fingerprint(&modulus) != held.user.fingerprint {
                report.note(
                    Lost,
                    format!("the identity key of {} is not that of its fingerprint", held.user.name),
                );
            }
            Ok(())
        });
        self.each(source, Table::RollOvers, report, |held, value, report| {
            let history = records::parse_key_history(value)?;
            if fingerprint(history.present()) != held.user.fingerprint {
                report.note(Wrong, format!("the roll-overs of {} do not lead to its key", held.user.name));
            }
            Ok(())
        });
        self.each(source, Table::SignedPrekeys, report, |held, value, report| {
            let prekey = records::parse_signed_prekey(value)?;
            held.has_signed_prekey = true;
            if records::key_id(&prekey.modulus) != held.user.signed_prekey {
                report.note(Lost, format!("the signed prekey of {} is not the one in force", held.user.name));
            }
            Ok(())
        });
        for Held { user, has_identity_key, has_signed_prekey } in self.users.values() {
            if !has_identity_key {
                report.note(Lost, format!("the identity key of {}", user.name));
            }
            if user.signed_prekey != KeyId::ZERO && !has_signed_prekey {
                report.note(Lost, format!("the signed prekey of {}", user.name));
            }
        }
    }

    /// One-time prekeys are there exactly if they were not handed out.
    fn prekeys(&mut self, source: &Source<'_>, report: &mut FsckReport) {
        let mut found: Option<(u32, Records)> = None;
        let mut looked = HashSet::new();
        let mut close = |slot: u32, found: &Records, report: &mut FsckReport| {
            looked.insert(slot);
            match self.users.get(&slot) {
                Some(held) => look_batches(slot, &held.user, found, report),
                None => self.look_held(slot, "a one-time prekey", report),
            }
        };
        source.each(Table::PrekeyBatches, &mut |key, value| {
            let Ok(slot) = records::slot_of_key(key) else {
                return malformed(Table::PrekeyBatches, key, &StoreError::malformed("key"), report);
            };
            match &mut found {
                Some((of, batches)) if *of == slot => {
                    batches.insert(key.to_vec(), value.to_vec());
                }
                other => {
                    let begun = (slot, BTreeMap::from([(key.to_vec(), value.to_vec())]));
                    if let Some((of, batches)) = other.replace(begun) {
                        close(of, &batches, report);
                    }
                }
            }
        });
        if let Some((of, batches)) = &found {
            close(*of, batches, report);
        }
        for (slot, held) in self.users.iter().filter(|(slot, _)| !looked.contains(*slot)) {
            look_batches(*slot, &held.user, &BTreeMap::new(), report);
        }
    }

    /// Calls `look` with each record of a table that has one for a slot.
    fn each(
        &mut self,
        source: &Source<'_>,
        table: Table,
        report: &mut FsckReport,
        mut look: impl FnMut(&mut Held, &[u8], &mut FsckReport) -> Result<(), StoreError>,
    ) {
        source.each(table, &mut |key, value| match slot_of(key) {
            Ok(slot) => match self.users.get_mut(&slot) {
                Some(held) => {
                    if let Err(error) = look(held, value, report) {
                        malformed(table, key, &error, report);
                    }
                }
                None => self.look_held(slot, &format!("a record of the table {}", table.name()), report),
            },
            Err(error) => malformed(table, key, &error, report),
        });
    }
}

fn look_batches(slot: u32, user: &User, found: &Records, report: &mut FsckReport) {
    let mut expected = 0;
    for (number, batch) in (0..).zip(&user.batches) {
        let (mut missing, mut foreign) = (0, 0);
        let head = found.get(&records::prekey_key(slot, number, 0)).map(|head| BatchHead::parse(head));
        expected += usize::from(head.is_some());
        let head = head.and_then(Result::ok).filter(|head| head.hashes.len() == usize::from(batch.count));
        let Some(head) = head else {
            report.note(Lost, format!("the head of {}'s batch {number} of one-time prekeys", user.name));
            continue;
        };
        for (index, hash) in (1..=batch.count).zip(&head.hashes).skip(batch.used.into()) {
            match found.get(&records::prekey_key(slot, number, index)).map(|key| records::parse_modulus(key))
            {
                None => missing += 1,
                Some(Ok(modulus)) if records::modulus_hash(&modulus) == *hash => report.prekeys += 1,
                Some(_) => foreign += 1,
            }
        }
        expected += usize::from(batch.count - batch.used) - missing;
        if missing + foreign > 0 {
            let (name, of) = (user.name, batch.count);
            let text =
                format!("of {of} one-time prekeys of {name} {missing} are missing, {foreign} are others");
            report.note(Lost, text);
        }
    }
    if found.len() > expected {
        let (name, more) = (user.name, found.len() - expected);
        report
            .note(Wrong, format!("{more} one-time prekeys of {name} are there that it says were handed out"));
    }
}

fn slot_of(key: &[u8]) -> Result<u32, StoreError> {
    key.try_into().map(u32::from_be_bytes).map_err(|_| StoreError::malformed("key"))
}

/// Notes a record that does not have its form.
pub(super) fn malformed(table: Table, key: &[u8], error: &StoreError, report: &mut FsckReport) {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    report.note(Lost, format!("the record {key} of the table {}: {}", table.name(), error.detail));
}
