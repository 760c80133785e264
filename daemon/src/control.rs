//! What is said at the control socket: a line to the relay, an answer back, and the connection ends.
//!
//! Owns: which orders there are, and how answers look. The first line of an answer is `ok`, or `error` and why; what follows `ok` is for a
//! person, up to a last line, `end`. Must not know sockets, nor carry anything out (`event_loop::orders`). Who says the line: `ctl`.

use e2e_protocol::ids::Name;

use crate::core::admin::NameState;
use crate::status::utc;
use crate::store::StoredToken;

/// The first word of an answer to what was carried out.
pub const ANSWER_OK: &str = "ok";
/// The last line of an answer to what was carried out: without it, some of the answer is missing. Behind a copy there is none, which
/// says itself where it ends.
pub const ANSWER_END: &str = "end";
/// The first word of an answer to what was not; the reason follows.
pub const ANSWER_ERROR: &str = "error";

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Say what the relay is busy with.
    Status,
    /// Say it as Prometheus reads it.
    Metrics,
    /// List these names; all, if there are none.
    Names(Vec<Name>),
    /// Take a name from its owner.
    Remove(Name),
    /// End a name's connections.
    Disconnect(Name),
    /// Make a registration token.
    MakeToken {
        /// It is good for one name.
        once: bool,
        /// What it is for.
        label: String,
    },
    /// List the tokens that were made.
    ListTokens,
    /// Take one back.
    RevokeToken(u32),
    /// Stop as SIGTERM does.
    Drain,
    /// Read the configuration as SIGHUP does.
    Reload,
    /// Write a copy of the store behind the answer.
    Copy,
}

impl Order {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let name =
            |text: &str| text.parse::<Name>().map_err(|error| format!("'{text}' is not a name: {error}"));
        Ok(match words.as_slice() {
            ["status"] => Self::Status,
            ["metrics"] => Self::Metrics,
            ["names", names @ ..] => {
                Self::Names(names.iter().map(|text| name(text)).collect::<Result<_, _>>()?)
            }
            ["remove", text] => Self::Remove(name(text)?),
            ["disconnect", text] => Self::Disconnect(name(text)?),
            ["token", "make", kind @ ("once" | "many"), label @ ..] => {
                Self::MakeToken { once: *kind == "once", label: label.join(" ") }
            }
            ["token", "list"] => Self::ListTokens,
            ["token", "revoke", number] => {
                Self::RevokeToken(number.parse().map_err(|_| format!("'{number}' is no number of a token"))?)
            }
            ["drain"] => Self::Drain,
            ["reload"] => Self::Reload,
            ["copy"] => Self::Copy,
            _ => return Err("there is no such order".to_owned()),
        })
    }
}

/// Above the lines of names.
pub const NAMES_HEAD: &str =
    "NAME                              CONNECTIONS RECEIVES   MESSAGES        BYTES   SENT-BYTES PREKEYS\n";

/// A name's line.
#[must_use]
pub fn name_line(state: &NameState) -> String {
    format!(
        "{:<32}  {:>11} {:<8} {:>10} {:>12} {:>12} {:>7}\n",
        state.name.as_str(),
        state.connections,
        if state.receives { "yes" } else { "no" },
        state.messages,
        state.bytes,
        state.sent_bytes,
        state.prekeys_left,
    )
}

/// Above the lines of tokens.
pub const TOKENS_HEAD: &str = "NUMBER  MADE                  GOOD-FOR    LABEL\n";

/// A token's line: not what its holder says.
#[must_use]
pub fn token_line(token: &StoredToken) -> String {
    let made = utc(token.made / 1_000);
    let good_for = if token.once { "one name" } else { "any name" };
    format!("{:<6}  {made:<20}  {good_for:<10}  {}\n", token.number, token.label).trim_end().to_owned() + "\n"
}
