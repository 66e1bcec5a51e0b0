//! Job owners: the key file, and signing a job.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aimass_crypto::sign::{Context as SignContext, SigningKey};
use aimass_protocol::job::SignedJob;
use aimass_protocol::{Digest, Nonce, TenantId, Timestamp};
use anyhow::{Context, Result, bail};
use rand_core::CryptoRng;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

use crate::api::Api;

/// Writes a new key to `path`, which must not exist, readable by its owner alone.
///
/// # Errors
/// When the file exists or can't be written.
pub fn create_key(path: &Path, rng: &mut impl CryptoRng) -> Result<SigningKey> {
    let key = SigningKey::generate(rng);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| {
            format!(
                "can't make the key file {} (an existing key is never overwritten: move it away or name another with --key)",
                path.display()
            )
        })?;
    file.write_all(key.to_pem().as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("can't write {}", path.display()))?;
    Ok(key)
}

/// Reads a key file.
///
/// # Errors
/// When there is none or it holds no Ed25519 key.
pub fn read_key(path: &Path) -> Result<SigningKey> {
    let pem = std::fs::read_to_string(path).with_context(|| {
        format!(
            "can't read the owner's key {} (make one with `aimass owner create`)",
            path.display()
        )
    })?;
    SigningKey::from_pem(&pem).with_context(|| format!("{} is no owner's key", path.display()))
}

/// A job as it is submitted: the signed bytes, the owner's key and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSubmission {
    /// [`SignedJob`] in CBOR.
    pub signed_job: Vec<u8>,
    /// The owner's public key.
    pub owner: [u8; 32],
    /// The owner's signature over `signed_job`.
    pub signature: [u8; 64],
}

/// What a job consists of.
#[derive(Debug, Clone)]
pub struct JobParts<'a> {
    /// The tenant whose agents may run it.
    pub tenant: TenantId,
    /// Text of the job file.
    pub job_file: &'a str,
    /// The initial model's digest.
    pub model: Digest,
    /// The evaluation data's digest.
    pub evaluation: Option<Digest>,
    /// When it is signed.
    pub signed_at: Timestamp,
}

/// Signs a job.
///
/// # Errors
/// When the job file is too long.
pub fn sign_job(key: &SigningKey, parts: JobParts<'_>, rng: &mut impl CryptoRng) -> Result<JobSubmission> {
    if parts.job_file.len() > aimass_protocol::limits::MAX_JOB_FILE_BYTES {
        bail!("the job file is over {} bytes", aimass_protocol::limits::MAX_JOB_FILE_BYTES);
    }
    let mut nonce = [0; 16];
    rng.fill_bytes(&mut nonce);
    let job = SignedJob {
        tenant: parts.tenant,
        job_file: ByteBuf::from(parts.job_file.as_bytes()),
        model: parts.model,
        evaluation: parts.evaluation,
        signed_at: parts.signed_at,
        nonce: Nonce::from_bytes(nonce),
    };
    let signed_job = aimass_protocol::codec::encode(&job)?;
    let signature = key.sign(SignContext::Job, &signed_job);
    Ok(JobSubmission {
        signed_job,
        owner: *key.public().as_bytes(),
        signature,
    })
}

/// Signs a job whose model and evaluation data are uploaded already, and submits it; returns its id.
///
/// # Errors
/// When the job file is too long, or the aggregator refuses the job.
pub fn submit_job(api: &Api, key: &SigningKey, parts: JobParts<'_>) -> Result<String> {
    let submission = sign_job(key, parts, &mut crate::commands::system_rng()?)?;
    let body = json!({
        "signed_job": hex::encode(&submission.signed_job),
        "owner": hex::encode(submission.owner),
        "signature": hex::encode(submission.signature),
    });
    let reply: Value = api.post("/v1/jobs", &body)?;
    Ok(reply["job"].as_str().context("the aggregator sent no job id")?.to_owned())
}
