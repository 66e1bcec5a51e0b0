//! Signed checkpoints: what a log vouches for. The formats are C2SP's tlog-checkpoint and signed-note, so that other tools read them.
//!
//! ```text
//! aimass/default                                     origin: which log this is
//! 2                                                  entries
//! EgtE4Nxjq1RZkWCGLLgpQWZX8vQ7pFWIdG9lVmDQ1kE=       root, base64
//!
//! — aimass/default 0GhlbRhN...                       key's name, base64 of key id and signature; more lines where others have signed
//! ```
//!
//! The text up to the blank line is signed, its last newline included. The key's name is the origin.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Hash;
use crate::hash::sha256;
use crate::sign::{NoteText, PublicKey, SigningKey};

/// Longest note in bytes.
pub const MAX_NOTE_BYTES: usize = 4096;
/// Most signatures under a note: ours, and those of witnesses, which are skipped.
const MAX_SIGNATURES: usize = 16;
/// An Ed25519 key, by C2SP's signed-note.
const ED25519: u8 = 1;
const MARK: &str = "\u{2014} ";

/// A note that is no checkpoint of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Longer than any checkpoint.
    #[error("a note of {len} bytes is over the limit of {MAX_NOTE_BYTES}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Not the text of a checkpoint.
    #[error("this is no checkpoint: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// Of another log.
    #[error("this is a checkpoint of another log, not of {expected:?}")]
    Origin {
        /// The log that was expected.
        expected: String,
    },
    /// No signature by the key.
    #[error("the checkpoint is not signed by this key: another server, or another key than the one given, made it")]
    OtherKey,
    /// A signature that claims to be by the key, and is not.
    #[error("the checkpoint's signature does not match: it was changed after it was signed")]
    BadSignature,
}

/// Size and root of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// The tree's root over them.
    pub root: Hash,
}

impl Checkpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The signed note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] when the origin is no key name: empty, or with spaces, control characters or `+`.
    pub fn sign(&self, key: &SigningKey) -> Result<String, NoteError> {
        if !is_name(&self.origin) {
            return Err(malformed("its origin is no key name"));
        }
        let text = self.text();
        let signed = NoteText::new(text.as_bytes()).ok_or(malformed("its text has control characters"))?;
        let mut stamp = key_id(&self.origin, &key.public()).to_vec();
        stamp.extend(key.sign_note(signed));
        Ok(format!("{text}\n{MARK}{} {}\n", self.origin, STANDARD.encode(stamp)))
    }

    /// Reads a note that has to be signed by `key` for the log `origin`. Signatures by others are skipped: they are for who knows those.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(note: &[u8], origin: &str, key: &PublicKey) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong { len: note.len() });
        }
        let whole = NoteText::new(note)
            .ok_or(malformed("it is not lines of UTF-8 without control characters"))?
            .as_str();
        // A blank line ends the text; there is none below it.
        let (text, signatures) = whole
            .rfind("\n\n")
            .map(|at| (&whole[..=at], &whole[at + 2..]))
            .ok_or(malformed("it has no blank line before its signatures"))?;
        let checkpoint = Self::read(text)?;
        if checkpoint.origin != origin {
            return Err(NoteError::Origin {
                expected: origin.to_owned(),
            });
        }
        let signature = find_signature(signatures, origin, key_id(origin, key))?;
        let text = NoteText::new(text.as_bytes()).ok_or(malformed("its text has control characters"))?;
        key.verify_note(text, &signature).map_err(|_| NoteError::BadSignature)?;
        Ok(checkpoint)
    }

    /// Each checkpoint has one text: no leading zeros, no other base64, nothing more.
    fn read(text: &str) -> Result<Self, NoteError> {
        let lines: Vec<&str> = text.split('\n').collect();
        let [origin, size, root, ""] = lines[..] else {
            return Err(malformed("its text is not the three lines origin, size and root"));
        };
        if !is_name(origin) {
            return Err(malformed("its origin is no key name"));
        }
        let number: u64 = size.parse().map_err(|_| malformed("its size is no number"))?;
        if number.to_string() != size {
            return Err(malformed("its size is not written the usual way"));
        }
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
        Ok(Self {
            origin: origin.to_owned(),
            size: number,
            root: root.ok_or(malformed("its root is not the base64 of 32 bytes"))?,
        })
    }
}

/// The one signature that this key claims to have made.
fn find_signature(lines: &str, name: &str, id: [u8; 4]) -> Result<Vec<u8>, NoteError> {
    let lines = lines.strip_suffix('\n').ok_or(malformed("its last line does not end"))?;
    let mut ours = None;
    for (i, line) in lines.split('\n').enumerate() {
        if i == MAX_SIGNATURES {
            return Err(malformed("it has too many signatures"));
        }
        let (by, stamp) = line
            .strip_prefix(MARK)
            .and_then(|line| line.split_once(' '))
            .filter(|(by, _)| is_name(by))
            .ok_or(malformed("a signature line is not a dash, a name and base64"))?;
        let stamp = STANDARD
            .decode(stamp)
            .ok()
            .filter(|stamp| stamp.len() > id.len())
            .ok_or(malformed("a signature is not base64"))?;
        if by == name
            && let Some(signature) = stamp.strip_prefix(&id)
            && ours.replace(signature.to_vec()).is_some()
        {
            return Err(malformed("it has two signatures by one key"));
        }
    }
    ours.ok_or(NoteError::OtherKey)
}

/// By signed-note: not empty, without spaces and `+`. Control characters were refused with the text.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// The first 4 bytes of SHA-256(`name` || 0x0A || 0x01 || key). Tells keys apart; it proves nothing.
pub fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), &[b'\n', ED25519], key.as_bytes()].concat());
    [a, b, c, d]
}

/// The key as tools for signed notes take it: `name+id+base64`.
pub fn verifier_key(name: &str, key: &PublicKey) -> String {
    let bytes = [&[ED25519][..], key.as_bytes()].concat();
    format!("{name}+{}+{}", hex::encode(key_id(name, key)), STANDARD.encode(bytes))
}

/// Reads what [`verifier_key`] writes: the name and the key.
pub fn parse_verifier_key(text: &str) -> Option<(String, PublicKey)> {
    // Base64 can hold a '+' too.
    let mut parts = text.splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = STANDARD.decode(key).ok()?;
    let key = PublicKey::from_bytes(bytes.strip_prefix(&[ED25519])?).ok()?;
    (is_name(name) && id == hex::encode(key_id(name, &key))).then(|| (name.to_owned(), key))
}

fn malformed(reason: &'static str) -> NoteError {
    NoteError::Malformed { reason }
}
