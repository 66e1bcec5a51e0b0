//! The outcome: the settings, and each value's origin for `config show`.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Origin {
    /// The program.
    Default,
    /// A settings file.
    File {
        /// The file's name as it was given.
        name: String,
        /// Line of the value, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag of the command line.
    Flag {
        /// Its name, for instance `--listen`.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}, line {line}"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

/// One value and who set it. A secret's value is replaced by a note.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The key, for instance `policy.allow_plain`.
    pub key: String,
    /// The value; `null` when it is left open.
    pub value: Value,
    /// Who set it.
    pub origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, shown(&self.value), self.origin)
    }
}

/// The settings, and where they came from.
#[derive(Debug, Clone)]
pub struct Resolved<T> {
    /// The settings.
    pub value: T,
    /// Every value with its origin, in order of the keys.
    pub origins: Vec<Setting>,
}

impl<T> Resolved<T> {
    /// A table for people: key, value and origin in columns, a line each.
    pub fn table(&self) -> String {
        let rows: Vec<[String; 3]> = self
            .origins
            .iter()
            .map(|s| [s.key.clone(), shown(&s.value), s.origin.to_string()])
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (keys, values) = (width(0), width(1));
        rows.iter()
            .map(|[key, value, origin]| format!("{key:keys$}  {value:values$}  {origin}\n"))
            .collect()
    }

    /// The same for machines: a list of `{key, value, origin}`.
    pub fn json(&self) -> Value {
        serde_json::to_value(&self.origins).unwrap_or_default()
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".to_owned(),
        value => value.to_string(),
    }
}
