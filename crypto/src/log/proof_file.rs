//! A proof as a file: an entry's place, its path, and the checkpoint that it leads to. The format is C2SP's tlog-proof, so that other tools read it.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>              here: the entry itself
//! index 0
//! <base64>                    the path, a hash a line
//!
//! aimass/default              the checkpoint, to the end
//! ...
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Checkpoint, Hash, MAX_NOTE_BYTES, NoteError, ProofError, leaf_hash, verify_inclusion};
use crate::sign::PublicKey;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Most hashes of a path: the log has less than 2^64 entries.
const MAX_HASHES: usize = 64;
/// Longest entry that is carried, in bytes.
const MAX_ENTRY_BYTES: usize = 4096;

/// Longest file in bytes.
pub const MAX_PROOF_FILE_BYTES: usize = MAX_NOTE_BYTES + 2 * MAX_ENTRY_BYTES + 46 * MAX_HASHES + 256;

/// An entry with the proof that it is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// The entry.
    pub entry: Vec<u8>,
    /// Its index, counted from 0.
    pub index: u64,
    /// RFC 6962, section 2.1.1.
    pub inclusion: Vec<Hash>,
    /// The signed note.
    pub checkpoint: String,
}

/// A proof file that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofFileError {
    /// Not the text of a proof.
    #[error("this is no proof file: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// Its checkpoint does not hold.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The entry is not in the log.
    #[error("the entry is not in the log: {0}")]
    Proof(#[from] ProofError),
}

impl ProofFile {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nextra {}\nindex {}\n", STANDARD.encode(&self.entry), self.index);
        for hash in &self.inclusion {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads a file. Says nothing about whether the proof holds.
    ///
    /// # Errors
    /// [`ProofFileError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, ProofFileError> {
        let malformed = |reason| ProofFileError::Malformed { reason };
        if text.len() > MAX_PROOF_FILE_BYTES {
            return Err(malformed("it is longer than a proof can be"));
        }
        let (proof, checkpoint) = text
            .split_once("\n\n")
            .ok_or(malformed("it has no blank line before its checkpoint"))?;
        let mut lines = proof.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(malformed("its first line is not c2sp.org/tlog-proof@v1"));
        }
        let entry = lines.next().and_then(|line| STANDARD.decode(line.strip_prefix("extra ")?).ok());
        let entry = entry
            .filter(|entry| entry.len() <= MAX_ENTRY_BYTES)
            .ok_or(malformed("its second line is not `extra` and the entry in base64"))?;
        let index = lines.next().and_then(|line| {
            let digits = line.strip_prefix("index ")?;
            digits.parse::<u64>().ok().filter(|index| index.to_string() == digits)
        });
        let index = index.ok_or(malformed("its third line is not `index` and a number"))?;
        let mut inclusion = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|hash| hash.try_into().ok());
            inclusion.push(hash.ok_or(malformed("a line of its path is not the base64 of 32 bytes"))?);
            if inclusion.len() > MAX_HASHES {
                return Err(malformed("its path is longer than that of any log"));
            }
        }
        Ok(Self {
            entry,
            index,
            inclusion,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Checks that the entry is in the log `origin` of the server with this key; returns the checkpoint that it is in.
    ///
    /// # Errors
    /// [`ProofFileError::Note`], [`ProofFileError::Proof`].
    pub fn verify(&self, origin: &str, key: &PublicKey) -> Result<Checkpoint, ProofFileError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), origin, key)?;
        let leaf = leaf_hash(&self.entry);
        verify_inclusion(&leaf, self.index, checkpoint.size, &self.inclusion, &checkpoint.root)?;
        Ok(checkpoint)
    }
}
