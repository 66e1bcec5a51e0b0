//! Content-addressed files over a stream: every chunk is verified before it is written, a broken transfer goes on where it stopped.
//!
//! Chunks are hashed once, on arrival. What the whole is checked against depends on its name: a model is named by the SHA-256 of its bytes, which
//! whoever opens the file compares; an update by the SHA-256 of its chunks' digests ([`names_its_chunks`]), so that its chunks are all of the proof.
//!
//! Reading, hashing and writing run on tokio's blocking threads while the next chunk travels: a transfer holds about two chunks in memory.

mod position;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use aimass_crypto::hash::{Sha256, sha256};
use aimass_protocol::Digest;
use aimass_protocol::limits::{CHUNK_BYTES, MAX_BLOB_BYTES};
use aimass_protocol::manifest::{Manifest, ManifestError};
use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use self::position::{read_exact_at, write_all_at};
use crate::{FrameReader, FrameWriter, NetError};

/// Reads to the end and says what it is made of. Blocking: call it off the reactor.
///
/// # Errors
/// The reader's; [`io::ErrorKind::FileTooLarge`] above [`MAX_BLOB_BYTES`].
pub fn manifest_of(reader: &mut impl Read) -> io::Result<Manifest> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let (mut whole, mut size_bytes, mut chunks) = (Sha256::new(), 0, Vec::new());
    loop {
        chunk.clear();
        let read = reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if read == 0 {
            break;
        }
        size_bytes += read as u64;
        if size_bytes > MAX_BLOB_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("over the limit of {MAX_BLOB_BYTES} bytes a blob"),
            ));
        }
        whole.update(&chunk);
        chunks.push(Digest::from_bytes(sha256(&chunk)));
    }
    Manifest::new(Digest::from_bytes(whole.finish()), size_bytes, chunks).map_err(io::Error::other)
}

/// What an update is made of: its `digest` is the SHA-256 of its chunks' digests, one after the other.
///
/// # Errors
/// [`ManifestError`] above [`MAX_BLOB_BYTES`].
pub fn update_manifest(update: &[u8]) -> Result<Manifest, ManifestError> {
    let chunks: Vec<Digest> = update.chunks(CHUNK_BYTES).map(|chunk| Digest::from_bytes(sha256(chunk))).collect();
    Manifest::new(hash_list_root(&chunks), update.len() as u64, chunks)
}

/// The name of an update that is read to its end: the SHA-256 of its chunks' digests. Blocking.
///
/// # Errors
/// The reader's.
pub fn update_digest(reader: &mut impl Read) -> io::Result<Digest> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        chunk.clear();
        if reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)? == 0 {
            return Ok(hash_list_root(&chunks));
        }
        chunks.push(Digest::from_bytes(sha256(&chunk)));
    }
}

/// Whether a manifest's `digest` is that of its list of chunks, as an update's must be.
pub fn names_its_chunks(manifest: &Manifest) -> bool {
    manifest.digest() == hash_list_root(manifest.chunks())
}

fn hash_list_root(chunks: &[Digest]) -> Digest {
    let mut root = Sha256::new();
    for chunk in chunks {
        root.update(chunk.as_bytes());
    }
    Digest::from_bytes(root.finish())
}

/// How many chunks at the file's begin are those of `manifest`. Cuts off what follows them. Blocking: call it off the reactor.
///
/// # Errors
/// The file's.
pub fn verified_prefix(file: &File, manifest: &Manifest) -> io::Result<u32> {
    let held_bytes = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut good: u32 = 0;
    for (index, digest) in (0..).zip(manifest.chunks()) {
        let chunk = &mut chunk[..manifest.chunk_len(index as usize)];
        if offset(index) + chunk.len() as u64 > held_bytes {
            break;
        }
        read_exact_at(file, chunk, offset(index))?;
        if sha256(chunk) != *digest.as_bytes() {
            break;
        }
        good = index + 1;
    }
    file.set_len(offset(good).min(manifest.size_bytes()))?;
    Ok(good)
}

