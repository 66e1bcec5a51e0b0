//! A release's variant, measured on this device and on the rows that it holds back.

mod judge;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aimass_analytics::release::{Failure, Measured, ReleaseReport, ReleaseShape, canonical_release_bytes, fit};
use aimass_analytics::sampled;
use aimass_crypto::hash::sha256;
use aimass_inference::{RowModel, Tensor};
use aimass_learning::data::{self, Limits, Source, Wanted};
use aimass_learning::{Progress, TrainError};
use aimass_protocol::Digest;
use aimass_protocol::job::{ReleaseSection, VariantSection};
use aimass_recipe::held_back::Parts;
use aimass_recipe::seeds;
use tracing::{info, warn};

use self::judge::{Counted, Judge};
use super::{TrainOrder, Wish, WorkError, turns};
use crate::state::{StateFolder, TrainedRecord};
use crate::trial::{self, SelfTest, TrialError};

/// Rows that are scored at once.
const BATCH: usize = 256;

/// Measures the variant that is for this device and keeps what was found durably under `order.contribution`. A variant that can't be used is counted as such.
///
/// # Errors
/// [`WorkError`]; no contribution is kept then.
pub(super) fn measure(
    folder: &StateFolder,
    order: &TrainOrder,
    release: &ReleaseSection,
    control: &mut dyn FnMut(Progress) -> Wish,
) -> Result<(TrainedRecord, Duration), WorkError> {
    let started = Instant::now();
    turns::check(order, || ReleaseReport::empty(release, order.file.aggregation.mode).to_bytes())?;
    let shape = ReleaseShape::of(release);
    let measured = match fit(release, &order.bench.device) {
        None => Measured::unfit(),
        Some(at) => {
            let variant = &release.variants[at];
            match of_variant(folder, order, release, at, control)? {
                Ok(measured) => {
                    info!(variant = %variant.name, "a variant of {} is measured", release.model);
                    measured
                }
                Err(TrialError { failure, reason }) => {
                    warn!(variant = %variant.name, "a variant of {} can't be used on this device, and is counted so: {reason}", release.model);
                    Measured::failed(at, failure)
                }
            }
        }
    };
    let record = TrainedRecord {
        job: order.job,
        base: order.base,
        layout_digest: Digest::from_bytes(sha256(&canonical_release_bytes(release))),
        n_weights: 0,
        delta_crc32: 0,
        examples: measured.rows,
        steps: 0,
        train_loss: 0.0,
        tally: None,
        release: Some(shape),
        calibration: None,
        evaluation: None,
        round: order.round,
        round_mode: order.file.round.mode,
        rounding_seed: Digest::from_bytes([0; 32]),
    };
    turns::note(folder, order)?;
    let record = folder.save_counted(order.contribution, record, &measured.values(shape))?;
    Ok((record, started.elapsed()))
}

/// What a variant's self-test is.
pub(crate) fn self_test(release: &ReleaseSection, variant: &VariantSection, seed: u64) -> SelfTest {
    SelfTest {
        seed,
        rows: release.self_test_rows,
        tolerance: release.tolerance,
        outputs: variant.outputs.clone(),
    }
}

