//! `checkpoint.bin`: a training's whole state in one file.
//!
//! Little-endian, without gaps. `f` is f32, `d` is f64.
//!
//! ```text
//! offset  bytes  what
//!      0      8  "AIMCKPT" and the version: 1, or 2 where weights are pruned
//!      8     96  SHA-256 each of how it is trained, the model that it began from, the data
//!    104      8  steps done
//!    112      4  whole passes done
//!    116      8  rows of the current pass done
//!    124     16  words that the order of rows has taken from its generator (ChaCha20, stream 0)
//!    140      8  d: sum of the losses of the current pass, each times its rows
//!    148     16  d: the same since the last line of the log; u64: its rows
//!    164      8  W, weights
//!    172      8  B, running statistics
//!    180      4  M, moments that the optimizer keeps a weight (0 to 2)
//!    184    4 W  f: weights, in the layout's order
//!           4 B  f: running statistics
//!       4 M * W  f: moments
//!     W / 8 up  version 2 alone: a bit a weight, from the lowest of each byte on, 1 for what is kept; zeros to the end of the last byte
//!             4  CRC-32 of all of it
//! ```

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use crate::Mask;

const MAGIC: &[u8; 7] = b"AIMCKPT";
/// Without a mask, so that what an older version of this program wrote and what it can read are the same.
const PLAIN: u8 = 1;
const MASKED: u8 = 2;
const HEADER_BYTES: usize = 184;
const MAX_MOMENTS: u32 = 2;

/// What a checkpoint belongs to: SHA-256 digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// How it is trained: losses, optimizer, batch, seed.
    pub recipe: [u8; 32],
    /// The model that it began from.
    pub model: [u8; 32],
    /// The rows that it is trained on.
    pub data: [u8; 32],
}

/// How far a training has come in the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Whole passes done.
    pub epoch: u32,
    /// Rows of the current pass done.
    pub row: u64,
    /// Words that the order of rows has taken from its generator.
    pub rng_words: u128,
    /// Sum of the losses of the current pass, each times its rows.
    pub loss_sum: f64,
}

/// Losses since the last line of a log.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Recent {
    /// Sum of the losses, each times its rows.
    pub sum: f64,
    /// Rows.
    pub rows: u64,
}

/// All that a training needs to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What it belongs to.
    pub identity: Identity,
    /// Steps done.
    pub step: u64,
    /// Where it is in the data.
    pub position: Position,
    /// Since the last line of the log.
    pub recent: Recent,
    /// `[layout.n_weights()]`.
    pub weights: Vec<f32>,
    /// `[layout.n_buffers()]`.
    pub buffers: Vec<f32>,
    /// The optimizer's moments, each `[layout.n_weights()]`.
    pub moments: Vec<Vec<f32>>,
    /// What is pruned.
    pub mask: Option<Mask>,
}

/// A checkpoint that can't be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not a whole checkpoint.
    #[error("{path} is not a whole checkpoint of this version ({problem}); start anew in another folder")]
    Damaged {
        /// The file.
        path: String,
        /// What differs.
        problem: &'static str,
    },
    /// A checkpoint of something else.
    #[error("{path} belongs to another training: {what} differs; {fix}")]
    Other {
        /// The file.
        path: String,
        /// What.
        what: &'static str,
        /// What to do.
        fix: &'static str,
    },
}

