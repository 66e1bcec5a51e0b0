//! What the sum of a round says of each tensor.

use std::collections::BTreeMap;

use aimass_compression::{Accumulator, DecodeError, SlotSum};
use aimass_protocol::Digest;
use aimass_protocol::job::{AggregationMode, CalibrationSection};
use aimass_protocol::limits::{CALIBRATION_BINS, CALIBRATION_EXPONENTS, MAX_CALIBRATION_TENSORS, MAX_COLUMN_BYTES, MAX_REPORT_BYTES};
use serde::{Deserialize, Serialize};

use super::shape::{EXPONENTS, Stage};
use crate::ReportError;

const FORMAT: &str = "aimass-calibration/1";

/// The report of a round: what all its agents saw together. `docs/compress.md` describes its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationReport {
    /// `aimass-calibration/1`.
    pub format: String,
    /// Counted from 1; 0 in the empty report that a job starts from.
    pub round: u32,
    /// Whether the sum was of masked numbers.
    pub mode: AggregationMode,
    /// SHA-256 of the model that ran.
    pub model: Digest,
    /// Agents in the sum.
    pub agents: u32,
    /// Their rows that were looked at.
    pub rows: u64,
    /// Most rows of an agent.
    pub max_rows: u32,
    /// Bits of an agent's count.
    pub bits: u8,
    /// In the order of the job file.
    pub tensors: Vec<TensorReport>,
}

/// What was seen of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorReport {
    /// Its name in the model.
    pub name: String,
    /// All values of the first round lie in `[-2^exponent, 2^exponent)`; none in the empty report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponent: Option<i32>,
    /// In the report of the first round, how many agents need which exponent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needed: BTreeMap<i32, u64>,
    /// Agents that divided their counts, because they did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub divided: u64,
    /// In the report of the second round, its histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bins: Option<BinCounts>,
}

