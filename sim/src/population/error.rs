//! What can be wrong with a population.

use std::fmt;

/// Why a population can't be: the field and the fix, and where it stands, if it is from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PopulationError {
    /// Line and column, counted from 1; `None` for what is no mistake of the file alone.
    pub place: Option<(usize, usize)>,
    /// The key, for instance `devices[1].gflops`; `clients` and `cohort` are the flags.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl PopulationError {
    /// An error without a place.
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            place: None,
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for PopulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        write!(f, "{}: {}; {}", self.field, self.problem, self.fix)
    }
}

impl std::error::Error for PopulationError {}
