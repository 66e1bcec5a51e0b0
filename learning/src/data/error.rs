//! What can be wrong with data, by blame.

/// A data file that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A place in the file that does not parse. `line` and `column` count from 1; 0 where the format has none.
    #[error("{file}{}: {problem}", place(*line, *column))]
    Parse {
        /// The file.
        file: String,
        /// Line.
        line: u64,
        /// Column (field).
        column: usize,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The file can't be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Names that do not fit the rows to be written.
    #[error("{problem}")]
    Columns {
        /// What differs, and what to do.
        problem: String,
    },
}

/// Nothing for formats without lines.
fn place(line: u64, column: usize) -> String {
    if line == 0 { String::new() } else { format!(":{line}:{column}") }
}

impl DataError {
    pub(crate) fn parse(file: &str, line: u64, column: usize, problem: impl Into<String>) -> Self {
        Self::Parse {
            file: file.to_owned(),
            line,
            column,
            problem: problem.into(),
        }
    }

    pub(crate) fn io(file: &str, source: std::io::Error) -> Self {
        Self::Io {
            file: file.to_owned(),
            source,
        }
    }
}

/// Rows that can't be shared out as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// No clients.
    #[error("0 clients were asked for; ask for at least 1")]
    NoClients,
    /// Too few rows.
    #[error("{rows} rows can't give {clients} clients {least} each; take fewer clients or more data")]
    TooFewRows {
        /// Rows there are.
        rows: usize,
        /// Clients asked for.
        clients: usize,
        /// What each client must get.
        least: usize,
    },
    /// Not a concentration.
    #[error("alpha is {alpha}; it must be a positive finite number (0.1 is very uneven, 100 nearly even)")]
    Alpha {
        /// What was given.
        alpha: f64,
    },
    /// A target that is not a class.
    #[error("row {row} has the target {target}, which is not a class index 0, 1, 2, ...")]
    Label {
        /// The row, counted from 0.
        row: usize,
        /// Its target.
        target: f32,
    },
}
