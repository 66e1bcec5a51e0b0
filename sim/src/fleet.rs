//! A fleet of devices around the coordinator, in virtual time: the sessions and the coordinator as they are deployed, over links, availability and speeds
//! of a [`population`](crate::population).
//!
//! Time is simulated and work is not: whatever is trained, summed and stepped is asked of a [`Workshop`], which may do it on many threads while the clock
//! goes on; a round's sum is waited for when it is published. A client that is idle has no session and takes no memory but what the population keeps of
//! it; one that works has a session, and what that persists outlives its process, as on a device.
//!
//! The same setup, clients and workshop give the same rounds to the last byte and the last virtual millisecond.

mod client;
mod names;
mod replies;
mod secure;
mod selection;
mod server;
mod training;
mod workshop;

pub use workshop::{Effort, Published, Sum, Unpublished, Work, Workshop};

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use aimass_federation::RequestKind;
use aimass_federation::agent::Event as News;
use aimass_federation::coordinator::{self, Coordinator, Event, JobEnd, JobSpec};
use aimass_protocol::job::{AggregationMode, JobFile};
use aimass_protocol::log::LogEvent;
use aimass_protocol::message::secagg::Shares;
use aimass_protocol::{CohortId, Digest, JobId};

use self::client::{Active, Kept};
use self::names::Names;
use self::server::{CohortState, Task};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::log::Log;
use crate::population::{Clients, Dropout};
use crate::trust::Trust;

/// Things that may happen at one instant before that counts as standing still.
const MOST_AT_ONCE: u32 = 10_000_000;

/// How clients come to check in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Clients of those that are there are drawn at random, as many as have a place; the others stay away. What papers call a random fraction C.
    Uniform,
    /// All that are there ask for work, and come back when they are told to, as deployed devices do.
    Arrival,
}

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Of all draws.
    pub seed: u64,
    /// The job.
    pub job: JobFile,
    /// The model that it starts from.
    pub base: Digest,
    /// Its size in bytes.
    pub base_bytes: u64,
    /// Who checks in.
    pub selection: Selection,
    /// How often clients are lost.
    pub dropout: Dropout,
}

/// A round that was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// Its number, from 1.
    pub round: u32,
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// Members of its cohort.
    pub members: u32,
    /// Contributions in its sum.
    pub contributions: u32,
    /// Clients that were lost since the round before: they went away while they worked, or dropped out.
    pub dropped: u32,
    /// Trainings that began since then.
    pub trainings: u32,
    /// Bytes sent by clients since then.
    pub bytes_up: u64,
    /// Bytes sent to clients since then.
    pub bytes_down: u64,
    /// Joules that clients used since then.
    pub energy_j: f64,
    /// Mean staleness of the contributions, in steps.
    pub mean_staleness: f64,
    /// The model, and what is known of it.
    pub published: Published,
}

/// Why a simulation can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// No round for too long.
    #[error("no round was published for {hours} hours of virtual time: {trouble}")]
    Stuck {
        /// How long that was waited for.
        hours: u64,
        /// What is in the way.
        trouble: String,
    },
    /// The job ended before its last round.
    #[error("the job ended after round {round}: {reason}")]
    Ended {
        /// The last round.
        round: u32,
        /// Why.
        reason: String,
    },
    /// Something that the deployed code never does.
    #[error("the simulation is wrong: {what}; please report this with the seed")]
    Wrong {
        /// What.
        what: String,
    },
}

/// What a client asks of the server.
#[derive(Debug, Clone)]
enum Ask {
    Event(Event),
    /// The same, once the driver has verified them.
    Shares(Shares),
    Fetch {
        base: Digest,
        bytes: u64,
    },
}

#[derive(Debug)]
enum Happening {
    /// A client without a process looks whether there is work, or goes on with what it has.
    Wake {
        client: u32,
    },
    /// Its session's timer.
    Tick {
        client: u32,
        life: u32,
    },
    /// It is told something, if it still lives.
    News(Box<(u32, u32, News)>),
    /// A request reaches the server.
    Request(Box<Request>),
    /// The answer to a request reaches the client.
    Answer(Box<Answer>),
    /// Training, or the part of it that is told, is done.
    Trained {
        client: u32,
        life: u32,
    },
    Progressed {
        client: u32,
        life: u32,
    },
    /// An upload has arrived, in part or whole.
    Uploading(Box<Upload>),
    /// Its window is over, or it drops out.
    Leave {
        client: u32,
        life: u32,
        drops_out: bool,
    },
    /// The server notices that its connection is gone.
    Gone {
        client: u32,
        life: u32,
    },
    ServerTick,
    /// The server's workers are done.
    Done(Box<Task>),
    Announce(Box<Event>),
    /// Places are looked at again.
    Select,
}

