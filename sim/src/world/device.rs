//! A simulated device: a session, a disk, a clock.

use std::collections::BTreeMap;

use aimass_federation::RequestKind;
use aimass_federation::agent::{Config, Effect as Wish, Event as News, Hands, Identity, Masks, Policy, Session, Snapshot, Stage};
use aimass_federation::coordinator::{Event, SecureStep};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::agent::Capabilities;
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId};

use super::{Ask, Happening, World, masks};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::fault::{Fault, Key};
use crate::oracle::Violation;
use crate::sabotage::Sabotage;
use crate::scenario::{AgentPlan, CONTRACT};
use crate::workload::{Training, Update};

/// Training can go on from the last multiple of this.
const CHECKPOINT_MS: u64 = 5_000;

/// A driver says so often how far its training is.
const PROGRESS_MS: u64 = 5_000;

/// What survives a kill.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) snapshot: Snapshot,
    deltas: BTreeMap<ContributionId, Update>,
    pub(super) residues: BTreeMap<(ContributionId, CohortId), Vec<u8>>,
    checkpoint: Option<Checkpoint>,
}

/// How far a training got.
#[derive(Debug, Clone, Copy)]
struct Checkpoint {
    job: JobId,
    base: Digest,
    done_ms: u64,
}

#[derive(Debug)]
struct Running {
    number: u64,
    job: JobId,
    base: Digest,
    contribution: ContributionId,
    /// When it began or went on, and how much was done before.
    since: u64,
    before_ms: u64,
    all_ms: u64,
    update: Update,
}

impl Disk {
    /// What a driver does when it starts.
    fn clean(&mut self) {
        let held = self.snapshot.held.as_ref().map(|c| c.id);
        self.deltas.retain(|c, _| Some(*c) == held);
        self.residues.retain(|(c, _), _| Some(*c) == held);
        let task = self.snapshot.task.as_ref().map(|task| (task.job, task.base));
        self.checkpoint.take_if(|c| Some((c.job, c.base)) != task);
    }
}

#[derive(Debug)]
pub(super) struct Device {
    /// Whose data it has: a twin's is that of the device that it is a twin of.
    pub(super) identity: usize,
    pub(super) agent: AgentId,
    keys: Identity,
    chance: Chance,
    pub(super) plan: AgentPlan,
    pub(super) session: Session,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    /// Counts starts of the process; what an earlier one began is lost.
    life: u64,
    pub(super) up: bool,
    /// It never comes back.
    pub(super) left: bool,
    /// It does not start before this.
    pub(super) off_until: u64,
    /// The connection it believes in.
    pub(super) connection: Option<u64>,
    /// The latest request of each kind.
    pub(super) latest: BTreeMap<RequestKind, u64>,
    /// Those of them that it waits for.
    pub(super) unanswered: BTreeMap<RequestKind, u64>,
    /// It writes to its disk until then, and does nothing else.
    pub(super) busy_until: u64,
    pub(super) messages: u64,
    steps: u64,
    trainings: u64,
    works: u64,
    training: Option<Running>,
}

impl Device {
    /// `chance` makes its ephemeral keys.
    pub(super) fn new(identity: usize, plan: AgentPlan, keys: Identity, chance: Chance) -> Self {
        let agent = keys.agent();
        Self {
            identity,
            agent,
            keys,
            chance,
            plan,
            session: session(agent, Snapshot::default()),
            disk: Disk::default(),
            clock: Clock::default(),
            life: 0,
            up: false,
            left: false,
            off_until: 0,
            connection: None,
            latest: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            busy_until: 0,
            messages: 0,
            steps: 0,
            trainings: 0,
            works: 0,
            training: None,
        }
    }

    /// Another device with the same identity.
    pub(super) fn twin(&self, copied: bool, chance: Chance) -> Self {
        let disk = if copied { self.disk.clone() } else { Disk::default() };
        Self {
            disk,
            ..Self::new(self.identity, self.plan, self.keys.clone(), chance)
        }
    }

    pub(super) fn is_alive(&self, life: u64) -> bool {
        self.up && self.life == life
    }

    /// When its session wants a tick.
    pub(super) fn timeout(&self) -> Option<u64> {
        let due = self.session.poll_timeout().filter(|_| self.up)?;
        Some(self.clock.when(due).max(self.busy_until))
    }
}