fn of_variant(
    folder: &StateFolder,
    order: &TrainOrder,
    release: &ReleaseSection,
    at: usize,
    control: &mut dyn FnMut(Progress) -> Wish,
) -> Result<Result<Measured, TrialError>, WorkError> {
    let variant = &release.variants[at];
    let read = |digest, size| trial::read(&folder.model_path(digest), digest, size, order.bench.max_file_bytes);
    let tried =
        read(variant.digest, variant.size_bytes).and_then(|bytes| trial::load(&bytes, &self_test(release, variant, order.file.job.seed)));
    let tried = match tried {
        Ok(tried) => tried,
        Err(error) => return Ok(Err(error)),
    };
    // What is wrong with the data is no fault of the variant's.
    let wanted = Wanted {
        inputs: order.file.data.inputs.clone(),
        targets: vec![order.file.data.target.clone()],
        model_inputs: tried.model.inputs(),
        labels: None,
    };
    let all: Arc<dyn Source> = data::open(&order.data, &wanted, &Limits::default())?.into();
    let fingerprint = seeds::fingerprint(&*all)?;
    let parts = Parts::of(all, order.file.on_devices(), order.file.job.seed, &fingerprint);
    let Some(rows) = parts.held_back.filter(|rows| !rows.is_empty()) else {
        return Ok(Ok(Measured {
            variant: Some(at),
            memory_bytes: tried.memory_bytes,
            ..Measured::unfit()
        }));
    };
    let mut run = Run {
        order,
        rows: &rows,
        most: release.max_rows,
        control,
    };
    let (found, first) = match run.score(&tried.model)? {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let mut measured = Measured {
        variant: Some(at),
        failure: None,
        rows: found.rows,
        correct: found.correct,
        compared: 0,
        champion_correct: 0,
        latencies_ns: trial::time(&tried.model, &first),
        memory_bytes: tried.memory_bytes,
    };
    drop(tried);
    if let Some(champion) = &release.champion {
        let scored = match read(champion.digest, champion.size_bytes)
            .and_then(|bytes| trial::guarded(|| RowModel::load(&bytes).map_err(trial::of_load)))
        {
            Ok(model) => run.score(&model)?,
            Err(error) => Err(error),
        };
        match scored {
            Ok((champions, _)) => (measured.compared, measured.champion_correct) = (champions.rows, champions.correct),
            Err(error) => warn!("the champion can't be measured on this device, so that nothing is compared with it: {error}"),
        }
    }
    Ok(Ok(measured))
}

/// What a model gets right, and the inputs of its first runs.
type Scored = (Counted, Vec<Vec<Tensor>>);

/// One pass of a model over the rows.
struct Run<'a> {
    order: &'a TrainOrder,
    rows: &'a dyn Source,
    /// Most rows that count.
    most: u32,
    control: &'a mut dyn FnMut(Progress) -> Wish,
}

impl Run<'_> {
    /// What the model gets right, and the inputs of its first runs.
    fn score(&mut self, model: &RowModel) -> Result<Result<Scored, TrialError>, WorkError> {
        let rows: Vec<usize> = sampled(self.rows.len(), self.most).collect();
        let steps = rows.len().div_ceil(BATCH) as u64;
        let mut judge = Judge::of(self.order)?;
        let mut first = Vec::new();
        for (step, rows) in (1..).zip(rows.chunks(BATCH)) {
            let batch = self.rows.batch(rows)?;
            let misfit = |e: &dyn std::fmt::Display| TrialError::new(Failure::Rows, e.to_string());
            let scored = trial::guarded(|| {
                let fed = model.feed(&batch.inputs).map_err(|e| misfit(&e))?;
                let outputs = model.run(&fed).map_err(|e| misfit(&e))?;
                let Some((output, values)) = outputs.first().and_then(|output| Some((output, output.as_floats()?))) else {
                    return Err(TrialError::new(Failure::Rows, "the model's first output holds no floats"));
                };
                if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                    let row = index * rows.len() / values.len();
                    return Err(TrialError::new(
                        Failure::Rows,
                        format!("row {row} has an output that is not finite"),
                    ));
                }
                judge.add(output, &batch, rows.len()).map_err(|e| misfit(&e))?;
                if first.is_empty() {
                    first = model.pieces(&fed).map_err(|e| misfit(&e))?;
                }
                Ok(())
            });
            if let Err(error) = scored {
                return Ok(Err(error));
            }
            // Nothing of an unfinished pass is kept.
            match (self.control)(Progress { step, steps, loss: 0.0 }) {
                Wish::Drop => return Err(TrainError::Stopped { step }.into()),
                Wish::Pause if step < steps => return Err(TrainError::Stopped { step }.into()),
                Wish::GoOn | Wish::Pause => {}
            }
        }
        Ok(Ok((judge.finish()?, first)))
    }
}
