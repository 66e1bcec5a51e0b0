//! One agent: performs what its session wants done, and tells it what happened.

mod answers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aimass_edge_agent::run::{self as requests, MaskAnswer, MaskStep};
use aimass_federation::RequestKind;
use aimass_federation::agent::{Config, Effect, Event, Hands, Identity, Policy, Session, Stage, Warning};
use aimass_net::{ClientEndpoint, Connection, NetError};
use aimass_protocol::message::agent::{Capabilities, CheckInReply, OutcomeReply, ReadyReply};
use aimass_protocol::{CohortId, ContributionId, Digest, JobId, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::task::{AbortHandle, JoinSet};

use crate::upload::{fetch, upload};
use crate::{CONTRACT, Member, World};

/// Wall time that no clock change moves.
pub(crate) struct Clock {
    at_start: Timestamp,
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            at_start: aimass_cli::now(),
            start: Instant::now(),
        }
    }

    fn now(&self) -> Timestamp {
        self.at_start.after(self.start.elapsed())
    }
}

/// What a task of an agent has to say when it is done.
enum Message {
    Connected(Result<Connection, String>),
    Closed {
        connection: u64,
        error: NetError,
    },
    Answer {
        request: RequestKind,
        number: u64,
        result: Result<Answer, NetError>,
    },
    Trained {
        job: JobId,
        base: Digest,
    },
}

enum Answer {
    CheckIn(CheckInReply),
    Fetched(Digest),
    Ready(ContributionId, ReadyReply),
    Uploaded(ContributionId, CohortId),
    Masks(MaskAnswer),
    Outcome(ContributionId, OutcomeReply),
}

/// See the module.
pub(crate) struct Agent {
    world: Arc<World>,
    index: usize,
    endpoint: ClientEndpoint,
    session: Session,
    identity: Identity,
    /// Makes keys too: nothing here is worth a secret.
    rng: ChaCha8Rng,
    connection: Option<Connection>,
    connections: u64,
    tasks: JoinSet<Message>,
    /// Open requests, one of a kind, with their numbers.
    open: BTreeMap<RequestKind, (u64, AbortHandle)>,
    asked: u64,
}

