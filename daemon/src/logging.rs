//! The log: what is written to standard error, and how.
//!
//! Owns: the format and the level. Must not know what is logged.

use log::LevelFilter;

/// Starts it. $RUST_LOG, where it is set, wins over `level`, now and later.
pub fn start(level: LevelFilter) {
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("trace"));
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        // The journal has the time already.
        builder.format_timestamp(None);
    }
    builder.init();
    set_level(level);
}

/// Logs so much from now on.
pub fn set_level(level: LevelFilter) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
    }
}
