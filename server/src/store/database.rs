//! One sled database in one folder, with a schema version and typed tables.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use aimass_net::disk;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sled::Transactional as _;

use super::Key;
use crate::lock;

const META: &str = "meta";
const FORMAT_KEY: &str = "format";
/// sled's own cache of pages. Records are small and few; the default of 1 GiB is for a server that does nothing else.
const CACHE_BYTES: u64 = 16 << 20;
/// How long writes that nobody waits for (a last-seen time) may stay in memory.
const BACKGROUND_FLUSH_MS: u64 = 1000;

/// What a store holds and in which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Whose records these are, for instance `aggregator`.
    pub name: &'static str,
    /// Version of the records; grows by one with each change that an older program can't read.
    pub version: u32,
    /// Oldest version whose records are read as they are; the folder is of this version from then on.
    pub reads: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct FormatRecord {
    name: String,
    schema_version: u32,
}

/// A store that can't be used, or an operation that failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open.
    #[error("{folder} is in use by another process: stop that one, or use another data folder")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// Written by a newer program.
    #[error("{folder} has schema version {found}, this program knows up to {known}: update the server")]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Version found.
        found: u32,
        /// Version known.
        known: u32,
    },
    /// Written by a program too old for this one to migrate.
    #[error("{folder} has schema version {found}, this program can't read versions before {known}: start the version in between once")]
    Older {
        /// The folder.
        folder: PathBuf,
        /// Version found.
        found: u32,
        /// Oldest version known.
        known: u32,
    },
    /// Not ours at all.
    #[error("{folder} is no {expected} store ({found}): use another data folder")]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Whose store was expected.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A record that does not parse.
    #[error("a record of {table:?} does not parse ({reason}): restore the data folder from its last backup")]
    Corrupt {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// The file system failed, for instance because the disk is full.
    #[error("the store failed: {source}; check the disk, then try again")]
    Io {
        /// Why.
        source: std::io::Error,
    },
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => Self::Io { source },
            sled::Error::Corruption { .. } => Self::Corrupt {
                table: "sled".to_owned(),
                reason: error.to_string(),
            },
            other => Self::Io {
                source: std::io::Error::other(other),
            },
        }
    }
}

/// One folder's database. Cheap to clone; the folder is released when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Database {
    db: sled::Db,
}

impl Database {
    /// Opens or creates the database in `folder` and checks its version before any record is read. Waits up to 3 s for another process
    /// to leave the folder: blocks, like all calls.
    ///
    /// # Errors
    /// [`StoreError`]: in use, of another version, or unreadable.
    pub fn open(folder: &Path, format: Format) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(BACKGROUND_FLUSH_MS));
        let open = || {
            config.open().map_err(|error| match error {
                // sled reports a held lock as a text only.
                sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => StoreError::Locked { folder: folder.to_owned() },
                other => other.into(),
            })
        };
        let db = lock::wait_for(|e| matches!(e, StoreError::Locked { .. }), open)?;
        let database = Self { db };
        database.check_format(folder, format)?;
        Ok(database)
    }

    fn check_format(&self, folder: &Path, format: Format) -> Result<(), StoreError> {
        let meta: Table<FormatRecord> = self.table(META)?;
        let key = FORMAT_KEY.as_bytes();
        let Some(bytes) = meta.tree.get(key)? else {
            let foreign = self.db.tree_names().len() > 2 || !self.db.is_empty();
            if foreign {
                return Err(StoreError::Foreign {
                    folder: folder.to_owned(),
                    expected: format.name,
                    found: "it has no version".to_owned(),
                });
            }
            return self.write_format(&meta, format);
        };
        let found = meta.decode(&bytes)?;
        if found.name != format.name {
            let found = format!("it is a store of the {}", found.name);
            return Err(StoreError::Foreign {
                folder: folder.to_owned(),
                expected: format.name,
                found,
            });
        }
        match found.schema_version {
            found if found > format.version => Err(StoreError::Newer {
                folder: folder.to_owned(),
                found,
                known: format.version,
            }),
            found if found < format.reads => Err(StoreError::Older {
                folder: folder.to_owned(),
                found,
                known: format.reads,
            }),
            found if found < format.version => self.write_format(&meta, format),
            _ => Ok(()),
        }
    }

    fn write_format(&self, meta: &Table<FormatRecord>, format: Format) -> Result<(), StoreError> {
        let record = FormatRecord {
            name: format.name.to_owned(),
            schema_version: format.version,
        };
        meta.tree.insert(FORMAT_KEY.as_bytes(), meta.encode(&record)?)?;
        self.flush()
    }

    /// A table by name, made when it is not there yet.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn table<R>(&self, name: &'static str) -> Result<Table<R>, StoreError> {
        Ok(Table {
            name,
            tree: self.db.open_tree(name)?,
            record: PhantomData,
        })
    }

    /// Applies all of `batch` or, after a crash too, none of it; durable on return.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        disk::call("writing to the store")?;
        let (trees, writes): (Vec<_>, Vec<_>) = batch.trees.into_iter().map(|t| (t.tree, t.writes)).unzip();
        let applied = trees.transaction(|views| {
            for (view, writes) in views.iter().zip(&writes) {
                view.apply_batch(writes)?;
            }
            Ok::<(), sled::transaction::ConflictableTransactionError<()>>(())
        });
        match applied {
            Ok(()) => self.flush(),
            Err(sled::transaction::TransactionError::Storage(e)) => Err(e.into()),
            Err(sled::transaction::TransactionError::Abort(())) => Err(std::io::Error::other("the transaction was aborted").into()),
        }
    }

    /// Returns when everything written before is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn flush(&self) -> Result<(), StoreError> {
        disk::call("flushing the store")?;
        self.db.flush()?;
        Ok(())
    }
}

