//! What can be wrong with settings, by who has to mend it.

use crate::Origin;

/// Settings that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The program's own defaults can't be used: a bug.
    #[error("the program's default settings can't be used: {reason}")]
    Defaults {
        /// Why.
        reason: String,
    },
    /// The file is no TOML.
    #[error("{file}, line {line}, column {column}: {problem}")]
    Syntax {
        /// The file's name.
        file: String,
        /// Line, counted from 1.
        line: usize,
        /// Column in characters, counted from 1.
        column: usize,
        /// What the parser says.
        problem: String,
    },
    /// A key, variable or flag that stands for no setting.
    #[error("{origin}: unknown setting {key:?}; {fix}")]
    Unknown {
        /// Where it was given.
        origin: Origin,
        /// The key, for instance `policy.allow_plian`.
        key: String,
        /// What to do about it.
        fix: String,
    },
    /// A value that its setting can't take.
    #[error("{origin}: {key}: {problem}")]
    Value {
        /// Where it was given.
        origin: Origin,
        /// The key.
        key: String,
        /// What is wrong with it. Never quotes a secret.
        problem: String,
    },
    /// Values that are possible one by one, but not together.
    #[error("these settings do not go together: {problem}")]
    Together {
        /// What is wrong.
        problem: String,
    },
}
