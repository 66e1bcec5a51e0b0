//! A simulated server: the coordinator, its driver, its memory and its disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aimass_compression::Accumulator;
use aimass_federation::RequestKind;
use aimass_federation::coordinator::{Config, Coordinator, Effect, Event, JobSpec, OpenRound, PhaseName, RestoredRound, UnmaskingRecord};
use aimass_protocol::job::AggregationMode;
use aimass_protocol::log::LogEvent;
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId};

use super::masks::Described;
use super::{Ask, Happening, World};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::fault::{Fault, Key};
use crate::log::Log;
use crate::oracle::Violation;
use crate::scenario::Scenario;
use crate::trust::Trust;

/// The coordinator's state is measured once in so many steps.
const MEASURE_EVERY: u64 = 64;

/// What a write takes on a slow disk, times how slow it is.
const WRITE_MS: (u64, u64) = (1, 40);

/// Work that the server does off its reactor.
#[derive(Debug, Clone)]
pub(super) enum Task {
    Add {
        cohort: CohortId,
        agent: AgentId,
        contribution: ContributionId,
    },
    Publish {
        job: JobId,
        cohort: CohortId,
        round: u32,
        base: Digest,
        survivors: Vec<(AgentId, ContributionId)>,
    },
}

/// What survives a kill.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// With the rounds that were published.
    pub(super) jobs: BTreeMap<JobId, JobSpec>,
    pub(super) open: BTreeMap<JobId, OpenOnDisk>,
    /// Jobs that the operator wants to end.
    pub(super) stops: BTreeSet<JobId>,
    pub(super) revoked: BTreeSet<AgentId>,
    pub(super) log: Log,
}

/// A round that is not published yet.
#[derive(Debug)]
pub(super) struct OpenOnDisk {
    pub(super) open: OpenRound,
    /// What is on record as added.
    pub(super) durable: BTreeMap<AgentId, (ContributionId, Vec<u8>)>,
}

/// A request that has no answer yet.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) connection: u64,
    pub(super) request: u64,
    pub(super) ask: Ask,
}

impl Open {
    pub(super) fn uploads_into(&self, cohort: CohortId) -> bool {
        matches!(self.ask, Ask::Event(Event::UploadBegun { cohort: of, .. }) if of == cohort)
    }
}

/// An upload under way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) device: usize,
    pub(super) connection: u64,
    pub(super) agent: AgentId,
    pub(super) cohort: CohortId,
    pub(super) contribution: ContributionId,
    pub(super) since: u64,
}

/// How much of an upload is there, in milliseconds of transfer. It lies in files, which survive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spooled {
    pub(super) done_ms: u64,
    pub(super) all_ms: u64,
}

pub(super) struct Server {
    pub(super) coordinator: Coordinator,
    rng: Chance,
    pub(super) clock: Clock,
    pub(super) up: bool,
    /// Counts starts of the process; what an earlier one began is lost.
    pub(super) life: u64,
    /// It writes to its disk until then, and does nothing else: its driver waits for what has to be durable.
    pub(super) busy_until: u64,
    steps: u64,
    steps_in: BTreeMap<PhaseName, u64>,
    pub(super) opens: u64,
    pub(super) seals: u64,
    pub(super) adds: u64,
    pub(super) publishes: u64,
    pub(super) connections: BTreeSet<u64>,
    pub(super) open: BTreeMap<(AgentId, RequestKind), Open>,
    pub(super) sums: BTreeMap<CohortId, Accumulator>,
    /// Whole uploads that are not on record yet.
    pub(super) received: BTreeMap<(CohortId, AgentId), (ContributionId, Vec<u8>)>,
    /// Cohorts that could not be made durable.
    pub(super) unopened: BTreeSet<CohortId>,
    /// Cohorts with masks whose survivors could not be made durable.
    pub(super) unsealed: BTreeSet<CohortId>,
    /// What takes the masks off sums, whether it is on the disk or not.
    pub(super) unmaskings: BTreeMap<CohortId, UnmaskingRecord>,
    pub(super) described: BTreeMap<CohortId, Described>,
    pub(super) transfers: BTreeMap<u64, Transfer>,
    pub(super) spool: BTreeMap<(AgentId, CohortId, ContributionId), Spooled>,
    pub(super) disk: Disk,
    /// Rounds that a driver which forgets to store them has only in memory: what its disk holds instead.
    pub(super) forgotten: BTreeMap<JobId, (JobSpec, Option<OpenOnDisk>)>,
    n_agents: usize,
}

