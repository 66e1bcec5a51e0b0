//! Contributions: what was trained, and what was encoded of it for a cohort.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use aimass_analytics::Shape;
use aimass_analytics::calibration::CalibrationShape;
use aimass_analytics::release::ReleaseShape;
use aimass_net::disk;
use aimass_net::identity::durable;
use aimass_protocol::job::RoundMode;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::{CohortId, ContributionId, Digest, JobId};
use serde::{Deserialize, Serialize};

use super::files::{blocks_of, entries, file_crc32, naming, read_json, read_whole, remove_if_there, write_json, write_large};
use super::{StateError, StateFolder};

/// What training, or counting, said about a contribution; kept beside its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedRecord {
    /// The job.
    pub job: JobId,
    /// The base model.
    pub base: Digest,
    /// SHA-256 of the base's parameter layout, or of what was counted.
    pub layout_digest: Digest,
    /// Values in `delta.f32` or `tally.u64`.
    pub n_weights: usize,
    /// CRC-32 of that file: it is not synced, so a power failure may have taken it.
    pub delta_crc32: u32,
    /// Examples trained on, or rows counted.
    pub examples: u64,
    /// Steps done; 0 of what was counted.
    pub steps: u64,
    /// Mean loss over the last pass; 0 of what was counted.
    pub train_loss: f32,
    /// What was counted, of an analytics job; `None` where something was trained.
    #[serde(default)]
    pub tally: Option<Shape>,
    /// What was measured, of a release; `None` where something was trained or counted.
    #[serde(default)]
    pub release: Option<ReleaseShape>,
    /// What was looked at, of a calibration.
    #[serde(default)]
    pub calibration: Option<CalibrationShape>,
    /// How good the base is on the rows that were held back; `None` where the job asks for no evaluation on devices.
    #[serde(default)]
    pub evaluation: Option<EvaluationRecord>,
    /// Round that the base belongs to.
    pub round: u32,
    /// How the job's rounds wait: what a weight is counted in follows from it.
    #[serde(default)]
    pub round_mode: RoundMode,
    /// Seed of the rounding; of what was counted, which is not rounded, zeros.
    pub rounding_seed: Digest,
}

impl TrainedRecord {
    /// The file that it vouches for.
    fn values_file(&self) -> &'static str {
        if self.is_counted() { "tally.u64" } else { "delta.f32" }
    }

    /// Whether it is numbers that were counted, and no update of a model.
    pub fn is_counted(&self) -> bool {
        self.tally.is_some() || self.release.is_some() || self.calibration.is_some()
    }
}

/// How good a model is on the rows that were held back; all 0 where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Mean loss.
    pub loss: f32,
    /// Rows that the model gets right; 0 where that means nothing.
    pub correct: u64,
    /// Rows.
    pub examples: u64,
}

/// What was encoded for which cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodedRecord {
    /// The cohort.
    pub cohort: CohortId,
    /// Of `encoded.bin`.
    pub manifest: Manifest,
    /// CRC-32 of `encoded.bin`: that file is not synced, so a power failure may have taken it.
    pub encoded_crc32: u32,
    /// Whether the update was scaled down to the clip.
    pub clipped: bool,
}

