//! Models and held-out data as content-addressed files: `<root>/sha256/ab/abcd...`, through object_store.
//!
//! A blob is streamed to `<root>/incoming/`, hashed on the way, fsynced, and renamed to its address only when it is whole: what has an
//! address is complete and durable. Superseded models are all kept; nothing collects them yet.

mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aimass_net::disk;
use aimass_protocol::limits::{CHUNK_BYTES, MAX_BLOB_BYTES};
use aimass_protocol::manifest::Manifest;
use aimass_protocol::{Digest, ErrorCode};
use axum::body::{Body, Bytes};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path as ObjectPath};

pub use writer::BlobWriter;

const INCOMING: &str = "incoming";
/// Manifests kept in memory, 32 bytes a chunk: a 6.65 MB model takes 1 KiB, the largest blob 128 KiB.
const CACHED_MANIFESTS: usize = 64;

/// A blob operation that failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such blob.
    #[error("there is no blob {}: upload it first", digest.to_hex())]
    NotFound {
        /// Its address.
        digest: Digest,
    },
    /// Over the limit.
    #[error("a blob may have at most {MAX_BLOB_BYTES} bytes")]
    TooLarge,
    /// No room on the disk.
    #[error("the disk that holds the data folder is full: free some space, then try again")]
    DiskFull,
    /// The store failed otherwise.
    #[error("the blob store failed: {reason}; check the disk, then try again")]
    Io {
        /// Why.
        reason: String,
    },
}

impl BlobError {
    /// The code that a peer is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::BlobUnknown,
            Self::TooLarge => ErrorCode::TooLarge,
            Self::DiskFull | Self::Io { .. } => ErrorCode::Unavailable,
        }
    }
}

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> Self {
        if is_disk_full(&error) {
            Self::DiskFull
        } else {
            Self::Io { reason: error.to_string() }
        }
    }
}

impl From<tokio::task::JoinError> for BlobError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Io { reason: error.to_string() }
    }
}

/// Whether a full disk or quota is what is wrong in the end, however deep it is wrapped.
pub(crate) fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        next = match error.downcast_ref::<io::Error>() {
            Some(io) if matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => return true,
            // An io::Error that wraps another error does not count it as its source.
            Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    false
}

/// The blobs of one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobStore {
    store: Arc<dyn ObjectStore>,
    manifests: Arc<Mutex<HashMap<Digest, Arc<Manifest>>>>,
}

impl BlobStore {
    /// Opens or creates the folder `root`, and drops what an earlier process left unfinished in it.
    ///
    /// # Errors
    /// [`BlobError`] when the folder can't be made or written.
    pub fn open(root: &Path) -> Result<Self, BlobError> {
        let incoming = root.join(INCOMING);
        let prepared = match std::fs::remove_dir_all(&incoming) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => std::fs::create_dir_all(&incoming),
        };
        prepared.map_err(|e| unusable(&e))?;
        let store = LocalFileSystem::new_with_prefix(root)?.with_fsync(true);
        Ok(Self::over(Arc::new(store)))
    }

    fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            manifests: Arc::default(),
        }
    }

    fn place(digest: Digest) -> ObjectPath {
        let hex = digest.to_hex();
        ObjectPath::from(format!("sha256/{}/{hex}", &hex[..2]))
    }

    /// Starts a new blob.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn begin(&self) -> Result<BlobWriter, BlobError> {
        BlobWriter::begin(self.clone(), INCOMING).await
    }

    /// Stores a blob that is in memory. Durable on return.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn put(&self, bytes: Bytes) -> Result<Arc<Manifest>, BlobError> {
        let mut writer = self.begin().await?;
        writer.write(bytes).await?;
        writer.finish().await
    }

    /// Whether there is such a blob, and its size in bytes.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Io`].
    pub async fn size(&self, digest: Digest) -> Result<u64, BlobError> {
        disk::call("looking for a blob").map_err(|e| unusable(&e))?;
        self.store
            .head(&Self::place(digest))
            .await
            .map(|meta| meta.size)
            .map_err(|e| missing(digest, e))
    }

    /// The whole blob.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Io`].
    pub async fn read(&self, digest: Digest) -> Result<Bytes, BlobError> {
        disk::call("reading a blob").map_err(|e| unusable(&e))?;
        let found = self.store.get(&Self::place(digest)).await.map_err(|e| missing(digest, e))?;
        Ok(found.bytes().await?)
    }

    /// The whole blob as an HTTP body that is read as it is sent, and its size in bytes.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Io`].
    pub async fn body(&self, digest: Digest) -> Result<(Body, u64), BlobError> {
        let found = self.store.get(&Self::place(digest)).await.map_err(|e| missing(digest, e))?;
        let size = found.meta.size;
        Ok((Body::from_stream(found.into_stream()), size))
    }

    /// Chunk `index` of a blob.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Io`].
    pub async fn read_chunk(&self, manifest: &Manifest, index: usize) -> Result<Bytes, BlobError> {
        disk::call("reading a blob").map_err(|e| unusable(&e))?;
        let start = (index as u64).saturating_mul(CHUNK_BYTES as u64);
        let range = start..start + manifest.chunk_len(index) as u64;
        self.store
            .get_range(&Self::place(manifest.digest()), range)
            .await
            .map_err(|e| missing(manifest.digest(), e))
    }

    /// What a blob is made of. Made once by reading it, then kept.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Io`].
    pub async fn manifest(&self, digest: Digest) -> Result<Arc<Manifest>, BlobError> {
        if let Some(known) = self.manifests.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Arc::clone(known));
        }
        let size = self.size(digest).await?;
        let mut hashing = writer::Hashing::default();
        let mut start = 0;
        while start < size {
            let end = size.min(start + CHUNK_BYTES as u64);
            let chunk = self
                .store
                .get_range(&Self::place(digest), start..end)
                .await
                .map_err(|e| missing(digest, e))?;
            hashing = tokio::task::spawn_blocking(move || hashing.chunk(&chunk)).await?;
            start = end;
        }
        let manifest = hashing.finish()?;
        if manifest.digest() != digest {
            return Err(BlobError::Io {
                reason: format!("blob {} was changed on the disk: restore it from a backup", digest.to_hex()),
            });
        }
        Ok(self.remember(manifest))
    }

    fn remember(&self, manifest: Manifest) -> Arc<Manifest> {
        let manifest = Arc::new(manifest);
        let mut kept = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= CACHED_MANIFESTS {
            kept.clear();
        }
        kept.insert(manifest.digest(), Arc::clone(&manifest));
        manifest
    }
}

fn unusable(error: &io::Error) -> BlobError {
    if is_disk_full(error) {
        BlobError::DiskFull
    } else {
        BlobError::Io { reason: error.to_string() }
    }
}

fn missing(digest: Digest, error: object_store::Error) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::NotFound { digest },
        other => other.into(),
    }
}