fn session(agent: AgentId, snapshot: Snapshot) -> Session {
    let policy = Policy {
        allow_plain: true,
        ..Policy::default()
    };
    let capabilities = Capabilities {
        agent_version: "simulated".to_owned(),
        cores: 1,
        ..Capabilities::default()
    };
    let config = Config::new(policy, capabilities, vec![CONTRACT.to_owned()], Config::seed_of(agent));
    Session::new(config, snapshot)
}

impl World {
    pub(super) fn start_device(&mut self, device: usize) {
        let now = self.now;
        let it = &mut self.devices[device];
        if it.up || it.left || now < it.off_until {
            return;
        }
        it.disk.clean();
        it.session = session(it.agent, it.disk.snapshot.clone());
        it.up = true;
        self.note(|| format!("-- device {device} starts"));
        self.tell_device(device, News::Tick);
    }

    /// Its process dies; it starts again after `down_ms`, unless it left.
    pub(super) fn kill_device(&mut self, device: usize, down_ms: u64) {
        let now = self.now;
        let it = &mut self.devices[device];
        let was_up = std::mem::replace(&mut it.up, false);
        it.life += 1;
        it.latest.clear();
        it.unanswered.clear();
        it.busy_until = 0;
        if let Some(running) = it.training.take() {
            let done = running.before_ms + (now - running.since);
            it.disk.checkpoint = Some(Checkpoint {
                job: running.job,
                base: running.base,
                done_ms: done / CHECKPOINT_MS * CHECKPOINT_MS,
            });
        }
        if let Some(connection) = it.connection.take() {
            self.cut(connection);
        }
        if was_up {
            self.report.agent_kills += 1;
            self.note(|| format!("-- device {device} is killed"));
        }
        self.at(now + down_ms, Happening::StartDevice { device });
    }

    pub(super) fn tell_device(&mut self, device: usize, news: News) {
        let it = &mut self.devices[device];
        if !it.up {
            return;
        }
        let now = it.clock.read(self.now);
        let mut wishes = Vec::new();
        let mut hands = Hands {
            rng: it.chance.rng(),
            identity: &it.keys,
        };
        it.session.step(now, news, &mut hands, &mut wishes);
        let step = it.steps;
        it.steps += 1;
        self.report.agent_steps += 1;
        if let Some(at) = it.session.poll_timeout()
            && at <= now
        {
            let who = format!("device {device}");
            let what = format!("its timer is set to {at} at {now}");
            self.oracle.violate(Violation::Spin { who, what });
        }
        let kill = match self.faults.take(self.now, Key::AgentStep(device, step)) {
            Some(Fault::KillAgent { effect, down_ms, .. }) => Some((effect, down_ms)),
            _ => None,
        };
        for (index, wish) in wishes.into_iter().enumerate() {
            if kill.is_some_and(|(effect, _)| effect == index) {
                break;
            }
            self.note(|| format!("device {device} {wish:?}"));
            self.grant(device, wish);
        }
        if let Some((_, down_ms)) = kill {
            self.kill_device(device, down_ms);
        }
    }

