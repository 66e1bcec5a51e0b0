//! The log of models as it is kept while the server runs: the tree in memory, its signed checkpoint, and proofs for agents, operators and auditors.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use aimass_crypto::log::{Checkpoint, Hash, Tree, leaf_hash};
use aimass_crypto::sign::{PublicKey, SigningKey};
use aimass_protocol::limits::MAX_BASES;
use aimass_protocol::log::{BaseProof, LogEntry, LogEvent, LogHead, SurvivorOpening};
use aimass_protocol::{AgentId, ContributionId, Digest, JobId, Nonce, TenantId, Timestamp, codec};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_bytes::ByteBuf;

use super::driver::now;
use super::retention;
use crate::store::{AggregatorStore, LogWrite, StoreError};

/// Models of a job that agents may be asked to train from: the current one and those that contributions may still stand on.
const RECENT_MODELS: usize = MAX_BASES + 1;

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ModelLog(Arc<Inner>);

struct Inner {
    tenant: TenantId,
    key: Arc<SigningKey>,
    /// Held while an entry is made and written, so that entries get their places in order. Reading goes on meanwhile.
    writing: Mutex<()>,
    state: RwLock<State>,
}

/// What is on the disk for good.
struct State {
    tree: Tree,
    /// Newest first.
    recent: BTreeMap<JobId, VecDeque<Logged>>,
    checkpoint: ByteBuf,
    /// Entries whose survivors can be told still: index and time, ascending.
    told: VecDeque<(u64, Timestamp)>,
}

/// A model with its entry.
struct Logged {
    model: Digest,
    index: u64,
    entry: ByteBuf,
}

/// An entry with the proof that it is in the log.
#[derive(Debug)]
pub(crate) struct Inclusion {
    /// Counted from 0.
    pub(crate) index: u64,
    /// The leaf's path.
    pub(crate) hashes: Vec<Digest>,
    /// The checkpoint that it leads to.
    pub(crate) checkpoint: ByteBuf,
}

/// How a round's survivors go into the log: in the order of their agents, each with a salt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survivors(Vec<(Digest, SurvivorOpening)>);

impl Survivors {
    /// Draws the salts.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the operating system gives no random bytes.
    pub(crate) fn salted(survivors: &[(AgentId, ContributionId)]) -> Result<Self, StoreError> {
        let random = SystemRandom::new();
        let mut list = Vec::with_capacity(survivors.len());
        for &(agent, contribution) in survivors {
            let mut salt = [0; Nonce::LEN];
            random
                .fill(&mut salt)
                .map_err(|_| std::io::Error::other("the operating system gives no random bytes"))?;
            let opening = SurvivorOpening {
                agent,
                contribution,
                salt: Nonce::from_bytes(salt),
            };
            list.push((Digest::from_bytes(leaf_hash(&opening.to_bytes())), opening));
        }
        list.sort_by_key(|(_, opening)| opening.agent);
        Ok(Self(list))
    }

    /// The root over their leaves.
    pub(crate) fn root(&self) -> Digest {
        let mut tree = Tree::new();
        for (leaf, _) in &self.0 {
            tree.append(*leaf.as_bytes());
        }
        Digest::from_bytes(tree.root())
    }
}

impl ModelLog {
    /// Reads the log. Blocks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn load(store: &AggregatorStore, tenant: TenantId, key: Arc<SigningKey>) -> Result<Self, StoreError> {
        let mut state = State {
            tree: Tree::new(),
            recent: BTreeMap::new(),
            checkpoint: ByteBuf::new(),
            told: VecDeque::new(),
        };
        let forgotten = store.forgotten_survivors()?;
        let mut unread = None;
        store.each_log_entry(|index, bytes| {
            state.tree.append(leaf_hash(&bytes));
            match codec::decode::<LogEntry>(&bytes) {
                Ok(entry) => {
                    if index >= forgotten && entry.has_survivors() {
                        state.told.push_back((index, entry.time));
                    }
                    state.remember(&entry, index, bytes);
                }
                Err(error) => unread = Some(format!("entry {index}: {error}")),
            }
        })?;
        if let Some(reason) = unread {
            return Err(corrupt(reason));
        }
        state.checkpoint = sign(&tenant, &state.tree, &key)?;
        Ok(Self(Arc::new(Inner {
            tenant,
            key,
            writing: Mutex::default(),
            state: RwLock::new(state),
        })))
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an entry with its survivors: `write` puts it on the disk, in the transaction of what it tells of. It is in the log once that succeeded, and
    /// not before; a checkpoint is never signed over anything that a crash could undo. Returns its index. Blocks.
    ///
    /// # Errors
    /// [`StoreError`], also of `write`: nothing was appended.
    pub(crate) fn append(
        &self,
        job: JobId,
        event: LogEvent,
        survivors: Survivors,
        write: impl FnOnce(&LogWrite) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let entry = LogEntry {
            version: LogEntry::VERSION,
            tenant: self.0.tenant.clone(),
            job,
            time: now(),
            event,
        };
        let bytes = codec::encode(&entry).map_err(|e| corrupt(e.to_string()))?;
        let _writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = LogWrite {
            index: self.state().tree.size(),
            entry: bytes,
            model: entry.model(),
            survivors: survivors.0,
        };
        write(&planned)?;
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        state.tree.append(leaf_hash(&planned.entry));
        if entry.has_survivors() {
            state.told.push_back((planned.index, entry.time));
        }
        state.remember(&entry, planned.index, planned.entry);
        state.checkpoint = sign(&self.0.tenant, &state.tree, &self.0.key).expect("the same origin was signed when the log was read");
        Ok(planned.index)
    }

