//! Where requests come in: a bounded number of connections, none of them idle for ever.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Most connections of a listener; further ones wait.
const MAX_CONNECTIONS: usize = 256;
/// A connection on which nothing moves for so long is closed; a request's own limits are shorter.
const IDLE: Duration = Duration::from_secs(120);

/// There is no such endpoint to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Other machines could reach it.
    #[error(
        "{address} can be reached by other machines, and there is neither encryption nor a password: listen on 127.0.0.1 or a Unix socket, \
         or allow it by name (--insecure-listen)"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Another program has it.
    #[error("{at} is in use: stop the program that listens there, or choose another")]
    InUse {
        /// The address or path.
        at: String,
    },
    /// A file that is no socket.
    #[error("{} is there and is no socket: choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another reason.
    #[error("can't listen on {at}: {source}")]
    Io {
        /// The address or path.
        at: String,
        /// Why.
        source: io::Error,
    },
}

impl ListenError {
    fn of(at: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { at },
            _ => Self::Io { at, source },
        }
    }
}

/// Bound endpoints that do not answer yet. Must be made within a runtime.
#[derive(Debug, Default)]
pub struct Endpoints {
    pub(super) tcp: Option<Bounded<TcpListener>>,
    #[cfg(unix)]
    pub(super) unix: Option<(Bounded<tokio::net::UnixListener>, SocketFile)>,
    #[cfg(not(unix))]
    pub(super) unix: (),
    address: Option<SocketAddr>,
}

impl Endpoints {
    /// Adds a TCP address. One that other machines can reach must be allowed.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn tcp(mut self, address: SocketAddr, allow_others: bool) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() && !allow_others {
            return Err(ListenError::NotLoopback { address });
        }
        let failed = |source| ListenError::of(address.to_string(), source);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        self.address = Some(listener.local_addr().map_err(failed)?);
        self.tcp = Some(Bounded::new(listener));
        Ok(self)
    }

    /// Adds a Unix socket that only this user can connect to. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`ListenError`].
    #[cfg(unix)]
    pub async fn unix(mut self, path: &Path) -> Result<Self, ListenError> {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        let at = || path.display().to_string();
        let failed = |source| ListenError::of(at(), source);
        if let Ok(meta) = std::fs::symlink_metadata(path) {
            if !meta.file_type().is_socket() {
                return Err(ListenError::NotASocket { path: path.to_owned() });
            }
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(ListenError::InUse { at: at() });
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = tokio::net::UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        self.unix = Some((Bounded::new(listener), SocketFile(path.to_owned())));
        Ok(self)
    }

    /// There are no Unix sockets here.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    pub async fn unix(self, path: &Path) -> Result<Self, ListenError> {
        Err(ListenError::Io {
            at: path.display().to_string(),
            source: io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets; use a TCP address"),
        })
    }

    /// Where TCP connections come in, with the port that was chosen.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

/// A Unix socket's file, removed at the end.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A listener with a limit of connections.
pub(super) struct Bounded<L> {
    listener: L,
    permits: Arc<Semaphore>,
}

impl<L> fmt::Debug for Bounded<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bounded")
    }
}

impl<L> Bounded<L> {
    fn new(listener: L) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Held<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (io, address) = self.listener.accept().await;
        let held = Held {
            io,
            idle: Box::pin(tokio::time::sleep(IDLE)),
            _permit: permit,
        };
        (held, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that holds its place, and is closed once it is idle for too long.
pub(super) struct Held<S> {
    io: S,
    idle: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S> Held<S> {
    /// Something moved, or nothing did for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
        } else if self.idle.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.watch(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, buf);
        this.watch(cx, polled)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, parts);
        this.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
