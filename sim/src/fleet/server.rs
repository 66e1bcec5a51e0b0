//! The coordinator's driver: what it wants done is done here, in virtual time.

use aimass_federation::RequestKind;
use aimass_federation::agent::Event as News;
use aimass_federation::coordinator::{Effect, Event, OpenRound, UnmaskingRecord};
use aimass_protocol::log::LogEvent;
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest};

use super::client::Open;
use super::secure::Described;
use super::{Ask, Fleet, Happening, Request, Round, Sum, Unpublished, Upload, Work, Workshop};
use crate::log;

/// Checking an update, adding it, and putting that on record.
const ADDS_MS: u64 = 2;
/// From a sum to a published model.
const PUBLISHES_MS: u64 = 20;
/// Uploads are heard of so often.
const HEARD_MS: u64 = 5_000;
/// Work that the server does off its reactor.
#[derive(Debug)]
pub(super) enum Task {
    Add {
        agent: AgentId,
        cohort: CohortId,
    },
    Publish {
        cohort: CohortId,
        round: u32,
        base: Digest,
        survivors: Vec<(AgentId, ContributionId)>,
    },
}

/// What the server holds of a cohort.
#[derive(Debug, Default)]
pub(super) struct CohortState {
    pub(super) open: Option<OpenRound>,
    pub(super) described: Option<Described>,
    pub(super) unmasking: Option<UnmaskingRecord>,
    pub(super) survivors: usize,
    /// Sum of the contributions' staleness.
    staleness: u64,
}

impl<W: Workshop> Fleet<W> {
    /// A request arrives.
    pub(super) fn requested(&mut self, request: Request) {
        let Request {
            client,
            life,
            number,
            kind,
            ask,
        } = request;
        // A request of a process that is gone came before its connection broke.
        if !self.lives_on(client, life) {
            return;
        }
        let event = match ask {
            Ask::Fetch { base, bytes } => return self.fetched(client, life, number, base, bytes),
            Ask::Shares(shares) => {
                let agent = self.names.agent(client, &mut self.trust);
                self.count_message(client, &shares, true);
                let step = self.coordinator.check_shares(agent, &shares).verify();
                Event::Secure { agent, step }
            }
            Ask::Event(event) => event,
        };
        if let Some(active) = self.active.get_mut(&client) {
            let open = Open {
                number,
                ask: event.clone(),
            };
            active.open.insert(kind, open);
        }
        self.tell_server(event);
    }

    fn fetched(&mut self, client: u32, life: u32, number: u64, base: Digest, bytes: u64) {
        let known = self.bases.contains(&base);
        let Some(active) = self.active.get_mut(&client) else { return };
        let is_there = active.kept.fetched == Some(base);
        active.kept.fetched = Some(base).filter(|_| known);
        let (news, ms) = if known {
            let ms = if is_there {
                0
            } else {
                self.clients.transfer_ms(client, bytes, false)
            };
            (News::Fetched { base }, ms)
        } else {
            (super::replies::no_such_model(), 0)
        };
        if known && !is_there {
            self.counts.bytes_down += bytes;
            self.spend(client, 0, bytes);
        }
        let kind = RequestKind::Fetch;
        self.after(
            ms,
            Happening::Answer(Box::new(super::Answer {
                client,
                life,
                number,
                kind,
                news,
            })),
        );
    }

