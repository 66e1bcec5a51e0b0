//! Tries a variant of a release on this device: is it the signed file, does it load, does it compute what it should, how long and how much memory does it
//! take. Nothing changes, whatever comes out. Blocking.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use aimass_analytics::release::{Failure, ReleaseShape, compare, inputs};
use aimass_crypto::hash::sha256;
use aimass_inference::{InferError, LoadError, RowModel, RunError, Tensor};
use aimass_learning::Array;
use aimass_net::disk;
use aimass_protocol::Digest;
use serde::{Deserialize, Serialize};

use crate::capabilities::{peak_bytes, reset_peak, resident_bytes};

/// Runs that are not timed: the first ones fill caches.
const WARM_UP: usize = 3;

/// What a variant has to compute: enough to test it again later, without its release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Seed of the inputs.
    pub seed: u64,
    /// Rows.
    pub rows: u32,
    /// Share of a row's largest output that it may be off by.
    pub tolerance: f32,
    /// `[rows, n]` row-major.
    pub outputs: Vec<f32>,
}

/// Why a variant is not used, as it is counted and for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TrialError {
    /// As it is counted.
    pub failure: Failure,
    /// What is wrong and what to do about it.
    pub reason: String,
}

impl TrialError {
    pub(crate) fn new(failure: Failure, reason: impl Into<String>) -> Self {
        Self {
            failure,
            reason: reason.into(),
        }
    }
}

/// A variant that computes what it should.
pub struct Tried {
    /// Ready for one row at a time.
    pub model: RowModel,
    /// Bytes that it took to load and to run it, where the operating system says.
    pub memory_bytes: Option<u64>,
}

/// Reads the file of a variant.
///
/// # Errors
/// [`TrialError`]: it is larger than this device's owner permits, not there, or not the file that was signed.
pub fn read(path: &Path, digest: Digest, size_bytes: u64, max_bytes: u64) -> Result<Vec<u8>, TrialError> {
    check_size(size_bytes, max_bytes)?;
    let bytes = match disk::call("reading a variant").and_then(|()| fs::read(path)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(TrialError::new(Failure::Fetch, format!("the file {digest} could not be fetched")));
        }
        Err(e) => return Err(TrialError::new(Failure::Fetch, format!("{}: {e}", path.display()))),
    };
    if bytes.len() as u64 != size_bytes || Digest::from_bytes(sha256(&bytes)) != digest {
        let reason = format!("{} is not the file {digest} that the owner signed: it is not used", path.display());
        return Err(TrialError::new(Failure::Hash, reason));
    }
    Ok(bytes)
}

/// Whether a file may be fetched at all.
///
/// # Errors
/// [`Failure::TooLarge`].
pub fn check_size(size_bytes: u64, max_bytes: u64) -> Result<(), TrialError> {
    if size_bytes > max_bytes {
        let reason = format!("the file has {size_bytes} bytes, and [models] max_mib permits {max_bytes}: it is not fetched");
        return Err(TrialError::new(Failure::TooLarge, reason));
    }
    Ok(())
}

/// Loads a variant and tests it.
///
/// # Errors
/// [`TrialError`]: an operator that the runtime lacks, a graph that it can't run, outputs that are others.
pub fn load(bytes: &[u8], test: &SelfTest) -> Result<Tried, TrialError> {
    guarded(|| {
        let peak_is_new = reset_peak();
        let before = resident_bytes();
        let model = RowModel::load(bytes).map_err(of_load)?;
        let found = computed(&model, test.seed, test.rows as usize)?;
        compare(&found, &test.outputs, test.rows as usize, test.tolerance)
            .map_err(|e| TrialError::new(Failure::SelfTest, format!("the self-test: {e}")))?;
        let memory_bytes = match (peak_is_new, before, peak_bytes()) {
            (true, Some(before), Some(peak)) => Some(peak.saturating_sub(before)),
            _ => None,
        };
        Ok(Tried { model, memory_bytes })
    })
}

/// The rows of a self-test, made up from `seed`; those of a second input from the next seed, and so on.
pub fn rows(model: &RowModel, seed: u64, rows: usize) -> Option<Vec<Tensor>> {
    model.made_up(rows, |input, n| inputs(seed.wrapping_add(input as u64), 1, n))
}

/// What a model computes for the rows of its self-test: its first output, row-major.
///
/// # Errors
/// [`TrialError`].
pub fn computed(model: &RowModel, seed: u64, rows: usize) -> Result<Vec<f32>, TrialError> {
    let made =
        self::rows(model, seed, rows).ok_or_else(|| TrialError::new(Failure::Load, "no rows can be made up for the model's inputs"))?;
    let outputs = model.run(&made).map_err(of_run)?;
    let first = outputs.first().and_then(Array::as_floats);
    let first = first.ok_or_else(|| TrialError::new(Failure::Load, "the model's first output holds no floats"))?;
    Ok(first.to_vec())
}

/// Nanoseconds of runs on one row each (or as many as the file fixes); as many as count, and none where a run fails.
pub fn time(model: &RowModel, rows: &[Vec<Tensor>]) -> Vec<u64> {
    let mut times = Vec::new();
    for (at, row) in rows.iter().cycle().take(WARM_UP + ReleaseShape::RUNS as usize).enumerate() {
        let started = Instant::now();
        if model.run_piece(row).is_err() {
            return Vec::new();
        }
        if at >= WARM_UP {
            times.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    }
    times
}

/// The runtime is not ours: where it panics, the variant has failed and the agent goes on.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, TrialError>) -> Result<T, TrialError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(TrialError::new(
            Failure::Load,
            "the runtime met a fault in this model; its log has the details",
        ))
    })
}

pub(crate) fn of_load(error: LoadError) -> TrialError {
    let failure = match &error {
        LoadError::Infer(InferError::Op { .. }) => Failure::Operator,
        _ => Failure::Load,
    };
    TrialError::new(failure, error.to_string())
}

fn of_run(error: RunError) -> TrialError {
    TrialError::new(Failure::Load, error.to_string())
}