impl Checkpoint {
    /// Writes it so that the file is the old checkpoint or this one at any time, and this one for good once it returns.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let io = |source| CheckpointError::Io {
            path: path.display().to_string(),
            source,
        };
        let temporary = path.with_extension("bin.tmp");
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(&temporary)?);
            self.write_to(&mut file)?;
            file.into_inner()?.sync_all()?;
            std::fs::rename(&temporary, path)?;
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        };
        write().map_err(|e| {
            // A full disk stays full while half a checkpoint lies there.
            let _ = std::fs::remove_file(&temporary);
            io(e)
        })
    }

    /// Reads one that belongs to `identity`, for a model of this many weights and running statistics.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn read(path: &Path, identity: &Identity, n_weights: usize, n_buffers: usize) -> Result<Self, CheckpointError> {
        let name = || path.display().to_string();
        let io = |source| CheckpointError::Io { path: name(), source };
        let damaged = |problem| CheckpointError::Damaged { path: name(), problem };
        let file = File::open(path).map_err(io)?;
        // The header first: it bounds the rest.
        let mut header = Vec::new();
        (&file).take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(io)?;
        let fields = Fields::parse(&header).ok_or_else(|| damaged("its header"))?;
        let Fields {
            identity: its, n_moments, ..
        } = fields;
        for (mine, its, what, fix) in [
            (&identity.model, &its.model, "the model", "start anew in another folder"),
            (
                &identity.data,
                &its.data,
                "the data or its split",
                "name the same --data, --validation-share and --seed, or start anew in another folder",
            ),
            (
                &identity.recipe,
                &its.recipe,
                "how it is trained ([train] of the job, --seed, or --epochs where a schedule depends on it)",
                "undo the change, or start anew in another folder",
            ),
        ] {
            if mine != its {
                return Err(CheckpointError::Other { path: name(), what, fix });
            }
        }
        if fields.n_weights != n_weights as u64 || fields.n_buffers != n_buffers as u64 || n_moments > MAX_MOMENTS {
            return Err(damaged("its sizes"));
        }
        let floats = n_weights.saturating_mul(1 + n_moments as usize).saturating_add(n_buffers);
        let mask_bytes = if fields.masked { n_weights.div_ceil(8) } else { 0 };
        let expected = floats.saturating_mul(4).saturating_add(mask_bytes).saturating_add(4);
        let mut body = Vec::new();
        (&file)
            .take((expected as u64).saturating_add(1))
            .read_to_end(&mut body)
            .map_err(io)?;
        if body.len() != expected {
            return Err(damaged("its length"));
        }
        let (values, crc) = body.split_at(expected - 4);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header);
        hasher.update(values);
        if crc != hasher.finalize().to_le_bytes() {
            return Err(damaged("its checksum"));
        }
        let (values, bits) = values.split_at(values.len() - mask_bytes);
        let mask = fields
            .masked
            .then(|| Mask::from_bytes(bits, n_weights).ok_or_else(|| damaged("its mask")));
        let mut floats = values.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let mut take = |n: usize| floats.by_ref().take(n).collect::<Vec<f32>>();
        Ok(Self {
            identity: its,
            step: fields.step,
            position: fields.position,
            recent: fields.recent,
            weights: take(n_weights),
            buffers: take(n_buffers),
            moments: (0..n_moments).map(|_| take(n_weights)).collect(),
            mask: mask.transpose()?,
        })
    }

    /// In pieces: a checkpoint in memory besides the training itself would be the largest thing that a small device holds.
    fn write_to(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut crc = crc32fast::Hasher::new();
        let mut put = |bytes: &[u8]| {
            crc.update(bytes);
            out.write_all(bytes)
        };
        put(MAGIC)?;
        put(&[if self.mask.is_some() { MASKED } else { PLAIN }])?;
        let Identity { recipe, model, data } = &self.identity;
        [recipe, model, data].into_iter().try_for_each(|digest| put(digest))?;
        put(&self.step.to_le_bytes())?;
        put(&self.position.epoch.to_le_bytes())?;
        put(&self.position.row.to_le_bytes())?;
        put(&self.position.rng_words.to_le_bytes())?;
        put(&self.position.loss_sum.to_le_bytes())?;
        put(&self.recent.sum.to_le_bytes())?;
        put(&self.recent.rows.to_le_bytes())?;
        put(&(self.weights.len() as u64).to_le_bytes())?;
        put(&(self.buffers.len() as u64).to_le_bytes())?;
        put(&(self.moments.len() as u32).to_le_bytes())?;
        let mut block = [0; 4 * 1024];
        for values in [&self.weights, &self.buffers].into_iter().chain(&self.moments) {
            for values in values.chunks(block.len() / 4) {
                for (bytes, value) in block.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *bytes = value.to_le_bytes();
                }
                put(&block[..values.len() * 4])?;
            }
        }
        if let Some(mask) = &self.mask {
            put(&mask.to_bytes())?;
        }
        out.write_all(&crc.finalize().to_le_bytes())
    }
}

/// The header.
struct Fields {
    masked: bool,
    identity: Identity,
    step: u64,
    position: Position,
    recent: Recent,
    n_weights: u64,
    n_buffers: u64,
    n_moments: u32,
}

impl Fields {
    fn parse(header: &[u8]) -> Option<Self> {
        let mut rest = header.strip_prefix(MAGIC)?;
        fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (head, tail) = rest.split_first_chunk::<N>()?;
            *rest = tail;
            Some(*head)
        }
        let rest = &mut rest;
        let masked = match take(rest)? {
            [PLAIN] => false,
            [MASKED] => true,
            _ => return None,
        };
        Some(Self {
            masked,
            identity: Identity {
                recipe: take(rest)?,
                model: take(rest)?,
                data: take(rest)?,
            },
            step: u64::from_le_bytes(take(rest)?),
            position: Position {
                epoch: u32::from_le_bytes(take(rest)?),
                row: u64::from_le_bytes(take(rest)?),
                rng_words: u128::from_le_bytes(take(rest)?),
                loss_sum: f64::from_le_bytes(take(rest)?),
            },
            recent: Recent {
                sum: f64::from_le_bytes(take(rest)?),
                rows: u64::from_le_bytes(take(rest)?),
            },
            n_weights: u64::from_le_bytes(take(rest)?),
            n_buffers: u64::from_le_bytes(take(rest)?),
            n_moments: u32::from_le_bytes(take(rest)?),
        })
    }
}

#[cfg(test)]
mod tests;