    pub(super) fn tell_server(&mut self, event: Event) {
        let now = self.clock.read(self.now);
        let mut effects = Vec::new();
        let rng = self.coordinator_chance.rng();
        self.coordinator.step(now, event, rng, &mut effects);
        for effect in effects {
            self.perform(effect);
        }
        if let Some(at) = self.coordinator.poll_timeout() {
            let at = self.clock.when(at).max(self.now + 1);
            if self.server_tick.is_none_or(|tick| at < tick) {
                self.server_tick = Some(at);
                self.at(at, Happening::ServerTick);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { agent, reply } => self.reply(agent, reply),
            Effect::OpenRound(open) => {
                let cohort = open.terms.cohort;
                self.cohorts.entry(cohort).or_default().open = Some(open);
            }
            Effect::Describe(terms) => self.describe(terms),
            Effect::ForgetCohort { terms, draws } => {
                self.cohorts.remove(&terms.cohort);
                if draws > 0 {
                    let event = log::abandoned(&terms, None, 0, draws);
                    self.log_event(event);
                }
            }
            Effect::Add {
                cohort,
                agent,
                contribution,
            } => self.add(cohort, agent, contribution),
            Effect::Seal { cohort, survivors } => {
                if let Some(state) = self.cohorts.get_mut(&cohort) {
                    state.survivors = survivors.len();
                }
            }
            Effect::Unmask { cohort, unmasking } => {
                if let Some(state) = self.cohorts.get_mut(&cohort) {
                    state.unmasking = Some(unmasking);
                }
            }
            Effect::Aggregate {
                cohort,
                round,
                base,
                survivors,
                ..
            } => {
                let task = Task::Publish {
                    cohort,
                    round,
                    base,
                    survivors,
                };
                self.after(PUBLISHES_MS, Happening::Done(Box::new(task)));
            }
            Effect::DropSum { cohort } => {
                self.workshop.forget(cohort);
                if let Some(state) = self.cohorts.remove(&cohort)
                    && let Some(open) = &state.open
                    && state.survivors > 0
                {
                    let event = log::given_up(open, state.survivors);
                    self.log_event(event);
                }
            }
            Effect::JobEnded { end, .. } => self.end = Some(end),
        }
    }

    fn add(&mut self, cohort: CohortId, agent: AgentId, contribution: ContributionId) {
        let trained = self
            .names
            .client(agent)
            .and_then(|client| Some((client, self.trained_of(client, contribution)?)));
        let (Some((client, trained)), Some(open)) = (trained, self.cohorts.get(&cohort).and_then(|state| state.open.as_ref())) else {
            self.wrong = Some(format!(
                "contribution {contribution} is to be added to cohort {cohort} and is not there"
            ));
            return;
        };
        let position = open.terms.bases.iter().position(|base| *base == trained.base);
        let staleness = position.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let (members, round) = (open.terms.members, open.terms.round);
        let rotation = self.rotation(&open.terms);
        let masks = self.active.get_mut(&client).and_then(|active| active.kept.masks.take());
        let work = Work {
            round,
            cohort,
            client,
            role: self.clients.role(client),
            base: trained.base,
            staleness,
            steps: trained.steps,
            members,
            rotation,
            masks: masks
                .filter(|(of, into, _)| (*of, *into) == (contribution, cohort))
                .map(|(_, _, masks)| masks),
        };
        if self.is_secure() != work.masks.is_some() {
            self.wrong = Some(format!(
                "contribution {contribution} to cohort {cohort} has no masks, or has some that nobody asked for"
            ));
            return;
        }
        self.workshop.contribute(work);
        if let Some(state) = self.cohorts.get_mut(&cohort) {
            state.staleness += u64::from(staleness);
        }
        self.after(ADDS_MS, Happening::Done(Box::new(Task::Add { agent, cohort })));
    }

    pub(super) fn done(&mut self, task: Task) {
        match task {
            Task::Add { agent, cohort } => self.tell_server(Event::Added { agent, cohort }),
            Task::Publish {
                cohort,
                round,
                base,
                survivors,
            } => self.publish(cohort, round, base, &survivors),
        }
    }

    fn publish(&mut self, cohort: CohortId, round: u32, base: Digest, survivors: &[(AgentId, ContributionId)]) {
        let clients: Vec<u32> = survivors.iter().filter_map(|(agent, _)| self.names.client(*agent)).collect();
        let Some(open) = self.cohorts.get(&cohort).and_then(|state| state.open.as_ref()) else {
            self.wrong = Some(format!("cohort {cohort} is to be published and has no round"));
            return;
        };
        let (terms, rotation) = (open.terms.clone(), self.rotation(&open.terms));
        let unmasking = self.cohorts.get(&cohort).and_then(|state| state.unmasking.clone());
        let sum = Sum {
            round,
            cohort,
            base,
            members: terms.members,
            rotation,
            survivors: &clients,
            unmasking: unmasking.as_ref(),
        };
        let published = match self.workshop.publish(&sum) {
            Ok(published) => published,
            Err(Unpublished { reason, blame }) => {
                self.unpublished = Some(reason.clone());
                let blame = blame.iter().map(|client| self.names.agent(*client, &mut self.trust)).collect();
                return self.tell_server(Event::PublishFailed {
                    job: self.job,
                    round,
                    retry: false,
                    blame,
                    reason,
                });
            }
        };
        // Who is in a group of a block gives no more to it.
        if self.setup.job.keeps_its_base(round) {
            self.given.extend(&clients);
        } else {
            self.given.clear();
        }
        let Some(state) = self.cohorts.remove(&cohort) else { return };
        if let Some(open) = &state.open {
            let event = log::round(open, published.model, survivors.len());
            self.log_event(event);
        }
        if self.bases.first() != Some(&published.model) {
            self.bases.insert(0, published.model);
        }
        let kept = 1 + usize::try_from(self.setup.job.round.max_staleness).unwrap_or(0);
        self.bases.truncate(kept.max(2));
        let counts = std::mem::take(&mut self.counts);
        self.published_at = self.now;
        self.round = round;
        self.unpublished = None;
        self.published.push_back(Round {
            round,
            at_ms: self.now,
            members: terms.members,
            contributions: count(survivors.len()),
            dropped: counts.dropped,
            trainings: counts.trainings,
            bytes_up: counts.bytes_up,
            bytes_down: counts.bytes_down,
            energy_j: counts.energy_j,
            mean_staleness: state.staleness as f64 / survivors.len().max(1) as f64,
            published,
        });
        let accuracy = published
            .test_accuracy
            .or(published.device_accuracy)
            .map(|accuracy| accuracy as f32);
        let event = Event::Published {
            job: self.job,
            round,
            base: published.model,
            base_bytes: published.model_bytes,
            accuracy,
        };
        self.after(1, Happening::Announce(Box::new(event)));
    }

    pub(super) fn announced(&mut self, event: Event) {
        let is_published = matches!(event, Event::Published { .. });
        self.tell_server(event);
        if is_published {
            self.begin_round();
        }
    }

    /// An allowed upload begins.
    pub(super) fn upload(&mut self, client: u32, number: u64, cohort: CohortId, contribution: ContributionId) {
        let members = self.cohorts.get(&cohort).and_then(|state| Some(state.open.as_ref()?.terms.members));
        let bytes = self.workshop.upload_bytes(members.unwrap_or(self.setup.job.round.max));
        let ms = self.clients.transfer_ms(client, bytes, true);
        self.counts.bytes_up += bytes;
        self.spend(client, 0, bytes);
        let Some(life) = self.active.get(&client).map(|active| active.life) else {
            return;
        };
        let done_at = self.now + ms;
        let upload = Upload {
            client,
            life,
            number,
            cohort,
            contribution,
            done_at,
        };
        self.after(ms.min(HEARD_MS), Happening::Uploading(Box::new(upload)));
    }

    pub(super) fn uploading(&mut self, upload: Upload) {
        let is_open = |open: &Open| open.number == upload.number;
        let active = self.active.get(&upload.client).filter(|active| active.life == upload.life);
        if !active.is_some_and(|active| active.open.get(&RequestKind::Upload).is_some_and(is_open)) {
            return;
        }
        let agent = self.names.agent(upload.client, &mut self.trust);
        let (cohort, contribution) = (upload.cohort, upload.contribution);
        if self.now >= upload.done_at {
            return self.tell_server(Event::Received {
                agent,
                cohort,
                contribution,
            });
        }
        let next = upload.done_at.min(self.now + HEARD_MS);
        self.at(next, Happening::Uploading(Box::new(upload)));
        self.tell_server(Event::UploadProgressed { agent, cohort });
    }

    pub(super) fn log_event(&mut self, event: LogEvent) {
        let time = self.clock.read(self.now);
        self.log.append(&self.trust, time, self.job, event);
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