/// The bins from the first to the last that is not empty, of [`CALIBRATION_BINS`] of equal width over the tensor's range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinCounts {
    /// Index of the first.
    pub first: usize,
    /// Values in each, from that one on; values beyond the range count in the outermost.
    pub counts: Vec<u64>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl TensorReport {
    /// All bins of the histogram, `[CALIBRATION_BINS]`; none before the second round.
    pub fn counts(&self) -> Option<Vec<u64>> {
        let bins = self.bins.as_ref()?;
        let mut all = vec![0; CALIBRATION_BINS];
        let end = bins.first.checked_add(bins.counts.len())?;
        all.get_mut(bins.first..end)?.copy_from_slice(&bins.counts);
        Some(all)
    }

    /// Outer edges of the outermost bins that are not empty; none before the second round, and of no values.
    pub fn range(&self) -> Option<(f64, f64)> {
        let (bins, exponent) = (self.bins.as_ref()?, self.exponent?);
        let width = f64::from(exponent).exp2() / (CALIBRATION_BINS / 2) as f64;
        let edge = |bin: usize| (bin as f64 - (CALIBRATION_BINS / 2) as f64) * width;
        let low = bins.counts.iter().position(|count| *count > 0)?;
        let high = bins.counts.iter().rposition(|count| *count > 0)?;
        Some((edge(bins.first + low), edge(bins.first + high + 1)))
    }

    /// Values that were counted; more than 2^64 are that many.
    pub fn total(&self) -> u64 {
        let counts = self.bins.iter().flat_map(|bins| &bins.counts);
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl CalibrationReport {
    /// Of nobody: what a calibration starts from.
    pub fn empty(calibration: &CalibrationSection, mode: AggregationMode) -> Self {
        let tensor = |name: &String| TensorReport {
            name: name.clone(),
            exponent: None,
            needed: BTreeMap::new(),
            divided: 0,
            bins: None,
        };
        Self {
            format: FORMAT.to_owned(),
            round: 0,
            mode,
            model: calibration.digest,
            agents: 0,
            rows: 0,
            max_rows: calibration.rows,
            bits: calibration.bits,
            tensors: calibration.tensors.iter().map(tensor).collect(),
        }
    }

    /// Of the sum of the round after `before`, which is the report that its agents started from.
    ///
    /// # Errors
    /// [`ReportError::Sum`], [`ReportError::Contradiction`]; [`ReportError::Malformed`] where `before` is not that of the round before of this job.
    pub fn of_sum(calibration: &CalibrationSection, before: &Self, sum: &Accumulator) -> Result<Self, ReportError> {
        let round = before.round.saturating_add(1);
        let exponents = before.check_before(calibration, round)?;
        let mut report = Self {
            round,
            agents: sum.count(),
            rows: exact(sum, "rows")?.first().copied().unwrap_or_default(),
            ..Self::empty(calibration, before.mode)
        };
        match Stage::of(round) {
            Stage::Exponents => report.add_exponents(&exact(sum, "exponents")?),
            Stage::Bins => report.add_bins(&exponents, &exact(sum, "divided")?, &exact(sum, "bins")?),
        }
        report.check()?;
        Ok(report)
    }

    /// Whether this is a report that `round` of the job may start from: the one of the round before. Returns the exponents of its tensors, none
    /// where that round is the first.
    ///
    /// # Errors
    /// [`ReportError::Malformed`].
    pub fn check_before(&self, calibration: &CalibrationSection, round: u32) -> Result<Vec<i32>, ReportError> {
        let malformed = |reason: String| Err(ReportError::Malformed { reason });
        let empty = Self::empty(calibration, self.mode);
        let alike = self.model == empty.model
            && (self.max_rows, self.bits) == (empty.max_rows, empty.bits)
            && self.tensors.len() == empty.tensors.len()
            && self.tensors.iter().zip(&empty.tensors).all(|(own, of_job)| own.name == of_job.name);
        if !alike {
            return malformed("it is of another model, or of other tensors".to_owned());
        }
        if round == 0 || round > CalibrationSection::ROUNDS || self.round != round - 1 {
            return malformed(format!("it is of round {}, and round {round} follows", self.round));
        }
        if round == 1 {
            return Ok(Vec::new());
        }
        let (least, most) = CALIBRATION_EXPONENTS;
        let fits = |tensor: &TensorReport| tensor.exponent.filter(|exponent| (least..=most).contains(exponent));
        match self.tensors.iter().map(fits).collect() {
            Some(exponents) => Ok(exponents),
            None => malformed("a tensor has no exponent".to_owned()),
        }
    }

    fn add_exponents(&mut self, sums: &[u64]) {
        for (tensor, sums) in self.tensors.iter_mut().zip(sums.chunks(EXPONENTS)) {
            let needed = (CALIBRATION_EXPONENTS.0..).zip(sums).filter(|(_, agents)| **agents > 0);
            tensor.needed = needed.map(|(exponent, agents)| (exponent, *agents)).collect();
            tensor.exponent = tensor.needed.last_key_value().map(|(exponent, _)| *exponent);
        }
    }

    fn add_bins(&mut self, exponents: &[i32], divided: &[u64], sums: &[u64]) {
        let tensors = self
            .tensors
            .iter_mut()
            .zip(exponents)
            .zip(divided)
            .zip(sums.chunks(CALIBRATION_BINS));
        for (((tensor, exponent), divided), sums) in tensors {
            tensor.exponent = Some(*exponent);
            tensor.divided = *divided;
            let first = sums.iter().position(|count| *count > 0).unwrap_or(0);
            let end = sums.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
            tensor.bins = Some(BinCounts {
                first,
                counts: sums.get(first..end).unwrap_or_default().to_vec(),
            });
        }
    }

    /// Whether there are agents that see this, as far as that shows.
    fn check(&self) -> Result<(), ReportError> {
        let contradiction = |what: String| Err(ReportError::Contradiction { what });
        let agents = u64::from(self.agents);
        if self.rows > agents.saturating_mul(self.max_rows.into()) || self.rows < agents {
            return contradiction("rows".to_owned());
        }
        for tensor in &self.tensors {
            let fits = match Stage::of(self.round) {
                Stage::Exponents => tensor.needed.values().sum::<u64>() == agents,
                Stage::Bins => tensor.divided <= agents && tensor.total() >= agents,
            };
            if !fits {
                return contradiction(format!("the tensor {:?}", tensor.name));
            }
        }
        Ok(())
    }

    /// As it is stored: JSON in a line, the same bytes for the same report.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers, texts and lists can be written.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
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
        let bins_fit = |tensor: &TensorReport| tensor.bins.is_none() || tensor.counts().is_some();
        if report.tensors.len() > MAX_CALIBRATION_TENSORS || !report.tensors.iter().all(|t| t.name.len() <= MAX_COLUMN_BYTES && bins_fit(t))
        {
            return Err(malformed(format!(
                "it has more than {MAX_CALIBRATION_TENSORS} tensors, a name that is too long, or more than {CALIBRATION_BINS} bins of a tensor"
            )));
        }
        Ok(report)
    }
}

/// All values of a slot, as many as the shape has: the sum is of its codec.
fn exact(sum: &Accumulator, slot: &'static str) -> Result<Vec<u64>, ReportError> {
    match sum.slot(slot)? {
        SlotSum::Exact(values) => Ok(values),
        SlotSum::Stochastic(_) => Err(DecodeError::NoSlot { slot }.into()),
    }
}

#[cfg(test)]
mod tests;
