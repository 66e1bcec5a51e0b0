//! What an agent checks before it works: who signed the job, and whether the cohort is the one that was consented to.

use aimass_crypto::hash::sha256;
use aimass_crypto::sign::{Context, PublicKey};
use aimass_protocol::bundle::TrustBundle;
use aimass_protocol::codec::decode;
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::job::{JobFile, JobFileError, SignedJob};
use aimass_protocol::message::agent::{SignedDescriptor, Task};
use aimass_protocol::{Digest, JobId, PublicKeyBytes, SignatureBytes, TenantId};

/// A job whose owner this device trusts.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedJob {
    /// Its id: the first half of the SHA-256 of the signed bytes.
    pub id: JobId,
    /// The checked job file.
    pub file: JobFile,
    /// Name of the owner in the trust bundle.
    pub owner: String,
}

/// A job that must not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The id is not that of the bytes.
    #[error("the server names job {named}, but its signed bytes are job {found}")]
    Id {
        /// By the server.
        named: JobId,
        /// By the bytes.
        found: JobId,
    },
    /// The owner's key is not in the trust bundle.
    #[error(
        "the job is signed by key {owner}, which is no job owner of tenant {tenant} in trust bundle {version}; register it: aimass owner add"
    )]
    OwnerUnknown {
        /// The key.
        owner: PublicKeyBytes,
        /// This agent's tenant.
        tenant: TenantId,
        /// Version of the bundle held.
        version: u64,
    },
    /// The signature is not the owner's.
    #[error("the signature of job owner {owner:?} does not match the job: it was changed on its way")]
    Signature {
        /// The owner's name.
        owner: String,
    },
    /// The job belongs to another tenant.
    #[error("the job is of tenant {found}, this agent of {expected}")]
    Tenant {
        /// This agent's.
        expected: TenantId,
        /// The job's.
        found: TenantId,
    },
    /// The signed bytes are no job.
    #[error("the signed bytes are no job: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
    /// Its job file is refused.
    #[error("the job file: {0}")]
    File(#[from] JobFileError),
}

/// A cohort descriptor that is not what the server of this connection promises about this agent's work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// Not signed by the server that this connection goes to.
    #[error("the cohort descriptor is not signed by the server of this connection")]
    Signature,
    /// The bytes are no descriptor of this version.
    #[error("the cohort descriptor can't be read: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
    /// Another tenant's cohort.
    #[error("the cohort descriptor is of tenant {found}, this agent of {expected}")]
    Tenant {
        /// This agent's.
        expected: TenantId,
        /// The descriptor's.
        found: TenantId,
    },
    /// The server adds up other parameters than this agent has trained.
    #[error("the cohort descriptor has parameter layout {found}, the base model that was trained from {expected}")]
    Layout {
        /// Of the base model.
        expected: Digest,
        /// By the descriptor.
        found: Digest,
    },
}

/// Checks a task's job: id, owner, signature, tenant and job file.
///
/// # Errors
/// [`TaskError`].
pub fn verify_task(task: &Task, tenant: &TenantId, bundle: &TrustBundle) -> Result<VerifiedJob, TaskError> {
    verify_job(task.job, (&task.signed_job, task.owner, task.signature), tenant, bundle)
}

/// The same of a job by its signed bytes, their owner and the signature.
///
/// # Errors
/// [`TaskError`].
pub fn verify_job(
    job: JobId,
    (signed_job, owner_key, signature): (&[u8], PublicKeyBytes, SignatureBytes),
    tenant: &TenantId,
    bundle: &TrustBundle,
) -> Result<VerifiedJob, TaskError> {
    let found = job_id(signed_job);
    if found != job {
        return Err(TaskError::Id { named: job, found });
    }
    let owner = bundle
        .owners
        .iter()
        .find(|o| o.tenant == *tenant && o.public_key == owner_key)
        .ok_or_else(|| TaskError::OwnerUnknown {
            owner: owner_key,
            tenant: tenant.clone(),
            version: bundle.version,
        })?;
    PublicKey::from_bytes(owner_key.as_bytes())
        .and_then(|key| key.verify(Context::Job, signed_job, signature.as_bytes()))
        .map_err(|_| TaskError::Signature { owner: owner.name.clone() })?;
    let signed: SignedJob = decode(signed_job).map_err(|e| TaskError::Malformed { reason: e.to_string() })?;
    if signed.tenant != *tenant {
        return Err(TaskError::Tenant {
            expected: tenant.clone(),
            found: signed.tenant,
        });
    }
    let text = std::str::from_utf8(&signed.job_file).map_err(|_| TaskError::Malformed {
        reason: "the job file is not UTF-8".to_owned(),
    })?;
    Ok(VerifiedJob {
        id: found,
        file: JobFile::parse(text)?,
        owner: owner.name.clone(),
    })
}

/// The first half of the SHA-256 of a job's signed bytes.
pub fn job_id(signed_job: &[u8]) -> JobId {
    let digest = sha256(signed_job);
    let mut id = [0; JobId::LEN];
    id.copy_from_slice(&digest[..JobId::LEN]);
    JobId::from_bytes(id)
}

/// Checks a cohort descriptor's signature over its bytes as received, and what only this side knows: the tenant and the layout that was trained.
/// Job, base, codec, floor and the owner's policy are the session's to check.
///
/// # Errors
/// [`DescriptorError`].
pub fn verify_descriptor(
    signed: &SignedDescriptor,
    server: &PublicKey,
    tenant: &TenantId,
    layout_digest: Digest,
) -> Result<Descriptor, DescriptorError> {
    server
        .verify(Context::Descriptor, &signed.descriptor, signed.signature.as_bytes())
        .map_err(|_| DescriptorError::Signature)?;
    let descriptor: Descriptor = decode(&signed.descriptor).map_err(|e| DescriptorError::Malformed { reason: e.to_string() })?;
    if descriptor.tenant != *tenant {
        return Err(DescriptorError::Tenant {
            expected: tenant.clone(),
            found: descriptor.tenant,
        });
    }
    if descriptor.layout_digest != layout_digest {
        return Err(DescriptorError::Layout {
            expected: layout_digest,
            found: descriptor.layout_digest,
        });
    }
    Ok(descriptor)
}

#[cfg(test)]
mod tests;
