//! What is simulated when nothing fails: jobs, agents, their speeds.

use std::time::Duration;

use aimass_federation::coordinator::JobSpec;
use aimass_protocol::descriptor::{CodecName, CodecParams, MaskSuite, Profile};
use aimass_protocol::job::{
    AggregationMode, AggregationSection, DataSection, EvaluateSection, JobFile, JobKind, JobSection, ModelSection, RoundMode, RoundSection,
    StrategyName, StrategySection, TrainSection,
};
use aimass_protocol::{Digest, JobId};

use crate::chance::Chance;

/// Of a thousand jobs, so many mask their contributions.
const SECURE: u64 = 700;
/// Of a thousand scenarios, so many have large cohorts.
const LARGE: u64 = 80;

/// The data contract of every simulated job and agent.
pub(crate) const CONTRACT: &str = "simulated";

/// Most agents of a scenario: sets of agents are bit masks.
pub const MAX_AGENTS: usize = 64;

/// Which round modes the jobs of a scenario have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All synchronous.
    Sync,
    /// All with a deadline for training.
    SemiSync,
    /// All buffered.
    Async,
    /// Each job draws its own.
    Mixed,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sync, Self::SemiSync, Self::Async, Self::Mixed];

    /// The one that a seed stands for when none is named.
    pub fn of_seed(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed % 4).unwrap_or(0)]
    }

    /// A stable word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::SemiSync => "semi_sync",
            Self::Async => "async",
            Self::Mixed => "mixed",
        }
    }

    /// The mode of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    fn draw(self, chance: &mut Chance) -> RoundMode {
        match self {
            Self::Sync => RoundMode::Sync,
            Self::SemiSync => RoundMode::SemiSync,
            Self::Async => RoundMode::Async,
            Self::Mixed => [RoundMode::Sync, RoundMode::SemiSync, RoundMode::Async][usize::try_from(chance.below(3)).unwrap_or(0)],
        }
    }
}

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentPlan {
    /// Its training takes so many times as long as the workload says.
    pub slowness: u32,
    /// A message takes from here to there, in milliseconds.
    pub latency_ms: (u64, u64),
    /// An upload takes from here to there, in milliseconds.
    pub upload_ms: (u64, u64),
}

impl Default for AgentPlan {
    fn default() -> Self {
        Self {
            slowness: 1,
            latency_ms: (5, 200),
            upload_ms: (50, 2000),
        }
    }
}

/// Jobs and agents.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Also seeds the network's and the disks' times.
    pub seed: u64,
    /// The jobs, as they are submitted.
    pub jobs: Vec<JobSpec>,
    /// The devices; at most [`MAX_AGENTS`].
    pub agents: Vec<AgentPlan>,
}

impl Scenario {
    /// 1 to 3 jobs of 2 to 4 rounds, most of them with masks, and 5 to 24 agents, some of them 2 or 4 times slower.
    pub fn generate(seed: u64, mode: Mode) -> Self {
        let mut chance = Chance::new(seed, "jobs");
        let n_jobs = chance.within((1, 3));
        let size_class = chance.per_mille(LARGE);
        let jobs: Vec<JobSpec> = (1..=n_jobs)
            .map(|n| {
                let is_secure = chance.per_mille(SECURE);
                let min = match (is_secure, size_class) {
                    (false, _) => small(&mut chance, (1, 3)),
                    (true, false) => small(&mut chance, (3, 5)),
                    (true, true) => small(&mut chance, (6, 12)),
                };
                let target = min + small(&mut chance, (0, 2));
                let round_mode = mode.draw(&mut chance);
                let mut file = job_file(
                    &format!("job {n}"),
                    RoundSection {
                        mode: round_mode,
                        rounds: small(&mut chance, (2, 4)),
                        min,
                        target,
                        max: target + small(&mut chance, (0, 2)),
                        max_time: Duration::from_secs(chance.within((30, 90))),
                        max_staleness: if round_mode == RoundMode::Async { 4 } else { 0 },
                    },
                );
                file.job.priority = u8::try_from(chance.within((0, 10)) * 10).unwrap_or(50);
                // A dry run: updates of zero, the model stays the same.
                // With masks it would be of no use: nobody masks a second contribution to one model.
                file.train.epochs = u32::from(chance.below(5) > 0 || is_secure);
                if is_secure {
                    file.aggregation.mode = AggregationMode::Secure;
                    file.aggregation.floor = file.aggregation.floor.max(3);
                    file.aggregation.suite = [MaskSuite::Aes256Ctr, MaskSuite::ChaCha20][usize::from(chance.per_mille(500))];
                    file.aggregation.profile = [Profile::Standard, Profile::Hardened][usize::from(chance.per_mille(500))];
                }
                job_spec(n, file)
            })
            .collect();
        let mut chance = Chance::new(seed, "agents");
        let range = match (size_class, jobs.iter().map(|spec: &JobSpec| need(&spec.file)).max()) {
            (true, _) => (16, 24),
            (false, Some(need)) if need > 3 => (7, 14),
            _ => (5, 12),
        };
        let agents = (0..chance.within(range))
            .map(|_| AgentPlan {
                slowness: [1, 1, 1, 2, 2, 4][usize::try_from(chance.below(6)).unwrap_or(0)],
                latency_ms: (5, 5 + chance.within((10, 400))),
                upload_ms: (50, 50 + chance.within((100, 15_000))),
            })
            .collect();
        Self { seed, jobs, agents }
    }

