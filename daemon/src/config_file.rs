//! The configuration file: TOML, one key for each setting, and a table of limits.
//!
//! Owns: what the file may look like, and on which line what stands. Must not know what a setting means (`settings`,
//! `limits`).

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::settings::{Setting, Takes, setting};

/// One thing that the file says.
#[derive(Clone, Debug)]
pub enum Said {
    /// A setting has these values.
    Setting(&'static Setting, Vec<String>),
    /// A limit has this value.
    Limit(String, u64),
}

/// What is wrong with a file, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1 on.
    pub line: usize,
    /// In one line of text.
    pub text: String,
}

/// Reads a file: each thing that it says, with its line.
///
/// # Errors
/// The first [`Mistake`].
pub fn parse(text: &str) -> Result<Vec<(usize, Said)>, Mistake> {
    let line_of = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| Mistake {
        line: line_of(error.span().map_or(0, |span| span.start)),
        text: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
    })?;
    let mut said = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span().start);
        let mistake = |text: String| Mistake { line, text };
        match (&**key.get_ref(), value.get_ref()) {
            ("limits", DeValue::Table(limits)) => {
                for (key, value) in limits {
                    let line = line_of(key.span().start);
                    let name = key.get_ref();
                    let number =
                        number(value).map_err(|text| Mistake { line, text: format!("{name}: {text}") })?;
                    said.push((line, Said::Limit(name.to_string(), number)));
                }
            }
            ("limits", _) => return Err(mistake("limits: a table, [limits]".to_owned())),
            (name, value) => {
                let known = setting(name).ok_or_else(|| mistake(format!("there is no setting '{name}'")))?;
                let values = values(value, known.takes).map_err(|text| mistake(format!("{name}: {text}")))?;
                said.push((line, Said::Setting(known, values)));
            }
        }
    }
    // The parser sorts by key; what is wrong is said in the order of the file.
    said.sort_by_key(|(line, _)| *line);
    Ok(said)
}

fn number(value: &Spanned<DeValue<'_>>) -> Result<u64, String> {
    let DeValue::Integer(number) = value.get_ref() else { return Err("a number is needed".to_owned()) };
    u64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| format!("a number from 1 on is needed, not {number}"))
}

fn values(value: &DeValue<'_>, takes: Takes) -> Result<Vec<String>, String> {
    match (takes, value) {
        (Takes::Switch, DeValue::Boolean(is_on)) => Ok(vec![is_on.to_string()]),
        (Takes::Switch, _) => Err("true or false is needed".to_owned()),
        (Takes::One | Takes::Many, DeValue::String(text)) => Ok(vec![text.to_string()]),
        (Takes::One, _) => Err("a text in quotation marks is needed".to_owned()),
        (Takes::Many, DeValue::Array(texts)) => texts.iter().map(|text| one(text.get_ref())).collect(),
        (Takes::Many, _) => Err(LIST.to_owned()),
    }
}

const LIST: &str = "a list of texts is needed, as in [\"...\", \"...\"]";

fn one(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        _ => Err(LIST.to_owned()),
    }
}