impl Server {
    pub(super) fn new(scenario: &Scenario, trust: &Trust) -> Self {
        let jobs = scenario.jobs.iter().map(|spec| (spec.id, spec.clone())).collect();
        let mut log = Log::default();
        for spec in &scenario.jobs {
            log.append(trust, Clock::default().read(0), spec.id, LogEvent::Base { model: spec.base });
        }
        Self {
            coordinator: Coordinator::new(Config::default()),
            rng: Chance::new(scenario.seed, "coordinator"),
            clock: Clock::default(),
            up: false,
            life: 0,
            busy_until: 0,
            steps: 0,
            steps_in: BTreeMap::new(),
            opens: 0,
            seals: 0,
            adds: 0,
            publishes: 0,
            connections: BTreeSet::new(),
            open: BTreeMap::new(),
            sums: BTreeMap::new(),
            received: BTreeMap::new(),
            unopened: BTreeSet::new(),
            unsealed: BTreeSet::new(),
            unmaskings: BTreeMap::new(),
            described: BTreeMap::new(),
            transfers: BTreeMap::new(),
            spool: BTreeMap::new(),
            disk: Disk {
                jobs,
                log,
                ..Disk::default()
            },
            forgotten: BTreeMap::new(),
            n_agents: scenario.agents.len(),
        }
    }

    pub(super) fn timeout(&self) -> Option<u64> {
        let due = self.coordinator.poll_timeout().filter(|_| self.up)?;
        Some(self.clock.when(due).max(self.busy_until))
    }

    /// Without faults, every job publishes at least once in this time.
    pub(super) fn patience_ms(&self) -> u64 {
        let slowest = self.disk.jobs.values().map(|spec| spec.file.round.max_time.as_millis()).max();
        let slowest = u64::try_from(slowest.unwrap_or(0)).unwrap_or(u64::MAX / 1000);
        1_800_000 + 20 * slowest * self.disk.jobs.len() as u64
    }

    /// Most bytes that the coordinator's state takes written out: each job with its file, what it remembers of its rounds, and something for each agent.
    fn state_limit(&self) -> usize {
        let config = Config::default();
        let of_jobs = self.disk.jobs.values().map(|spec| {
            let round = &spec.file.round;
            let members = usize::try_from(round.max).unwrap_or(0);
            let remembered = config.remembered_rounds.min(usize::try_from(round.rounds).unwrap_or(0));
            let masks = match spec.file.aggregation.mode {
                AggregationMode::Plain => 0,
                AggregationMode::Secure => 4000 + members * 20_000 + members * members * 3000,
            };
            4000 + remembered * (200 + 60 * members) + self.n_agents * 1000 + masks
        });
        2000 + self.n_agents * 100 + of_jobs.sum::<usize>()
    }
}

impl World {
    pub(super) fn start_server(&mut self) {
        if self.server.up {
            return;
        }
        let server = &mut self.server;
        server.coordinator = Coordinator::new(Config::default());
        server.up = true;
        let life = server.life;
        self.note(|| "-- the server starts".to_owned());
        let specs: Vec<JobSpec> = self
            .server
            .disk
            .jobs
            .values()
            .map(|spec| JobSpec {
                open: self.server.disk.open.get(&spec.id).map(|on_disk| RestoredRound {
                    open: on_disk.open.clone(),
                    durable: on_disk
                        .durable
                        .iter()
                        .map(|(agent, (contribution, _))| (*agent, *contribution))
                        .collect(),
                }),
                ..spec.clone()
            })
            .collect();
        for spec in specs {
            let job = spec.id;
            self.published_at.entry(job).or_insert(self.now);
            let before = self.oracle.open_cohort(job);
            self.tell_server(Event::AddJob(Box::new(spec)));
            if self.server.life != life {
                return;
            }
            self.check_phase(job, before);
            if self.server.disk.stops.contains(&job) && self.server.disk.jobs[&job].ended.is_none() {
                self.tell_server(Event::StopJob { job });
            }
        }
    }

    /// A cohort that was at work goes on in the phase that it was in.
    fn check_phase(&mut self, job: JobId, before: Option<(CohortId, bool)>) {
        let Some((cohort, sealed)) = before else { return };
        let is_secure = self.server.disk.jobs[&job].file.aggregation.mode == AggregationMode::Secure;
        let expected = match sealed {
            false => PhaseName::Collecting,
            true if is_secure && !self.oracle.is_unmasking_kept(cohort) => PhaseName::Unmasking,
            true => PhaseName::Publishing,
        };
        let phase = self.server.coordinator.job(job).map(|view| view.phase);
        if self.oracle.open_cohort(job).is_some() && (phase != Some(expected) || !self.server.sums.contains_key(&cohort)) {
            let what = format!("cohort {cohort} was open, sealed: {sealed}; the restarted server is at {phase:?}");
            self.oracle.violate(Violation::PhaseLost { job, what });
        }
    }

    pub(super) fn kill_server(&mut self, down_ms: u64) {
        if !self.server.up {
            return;
        }
        self.note(|| "-- the server is killed".to_owned());
        for view in self.server.coordinator.jobs() {
            *self.report.server_kills.entry(view.phase).or_insert(0) += 1;
        }
        let connections = std::mem::take(&mut self.server.connections);
        for connection in connections {
            self.cut(connection);
        }
        let server = &mut self.server;
        server.up = false;
        server.life += 1;
        server.busy_until = 0;
        server.open.clear();
        server.sums.clear();
        server.received.clear();
        server.unopened.clear();
        server.unsealed.clear();
        server.unmaskings.clear();
        server.described.clear();
        server.transfers.clear();
        for (job, (spec, open)) in std::mem::take(&mut server.forgotten) {
            server.disk.jobs.insert(job, spec);
            server.disk.open.extend(open.map(|open| (job, open)));
        }
        self.oracle.server_killed();
        self.at(self.now + down_ms, Happening::StartServer);
    }

