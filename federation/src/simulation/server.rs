//! A simulated server: a coordinator, its sums and its store.

use std::collections::BTreeMap;

use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode, JobId, TenantId, Timestamp};

use super::world::{Happening, World};
use crate::RequestKind;
use crate::agent::Event as News;
use crate::coordinator::{AgentReply, Config, Coordinator, Effect, Event, JobSpec, RoundOutcome};
use crate::fixtures;

/// Work that the server does off its reactor.
#[derive(Debug, Clone)]
pub(super) enum Task {
    Add {
        cohort: CohortId,
        agent: AgentId,
        contribution: ContributionId,
    },
    Store {
        job: JobId,
        cohort: CohortId,
        round: u32,
        base: Digest,
        survivors: Vec<(AgentId, ContributionId)>,
    },
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) coordinator: Coordinator,
    pub(super) up: bool,
    pub(super) life: u64,
    /// Agents' connections as the server knows them.
    pub(super) connections: BTreeMap<AgentId, u64>,
    /// Open requests: on which connection, which, and what it asked.
    pub(super) open: BTreeMap<(AgentId, RequestKind), (u64, u64, Event)>,
    /// How often each contribution was added to each sum that exists.
    sums: BTreeMap<CohortId, BTreeMap<ContributionId, u32>>,
    /// On disk.
    pub(super) jobs: BTreeMap<JobId, JobSpec>,
    /// The oracle: which round and model each contribution is in.
    pub(super) published: BTreeMap<(JobId, ContributionId), (u32, Digest)>,
}

impl Server {
    pub(super) fn new(jobs: Vec<JobSpec>) -> Self {
        Self {
            coordinator: Coordinator::new(Config::default()),
            up: false,
            life: 0,
            connections: BTreeMap::new(),
            open: BTreeMap::new(),
            sums: BTreeMap::new(),
            jobs: jobs.into_iter().map(|spec| (spec.id, spec)).collect(),
            published: BTreeMap::new(),
        }
    }

    /// Events that bring the jobs back from the store.
    pub(super) fn start(&mut self) -> Vec<Event> {
        self.coordinator = Coordinator::new(Config::default());
        self.up = true;
        self.jobs.values().map(|spec| Event::AddJob(Box::new(spec.clone()))).collect()
    }

    pub(super) fn kill(&mut self) {
        self.up = false;
        self.life += 1;
        self.connections.clear();
        self.open.clear();
        self.sums.clear();
    }

    pub(super) fn step(&mut self, now: Timestamp, event: Event, rng: &mut rand_chacha::ChaCha8Rng) -> Vec<Effect> {
        let mut out = Vec::new();
        self.coordinator.step(now, event, rng, &mut out);
        if let Some(at) = self.coordinator.poll_timeout() {
            assert!(at > now, "a timer that is due at once would spin");
        }
        out
    }

    pub(super) fn open_sum(&mut self, cohort: CohortId) {
        assert!(self.sums.insert(cohort, BTreeMap::new()).is_none(), "a cohort has one sum");
    }

    pub(super) fn drop_sum(&mut self, cohort: CohortId) {
        self.sums.remove(&cohort);
    }

    pub(super) fn add(&mut self, cohort: CohortId, contribution: ContributionId) {
        // A stopped job drops its sum while updates are on their way.
        if let Some(sum) = self.sums.get_mut(&cohort) {
            *sum.entry(contribution).or_insert(0) += 1;
        }
    }

    /// Stores a round as the real driver does, and holds it to the oracle.
    pub(super) fn store(
        &mut self,
        job: JobId,
        cohort: CohortId,
        round: u32,
        base: Digest,
        survivors: &[(AgentId, ContributionId)],
    ) -> Event {
        let sum = self.sums.get(&cohort).expect("what is aggregated exists");
        let contributions: Vec<_> = survivors.iter().map(|(_, c)| *c).collect();
        let expected: BTreeMap<_, _> = contributions.iter().map(|c| (*c, 1)).collect();
        assert_eq!(sum, &expected, "the sum is the survivors' unit vectors, each once");

        let spec = self.jobs.get_mut(&job).expect("a job that is aggregated is stored");
        let need = spec.file.round.min.max(spec.file.aggregation.floor) as usize;
        assert!(contributions.len() >= need && contributions.len() <= spec.file.round.max as usize);
        assert_eq!((spec.next_round, spec.base), (round, base), "rounds follow each other");
        // A dry run's updates are zero: its model stays the same, digest and all.
        let model = if spec.file.train.epochs == 0 {
            base
        } else {
            fixtures::model(u8::try_from(round).expect("few rounds"))
        };
        for contribution in &contributions {
            let before = self.published.insert((job, *contribution), (round, model));
            assert_eq!(before, None, "a contribution is in one published round at most");
        }
        spec.recent.push(RoundOutcome {
            round,
            model,
            contributions,
        });
        spec.next_round += 1;
        spec.base = model;
        Event::Published {
            job,
            round,
            base: model,
            base_bytes: spec.base_bytes,
            accuracy: None,
        }
    }
}

