//! The plumbing of the loopback HTTP APIs: a loopback address only, a token file, JSON errors, limits, an orderly end.
//!
//! A service binds with [`bind`], which leaves `api.token` and `api.json` in its data folder for the `aimass` command, builds its axum
//! router with [`ApiJson`], [`ApiQuery`] and [`ApiError`], and hands it to [`Loopback::serve`].

mod answer;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aimass_net::identity::durable;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

pub use answer::{ApiError, ApiJson, ApiQuery};

/// Longest body of an ordinary request in bytes. A route that streams (blobs) takes the raw body and keeps its own limit.
pub const MAX_BODY_BYTES: usize = 512 * 1024;
/// How long running requests may take to finish once the service stops; long polls are cut.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// Name of the file that says where the API listens.
pub const ADDRESS_FILE: &str = "api.json";
/// Name of the file with the bearer token.
pub const TOKEN_FILE: &str = "api.token";

/// What `api.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiAddress {
    /// Where the API listens.
    pub address: SocketAddr,
    /// The service's process.
    pub pid: u32,
}

/// The API can't be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopbackError {
    /// Other machines could reach it.
    #[error("the API must listen on this machine alone, not on {address}: use 127.0.0.1 or [::1]")]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Another program has the port.
    #[error("{address} is in use: stop the program that listens there, or choose port 0 for any free one")]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address can't be had for another reason.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A file of the data folder; the message names it.
    #[error("can't write to the data folder: {0}")]
    File(#[source] io::Error),
    /// The operating system gives no randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
}

/// A bound API that does not answer yet.
pub struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
    token: Arc<Zeroizing<String>>,
    address_file: AddressFile,
}

impl std::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loopback").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Binds `listen` and leaves a new `api.token`, then `api.json`, in `data_dir`, which must exist and be this process's own.
///
/// # Errors
/// [`LoopbackError`]; nothing is left behind then but the token.
pub async fn bind(data_dir: &Path, listen: SocketAddr) -> Result<Loopback, LoopbackError> {
    if !listen.ip().is_loopback() {
        return Err(LoopbackError::NotLoopback { address: listen });
    }
    let listener = TcpListener::bind(listen).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => LoopbackError::InUse { address: listen },
        _ => LoopbackError::Listen { address: listen, source },
    })?;
    let address = listener
        .local_addr()
        .map_err(|source| LoopbackError::Listen { address: listen, source })?;

    let mut secret = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(secret.as_mut()).map_err(|_| LoopbackError::Randomness)?;
    let token = Arc::new(Zeroizing::new(hex::encode(secret.as_ref())));

    let (dir, text) = (data_dir.to_owned(), Arc::clone(&token));
    let address_file = tokio::task::spawn_blocking(move || publish(&dir, address, &text))
        .await
        .map_err(|e| LoopbackError::File(io::Error::other(e)))?
        .map_err(LoopbackError::File)?;
    Ok(Loopback {
        listener,
        address,
        token,
        address_file,
    })
}

fn publish(dir: &Path, address: SocketAddr, token: &str) -> io::Result<AddressFile> {
    durable::write(&dir.join(TOKEN_FILE), token.as_bytes())?;
    let path = dir.join(ADDRESS_FILE);
    let content = ApiAddress {
        address,
        pid: std::process::id(),
    };
    durable::write(&path, &serde_json::to_vec(&content)?)?;
    Ok(AddressFile(path))
}

/// Removed when the service ends in order, so that the command says "not running" and not "connection refused".
struct AddressFile(PathBuf);

impl Drop for AddressFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Loopback {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers `router`'s requests until `shutdown`. Every request must carry the token; unknown paths and methods are answered in JSON.
    ///
    /// # Errors
    /// What the listener says.
    pub async fn serve(self, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let app = router
            .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such path in this API") })
            .method_not_allowed_fallback(|| async {
                ApiError::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    "this path does not take this method",
                )
            })
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(middleware::from_fn_with_state(Arc::clone(&self.token), authorize));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = axum::serve(self.listener, app).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let mut server = std::pin::pin!(server.into_future());
        let ended = tokio::select! {
            ended = &mut server => ended,
            () = shutdown => {
                let _ = stop.send(());
                tokio::time::timeout(SHUTDOWN_GRACE, server).await.unwrap_or(Ok(()))
            }
        };
        drop(self.address_file);
        ended
    }
}

async fn authorize(State(token): State<Arc<Zeroizing<String>>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
    if given.is_some_and(|given| given.ct_eq(token.as_bytes()).into()) {
        Ok(next.run(request).await)
    } else {
        let text =
            format!("the API token is missing or wrong: send `Authorization: Bearer` with the content of {TOKEN_FILE} in the data folder");
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text))
    }
}
