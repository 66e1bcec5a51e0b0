//! Follows what the server says that this device serves: asks, checks whose release it is, fetches the files, tries them, and changes the shelf.

use std::path::PathBuf;
use std::time::Duration;

use aimass_analytics::release::{Device, Failure, Pressure, Size, fit};
use aimass_net::{Connection, NetError};
use aimass_protocol::bundle::TrustBundle;
use aimass_protocol::job::{ReleaseSection, VariantSection};
use aimass_protocol::limits::MAX_SERVED;
use aimass_protocol::message::agent::{AgentRequest, ServeQuery, ServeReply, SignedRelease};
use aimass_protocol::{ErrorCode, TenantId};

use super::requests;
use crate::capabilities;
use crate::config::ModelsConfig;
use crate::shelf::{Assigned, Current, Shelf, file_name};
use crate::state::{StateError, StateFolder};
use crate::trial::{self, TrialError};
use crate::verify::{VerifiedJob, verify_job};
use crate::work::self_test;

/// For replies that the server gives at once.
const PROMPT: Duration = Duration::from_secs(30);
/// How often free memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Whom and what this device trusts and is.
pub(crate) struct Given {
    pub(crate) shelf: Shelf,
    pub(crate) tenant: TenantId,
    pub(crate) bundle: TrustBundle,
    pub(crate) device: Device,
    pub(crate) max_file_bytes: u64,
}

/// How following the server went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// As it should.
    Well,
    /// The server knows no releases: it is not asked again on this connection.
    Unsupported,
}

/// Asks for one release after the other until there is none that this device lacks.
///
/// # Errors
/// What broke on the way; nothing is half changed, and it is asked again later.
pub(crate) async fn follow(connection: &Connection, given: &Given) -> Result<Followed, NetError> {
    for _ in 0..MAX_SERVED {
        let have = given.shelf.have();
        let request = AgentRequest::Serve(ServeQuery { have: have.clone() });
        let reply: ServeReply = match aimass_net::request(connection, &request, PROMPT).await {
            Ok((reply, _)) => reply,
            Err(NetError::Refused(refusal)) if refusal.code == ErrorCode::Malformed => return Ok(Followed::Unsupported),
            Err(error) => return Err(error),
        };
        let Some(release) = reply.release else { return Ok(Followed::Well) };
        let verified = match verify(&release, given) {
            Ok(verified) => verified,
            Err(reason) => {
                tracing::warn!(release = %release.job, "the server names a release that is not served: {reason}");
                return Ok(Followed::Well);
            }
        };
        let Some(section) = &verified.file.release else {
            return Ok(Followed::Well);
        };
        if have.iter().any(|have| have.model == section.model && have.release == release.job) {
            // It was told what we have.
            return Ok(Followed::Well);
        }
        take(connection, given, &verified, section).await?;
    }
    Ok(Followed::Well)
}

fn verify(release: &SignedRelease, given: &Given) -> Result<VerifiedJob, String> {
    let verified = verify_job(
        release.job,
        (&release.signed_job, release.owner, release.signature),
        &given.tenant,
        &given.bundle,
    );
    let verified = verified.map_err(|e| e.to_string())?;
    if verified.file.release.is_none() {
        return Err("the signed job is no release".to_owned());
    }
    Ok(verified)
}

/// Takes what is for this device, or notes that it was refused.
async fn take(connection: &Connection, given: &Given, verified: &VerifiedJob, release: &ReleaseSection) -> Result<(), NetError> {
    let model = &release.model;
    let fitting = fit(release, &given.device).map(|at| &release.variants[at]);
    let fits = release.variants.iter().filter(|variant| given.device.fits(&variant.fits));
    let small = fits
        .min_by_key(|variant| variant.size_bytes)
        .filter(|small| fitting.is_some_and(|fitting| fitting.digest != small.digest));
    let mut assigned = Assigned {
        release: verified.id,
        fitting: None,
        small: None,
    };
    match fitting {
        None => tracing::warn!(
            "no variant of the release {} of {model} is for this device: what is served stays",
            verified.id
        ),
        Some(variant) => assigned.fitting = tried(connection, given, verified, release, variant).await?,
    }
    if let (Some(small), true) = (small, assigned.fitting.is_some()) {
        assigned.small = tried(connection, given, verified, release, small).await?;
    }
    if let Some(current) = &assigned.fitting {
        tracing::info!("{model} is now served as variant {} of release {}", current.variant, verified.id);
    }
    let (shelf, model) = (given.shelf.clone(), model.clone());
    off_reactor(move || shelf.assign(&model, &assigned)).await
}

