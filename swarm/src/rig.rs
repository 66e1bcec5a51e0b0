//! A real authority and aggregator, a swarm, and a job whose oracle is known.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aimass_cli::cluster::{Cluster, ClusterSettings};
use aimass_federation::agent::Activity;
use aimass_onnx::{Model, build};
use aimass_protocol::job::{AggregationMode, JobFile};
use anyhow::{Context as _, Result, ensure};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::Value;

use crate::{Audit, CONTRACT, Issuer, Oracle, Settings, Swarm};

/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What a [`Rig`] consists of.
#[derive(Debug, Clone, Default)]
pub struct RigSettings {
    /// Agents.
    pub agents: usize,
    /// Where the agents find the aggregator, if not at its own address: a relay's.
    pub server: Option<String>,
    /// How they behave.
    pub swarm: Settings,
    /// Whether updates are masked in [`Rig::in_rounds`].
    pub mode: AggregationMode,
}

/// The terms of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobTerms {
    /// Weights of the model, at least; also its bytes / 4.
    pub weights: usize,
    /// Rounds.
    pub rounds: u32,
    /// Fewest contributions of a round.
    pub min: usize,
    /// Contributions that make a cohort.
    pub target: usize,
    /// Most agents that work on a round.
    pub max: usize,
    /// Bits of a value before summing.
    pub bits: u8,
    /// How long a round may take, seconds.
    pub max_time_s: u64,
    /// Whether updates are masked: at most 1,024 agents a round then.
    pub mode: AggregationMode,
}

impl Default for JobTerms {
    fn default() -> Self {
        Self {
            weights: 200,
            rounds: 1,
            min: 3,
            target: 3,
            max: 3,
            bits: 24,
            max_time_s: 600,
            mode: AggregationMode::Secure,
        }
    }
}

impl JobTerms {
    /// Rounds of exactly `agents`.
    pub fn all(agents: usize) -> Self {
        Self {
            min: agents,
            target: agents,
            max: agents,
            weights: agents.max(200),
            ..Self::default()
        }
    }

    /// As a job file.
    pub fn job_file(&self) -> String {
        let Self {
            rounds,
            min,
            target,
            max,
            bits,
            max_time_s,
            mode,
            ..
        } = self;
        let mode = match mode {
            AggregationMode::Plain => "plain",
            AggregationMode::Secure => "secure",
        };
        format!(
            "[job]\nname = \"unit vectors\"\nkind = \"train\"\npurpose = \"test\"\n[model]\npath = \"model.onnx\"\n\
             [data]\ncontract = \"{CONTRACT}\"\ntarget = \"label\"\n[train]\nlr = 0.1\n\
             [round]\nmode = \"sync\"\nrounds = {rounds}\nmin = {min}\ntarget = {target}\nmax = {max}\nmax_time = \"{max_time_s}s\"\n\
             [aggregation]\nmode = \"{mode}\"\n[update]\ncodec = \"fixed\"\nbits = {bits}\nclip = 1.0\nweight_cap = 1\n"
        )
    }
}

/// A model of one layer with about as many weights, at least as many.
pub(crate) fn small_model(weights: usize) -> Model {
    const CLASSES: usize = 10;
    build::mlp(&[weights.div_ceil(CLASSES), CLASSES], 1)
}

/// See the module.
pub struct Rig {
    /// The services.
    pub cluster: Cluster,
    /// The agents.
    pub swarm: Swarm,
    job: Option<(String, Arc<Oracle>)>,
}

