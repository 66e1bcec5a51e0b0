//! The authority's folder. Small files, each replaced atomically and synced before anything that depends on it is acknowledged.
//!
//! | file | content |
//! |---|---|
//! | `lock` | held while a process runs on the folder |
//! | `roots/<spki>.pem`, `.der` | a root's private key and certificate; those of retired roots stay, unused |
//! | `bundles/<version>.cbor` | every trust bundle as signed; the newest is in force, its first root issues |
//! | `tokens/<hash>.json` | [`TokenRecord`], named by the SHA-256 of the token's secret |
//! | `revoked.json` | who may not renew |
//! | `certificates.jsonl` | one [`Issued`] a line, appended |

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use aimass_crypto::cert::{self, Root};
use aimass_net::enrol::Bundle;
use aimass_net::identity::{self, durable};
use aimass_protocol::token::Role;
use aimass_protocol::{AgentId, Digest, TenantId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lock;

/// The folder can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process runs on it.
    #[error("another process runs on {}: stop it, or use another folder", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// A file is damaged or missing.
    #[error("{} can't be used: {reason}; restore the folder from a copy", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A root's key can't be used.
    #[error(transparent)]
    Key(#[from] identity::IdentityError),
    /// The file system fails; the message names the file.
    #[error("authority's folder: {0}")]
    Io(#[from] io::Error),
}

/// A token as the authority knows it: never its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRecord {
    /// SHA-256 of the secret.
    pub(crate) hash: Digest,
    pub(crate) role: Role,
    pub(crate) tenant: TenantId,
    pub(crate) server: String,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// Withdrawn by the operator.
    pub(crate) withdrawn: bool,
    /// Who used it; the same key may ask again.
    pub(crate) used_by: Option<AgentId>,
}

/// One certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issued {
    pub(crate) at: Timestamp,
    pub(crate) tenant: TenantId,
    pub(crate) role: Role,
    pub(crate) id: AgentId,
    pub(crate) not_after_s: i64,
    /// The token's hash for a first certificate, `None` for a renewal.
    pub(crate) token: Option<Digest>,
}

/// Who may not renew, by tenant.
pub(crate) type Revoked = BTreeMap<TenantId, BTreeSet<AgentId>>;

/// The open folder.
pub(crate) struct Store {
    dir: PathBuf,
    certificates: File,
    _lock: File,
}

/// Everything in it, read once at the start.
pub(crate) struct Loaded {
    pub(crate) store: Store,
    /// By version.
    pub(crate) bundles: BTreeMap<u64, Bundle>,
    /// Roots with a certificate in `roots/`, by SPKI hash.
    pub(crate) roots: BTreeMap<Digest, Root>,
    pub(crate) tokens: BTreeMap<Digest, TokenRecord>,
    pub(crate) revoked: Revoked,
    /// Certificates issued so far.
    pub(crate) issued: u64,
}