impl StateFolder {
    /// Ids of the contributions that have a folder.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn contributions(&self) -> Result<Vec<ContributionId>, StateError> {
        let names = entries(&self.contributions_dir())?
            .into_iter()
            .filter_map(|p| p.file_name()?.to_str()?.parse().ok());
        Ok(names.collect())
    }

    /// Removes a contribution and everything kept for it.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn discard(&self, id: ContributionId) -> Result<(), StateError> {
        let path = self.contribution_dir(id);
        match disk::call("removing a contribution").and_then(|()| fs::remove_dir_all(&path)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(naming(&path, &e)),
            _ => Ok(()),
        }
    }

    /// Removes what was encoded for `cohort`; what was encoded for another one since stays.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn discard_encoded(&self, id: ContributionId, cohort: CohortId) -> Result<(), StateError> {
        if self.load_encoded(id)?.is_some_and(|record| record.cohort == cohort) {
            // The record first: without it the bytes count for nothing.
            for name in ["manifest.json", "encoded.bin"] {
                remove_if_there(&self.contribution_dir(id).join(name))?;
            }
        }
        Ok(())
    }

    /// Removes every contribution but `keep`.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn retain_contributions(&self, keep: &[ContributionId]) -> Result<(), StateError> {
        for id in self.contributions()? {
            if !keep.contains(&id) {
                self.discard(id)?;
            }
        }
        Ok(())
    }

    /// Keeps a trained update: first the values, then the record that vouches for them. A killed process finds both; after a power failure
    /// [`Self::is_intact`] tells whether the values are still there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_trained(&self, id: ContributionId, record: &TrainedRecord, delta: &[f32]) -> Result<(), StateError> {
        let folder = self.contribution_dir(id);
        durable::create_private_dir(&folder)?;
        write_large(&folder.join("delta.f32"), |out| blocks_of(delta, |block| out.write_all(block)))?;
        write_json(&folder.join("trained.json"), record)
    }

    /// Keeps what was counted in the same way; `record.tally` says that it was. The record gets the length and the CRC-32 of `values`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_counted(&self, id: ContributionId, record: TrainedRecord, values: &[u64]) -> Result<TrainedRecord, StateError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let record = TrainedRecord {
            n_weights: values.len(),
            delta_crc32: crc32fast::hash(&bytes),
            ..record
        };
        let folder = self.contribution_dir(id);
        durable::create_private_dir(&folder)?;
        write_large(&folder.join(record.values_file()), |out| out.write_all(&bytes))?;
        write_json(&folder.join("trained.json"), &record)?;
        Ok(record)
    }

    /// Whether a contribution's record and the values that it vouches for are both there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn is_intact(&self, id: ContributionId) -> Result<bool, StateError> {
        let Some(record) = self.load_trained(id)? else { return Ok(false) };
        Ok(file_crc32(&self.contribution_dir(id).join(record.values_file()))? == Some(record.delta_crc32))
    }

    /// What training said; `None` when the contribution is not (wholly) there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load_trained(&self, id: ContributionId) -> Result<Option<TrainedRecord>, StateError> {
        read_json(&self.contribution_dir(id).join("trained.json"))
    }

    /// The update's values, `[record.n_weights]`.
    ///
    /// # Errors
    /// [`StateError::Damaged`] for another length.
    pub fn load_delta(&self, id: ContributionId, record: &TrainedRecord) -> Result<Vec<f32>, StateError> {
        let path = self.contribution_dir(id).join("delta.f32");
        let read = || {
            let mut file = File::open(&path)?;
            let len = file.metadata()?.len();
            if len != record.n_weights as u64 * 4 {
                return Ok(Err(format!("{len} bytes do not hold {} values", record.n_weights)));
            }
            let mut values = Vec::with_capacity(record.n_weights);
            let mut block = [0; 16 * 1024];
            while values.len() < record.n_weights {
                let wanted = (block.len() / 4).min(record.n_weights - values.len()) * 4;
                file.read_exact(&mut block[..wanted])?;
                values.extend(block[..wanted].as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)));
            }
            Ok(Ok(values))
        };
        let found: Result<Vec<f32>, String> = read().map_err(|e| naming(&path, &e))?;
        found.map_err(|reason| StateError::Damaged { path, reason })
    }

    /// What was counted, `[record.n_weights]`.
    ///
    /// # Errors
    /// [`StateError::Damaged`] for another length.
    pub fn load_counted(&self, id: ContributionId, record: &TrainedRecord) -> Result<Vec<u64>, StateError> {
        let path = self.contribution_dir(id).join("tally.u64");
        let bytes = read_whole(&path)?.unwrap_or_default();
        if bytes.len() as u64 != record.n_weights as u64 * 8 {
            let reason = format!("{} bytes do not hold {} numbers", bytes.len(), record.n_weights);
            return Err(StateError::Damaged { path, reason });
        }
        Ok(bytes.as_chunks::<8>().0.iter().map(|value| u64::from_le_bytes(*value)).collect())
    }

    /// Keeps what will be uploaded: first the bytes, then the record that vouches for them.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_encoded(&self, id: ContributionId, record: &EncodedRecord, packed: &[u8]) -> Result<(), StateError> {
        let folder = self.contribution_dir(id);
        durable::create_private_dir(&folder)?;
        // Not synced: it is compared with the record before it is sent.
        write_large(&folder.join("encoded.bin"), |out| out.write_all(packed))?;
        write_json(&folder.join("manifest.json"), record)
    }

    /// What was encoded last; `None` when nothing was.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load_encoded(&self, id: ContributionId) -> Result<Option<EncodedRecord>, StateError> {
        read_json(&self.contribution_dir(id).join("manifest.json"))
    }

    /// The file of the packed residues.
    pub fn encoded_path(&self, id: ContributionId) -> PathBuf {
        self.contribution_dir(id).join("encoded.bin")
    }
}