impl Rig {
    /// Starts the services of `program` in `folder`.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn services(program: &Path, folder: &Path, settings: ClusterSettings) -> Result<Cluster> {
        Cluster::start_with(program, folder, settings, &|| false)
    }

    /// Puts agents with certificates of the cluster's authority before its aggregator.
    ///
    /// # Errors
    /// When the certificates can't be made, or the agents not be started.
    pub fn new(cluster: Cluster, settings: RigSettings) -> Result<Self> {
        let issuer = Issuer::open(&cluster.authority_dir())?;
        let server = settings.server.unwrap_or_else(|| cluster.server_address().to_owned());
        let mut rng = ChaCha20Rng::seed_from_u64(settings.swarm.seed);
        let members: Result<Vec<_>> = (0..settings.agents).map(|_| issuer.issue(&server, &mut rng)).collect();
        Ok(Self {
            swarm: Swarm::start(members?, settings.swarm)?,
            cluster,
            job: None,
        })
    }

    /// Submits a job on these terms and tells the agents' oracle.
    ///
    /// # Errors
    /// When the aggregator refuses it.
    pub fn submit(&mut self, terms: &JobTerms) -> Result<()> {
        let (file, model) = (terms.job_file(), small_model(terms.weights));
        let oracle = Arc::new(Oracle::new(&model, &JobFile::parse(&file)?, self.swarm.len())?);
        self.swarm.set_oracle(Arc::clone(&oracle));
        let id = self.cluster.submit(&file, model.as_bytes())?;
        self.job = Some((id, oracle));
        Ok(())
    }

    /// The job as the API shows it.
    ///
    /// # Errors
    /// When there is none, or the aggregator does not answer.
    pub fn job(&self) -> Result<Value> {
        let (id, _) = self.known_job()?;
        Ok(self.cluster.server().get(&format!("/v1/jobs/{id}"))?)
    }

    /// Stops the job and lets its agents hear what became of their work.
    ///
    /// # Errors
    /// When the aggregator does not answer.
    pub fn stop_job(&mut self) -> Result<()> {
        let (id, _) = self.known_job()?;
        let _: Value = self.cluster.server().post(&format!("/v1/jobs/{id}/stop"), &serde_json::json!({}))?;
        self.wait_until("the job's end", Duration::from_secs(60), |rig| Ok(rig.job()?["state"] != "running"))
    }

    fn known_job(&self) -> Result<&(String, Arc<Oracle>)> {
        self.job.as_ref().context("no job was submitted")
    }

    /// Waits until `done` holds.
    ///
    /// # Errors
    /// When it does not within `within`, a service has ended, or `done` fails.
    pub fn wait_until(&mut self, what: &str, within: Duration, done: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !done(self)? {
            self.cluster.check()?;
            ensure!(
                begin.elapsed() < within,
                "{what}: not within {within:?}; {} agents are online, troubles: {:?}",
                self.swarm.tally().online(),
                self.swarm.tally().troubles()
            );
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The same, with all agents in rounds that need each of them, without end; the first one is done.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub fn in_rounds(cluster: Cluster, settings: RigSettings, weights: usize, within: Duration) -> Result<Self> {
        let (agents, mode) = (settings.agents, settings.mode);
        let mut rig = Self::new(cluster, settings)?;
        rig.wait_online(within)?;
        rig.submit(&JobTerms {
            weights,
            rounds: 1_000_000,
            mode,
            ..JobTerms::all(agents)
        })?;
        rig.wait_round(1, within)?;
        Ok(rig)
    }

    /// Waits until all agents are connected.
    ///
    /// # Errors
    /// As [`Rig::wait_until`].
    pub fn wait_online(&mut self, within: Duration) -> Result<()> {
        self.wait_until("all agents online", within, |rig| Ok(rig.swarm.tally().online() == rig.swarm.len()))
    }

    /// Waits until the job has finished `round` rounds.
    ///
    /// # Errors
    /// As [`Rig::wait_until`].
    pub fn wait_round(&mut self, round: u64, within: Duration) -> Result<()> {
        self.wait_until(&format!("round {round}"), within, |rig| {
            Ok(rig.job()?["round"].as_u64().unwrap_or_default() >= round)
        })
    }

    /// Waits until the job is in `phase`, and where that is collecting, has received so many updates. Returns the last finished round.
    ///
    /// # Errors
    /// When it does not get there within `within`, or the aggregator does not answer.
    pub fn wait_phase(&self, phase: &str, received: u64, within: Duration) -> Result<u64> {
        let begin = Instant::now();
        loop {
            let view = self.job()?;
            if view["phase"] == phase && (phase != "collecting" || view["received"].as_u64() >= Some(received)) {
                return Ok(view["round"].as_u64().unwrap_or_default());
            }
            ensure!(begin.elapsed() < within, "no {phase} within {within:?}: {view}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until no agent has work under way that the server knows of, then audits the job.
    ///
    /// # Errors
    /// As [`Rig::wait_until`] and [`Audit::of`].
    pub fn audit(&mut self, within: Duration) -> Result<Audit> {
        let busy = [
            Activity::Offering,
            Activity::Encoding,
            Activity::Uploading,
            Activity::AwaitingOutcome,
        ];
        self.wait_until("agents at rest", within, |rig| {
            Ok(busy.iter().all(|&activity| rig.swarm.tally().doing(activity) == 0))
        })?;
        let (id, oracle) = self.known_job()?;
        Audit::of(self.cluster.server(), id, oracle, &self.swarm)
    }

    /// Ends the agents, then the services.
    pub fn stop(self) {
        drop(self.swarm);
        self.cluster.stop();
    }
}