    fn grant(&mut self, device: usize, wish: Wish) {
        let agent = self.devices[device].agent;
        let life = self.devices[device].life;
        match wish {
            Wish::Connect => {
                let latency = self.devices[device].plan.latency_ms;
                self.soon(latency, Happening::Connect { device, life });
            }
            Wish::CheckIn(check_in) => self.request(device, RequestKind::CheckIn, Ask::Event(Event::CheckIn { agent, check_in })),
            Wish::Fetch { base, .. } => self.request(device, RequestKind::Fetch, Ask::Fetch { base }),
            Wish::Train { job, base, finish_by, .. } => {
                self.oracle.trains(device, job, base);
                let now = self.devices[device].clock.read(self.now);
                let budget_ms = finish_by.map(|by| u64::try_from(by.since(now).as_millis()).unwrap_or(u64::MAX));
                self.train(device, job, base, budget_ms);
            }
            Wish::DropTask { job, base } => {
                let it = &mut self.devices[device];
                it.training.take_if(|t| t.job == job && t.base == base);
                it.disk.checkpoint.take_if(|c| c.job == job && c.base == base);
            }
            Wish::Progress(progress) => self.request(device, RequestKind::Progress, Ask::Event(Event::Progress { agent, progress })),
            Wish::Offer(ready) => {
                self.oracle.offered(device, ready.contribution);
                self.request(device, RequestKind::Ready, Ask::Event(Event::Ready { agent, ready }));
            }
            Wish::Advertise(advert) => {
                let (advert, key) = (Box::new(advert), self.devices[device].keys.key.public());
                self.secure_request(device, SecureStep::Advert { advert, key });
            }
            Wish::Reveal(reveal) => self.secure_request(device, SecureStep::Reveal(reveal)),
            Wish::DealShares(shares) => self.request(device, RequestKind::Shares, Ask::Shares(shares)),
            Wish::AskSurvivors(query) => self.secure_request(device, SecureStep::Survivors(query)),
            Wish::Consent(consent) => self.secure_request(device, SecureStep::Consent(consent)),
            Wish::Unmask(unmask) => {
                // What it holds by its own account: the disk may not know yet, if the driver is wrong.
                if let Some(held) = self.devices[device].session.snapshot().held {
                    self.oracle.released(device, agent, &held, &unmask);
                }
                self.secure_request(device, SecureStep::Unmask(unmask));
            }
            // Where another device has its identity, somebody does speak in its name.
            Wish::Report(_) if self.devices.iter().filter(|other| other.agent == agent).count() > 1 => {}
            Wish::Report(report) => {
                let what = format!("takes an honest server for a cheat: {}", report.what);
                self.oracle.violate(Violation::Device { device, what });
            }
            Wish::Encode {
                contribution,
                descriptor,
                masks,
            } => {
                let what = Happening::EncodingDone {
                    device,
                    life,
                    contribution,
                    descriptor,
                    masks,
                };
                self.soon((10, 1000), what);
            }
            Wish::Upload { contribution, cohort } => self.upload(device, contribution, cohort),
            Wish::AskOutcome(query) => self.request(device, RequestKind::Outcome, Ask::Event(Event::Outcome { agent, query })),
            Wish::Persist => {
                let it = &mut self.devices[device];
                let snapshot = it.session.snapshot();
                let marks_spent = matches!(snapshot.held.as_ref().map(|c| &c.stage), Some(Stage::Spent { .. }));
                if !(marks_spent && self.sabotage == Sabotage::ForgetsSpent) {
                    it.disk.snapshot = snapshot;
                }
                let took = self.write_ms(Some(device));
                self.devices[device].busy_until = self.devices[device].busy_until.max(self.now) + took;
            }
            Wish::Discard { contribution } => {
                let disk = &mut self.devices[device].disk;
                disk.deltas.remove(&contribution);
                disk.residues.retain(|(c, _), _| *c != contribution);
            }
            Wish::DiscardUpload { contribution, cohort } => {
                self.devices[device].disk.residues.remove(&(contribution, cohort));
            }
            Wish::Included {
                job,
                contribution,
                round,
                model,
            } => self.oracle.included(device, job, contribution, round, model),
            Wish::Sleep { .. } | Wish::Warn(_) => {}
        }
    }

    fn train(&mut self, device: usize, job: JobId, base: Digest, budget_ms: Option<u64>) {
        let Some(spec) = self.server.disk.jobs.get(&job) else { return };
        let it = &mut self.devices[device];
        let slowness = u64::from(it.plan.slowness.max(1));
        let contribution = ContributionId::from_bytes(self.chance.bytes());
        let trained = self.workload.train(
            &Training {
                device: it.identity,
                job,
                file: &spec.file,
                base,
                contribution,
                budget_ms: budget_ms.map(|ms| ms / slowness),
            },
            self.workload_chance.rng(),
        );
        let number = it.trainings;
        it.trainings += 1;
        let before_ms = it
            .disk
            .checkpoint
            .filter(|c| c.job == job && c.base == base)
            .map_or(0, |c| c.done_ms);
        it.training = Some(Running {
            number,
            job,
            base,
            contribution,
            since: self.now,
            before_ms,
            all_ms: u64::MAX / 1000,
            update: trained.update,
        });
        if self.faults.take(self.now, Key::Training(device, number)).is_some() {
            return self.note(|| format!("!! training {number} of device {device} will never end"));
        }
        let life = self.devices[device].life;
        let left_ms = (trained.took_ms * slowness).saturating_sub(before_ms).max(1);
        self.at(self.now + left_ms, Happening::TrainingDone { device, life, number });
        if let Some(running) = &mut self.devices[device].training {
            running.all_ms = before_ms + left_ms;
        }
        self.at(self.now + PROGRESS_MS, Happening::TrainingProgress { device, life, number });
    }

