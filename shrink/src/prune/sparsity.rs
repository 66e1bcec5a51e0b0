//! A share of zeros.

use std::fmt;

use super::PruneError;

/// Share of weights that are zero, in `[0, 1)`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Sparsity(f64);

impl Sparsity {
    /// Nothing is pruned.
    pub const DENSE: Self = Self(0.0);

    /// # Errors
    /// [`PruneError::Sparsity`] for what is no share (NaN, below 0, above 1), and for 1, which leaves no weight.
    pub fn new(share: f64) -> Result<Self, PruneError> {
        let problem = match share {
            _ if share.is_nan() => "is no number",
            _ if share < 0.0 => "is negative",
            _ if share == 1.0 => "leaves no weight at all",
            _ if share > 1.0 => "is more than everything",
            _ => return Ok(Self(share)),
        };
        let found = share.to_string();
        Err(PruneError::Sparsity { found, problem })
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }

    /// Weights of `total` that are zero: rounded to the nearest, and never all of them.
    pub fn count(self, total: usize) -> usize {
        // Exact up to 2^53 weights, more than any model that is read has.
        let rounded = (self.0 * total as f64).round() as usize;
        rounded.min(total.saturating_sub(1))
    }
}

impl TryFrom<f64> for Sparsity {
    type Error = PruneError;

    fn try_from(share: f64) -> Result<Self, PruneError> {
        Self::new(share)
    }
}

impl fmt::Display for Sparsity {
    /// In percent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0 * 100.0)
    }
}
