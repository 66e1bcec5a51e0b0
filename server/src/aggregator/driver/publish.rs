//! A sum becomes the next model: decoded, applied, measured, stored, published.

use std::sync::{Arc, PoisonError};

use aimass_analytics::calibration::CalibrationReport;
use aimass_analytics::release::{Broken, Decision, ReleaseReport, VariantReport};
use aimass_analytics::{Report, ReportError};
use aimass_compression::{Accumulator, FixedCodec};
use aimass_federation::coordinator::{Event, OpenRound, SecAggRecord, UnmaskingRecord};
use aimass_federation::strategy;
use aimass_onnx::Model;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::log::{LogEvent, RoundEntry};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId};
use axum::body::Bytes;

use super::fusing::{self, Average};
use super::jobs::narrow;
use super::masks::UnmaskError;
use super::sums::remake;
use super::{Command, Driver, masks, now};
use crate::aggregator::counters::Counter;
use crate::aggregator::job::{Codec, Job, Training, Work};
use crate::aggregator::log::Survivors;
use crate::aggregator::parity::Compared;
use crate::aggregator::service::Shared;
use crate::blobs::BlobError;
use crate::store::{RoundRecord, StoreError};

/// Why a sum did not become a model. Nothing of the round was stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error("the sum is gone")]
    NoSum,
    #[error("the base model can't be read: {0}")]
    Base(#[from] aimass_onnx::ReadError),
    #[error("the base model does not fit the job's layout: {0}")]
    Layout(#[from] aimass_onnx::LayoutError),
    #[error("{0}")]
    Report(#[from] ReportError),
    #[error(transparent)]
    Decode(#[from] aimass_compression::DecodeError),
    #[error(transparent)]
    Step(#[from] strategy::StepError),
    #[error("the new model can't be evaluated: {0}")]
    Evaluate(#[from] aimass_learning::TrainError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the work was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
    #[error("the cohort's descriptor can't be made again")]
    Descriptor,
    #[error("the masks can't be taken off: {0}")]
    Unmask(#[from] UnmaskError),
    #[error("the sum could not be sealed: {0}")]
    Seal(String),
    #[error("the sum could not be made again: {0}")]
    Sum(String),
    #[error("round {round}, whose agents' average is to be fused, has none on record")]
    Group { round: u32 },
    #[error(transparent)]
    Fuse(#[from] aimass_recipe::fusion::FusionError),
}

impl PublishError {
    /// Whether the same sum may make a model later: storage is to blame, not arithmetic.
    fn is_storage(&self) -> bool {
        match self {
            Self::Blob(_) | Self::Store(_) | Self::Seal(_) | Self::Sum(_) => true,
            Self::NoSum
            | Self::Descriptor
            | Self::Base(_)
            | Self::Layout(_)
            | Self::Decode(_)
            | Self::Report(_)
            | Self::Step(_)
            | Self::Evaluate(_)
            | Self::Cut(_)
            | Self::Group { .. }
            | Self::Fuse(_)
            | Self::Unmask(_) => false,
        }
    }
}

impl PublishError {
    fn blame(&self) -> Vec<AgentId> {
        match self {
            Self::Unmask(UnmaskError::Solve(error)) => vec![AgentId::from_bytes(error.member)],
            _ => Vec::new(),
        }
    }
}

/// Why there is no model, as the driver is told.
#[derive(Debug)]
pub(crate) struct PublishFailure {
    /// Whether to try the same sum again.
    pub(crate) retry: bool,
    /// Whose shares keep the masks on.
    pub(crate) blame: Vec<AgentId>,
    /// For people.
    pub(crate) reason: String,
}

/// One round to be published.
struct Round {
    job: Arc<Job>,
    cohort: CohortId,
    round: u32,
    base: Digest,
    codec: Arc<Codec>,
    accumulator: Arc<std::sync::Mutex<Accumulator>>,
    /// What has to be stored first, if that failed before.
    unsealed: Option<OpenRound>,
    /// What takes the masks off, where there are some.
    unmasking: Option<UnmaskingRecord>,
    survivors: Vec<(AgentId, ContributionId)>,
    /// SHA-256 of the cohort's descriptor.
    descriptor: Option<Digest>,
    mode: AggregationMode,
    members: u32,
    draws: u8,
    began_ms: u64,
    remembered: u32,
}

/// What arithmetic makes of a sum.
#[derive(Default)]
pub(super) struct Made {
    /// The model, or the report.
    pub(super) model: Bytes,
    /// The average of the round's agents, where several are fused into a model.
    pub(super) group: Option<Bytes>,
    pub(super) weight: u64,
    pub(super) train_loss: Option<f32>,
    pub(super) clipped: u32,
    pub(super) accuracy: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) device_accuracy: Option<f64>,
    pub(super) device_loss: Option<f32>,
    pub(super) device_examples: Option<u64>,
    /// Of a model.
    pub(super) compared: Compared,
    /// Of a release.
    pub(super) report: Option<Box<ReleaseReport>>,
}

impl Driver {
    pub(super) fn aggregate(&mut self, job: JobId, cohort: CohortId, round: u32, base: Digest, survivors: Vec<(AgentId, ContributionId)>) {
        let descriptor = self.descriptor_digest(cohort);
        let taken = self.jobs.get(&job).zip(self.sums.get(&cohort)).map(|(entry, sum)| Round {
            job: Arc::clone(&entry.job),
            cohort,
            round,
            base,
            codec: Arc::clone(&sum.codec),
            accumulator: Arc::clone(&sum.accumulator),
            unsealed: (!sum.is_sealed).then(|| sum.open.clone()),
            unmasking: sum.open.unmasking.clone(),
            survivors,
            descriptor,
            mode: sum.open.terms.mode,
            members: sum.open.terms.members,
            draws: sum.open.secagg.as_ref().map_or(0, SecAggRecord::draw),
            began_ms: entry.round_began.as_ms(),
            remembered: u32::try_from(self.config.remembered_rounds).unwrap_or(u32::MAX),
        });
        self.publishing += 1;
        let (shared, commands) = (Arc::clone(&self.shared), self.commands.clone());
        tokio::spawn(async move {
            let result = match taken {
                Some(round) => publish(&shared, round).await,
                None => Err(PublishError::NoSum),
            };
            let result = result.map(Box::new).map_err(|error| PublishFailure {
                retry: error.is_storage(),
                blame: error.blame(),
                reason: error.to_string(),
            });
            // The driver is gone only when the service ends.
            let _ = commands.send(Command::Published {
                job,
                round,
                cohort,
                result,
            });
        });
    }

    pub(super) async fn published(&mut self, job: JobId, round: u32, cohort: CohortId, result: Result<Box<RoundRecord>, PublishFailure>) {
        self.publishing -= 1;
        let mut gave_up = false;
        let event = match result {
            Ok(record) => {
                gave_up = record.gave_up.is_some();
                let (base, base_bytes, accuracy) = (record.model, record.model_bytes, record.reached().map(narrow));
                tracing::info!(%job, round, contributions = record.contributions, accuracy = record.accuracy, device_accuracy = record.device_accuracy, "round published");
                self.shared.counters.count(Counter::RoundsFinished);
                self.shared.models.allow(job, [base]);
                // With the round's record its journal was forgotten.
                self.forget_sum(cohort, true);
                self.forget_old_survivors();
                if let Some(entry) = self.jobs.get_mut(&job) {
                    entry.round_began = now();
                    entry.gave_up.clone_from(&record.gave_up);
                    Arc::make_mut(&mut entry.rounds).push(*record);
                }
                Event::Published {
                    job,
                    round,
                    base,
                    base_bytes,
                    accuracy,
                }
            }
            Err(PublishFailure { retry, blame, reason }) => {
                tracing::error!(%job, round, %reason, "the round could not be published");
                self.shared.counters.count(Counter::RoundsFailed);
                Event::PublishFailed {
                    job,
                    round,
                    retry,
                    blame,
                    reason,
                }
            }
        };
        self.event(event).await;
        if gave_up {
            self.give_up(job).await;
        }
        self.notify();
    }
}

async fn publish(shared: &Shared, round: Round) -> Result<RoundRecord, PublishError> {
    if let Some(sealed) = round.unsealed {
        let store = shared.store.clone();
        let stored = tokio::task::spawn_blocking(move || store.put_open_round(&sealed)).await?;
        stored.map_err(|e| PublishError::Seal(e.to_string()))?;
    }
    let descriptor = round.descriptor.ok_or(PublishError::Descriptor)?;
    let base = shared.blobs.read(round.base).await?;
    let Some(work) = round.job.work.clone() else {
        return Err(PublishError::NoSum);
    };
    let earlier = fusing::earlier(shared, &round.job, round.round).await?;
    let (job, codec, accumulator) = (Arc::clone(&round.job), Arc::clone(&round.codec), Arc::clone(&round.accumulator));
    let (journal, cohort, unmasking, number) = (shared.journal.clone(), round.cohort, round.unmasking, round.round);
    let survivors: Vec<AgentId> = round.survivors.iter().map(|(agent, _)| *agent).collect();
    let made = tokio::task::spawn_blocking(move || {
        let mut accumulator = accumulator.lock().unwrap_or_else(PoisonError::into_inner);
        if accumulator.is_poisoned() || accumulator.count() as usize != survivors.len() {
            remake(&journal, cohort, survivors, &mut accumulator).map_err(|e| PublishError::Sum(e.to_string()))?;
        }
        if accumulator.is_masked() {
            masks::unmask(unmasking.as_ref().ok_or(PublishError::NoSum)?, &mut accumulator)?;
        }
        make(base, &job, number, &work, &codec, &accumulator, &earlier)
    })
    .await??;

    let model_bytes = made.model.len() as u64;
    let stored = shared.blobs.put(made.model).await?;
    let group = match made.group {
        None => None,
        Some(average) => Some(shared.blobs.put(average).await?.digest()),
    };
    let traffic = shared.traffic.take(round.job.id);
    let ended_at_ms = now().as_ms();
    let record = RoundRecord {
        job: round.job.id,
        round: round.round,
        base: round.base,
        model: stored.digest(),
        model_bytes,
        group,
        contributions: u32::try_from(round.survivors.len()).unwrap_or(u32::MAX),
        weight: made.weight,
        train_loss: made.train_loss,
        clipped: made.clipped,
        accuracy: made.accuracy,
        loss: made.loss,
        device_accuracy: made.device_accuracy,
        device_loss: made.device_loss,
        device_examples: made.device_examples,
        parity: made.compared.parity,
        not_served: made.compared.reason,
        gave_up: made.report.as_deref().and_then(why_it_ends),
        bytes_up: traffic.up,
        bytes_down: traffic.down,
        seconds: seconds(ended_at_ms.saturating_sub(round.began_ms)),
        ended_at_ms,
    };
    // The operator may take the release back meanwhile: one of the two is first.
    let _changing = match &made.report {
        Some(_) => Some(shared.submitting.lock().await),
        None => None,
    };
    let change = made
        .report
        .as_deref()
        .and_then(|report| shared.catalog.measured(record.job, report, record.model, ended_at_ms));
    let (store, log, written, registry) = (shared.store.clone(), shared.log.clone(), record.clone(), change.clone());
    let measured_by: Vec<AgentId> = round.survivors.iter().map(|(agent, _)| *agent).collect();
    let finished = tokio::task::spawn_blocking(move || {
        let survivors = Survivors::salted(&round.survivors)?;
        let event = LogEvent::Round(RoundEntry {
            round: round.round,
            model: written.model,
            before: round.base,
            cohort: round.cohort,
            descriptor,
            mode: round.mode,
            members: round.members,
            survivors: written.contributions,
            survivors_root: survivors.root(),
            draws: round.draws,
        });
        log.append(written.job, event, survivors, |entry| {
            store.finish_round(&written, &round.survivors, round.remembered, registry.as_ref(), entry)
        })
    });
    match finished.await.map_err(PublishError::from).and_then(|stored| Ok(stored?)) {
        Ok(_) => {
            if let Some(change) = change {
                shared.catalog.apply(change);
                if record.gave_up.is_none() {
                    shared.catalog.expose(record.job, measured_by);
                }
            }
            if let Some(report) = &made.report {
                announce(&record, report);
            }
            warn_of_parity(&record);
            Ok(record)
        }
        Err(error) => {
            // The bytes belong to the round that will be tried again.
            shared.traffic.add(record.job, traffic.up, traffic.down);
            Err(error)
        }
    }
}

/// Why a release ends with this stage, if it does not end well.
fn why_it_ends(report: &ReleaseReport) -> Option<String> {
    let broken: Vec<String> = report.broken.iter().map(Broken::to_string).collect();
    (report.decision == Decision::RolledBack)
        .then(|| format!("rolled back in stage {} of {}: {}", report.round, report.rounds, broken.join("; ")))
}

/// A model that devices compute otherwise than the trainer is no reason to stop training, and must not be released.
fn warn_of_parity(record: &RoundRecord) {
    let (job, round) = (record.job, record.round);
    match (&record.parity, &record.not_served) {
        (Some(found), _) if !found.holds() => tracing::warn!(
            %job, round, max = found.max, max_allowed = found.max_allowed, mean = found.mean, mean_allowed = found.mean_allowed,
            "devices would compute something else than was trained: this round's model is not to be released"
        ),
        (None, Some(reason)) => tracing::warn!(%job, round, %reason, "devices can't serve this round's model"),
        _ => {}
    }
}

fn announce(record: &RoundRecord, report: &ReleaseReport) {
    let (job, model, stage, decision) = (record.job, &report.model, &report.stage, report.decision.name());
    match &record.gave_up {
        Some(reason) => tracing::warn!(%job, %model, %stage, decision, %reason, "the release is rolled back"),
        None => tracing::info!(%job, %model, %stage, decision, agents = report.agents, "a stage of the release is measured"),
    }
}

/// The arithmetic of a round: seconds of it for a large model, so off the reactor.
fn make(
    base: Bytes,
    job: &Job,
    round: u32,
    work: &Work,
    codec: &Codec,
    accumulator: &Accumulator,
    earlier: &[Average],
) -> Result<Made, PublishError> {
    match (work, codec) {
        (Work::Training(training), Codec::Fixed(codec)) => {
            let (made, average) = make_model(base.clone(), job, training, codec, accumulator)?;
            fusing::fused(made, average, base, (job, round), training, earlier)
        }
        (Work::Analytics(analytics), Codec::Exact(_)) => {
            let report = Report::of_sum(&analytics.analyze, job.file.aggregation.mode, round, accumulator)?;
            Ok(Made {
                model: report.to_bytes().into(),
                weight: report.rows,
                clipped: report.capped_agents,
                ..Made::default()
            })
        }
        (Work::Release(release), Codec::Exact(_)) => {
            let report = ReleaseReport::of_sum(&release.release, job.file.aggregation.mode, round, accumulator)?;
            Ok(Made {
                model: report.to_bytes().into(),
                weight: report.variants.iter().map(|variant| variant.rows).sum(),
                clipped: u32::try_from(report.variants.iter().map(VariantReport::failed).sum::<u64>()).unwrap_or(u32::MAX),
                report: Some(Box::new(report)),
                ..Made::default()
            })
        }
        (Work::Calibration(work), Codec::Exact(_)) => {
            let before = CalibrationReport::parse(&base)?;
            let report = CalibrationReport::of_sum(&work.calibration, &before, accumulator)?;
            let divided = report.tensors.iter().map(|tensor| tensor.divided).max();
            Ok(Made {
                model: report.to_bytes().into(),
                weight: report.rows,
                clipped: u32::try_from(divided.unwrap_or_default()).unwrap_or(u32::MAX),
                ..Made::default()
            })
        }
        // A sum's codec is made from the same work.
        _ => Err(PublishError::NoSum),
    }
}

/// The mean of the round's agents, not measured yet.
fn make_model(
    base: Bytes,
    job: &Job,
    training: &Training,
    codec: &FixedCodec,
    accumulator: &Accumulator,
) -> Result<(Made, Model), PublishError> {
    let model = Model::from_shared(base)?;
    let decoded = accumulator.decode(codec)?;
    let weights = strategy::apply(&model.weights(&training.layout)?, &decoded.mean_delta, job.file.strategy.server_lr)?;
    let model = model.with_weights(&training.layout, &weights)?;
    let on_devices = decoded.evaluation;
    let made = Made {
        weight: decoded.weight,
        train_loss: Some(decoded.train_loss),
        clipped: decoded.clipped,
        device_accuracy: on_devices.filter(|_| training.has_accuracy()).map(|found| found.accuracy()),
        device_loss: on_devices.map(|found| found.loss),
        device_examples: on_devices.map(|found| found.examples),
        ..Made::default()
    };
    Ok((made, model))
}

#[allow(clippy::cast_precision_loss)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