#[derive(Debug)]
struct Request {
    client: u32,
    life: u32,
    number: u64,
    kind: RequestKind,
    ask: Ask,
}

#[derive(Debug)]
struct Answer {
    client: u32,
    life: u32,
    number: u64,
    kind: RequestKind,
    news: News,
}

#[derive(Debug)]
struct Upload {
    client: u32,
    life: u32,
    number: u64,
    cohort: CohortId,
    contribution: aimass_protocol::ContributionId,
    done_at: u64,
}

/// Something in the queue.
#[derive(Debug)]
struct Entry {
    at: u64,
    seq: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// Sums since the last published round.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    dropped: u32,
    trainings: u32,
    bytes_up: u64,
    bytes_down: u64,
    energy_j: f64,
}

/// A simulation of one job.
pub struct Fleet<W> {
    setup: Setup,
    job: JobId,
    clients: Clients,
    workshop: W,
    coordinator: Coordinator,
    coordinator_chance: Chance,
    trust: Trust,
    names: Names,
    log: Log,
    clock: Clock,
    now: u64,
    seq: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    chance: Chance,
    active: BTreeMap<u32, Box<Active>>,
    kept: BTreeMap<u32, Kept>,
    /// Clients that were drawn and are not done.
    engaged: BTreeSet<u32>,
    /// Of those, clients that still have to do with the round before.
    again: BTreeSet<u32>,
    /// Clients that are in an earlier group of the running block: they are not drawn.
    given: BTreeSet<u32>,
    /// Of who is drawn.
    draws: Chance,
    lives: u32,
    requests: u64,
    server_tick: Option<u64>,
    cohorts: BTreeMap<CohortId, CohortState>,
    /// Models that may be fetched, newest first.
    bases: Vec<Digest>,
    counts: Counts,
    published_at: u64,
    published: VecDeque<Round>,
    round: u32,
    end: Option<JobEnd>,
    wrong: Option<String>,
    /// Why a client declined the job last.
    declined: Option<String>,
    /// Why a sum became no model last.
    unpublished: Option<String>,
}

impl<W: Workshop> Fleet<W> {
    /// A fleet of these clients. Nothing happens before [`Self::next_round`].
    pub fn new(setup: Setup, clients: Clients, workshop: W) -> Self {
        let mut trust = Trust::new(setup.seed);
        let job = JobId::from_bytes([7; JobId::LEN]);
        let has_keys = setup.job.aggregation.mode == AggregationMode::Secure;
        let names = Names::new(setup.seed, has_keys, &mut trust);
        let clock = Clock::default();
        let mut log = Log::default();
        log.append(&trust, clock.read(0), job, LogEvent::Base { model: setup.base });
        let mut fleet = Self {
            job,
            workshop,
            coordinator: Coordinator::new(coordinator::Config::default()),
            coordinator_chance: Chance::new(setup.seed, "coordinator"),
            names,
            trust,
            log,
            clock,
            now: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            chance: Chance::new(setup.seed, "fleet"),
            active: BTreeMap::new(),
            kept: BTreeMap::new(),
            engaged: BTreeSet::new(),
            given: BTreeSet::new(),
            again: BTreeSet::new(),
            draws: Chance::new(setup.seed, "round 1"),
            lives: 0,
            requests: 0,
            server_tick: None,
            cohorts: BTreeMap::new(),
            bases: vec![setup.base],
            counts: Counts::default(),
            published_at: 0,
            published: VecDeque::new(),
            round: 0,
            end: None,
            wrong: None,
            declined: None,
            unpublished: None,
            clients,
            setup,
        };
        fleet.tell_server(Event::AddJob(Box::new(JobSpec {
            id: job,
            file: fleet.setup.job.clone(),
            next_round: 1,
            base: fleet.setup.base,
            base_bytes: fleet.setup.base_bytes,
            accuracy: None,
            earlier: Vec::new(),
            recent: Vec::new(),
            open: None,
            ended: None,
        })));
        fleet.open();
        fleet
    }

