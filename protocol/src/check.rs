//! What must hold of a message beyond its shape: every list and text within its limit, every number possible.
//!
//! [`codec::decode`](crate::codec::decode) applies these rules to what a peer sent, [`codec::encode`](crate::codec::encode) to what
//! is about to be sent, so a message that exists in encoded form obeys them.

mod log;
mod messages;
mod records;
mod secagg;

use crate::limits::{MAX_ADDRESS_BYTES, MAX_TAG_BYTES};

/// A message with rules of its own.
pub trait Checked {
    /// Says which rule does not hold.
    ///
    /// # Errors
    /// [`Violation`], for the first one.
    fn check(&self) -> Result<(), Violation>;
}

/// A rule that a message breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Violation {
    /// The field, by its name on the wire.
    pub field: &'static str,
    /// What is wrong with it. Never holds what the peer sent, only its measures.
    pub problem: String,
}

pub(crate) fn violation(field: &'static str, problem: impl Into<String>) -> Violation {
    Violation {
        field,
        problem: problem.into(),
    }
}

/// Whether `text` is a label (a tag, a data contract): 1 to [`MAX_TAG_BYTES`] of `a-z A-Z 0-9 - _ .`
pub fn is_label(text: &str) -> bool {
    (1..=MAX_TAG_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Whether `text` is a name for people: like a label, with spaces inside.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_TAG_BYTES).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_. ".contains(&b))
}

/// Whether `text` is `host:port` with a port of 1 to 65535; an IPv6 address stands in brackets.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_reads = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
    };
    let port_reads = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    text.len() <= MAX_ADDRESS_BYTES && host_reads && port_reads
}

/// At most `max` entries.
fn at_most(field: &'static str, found: usize, max: usize) -> Result<(), Violation> {
    if found <= max {
        Ok(())
    } else {
        Err(violation(field, format!("{found} entries, at most {max} are allowed")))
    }
}

/// From 1 to `max` bytes.
fn filled(field: &'static str, len: usize, max: usize) -> Result<(), Violation> {
    if (1..=max).contains(&len) {
        Ok(())
    } else {
        Err(violation(field, format!("{len} bytes, expected 1 to {max}")))
    }
}

/// A number within bounds.
fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), Violation> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(violation(field, format!("{value} is not within {min} to {max}")))
    }
}

/// Distinct labels, at most `max`.
fn labels(field: &'static str, list: &[String], max: usize) -> Result<(), Violation> {
    at_most(field, list.len(), max)?;
    if !list.iter().all(|text| is_label(text)) {
        return Err(violation(
            field,
            format!("expected 1 to {MAX_TAG_BYTES} of a-z, A-Z, 0-9, '-', '_' and '.'"),
        ));
    }
    distinct(field, list)
}

fn distinct<T: Ord>(field: &'static str, list: &[T]) -> Result<(), Violation> {
    let unique: std::collections::BTreeSet<&T> = list.iter().collect();
    if unique.len() == list.len() {
        Ok(())
    } else {
        Err(violation(field, "an entry is there twice"))
    }
}

/// One line of at most `max` bytes.
fn line(field: &'static str, text: &str, max: usize) -> Result<(), Violation> {
    if text.len() > max {
        return Err(violation(field, format!("{} bytes, at most {max} are allowed", text.len())));
    }
    if text.chars().any(char::is_control) {
        Err(violation(field, "holds a control character"))
    } else {
        Ok(())
    }
}
