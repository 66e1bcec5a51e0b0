//! Keeps what this device serves as the server says it.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Driver, RunOptions};
use crate::run::RunError;
use crate::run::serving::{self, Followed, Given};
use crate::run::tasks::Message;
use crate::shelf::Shelf;

use aimass_net::NetError;

/// The server is asked at check-ins, and not more often than this.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What is known of it.
pub(super) struct Following {
    shelf: Shelf,
    is_asking: bool,
    asked: Option<Instant>,
    /// A connection whose server knows no releases.
    unsupported: Option<u64>,
    memory: Option<AbortHandle>,
}

impl Following {
    /// Must be called within a runtime.
    pub(super) fn start(options: &RunOptions) -> Self {
        let shelf = Shelf::new(options.state.data_dir());
        let (checked, max_file_bytes) = (shelf.clone(), u64::from(options.models.max_mib) << 20);
        let watched = serving::watch_memory(shelf.clone(), options.models.clone());
        let watched = async move {
            // First, so that a size is chosen of what can be served.
            let _ = tokio::task::spawn_blocking(move || serving::check_served(&checked, max_file_bytes)).await;
            watched.await;
        };
        Self {
            memory: options.models.keep.then(|| tokio::spawn(watched).abort_handle()),
            shelf,
            is_asking: false,
            asked: None,
            unsupported: None,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.abort();
        }
    }
}

impl Driver {
    /// Asks what is to be served, unless that was asked a moment ago.
    pub(super) fn follow_releases(&mut self) -> Result<(), RunError> {
        let Some((number, connection)) = self.network.connection.clone() else {
            return Ok(());
        };
        let following = &mut self.following;
        let recent = following.asked.is_some_and(|at| at.elapsed() < ASK_EVERY);
        if !self.options.models.keep || following.is_asking || recent || following.unsupported == Some(number) {
            return Ok(());
        }
        (following.is_asking, following.asked) = (true, Some(Instant::now()));
        let shelf = following.shelf.clone();
        let bench = self.bench();
        let enrolment = self.enrolment()?;
        let given = Given {
            shelf,
            tenant: enrolment.membership().tenant.clone(),
            bundle: enrolment.bundle().content().clone(),
            device: bench.device,
            max_file_bytes: bench.max_file_bytes,
        };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let followed = serving::follow(&connection, &given).await;
            let _ = sender.send(Message::Followed {
                connection: number,
                followed,
            });
        });
        Ok(())
    }

    pub(super) fn on_followed(&mut self, connection: u64, followed: Result<Followed, NetError>) {
        self.following.is_asking = false;
        match followed {
            Ok(Followed::Well) => {}
            Ok(Followed::Unsupported) => self.following.unsupported = Some(connection),
            Err(error) => tracing::debug!(%error, "what is to be served could not be asked; it is asked again"),
        }
    }
}