    /// Runs until the next round is published; `None` when the job is over.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn next_round(&mut self) -> Result<Option<Round>, FleetError> {
        let (mut at_once, mut last) = (0, self.now);
        loop {
            if let Some(round) = self.published.pop_front() {
                return Ok(Some(round));
            }
            if let Some(what) = self.wrong.take() {
                return Err(FleetError::Wrong { what });
            }
            match &self.end {
                Some(JobEnd::Finished { .. }) => return Ok(None),
                Some(end) => {
                    let (round, reason) = (self.round, end.reason());
                    let reason = match &self.unpublished {
                        Some(why) => format!("{reason} ({why})"),
                        None => reason,
                    };
                    return Err(FleetError::Ended { round, reason });
                }
                None => {}
            }
            let patience = self.patience_ms();
            let Some(Reverse(next)) = self.queue.pop().filter(|Reverse(next)| next.at <= self.published_at + patience) else {
                return Err(FleetError::Stuck {
                    hours: patience / 3_600_000,
                    trouble: self.trouble(),
                });
            };
            self.now = self.now.max(next.at);
            at_once = if self.now == last { at_once + 1 } else { 0 };
            last = self.now;
            if at_once > MOST_AT_ONCE {
                let what = format!("it stands still at {} ms", self.now);
                return Err(FleetError::Wrong { what });
            }
            self.happen(next.what);
        }
    }

    /// Milliseconds of virtual time so far.
    pub fn now_ms(&self) -> u64 {
        self.now
    }

    /// What computes.
    pub fn workshop(&mut self) -> &mut W {
        &mut self.workshop
    }

    /// The clients.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// So long a round may take before nothing is expected any more.
    fn patience_ms(&self) -> u64 {
        let max_time = u64::try_from(self.setup.job.round.max_time.as_millis()).unwrap_or(u64::MAX / 100);
        max_time.saturating_mul(20).saturating_add(48 * 3_600_000)
    }

    /// What is in the way, for people.
    fn trouble(&self) -> String {
        if let Some(reason) = &self.unpublished {
            return reason.clone();
        }
        if let Some(reason) = &self.declined {
            return format!("clients decline the job: {reason}");
        }
        let view = self.coordinator.job(self.job);
        let text = view.and_then(|view| {
            let seen = format!("{} clients work, {} wait", view.seats, view.ready);
            view.trouble.or(Some(seen))
        });
        text.unwrap_or_else(|| "the job is gone".to_owned())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Wake { client } => self.wake(client),
            Happening::Tick { client, life } => self.client_tick(client, life),
            Happening::News(news) => {
                let (client, life, news) = *news;
                if self.lives_on(client, life) {
                    self.tell_client(client, news);
                }
            }
            Happening::Request(request) => self.requested(*request),
            Happening::Answer(answer) => self.answered(*answer),
            Happening::Trained { client, life } => self.trained(client, life),
            Happening::Progressed { client, life } => self.progressed(client, life),
            Happening::Uploading(upload) => self.uploading(*upload),
            Happening::Leave { client, life, drops_out } => self.leave(client, life, drops_out),
            Happening::Gone { client, life } => self.gone(client, life),
            Happening::ServerTick => {
                self.server_tick = None;
                self.tell_server(Event::Tick);
            }
            Happening::Done(task) => self.done(*task),
            Happening::Announce(event) => self.announced(*event),
            Happening::Select => {
                self.select();
                self.after(selection::LOOK_AGAIN_MS, Happening::Select);
            }
        }
    }

    fn at(&mut self, at: u64, what: Happening) {
        self.seq += 1;
        self.queue.push(Reverse(Entry { at, seq: self.seq, what }));
    }

    fn after(&mut self, ms: u64, what: Happening) {
        self.at(self.now + ms, what);
    }

    fn is_secure(&self) -> bool {
        self.setup.job.aggregation.mode == AggregationMode::Secure
    }
}

impl<W> std::fmt::Debug for Fleet<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("now", &self.now)
            .field("round", &self.round)
            .field("active", &self.active.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
