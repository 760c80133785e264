//! What is counted in a seed.
//!
//! Owns: the counters, their sum, and their JSON. Must not know what they are good for.

use super::HOUR_MS;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident),* $(,)?) => {
        /// What happened in one seed or in many.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $field: u64,)*
        }

        impl Counts {
            /// Both together.
            #[must_use]
            pub fn plus(self, other: &Self) -> Self {
                Self { $($field: self.$field + other.$field,)* }
            }

            fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }
        }
    };
}

counters! {
    /// Seeds.
    seeds,
    /// Messages that were delivered, each counted once.
    messages,
    /// Messages that were written.
    written,
    /// SEND frames.
    sends,
    /// DELIVER frames.
    deliveries,
    /// NOTICE frames.
    notices,
    /// Results COLLECTED.
    collected,
    /// Results STORED.
    stored,
    /// Results REFUSED.
    refused,
    /// Results UNCERTAIN.
    uncertain,
    /// Results and notices EXPIRED.
    expired,
    /// Results DONE.
    done,
    /// Receipts that say that a message could not be opened.
    rejected,
    /// Messages that the relay delivered as two.
    doubled,
    /// Logins.
    logins,
    /// Names that got a new key.
    rolled,
    /// Names that were claimed.
    claimed,
    /// PUBLISHED prekeys, signed ones or batches or both.
    published,
    /// Bundles that were handed out.
    bundles,
    /// One-time prekeys that were handed out.
    handed_out,
    /// Messages under an id that another one had, which were refused.
    conflicts,
    /// Messages that were refused because too much of their sender's waits.
    over_quota,
    /// Questions for ids that were answered.
    queries,
    /// Lanes that went on on another connection while the former lived.
    moved,
    /// Faults of all kinds: those below, and connections cut, ended, stalled and delayed.
    faults,
    /// Connections cut, ended or left by one side.
    cuts,
    /// Crashes of the relay.
    crashes,
    /// Clean restarts of the relay.
    restarts,
    /// Times at which the disk failed, was full or slow.
    disk_faults,
    /// Commits that failed.
    failed_commits,
    /// Clocks that were set.
    clocks,
    /// Turns of the relay.
    turns,
    /// Virtual time.
    milliseconds,
}

impl Counts {
    /// One JSON object.
    #[must_use]
    pub fn json(&self, violations: usize) -> String {
        let mut text = String::from("{");
        for (name, count) in self.fields() {
            match name {
                "milliseconds" => text += &format!("\"hours\":{},", count / HOUR_MS),
                _ => text += &format!("\"{name}\":{count},"),
            }
        }
        text + &format!("\"violations\":{violations}}}")
    }
}