    /// Leaves the first `n` agents.
    pub fn keep_agents(&mut self, n: usize) {
        self.agents.truncate(n);
    }

    /// Fewest agents that can finish every job.
    pub fn need(&self) -> usize {
        self.jobs.iter().map(|spec| need(&spec.file)).max().unwrap_or(1)
    }
}

/// Fewest contributions that make a round of this job.
pub(crate) fn need(file: &JobFile) -> usize {
    size(file.round.min.max(file.aggregation.floor))
}

/// Job `n`, new. Its first model is named by 32 bytes of 255.
pub fn job_spec(n: u64, file: JobFile) -> JobSpec {
    let mut id = [0; JobId::LEN];
    id[..8].copy_from_slice(&(n << 32).to_be_bytes());
    JobSpec {
        id: JobId::from_bytes(id),
        file,
        next_round: 1,
        base: Digest::from_bytes([255; 32]),
        base_bytes: 1000,
        accuracy: None,
        earlier: Vec::new(),
        recent: Vec::new(),
        open: None,
        ended: None,
    }
}

/// A job file with these rounds, and everything else plain and small.
pub fn job_file(name: &str, round: RoundSection) -> JobFile {
    let strategy = match round.mode {
        RoundMode::Async => StrategyName::FedBuff,
        RoundMode::Sync | RoundMode::SemiSync => StrategyName::FedAvg,
    };
    JobFile {
        job: JobSection {
            name: name.to_owned(),
            kind: JobKind::Train,
            seed: 1,
            purpose: "simulation".to_owned(),
            priority: 50,
            tags: Vec::new(),
            device_classes: Vec::new(),
            require: None,
            deadline: None,
        },
        model: ModelSection {
            path: "model.onnx".to_owned(),
            trainable: Vec::new(),
        },
        data: DataSection {
            contract: CONTRACT.to_owned(),
            inputs: Vec::new(),
            target: "label".to_owned(),
        },
        train: TrainSection::sgd(0.1),
        strategy: StrategySection {
            name: strategy,
            server_lr: 1.0,
            fusion: None,
        },
        aggregation: AggregationSection {
            mode: AggregationMode::Plain,
            floor: round.min,
            profile: Profile::Standard,
            suite: MaskSuite::Aes256Ctr,
        },
        round,
        update: CodecParams {
            codec: CodecName::Fixed,
            bits: 16,
            clip: 1.0,
            weight_cap: 100,
        },
        evaluate: Some(EvaluateSection {
            data: Some("test.csv".to_owned()),
            on_devices: None,
            target_accuracy: None,
        }),
        compress: None,
        analyze: None,
        release: None,
        calibration: None,
    }
}

fn small(chance: &mut Chance, range: (u64, u64)) -> u32 {
    u32::try_from(chance.within(range)).unwrap_or(u32::MAX)
}

fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
