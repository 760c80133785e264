//! What an administrator writes, and who fetches metrics: the configuration file, a line at the control socket, a request.
//!
//! Owns: what holds for any bytes of them. The first byte chooses which of the three it is.

use e2e_relayd::config_file::{self, Said};
use e2e_relayd::control::Order;
use e2e_relayd::http;
use e2e_relayd::settings::Settings;

/// Takes one of the three.
pub(super) fn read(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 3 {
        0 => configuration(&String::from_utf8_lossy(bytes)),
        1 => order(&String::from_utf8_lossy(bytes)),
        _ => request(bytes),
    }
}

/// A mistake is in a line that is there, and told in one. What is taken can be set, or is refused in one line.
fn configuration(text: &str) {
    let lines = text.split('\n').count();
    match config_file::parse(text) {
        Err(mistake) => {
            assert!((1..=lines).contains(&mistake.line), "line {} of {lines}", mistake.line);
            assert!(!mistake.text.contains('\n') && !mistake.text.is_empty(), "{:?}", mistake.text);
        }
        Ok(said) => {
            let mut settings = Settings::default();
            let mut before = 1;
            for (line, said) in said {
                assert!((before..=lines).contains(&line), "in the order of the file");
                before = line;
                // Names of hosts would be looked up.
                let set = match said {
                    Said::Setting(setting, _) if ["listen", "metrics"].contains(&setting.name) => Ok(()),
                    Said::Setting(setting, values) => settings.set(setting, &values),
                    Said::Limit(name, value) => settings.limits.set(&name, value),
                };
                assert!(set.is_ok() || set.is_err_and(|error| !error.is_empty()));
            }
            let _ = settings.check();
        }
    }
}

/// It is one order or none, and stays what it is.
fn order(line: &str) {
    let parsed = Order::parse(line);
    assert_eq!(parsed, Order::parse(&format!("  {line} \r")), "space around it means nothing");
    if let Err(error) = parsed {
        assert!(!error.is_empty());
    }
}

/// What is clear from a part of it stays so whatever follows.
fn request(bytes: &[u8]) {
    let whole = http::parse(bytes, "/metrics");
    for end in 0..bytes.len() {
        let part = http::parse(bytes.get(..end).unwrap_or_default(), "/metrics");
        assert!(part == http::Request::Incomplete || part == whole, "{part:?}, then {whole:?}");
    }
}
