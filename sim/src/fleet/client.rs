//! A client at work: a session, what it persists, a window of time.

use std::collections::BTreeMap;

use aimass_federation::RequestKind;
use aimass_federation::agent::{Config, Effect as Wish, Event as News, Hands, Masks, Policy, Session, Snapshot, Warning};
use aimass_federation::coordinator::{Event, SecureStep};
use aimass_protocol::message::agent::{Capabilities, CheckIn};
use aimass_protocol::{CohortId, ContributionId, Digest};

use super::{Answer, Ask, Fleet, Happening, Request, Selection, Workshop};
use crate::chance::Chance;
use crate::clock::Clock;

/// Making residues takes about so long, apart from training.
const ENCODING_MS: u64 = 50;

/// A contribution that was trained, to the extent that it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trained {
    pub(super) contribution: ContributionId,
    pub(super) base: Digest,
    /// `None` for all steps.
    pub(super) steps: Option<u64>,
}

/// What outlives a client's process.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) snapshot: Snapshot,
    pub(super) trained: Option<Trained>,
    /// Training of this base got so far, in milliseconds.
    pub(super) progress: Option<(Digest, u64)>,
    /// The model on its disk.
    pub(super) fetched: Option<Digest>,
    /// Residues on its disk are under these.
    pub(super) masks: Option<(ContributionId, CohortId, Masks)>,
}

impl Kept {
    pub(super) fn has_work(&self) -> bool {
        self.snapshot.held.is_some() || self.snapshot.task.is_some()
    }
}

/// A training under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) base: Digest,
    pub(super) since: u64,
    /// What was done before.
    pub(super) before_ms: u64,
    pub(super) all_ms: u64,
}

/// A request that has no answer yet.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) ask: Event,
}

pub(super) struct Active {
    pub(super) life: u32,
    pub(super) session: Session,
    pub(super) kept: Kept,
    pub(super) clock: Clock,
    chance: Chance,
    /// The newest request of each kind, as the client knows it.
    pub(super) latest: BTreeMap<RequestKind, u64>,
    /// Requests that the server has not answered.
    pub(super) open: BTreeMap<RequestKind, Open>,
    pub(super) training: Option<Running>,
    pub(super) spent_j: f64,
    /// It was given work in this life or before.
    worked: bool,
    /// To the check-in that was done for it.
    answer: Option<News>,
    tick: Option<u64>,
}

impl<W: Workshop> Fleet<W> {
    /// The session of a client that does not work, up to the answer to its check-in: it would always say the same, so none is made for it.
    pub(super) fn check_in(&mut self, client: u32) {
        let agent = self.names.agent(client, &mut self.trust);
        let check_in = CheckIn {
            capabilities: self.capabilities(client),
            contracts: vec![self.setup.job.data.contract.clone()],
            declined: Vec::new(),
            held: Vec::new(),
            spent: self.kept.get(&client).map_or_else(Vec::new, |kept| spent_of(&kept.snapshot)),
            log_size: 0,
        };
        self.tell_server(Event::CheckIn { agent, check_in });
    }

    fn capabilities(&self, client: u32) -> Capabilities {
        let class = self.clients.class(client);
        Capabilities {
            agent_version: "simulated".to_owned(),
            cores: class.cores,
            memory_bytes: u64::from(class.memory_mib) << 20,
            device_class: class.name.clone(),
            tags: Vec::new(),
        }
    }

    /// Starts the client's process. Where its check-in was done for it ([`Self::check_in`]), `answer` is what came of it.
    pub(super) fn activate(&mut self, client: u32, until_ms: u64, answer: Option<News>) {
        let agent = self.names.agent(client, &mut self.trust);
        // Fills in its keys, where there are any.
        self.names.identity(client, &mut self.trust);
        let kept = self.kept.remove(&client).unwrap_or_default();
        let policy = Policy {
            allow_plain: true,
            min_profile: self.setup.job.aggregation.profile,
            ..Policy::default()
        };
        let contracts = vec![self.setup.job.data.contract.clone()];
        let config = Config::new(policy, self.capabilities(client), contracts, Config::seed_of(agent));
        self.lives = self.lives.wrapping_add(1);
        let life = self.lives;
        let active = Active {
            life,
            session: Session::new(config, kept.snapshot.clone()),
            worked: kept.has_work(),
            kept,
            clock: Clock {
                ahead_ms: self.clients.skew_ms(client),
            },
            chance: Chance::new(self.setup.seed, &format!("client {client} {life}")),
            latest: BTreeMap::new(),
            open: BTreeMap::new(),
            training: None,
            spent_j: 0.0,
            answer,
            tick: None,
        };
        self.active.insert(client, Box::new(active));
        self.at(
            until_ms,
            Happening::Leave {
                client,
                life,
                drops_out: false,
            },
        );
        self.tell_client(client, News::Tick);
    }

