//! The jobs that the driver knows: restored, added, stopped, shown.

use std::sync::Arc;
use std::time::Duration;

use aimass_federation::coordinator::{Event, JobEnd, JobSpec, RestoredRound, suits};
use aimass_protocol::job::{AggregationMode, JobFile, Stage};
use aimass_protocol::limits::{MAX_BASES, MAX_FINISH_WITHIN_MS};
use aimass_protocol::log::BaseProof;
use aimass_protocol::message::agent::Task;
use aimass_protocol::{Digest, JobId, Timestamp};
use tokio::sync::oneshot;

use super::command::StopError;
use crate::aggregator::compressing;
use crate::store::{AgentRecord, AgentState, CompressionRecord};

use super::{Command, Driver, Job, JobRecord, JobSnapshot, Restored, RestoredJob, RoundRecord, now};

/// A job with what became of it.
pub(super) struct JobEntry {
    pub(super) job: Arc<Job>,
    pub(super) record: JobRecord,
    pub(super) rounds: Arc<Vec<RoundRecord>>,
    /// Its last step: there once it has finished, where it asks for one.
    compression: Option<CompressionRecord>,
    /// When the running round began, for its duration.
    pub(super) round_began: Timestamp,
    /// Whether that was begun since the server started.
    compressing: bool,
    /// Operators who wait for the job to be stopped.
    stopping: Vec<oneshot::Sender<Result<(), StopError>>>,
    /// Why it ends although nobody stopped it.
    pub(super) gave_up: Option<String>,
}

impl JobEntry {
    pub(super) fn task(&self, round: u32, base: Digest, base_bytes: u64, finish_within: Option<Duration>, log: Option<BaseProof>) -> Task {
        Task {
            job: self.job.id,
            signed_job: self.job.signed_bytes.clone(),
            owner: self.job.owner,
            signature: self.job.signature,
            round,
            base,
            base_bytes,
            finish_within_ms: finish_within.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, MAX_FINISH_WITHIN_MS)),
            log: log.map(Box::new),
        }
    }
}

impl Driver {
    pub(super) async fn add_job(&mut self, job: Box<(Job, JobRecord)>, restored: RestoredJob) {
        let (job, record) = *job;
        if self.jobs.contains_key(&job.id) {
            return;
        }
        let last = restored.rounds.last();
        let spec = JobSpec {
            id: job.id,
            file: self.resolved(&job),
            next_round: last.map_or(1, |round| round.round.saturating_add(1)),
            base: last.map_or(job.model, |round| round.model),
            base_bytes: last.map_or(job.model_bytes, |round| round.model_bytes),
            accuracy: last.map_or_else(|| job.initial_accuracy(), RoundRecord::reached).map(narrow),
            earlier: earlier_models(&job, &restored.rounds),
            recent: restored.recent,
            open: restored.open.map(|(open, journal)| {
                let durable = journal.iter().map(|record| (record.agent, record.contribution)).collect();
                let restored = Restored {
                    open: open.clone(),
                    journal,
                };
                self.restored.insert(open.terms.cohort, restored);
                RestoredRound { open, durable }
            }),
            ended: record.end.clone(),
        };
        self.shared.models.allow(
            job.id,
            std::iter::once(job.model)
                .chain(restored.rounds.iter().map(|round| round.model))
                .chain(job.files().map(|(_, digest, _)| digest)),
        );
        tracing::info!(job = %job.id, name = %job.file.job.name, round = spec.next_round, "job added");
        if job.file.aggregation.mode == AggregationMode::Plain && record.end.is_none() {
            tracing::warn!(job = %job.id, "this job's aggregation is PLAIN: TLS alone protects its updates, this server can read each of them");
        }
        let entry = JobEntry {
            job: Arc::new(job),
            record,
            rounds: Arc::new(restored.rounds),
            compression: restored.compression,
            round_began: now(),
            compressing: false,
            stopping: Vec::new(),
            gave_up: None,
        };
        let id = spec.id;
        self.jobs.insert(id, entry);
        self.event(Event::AddJob(Box::new(spec))).await;
        // A server that was killed after the job's end begins anew.
        self.compress(id);
        self.notify();
    }

    pub(super) async fn stop_job(&mut self, job: JobId, done: oneshot::Sender<Result<(), StopError>>) {
        match self.jobs.get_mut(&job) {
            None => {
                let _ = done.send(Err(StopError::Unknown));
            }
            Some(entry) if entry.record.end.is_some() => {
                let _ = done.send(Ok(()));
            }
            Some(entry) => {
                entry.stopping.push(done);
                self.event(Event::StopJob { job }).await;
            }
        }
    }

