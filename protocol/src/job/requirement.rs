//! What a job asks of a device: an expression over its [`Capabilities`].

mod parser;
#[cfg(test)]
mod tests;
mod version;

use std::fmt::{self, Display as _};

pub use parser::RequirementError;
use version::Version;

use crate::message::agent::Capabilities;

/// An expression over [`Capabilities`], for instance `memory >= 2GiB and (tag("eu") or not device_class == "phone")`.
///
/// ```text
/// any     := all ("or" all)*
/// all     := one ("and" one)*
/// one     := "not" one | "(" any ")" | "tag" "(" text ")"
///          | "memory" compare number unit? | "cores" compare number | "agent_version" compare text
///          | "device_class" ("==" | "!=") text | "device_class" "in" "[" text ("," text)* "]"
/// compare := "==" | "!=" | "<" | "<=" | ">" | ">="
/// unit    := "kB" | "MB" | "GB" | "KiB" | "MiB" | "GiB"
/// ```
///
/// A text stands in double or single quotes and holds neither. Memory that is not known counts as 0, an agent's version that is none as `0.0.0`.
/// `Display` writes what parses to the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    root: Expression,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    /// At least two.
    Any(Vec<Expression>),
    /// At least two.
    All(Vec<Expression>),
    Not(Box<Expression>),
    Tag(String),
    Memory(Comparison, u64),
    Cores(Comparison, u64),
    AgentVersion(Comparison, Version),
    DeviceClass(Same, String),
    DeviceClassIn(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// What can be asked of texts that have no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Same {
    Equal,
    NotEqual,
}

/// The largest first: a number of bytes is written in the first that divides it.
const UNITS: [(&str, u64); 6] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
];

impl Requirement {
    /// Parses an expression of at most [`MAX_REQUIREMENT_BYTES`](crate::limits::MAX_REQUIREMENT_BYTES), nested at most
    /// [`MAX_REQUIREMENT_DEPTH`](crate::limits::MAX_REQUIREMENT_DEPTH) deep.
    ///
    /// # Errors
    /// [`RequirementError`] with the character, the problem and the fix.
    pub fn parse(text: &str) -> Result<Self, RequirementError> {
        parser::parse(text).map(|root| Self { root })
    }

    /// Whether a device meets it.
    pub fn holds(&self, device: &Capabilities) -> bool {
        self.root.holds(device)
    }
}

impl Expression {
    fn holds(&self, device: &Capabilities) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(device)),
            Self::All(parts) => parts.iter().all(|part| part.holds(device)),
            Self::Not(inner) => !inner.holds(device),
            Self::Tag(tag) => device.tags.contains(tag),
            Self::Memory(comparison, bytes) => comparison.holds(&device.memory_bytes, bytes),
            Self::Cores(comparison, cores) => comparison.holds(&u64::from(device.cores), cores),
            Self::AgentVersion(comparison, version) => {
                let found = Version::parse(&device.agent_version).unwrap_or_default();
                comparison.holds(&found, version)
            }
            Self::DeviceClass(Same::Equal, class) => device.device_class == *class,
            Self::DeviceClass(Same::NotEqual, class) => device.device_class != *class,
            Self::DeviceClassIn(classes) => classes.contains(&device.device_class),
        }
    }
}

impl Comparison {
    const ALL: [Self; 6] = [Self::Equal, Self::NotEqual, Self::Less, Self::AtMost, Self::Greater, Self::AtLeast];

    fn holds<T: Ord>(self, found: &T, asked: &T) -> bool {
        match self {
            Self::Equal => found == asked,
            Self::NotEqual => found != asked,
            Self::Less => found < asked,
            Self::AtMost => found <= asked,
            Self::Greater => found > asked,
            Self::AtLeast => found >= asked,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(parts) => joined(f, parts, " or ", |part| matches!(part, Self::Any(_))),
            Self::All(parts) => joined(f, parts, " and ", |part| matches!(part, Self::Any(_) | Self::All(_))),
            Self::Not(inner) if matches!(**inner, Self::Any(_) | Self::All(_)) => write!(f, "not ({inner})"),
            Self::Not(inner) => write!(f, "not {inner}"),
            Self::Tag(tag) => write!(f, "tag({})", Quoted(tag)),
            Self::Memory(comparison, bytes) => write!(f, "memory {} {}", comparison.text(), Bytes(*bytes)),
            Self::Cores(comparison, cores) => write!(f, "cores {} {cores}", comparison.text()),
            Self::AgentVersion(comparison, version) => write!(f, "agent_version {} \"{version}\"", comparison.text()),
            Self::DeviceClass(Same::Equal, class) => write!(f, "device_class == {}", Quoted(class)),
            Self::DeviceClass(Same::NotEqual, class) => write!(f, "device_class != {}", Quoted(class)),
            Self::DeviceClassIn(classes) => {
                f.write_str("device_class in [")?;
                for (at, class) in classes.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", Quoted(class))?;
                }
                f.write_str("]")
            }
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[Expression], with: &str, in_parentheses: fn(&Expression) -> bool) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(with)?;
        }
        if in_parentheses(part) {
            write!(f, "({part})")?;
        } else {
            part.fmt(f)?;
        }
    }
    Ok(())
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}
