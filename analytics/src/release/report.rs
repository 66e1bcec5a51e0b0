//! What the sum of a stage says.

use std::collections::BTreeMap;

use aimass_compression::{Accumulator, DecodeError, SlotSum};
use aimass_protocol::Digest;
use aimass_protocol::job::{AggregationMode, ReleaseSection};
use aimass_protocol::limits::MAX_REPORT_BYTES;
use serde::{Deserialize, Serialize};

use super::buckets::{LATENCIES, MEMORIES, latency_bound_ns, memory_bound_bytes, reached};
use super::gate::{Broken, Decision, decide};
use super::measured::FAILURES;
use super::shape::{ReleaseShape, SLOTS};
use crate::ReportError;

const FORMAT: &str = "aimass-release/1";

/// The report of a stage: what all its agents measured together, and what was decided. `docs/releases.md` describes its JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseReport {
    /// `aimass-release/1`.
    pub format: String,
    /// The model's name in the registry.
    pub model: String,
    /// The round, counted from 1; 0 in the empty report that a release starts from.
    pub round: u32,
    /// Rounds in all: as many as there are stages.
    pub rounds: u32,
    /// The stage as the file writes it; empty in the empty report.
    pub stage: String,
    /// Whether the sum was of masked numbers.
    pub mode: AggregationMode,
    /// Agents in the sum.
    pub agents: u32,
    /// Of those, agents that no variant is for.
    pub unfit: u64,
    /// In the order of the file.
    pub variants: Vec<VariantReport>,
    /// What follows.
    pub decision: Decision,
    /// The rules that do not hold; empty unless it is rolled back.
    pub broken: Vec<Broken>,
}

/// What was measured of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantReport {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file.
    pub digest: Digest,
    /// Agents that it is for.
    pub devices: u64,
    /// Of those, agents that could not use it, by reason; reasons that did not come up are left out.
    pub failures: BTreeMap<String, u64>,
    /// Rows that it was measured on.
    pub rows: u64,
    /// Of those, rows that it got right.
    pub correct: u64,
    /// Share of right answers; none of no rows.
    pub accuracy: Option<f64>,
    /// Rows that the champion was measured on as well.
    pub compared: u64,
    /// Of those, rows that the champion got right.
    pub champion_correct: u64,
    /// The champion's share of right answers; none of no rows.
    pub champion_accuracy: Option<f64>,
    /// Runs on one row, by buckets of their time.
    pub latency: Vec<u64>,
    /// Milliseconds that half of the runs take at most, rounded up to the end of a bucket.
    pub latency_p50_ms: Option<f64>,
    /// Milliseconds that 95 of 100 runs take at most, rounded up to the end of a bucket.
    pub latency_p95_ms: Option<f64>,
    /// Devices, by buckets of the memory that it took; those whose operating system says nothing are in none.
    pub memory: Vec<u64>,
    /// Bytes that it took at most on any of them, rounded up to the end of a bucket.
    pub memory_max_bytes: Option<u64>,
}

impl VariantReport {
    /// Devices on which it failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

impl ReleaseReport {
    /// Of nobody: what a release starts from.
    pub fn empty(release: &ReleaseSection, mode: AggregationMode) -> Self {
        let shape = ReleaseShape::of(release);
        let zeros = SLOTS.map(|slot| {
            vec![
                0;
                if slot == "unfit" {
                    1
                } else {
                    shape.variants * ReleaseShape::width(slot)
                }
            ]
        });
        Self::of(release, mode, (0, 0), zeros)
    }

    /// Of the sum of a round, with what is decided.
    ///
    /// # Errors
    /// [`ReportError::Sum`], [`ReportError::Contradiction`].
    pub fn of_sum(release: &ReleaseSection, mode: AggregationMode, round: u32, sum: &Accumulator) -> Result<Self, ReportError> {
        let mut sums: [Vec<u64>; SLOTS.len()] = Default::default();
        for (into, slot) in sums.iter_mut().zip(SLOTS) {
            *into = match sum.slot(slot)? {
                SlotSum::Exact(values) => values,
                SlotSum::Stochastic(_) => return Err(DecodeError::NoSlot { slot }.into()),
            };
        }
        let mut report = Self::of(release, mode, (round, sum.count()), sums);
        report.check(release.max_rows)?;
        (report.decision, report.broken) = decide(release, &report);
        Ok(report)
    }

    fn of(release: &ReleaseSection, mode: AggregationMode, (round, agents): (u32, u32), sums: [Vec<u64>; SLOTS.len()]) -> Self {
        let [unfit, devices, failures, rows, correct, compared, champion, latency, memory] = sums;
        let one = |values: &[u64], at: usize| values.get(at).copied().unwrap_or_default();
        let part = |values: &[u64], at: usize, width: usize| values.get(at * width..(at + 1) * width).unwrap_or_default().to_vec();
        let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let ms = |latency: &[u64], share: f64| Some(latency_bound_ns(reached(latency, share)?) as f64 / 1e6);
        let variant = |at: usize| {
            let reasons = FAILURES.iter().zip(part(&failures, at, FAILURES.len()));
            let latency = part(&latency, at, LATENCIES);
            let memory = part(&memory, at, MEMORIES);
            let (rows, correct) = (one(&rows, at), one(&correct, at));
            let (compared, champion_correct) = (one(&compared, at), one(&champion, at));
            VariantReport {
                name: release.variants[at].name.clone(),
                digest: release.variants[at].digest,
                devices: one(&devices, at),
                failures: reasons
                    .filter(|(_, n)| *n > 0)
                    .map(|((_, name), n)| ((*name).to_owned(), n))
                    .collect(),
                rows,
                correct,
                accuracy: share(correct, rows),
                compared,
                champion_correct,
                champion_accuracy: share(champion_correct, compared),
                latency_p50_ms: ms(&latency, 0.5),
                latency_p95_ms: ms(&latency, 0.95),
                latency,
                memory_max_bytes: memory.iter().rposition(|n| *n > 0).map(memory_bound_bytes),
                memory,
            }
        };
        let stage = round.checked_sub(1).and_then(|at| release.stages.get(at as usize));
        Self {
            format: FORMAT.to_owned(),
            model: release.model.clone(),
            round,
            rounds: u32::try_from(release.stages.len()).unwrap_or(u32::MAX),
            stage: stage.map(ToString::to_string).unwrap_or_default(),
            mode,
            agents,
            unfit: one(&unfit, 0),
            variants: (0..release.variants.len()).map(variant).collect(),
            decision: Decision::Started,
            broken: Vec::new(),
        }
    }

    /// Whether there are agents that measure this, as far as that shows.
    fn check(&self, max_rows: u32) -> Result<(), ReportError> {
        let agents = u64::from(self.agents);
        let devices: u64 = self.variants.iter().map(|variant| variant.devices).sum();
        if devices + self.unfit != agents {
            return Err(ReportError::Contradiction {
                what: "devices".to_owned(),
            });
        }
        for variant in &self.variants {
            let measured = variant.devices.checked_sub(variant.failed());
            let fits = measured.is_some_and(|measured| {
                variant.rows <= measured.saturating_mul(max_rows.into())
                    && variant.correct <= variant.rows
                    && variant.compared <= variant.rows
                    && variant.champion_correct <= variant.compared
                    && variant.latency.iter().sum::<u64>() <= measured.saturating_mul(ReleaseShape::RUNS.into())
                    && variant.memory.iter().sum::<u64>() <= measured
            });
            if !fits {
                return Err(ReportError::Contradiction {
                    what: format!("the variant {}", variant.name),
                });
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

#[cfg(test)]
mod tests;