    /// Ends a job that is not to go on, unless its last round has ended it.
    pub(super) async fn give_up(&mut self, job: JobId) {
        if self.jobs.get(&job).is_some_and(|entry| entry.record.end.is_none()) {
            self.event(Event::StopJob { job }).await;
        }
    }

    /// The job file with the stages of a release as numbers: shares are of the agents that are registered now and are what the job is for.
    fn resolved(&self, job: &Job) -> JobFile {
        let mut file = job.file.clone();
        let Some(mut release) = file.release.take() else { return file };
        let agents = self.shared.registry.all();
        let fits = |agent: &&AgentRecord| agent.state == AgentState::Accepted && suits(&job.file, &agent.contracts, &agent.capabilities);
        let devices = u32::try_from(agents.iter().filter(fits).count()).unwrap_or(u32::MAX);
        for (round, stage) in (1..).zip(&mut release.stages) {
            *stage = Stage::Devices(job.file.size_of(round, devices).target);
        }
        file.release = Some(release);
        file
    }

    pub(super) async fn job_ended(&mut self, job: JobId, end: JobEnd) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let end = match (entry.gave_up.take(), end) {
            (Some(reason), JobEnd::Stopped | JobEnd::Finished { .. }) => JobEnd::Failed { reason },
            (_, end) => end,
        };
        self.shared.catalog.conceal(job);
        tracing::info!(%job, state = end.state(), reason = %end.reason(), "job ended");
        entry.record.end = Some(end);
        entry.record.ended_at_ms = Some(now().as_ms());
        let (store, record) = (self.shared.store.clone(), entry.record.clone());
        let stored = tokio::task::spawn_blocking(move || store.put_job(&record)).await;
        let stored = stored.unwrap_or_else(|e| Err(std::io::Error::other(e).into()));
        if let Err(error) = &stored {
            // After a restart the job would run on; the operator can stop it again.
            tracing::error!(%job, %error, "the end of the job could not be stored");
        }
        let result = stored.map_err(|e| StopError::Store { reason: e.to_string() });
        for waiting in std::mem::take(&mut entry.stopping) {
            let _ = waiting.send(result.clone());
        }
        self.shared.traffic.take(job);
        self.shared.log.forget(job);
        self.compress(job);
        self.notify();
    }

    /// Has the last model of a job that has finished made smaller, if that is asked for and not done; at most once in the life of a server.
    fn compress(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job).filter(|entry| !entry.compressing) else {
            return;
        };
        let record = match entry.compression.clone() {
            None => compressing::begun(&entry.job, &entry.record, &entry.rounds),
            Some(record) => Some(record).filter(CompressionRecord::is_pending),
        };
        let Some(record) = record else { return };
        entry.compression = Some(record.clone());
        entry.compressing = true;
        let (shared, commands, job) = (Arc::clone(&self.shared), self.commands.clone(), Arc::clone(&entry.job));
        tokio::spawn(async move {
            match compressing::run(&shared, &job, record).await {
                // The driver is gone only when the service ends.
                Ok(record) => drop(commands.send(Command::Compressed(Box::new(record)))),
                Err(error) => {
                    tracing::error!(job = %job.id, %error, "the last model could not be made smaller now: the next start of the server tries again");
                }
            }
        });
    }

    pub(super) fn compressed(&mut self, record: CompressionRecord) {
        if let Some(entry) = self.jobs.get_mut(&record.job) {
            entry.compression = Some(record);
        }
        self.notify();
    }

    pub(super) fn snapshots(&self, only: Option<JobId>) -> Vec<JobSnapshot> {
        let wanted = self.jobs.values().filter(|entry| only.is_none_or(|id| id == entry.job.id));
        wanted
            .filter_map(|entry| {
                Some(JobSnapshot {
                    record: entry.record.clone(),
                    name: entry.job.file.job.name.clone(),
                    kind: entry.job.file.job.kind,
                    initial_model: entry.job.model,
                    view: self.coordinator.job(entry.job.id)?,
                    rounds: Arc::clone(&entry.rounds),
                    compression: entry.compression.clone(),
                    journal_bytes: if entry.record.end.is_none() { entry.job.journal_bytes() } else { 0 },
                })
            })
            .collect()
    }
}

/// The models before the latest, newest first.
fn earlier_models(job: &Job, rounds: &[RoundRecord]) -> Vec<Digest> {
    let mut models: Vec<Digest> = Vec::with_capacity(MAX_BASES + 1);
    for model in rounds.iter().rev().map(|round| round.model).chain([job.model]) {
        if models.len() <= MAX_BASES && !models.contains(&model) {
            models.push(model);
        }
    }
    models.split_off(1.min(models.len()))
}

/// Accuracies are fractions: an f32 holds them well enough to compare with a target.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn narrow(accuracy: f64) -> f32 {
    accuracy as f32
}
