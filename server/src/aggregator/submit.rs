//! Takes jobs: from operators after every check, from the store after a restart.

use std::sync::Arc;
use std::time::Duration;

use aimass_crypto::sign::{Context, PublicKey};
use aimass_federation::coordinator::{JobEnd, RoundOutcome};
use aimass_onnx::Model;
use aimass_protocol::job::ReleaseSection;
use aimass_protocol::limits::MAX_SIGNED_JOB_BYTES;
use aimass_protocol::log::LogEvent;
use aimass_protocol::{JobId, PublicKeyBytes, SignatureBytes, TenantId};
use serde_bytes::ByteBuf;
use tokio::sync::oneshot;

use super::catalog::CatalogError;
use super::counters::Counter;
use super::driver::{Command, JobSnapshot, RestoredJob, now};
use super::job::{Job, JobError};
use super::log::Survivors;
use super::parity;
use super::service::Shared;
use crate::blobs::BlobError;
use crate::store::{JobRecord, StoreError};

/// How long a submission waits for the authority, when the owner is not known yet.
const OWNER_PATIENCE: Duration = Duration::from_secs(5);

/// A job that is not taken. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SubmitError {
    /// Longer than the limit.
    #[error("the signed job has {len} bytes, over the limit of {MAX_SIGNED_JOB_BYTES}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// For another tenant.
    #[error("the job is for the tenant {job}, this server works for {server}: submit it there, or sign it for this tenant", job = job.as_str(), server = server.as_str())]
    Tenant {
        /// The job's.
        job: TenantId,
        /// Ours.
        server: TenantId,
    },
    /// Signed by nobody we trust.
    #[error("the job's owner {owner} is not registered for this tenant: register the key with `aimass owner add` at the authority")]
    UnknownOwner {
        /// The key, hex.
        owner: String,
    },
    /// Not signed, or changed afterwards.
    #[error("the job's signature does not match: sign it again with the owner's key")]
    BadSignature,
    /// Too many run.
    #[error("{running} jobs run already, the limit is {limit}: stop one, or raise max_running_jobs")]
    TooMany {
        /// Running now.
        running: usize,
        /// The limit.
        limit: usize,
    },
    /// Their updates could take too much room.
    #[error(
        "full rounds of the running jobs take {running_bytes} bytes of updates, this one's {job_bytes}, and the limit is {limit_bytes}: lower round.max, stop a job, or raise max_journal_bytes"
    )]
    TooLong {
        /// Of the running jobs.
        running_bytes: u64,
        /// Of this one.
        job_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The job itself.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The release and the registry.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service is ending.
    #[error("the server is shutting down: submit the job again later")]
    ShuttingDown,
}

impl From<tokio::task::JoinError> for SubmitError {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::ShuttingDown
    }
}

/// Checks a job and starts it. The same bytes again give the same job and change nothing.
///
/// # Errors
/// [`SubmitError`].
pub(crate) async fn submit(
    shared: &Shared,
    signed: Vec<u8>,
    owner: PublicKeyBytes,
    signature: SignatureBytes,
) -> Result<JobId, SubmitError> {
    if signed.len() > MAX_SIGNED_JOB_BYTES {
        return Err(SubmitError::TooLarge { len: signed.len() });
    }
    verify(&signed, &owner, &signature)?;
    let job = Job::read(ByteBuf::from(signed), owner, signature)?;
    if job.signed.tenant != shared.tenant {
        return Err(SubmitError::Tenant {
            job: job.signed.tenant,
            server: shared.tenant.clone(),
        });
    }
    trusted(shared, &owner).await?;
    // One at a time: the limit holds, and a job sent twice at once is stored once. What takes long is done before the lock that rollbacks wait for.
    let _preparing = shared.preparing.lock().await;
    let known = snapshots(shared, None).await?;
    if known.iter().any(|snapshot| snapshot.record.job == job.id) {
        return Ok(job.id);
    }
    let running = known.iter().filter(|snapshot| snapshot.record.end.is_none()).count();
    if running >= shared.max_running_jobs {
        return Err(SubmitError::TooMany {
            running,
            limit: shared.max_running_jobs,
        });
    }
    let job = job.load(&shared.blobs).await?;
    let (job_bytes, limit_bytes) = (job.journal_bytes(), shared.max_journal_bytes);
    let running_bytes = known.iter().fold(0_u64, |sum, snapshot| sum.saturating_add(snapshot.journal_bytes));
    if running_bytes.saturating_add(job_bytes) > limit_bytes {
        return Err(SubmitError::TooLong {
            running_bytes,
            job_bytes,
            limit_bytes,
        });
    }
    if let Some(release) = &job.file.release {
        shared.catalog.check_champion(release)?;
        check_variants(shared, &job, release, &known).await?;
    }
    if job.file.trains() && job.file.compress.is_some() {
        super::compressing::rehearsed(shared, &job).await?;
    }
    let _submitting = shared.submitting.lock().await;
    if let Some(release) = &job.file.release {
        shared.catalog.check_champion(release)?;
    }
    let record = JobRecord {
        job: job.id,
        signed_job: hex::encode(&job.signed_bytes),
        owner,
        signature,
        end: None,
        submitted_at_ms: now().as_ms(),
        ended_at_ms: None,
    };
    let (store, log, written, model) = (shared.store.clone(), shared.log.clone(), record.clone(), job.model);
    let logged = tokio::task::spawn_blocking(move || {
        let event = LogEvent::Base { model };
        log.append(written.job, event, Survivors::default(), |entry| store.add_job(&written, entry))
    });
    logged.await??;
    register(shared, &job, record.submitted_at_ms).await?;
    let id = job.id;
    let restored = RestoredJob {
        rounds: Vec::new(),
        recent: Vec::new(),
        open: None,
        compression: None,
    };
    shared
        .commands
        .send(Command::AddJob {
            job: Box::new((job, record)),
            restored,
        })
        .map_err(|_| SubmitError::ShuttingDown)?;
    shared.counters.count(Counter::JobsSubmitted);
    Ok(id)
}