impl Store {
    /// Opens the folder, making it when absent, and takes its lock; waits up to 3 s for another process to release that.
    pub(crate) fn open(dir: &Path) -> Result<Loaded, StoreError> {
        for part in ["roots", "bundles", "tokens"] {
            durable::create_private_dir(&dir.join(part))?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        let is_held = |e: &TryLockError| matches!(e, TryLockError::WouldBlock);
        lock::wait_for(is_held, || file.try_lock()).map_err(|e| match e {
            TryLockError::WouldBlock => StoreError::Locked { dir: dir.to_owned() },
            TryLockError::Error(e) => e.into(),
        })?;
        for part in ["", "roots", "bundles", "tokens"] {
            durable::remove_leftovers(&dir.join(part))?;
        }
        let (certificates, issued) = open_log(&dir.join("certificates.jsonl"))?;
        let store = Self {
            dir: dir.to_owned(),
            certificates,
            _lock: file,
        };
        Ok(Loaded {
            bundles: store.load_bundles()?,
            roots: store.load_roots()?,
            tokens: store.load_tokens()?,
            revoked: store.load_revoked()?,
            issued,
            store,
        })
    }

    fn load_bundles(&self) -> Result<BTreeMap<u64, Bundle>, StoreError> {
        let mut bundles = BTreeMap::new();
        for path in files(&self.dir.join("bundles"), "cbor")? {
            let bundle = Bundle::from_trusted_bytes(&fs::read(&path)?).map_err(|e| corrupt(&path, &e))?;
            if path != self.bundle_path(bundle.version()) {
                return Err(corrupt(&path, &format!("it holds version {}", bundle.version())));
            }
            bundles.insert(bundle.version(), bundle);
        }
        Ok(bundles)
    }

    fn load_roots(&self) -> Result<BTreeMap<Digest, Root>, StoreError> {
        let mut roots = BTreeMap::new();
        for path in files(&self.dir.join("roots"), "der")? {
            let key = identity::read_key(&path.with_extension("pem"))?;
            let der = fs::read(&path)?;
            let spki = cert::spki_sha256(&der).map_err(|e| corrupt(&path, &e))?;
            let root = Root::load(key, &der).map_err(|e| corrupt(&path, &e))?;
            roots.insert(Digest::from_bytes(spki), root);
        }
        Ok(roots)
    }

    fn load_tokens(&self) -> Result<BTreeMap<Digest, TokenRecord>, StoreError> {
        let mut tokens = BTreeMap::new();
        for path in files(&self.dir.join("tokens"), "json")? {
            let record: TokenRecord = read_json(&path)?;
            if path != self.token_path(&record.hash) {
                return Err(corrupt(&path, &"it holds another token"));
            }
            tokens.insert(record.hash, record);
        }
        Ok(tokens)
    }

    fn load_revoked(&self) -> Result<Revoked, StoreError> {
        let path = self.dir.join("revoked.json");
        if path.try_exists()? { read_json(&path) } else { Ok(Revoked::new()) }
    }

    pub(crate) fn save_root(&self, root: &Root, spki: &Digest) -> io::Result<()> {
        let path = self.dir.join("roots").join(spki.to_hex());
        durable::write(&path.with_extension("pem"), root.key().to_pem().as_bytes())?;
        durable::write(&path.with_extension("der"), root.certificate_der())
    }

    pub(crate) fn save_bundle(&self, bundle: &Bundle) -> io::Result<()> {
        durable::write(&self.bundle_path(bundle.version()), bundle.as_bytes())
    }

    pub(crate) fn save_token(&self, record: &TokenRecord) -> io::Result<()> {
        durable::write(&self.token_path(&record.hash), &serde_json::to_vec_pretty(record)?)
    }

    /// Forgets a token that nobody can use any more.
    pub(crate) fn remove_token(&self, hash: &Digest) -> io::Result<()> {
        fs::remove_file(self.token_path(hash))
    }

    pub(crate) fn save_revoked(&self, revoked: &Revoked) -> io::Result<()> {
        durable::write(&self.dir.join("revoked.json"), &serde_json::to_vec_pretty(revoked)?)
    }

    pub(crate) fn append_issued(&mut self, issued: &Issued) -> io::Result<()> {
        let mut line = serde_json::to_vec(issued)?;
        line.push(b'\n');
        let end = self.certificates.stream_position()?;
        let appended = self.certificates.write_all(&line).and_then(|()| self.certificates.sync_data());
        if appended.is_err() {
            // A half-written line (disk full) must not stand before the next one.
            self.certificates.set_len(end)?;
            self.certificates.seek(io::SeekFrom::Start(end))?;
        }
        appended
    }

    fn bundle_path(&self, version: u64) -> PathBuf {
        self.dir.join("bundles").join(format!("{version:08}.cbor"))
    }

    fn token_path(&self, hash: &Digest) -> PathBuf {
        self.dir.join("tokens").join(format!("{}.json", hash.to_hex()))
    }
}

/// Opens the log for appending and counts its lines; a line that a crash tore was never acknowledged and is cut off.
fn open_log(path: &Path) -> Result<(File, u64), StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    let (mut count, mut end, mut line) = (0, 0_u64, Vec::new());
    let mut reader = BufReader::new(&file);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        serde_json::from_slice::<Issued>(&line).map_err(|e| corrupt(path, &format!("line {}: {e}", count + 1)))?;
        (count, end) = (count + 1, end + read as u64);
    }
    file.set_len(end)?;
    file.seek(io::SeekFrom::Start(end))?;
    file.sync_all()?;
    durable::sync_parent(path)?;
    Ok((file, count))
}

/// Files of `dir` with this extension, in order of their names.
fn files(dir: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    serde_json::from_slice(&fs::read(path)?).map_err(|e| corrupt(path, &e))
}

pub(crate) fn corrupt(path: &Path, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
