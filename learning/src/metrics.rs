//! What an evaluation measures.

/// Over a whole data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Share of right answers, 0 to 1; `None` for regression.
    pub accuracy: Option<f64>,
    /// Examples.
    pub examples: u64,
}
