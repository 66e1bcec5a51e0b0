//! A calibration's round: the model runs over some of the device's rows, and what its activations hold is counted.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aimass_analytics::calibration::{CalibrationReport, CalibrationShape, Stage, canonical_calibration_bytes, counts, exponents};
use aimass_compress::{Watched, spread};
use aimass_crypto::hash::sha256;
use aimass_learning::data::{self, Limits, Source, Subset};
use aimass_learning::{Progress, TrainError};
use aimass_net::disk;
use aimass_onnx::Model;
use aimass_protocol::Digest;
use aimass_protocol::job::CalibrationSection;
use aimass_recipe::reading;

use super::{TrainOrder, Wish, WorkError, turns};
use crate::state::{StateError, StateFolder, TrainedRecord};

/// Looks at the activations of the job's model on this device's rows and keeps what the round asks for durably under `order.contribution`.
///
/// # Errors
/// [`WorkError`]; no contribution is kept then. Values that are not finite are such an error: nothing of them is counted.
pub(super) fn look(
    folder: &StateFolder,
    order: &TrainOrder,
    calibration: &CalibrationSection,
    control: &mut dyn FnMut(Progress) -> Wish,
) -> Result<(TrainedRecord, Duration), WorkError> {
    let started = Instant::now();
    let before = check_turn(folder, order, calibration)?;
    let model = model(folder, order, calibration)?;
    let keep = order.file.compress.as_ref().map_or(&[][..], |section| &section.keep);
    let watched = Watched::of(&model, keep)?;
    if watched.tensors() != calibration.tensors {
        let text = "its activations are not those that the job names; tell the job's owner to submit it with a command of this version";
        return Err(WorkError::Calibrated(text.to_owned()));
    }
    let shape = CalibrationShape::of(calibration, order.round);
    let (heads, wanted) = reading(&model, &order.file)?;
    let all: Arc<dyn Source> = data::open(&order.data, &wanted, &Limits::default())?.into();
    let chosen = spread(all.len(), usize::try_from(calibration.rows).unwrap_or(usize::MAX));
    let rows = chosen.len() as u64;
    let some = Subset::new(Arc::clone(&all), chosen);
    let data: &dyn Source = some.as_ref().map_or(&*all, |some| some);
    let open = match shape.stage {
        Stage::Exponents => watched.open(),
        Stage::Bins => watched.bounded(&before)?,
    };
    let mut stopped = 0;
    let seen = watched.look(open, data, &heads, &mut |step, steps| {
        // Nothing of an unfinished pass is kept.
        match control(Progress { step, steps, loss: 0.0 }) {
            Wish::Pause if step == steps => ControlFlow::Continue(()),
            Wish::GoOn => ControlFlow::Continue(()),
            Wish::Drop | Wish::Pause => {
                stopped = step;
                ControlFlow::Break(())
            }
        }
    })?;
    let Some(seen) = seen else {
        return Err(TrainError::Stopped { step: stopped }.into());
    };
    let values = match shape.stage {
        Stage::Exponents => exponents(shape, rows, &watched.exponents(&seen))?,
        Stage::Bins => counts(shape, rows, watched.counts(&seen))?,
    };
    let record = TrainedRecord {
        job: order.job,
        base: order.base,
        layout_digest: Digest::from_bytes(sha256(&canonical_calibration_bytes(calibration))),
        n_weights: 0,
        delta_crc32: 0,
        examples: rows,
        steps: 0,
        train_loss: 0.0,
        tally: None,
        release: None,
        calibration: Some(shape),
        evaluation: None,
        round: order.round,
        round_mode: order.file.round.mode,
        rounding_seed: Digest::from_bytes([0; 32]),
    };
    turns::note(folder, order)?;
    let record = folder.save_counted(order.contribution, record, &values)?;
    Ok((record, started.elapsed()))
}

/// As with analytics: no more often than the owner signed, and first from nothing but the report of nobody. The second round stands on the report of the
/// first, whose exponents are returned.
fn check_turn(folder: &StateFolder, order: &TrainOrder, calibration: &CalibrationSection) -> Result<Vec<i32>, WorkError> {
    let (round, base) = (order.round, order.base);
    turns::check(order, || {
        CalibrationReport::empty(calibration, order.file.aggregation.mode).to_bytes()
    })?;
    if round == 1 {
        return Ok(Vec::new());
    }
    let bytes = read(folder, base)?.ok_or(WorkError::Base { base })?;
    let report = CalibrationReport::parse(&bytes).and_then(|report| report.check_before(calibration, round));
    report.map_err(|e| WorkError::Before {
        base,
        reason: e.to_string(),
    })
}

/// The model that the owner signed.
fn model(folder: &StateFolder, order: &TrainOrder, calibration: &CalibrationSection) -> Result<Model, WorkError> {
    let (size, most) = (calibration.size_bytes, order.bench.max_file_bytes);
    if size > most {
        let text = format!("the file has {size} bytes, and [models] max_mib permits {most}: it is not fetched");
        return Err(WorkError::Calibrated(text));
    }
    let digest = calibration.digest;
    let bytes = read(folder, digest)?.filter(|bytes| bytes.len() as u64 == size);
    let bytes = bytes.ok_or_else(|| {
        WorkError::Calibrated(format!(
            "the file {digest} could not be fetched, or is not the one that the owner signed"
        ))
    })?;
    Ok(Model::from_shared(bytes.into())?)
}

/// A fetched file; `None` where it is not there, or not what its name says.
fn read(folder: &StateFolder, digest: Digest) -> Result<Option<Vec<u8>>, WorkError> {
    let path = folder.model_path(digest);
    match disk::call("reading a model").and_then(|()| fs::read(&path)) {
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| Digest::from_bytes(sha256(bytes)) == digest)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StateError::from(io::Error::new(e.kind(), format!("{}: {e}", path.display()))).into()),
    }
}
