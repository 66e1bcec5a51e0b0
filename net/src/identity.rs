//! The identity folder of an agent or a server: its key, its certificate, whom it trusts and where it belongs.
//!
//! | file | content |
//! |---|---|
//! | `key.pem` | Ed25519 private key, PKCS#8, mode 0600; never leaves the folder |
//! | `bundle.cbor` | the newest trust bundle, as received |
//! | `certificate.der` | the certificate, issued by a root of the bundle |
//! | `enrolment.json` | [`Membership`]; written last, so a folder without it has not joined |
//!
//! Each file is replaced atomically. A bundle is always written before the certificate that needs it, so every mix that a crash can
//! leave is a working identity.

pub mod durable;
mod enrolment;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aimass_crypto::sign::SigningKey;
use rand_core::CryptoRng;

use crate::enrol::Bundle;
pub use enrolment::{Enrolment, EnrolmentError, Membership};

const KEY: &str = "key.pem";
const BUNDLE: &str = "bundle.cbor";
const CERTIFICATE: &str = "certificate.der";
const ENROLMENT: &str = "enrolment.json";

/// An identity folder that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The folder has no certificate yet.
    #[error("{} has not joined a deployment yet: join first, with a token from `aimass token create`", dir.display())]
    NotJoined {
        /// The folder.
        dir: PathBuf,
    },
    /// Others can read the key.
    #[error("{} can be read by others (mode {mode:o}): run `chmod 600 {}`; if somebody may have copied it, remove the folder and join again", path.display(), path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is damaged or belongs to another identity.
    #[error("{} can't be used: {reason}; restore it from a copy, or remove the identity folder and join again with a new token", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file can't be read or written; the message names it.
    #[error("identity folder: {0}")]
    Io(#[source] io::Error),
}

/// An open identity folder. One process at a time may write to it.
#[derive(Debug)]
pub struct IdentityFolder {
    dir: PathBuf,
    key: Arc<SigningKey>,
    enrolment: Option<Enrolment>,
}

impl IdentityFolder {
    /// Opens the folder; makes it, and a key of its own, when absent. Whether it has joined says [`IdentityFolder::enrolment`].
    ///
    /// # Errors
    /// [`IdentityError::Exposed`], [`IdentityError::Corrupt`], [`IdentityError::Io`].
    pub fn open_or_create(dir: &Path, rng: &mut impl CryptoRng) -> Result<Self, IdentityError> {
        durable::create_private_dir(dir).map_err(IdentityError::Io)?;
        let path = dir.join(KEY);
        if !path.try_exists().map_err(|e| failed(&path, &e))? {
            if dir.join(ENROLMENT).exists() {
                let reason = "it is missing, but the folder holds a certificate for it".to_owned();
                return Err(IdentityError::Corrupt { path, reason });
            }
            let pem = SigningKey::generate(rng).to_pem();
            durable::write(&path, pem.as_bytes()).map_err(IdentityError::Io)?;
        }
        let key = Arc::new(read_key(&path)?);
        let enrolment = read_enrolment(dir, &key)?;
        Ok(Self {
            dir: dir.to_owned(),
            key,
            enrolment,
        })
    }

    /// Opens a folder that has joined, with its enrolment. Makes nothing.
    ///
    /// # Errors
    /// [`IdentityError::NotJoined`], and as [`IdentityFolder::open_or_create`].
    pub fn open(dir: &Path) -> Result<(Self, Enrolment), IdentityError> {
        let path = dir.join(KEY);
        if !path.try_exists().map_err(|e| failed(&path, &e))? && !dir.join(ENROLMENT).exists() {
            return Err(IdentityError::NotJoined { dir: dir.to_owned() });
        }
        let key = Arc::new(read_key(&path)?);
        let enrolment = read_enrolment(dir, &key)?.ok_or_else(|| IdentityError::NotJoined { dir: dir.to_owned() })?;
        let folder = Self {
            dir: dir.to_owned(),
            key,
            enrolment: Some(enrolment.clone()),
        };
        Ok((folder, enrolment))
    }

