//! What one agent measured.

use super::buckets::{latency_bucket, memory_bucket};
use super::shape::ReleaseShape;

/// Why a variant can't be used on a device. The names are in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Failure {
    /// The server has it not, or sends something else.
    Fetch,
    /// What is on the disk is not the file that the owner signed.
    Hash,
    /// It is larger than the device's owner lets models be.
    TooLarge,
    /// It has an operator that the runtime lacks.
    Operator,
    /// It can't be loaded or run.
    Load,
    /// It computes something else here than where it was signed.
    SelfTest,
    /// It can't be measured on the device's rows.
    Rows,
}

/// All of them with their names, in the order of the slot.
pub const FAILURES: [(Failure, &str); 7] = [
    (Failure::Fetch, "fetch"),
    (Failure::Hash, "hash"),
    (Failure::TooLarge, "too_large"),
    (Failure::Operator, "operator"),
    (Failure::Load, "load"),
    (Failure::SelfTest, "self_test"),
    (Failure::Rows, "rows"),
];

/// What an agent found out about the variant that is for it. `Debug` shows which, and no figure.
#[derive(Clone, PartialEq, Eq)]
pub struct Measured {
    /// Index of the variant; `None` where none is for the device.
    pub variant: Option<usize>,
    /// Why it can't be used.
    pub failure: Option<Failure>,
    /// Rows that it was measured on, at most the release's `max_rows`.
    pub rows: u64,
    /// Of those, rows that it got right.
    pub correct: u64,
    /// Rows that the champion was measured on as well: all of them, or none.
    pub compared: u64,
    /// Of those, rows that the champion got right.
    pub champion_correct: u64,
    /// Nanoseconds of each run on one row; the first [`ReleaseShape::RUNS`] count.
    pub latencies_ns: Vec<u64>,
    /// Bytes that it took to load and to run it, where the operating system says.
    pub memory_bytes: Option<u64>,
}

impl Measured {
    /// Nothing: no variant is for this device.
    pub fn unfit() -> Self {
        Self {
            variant: None,
            failure: None,
            rows: 0,
            correct: 0,
            compared: 0,
            champion_correct: 0,
            latencies_ns: Vec::new(),
            memory_bytes: None,
        }
    }

    /// A variant that can't be used here.
    pub fn failed(variant: usize, failure: Failure) -> Self {
        Self {
            variant: Some(variant),
            failure: Some(failure),
            ..Self::unfit()
        }
    }

    /// The numbers, in the order of the slots: [`ReleaseShape::n_values`] of them. A variant that the shape does not have counts as none.
    pub fn values(&self, shape: ReleaseShape) -> Vec<u64> {
        let Some(variant) = self.variant.filter(|variant| *variant < shape.variants) else {
            return shape.values(|slot, _| u64::from(slot == "unfit"));
        };
        let mut latencies = [0_u64; super::LATENCIES];
        let failed = self.failure.is_some();
        for &ns in self.latencies_ns.iter().take(ReleaseShape::RUNS as usize).filter(|_| !failed) {
            latencies[latency_bucket(ns)] += 1;
        }
        let memory = self.memory_bytes.map(memory_bucket);
        let most = u64::from(shape.max_rows);
        shape.values(|slot, index| {
            let (own, width) = (index / ReleaseShape::width(slot) == variant, ReleaseShape::width(slot));
            let at = index % width;
            match slot {
                _ if !own || slot == "unfit" => 0,
                "devices" => 1,
                "failures" => u64::from(self.failure.is_some_and(|failure| FAILURES[at].0 == failure)),
                _ if failed => 0,
                "rows" => self.rows.min(most),
                "correct" => self.correct.min(self.rows).min(most),
                "compared" => self.compared.min(self.rows).min(most),
                "champion" => self.champion_correct.min(self.compared).min(most),
                "latency" => latencies[at],
                "memory" => u64::from(memory == Some(at)),
                _ => 0,
            }
        })
    }
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Measured")
            .field("variant", &self.variant)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