/// Sends the chunks of `file` from `from_chunk` on. It leaves the stream open.
///
/// # Errors
/// [`NetError::Protocol`] when there is no such chunk; [`NetError::Io`]; [`NetError::Refused`] when the peer stopped us: read its reply; otherwise as
/// [`FrameWriter::chunk`].
pub async fn send_chunks(writer: &mut FrameWriter, file: &File, manifest: &Manifest, from_chunk: u32) -> Result<(), NetError> {
    check_start(manifest, from_chunk)?;
    let file = Arc::new(file.try_clone().map_err(|e| io_error("the file to send", e))?);
    let read = |index: u32| -> Option<JoinHandle<Result<Bytes, NetError>>> {
        let len = manifest.chunk_len(index as usize);
        let file = Arc::clone(&file);
        (len > 0).then(|| {
            spawn_blocking(move || {
                let mut chunk = vec![0; len];
                read_exact_at(&file, &mut chunk, offset(index)).map_err(|e| io_error("the file to send", e))?;
                Ok(Bytes::from(chunk))
            })
        })
    };
    let mut index = from_chunk;
    let mut next = read(index);
    while let Some(reading) = next {
        let chunk = done(reading).await?;
        index += 1;
        next = read(index);
        writer.chunk(chunk).await?;
    }
    Ok(())
}

/// The same for a blob that is in memory.
///
/// # Errors
/// As [`send_chunks`].
pub async fn send_bytes(writer: &mut FrameWriter, blob: &Bytes, manifest: &Manifest, from_chunk: u32) -> Result<(), NetError> {
    check_start(manifest, from_chunk)?;
    let mut rest = blob.slice(blob.len().min(from_chunk as usize * CHUNK_BYTES)..);
    while !rest.is_empty() {
        writer.chunk(rest.split_to(rest.len().min(CHUNK_BYTES))).await?;
    }
    Ok(())
}

/// Receives the chunks from `from_chunk` on (the result of [`verified_prefix`]) and writes each into its place after it was verified. Whether the
/// manifest speaks the truth about the whole is for the caller to check. Does not fsync, and does not look what follows on the stream. `file` must
/// be open for writing, and not in append mode. `held` (a lock on the file, for instance) is kept until
/// nothing writes any more, also when this future is dropped before its end. `progressed` is called with each chunk that arrives.
///
/// # Errors
/// [`NetError::Digest`] when a chunk does not match; [`NetError::Io`] (disk full); otherwise as [`FrameReader::chunk`]. The chunks before it are in
/// the file, verified.
pub async fn receive_chunks<H: Send + Sync + 'static>(
    reader: &mut FrameReader,
    manifest: &Manifest,
    from_chunk: u32,
    file: &File,
    held: &Arc<H>,
    mut progressed: impl FnMut(),
) -> Result<(), NetError> {
    check_start(manifest, from_chunk)?;
    let held_bytes = offset(from_chunk).min(manifest.size_bytes());
    let file = Arc::new(file.try_clone().map_err(|e| io_error("the received file", e))?);
    let (prefix, lock) = (Arc::clone(&file), Arc::clone(held));
    let mut writing: JoinHandle<Result<(), NetError>> = spawn_blocking(move || {
        let _lock = lock;
        prefix.set_len(held_bytes).map_err(|e| io_error("the received file", e))
    });
    for (index, digest) in (from_chunk..).zip(&manifest.chunks()[from_chunk as usize..]) {
        // The one before is written meanwhile. It is waited for in any case, so that nothing writes when this function is through.
        let chunk = reader.chunk(manifest.chunk_len(index as usize)).await;
        done(writing).await?;
        let (chunk, digest, file, lock) = (chunk?, *digest, Arc::clone(&file), Arc::clone(held));
        progressed();
        writing = spawn_blocking(move || {
            let _lock = lock;
            if sha256(&chunk) != *digest.as_bytes() {
                return Err(NetError::Digest {
                    what: format!("chunk {index}"),
                });
            }
            write_all_at(&file, &chunk, offset(index)).map_err(|e| io_error("the received file", e))
        });
    }
    done(writing).await
}

/// A blocking task fails by itself only where the runtime stops under it.
async fn done<T>(task: JoinHandle<Result<T, NetError>>) -> Result<T, NetError> {
    task.await.unwrap_or_else(|e| Err(io_error("a file", io::Error::other(e))))
}

fn check_start(manifest: &Manifest, from_chunk: u32) -> Result<(), NetError> {
    let chunks = manifest.chunks().len();
    if from_chunk as usize <= chunks {
        return Ok(());
    }
    Err(NetError::Protocol {
        reason: format!("chunk {from_chunk} of a blob of {chunks} was asked for"),
    })
}

fn offset(chunk: u32) -> u64 {
    u64::from(chunk) * CHUNK_BYTES as u64
}

fn io_error(what: &str, source: io::Error) -> NetError {
    NetError::Io {
        what: what.to_owned(),
        source,
    }
}
