//! A blob on its way in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aimass_crypto::hash::{Sha256, sha256};
use aimass_net::disk;
use aimass_protocol::Digest;
use aimass_protocol::limits::{CHUNK_BYTES, MAX_BLOB_BYTES};
use aimass_protocol::manifest::Manifest;
use axum::body::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt as _, path::Path as ObjectPath};

use super::{BlobError, BlobStore, unusable};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Takes a blob's bytes in pieces of any size. Dropped before [`BlobWriter::finish`], it leaves nothing with an address; its part file
/// is removed at the next start.
pub struct BlobWriter {
    blobs: BlobStore,
    place: ObjectPath,
    upload: Box<dyn MultipartUpload>,
    hashing: Hashing,
    pending: Vec<u8>,
}

impl BlobWriter {
    pub(super) async fn begin(blobs: BlobStore, folder: &str) -> Result<Self, BlobError> {
        let place = ObjectPath::from(format!("{folder}/{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        disk::call("beginning a blob").map_err(|e| unusable(&e))?;
        let upload = blobs.store.put_multipart(&place).await?;
        Ok(Self {
            blobs,
            place,
            upload,
            hashing: Hashing::default(),
            pending: Vec::new(),
        })
    }

    /// Appends bytes; at most one chunk is held in memory.
    ///
    /// # Errors
    /// [`BlobError`]; the writer is of no use after one.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        while !bytes.is_empty() {
            if self.pending.is_empty() && bytes.len() >= CHUNK_BYTES {
                let chunk = bytes.split_to(CHUNK_BYTES);
                self.chunk(chunk).await?;
                continue;
            }
            let take = bytes.len().min(CHUNK_BYTES - self.pending.len());
            self.pending.extend_from_slice(&bytes.split_to(take));
            if self.pending.len() == CHUNK_BYTES {
                let chunk = std::mem::take(&mut self.pending);
                self.chunk(chunk.into()).await?;
            }
        }
        Ok(())
    }

    async fn chunk(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        if self.hashing.size_bytes + chunk.len() as u64 > MAX_BLOB_BYTES {
            return Err(BlobError::TooLarge);
        }
        disk::call("writing a blob").map_err(|e| unusable(&e))?;
        self.upload.put_part(chunk.clone().into()).await?;
        let hashing = std::mem::take(&mut self.hashing);
        self.hashing = tokio::task::spawn_blocking(move || hashing.chunk(&chunk)).await?;
        Ok(())
    }

    /// Gives the blob its address. Durable on return.
    ///
    /// # Errors
    /// [`BlobError`]; nothing has changed then.
    pub async fn finish(mut self) -> Result<Arc<Manifest>, BlobError> {
        match self.publish().await {
            Ok(manifest) => Ok(self.blobs.remember(manifest)),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    async fn publish(&mut self) -> Result<Manifest, BlobError> {
        if !self.pending.is_empty() {
            let last = std::mem::take(&mut self.pending);
            self.chunk(last.into()).await?;
        }
        let manifest = std::mem::take(&mut self.hashing).finish()?;
        disk::call("finishing a blob").map_err(|e| unusable(&e))?;
        self.upload.complete().await?;
        disk::call("naming a blob").map_err(|e| unusable(&e))?;
        self.blobs.store.rename(&self.place, &BlobStore::place(manifest.digest())).await?;
        Ok(manifest)
    }

    /// Drops what was written so far.
    pub async fn abort(mut self) {
        // Best effort: what stays is removed at the next start.
        let _ = self.upload.abort().await;
        let _ = self.blobs.store.delete(&self.place).await;
    }
}

/// A manifest in the making.
pub(super) struct Hashing {
    whole: Sha256,
    chunks: Vec<Digest>,
    size_bytes: u64,
}

impl Default for Hashing {
    fn default() -> Self {
        Self {
            whole: Sha256::new(),
            chunks: Vec::new(),
            size_bytes: 0,
        }
    }
}

impl Hashing {
    pub(super) fn chunk(mut self, bytes: &[u8]) -> Self {
        self.whole.update(bytes);
        self.chunks.push(Digest::from_bytes(sha256(bytes)));
        self.size_bytes += bytes.len() as u64;
        self
    }

    pub(super) fn finish(self) -> Result<Manifest, BlobError> {
        Manifest::new(Digest::from_bytes(self.whole.finish()), self.size_bytes, self.chunks).map_err(|_| BlobError::TooLarge)
    }
}