    pub(super) fn lives_on(&self, client: u32, life: u32) -> bool {
        self.active.get(&client).is_some_and(|active| active.life == life)
    }

    /// A message's way, in milliseconds. One that is lost is sent again after a pause that doubles (RFC 9002, section 6.2).
    pub(super) fn latency(&mut self, client: u32) -> u64 {
        let link = self.clients.link(client);
        let (range, loss) = (link.latency_ms, link.loss);
        let mut ms = self.chance.within(range);
        let mut pause = 3 * range.1.max(10);
        for _ in 0..10 {
            if !self.chance.per_mille((loss * 1000.0) as u64) {
                break;
            }
            ms += pause;
            pause *= 2;
        }
        ms
    }

    pub(super) fn client_tick(&mut self, client: u32, life: u32) {
        let Some(active) = self.active.get_mut(&client).filter(|active| active.life == life) else {
            return;
        };
        active.tick = None;
        let now = active.clock.read(self.now);
        if active.session.poll_timeout().is_some_and(|at| at <= now) {
            self.tell_client(client, News::Tick);
        } else {
            self.schedule(client);
        }
    }

    fn schedule(&mut self, client: u32) {
        let Some(active) = self.active.get_mut(&client) else { return };
        let Some(at) = active.session.poll_timeout() else { return };
        let at = active.clock.when(at).max(self.now + 1);
        if active.tick.is_none_or(|tick| at < tick) {
            active.tick = Some(at);
            let life = active.life;
            self.at(at, Happening::Tick { client, life });
        }
    }

    pub(super) fn tell_client(&mut self, client: u32, news: News) {
        let Some(active) = self.active.get_mut(&client) else { return };
        let life = active.life;
        let now = active.clock.read(self.now);
        let mut wishes = Vec::new();
        let mut hands = Hands {
            rng: active.chance.rng(),
            identity: self.names.identity(client, &mut self.trust),
        };
        active.session.step(now, news, &mut hands, &mut wishes);
        for wish in wishes {
            if !self.lives_on(client, life) {
                return;
            }
            self.grant(client, life, wish);
        }
        if self.lives_on(client, life) {
            self.schedule(client);
        }
    }

    fn grant(&mut self, client: u32, life: u32, wish: Wish) {
        let agent = self.names.agent(client, &mut self.trust);
        match wish {
            Wish::Connect => {
                let ms = self.latency(client);
                self.after(ms, Happening::News(Box::new((client, life, News::Connected))));
            }
            Wish::CheckIn(check_in) => self.checks_in(client, check_in),
            Wish::Fetch { base, base_bytes, .. } => {
                let bytes = base_bytes;
                self.request(client, RequestKind::Fetch, Ask::Fetch { base, bytes });
            }
            Wish::Train { base, finish_by, .. } => self.train(client, base, finish_by),
            Wish::DropTask { .. } => {
                if let Some(active) = self.active.get_mut(&client) {
                    active.training = None;
                    active.kept.progress = None;
                }
            }
            Wish::Progress(progress) => self.request(client, RequestKind::Progress, Ask::Event(Event::Progress { agent, progress })),
            Wish::Offer(ready) => self.request(client, RequestKind::Ready, Ask::Event(Event::Ready { agent, ready })),
            Wish::Advertise(advert) => {
                let key = self.names.identity(client, &mut self.trust).key.public();
                let advert = Box::new(advert);
                self.secure_request(client, SecureStep::Advert { advert, key });
            }
            Wish::Reveal(reveal) => self.secure_request(client, SecureStep::Reveal(reveal)),
            Wish::DealShares(shares) => self.request(client, RequestKind::Shares, Ask::Shares(shares)),
            Wish::AskSurvivors(query) => self.secure_request(client, SecureStep::Survivors(query)),
            Wish::Consent(consent) => self.secure_request(client, SecureStep::Consent(consent)),
            Wish::Unmask(unmask) => self.secure_request(client, SecureStep::Unmask(unmask)),
            Wish::Report(report) => {
                self.wrong = Some(format!("client {client} takes an honest server for a cheat: {}", report.what));
            }
            Wish::Encode {
                contribution,
                descriptor,
                masks,
            } => {
                let cohort = descriptor.cohort;
                if let Some(active) = self.active.get_mut(&client) {
                    active.kept.masks = masks.map(|masks| (contribution, cohort, masks));
                }
                let ms = ENCODING_MS + self.chance.below(ENCODING_MS);
                self.after(
                    ms,
                    Happening::News(Box::new((client, life, News::Encoded { contribution, cohort }))),
                );
            }
            Wish::Upload { contribution, cohort } => {
                if self.drops_out_of_upload(client, life) {
                    return;
                }
                let event = Event::UploadBegun {
                    agent,
                    cohort,
                    contribution,
                };
                self.request(client, RequestKind::Upload, Ask::Event(event));
            }
            Wish::AskOutcome(query) => self.request(client, RequestKind::Outcome, Ask::Event(Event::Outcome { agent, query })),
            Wish::Persist => {
                if let Some(active) = self.active.get_mut(&client) {
                    active.kept.snapshot = active.session.snapshot();
                }
            }
            Wish::Discard { contribution } => {
                if let Some(active) = self.active.get_mut(&client) {
                    active.kept.trained.take_if(|trained| trained.contribution == contribution);
                    active.kept.masks.take_if(|(of, _, _)| *of == contribution);
                }
            }
            Wish::Warn(Warning::Declined { reason, .. }) => self.declined = Some(reason),
            Wish::DiscardUpload { contribution, cohort } => {
                if let Some(active) = self.active.get_mut(&client) {
                    active.kept.masks.take_if(|(of, into, _)| (*of, *into) == (contribution, cohort));
                }
            }
            Wish::Included { .. } | Wish::Sleep { .. } | Wish::Warn(_) => {}
        }
    }