impl From<std::io::Error> for StoreError {
    fn from(source: std::io::Error) -> Self {
        Self::Io { source }
    }
}

/// Records of one kind, as JSON.
#[derive(Debug)]
pub struct Table<R> {
    name: &'static str,
    tree: sled::Tree,
    record: PhantomData<fn() -> R>,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            tree: self.tree.clone(),
            record: PhantomData,
        }
    }
}

impl<R: Serialize + DeserializeOwned> Table<R> {
    fn encode(&self, record: &R) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(record).map_err(|e| StoreError::Corrupt {
            table: self.name.to_owned(),
            reason: e.to_string(),
        })
    }

    fn decode(&self, bytes: &[u8]) -> Result<R, StoreError> {
        serde_json::from_slice(bytes).map_err(|e| StoreError::Corrupt {
            table: self.name.to_owned(),
            reason: e.to_string(),
        })
    }

    /// The record under `key`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, key: &Key) -> Result<Option<R>, StoreError> {
        self.tree.get(key.as_slice())?.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// Writes without waiting for the disk: only for what may be lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_unflushed(&self, key: &Key, record: &R) -> Result<(), StoreError> {
        disk::call("writing to the store")?;
        self.tree.insert(key.as_slice(), self.encode(record)?)?;
        Ok(())
    }

    /// Writes and returns when it is on the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put(&self, key: &Key, record: &R) -> Result<(), StoreError> {
        self.put_unflushed(key, record)?;
        disk::call("flushing the store")?;
        self.tree.flush()?;
        Ok(())
    }

    /// All records whose key starts with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn scan(&self, prefix: &Key) -> Result<Vec<R>, StoreError> {
        disk::call("reading the store")?;
        self.tree
            .scan_prefix(prefix.as_slice())
            .values()
            .map(|bytes| self.decode(&bytes?))
            .collect()
    }

    /// Hands over all records whose key starts with `prefix`, in the order of their keys, one at a time.
    ///
    /// # Errors
    /// [`StoreError`], and what `with` gives.
    pub fn each(&self, prefix: &Key, mut with: impl FnMut(R) -> Result<(), StoreError>) -> Result<(), StoreError> {
        disk::call("reading the store")?;
        for bytes in self.tree.scan_prefix(prefix.as_slice()).values() {
            with(self.decode(&bytes?)?)?;
        }
        Ok(())
    }

    /// At most `limit` records whose key starts with `prefix`, in the order of their keys, from `from` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn page(&self, prefix: &Key, from: &Key, limit: usize) -> Result<Vec<R>, StoreError> {
        disk::call("reading the store")?;
        let mut records = Vec::new();
        for record in self.tree.range(from.as_slice()..).take(limit) {
            let (key, bytes) = record?;
            if !key.starts_with(prefix.as_slice()) {
                break;
            }
            records.push(self.decode(&bytes)?);
        }
        Ok(records)
    }

    /// The keys that start with `prefix`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keys(&self, prefix: &Key) -> Result<Vec<Key>, StoreError> {
        self.tree
            .scan_prefix(prefix.as_slice())
            .keys()
            .map(|key| Ok(Key::from_stored(&key?)))
            .collect()
    }
}

struct TreeWrites {
    tree: sled::Tree,
    writes: sled::Batch,
}

/// Writes to several tables that belong together.
#[derive(Default)]
pub struct Batch {
    trees: Vec<TreeWrites>,
}

impl Batch {
    fn writes<R>(&mut self, table: &Table<R>) -> &mut sled::Batch {
        let at = self
            .trees
            .iter()
            .position(|t| t.tree.name() == table.tree.name())
            .unwrap_or_else(|| {
                self.trees.push(TreeWrites {
                    tree: table.tree.clone(),
                    writes: sled::Batch::default(),
                });
                self.trees.len() - 1
            });
        &mut self.trees[at].writes
    }

    /// Adds a write.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the record can't be written as JSON.
    pub fn put<R: Serialize + DeserializeOwned>(&mut self, table: &Table<R>, key: &Key, record: &R) -> Result<(), StoreError> {
        let bytes = table.encode(record)?;
        self.writes(table).insert(key.as_slice(), bytes);
        Ok(())
    }

    /// Adds a removal.
    pub fn remove<R>(&mut self, table: &Table<R>, key: &Key) {
        self.writes(table).remove(key.as_slice());
    }
}
