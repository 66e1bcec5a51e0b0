//! One pass over the data for a job that counts.

use std::time::{Duration, Instant};

use aimass_analytics::{Report, Tally, canonical_bytes, sampled};
use aimass_crypto::hash::sha256;
use aimass_learning::data::{Columns, Limits};
use aimass_learning::{Progress, TrainError};
use aimass_protocol::Digest;
use aimass_protocol::job::AnalyzeSection;

use super::{TrainOrder, Wish, WorkError, turns};
use crate::state::{StateFolder, TrainedRecord};

/// Values that are in memory at once, but for a row that is longer.
const BATCH_VALUES: usize = 1 << 16;

/// Counts what the job asks for and keeps it durably under `order.contribution`. Returns what was kept and how long it took.
///
/// # Errors
/// [`WorkError`]; no contribution is kept then.
pub(super) fn count(
    folder: &StateFolder,
    order: &TrainOrder,
    analyze: &AnalyzeSection,
    control: &mut dyn FnMut(Progress) -> Wish,
) -> Result<(TrainedRecord, Duration), WorkError> {
    let started = Instant::now();
    turns::check(order, || Report::empty(analyze, order.file.aggregation.mode).to_bytes())?;
    let mut tally = Tally::new(analyze);
    let columns = Columns::open(&order.data, tally.names(), &Limits::default())?;
    let widths = columns.widths()?;
    tally.check_widths(&widths)?;
    if columns.len() > analyze.max_rows as usize {
        tally.cap();
    }
    let mut rows = sampled(columns.len(), analyze.max_rows).peekable();
    let at_once = (BATCH_VALUES / widths.iter().sum::<usize>().max(1)).max(1);
    let steps = columns.len().min(analyze.max_rows as usize).div_ceil(at_once) as u64;
    let mut step = 0;
    while rows.peek().is_some() {
        let batch: Vec<usize> = rows.by_ref().take(at_once).collect();
        tally.add(batch.len(), &columns.rows(&batch)?);
        step += 1;
        // Nothing of an unfinished pass is kept.
        match control(Progress { step, steps, loss: 0.0 }) {
            Wish::Drop => return Err(TrainError::Stopped { step }.into()),
            Wish::Pause if step < steps => return Err(TrainError::Stopped { step }.into()),
            Wish::GoOn | Wish::Pause => {}
        }
    }
    let record = TrainedRecord {
        job: order.job,
        base: order.base,
        layout_digest: Digest::from_bytes(sha256(&canonical_bytes(analyze))),
        n_weights: 0,
        delta_crc32: 0,
        examples: tally.rows(),
        steps: 0,
        train_loss: 0.0,
        tally: Some(tally.shape()),
        release: None,
        calibration: None,
        evaluation: None,
        round: order.round,
        round_mode: order.file.round.mode,
        rounding_seed: Digest::from_bytes([0; 32]),
    };
    turns::note(folder, order)?;
    let record = folder.save_counted(order.contribution, record, &tally.into_values())?;
    Ok((record, started.elapsed()))
}
