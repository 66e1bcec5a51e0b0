//! What a cohort's sum says.

use aimass_compression::{Accumulator, DecodeError, SlotSum};
use aimass_protocol::job::{AggregationMode, AnalyzeSection, Feature, Measure};
use aimass_protocol::limits::MAX_REPORT_BYTES;
use serde::{Deserialize, Serialize};

use crate::Shape;
use crate::figures::{moments, quantile};

const FORMAT: &str = "aimass-analytics/1";
const QUARTILES: [f64; 3] = [0.25, 0.5, 0.75];

/// The report of a round: what all its agents counted together. `docs/job-file.md` describes its JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// `aimass-analytics/1`.
    pub format: String,
    /// Counted from 1; 0 in the empty report that a job starts from.
    pub round: u32,
    /// Whether the sum was of masked numbers.
    pub mode: AggregationMode,
    /// Agents in the sum.
    pub agents: u32,
    /// Their rows that were counted.
    pub rows: u64,
    /// Agents that have more rows than count.
    pub capped_agents: u32,
    /// Most rows of an agent that count.
    pub max_rows: u32,
    /// Bits of a level: values are rounded to 2^bits - 1 steps of their range.
    pub bits: u8,
    /// In the order of the job file.
    pub features: Vec<FeatureReport>,
}

/// What was counted of a feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureReport {
    /// The column or array.
    pub name: String,
    /// Index within a row; none where a row holds one value.
    pub index: Option<u32>,
    /// Values that are there: rows less `missing`.
    pub count: u64,
    /// Values that are missing or no finite numbers.
    pub missing: u64,
    /// Of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<RangeCounts>,
    /// Of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassCounts>,
}

/// Numbers within a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeCounts {
    /// Values below count as this.
    pub low: f64,
    /// Values above count as this.
    pub high: f64,
    /// Values below `low`.
    pub below: u64,
    /// Values above `high`.
    pub above: u64,
    /// Sum of the levels; level q stands for low + q (high - low) / (2^bits - 1).
    pub sum: u64,
    /// Sum of the squares of the levels.
    pub squares: u64,
    /// Values within the range, by bins of equal width; the last one holds `high`.
    pub bins: Vec<u64>,
    /// Of the values as they count; none of no values.
    pub mean: Option<f64>,
    /// Standard deviation of all of them (not the estimate from a sample).
    pub sd: Option<f64>,
    /// What `mean` and `sd` are off by at most, against those of the unrounded values.
    pub error: f64,
    /// 25, 50 and 75 %, interpolated within their bins, so off by at most a bin's width; none without bins.
    pub quartiles: Option<[f64; 3]>,
}

/// Class indices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassCounts {
    /// How often each class comes.
    pub counts: Vec<u64>,
    /// Values that are none of them.
    pub other: u64,
}

/// A sum that makes no report, or bytes that are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The sum can't be read.
    #[error(transparent)]
    Sum(#[from] DecodeError),
    /// No rows make these numbers.
    #[error("the numbers of {what} contradict each other: an agent counted wrongly, or sent what it did not count; the round is lost")]
    Contradiction {
        /// A feature, or `rows`.
        what: String,
    },
    /// Bytes of something else.
    #[error("this is no report of an analytics job: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
}

impl Report {
    /// Of nobody: what a job starts from.
    pub fn empty(analyze: &AnalyzeSection, mode: AggregationMode) -> Self {
        let sums = Shape::of(analyze).slots().map(|(_, len, _)| vec![0; len]);
        Self::of(analyze, mode, (0, 0), sums)
    }

    /// Of the sum of a round.
    ///
    /// # Errors
    /// [`ReportError::Sum`], [`ReportError::Contradiction`].
    pub fn of_sum(analyze: &AnalyzeSection, mode: AggregationMode, round: u32, sum: &Accumulator) -> Result<Self, ReportError> {
        let shape = Shape::of(analyze);
        let mut sums: [Vec<u64>; 10] = Default::default();
        for (into, (name, len, _)) in sums.iter_mut().zip(shape.slots()) {
            *into = match len {
                0 => continue,
                _ => match sum.slot(name)? {
                    SlotSum::Exact(values) => values,
                    SlotSum::Stochastic(_) => return Err(DecodeError::NoSlot { slot: name }.into()),
                },
            };
        }
        let report = Self::of(analyze, mode, (round, sum.count()), sums);
        report.check(shape.top_level())?;
        Ok(report)
    }