impl World {
    pub(super) fn done(&mut self, task: Task) {
        match task {
            Task::Add {
                cohort,
                agent,
                contribution,
            } => {
                if self.fault(self.faults.work_fails) {
                    let code = if self.fault(500) {
                        ErrorCode::Unavailable
                    } else {
                        ErrorCode::UpdateValue
                    };
                    return self.tell_server(Event::AddFailed { agent, cohort, code });
                }
                self.server.add(cohort, contribution);
                self.tell_server(Event::Added { agent, cohort });
            }
            Task::Store {
                job,
                cohort,
                round,
                base,
                survivors,
            } => {
                // At most once a round, so that the job does not fail for good.
                if round == 1 && self.fault(self.faults.work_fails) {
                    return self.tell_server(Event::PublishFailed {
                        job,
                        round,
                        reason: "disk full".to_owned(),
                    });
                }
                let event = self.server.store(job, cohort, round, base, &survivors);
                if self.faults.kill_server_after_store && self.kills_after_store == 0 {
                    self.kills_after_store += 1;
                    return self.kill_server();
                }
                let life = self.server.life;
                self.soon(1, 200, Happening::Announce { life, event });
            }
        }
    }

    pub(super) fn tell_server(&mut self, event: Event) {
        let effects = self.server.step(self.now, event, &mut self.server_rng);
        let cut = self.fault(self.faults.server_kills).then(|| self.draw(effects.len() as u64 + 1));
        for (index, effect) in effects.into_iter().enumerate() {
            if cut == Some(index as u64) {
                break;
            }
            self.note(|| format!("server {effect:?}"));
            self.perform(effect);
        }
        let phase_reached = self
            .faults
            .kill_server_in
            .filter(|p| self.server.coordinator.jobs().any(|j| j.phase == *p && j.seats > 0));
        if cut.is_some() || phase_reached.is_some_and(|_| self.server_kills.is_empty()) {
            self.kill_server();
        }
    }

    pub(super) fn kill_server(&mut self) {
        let chosen = self.faults.kill_server_in;
        for view in self.server.coordinator.jobs() {
            if chosen.is_none_or(|p| p == view.phase) {
                *self.server_kills.entry(view.phase).or_insert(0) += 1;
                if chosen.is_some() {
                    break;
                }
            }
        }
        for (agent, connection) in self.server.connections.clone() {
            self.soon(10, 2000, Happening::DeviceLosesServer { agent, connection });
        }
        self.server.kill();
        self.soon(100, 20_000, Happening::StartServer);
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { agent, reply } => self.answer(agent, reply),
            Effect::OpenSum { cohort, .. } => self.server.open_sum(cohort),
            Effect::DropSum { cohort } => self.server.drop_sum(cohort),
            Effect::Add {
                cohort,
                agent,
                contribution,
            } => {
                let life = self.server.life;
                self.soon(
                    1,
                    3000,
                    Happening::Done {
                        life,
                        task: Task::Add {
                            cohort,
                            agent,
                            contribution,
                        },
                    },
                );
            }
            Effect::Aggregate {
                job,
                cohort,
                round,
                base,
                survivors,
            } => {
                let life = self.server.life;
                self.soon(
                    10,
                    3000,
                    Happening::Done {
                        life,
                        task: Task::Store {
                            job,
                            cohort,
                            round,
                            base,
                            survivors,
                        },
                    },
                );
            }
            Effect::JobEnded { job, end } => {
                if let Some(spec) = self.server.jobs.get_mut(&job) {
                    spec.ended = Some(end);
                }
            }
        }
    }

    /// Sends a reply on the open stream, if there is one.
    pub(super) fn answer(&mut self, agent: AgentId, reply: AgentReply) {
        let kind = reply.kind();
        let Some((connection, request, asked)) = self.server.open.get(&(agent, kind)).cloned() else {
            return;
        };
        if let AgentReply::UploadAllowed { cohort, contribution } = reply {
            let event = Event::Received {
                agent,
                cohort,
                contribution,
            };
            return self.soon(50, 20_000, Happening::UploadDone { agent, connection, event });
        }
        self.server.open.remove(&(agent, kind));
        let (contribution, cohort) = match asked {
            Event::Ready { ready, .. } => (ready.contribution, None),
            Event::UploadBegun { cohort, contribution, .. } => (contribution, Some(cohort)),
            Event::Outcome { query, .. } => (query.contribution, None),
            _ => (ContributionId::from_bytes([0; 16]), None),
        };
        let news = match reply {
            AgentReply::Task {
                job,
                round,
                base,
                base_bytes,
            } => {
                let Some(spec) = self.server.jobs.get(&job) else { return };
                News::Task {
                    job,
                    file: Box::new(spec.file.clone()),
                    round,
                    base,
                    base_bytes,
                }
            }
            AgentReply::ComeBack(come_back) => News::ComeBack(come_back),
            AgentReply::Cohort(terms) => News::Cohort {
                contribution,
                descriptor: Box::new(Descriptor {
                    version: 1,
                    tenant: TenantId::default(),
                    job: terms.job,
                    round: terms.round,
                    cohort: terms.cohort,
                    bases: vec![terms.base],
                    layout_digest: terms.base,
                    codec: terms.codec,
                    mode: terms.mode,
                    members: terms.members,
                    floor: terms.floor,
                    deadline: terms.deadline,
                }),
            },
            AgentReply::Superseded => News::Superseded { contribution },
            AgentReply::Accepted => {
                let Some(cohort) = cohort else { return };
                News::Accepted { contribution, cohort }
            }
            AgentReply::Outcome(reply) => News::Outcome { contribution, reply },
            AgentReply::Refused { request, refusal } => {
                self.refusals += 1;
                News::Refused { request, refusal }
            }
            AgentReply::UploadAllowed { .. } => return,
        };
        self.send(agent, connection, request, kind, news);
    }
}