    /// The private key.
    pub fn key(&self) -> &Arc<SigningKey> {
        &self.key
    }

    /// What it got when it joined, and since; `None` before.
    pub fn enrolment(&self) -> Option<&Enrolment> {
        self.enrolment.as_ref()
    }

    /// Stores a first or renewed enrolment. It is in force when this returns.
    ///
    /// # Errors
    /// [`IdentityError::Corrupt`] when it is not for this folder's key, [`IdentityError::Io`]; the old one stands then.
    pub fn save(&mut self, enrolment: Enrolment) -> Result<(), IdentityError> {
        let path = |name| self.dir.join(name);
        enrolment
            .check_key(&self.key.public())
            .map_err(|e| corrupt(&path(CERTIFICATE), &e))?;
        let json = serde_json::to_vec_pretty(enrolment.membership()).map_err(|e| IdentityError::Io(e.into()))?;
        durable::write(&path(BUNDLE), enrolment.bundle().as_bytes()).map_err(IdentityError::Io)?;
        durable::write(&path(CERTIFICATE), enrolment.certificate()).map_err(IdentityError::Io)?;
        durable::write(&path(ENROLMENT), &json).map_err(IdentityError::Io)?;
        self.enrolment = Some(enrolment);
        Ok(())
    }

    /// Stores a newer trust bundle, as [`Bundle::accept`] returned it.
    ///
    /// # Errors
    /// [`IdentityError::NotJoined`], [`IdentityError::Io`]; the old one stands then.
    pub fn save_bundle(&mut self, bundle: Bundle) -> Result<(), IdentityError> {
        let enrolment = self
            .enrolment
            .as_mut()
            .ok_or_else(|| IdentityError::NotJoined { dir: self.dir.clone() })?;
        durable::write(&self.dir.join(BUNDLE), bundle.as_bytes()).map_err(IdentityError::Io)?;
        enrolment.set_bundle(bundle);
        Ok(())
    }
}

/// Reads a private key's file, which must be its owner's alone.
///
/// # Errors
/// [`IdentityError::Exposed`], [`IdentityError::Corrupt`], [`IdentityError::Io`].
pub fn read_key(path: &Path) -> Result<SigningKey, IdentityError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path).map_err(|e| failed(path, &e))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
    }
    let pem = fs::read_to_string(path).map(zeroize::Zeroizing::new).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => corrupt(path, &"it is not a PEM text"),
        _ => failed(path, &e),
    })?;
    SigningKey::from_pem(&pem).map_err(|e| corrupt(path, &e))
}

fn read_enrolment(dir: &Path, key: &SigningKey) -> Result<Option<Enrolment>, IdentityError> {
    let path = dir.join(ENROLMENT);
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&path, &e)),
    };
    let membership: Membership = serde_json::from_slice(&json).map_err(|e| corrupt(&path, &e))?;
    let bundle = Bundle::from_trusted_bytes(&read_part(dir, BUNDLE)?).map_err(|e| corrupt(&dir.join(BUNDLE), &e))?;
    let certificate = read_part(dir, CERTIFICATE)?;
    let enrolment = Enrolment::new(membership, certificate, bundle)
        .and_then(|enrolment| enrolment.check_key(&key.public()).map(|()| enrolment))
        .map_err(|e| corrupt(&dir.join(CERTIFICATE), &e))?;
    Ok(Some(enrolment))
}

/// A file that must be there once `enrolment.json` is.
fn read_part(dir: &Path, name: &str) -> Result<Vec<u8>, IdentityError> {
    let path = dir.join(name);
    fs::read(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => corrupt(&path, &"it is missing"),
        _ => failed(&path, &e),
    })
}

fn failed(path: &Path, error: &io::Error) -> IdentityError {
    IdentityError::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn corrupt(path: &Path, reason: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Corrupt {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
