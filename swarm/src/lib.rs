//! For tests and benches: many agents in one process, over few UDP sockets.
//!
//! Each has an identity, a certificate of the real authority, a connection of its own, and drives the real session. Only training is replaced,
//! by an [`Oracle`]: agent i's contribution is the i-th unit vector, so that a published model shows who was counted, and how often.
//! Agents live on hosts, threads with one socket each; a host that is killed says no goodbye, and its agents keep what they had persisted.

mod agent;
mod audit;
mod host;
mod issuer;
mod oracle;
mod rig;
mod tally;
mod upload;

pub use audit::Audit;
pub use host::Host;
pub use issuer::{Issuer, Member};
pub use oracle::{Oracle, OracleError};
pub use rig::{JobTerms, Rig, RigSettings};
pub use tally::{Passage, Tally};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aimass_federation::agent::{Masks, Snapshot};
use aimass_protocol::{CohortId, Digest};
use anyhow::{Context as _, Result};

/// The name of the data contract that a swarm's agents hold.
pub const CONTRACT: &str = "swarm";

/// How a swarm behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads with a socket each that the agents are spread over.
    pub hosts: usize,
    /// Agents of a host come up within this time, not all at once.
    pub arrival: Duration,
    /// How long training takes at the least and at the most.
    pub training: (Duration, Duration),
    /// See `ClientEndpoint::keep_alive`; also how soon a killed server is noticed.
    pub keep_alive: Duration,
    /// First pause before a lost connection is made again.
    pub backoff_first: Duration,
    /// Of everything random that is no key.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: 1,
            arrival: Duration::ZERO,
            training: (Duration::ZERO, Duration::ZERO),
            keep_alive: Duration::from_secs(10),
            backoff_first: Duration::from_secs(1),
            seed: 1,
        }
    }
}

/// What its agents share.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) members: Vec<Member>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) tally: Tally,
    pub(crate) oracle: Mutex<Option<Arc<Oracle>>>,
    pub(crate) clock: agent::Clock,
}

impl World {
    pub(crate) fn oracle(&self) -> Option<Arc<Oracle>> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What an agent would have on its disk.
#[derive(Default)]
pub(crate) struct Disk(Mutex<Stored>);

/// The contents of a [`Disk`].
#[derive(Default, Clone)]
pub(crate) struct Stored {
    pub(crate) snapshot: Snapshot,
    /// The model that was fetched last.
    pub(crate) model: Option<Digest>,
    /// What stands for the masked residues of a cohort.
    pub(crate) masks: Option<(CohortId, Masks)>,
    /// How often the agent was started.
    pub(crate) starts: u64,
}

impl Disk {
    pub(crate) fn read(&self) -> Stored {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn write(&self, change: impl FnOnce(&mut Stored)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Many agents.
pub struct Swarm {
    world: Arc<World>,
    /// `None` while killed.
    hosts: Vec<Option<Host>>,
}

impl Swarm {
    /// Starts an agent for each member.
    ///
    /// # Errors
    /// When a host finds no thread or socket.
    pub fn start(members: Vec<Member>, settings: Settings) -> Result<Self> {
        let hosts = settings.hosts.clamp(1, members.len().max(1));
        let world = Arc::new(World {
            tally: Tally::new(members.len()),
            disks: members.iter().map(|_| Disk::default()).collect(),
            oracle: Mutex::default(),
            clock: agent::Clock::start(),
            settings,
            members,
        });
        let mut swarm = Self {
            world,
            hosts: (0..hosts).map(|_| None).collect(),
        };
        for host in 0..hosts {
            swarm.revive(host)?;
        }
        Ok(swarm)
    }

    /// What training gives from now on; without one, agents decline every job.
    pub fn set_oracle(&self, oracle: Arc<Oracle>) {
        *self.world.oracle.lock().unwrap_or_else(PoisonError::into_inner) = Some(oracle);
    }

    /// Agents in all.
    pub fn len(&self) -> usize {
        self.world.members.len()
    }

    /// Whether there is no agent.
    pub fn is_empty(&self) -> bool {
        self.world.members.is_empty()
    }

    /// Hosts in all.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// What happened so far.
    pub fn tally(&self) -> &Tally {
        &self.world.tally
    }

    /// Ends a host's agents as `kill -9` does: nothing more is sent, nothing more is persisted.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn kill(&mut self, host: usize) -> Result<()> {
        let place = self.hosts.get_mut(host).context("no such host")?;
        if let Some(running) = place.take() {
            running.kill();
        }
        for index in self.agents_of(host) {
            self.world.tally.gone(index);
        }
        Ok(())
    }

    /// Starts a killed host's agents again, with what they had persisted.
    ///
    /// # Errors
    /// When it finds no thread or socket, or there is no such host.
    pub fn revive(&mut self, host: usize) -> Result<()> {
        let agents = self.agents_of(host).collect();
        let place = self.hosts.get_mut(host).context("no such host")?;
        if place.is_none() {
            *place = Some(Host::start(Arc::clone(&self.world), host, agents)?);
        }
        Ok(())
    }

    fn agents_of(&self, host: usize) -> impl Iterator<Item = usize> + use<> {
        (host..self.len()).step_by(self.hosts.len())
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for host in self.hosts.iter_mut().filter_map(Option::take) {
            host.kill();
        }
    }
}
