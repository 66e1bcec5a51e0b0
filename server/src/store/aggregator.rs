//! What the aggregator keeps: agents, jobs, rounds, and the contributions of recent rounds. The log has a file of its own.

use std::collections::BTreeMap;
use std::path::Path;

use aimass_federation::coordinator::OpenRound;
use aimass_protocol::{AgentId, ContributionId, JobId, TenantId};

use super::{
    AgentRecord, Batch, CompressionRecord, Database, ForgottenRecord, Format, IncludedRecord, JobRecord, JournalRecord, Key, LogRecord,
    LogWrite, LoggedRecord, ModelRecord, RegistryChange, RoundRecord, StoreError, SurvivorRecord, Table, VersionRecord,
};

const FORMAT: Format = Format {
    name: "aggregator",
    version: 3,
    reads: 1,
};

/// The aggregator's state on disk. All calls block; cheap to clone.
#[derive(Debug, Clone)]
pub struct AggregatorStore {
    tenant: TenantId,
    database: Database,
    agents: Table<AgentRecord>,
    jobs: Table<JobRecord>,
    rounds: Table<RoundRecord>,
    contributions: Table<IncludedRecord>,
    open_rounds: Table<OpenRound>,
    journal: Table<JournalRecord>,
    compressions: Table<CompressionRecord>,
    pub(super) models: Table<ModelRecord>,
    pub(super) versions: Table<VersionRecord>,
    pub(super) log: Table<LogRecord>,
    pub(super) logged: Table<LoggedRecord>,
    pub(super) survivors: Table<SurvivorRecord>,
    pub(super) forgotten: Table<ForgottenRecord>,
}

