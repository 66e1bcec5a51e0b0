//! Histograms of activations that add up exactly.

/// Bins of every histogram, half of them below zero.
pub const BINS: usize = 2048;
/// Half of them, as an exponent of 2.
const HALF_LOG2: i32 = 10;
/// The narrowest range is ±2^-24.
pub const MIN_EXPONENT: i32 = -24;
/// The widest takes in every float32.
pub const MAX_EXPONENT: i32 = 128;

/// How often values of a tensor fell where: [`BINS`] bins of equal width over `[-2^e, 2^e)`.
///
/// When a value lies outside, `e` grows and neighbouring bins merge. An edge of a wide bin is an edge of narrow ones, so a histogram does
/// not depend on the order of its values, and the sum of two is the histogram of all values: to the last count.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    exponent: i32,
    /// It does not grow: what lies outside is counted in the outermost bins.
    bounded: bool,
    /// `[BINS]`, the lowest first.
    counts: Vec<u64>,
    /// Smallest and largest value; with [`Histogram::from_counts`] the edges of the outermost bins that are not empty.
    extremes: Option<(f32, f32)>,
}

/// A value that can't be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("value {index} is NaN or infinite")]
pub struct NonFinite {
    /// Its position.
    pub index: usize,
}

/// Counts that are no histogram's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistogramError {
    /// Another number of bins.
    #[error("{found} counts; a histogram has {BINS}")]
    Bins {
        /// Counts given.
        found: usize,
    },
    /// A range that no histogram has.
    #[error("the range ±2^{exponent} is not between ±2^{MIN_EXPONENT} and ±2^{MAX_EXPONENT}")]
    Exponent {
        /// Exponent given.
        exponent: i32,
    },
    /// More counts than 64 bits hold.
    #[error("the counts add up to more than 2^64")]
    Overflow,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty one that grows.
    pub fn new() -> Self {
        Self {
            exponent: MIN_EXPONENT,
            bounded: false,
            counts: vec![0; BINS],
            extremes: None,
        }
    }

    /// An empty one over `[-2^exponent, 2^exponent)` that does not grow: what lies outside counts as outermost. Those of one exponent have
    /// the same bins, so sums of their [`Self::counts`] need nothing else; that is what a federated calibration adds.
    ///
    /// # Errors
    /// [`HistogramError::Exponent`].
    pub fn bounded(exponent: i32) -> Result<Self, HistogramError> {
        check_exponent(exponent)?;
        Ok(Self {
            exponent,
            bounded: true,
            ..Self::new()
        })
    }

    /// From summed counts of histograms over `[-2^exponent, 2^exponent)`.
    ///
    /// # Errors
    /// [`HistogramError`].
    pub fn from_counts(exponent: i32, counts: &[u64]) -> Result<Self, HistogramError> {
        check_exponent(exponent)?;
        if counts.len() != BINS {
            return Err(HistogramError::Bins { found: counts.len() });
        }
        let total = counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count));
        total.ok_or(HistogramError::Overflow)?;
        let mut histogram = Self {
            counts: counts.to_vec(),
            ..Self::bounded(exponent)?
        };
        let first = counts.iter().position(|&count| count > 0);
        let last = counts.iter().rposition(|&count| count > 0);
        let finite = |edge: f64| edge.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        histogram.extremes = first
            .zip(last)
            .map(|(a, b)| (finite(histogram.edge(a)), finite(histogram.edge(b + 1))));
        Ok(histogram)
    }

    /// Counts values. Nothing is counted when one is not finite.
    ///
    /// # Errors
    /// [`NonFinite`] with the first such value.
    pub fn add(&mut self, values: &[f32]) -> Result<(), NonFinite> {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(NonFinite { index });
        }
        let Some(&first) = values.first() else { return Ok(()) };
        let (low, high) = values.iter().fold((first, first), |(low, high), &v| (low.min(v), high.max(v)));
        self.include(low, high);
        if !self.bounded {
            self.grow(exponent_of(low).max(exponent_of(high)));
        }
        // Exact: a power of two, in double precision.
        let per_unit = f64::from(HALF_LOG2 - self.exponent).exp2();
        let half = (BINS / 2) as i64;
        for &value in values {
            let bin = (f64::from(value) * per_unit).floor().clamp(-(half as f64), (half - 1) as f64) as i64 + half;
            let count = &mut self.counts[bin as usize];
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    /// Adds the other's counts. The order does not matter; where the ranges differ, the sum has the wider one.
    pub fn merge(&mut self, other: &Self) {
        self.grow(other.exponent);
        let shift = (self.exponent - other.exponent) as u32;
        for (bin, &count) in other.counts.iter().enumerate() {
            let sum = &mut self.counts[wider(bin, shift)];
            *sum = sum.saturating_add(count);
        }
        if let Some((low, high)) = other.extremes {
            self.include(low, high);
        }
        self.bounded &= other.bounded;
    }

    /// Its range is `[-2^exponent, 2^exponent)`.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// The counts, the lowest bin first: the slots of a sum. Shape `[BINS]`.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Smallest and largest value; `None` when it is empty.
    pub fn extremes(&self) -> Option<(f32, f32)> {
        self.extremes
    }

    /// Width of a bin.
    pub(crate) fn width(&self) -> f64 {
        f64::from(self.exponent - HALF_LOG2).exp2()
    }

    /// Lower edge of a bin.
    pub(crate) fn edge(&self, bin: usize) -> f64 {
        (bin as f64 - (BINS / 2) as f64) * self.width()
    }

    fn include(&mut self, low: f32, high: f32) {
        let (a, b) = self.extremes.unwrap_or((low, high));
        self.extremes = Some((a.min(low), b.max(high)));
    }

    fn grow(&mut self, exponent: i32) {
        let exponent = exponent.min(MAX_EXPONENT);
        if exponent <= self.exponent {
            return;
        }
        let shift = (exponent - self.exponent) as u32;
        let mut counts = vec![0u64; BINS];
        for (bin, &count) in self.counts.iter().enumerate() {
            let sum = &mut counts[wider(bin, shift)];
            *sum = sum.saturating_add(count);
        }
        self.counts = counts;
        self.exponent = exponent;
    }
}

/// The bin that takes in `bin` when the range is 2^shift times as wide.
fn wider(bin: usize, shift: u32) -> usize {
    let half = (BINS / 2) as i64;
    (((bin as i64 - half) >> shift.min(63)) + half) as usize
}

/// Smallest exponent whose range takes in a finite value.
fn exponent_of(value: f32) -> i32 {
    if value == 0.0 {
        return MIN_EXPONENT;
    }
    let value = f64::from(value);
    let exponent = value.abs().log2().floor() as i32;
    // The logarithm may be off by one near a power of two.
    let fits = |e: &i32| value >= -f64::from(*e).exp2() && value < f64::from(*e).exp2();
    (exponent - 1..=exponent + 2)
        .find(fits)
        .unwrap_or(MAX_EXPONENT)
        .clamp(MIN_EXPONENT, MAX_EXPONENT)
}

fn check_exponent(exponent: i32) -> Result<(), HistogramError> {
    if (MIN_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
        return Ok(());
    }
    Err(HistogramError::Exponent { exponent })
}
