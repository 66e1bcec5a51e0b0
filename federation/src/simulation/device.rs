//! A simulated device: a session and a disk.

use std::collections::{BTreeMap, BTreeSet};

use aimass_protocol::{AgentId, CohortId, ContributionId};
use rand_core::Rng;

use super::world::{Happening, World};
use crate::RequestKind;
use crate::agent::{Config, Effect as Wish, Event as News, Policy, Session, Snapshot};
use crate::coordinator::Event;
use crate::fixtures;

/// What survives a kill.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) snapshot: Snapshot,
    pub(super) deltas: BTreeSet<ContributionId>,
    pub(super) residues: BTreeSet<(ContributionId, CohortId)>,
}

impl Disk {
    /// What a driver does when it starts.
    pub(super) fn clean(&mut self) {
        let held = self.snapshot.held.as_ref().map(|c| c.id);
        self.deltas.retain(|c| Some(*c) == held);
        self.residues.retain(|(c, _)| Some(*c) == held);
    }

    pub(super) fn discard(&mut self, contribution: ContributionId) {
        self.deltas.remove(&contribution);
        self.residues.retain(|(c, _)| *c != contribution);
    }
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) session: Session,
    pub(super) disk: Disk,
    /// Counts starts of the process; what an earlier one began is lost.
    pub(super) life: u64,
    pub(super) up: bool,
    /// The connection it believes in.
    pub(super) connection: Option<u64>,
    /// The latest request of each kind.
    pub(super) latest: BTreeMap<RequestKind, u64>,
}

impl Device {
    pub(super) fn new(agent: AgentId) -> Self {
        Self {
            session: session(agent, Snapshot::default()),
            disk: Disk::default(),
            life: 0,
            up: false,
            connection: None,
            latest: BTreeMap::new(),
        }
    }

    pub(super) fn start(&mut self, agent: AgentId) {
        self.disk.clean();
        self.session = session(agent, self.disk.snapshot.clone());
        self.up = true;
    }

    pub(super) fn kill(&mut self) {
        self.up = false;
        self.life += 1;
        self.connection = None;
        self.latest.clear();
    }
}

fn session(agent: AgentId, snapshot: Snapshot) -> Session {
    let policy = Policy {
        allow_plain: true,
        ..Policy::default()
    };
    let config = Config::new(policy, fixtures::capabilities(), vec!["digits".to_owned()], Config::seed_of(agent));
    Session::new(config, snapshot)
}

impl World {
    pub(super) fn local(&mut self, agent: AgentId, life: u64, news: News) {
        let Some(device) = self.devices.get_mut(&agent).filter(|d| d.up && d.life == life) else {
            return;
        };
        match &news {
            News::Trained { contribution, .. } => {
                device.disk.deltas.insert(*contribution);
            }
            News::Encoded { contribution, cohort } => {
                device.disk.residues.insert((*contribution, *cohort));
            }
            _ => {}
        }
        self.tell_device(agent, news);
    }

    pub(super) fn tell_device(&mut self, agent: AgentId, news: News) {
        let Some(device) = self.devices.get_mut(&agent) else { return };
        let mut wishes = Vec::new();
        device.session.step(self.now, news, &mut wishes);
        if let Some(at) = device.session.poll_timeout() {
            assert!(at > self.now, "a timer that is due at once would spin");
        }
        let cut = self.fault(self.faults.device_kills).then(|| self.draw(wishes.len() as u64 + 1));
        for (index, wish) in wishes.into_iter().enumerate() {
            if cut == Some(index as u64) {
                break;
            }
            self.note(|| format!("agent {agent} {wish:?}"));
            self.grant(agent, wish);
        }
        if cut.is_some() {
            let Some(device) = self.devices.get_mut(&agent) else { return };
            if let Some(connection) = device.connection {
                self.soon(10, 40_000, Happening::ServerLosesAgent { agent, connection });
            }
            if let Some(device) = self.devices.get_mut(&agent) {
                device.kill();
            }
            self.soon(100, 60_000, Happening::StartDevice { agent });
        }
    }

    pub(super) fn grant(&mut self, agent: AgentId, wish: Wish) {
        let Some(device) = self.devices.get_mut(&agent) else { return };
        let life = device.life;
        match wish {
            Wish::Connect => self.soon(5, 500, Happening::Connect { agent, life }),
            Wish::CheckIn(check_in) => self.request(agent, RequestKind::CheckIn, Event::CheckIn { agent, check_in }),
            Wish::Fetch { base, .. } => self.soon(
                20,
                3000,
                Happening::Local {
                    agent,
                    life,
                    news: News::Fetched { base },
                },
            ),
            Wish::Train { job, base, .. } => {
                let mut id = [0; ContributionId::LEN];
                self.chance.fill_bytes(&mut id);
                let news = News::Trained {
                    job,
                    base,
                    contribution: ContributionId::from_bytes(id),
                };
                self.soon(500, 30_000, Happening::Local { agent, life, news });
            }
            Wish::Offer(ready) => self.request(agent, RequestKind::Ready, Event::Ready { agent, ready }),
            Wish::Encode { contribution, descriptor } => {
                assert!(
                    device.disk.deltas.contains(&contribution),
                    "a delta is kept as long as it may be encoded"
                );
                let news = News::Encoded {
                    contribution,
                    cohort: descriptor.cohort,
                };
                self.soon(10, 1000, Happening::Local { agent, life, news });
            }
            Wish::Upload { contribution, cohort } => {
                assert!(
                    device.disk.residues.contains(&(contribution, cohort)),
                    "residues are kept as long as they may be sent"
                );
                self.request(
                    agent,
                    RequestKind::Upload,
                    Event::UploadBegun {
                        agent,
                        cohort,
                        contribution,
                    },
                );
            }
            Wish::AskOutcome(query) => self.request(agent, RequestKind::Outcome, Event::Outcome { agent, query }),
            Wish::Persist => device.disk.snapshot = device.session.snapshot(),
            Wish::Discard { contribution } => device.disk.discard(contribution),
            Wish::DiscardUpload { contribution, cohort } => {
                device.disk.residues.remove(&(contribution, cohort));
            }
            Wish::Included {
                job,
                contribution,
                round,
                model,
            } => {
                let truth = self.server.published.get(&(job, contribution));
                assert_eq!(
                    truth,
                    Some(&(round, model)),
                    "what is told to be included is included, there and only there"
                );
                self.included.insert(contribution, (job, round, model));
            }
            Wish::Sleep { .. } | Wish::Warn(_) => {}
        }
    }

    pub(super) fn request(&mut self, agent: AgentId, kind: RequestKind, event: Event) {
        self.seq += 1;
        let request = self.seq;
        let Some(device) = self.devices.get_mut(&agent) else { return };
        device.latest.insert(kind, request);
        let Some(connection) = device.connection else { return };
        if self.fault(self.faults.breaks) {
            return self.soon(0, 100, Happening::Broken { agent, connection });
        }
        if self.fault(self.faults.lost) {
            return self.lose(agent, connection, request, kind);
        }
        let asked = Happening::Request {
            agent,
            connection,
            request,
            kind,
            event,
        };
        if self.fault(self.faults.doubled) {
            self.soon(5, 10_000, asked.clone());
        }
        self.soon(5, 500, asked);
    }
}