    /// A client that has done its work goes back to sleep, unless all that are there ask for more.
    fn checks_in(&mut self, client: u32, check_in: CheckIn) {
        let agent = self.names.agent(client, &mut self.trust);
        let Some(active) = self.active.get_mut(&client) else { return };
        if let Some(answer) = active.answer.take() {
            active.worked = true;
            let life = active.life;
            let ms = self.latency(client);
            return self.after(ms, Happening::News(Box::new((client, life, answer))));
        }
        let is_idle = check_in.held.is_empty() && active.kept.snapshot.task.is_none();
        if is_idle && active.worked {
            let battery = self.clients.battery_holds(client, active.spent_j);
            self.retire(client);
            match self.setup.selection {
                Selection::Uniform => {
                    self.tell_server(Event::Gone { agent });
                    self.disengage(client);
                }
                Selection::Arrival if battery => self.after(1, Happening::Wake { client }),
                Selection::Arrival => {
                    // It takes no more work before it was charged.
                    self.tell_server(Event::Gone { agent });
                    let window = self.clients.window(client, self.now);
                    let next = window.and_then(|window| self.clients.window(client, window.until_ms.saturating_add(1)));
                    if let Some(next) = next {
                        self.at(next.from_ms, Happening::Wake { client });
                    }
                }
            }
            return;
        }
        self.request(client, RequestKind::CheckIn, Ask::Event(Event::CheckIn { agent, check_in }));
    }

    /// Ends the client's process. What it keeps is kept, if it is anything.
    pub(super) fn retire(&mut self, client: u32) {
        let Some(active) = self.active.remove(&client) else { return };
        let kept = active.kept;
        if kept.has_work() || kept.trained.is_some() || kept.snapshot != Snapshot::default() {
            self.kept.insert(client, kept);
        }
    }

    /// Sends a client's request.
    pub(super) fn request(&mut self, client: u32, kind: RequestKind, ask: Ask) {
        self.requests += 1;
        let number = self.requests;
        let Some(active) = self.active.get_mut(&client) else { return };
        active.latest.insert(kind, number);
        let life = active.life;
        let ms = self.latency(client);
        self.after(
            ms,
            Happening::Request(Box::new(Request {
                client,
                life,
                number,
                kind,
                ask,
            })),
        );
    }

    /// An answer counts as long as its request is the newest of its kind.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Answer {
            client,
            life,
            number,
            kind,
            news,
        } = answer;
        let is_newest = |active: &Active| active.life == life && active.latest.get(&kind) == Some(&number);
        if self.active.get(&client).is_some_and(|active| is_newest(active)) {
            self.tell_client(client, news);
        }
    }

    /// The base that a contribution of this client stands on, with how far its training got.
    pub(super) fn trained_of(&self, client: u32, contribution: ContributionId) -> Option<Trained> {
        let kept = match self.active.get(&client) {
            Some(active) => &active.kept,
            None => self.kept.get(&client)?,
        };
        kept.trained.filter(|trained| trained.contribution == contribution)
    }
}

fn spent_of(snapshot: &Snapshot) -> Vec<aimass_protocol::message::agent::Held> {
    let spent = snapshot.spent.iter();
    spent
        .map(|(job, spent)| aimass_protocol::message::agent::Held {
            job: *job,
            base: spent.base,
        })
        .collect()
}