impl Agent {
    /// With what its disk has.
    pub(crate) fn new(world: Arc<World>, index: usize, endpoint: ClientEndpoint) -> Self {
        let policy = Policy {
            allow_plain: true,
            ..Policy::default()
        };
        let capabilities = Capabilities {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            cores: 1,
            ..Capabilities::default()
        };
        let seed = Config::seed_of(world.members[index].id());
        let config = Config {
            backoff_first: world.settings.backoff_first,
            ..Config::new(policy, capabilities, vec![CONTRACT.to_owned()], seed)
        };
        world.disks[index].write(|disk| disk.starts += 1);
        let disk = world.disks[index].read();
        let member = &world.members[index];
        Self {
            session: Session::new(config, disk.snapshot),
            identity: requests::identity_of(&member.enrolment, &member.key),
            // Another row at each start: a contribution's name is never used twice.
            rng: ChaCha8Rng::seed_from_u64(seed ^ disk.starts.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            connection: None,
            connections: 0,
            tasks: JoinSet::new(),
            open: BTreeMap::new(),
            asked: 0,
            world,
            index,
            endpoint,
        }
    }

    /// Works until its host is killed.
    pub(crate) async fn run(mut self, pause: Duration) {
        tokio::time::sleep(pause).await;
        self.step(Event::Tick);
        loop {
            let now = self.world.clock.now();
            let due = self.session.poll_timeout();
            let sleep = due.map_or(Duration::from_secs(3600), |at| at.since(now));
            tokio::select! {
                Some(done) = self.tasks.join_next() => {
                    // An aborted one has nothing to say; one that panicked has said it already.
                    if let Ok(message) = done {
                        self.on_message(message);
                    }
                }
                () = tokio::time::sleep(sleep) => self.step(Event::Tick),
            }
        }
    }

    fn member(&self) -> &Member {
        &self.world.members[self.index]
    }

    /// Tells the session what happened and does what it wants done, in order.
    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        while let Some(event) = events.pop_front() {
            let mut hands = Hands {
                rng: &mut self.rng,
                identity: &self.identity,
            };
            self.session.step(self.world.clock.now(), event, &mut hands, &mut effects);
            for effect in std::mem::take(&mut effects) {
                events.extend(self.perform(effect));
            }
        }
        self.world.tally.does(self.index, self.session.activity());
    }

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        let effect = match MaskStep::of(effect) {
            Ok(step) => {
                self.ask(step.kind(), move |c| async move { step.ask(&c).await.map(Answer::Masks) });
                return None;
            }
            Err(other) => other,
        };
        match effect {
            Effect::Connect => {
                let (world, endpoint, index) = (Arc::clone(&self.world), self.endpoint.clone(), self.index);
                self.tasks.spawn(async move {
                    let member = &world.members[index];
                    let connected = endpoint.connect_member(&member.enrolment, &member.key).await;
                    Message::Connected(connected.map_err(|e| e.to_string()))
                });
            }
            Effect::CheckIn(check_in) => {
                let world = Arc::clone(&self.world);
                self.ask(RequestKind::CheckIn, |c| async move {
                    let asked = Instant::now();
                    let reply = requests::check_in(&c, check_in).await?;
                    world.tally.checked_in(asked);
                    Ok(Answer::CheckIn(reply))
                });
            }
            Effect::Fetch { base, .. } => {
                if self.world.disks[self.index].read().model == Some(base) {
                    return Some(Event::Fetched { base });
                }
                self.ask(RequestKind::Fetch, move |c| async move {
                    fetch(&c, base).await?;
                    Ok(Answer::Fetched(base))
                });
            }
            Effect::Train { job, base, .. } => return self.train(job, base),
            Effect::Offer(ready) => self.ask(RequestKind::Ready, move |c| async move {
                Ok(Answer::Ready(ready.contribution, requests::ready(&c, ready).await?))
            }),
            // Residues follow from the contribution, the cohort and its masks: they are made when they are sent. The masks are kept like a file: they
            // stand for the masked residues that a real agent has on its disk, and are smaller.
            Effect::Encode {
                contribution,
                descriptor,
                masks,
            } => {
                let cohort = descriptor.cohort;
                self.world.disks[self.index].write(|disk| disk.masks = masks.map(|masks| (cohort, masks)));
                return Some(Event::Encoded { contribution, cohort });
            }
            Effect::Upload { contribution, cohort } => return self.upload(contribution, cohort),
            Effect::AskOutcome(query) => self.ask(RequestKind::Outcome, move |c| async move {
                Ok(Answer::Outcome(query.contribution, requests::outcome(&c, query).await?))
            }),
            Effect::Persist => {
                let snapshot = self.session.snapshot();
                self.world.disks[self.index].write(|disk| disk.snapshot = snapshot);
            }
            Effect::Warn(Warning::Unreachable { .. }) | Effect::Sleep { .. } => {}
            Effect::Warn(Warning::Refused { request, refusal }) => {
                self.world.tally.trouble(&format!("{request}: {}", refusal.code));
                if matches!(request, RequestKind::Outcome | RequestKind::Survivors | RequestKind::Consent)
                    && let Some(held) = self.session.snapshot().held.filter(|held| held.stage == Stage::Trained)
                {
                    // The cohort is forgotten: it is offered again.
                    self.world.tally.outcome(self.index, held.id, OutcomeReply::NotIncluded);
                }
            }
            Effect::Warn(warning) => self.world.tally.trouble(&warning.to_string()),
            Effect::Report(report) => self.world.tally.trouble(&format!("the server cheats: {}", report.what)),
            Effect::DiscardUpload { .. } | Effect::Discard { .. } => self.world.disks[self.index].write(|disk| disk.masks = None),
            // They were turned into requests above.
            Effect::Advertise(_)
            | Effect::Reveal(_)
            | Effect::DealShares(_)
            | Effect::AskSurvivors(_)
            | Effect::Consent(_)
            | Effect::Unmask(_) => {}
            // Outcomes are told when they are heard.
            Effect::Included { .. } => {}
            // Training is a pause here: there is no progress to tell, and what is done for nothing is discarded when it comes.
            Effect::Progress(_) | Effect::DropTask { .. } => {}
        }
        None
    }

    /// Starts a request on the connection. Without one the session has been, or will be, told so.
    fn ask<F>(&mut self, request: RequestKind, ask: impl FnOnce(Connection) -> F)
    where
        F: Future<Output = Result<Answer, NetError>> + Send + 'static,
    {
        let Some(connection) = &self.connection else { return };
        self.asked += 1;
        let number = self.asked;
        let asking = ask(connection.clone());
        let task = self.tasks.spawn(async move {
            let result = asking.await;
            Message::Answer { request, number, result }
        });
        if let Some((_, replaced)) = self.open.insert(request, (number, task)) {
            replaced.abort();
        }
    }

    fn train(&mut self, job: JobId, base: Digest) -> Option<Event> {
        if self.world.oracle().is_none() {
            let reason = "this swarm has no oracle".to_owned();
            return Some(Event::TrainFailed { job, reason });
        }
        let (least, most) = self.world.settings.training;
        let pause = least
            + most
                .saturating_sub(least)
                .mul_f64(f64::from(self.rng.next_u32()) / f64::from(u32::MAX));
        self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            Message::Trained { job, base }
        });
        None
    }

    fn upload(&mut self, contribution: ContributionId, cohort: CohortId) -> Option<Event> {
        let held = self.session.snapshot().held.filter(|held| held.id == contribution);
        let stage = held.map(|held| held.stage);
        let (Some(Stage::Sent { descriptor, .. } | Stage::Offered { descriptor }), Some(oracle)) = (stage, self.world.oracle()) else {
            return Some(Event::Failed {
                request: RequestKind::Upload,
                reason: "there is nothing to upload".to_owned(),
            });
        };
        let index = self.index;
        let kept = self.world.disks[index].read().masks;
        let masks = kept.filter(|(of, _)| *of == cohort).map(|(_, masks)| masks);
        self.ask(RequestKind::Upload, move |c| async move {
            upload(&c, &oracle, index, contribution, &descriptor, masks.as_ref()).await?;
            Ok(Answer::Uploaded(contribution, cohort))
        });
        None
    }
}
