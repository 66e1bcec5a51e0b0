//! A release's variant, measured on this device and on the rows that it holds back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aimass_analytics::release::{Failure, Measured, ReleaseReport, ReleaseShape, canonical_release_bytes, fit};
use aimass_analytics::sampled;
use aimass_crypto::hash::sha256;
use aimass_inference::TractModel;
use aimass_learning::data::{self, Limits, Source, Wanted};
use aimass_learning::{Array, Evaluation, Progress, Scorer, TrainError, Values};
use aimass_onnx::Model;
use aimass_protocol::Digest;
use aimass_protocol::job::{ReleaseSection, VariantSection};
use aimass_recipe::held_back::Parts;
use aimass_recipe::{heads, seeds};
use tracing::{info, warn};

use super::{TrainOrder, Wish, WorkError};
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
    check_turn(order, release)?;
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
    let record = folder.save_counted(order.contribution, record, &measured.values(shape))?;
    Ok((record, started.elapsed()))
}

/// As with analytics: no more often than the owner signed, and first from nothing but the report of nobody.
fn check_turn(order: &TrainOrder, release: &ReleaseSection) -> Result<(), WorkError> {
    let (round, rounds) = (order.round, order.file.round.rounds);
    if round == 0 || round > rounds {
        return Err(WorkError::Turn { round, rounds });
    }
    let empty = ReleaseReport::empty(release, order.file.aggregation.mode).to_bytes();
    if round == 1 && order.base != Digest::from_bytes(sha256(&empty)) {
        return Err(WorkError::Beginning { base: order.base });
    }
    Ok(())
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
    let tried = read(variant.digest, variant.size_bytes).and_then(|bytes| {
        let tried = trial::load(&bytes, &self_test(release, variant, order.file.job.seed))?;
        Ok((input_name(&bytes)?, tried))
    });
    let (input, tried) = match tried {
        Ok(tried) => tried,
        Err(error) => return Ok(Err(error)),
    };
    // What is wrong with the data is no fault of the variant's.
    let wanted = Wanted {
        inputs: order.file.data.inputs.clone(),
        targets: vec![order.file.data.target.clone()],
        model_inputs: vec![input],
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
        rows: found.examples,
        correct: correct(&found),
        compared: 0,
        champion_correct: 0,
        latencies_ns: trial::time(&tried.model, &first),
        memory_bytes: tried.memory_bytes,
    };
    drop(tried);
    if let Some(champion) = &release.champion {
        let scored = match read(champion.digest, champion.size_bytes)
            .and_then(|bytes| trial::guarded(|| TractModel::load(&bytes, 1).map_err(trial::of_infer)))
        {
            Ok(model) => run.score(&model)?,
            Err(error) => Err(error),
        };
        match scored {
            Ok((champions, _)) => (measured.compared, measured.champion_correct) = (champions.examples, correct(&champions)),
            Err(error) => warn!("the champion can't be measured on this device, so that nothing is compared with it: {error}"),
        }
    }
    Ok(Ok(measured))
}

/// At most the examples.
fn correct(found: &Evaluation) -> u64 {
    (found.accuracy.unwrap_or(0.0).clamp(0.0, 1.0) * found.examples as f64).round() as u64
}

fn input_name(bytes: &[u8]) -> Result<String, TrialError> {
    let model = Model::from_bytes(bytes).map_err(|e| TrialError::new(Failure::Load, e.to_string()))?;
    let input = model.inputs().first().map(|input| input.name.clone());
    input.ok_or_else(|| TrialError::new(Failure::Load, "the model has no input"))
}

/// One pass of a model over the rows.
struct Run<'a> {
    order: &'a TrainOrder,
    rows: &'a dyn Source,
    /// Most rows that count.
    most: u32,
    control: &'a mut dyn FnMut(Progress) -> Wish,
}

impl Run<'_> {
    /// What the model gets right, and the features of the first rows, row-major.
    fn score(&mut self, model: &TractModel) -> Result<Result<(Evaluation, Vec<f32>), TrialError>, WorkError> {
        let rows: Vec<usize> = sampled(self.rows.len(), self.most).collect();
        let steps = rows.len().div_ceil(BATCH) as u64;
        let mut scorer = Scorer::new(&heads(&self.order.file.train), &[])?;
        let mut first = Vec::new();
        for (step, rows) in (1..).zip(rows.chunks(BATCH)) {
            let batch = self.rows.batch(rows)?;
            let features = batch.inputs.first().and_then(|input| match input.values() {
                Values::Floats(values) => Some(values.as_slice()),
                _ => None,
            });
            let Some(features) = features else {
                return Ok(Err(TrialError::new(
                    Failure::Rows,
                    "the device's rows hold no numbers for the model's input",
                )));
            };
            let scored = trial::guarded(|| {
                let (values, n) = model
                    .run(features, rows.len())
                    .map_err(|e| TrialError::new(Failure::Rows, e.to_string()))?;
                if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                    let reason = format!("row {} has an output that is not finite", index.checked_div(n).unwrap_or(0));
                    return Err(TrialError::new(Failure::Rows, reason));
                }
                let outputs = Array::new(vec![rows.len(), n], Values::Floats(values));
                let outputs = outputs.ok_or_else(|| TrialError::new(Failure::Rows, "the outputs do not fill their shape"))?;
                scorer
                    .add(&[outputs], &batch.targets, batch.weights.as_deref(), rows.len())
                    .map_err(|e| TrialError::new(Failure::Rows, e.to_string()))
            });
            if let Err(error) = scored {
                return Ok(Err(error));
            }
            if first.is_empty() {
                first.extend_from_slice(features);
            }
            // Nothing of an unfinished pass is kept.
            match (self.control)(Progress { step, steps, loss: 0.0 }) {
                Wish::Drop => return Err(TrainError::Stopped { step }.into()),
                Wish::Pause if step < steps => return Err(TrainError::Stopped { step }.into()),
                Wish::GoOn | Wish::Pause => {}
            }
        }
        Ok(Ok((scorer.finish()?, first)))
    }
}
