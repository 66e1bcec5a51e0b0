//! Time, network, faults.

use std::collections::BTreeMap;
use std::time::Duration;

use aimass_protocol::{AgentId, ContributionId, Digest, JobId, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::device::Device;
use super::faults::Faults;
use super::server::{Server, Task};
use crate::RequestKind;
use crate::agent::Event as News;
use crate::coordinator::{Event, JobEnd, JobSpec, PhaseName};
use crate::fixtures::{agent, job, job_spec, rng};

#[derive(Debug, Clone)]
pub(super) enum Happening {
    /// A request reaches the server.
    Request {
        agent: AgentId,
        connection: u64,
        request: u64,
        kind: RequestKind,
        event: Event,
    },
    /// All chunks of an upload are there.
    UploadDone {
        agent: AgentId,
        connection: u64,
        event: Event,
    },
    /// Something reaches a device through its connection, in answer to a request.
    Answer {
        agent: AgentId,
        connection: u64,
        request: u64,
        kind: RequestKind,
        news: News,
        even_if_stale: bool,
    },
    /// Something happens inside a device.
    Local {
        agent: AgentId,
        life: u64,
        news: News,
    },
    /// The server's workers are done with something.
    Done {
        life: u64,
        task: Task,
    },
    /// A stored round is announced.
    Announce {
        life: u64,
        event: Event,
    },
    /// A connection attempt arrives.
    Connect {
        agent: AgentId,
        life: u64,
    },
    /// A connection is broken; both sides learn it in their own time.
    Broken {
        agent: AgentId,
        connection: u64,
    },
    ServerLosesAgent {
        agent: AgentId,
        connection: u64,
    },
    DeviceLosesServer {
        agent: AgentId,
        connection: u64,
    },
    StartDevice {
        agent: AgentId,
    },
    StartServer,
    /// The operator stops a job.
    Stop {
        job: JobId,
    },
}

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) seq: u64,
    pub(super) queue: BTreeMap<(Timestamp, u64), Happening>,
    pub(super) chance: ChaCha8Rng,
    pub(super) server_rng: ChaCha8Rng,
    pub(super) faults: Faults,
    pub(super) server: Server,
    pub(super) devices: BTreeMap<AgentId, Device>,
    pub(super) included: BTreeMap<ContributionId, (JobId, u32, Digest)>,
    pub(super) server_kills: BTreeMap<PhaseName, u32>,
    pub(super) kills_after_store: u32,
    pub(super) refusals: u32,
    pub(super) trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut jobs: Vec<JobSpec> = vec![job_spec(1), job_spec(2)];
        jobs[1].file.job.priority = 60;
        jobs[1].file.train.epochs = if seed.is_multiple_of(2) { 0 } else { 1 };
        jobs[0].file.aggregation.floor = 3;
        let devices = (1..=5 + u8::try_from(seed % 3).expect("below three"))
            .map(|n| (agent(n), Device::new(agent(n))))
            .collect();
        let mut world = Self {
            now: Timestamp::default(),
            seq: 0,
            queue: BTreeMap::new(),
            chance: rng(seed),
            server_rng: rng(!seed),
            faults,
            server: Server::new(jobs),
            devices,
            included: BTreeMap::new(),
            server_kills: BTreeMap::new(),
            kills_after_store: 0,
            refusals: 0,
            trace: None,
        };
        world.soon(0, 100, Happening::StartServer);
        for agent in world.devices.keys().copied().collect::<Vec<_>>() {
            world.soon(0, 3000, Happening::StartDevice { agent });
        }
        if faults.stops && seed % 5 == 3 {
            world.soon(5_000, 300_000, Happening::Stop { job: job(2) });
        }
        world
    }

    pub(super) fn record(&mut self) {
        self.trace = Some(Vec::new());
    }

    pub(super) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn refusals(&self) -> u32 {
        self.refusals
    }

    pub(super) fn included_told(&self) -> u64 {
        self.included.len() as u64
    }

    pub(super) fn stopped(&self) -> usize {
        self.server.jobs.values().filter(|spec| spec.ended == Some(JobEnd::Stopped)).count()
    }

    pub(super) fn server_kills(&self) -> &BTreeMap<PhaseName, u32> {
        &self.server_kills
    }

    pub(super) fn kills_after_store(&self) -> u32 {
        self.kills_after_store
    }

    pub(super) fn assert_all_finished(&self) {
        for spec in self.server.jobs.values() {
            if spec.ended == Some(JobEnd::Stopped) {
                assert!(self.faults.stops, "nobody stopped it");
                continue;
            }
            assert_eq!(
                spec.ended,
                Some(JobEnd::Finished { target_reached: false }),
                "{} at {}",
                spec.id,
                self.now
            );
            assert_eq!(spec.recent.len(), spec.file.round.rounds as usize);
        }
    }

    /// Runs until all jobs have ended, or until `limit`.
    pub(super) fn run(&mut self, limit: Timestamp) {
        while self.now < limit && self.server.jobs.values().any(|spec| spec.ended.is_none()) {
            let happening = self.queue.first_key_value().map(|((at, _), _)| *at);
            let server = if self.server.up {
                self.server.coordinator.poll_timeout()
            } else {
                None
            };
            let device = self
                .devices
                .iter()
                .filter(|(_, d)| d.up)
                .filter_map(|(agent, d)| Some((d.session.poll_timeout()?, *agent)))
                .min();
            let Some(next) = [happening, server, device.map(|d| d.0)].into_iter().flatten().min() else {
                panic!("nothing can ever happen again, at {}", self.now);
            };
            self.now = self.now.max(next);
            if happening.is_some_and(|at| at <= next) {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            } else if server.is_some_and(|at| at <= next) {
                self.tell_server(Event::Tick);
            } else if let Some((_, agent)) = device {
                self.tell_device(agent, News::Tick);
            }
        }
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StartServer => {
                for event in self.server.start() {
                    self.tell_server(event);
                }
            }
            Happening::StartDevice { agent } => {
                if let Some(device) = self.devices.get_mut(&agent) {
                    device.start(agent);
                    self.tell_device(agent, News::Tick);
                }
            }
            Happening::Stop { job } => {
                if self.server.up {
                    self.tell_server(Event::StopJob { job });
                } else {
                    self.soon(1000, 2000, Happening::Stop { job });
                }
            }
            Happening::Connect { agent, life } => self.connect(agent, life),
            Happening::Broken { agent, connection } => {
                self.soon(10, 2000, Happening::DeviceLosesServer { agent, connection });
                self.soon(10, 40_000, Happening::ServerLosesAgent { agent, connection });
            }
            Happening::ServerLosesAgent { agent, connection } => {
                if self.server.connections.get(&agent) == Some(&connection) {
                    self.server.connections.remove(&agent);
                    self.server.open.retain(|(a, _), _| *a != agent);
                    self.tell_server(Event::Gone { agent });
                }
            }
            Happening::DeviceLosesServer { agent, connection } => {
                if let Some(device) = self.devices.get_mut(&agent)
                    && device.connection == Some(connection)
                {
                    device.connection = None;
                    self.tell_device(
                        agent,
                        News::Disconnected {
                            reason: "broken".to_owned(),
                        },
                    );
                }
            }
            Happening::Request {
                agent,
                connection,
                request,
                kind,
                event,
            } => {
                if self.server.connections.get(&agent) == Some(&connection) {
                    self.server.open.insert((agent, kind), (connection, request, event.clone()));
                    self.tell_server(event);
                }
            }
            Happening::UploadDone { agent, connection, event } => {
                if self.server.connections.get(&agent) == Some(&connection) {
                    self.tell_server(event);
                }
            }
            Happening::Answer {
                agent,
                connection,
                request,
                kind,
                news,
                even_if_stale,
            } => {
                let Some(device) = self.devices.get(&agent) else { return };
                let fresh = device.connection == Some(connection) && device.latest.get(&kind) == Some(&request);
                if device.up && (fresh || even_if_stale) {
                    self.tell_device(agent, news);
                }
            }
            Happening::Local { agent, life, news } => self.local(agent, life, news),
            Happening::Done { life, task } if life == self.server.life => self.done(task),
            Happening::Announce { life, event } if life == self.server.life => self.tell_server(event),
            Happening::Done { .. } | Happening::Announce { .. } => {}
        }
    }

    pub(super) fn connect(&mut self, agent: AgentId, life: u64) {
        let Some(device) = self.devices.get_mut(&agent).filter(|d| d.up && d.life == life) else {
            return;
        };
        if !self.server.up {
            let news = News::Disconnected {
                reason: "refused".to_owned(),
            };
            return self.soon(5, 500, Happening::Local { agent, life, news });
        }
        self.seq += 1;
        device.connection = Some(self.seq);
        self.server.connections.insert(agent, self.seq);
        self.server.open.retain(|(a, _), _| *a != agent);
        self.tell_device(agent, News::Connected);
    }

    pub(super) fn send(&mut self, agent: AgentId, connection: u64, request: u64, kind: RequestKind, news: News) {
        if self.fault(self.faults.lost) {
            return self.lose(agent, connection, request, kind);
        }
        let answer = |news, even_if_stale| Happening::Answer {
            agent,
            connection,
            request,
            kind,
            news,
            even_if_stale,
        };
        if self.fault(self.faults.doubled) {
            self.soon(5, 5000, answer(news.clone(), true));
        }
        self.soon(5, 500, answer(news, false));
    }

    /// The stream is reset, and the agent notices.
    pub(super) fn lose(&mut self, agent: AgentId, connection: u64, request: u64, kind: RequestKind) {
        let reset = Happening::Answer {
            agent,
            connection,
            request,
            kind,
            news: News::Failed {
                request: kind,
                reason: "reset".to_owned(),
            },
            even_if_stale: false,
        };
        self.soon(500, 5000, reset);
    }

    pub(super) fn soon(&mut self, from_ms: u64, to_ms: u64, happening: Happening) {
        let at = self.now.after(Duration::from_millis(from_ms + self.draw(to_ms - from_ms)));
        self.seq += 1;
        self.queue.insert((at, self.seq), happening);
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.chance.next_u64() % below.max(1)
    }

    pub(super) fn fault(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.now < self.faults.until && self.draw(1000) < per_mille
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {}", self.now, line()));
        }
    }
}
