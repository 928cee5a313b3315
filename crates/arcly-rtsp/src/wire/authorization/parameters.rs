//! Schemes and their parameters, as both headers have them (RFC 9110 §11.2).

use core::fmt;
use std::borrow::Cow;

use arcly_core::wire::{DecodeError, DecodeResult};

/// Parameters and schemes of one header that are looked at.
pub const MAX_PARAMETERS: usize = 64;

/// One thing in a list of challenges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// The name of a scheme: what follows belongs to it.
    Scheme(&'a str),
    /// A parameter.
    Parameter(&'a str, Cow<'a, str>),
}

/// The things in a header, in order.
pub(super) fn items(text: &str) -> DecodeResult<Vec<Item<'_>>> {
    let mut rest = text;
    let mut items = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            return Ok(items);
        }
        if items.len() >= MAX_PARAMETERS {
            return Err(DecodeError::LimitExceeded { what: "auth_parameters", limit: MAX_PARAMETERS as u64 });
        }
        let (item, after) = item(rest)?;
        items.push(item);
        rest = after;
    }
}

fn item(text: &str) -> DecodeResult<(Item<'_>, &str)> {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '=' | ',' | '"');
    let (name, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    if name.is_empty() {
        return Err(DecodeError::Malformed { what: "authentication parameter", offset: 0 });
    }
    let Some(value) = rest.trim_start().strip_prefix('=') else { return Ok((Item::Scheme(name), rest)) };
    let value = value.trim_start();
    let (value, rest) = match value.strip_prefix('"') {
        Some(quoted) => unquote(quoted),
        None => {
            // An unquoted value may have blanks in it only where a scheme follows, which a comma then precedes.
            let (value, rest) = value.split_at(value.find(',').unwrap_or(value.len()));
            (Cow::Borrowed(value.trim_end()), rest)
        }
    };
    Ok((Item::Parameter(name, value), rest))
}

/// What stands before the closing quote, and what behind it.
fn unquote(text: &str) -> (Cow<'_, str>, &str) {
    let mut value = Cow::Borrowed("");
    let mut rest = text;
    loop {
        let (part, after) = rest.split_at(rest.find(['"', '\\']).unwrap_or(rest.len()));
        append(&mut value, part);
        let mut chars = after.chars();
        match chars.next() {
            Some('\\') => {
                // `\"` is a quote, and `\\` a backslash.
                let escaped = chars.as_str();
                let len = escaped.chars().next().map_or(0, char::len_utf8);
                let (escaped, after) = escaped.split_at(len);
                append(&mut value, escaped);
                rest = after;
            }
            _ => return (value, chars.as_str()),
        }
    }
}

fn append<'a>(value: &mut Cow<'a, str>, part: &'a str) {
    if value.is_empty() {
        *value = Cow::Borrowed(part);
    } else {
        value.to_mut().push_str(part);
    }
}

/// Writes a value in quotes, on one line.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars().filter(|c| !c.is_control()) {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}
