//! What `e2e-relayd --limits` prints.
//!
//! Owns: the page. The limits themselves are in `limits`, `store::limits` and `e2e_protocol::limits`, what they add up to in
//! `core::ceiling`.

use std::fmt::Write as _;

use e2e_protocol::limits as wire;

use crate::core::ceiling;
use crate::limits::{self, Described, Limits};
use crate::store::limits as store;

/// The page for these limits.
#[must_use]
pub fn page(limits: &Limits) -> String {
    let mut text = String::new();
    section(&mut text, "What --limit NAME=NUMBER changes", &limits.described());
    section(&mut text, "What the relay fixes", &limits::fixed());
    section(&mut text, "What spec/wire.md fixes", wire::ALL);
    section(&mut text, "What the store fixes", &store::fixed());
    let lines = ceiling::lines(limits);
    let allocator = ceiling::bytes_max(limits) - ceiling::sum(&lines);
    put(&mut text, format_args!("The most memory that this can use, in bytes\n"));
    for (what, bytes) in lines.into_iter().chain([("the allocator, a quarter of it", allocator)]) {
        put(&mut text, format_args!("  {bytes:>12}  {what}\n"));
    }
    put(&mut text, format_args!("  {:>12}  in all\n", ceiling::bytes_max(limits)));
    text
}

fn section(text: &mut String, title: &str, limits: &[Described]) {
    put(text, format_args!("{title}\n"));
    let width = limits.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0);
    for (name, value, what) in limits {
        let what: Vec<_> = what.iter().map(|line| line.trim()).collect();
        put(text, format_args!("  {name:<width$}  {value:>10} {:<11}  {}\n", unit(name), what.join(" ")));
    }
    text.push('\n');
}

/// What a limit counts, by the word in its name that says so.
pub(crate) fn unit(name: &str) -> &'static str {
    const UNITS: &[(&str, &str)] = &[
        ("bytes", "bytes"),
        ("capacity", "bytes"),
        ("chunk", "bytes"),
        ("offset", "bytes"),
        ("_ms", "ms"),
        ("wait", "ms"),
        ("seconds", "s"),
        ("log_lines", "lines"),
        ("logins", "logins"),
        ("verifications", "signatures"),
        ("lookups", "requests"),
        ("publishes", "requests"),
        ("expired", "frames"),
        ("skipped", "frames"),
        ("rates", "entries"),
        ("tokens", "tokens"),
        ("guests", "guests"),
        ("text_sessions", "sessions"),
        ("listeners", "addresses"),
        ("backlog", "connections"),
        ("accepts", "connections"),
        ("newcomers", "connections"),
        ("events", "events"),
        ("buffers", "buffers"),
        ("parting", "sockets"),
        ("deadlines", "deadlines"),
        ("range", "messages"),
        ("window", "numbers"),
        ("query", "numbers"),
        ("batches", "batches"),
        ("watchers", "connections"),
        ("watches", "names"),
        ("blocks", "names"),
        ("who_count", "names"),
        ("presence", "names"),
        ("salvages", "times"),
        ("floor_part", "parts"),
        ("depth", "levels"),
        ("registrations", "names"),
        ("connections", "connections"),
        ("roll_overs", "roll-overs"),
        ("prekeys", "prekeys"),
        ("keys", "keys"),
        ("lanes", "lanes"),
        ("messages", "frames"),
        ("deliveries", "frames"),
        ("requests", "requests"),
        ("names", "names"),
        ("notices", "notices"),
    ];
    let name = name.to_lowercase();
    UNITS.iter().find(|(word, _)| name.contains(word)).map_or("", |(_, unit)| unit)
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = text.write_fmt(arguments);
}
