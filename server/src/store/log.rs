//! The log of models on the disk: its entries by index, where each model stands, and the openings of survivors, which can be deleted.
//!
//! An entry is written in the transaction of what it tells of, so that after a crash too there is both or neither.

use aimass_protocol::log::SurvivorOpening;
use aimass_protocol::{AgentId, Digest, JobId};
use serde::{Deserialize, Serialize};

use super::{AggregatorStore, Batch, JobRecord, Key, StoreError};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRecord {
    /// Counted from 0, without gaps.
    pub index: u64,
    /// Its CBOR, hex.
    pub entry: String,
}

/// Where a model stands in the log. A model can stand there more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedRecord {
    /// Index of the entry.
    pub index: u64,
}

/// One leaf of a round's survivors tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurvivorRecord {
    /// Index of the log's entry whose root is over this leaf.
    pub index: u64,
    /// Its place in the tree.
    pub place: u32,
    /// The leaf's hash: it stays, so that the others can still be shown.
    pub leaf: Digest,
    /// What was hashed; `None` once it was deleted.
    pub opening: Option<SurvivorOpening>,
}

/// How far openings are deleted because they are old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgottenRecord {
    /// Entries before this index have none.
    pub below: u64,
}

/// Openings that are deleted in one transaction; those of one entry always are.
const FORGOTTEN_AT_ONCE: usize = 1000;

/// An entry as it goes on the disk, with what belongs to it.
#[derive(Debug, Clone)]
pub struct LogWrite {
    /// Its index: the log's size before it.
    pub index: u64,
    /// Its CBOR.
    pub entry: Vec<u8>,
    /// The model that it vouches for.
    pub model: Option<Digest>,
    /// The survivors, in the order of their tree, each with its leaf's hash.
    pub survivors: Vec<(Digest, SurvivorOpening)>,
}

impl AggregatorStore {
    pub(super) fn put_log(&self, write: &LogWrite, batch: &mut Batch) -> Result<(), StoreError> {
        let index = write.index;
        let record = LogRecord {
            index,
            entry: hex::encode(&write.entry),
        };
        batch.put(&self.log, &self.key().long(index), &record)?;
        if let Some(model) = write.model {
            batch.put(
                &self.logged,
                &self.key().bytes(model.as_bytes()).long(index),
                &LoggedRecord { index },
            )?;
        }
        // Of an entry that could not be flushed, and was never in the log.
        for key in self.survivors.keys(&self.key().long(index))? {
            batch.remove(&self.survivors, &key);
        }
        for (place, (leaf, opening)) in (0..).zip(&write.survivors) {
            let record = SurvivorRecord {
                index,
                place,
                leaf: *leaf,
                opening: Some(*opening),
            };
            batch.put(&self.survivors, &self.survivor_key(&record), &record)?;
        }
        Ok(())
    }

    fn survivor_key(&self, record: &SurvivorRecord) -> Key {
        self.key().long(record.index).number(record.place)
    }

    /// Writes a new job with its entry in the log, both or neither; durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_job(&self, record: &JobRecord, log: &LogWrite) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        self.put_job_in(record, &mut batch)?;
        self.put_log(log, &mut batch)?;
        self.commit(batch)
    }

    /// Writes an entry of the log that belongs to no other record; durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_to_log(&self, log: &LogWrite) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        self.put_log(log, &mut batch)?;
        self.commit(batch)
    }

    /// Hands over the log's entries in order.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when one is missing or does not parse.
    pub fn each_log_entry(&self, mut with: impl FnMut(u64, Vec<u8>)) -> Result<(), StoreError> {
        let mut expected = 0;
        self.log.each(&self.key(), |record| {
            if record.index != expected {
                return Err(corrupt(format!("entry {expected} is missing")));
            }
            expected += 1;
            with(record.index, bytes(&record)?);
            Ok(())
        })
    }

    /// At most `limit` entries of the log, from the one at `from` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn log_entries(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let records = self.log.page(&self.key(), &self.key().long(from), limit)?;
        records.iter().map(bytes).collect()
    }

    /// Where a model stands in the log, the latest last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn logged(&self, model: Digest) -> Result<Vec<u64>, StoreError> {
        let records = self.logged.scan(&self.key().bytes(model.as_bytes()))?;
        Ok(records.into_iter().map(|record| record.index).collect())
    }

    /// The survivors that the entry at `index` tells of, in the order of their tree.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn survivors(&self, index: u64) -> Result<Vec<SurvivorRecord>, StoreError> {
        self.survivors.scan(&self.key().long(index))
    }

    /// Deletes all openings of an agent, durably: nobody can tell any more in which rounds it was. The log stays as it is. Returns how many there were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_survivor(&self, agent: AgentId) -> Result<usize, StoreError> {
        let (mut batch, mut count) = (Batch::default(), 0);
        self.survivors.each(&self.key(), |mut record| {
            if record.opening.is_some_and(|opening| opening.agent == agent) {
                record.opening = None;
                batch.put(&self.survivors, &self.survivor_key(&record), &record)?;
                count += 1;
            }
            Ok(())
        })?;
        if count > 0 {
            self.commit(batch)?;
        }
        Ok(count)
    }

    /// Below which entry all openings are deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forgotten_survivors(&self) -> Result<u64, StoreError> {
        Ok(self.forgotten.get(&self.key())?.map_or(0, |record| record.below))
    }

    /// Deletes all openings of the entries below `below`, durably, a part at a time. The log stays as it is. Returns how many there were.
    ///
    /// # Errors
    /// [`StoreError`]: some may be deleted, the others are at the next call.
    pub fn forget_survivors_below(&self, below: u64) -> Result<usize, StoreError> {
        let (mut batch, mut count, mut in_batch) = (Batch::default(), 0, 0);
        for index in self.forgotten_survivors()?..below {
            for mut record in self.survivors(index)?.into_iter().filter(|record| record.opening.is_some()) {
                record.opening = None;
                batch.put(&self.survivors, &self.survivor_key(&record), &record)?;
                in_batch += 1;
            }
            if in_batch >= FORGOTTEN_AT_ONCE || index + 1 == below {
                batch.put(&self.forgotten, &self.key(), &ForgottenRecord { below: index + 1 })?;
                self.commit(std::mem::take(&mut batch))?;
                count += std::mem::take(&mut in_batch);
            }
        }
        Ok(count)
    }

    /// Forgets a job's open round and its journal, durably, and says so in the log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn abandon_open_round(&self, job: JobId, log: &LogWrite) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        self.forget_open(job, &mut batch)?;
        self.put_log(log, &mut batch)?;
        self.commit(batch)
    }
}

fn bytes(record: &LogRecord) -> Result<Vec<u8>, StoreError> {
    hex::decode(&record.entry).map_err(|e| corrupt(e.to_string()))
}

fn corrupt(reason: String) -> StoreError {
    StoreError::Corrupt {
        table: "log".to_owned(),
        reason,
    }
}