    pub(super) fn training_progressed(&mut self, device: usize, life: u64, number: u64) {
        let it = &self.devices[device];
        let Some(running) = it.training.as_ref().filter(|t| it.is_alive(life) && t.number == number) else {
            return;
        };
        let done_ms = running.before_ms + self.now - running.since;
        let percent = u8::try_from(100 * done_ms / running.all_ms.max(1)).unwrap_or(100).min(100);
        self.at(self.now + PROGRESS_MS, Happening::TrainingProgress { device, life, number });
        self.tell_device(device, News::Progressed { percent });
    }

    pub(super) fn training_done(&mut self, device: usize, life: u64, number: u64) {
        if !self.devices[device].is_alive(life) {
            return;
        }
        let it = &mut self.devices[device];
        // Another one may have begun.
        let Some(running) = it.training.take_if(|t| t.number == number) else {
            return;
        };
        it.disk.checkpoint = None;
        let job = running.job;
        if self.is_disk_full(device) {
            let reason = "disk full".to_owned();
            return self.tell_device(device, News::TrainFailed { job, reason });
        }
        let (base, contribution) = (running.base, running.contribution);
        self.devices[device].disk.deltas.insert(contribution, running.update);
        self.tell_device(device, News::Trained { job, base, contribution });
    }

    fn is_disk_full(&mut self, device: usize) -> bool {
        let work = self.devices[device].works;
        self.devices[device].works += 1;
        self.faults.take(self.now, Key::AgentWork(device, work)).is_some()
    }

    pub(super) fn encoding_done(
        &mut self,
        device: usize,
        life: u64,
        contribution: ContributionId,
        descriptor: &Descriptor,
        masks: Option<&Masks>,
    ) {
        if !self.devices[device].is_alive(life) {
            return;
        }
        let cohort = descriptor.cohort;
        if self.is_disk_full(device) {
            let reason = "disk full".to_owned();
            return self.tell_device(device, News::EncodeFailed { contribution, reason });
        }
        let disk = &self.devices[device].disk;
        if !disk.residues.contains_key(&(contribution, cohort)) {
            let Some(update) = disk.deltas.get(&contribution).cloned() else {
                let held = disk.snapshot.held.as_ref().is_some_and(|c| c.id == contribution);
                if held {
                    let what = format!("is to encode contribution {contribution}, whose delta is gone");
                    self.oracle.violate(Violation::Device { device, what });
                }
                return;
            };
            let base = disk.snapshot.held.as_ref().map(|c| c.base);
            let position = descriptor.bases.iter().position(|b| Some(*b) == base);
            let staleness = position.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            let n_weights = self.workload.n_weights();
            let Some(spec) = self.server.disk.jobs.get(&descriptor.job) else {
                return;
            };
            let encoded = match crate::workload::codec(n_weights, &spec.file, descriptor.members) {
                Ok(codec) => self
                    .workload
                    .encode(contribution, &update, &codec, staleness, self.workload_chance.rng())
                    .and_then(|mut packed| {
                        let laid = masks.map_or(Ok(()), |masks| masks::lay(codec.plan(), &mut packed, masks));
                        laid.map(|()| packed)
                    }),
                Err(error) => Err(error.to_string()),
            };
            match encoded {
                Ok(bytes) => {
                    self.devices[device].disk.residues.insert((contribution, cohort), bytes);
                }
                Err(reason) => return self.tell_device(device, News::EncodeFailed { contribution, reason }),
            }
        }
        self.tell_device(device, News::Encoded { contribution, cohort });
    }

    fn upload(&mut self, device: usize, contribution: ContributionId, cohort: CohortId) {
        let it = &mut self.devices[device];
        let agent = it.agent;
        if !it.disk.residues.contains_key(&(contribution, cohort)) {
            let what = format!("is to upload contribution {contribution}, whose residues are gone");
            return self.oracle.violate(Violation::Device { device, what });
        }
        let event = Event::UploadBegun {
            agent,
            cohort,
            contribution,
        };
        self.request(device, RequestKind::Upload, Ask::Event(event));
    }
}