impl AggregatorStore {
    /// Opens or creates the store in `folder` for `tenant`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(folder: &Path, tenant: TenantId) -> Result<Self, StoreError> {
        let database = Database::open(folder, FORMAT)?;
        Ok(Self {
            agents: database.table("agents")?,
            jobs: database.table("jobs")?,
            rounds: database.table("rounds")?,
            contributions: database.table("contributions")?,
            open_rounds: database.table("open_rounds")?,
            journal: database.table("journal")?,
            compressions: database.table("compressions")?,
            models: database.table("models")?,
            versions: database.table("versions")?,
            log: database.table("log")?,
            logged: database.table("logged")?,
            survivors: database.table("survivors")?,
            forgotten: database.table("forgotten")?,
            tenant,
            database,
        })
    }

    pub(super) fn key(&self) -> Key {
        Key::tenant(&self.tenant)
    }

    pub(super) fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.database.commit(batch)
    }

    fn job_key(&self, job: JobId) -> Key {
        self.key().bytes(job.as_bytes())
    }

    /// All agents, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        self.agents.scan(&self.key())
    }

    /// Writes an agent; durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_agent(&self, record: &AgentRecord) -> Result<(), StoreError> {
        self.agents.put(&self.key().bytes(record.agent.as_bytes()), record)
    }

    /// Writes an agent's last-seen time and the like, which a crash may lose.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn touch_agent(&self, record: &AgentRecord) -> Result<(), StoreError> {
        self.agents.put_unflushed(&self.key().bytes(record.agent.as_bytes()), record)
    }

    /// All jobs, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn jobs(&self) -> Result<Vec<JobRecord>, StoreError> {
        self.jobs.scan(&self.key())
    }

    /// Writes a job; durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_job(&self, record: &JobRecord) -> Result<(), StoreError> {
        self.jobs.put(&self.job_key(record.job), record)
    }

    pub(super) fn put_job_in(&self, record: &JobRecord, batch: &mut Batch) -> Result<(), StoreError> {
        batch.put(&self.jobs, &self.job_key(record.job), record)
    }

    /// A job's finished rounds in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rounds(&self, job: JobId) -> Result<Vec<RoundRecord>, StoreError> {
        self.rounds.scan(&self.job_key(job))
    }

    /// The last step of a job, if it was begun.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn compression(&self, job: JobId) -> Result<Option<CompressionRecord>, StoreError> {
        Ok(self.compressions.scan(&self.job_key(job))?.into_iter().next())
    }

    /// Writes the last step of a job; durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_compression(&self, record: &CompressionRecord) -> Result<(), StoreError> {
        self.compressions.put(&self.job_key(record.job), record)
    }

    /// Writes a finished round with the contributions in its sum, what follows from it in the registry and its entry in the log, all or nothing, and forgets
    /// those of the round `remembered` rounds before it: agents that come back so late start anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn finish_round(
        &self,
        record: &RoundRecord,
        included: &[(AgentId, ContributionId)],
        remembered: u32,
        registry: Option<&RegistryChange>,
        log: &LogWrite,
    ) -> Result<(), StoreError> {
        let round_key = |round| self.job_key(record.job).number(round);
        let mut batch = Batch::default();
        batch.put(&self.rounds, &round_key(record.round), record)?;
        for &(agent, contribution) in included {
            let key = round_key(record.round).bytes(contribution.as_bytes());
            batch.put(
                &self.contributions,
                &key,
                &IncludedRecord {
                    round: record.round,
                    agent,
                    contribution,
                },
            )?;
        }
        if let Some(old) = record.round.checked_sub(remembered) {
            for key in self.contributions.keys(&round_key(old))? {
                batch.remove(&self.contributions, &key);
            }
        }
        self.forget_open(record.job, &mut batch)?;
        if let Some(change) = registry {
            self.put_registry_in(change, &mut batch)?;
        }
        self.put_log(log, &mut batch)?;
        self.database.commit(batch)
    }

    /// Who contributed to the remembered rounds of a job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn contributors(&self, job: JobId) -> Result<Vec<AgentId>, StoreError> {
        let records = self.contributions.scan(&self.job_key(job))?;
        Ok(records.into_iter().map(|record| record.agent).collect())
    }

    /// Writes a job's open round, in place of an earlier one with its journal; durable on return. The same round again (restored, or sealed) keeps its
    /// journal.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_open_round(&self, round: &OpenRound) -> Result<(), StoreError> {
        let key = self.job_key(round.terms.job);
        let mut batch = Batch::default();
        for record in self.journal.scan(&key)? {
            if record.cohort != round.terms.cohort {
                batch.remove(&self.journal, &self.journal_key(round.terms.job, &record));
            }
        }
        batch.put(&self.open_rounds, &key, round)?;
        self.database.commit(batch)
    }

    /// Forgets a job's open round and its journal, durably.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn drop_open_round(&self, job: JobId) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        self.forget_open(job, &mut batch)?;
        self.database.commit(batch)
    }

    pub(super) fn forget_open(&self, job: JobId, batch: &mut Batch) -> Result<(), StoreError> {
        let key = self.job_key(job);
        batch.remove(&self.open_rounds, &key);
        for record in self.journal.keys(&key)? {
            batch.remove(&self.journal, &record);
        }
        Ok(())
    }

    fn journal_key(&self, job: JobId, record: &JournalRecord) -> Key {
        self.job_key(job)
            .bytes(record.cohort.as_bytes())
            .bytes(record.contribution.as_bytes())
    }

    /// Notes updates that are in the journal, all or none; durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_journal(&self, job: JobId, records: &[JournalRecord]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for record in records {
            batch.put(&self.journal, &self.journal_key(job, record), record)?;
        }
        self.database.commit(batch)
    }

    /// A job's open round with its journal, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_round(&self, job: JobId) -> Result<Option<(OpenRound, Vec<JournalRecord>)>, StoreError> {
        let key = self.job_key(job);
        let Some(round) = self.open_rounds.scan(&key)?.into_iter().next() else {
            return Ok(None);
        };
        let mut journal = self.journal.scan(&key)?;
        journal.retain(|record| record.cohort == round.terms.cohort);
        Ok(Some((round, journal)))
    }

    /// The contributions that went into the remembered rounds of a job, by round.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn included(&self, job: JobId) -> Result<BTreeMap<u32, Vec<ContributionId>>, StoreError> {
        let mut rounds: BTreeMap<u32, Vec<ContributionId>> = BTreeMap::new();
        for record in self.contributions.scan(&self.job_key(job))? {
            rounds.entry(record.round).or_default().push(record.contribution);
        }
        Ok(rounds)
    }

    /// Returns when everything written before is on the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.database.flush()
    }
}