/// Whether devices compute with each variant what was trained: by comparing, and by what is on record of the rounds that made it.
async fn check_variants(shared: &Shared, job: &Job, release: &ReleaseSection, known: &[JobSnapshot]) -> Result<(), SubmitError> {
    for (at, variant) in release.variants.iter().enumerate() {
        let recorded = known
            .iter()
            .flat_map(|snapshot| snapshot.rounds.iter().find(|round| round.model == variant.digest));
        let mut broken = recorded.filter(|round| round.not_served.is_some() || round.parity.is_some_and(|found| !found.holds()));
        let problem = match broken.next() {
            Some(round) => Err(format!(
                "round {} of job {} made it, and trainer and tract did not agree on it there",
                round.round, round.job
            )),
            None => {
                let bytes = shared.blobs.read(variant.digest).await.map_err(JobError::Blob)?;
                let compared = tokio::task::spawn_blocking(move || match Model::from_shared(bytes) {
                    Ok(model) => parity::of_variant(&model),
                    Err(error) => Err(error.to_string()),
                });
                compared.await?
            }
        };
        if let Err(problem) = problem {
            return Err(SubmitError::Job(job.refuse_variant(at, &problem)));
        }
    }
    Ok(())
}

/// Makes a release the next version of its model, unless it is one: a server that was killed in between does so when it starts.
async fn register(shared: &Shared, job: &Job, now_ms: u64) -> Result<(), SubmitError> {
    let Some(release) = &job.file.release else { return Ok(()) };
    if let Some(mut change) = shared.catalog.registered(job.id, job.owner, job.model, release, now_ms) {
        let store = shared.store.clone();
        let stored = tokio::task::spawn_blocking(move || {
            for variant in change.versions.iter_mut().flat_map(|version| &mut version.variants) {
                variant.origin = store.origin_of(variant.digest)?;
            }
            store.put_registry(&change)?;
            Ok::<_, StoreError>(change)
        });
        shared.catalog.apply(stored.await??);
    }
    Ok(())
}

fn verify(signed: &[u8], owner: &PublicKeyBytes, signature: &SignatureBytes) -> Result<(), SubmitError> {
    let key = PublicKey::from_bytes(owner.as_bytes()).map_err(|_| SubmitError::BadSignature)?;
    key.verify(Context::Job, signed, signature.as_bytes())
        .map_err(|_| SubmitError::BadSignature)
}

/// Whether the owner may submit jobs here. One who was registered a moment ago is not in our bundle yet: look before refusing.
async fn trusted(shared: &Shared, owner: &PublicKeyBytes) -> Result<(), SubmitError> {
    let key = PublicKey::from_bytes(owner.as_bytes()).map_err(|_| SubmitError::BadSignature)?;
    if shared.trust.trusts_owner(&shared.tenant, &key) {
        return Ok(());
    }
    shared.errands.refresh(OWNER_PATIENCE).await;
    if shared.trust.trusts_owner(&shared.tenant, &key) {
        return Ok(());
    }
    Err(SubmitError::UnknownOwner { owner: owner.to_hex() })
}