    /// `sums`: of each slot, as many as the shape has.
    fn of(analyze: &AnalyzeSection, mode: AggregationMode, (round, agents): (u32, u32), sums: [Vec<u64>; 10]) -> Self {
        let shape = Shape::of(analyze);
        let [
            mut rows,
            mut capped,
            mut missing,
            mut below,
            mut above,
            mut sum,
            mut squares,
            mut bins,
            mut other,
            mut classes,
        ] = sums.map(Vec::into_iter);
        let next = |values: &mut std::vec::IntoIter<u64>| values.next().unwrap_or_default();
        let mut report = Self {
            format: FORMAT.to_owned(),
            round,
            mode,
            agents,
            rows: next(&mut rows),
            capped_agents: u32::try_from(next(&mut capped)).unwrap_or(u32::MAX),
            max_rows: shape.max_rows,
            bits: shape.bits,
            features: Vec::with_capacity(shape.features),
        };
        for Feature { name, index, measure } in analyze.features() {
            let missing = next(&mut missing);
            let mut feature = FeatureReport {
                name: name.to_owned(),
                index,
                count: report.rows.saturating_sub(missing),
                missing,
                range: None,
                classes: None,
            };
            match measure {
                Measure::Range { low, high, bins: n_bins } => {
                    let (below, above) = (next(&mut below), next(&mut above));
                    let (sum, squares) = (next(&mut sum), next(&mut squares));
                    let bins: Vec<u64> = bins.by_ref().take(n_bins as usize).collect();
                    let step = (high - low) / shape.top_level() as f64;
                    let moments = moments(feature.count, sum, squares);
                    let quartile = |share| quantile(share, (low, high), below, &bins, above);
                    let quartiles = match QUARTILES.map(quartile) {
                        [Some(first), Some(median), Some(third)] => Some([first, median, third]),
                        _ => None,
                    };
                    feature.range = Some(RangeCounts {
                        low,
                        high,
                        below,
                        above,
                        sum,
                        squares,
                        bins,
                        mean: moments.map(|(mean, _)| low + mean * step),
                        sd: moments.map(|(_, sd)| sd * step),
                        error: step / 2.0,
                        quartiles,
                    });
                }
                Measure::Classes { classes: n_classes } => {
                    feature.classes = Some(ClassCounts {
                        counts: classes.by_ref().take(n_classes as usize).collect(),
                        other: next(&mut other),
                    });
                }
            }
            report.features.push(feature);
        }
        report
    }

    /// Whether there are rows that make these numbers, as far as that shows.
    fn check(&self, top: u64) -> Result<(), ReportError> {
        let contradiction = |what: String| Err(ReportError::Contradiction { what });
        if self.capped_agents > self.agents || self.rows > u64::from(self.agents) * u64::from(self.max_rows) {
            return contradiction("rows".to_owned());
        }
        for feature in &self.features {
            let count = feature.count;
            let fits = feature.missing <= self.rows
                && feature.range.as_ref().is_none_or(|range| range.is_possible(count, top))
                && feature.classes.as_ref().is_none_or(|classes| {
                    let all = classes.counts.iter().try_fold(classes.other, |all, n| all.checked_add(*n));
                    all == Some(count)
                });
            if !fits {
                return contradiction(feature.title());
            }
        }
        Ok(())
    }

    /// As it is stored: JSON, the same bytes for the same report.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers, texts and lists can be written.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads what [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// [`ReportError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let malformed = |reason: String| ReportError::Malformed { reason };
        if bytes.len() as u64 > MAX_REPORT_BYTES {
            return Err(malformed(format!("{} bytes are over the limit of {MAX_REPORT_BYTES}", bytes.len())));
        }
        let report: Self = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        if report.format != FORMAT {
            return Err(malformed(format!("its format is not {FORMAT}")));
        }
        Ok(report)
    }
}

impl RangeCounts {
    fn is_possible(&self, count: u64, top: u64) -> bool {
        let [count, top, sum, squares] = [count, top, self.sum, self.squares].map(u128::from);
        let beyond = u128::from(self.below) + u128::from(self.above);
        let within: u128 = self.bins.iter().map(|&bin| u128::from(bin)).sum();
        beyond <= count
            && (self.bins.is_empty() || within + beyond == count)
            && sum <= count * top
            && squares <= sum * top
            && squares >= sum
            && count * squares >= sum * sum
    }
}

impl FeatureReport {
    /// What people call it: `name`, or `name[index]`.
    pub fn title(&self) -> String {
        match self.index {
            None => self.name.clone(),
            Some(index) => format!("{}[{index}]", self.name),
        }
    }
}

#[cfg(test)]
mod tests;