    pub(super) fn tell_server(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if !self.server.up || self.oracle.violation.is_some() {
                return;
            }
            self.step_server(event, &mut events);
        }
    }

    fn step_server(&mut self, event: Event, events: &mut VecDeque<Event>) {
        let server = &mut self.server;
        let now = server.clock.read(self.now);
        let mut effects = Vec::new();
        server.coordinator.step(now, event, server.rng.rng(), &mut effects);
        let step = server.steps;
        server.steps += 1;
        self.report.server_steps += 1;
        if let Some(at) = server.coordinator.poll_timeout()
            && at <= now
        {
            let what = format!("its timer is set to {at} at {now}");
            let who = "the server".to_owned();
            self.oracle.violate(Violation::Spin { who, what });
        }
        if step.is_multiple_of(MEASURE_EVERY) {
            self.measure();
        }
        let kill = self.kill_due(step);
        for (index, effect) in effects.into_iter().enumerate() {
            if kill.is_some_and(|(at, _)| at == index) {
                break;
            }
            self.note(|| format!("server {effect:?}"));
            self.perform(effect, events);
        }
        if let Some((_, down_ms)) = kill {
            self.kill_server(down_ms);
        }
    }

    /// Whether the server is killed in this step: after which effect, and for how long.
    fn kill_due(&mut self, step: u64) -> Option<(usize, u64)> {
        let mut keys = vec![Key::ServerStep(step)];
        let phases: BTreeSet<PhaseName> = self
            .server
            .coordinator
            .jobs()
            .filter(|view| view.seats > 0 || view.members > 0)
            .map(|view| view.phase)
            .collect();
        for phase in phases {
            let count = self.server.steps_in.entry(phase).or_insert(0);
            keys.push(Key::ServerStepIn(phase, *count));
            *count += 1;
        }
        keys.into_iter().find_map(|key| match self.faults.take(self.now, key) {
            Some(Fault::KillServer { effect, down_ms, .. } | Fault::KillServerIn { effect, down_ms, .. }) => Some((effect, down_ms)),
            _ => None,
        })
    }

    /// Its length in writing stands for the memory that the coordinator takes.
    fn measure(&mut self) {
        let bytes = format!("{:?}", self.server.coordinator).len();
        let most = self.server.state_limit();
        self.report.largest_state_bytes = self.report.largest_state_bytes.max(bytes);
        if bytes > most {
            self.oracle.violate(Violation::Memory { bytes, most });
        }
    }

    fn perform(&mut self, effect: Effect, events: &mut VecDeque<Event>) {
        let is_write = matches!(
            effect,
            Effect::OpenRound(_)
                | Effect::ForgetCohort { .. }
                | Effect::Seal { .. }
                | Effect::Unmask { .. }
                | Effect::DropSum { .. }
                | Effect::JobEnded { .. }
        );
        if is_write {
            let took = self.write_ms(None);
            self.server.busy_until = self.server.busy_until.max(self.now) + took;
        }
        match effect {
            Effect::Reply { agent, reply } => self.reply(agent, reply),
            Effect::OpenRound(open) => self.open_round(open, events),
            Effect::Add {
                cohort,
                agent,
                contribution,
            } => {
                if !self.server.unopened.contains(&cohort) {
                    let task = Task::Add {
                        cohort,
                        agent,
                        contribution,
                    };
                    self.work((1, 1_500), task);
                }
            }
            Effect::Describe(terms) => events.extend(self.describe(terms)),
            Effect::ForgetCohort { terms, draws } => self.forget_cohort(&terms, draws),
            Effect::Seal { cohort, survivors } => events.extend(self.seal(cohort, &survivors)),
            Effect::Unmask { cohort, unmasking } => self.keep_unmasking(cohort, unmasking),
            Effect::Aggregate {
                job,
                cohort,
                round,
                base,
                survivors,
            } => {
                let task = Task::Publish {
                    job,
                    cohort,
                    round,
                    base,
                    survivors,
                };
                self.work((10, 3_000), task);
            }
            Effect::DropSum { cohort } => self.drop_sum(cohort),
            Effect::JobEnded { job, end } => {
                if let Some(spec) = self.server.disk.jobs.get_mut(&job) {
                    spec.ended = Some(end);
                }
            }
        }
    }

    /// Does something off the reactor.
    fn work(&mut self, within_ms: (u64, u64), task: Task) {
        let factor = self.faults.disk_factor(self.now, None);
        let took = self.chance.within(within_ms) * factor;
        let life = self.server.life;
        self.at(self.now + took, Happening::Done { life, task });
    }

    /// How long a write takes on the disk of the server or of a device: no time, unless it is slow.
    pub(super) fn write_ms(&mut self, of: Option<usize>) -> u64 {
        match self.faults.disk_factor(self.now, of) {
            1 => 0,
            factor => self.chance.within(WRITE_MS) * factor,
        }
    }
}