/// Jobs as the driver sees them: all, or one.
///
/// # Errors
/// [`SubmitError::ShuttingDown`].
pub(crate) async fn snapshots(shared: &Shared, only: Option<JobId>) -> Result<Vec<JobSnapshot>, SubmitError> {
    let (reply, snapshots) = oneshot::channel();
    shared
        .commands
        .send(Command::Jobs { only, reply })
        .map_err(|_| SubmitError::ShuttingDown)?;
    snapshots.await.map_err(|_| SubmitError::ShuttingDown)
}

/// The stored jobs, to be added to a new driver. One that can't run any more (its model is gone) is ended, and the others go on.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn restore(shared: &Arc<Shared>) -> Result<Vec<Command>, StoreError> {
    let records = shared.store.jobs()?;
    for record in records.iter().filter(|record| record.end.is_some()) {
        shared.log.forget(record.job);
    }
    let mut commands = Vec::with_capacity(records.len());
    let mut open_cohorts = Vec::new();
    for mut record in records {
        let rounds = shared.store.rounds(record.job)?;
        let mut included = shared.store.included(record.job)?;
        let recent = rounds
            .iter()
            .filter_map(|round| {
                let contributions = included.remove(&round.round)?;
                Some(RoundOutcome {
                    round: round.round,
                    model: round.model,
                    contributions,
                })
            })
            .collect();
        let corrupt = |reason: String| StoreError::Corrupt {
            table: "jobs".to_owned(),
            reason,
        };
        let signed = hex::decode(&record.signed_job).map_err(|e| corrupt(e.to_string()))?;
        let mut job = Job::read(ByteBuf::from(signed), record.owner, record.signature).map_err(|e| corrupt(e.to_string()))?;
        if let Err(error) = register(shared, &job, record.submitted_at_ms).await {
            return Err(std::io::Error::other(format!("release {}: {error}", job.id)).into());
        }
        if let (None, Some(reason)) = (&record.end, rounds.last().and_then(|round| round.gave_up.clone())) {
            // The server ended between the round's record and the job's.
            record.end = Some(JobEnd::Failed { reason });
            record.ended_at_ms = Some(now().as_ms());
            shared.store.put_job(&record)?;
        }
        if record.end.is_none() && job.file.release.is_some() && !rounds.is_empty() {
            shared.catalog.expose(job.id, shared.store.contributors(job.id)?);
        }
        if record.end.is_none() {
            let latest = rounds.last().map_or(job.model, |round| round.model);
            match runnable(shared, job.clone(), latest).await {
                Ok(loaded) => {
                    job = loaded;
                    if !shared.log.holds(job.id, latest) {
                        // Its record is older than the log, or than the entry that a failed write left out.
                        tracing::warn!(job = %job.id, "the job's model was not in the log: it is logged as the base that the job goes on from");
                        let event = LogEvent::Base { model: latest };
                        shared
                            .log
                            .append(job.id, event, Survivors::default(), |entry| shared.store.add_to_log(entry))?;
                    }
                }
                // The disk may be good again at the next start: the job waits for that.
                Err(JobError::Blob(error)) => return Err(std::io::Error::other(format!("job {}: {error}", job.id)).into()),
                Err(error) => {
                    tracing::error!(job = %job.id, %error, "a job can't go on after the restart");
                    record.end = Some(JobEnd::Failed {
                        reason: format!("it could not go on after a restart: {error}"),
                    });
                    record.ended_at_ms = Some(now().as_ms());
                    shared.store.put_job(&record)?;
                }
            }
        }
        let open = match record.end {
            None => shared.store.open_round(job.id)?,
            Some(_) => None,
        };
        let compression = shared.store.compression(job.id)?;
        open_cohorts.extend(open.as_ref().map(|(open, _)| open.terms.cohort));
        commands.push(Command::AddJob {
            job: Box::new((job, record)),
            restored: RestoredJob {
                rounds,
                recent,
                open,
                compression,
            },
        });
    }
    if let Err(error) = shared.journal.retain(&open_cohorts) {
        tracing::warn!(%error, "updates of rounds that are over could not be removed");
    }
    Ok(commands)
}

async fn runnable(shared: &Shared, job: Job, latest: aimass_protocol::Digest) -> Result<Job, JobError> {
    shared.blobs.size(latest).await.map_err(|e| match e {
        BlobError::NotFound { digest } => JobError::ModelMissing { digest },
        other => JobError::Blob(other),
    })?;
    job.load(&shared.blobs).await
}