    /// Forgets durably who the survivors of entries were that are as old as that; says how many openings there were. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]; what is not forgotten yet is tried again at the next call.
    pub(crate) fn forget_old_survivors(&self, store: &AggregatorStore, now: Timestamp, keep: Duration) -> Result<usize, StoreError> {
        let Some(below) = retention::due(self.state().told.iter().copied(), now, keep) else {
            return Ok(0);
        };
        let count = store.forget_survivors_below(below)?;
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        state.told.retain(|(index, _)| *index >= below);
        Ok(count)
    }

    /// Size and root.
    pub(crate) fn head(&self) -> LogHead {
        let state = self.state();
        LogHead {
            size: state.tree.size(),
            root: Digest::from_bytes(state.tree.root()),
        }
    }

    /// The checkpoint, a signed note.
    pub(crate) fn checkpoint(&self) -> ByteBuf {
        self.state().checkpoint.clone()
    }

    /// The key that signs checkpoints.
    pub(crate) fn key(&self) -> PublicKey {
        self.0.key.public()
    }

    /// The name of the log.
    pub(crate) fn origin(&self) -> String {
        origin(&self.0.tenant)
    }

    /// Whether a model of a job that runs can be shown to agents.
    pub(crate) fn holds(&self, job: JobId, model: Digest) -> bool {
        let state = self.state();
        let mut models = state.recent.get(&job).into_iter().flatten();
        models.any(|logged| logged.model == model)
    }

    /// Forgets which models an ended job has. They stay in the log.
    pub(crate) fn forget(&self, job: JobId) {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner).recent.remove(&job);
    }

    /// Shows an agent that saw the first `seen` entries that a job's model is in the log; `None` when it is not.
    pub(crate) fn base_proof(&self, job: JobId, base: Digest, seen: u64) -> Option<BaseProof> {
        let state = self.state();
        let logged = state.recent.get(&job)?.iter().find(|logged| logged.model == base)?;
        let size = state.tree.size();
        Some(BaseProof {
            checkpoint: state.checkpoint.clone(),
            entry: logged.entry.clone(),
            index: logged.index,
            inclusion: digests(state.tree.inclusion(logged.index, size)?),
            // An agent that saw more than there is finds that out by the size.
            consistency: digests(state.tree.consistency(seen, size).unwrap_or_default()),
        })
    }

    /// The proof of an entry; `None` when there is none at this index.
    pub(crate) fn inclusion(&self, index: u64) -> Option<Inclusion> {
        let state = self.state();
        Some(Inclusion {
            index,
            hashes: digests(state.tree.inclusion(index, state.tree.size())?),
            checkpoint: state.checkpoint.clone(),
        })
    }

    /// The proof that the log of `old` entries is the beginning of that of `new`; `None` when they are in the wrong order or beyond its end.
    pub(crate) fn consistency(&self, old: u64, new: u64) -> Option<Vec<Digest>> {
        self.state().tree.consistency(old, new).map(digests)
    }

    /// The root over the first `size` entries.
    pub(crate) fn root_at(&self, size: u64) -> Option<Digest> {
        self.state().tree.root_at(size).map(Digest::from_bytes)
    }
}

impl State {
    fn remember(&mut self, entry: &LogEntry, index: u64, bytes: Vec<u8>) {
        let Some(model) = entry.model() else { return };
        let models = self.recent.entry(entry.job).or_default();
        models.push_front(Logged {
            model,
            index,
            entry: ByteBuf::from(bytes),
        });
        models.truncate(RECENT_MODELS);
    }
}

fn sign(tenant: &TenantId, tree: &Tree, key: &SigningKey) -> Result<ByteBuf, StoreError> {
    let checkpoint = Checkpoint {
        origin: origin(tenant),
        size: tree.size(),
        root: tree.root(),
    };
    let note = checkpoint.sign(key).map_err(|e| corrupt(e.to_string()))?;
    Ok(ByteBuf::from(note.into_bytes()))
}

fn origin(tenant: &TenantId) -> String {
    aimass_federation::agent::log::origin(tenant)
}

fn digests(hashes: Vec<Hash>) -> Vec<Digest> {
    hashes.into_iter().map(Digest::from_bytes).collect()
}

fn corrupt(reason: String) -> StoreError {
    StoreError::Corrupt {
        table: "log".to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
