//! The registry of models: names with their aliases, and versions with their variants, lineage and measured figures.

use std::collections::BTreeMap;

use aimass_analytics::release::VariantReport;
use aimass_protocol::{Digest, JobId, PublicKeyBytes};
use serde::{Deserialize, Serialize};

use super::{AggregatorStore, Batch, Key, StoreError};

/// A model by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// Its name: a label.
    pub model: String,
    /// Versions by alias: `champion` is served, `candidate` is measured.
    pub aliases: BTreeMap<String, u32>,
    /// The newest version, counted from 1.
    pub latest: u32,
}

/// How far a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// Agents measure it, a stage after the other.
    Measuring,
    /// It was the champion from then on.
    Promoted,
    /// All stages held, and it stayed a candidate.
    Measured,
    /// A rule did not hold, or the operator took it back.
    RolledBack,
}

/// A version of a model: one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionRecord {
    /// The model's name.
    pub model: String,
    /// Counted from 1.
    pub version: u32,
    /// The job that measures it, whose signed file is the release.
    pub release: JobId,
    /// Who signed it.
    pub owner: PublicKeyBytes,
    /// How far it is.
    pub state: VersionState,
    /// Stages that were measured.
    pub round: u32,
    /// Stages in all.
    pub rounds: u32,
    /// The last stage's report; that of nobody before the first.
    pub report: Digest,
    /// Why it was rolled back.
    pub reasons: Vec<String>,
    /// In order of preference.
    pub variants: Vec<VariantRecord>,
    /// The champion before it was promoted.
    pub champion_before: Option<u32>,
    /// Milliseconds since the Unix epoch.
    pub submitted_at_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub decided_at_ms: Option<u64>,
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantRecord {
    /// Its name.
    pub name: String,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Device classes that it is for; any where it is empty.
    pub device_classes: Vec<String>,
    /// Least main memory of a device, in MiB.
    pub memory_mib: u32,
    /// Fewest cores of a device.
    pub cores: u32,
    /// Whether it is for devices with a GPU alone.
    pub gpu: bool,
    /// How it was made.
    pub recipe: String,
    /// The file that it was made from.
    pub parent: Option<Digest>,
    /// Which job of this aggregator made it, by its own records; none of a file that came from elsewhere.
    #[serde(default)]
    pub origin: Option<OriginRecord>,
    /// What its owner measured: share of right answers.
    pub claimed_accuracy: Option<f32>,
    /// What its owner measured: microseconds of a run on one row.
    pub claimed_latency_us: Option<u32>,
    /// What its owner measured: peak memory in MiB.
    pub claimed_memory_mib: Option<u32>,
    /// What devices measured together in the last stage.
    pub measured: Option<VariantReport>,
}

/// Where a file came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginRecord {
    /// The job.
    pub job: JobId,
    /// The round whose model it is, or that it was made of.
    pub round: u32,
    /// Of a model that the job made smaller: how.
    pub recipe: Option<String>,
    /// Of such a model: the round's.
    pub parent: Option<Digest>,
}

/// What changes in the registry at once.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryChange {
    /// The model as it is from then on.
    pub model: ModelRecord,
    /// Its versions that change.
    pub versions: Vec<VersionRecord>,
}

impl AggregatorStore {
    /// Names hold no zero byte, so none is a prefix of another one's versions.
    fn version_key(&self, model: &str, version: u32) -> Key {
        self.key().bytes(model.as_bytes()).bytes(&[0]).number(version)
    }

    /// All models of the registry with all their versions.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn registry(&self) -> Result<(Vec<ModelRecord>, Vec<VersionRecord>), StoreError> {
        Ok((self.models.scan(&self.key())?, self.versions.scan(&self.key())?))
    }

    /// Which job made a file, by the records of rounds and of smaller models; the newest, where several did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn origin_of(&self, digest: Digest) -> Result<Option<OriginRecord>, StoreError> {
        let mut jobs = self.jobs()?;
        jobs.sort_by_key(|job| std::cmp::Reverse(job.submitted_at_ms));
        for job in jobs {
            let small = self.compression(job.job)?;
            if let Some(small) = small.filter(|small| small.made.as_ref().is_some_and(|made| made.digest == digest)) {
                return Ok(Some(OriginRecord {
                    job: job.job,
                    round: small.round,
                    recipe: Some(small.recipe),
                    parent: Some(small.parent),
                }));
            }
            // The first: rounds that are fused publish what they began with.
            if let Some(round) = self.rounds(job.job)?.iter().find(|round| round.model == digest) {
                return Ok(Some(OriginRecord {
                    job: job.job,
                    round: round.round,
                    recipe: None,
                    parent: None,
                }));
            }
        }
        Ok(None)
    }

    /// Writes a change of the registry, all or nothing; durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_registry(&self, change: &RegistryChange) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        self.put_registry_in(change, &mut batch)?;
        self.commit(batch)
    }

    pub(super) fn put_registry_in(&self, change: &RegistryChange, batch: &mut Batch) -> Result<(), StoreError> {
        batch.put(&self.models, &self.key().bytes(change.model.model.as_bytes()), &change.model)?;
        for version in &change.versions {
            batch.put(&self.versions, &self.version_key(&version.model, version.version), version)?;
        }
        Ok(())
    }
}