/// A variant, fetched and tried; `None` where it is refused, which is said.
async fn tried(
    connection: &Connection,
    given: &Given,
    verified: &VerifiedJob,
    release: &ReleaseSection,
    variant: &VariantSection,
) -> Result<Option<Current>, NetError> {
    let current = Current {
        model: release.model.clone(),
        release: verified.id,
        variant: variant.name.clone(),
        digest: variant.digest,
        size_bytes: variant.size_bytes,
        file: file_name(variant.digest),
        self_test: self_test(release, variant, verified.file.job.seed),
    };
    let refused = |error: &TrialError| {
        tracing::warn!(
            "variant {} of {} is refused, what is served stays: {error}",
            variant.name,
            release.model
        );
    };
    if let Err(error) = trial::check_size(variant.size_bytes, given.max_file_bytes) {
        refused(&error);
        return Ok(None);
    }
    let (path, known) = (given.shelf.path(&current), given.shelf.path(&current).is_file());
    let path: PathBuf = if known {
        path
    } else {
        let incoming = StateFolder::new(given.shelf.incoming());
        let opened = incoming.clone();
        // Nothing else works in there: this is asked for once at a time.
        let digest = variant.digest;
        off_reactor(move || opened.prepare_models().and_then(|()| opened.retain_models(&[digest]))).await?;
        match requests::fetch(connection, &incoming, variant.digest, variant.size_bytes).await {
            Ok(_) => incoming.model_path(variant.digest),
            Err(error) if is_refusal(&error) => {
                refused(&TrialError::new(Failure::Fetch, error.to_string()));
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    };
    let (shelf, max_bytes, wanted) = (given.shelf.clone(), given.max_file_bytes, current.clone());
    let result = off_reactor(move || {
        let bytes = match trial::read(&path, wanted.digest, wanted.size_bytes, max_bytes) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = trial::load(&bytes, &wanted.self_test) {
            return Ok(Err(error));
        }
        if !known {
            shelf.put(&wanted.model, wanted.digest, &bytes)?;
            // What is fetched next removes it as well.
            let _ = std::fs::remove_file(&path);
        }
        Ok(Ok(()))
    });
    match result.await? {
        Ok(()) => Ok(Some(current)),
        Err(error) => {
            refused(&error);
            Ok(None)
        }
    }
}

/// Whether the server has it not or sends something else: asking again changes nothing.
pub(crate) fn is_refusal(error: &NetError) -> bool {
    match error {
        NetError::Protocol { .. } | NetError::Digest { .. } => true,
        NetError::Refused(refusal) => refusal.code == ErrorCode::BlobUnknown,
        _ => false,
    }
}

async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> Result<T, StateError> + Send + 'static) -> Result<T, NetError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done
        .map_err(std::io::Error::other)
        .and_then(|done| done.map_err(std::io::Error::other));
    done.map_err(|source| NetError::Io {
        what: "served models".to_owned(),
        source,
    })
}

/// Tries what is served before anybody relies on it, and goes back to what was served before where it fails. Blocking.
pub(crate) fn check_served(shelf: &Shelf, max_file_bytes: u64) {
    for model in shelf.models() {
        let mut current = shelf.current(&model);
        while let Some(served) = current {
            let tried = trial::read(&shelf.path(&served), served.digest, served.size_bytes, max_file_bytes)
                .and_then(|bytes| trial::load(&bytes, &served.self_test));
            let Err(error) = tried else { break };
            tracing::warn!("variant {} of {model} can't be served any more: {error}", served.variant);
            current = match shelf.go_back(&model) {
                Ok(previous) => previous,
                Err(error) => {
                    tracing::warn!("{error}");
                    None
                }
            };
        }
    }
}

/// Looks at the free memory as long as the agent runs, and switches sizes.
pub(crate) async fn watch_memory(shelf: Shelf, config: ModelsConfig) {
    let low = u64::from(config.low_memory_mib) << 20;
    if low == 0 {
        return;
    }
    let mut pressure = Pressure::new(low, low.saturating_mul(2), u64::from(config.calm_s).saturating_mul(1000));
    let started = tokio::time::Instant::now();
    let mut before = Size::Fitting;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(free) = capabilities::free_bytes(u64::from(config.memory_mib) << 20) else {
            continue;
        };
        let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wanted = pressure.see(now_ms, free);
        if wanted != before {
            tracing::info!("{} MiB of memory are free: the {wanted:?} size of each model is served", free >> 20);
            before = wanted;
        }
        let shelf = shelf.clone();
        let resized = tokio::task::spawn_blocking(move || {
            let models = shelf.models();
            // Also what was assigned since.
            models.iter().try_for_each(|model| shelf.resize(model, wanted).map(|_| ()))
        });
        if let Ok(Err(error)) = resized.await {
            tracing::warn!("the size of a served model could not be changed: {error}");
        }
    }
}
