//! A blob (a model, an update) as content-addressed chunks, so that a broken transfer goes on where it stopped.

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::limits::{CHUNK_BYTES, MAX_BLOB_BYTES};

/// What a blob is made of. `digest` is the SHA-256 of all its bytes; `chunks` are those of its parts in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawManifest", into = "RawManifest")]
pub struct Manifest {
    digest: Digest,
    size_bytes: u64,
    chunks: Vec<Digest>,
}

/// A manifest that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The blob is over the limit.
    #[error("a blob of {size_bytes} bytes is over the limit of {MAX_BLOB_BYTES}")]
    TooLarge {
        /// The announced size.
        size_bytes: u64,
    },
    /// The number of chunks does not follow from the size.
    #[error("{chunks} chunks can't make {size_bytes} bytes")]
    ChunkCount {
        /// Chunks listed.
        chunks: usize,
        /// The announced size.
        size_bytes: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    digest: Digest,
    size_bytes: u64,
    chunks: Vec<Digest>,
}

impl TryFrom<RawManifest> for Manifest {
    type Error = ManifestError;

    fn try_from(raw: RawManifest) -> Result<Self, ManifestError> {
        Self::new(raw.digest, raw.size_bytes, raw.chunks)
    }
}

impl From<Manifest> for RawManifest {
    fn from(m: Manifest) -> Self {
        Self {
            digest: m.digest,
            size_bytes: m.size_bytes,
            chunks: m.chunks,
        }
    }
}

impl Manifest {
    /// Checks that the parts fit the whole.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn new(digest: Digest, size_bytes: u64, chunks: Vec<Digest>) -> Result<Self, ManifestError> {
        if size_bytes > MAX_BLOB_BYTES {
            return Err(ManifestError::TooLarge { size_bytes });
        }
        if chunks.len() as u64 != size_bytes.div_ceil(CHUNK_BYTES as u64) {
            return Err(ManifestError::ChunkCount {
                chunks: chunks.len(),
                size_bytes,
            });
        }
        Ok(Self {
            digest,
            size_bytes,
            chunks,
        })
    }

    /// The SHA-256 of the whole blob: its address.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes of the whole blob.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The SHA-256 of each chunk in order.
    pub fn chunks(&self) -> &[Digest] {
        &self.chunks
    }

    /// Bytes of chunk `index`: [`CHUNK_BYTES`] but for the last. Zero past the end.
    pub fn chunk_len(&self, index: usize) -> usize {
        let start = (index as u64).saturating_mul(CHUNK_BYTES as u64);
        usize::try_from(self.size_bytes.saturating_sub(start).min(CHUNK_BYTES as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: Digest = Digest::from_bytes([7; 32]);

    #[test]
    fn chunks_are_full_but_for_the_last() {
        let size = 2 * CHUNK_BYTES as u64 + 5;
        let manifest = Manifest::new(DIGEST, size, vec![DIGEST; 3]).expect("three chunks");
        assert_eq!([0, 1, 2, 3].map(|i| manifest.chunk_len(i)), [CHUNK_BYTES, CHUNK_BYTES, 5, 0]);
        assert_eq!(manifest.chunk_len(usize::MAX), 0);
    }

    #[test]
    fn the_number_of_chunks_follows_from_the_size() {
        let size = CHUNK_BYTES as u64;
        assert!(Manifest::new(DIGEST, 0, vec![]).is_ok());
        assert!(Manifest::new(DIGEST, size, vec![DIGEST]).is_ok());
        assert_eq!(
            Manifest::new(DIGEST, size, vec![]),
            Err(ManifestError::ChunkCount {
                chunks: 0,
                size_bytes: size
            })
        );
        assert_eq!(
            Manifest::new(DIGEST, size, vec![DIGEST; 2]),
            Err(ManifestError::ChunkCount {
                chunks: 2,
                size_bytes: size
            })
        );
        let size_bytes = MAX_BLOB_BYTES + 1;
        assert_eq!(
            Manifest::new(DIGEST, size_bytes, vec![]),
            Err(ManifestError::TooLarge { size_bytes })
        );
    }

    #[test]
    fn the_largest_manifest_fits_a_control_message() {
        let chunks = vec![DIGEST; crate::limits::MAX_CHUNKS as usize];
        let manifest = Manifest::new(DIGEST, MAX_BLOB_BYTES, chunks).expect("as large as allowed");
        crate::codec::encode(&crate::message::agent::FetchReply { manifest }).expect("fits");
    }
}
