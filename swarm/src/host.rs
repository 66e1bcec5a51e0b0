//! A thread with one socket, and the agents that live on it.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use aimass_net::ClientEndpoint;
use anyhow::{Context as _, Result};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::sync::oneshot;

use crate::World;
use crate::agent::Agent;

/// How long an agent gives a connection: a server that is flooded, or has ten thousand others to greet, takes its time.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running host.
pub struct Host {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Host {
    pub(crate) fn start(world: Arc<World>, number: usize, agents: Vec<usize>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (say_ready, ready) = mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("swarm-{number}")).spawn(move || {
            runtime.block_on(async {
                let endpoint = match ClientEndpoint::new() {
                    Ok(endpoint) => endpoint.patience(PATIENCE).keep_alive(world.settings.keep_alive),
                    Err(e) => return drop(say_ready.send(Err(e))),
                };
                drop(say_ready.send(Ok(())));
                let mut rng = ChaCha8Rng::seed_from_u64(world.settings.seed ^ number as u64);
                for index in agents {
                    let pause = world.settings.arrival.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX));
                    tokio::spawn(Agent::new(Arc::clone(&world), index, endpoint.clone()).run(pause));
                }
                // Either way it is over.
                let _ = stopped.await;
            });
            // Drops every task where it stands: connections close without a packet being sent, as those of a killed process do.
            runtime.shutdown_background();
        })?;
        ready.recv().context("the host's thread ended")??;
        Ok(Self { stop, thread })
    }

    /// Ends it as `kill -9` ends a process.
    pub(crate) fn kill(self) {
        drop(self.stop);
        // A thread that panicked has ended as well.
        let _ = self.thread.join();
    }
}
