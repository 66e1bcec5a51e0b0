//! Performs what the session wants done, and tells it what happened. All of its state is in this one task; what takes long runs beside it.

mod answers;
mod network;
mod notes;
mod releases;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use aimass_analytics::release::{Device, fit};
use aimass_crypto::sign::SigningKey;
use aimass_federation::RequestKind;
use aimass_federation::agent::{Config, Effect, Event, Hands, Identity, Masks, Session, Snapshot, Stage, Warning};
use aimass_learning::{BackendChoice, Progress};
use aimass_net::identity::{Enrolment, IdentityError, IdentityFolder};
use aimass_net::{ClientEndpoint, Connection};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::limits::MAX_DECLINED;
use aimass_protocol::message::agent::Task;
use aimass_protocol::{CohortId, ContributionId, Digest, JobId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;
use tokio::sync::mpsc;

use self::notes::Notes;
use self::releases::Following;
use super::signals::Signals;
use super::tasks::{Answer, Message, Requests, Training};
use super::{MaskStep, RunError, RunOptions, requests, serving};
use crate::capabilities;
use crate::event::AgentEvent;
use crate::exit::ExitKind;
use crate::platform::{now, system_rng};
use crate::state::{StateError, StateFolder};
use crate::verify::{VerifiedJob, verify_task};
use crate::work::{self, Bench, TrainOrder, Wish};

/// Longest sleep, so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How often training's progress is drawn.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How often the session hears of it.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long training that is told to stop may take to end its step and to be kept.
const LAST_CHECKPOINT: Duration = Duration::from_secs(5);
/// How long the server is given to hear that this agent goes.
const FAREWELL: Duration = Duration::from_millis(300);

/// How the program ends.
type End = (String, Result<ExitKind, RunError>);

pub(super) struct Driver {
    options: RunOptions,
    identity: IdentityFolder,
    endpoint: ClientEndpoint,
    session: Session,
    rng: ChaCha20Rng,
    sender: mpsc::UnboundedSender<Message>,
    messages: mpsc::UnboundedReceiver<Message>,
    requests: Requests,
    training: Training,
    network: network::Network,
    upkeep: upkeep::Upkeep,
    following: Following,
    /// Jobs that tasks brought, verified.
    jobs: BTreeMap<JobId, VerifiedJob>,
    /// A task whose owner may be in a newer bundle.
    task_in_doubt: Option<Task>,
    notes: Notes,
    end: Option<End>,
}

impl Driver {
    /// Takes up the session where it was. Must be called within a runtime.
    pub(super) fn new(options: RunOptions, identity: IdentityFolder) -> Result<Self, RunError> {
        let member = enrolment(&identity, &options)?.membership().clone();
        let mut snapshot: Snapshot = options.state.load_session()?.unwrap_or_default();
        if let Some(held) = &snapshot.held
            && !options.state.is_intact(held.id)?
        {
            tracing::warn!("a held contribution did not survive a power failure; its work is done again");
            snapshot.held = None;
        }
        let at_hand = task_at_hand(&options.state, enrolment(&identity, &options)?, &mut snapshot)?;
        let held: Vec<ContributionId> = snapshot.held.iter().map(|c| c.id).collect();
        options.state.retain_contributions(&held)?;
        let capabilities = capabilities::of_this_device(&options.device_class, &options.tags);
        let contracts = options.data.contracts();
        options.reporter.tell(&AgentEvent::Started {
            agent: member.id.to_hex(),
            server: member.server,
            contracts: contracts.clone(),
            held: held.len(),
        });
        let config = Config::new(options.policy.clone(), capabilities, contracts, Config::seed_of(member.id));
        let (sender, messages) = mpsc::unbounded_channel();
        Ok(Self {
            notes: Notes::new(&options),
            identity,
            endpoint: ClientEndpoint::new()?,
            session: Session::new(config, snapshot),
            rng: system_rng()?,
            requests: Requests::new(sender.clone()),
            sender,
            messages,
            training: Training::new(),
            network: network::Network::default(),
            upkeep: upkeep::Upkeep::default(),
            following: Following::start(&options),
            jobs: at_hand.into_iter().map(|job| (job.id, job)).collect(),
            task_in_doubt: None,
            end: None,
            options,
        })
    }

    /// Works until something ends it.
    pub(super) async fn run(mut self, signals: &mut Signals) -> Result<ExitKind, RunError> {
        let result = match self.step(Event::Tick).await {
            Ok(()) => self.work(signals).await,
            Err(e) => ("error".to_owned(), Err(e)),
        };
        self.pause_training().await;
        self.requests.abort_all();
        if let Some((_, connection)) = self.network.connection.take() {
            connection.finish();
        }
        let _ = tokio::time::timeout(FAREWELL, self.endpoint.close()).await;
        let (reason, result) = result;
        self.notes.tell(&AgentEvent::Stopped { reason });
        result
    }

    /// Training that runs is kept, so that the next start goes on from there.
    async fn pause_training(&mut self) {
        self.training.pause();
        let ended = async {
            while self.training.is_running() {
                let Some(message) = self.messages.recv().await else { return };
                if matches!(message, Message::Trained { .. })
                    && let Err(e) = self.on_message(message).await
                {
                    return tracing::warn!("{e}");
                }
            }
        };
        if tokio::time::timeout(LAST_CHECKPOINT, ended).await.is_err() {
            tracing::warn!("training did not end its step in time; the next start goes on from its last checkpoint");
        }
    }

    async fn work(&mut self, signals: &mut Signals) -> End {
        loop {
            if let Some(end) = self.end.take() {
                return end;
            }
            let due = self.session.poll_timeout();
            let sleep = due.map_or(LONGEST_SLEEP, |at| at.since(now()).min(LONGEST_SLEEP));
            let until_upkeep = self.until_upkeep().min(LONGEST_SLEEP);
            let result = tokio::select! {
                Some(message) = self.messages.recv() => self.on_message(message).await,
                () = tokio::time::sleep(sleep) => match due {
                    Some(at) if at <= now() => self.step(Event::Tick).await,
                    _ => Ok(()),
                },
                () = tokio::time::sleep(until_upkeep) => self.maintain(),
                (reason, kind) = signals.stop() => return (reason.to_owned(), Ok(kind)),
            };
            if let Err(e) = result {
                return (e.to_string(), Err(e));
            }
        }
    }

    /// Tells the session what happened and does what it wants done, in order.
    async fn step(&mut self, event: Event) -> Result<(), RunError> {
        let identity = self.enrolment().map(|enrolment| identity_of(enrolment, self.identity.key()))?;
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        while let Some(event) = events.pop_front() {
            if matches!(event, Event::Draw { .. } | Event::DrawAgain { .. } | Event::Opening { .. }) {
                // Keys are drawn now: a machine that was copied or set back must not draw the same twice.
                self.rng = system_rng()?;
            }
            let mut hands = Hands {
                rng: &mut self.rng,
                identity: &identity,
            };
            self.session.step(now(), event, &mut hands, &mut effects);
            for effect in std::mem::take(&mut effects) {
                events.extend(self.perform(effect).await?);
            }
        }
        Ok(())
    }

    /// Does one thing. What is known at once is returned, the rest comes as a message.
    async fn perform(&mut self, effect: Effect) -> Result<Option<Event>, RunError> {
        let state = self.options.state.clone();
        let effect = match MaskStep::of(effect) {
            Ok(step) => {
                self.ask(step.kind(), move |c| async move { step.ask(&c).await.map(Answer::Masks) });
                return Ok(None);
            }
            Err(other) => other,
        };
        match effect {
            Effect::Connect => self.begin_connect()?,
            Effect::CheckIn(mut check_in) => {
                self.follow_releases()?;
                // Longer lists are refused; of the others the server may offer one again, which is declined again.
                check_in.declined.truncate(MAX_DECLINED);
                self.ask(RequestKind::CheckIn, |c| async move {
                    requests::check_in(&c, check_in).await.map(Answer::CheckIn)
                });
            }
            Effect::Fetch { job, base, base_bytes } => {
                self.announce_mode(job);
                let (files, may_lack) = self.files_of(job);
                let keep: Vec<Digest> = std::iter::once(base).chain(files.iter().map(|(digest, _)| *digest)).collect();
                state.retain_models(&keep)?;
                self.ask(RequestKind::Fetch, move |c| async move {
                    let mut bytes = requests::fetch(&c, &state, base, base_bytes).await?;
                    for (digest, size_bytes) in files {
                        match requests::fetch(&c, &state, digest, size_bytes).await {
                            Ok(more) => bytes += more,
                            // That it can't be had is what is measured of it.
                            Err(error) if may_lack && serving::is_refusal(&error) => {
                                tracing::warn!(%digest, "a file of the job can't be fetched: {error}");
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    Ok(Answer::Fetched { base, bytes })
                });
            }
            Effect::Train {
                job,
                round,
                base,
                finish_by,
            } => return Ok(self.begin_training(job, round, base, finish_by)),
            Effect::Progress(progress) => self.ask(RequestKind::Progress, move |c| async move {
                let wanted = requests::progress(&c, progress).await?.wanted;
                Ok(Answer::Progress {
                    job: progress.job,
                    base: progress.base,
                    wanted,
                })
            }),
            Effect::DropTask { .. } => {
                self.training.drop_current();
                state.discard_task()?;
            }
            Effect::Offer(ready) => {
                self.announce_mode(ready.job);
                self.ask(RequestKind::Ready, move |c| async move {
                    let reply = requests::ready(&c, ready).await?;
                    Ok(Answer::Ready {
                        contribution: ready.contribution,
                        reply,
                    })
                });
            }
            Effect::Encode {
                contribution,
                descriptor,
                masks,
            } => self.begin_encoding(contribution, *descriptor, masks),
            Effect::Upload { contribution, cohort } => return Ok(self.begin_upload(contribution, cohort)),
            Effect::AskOutcome(query) => self.ask(RequestKind::Outcome, move |c| async move {
                let reply = requests::outcome(&c, query).await?;
                Ok(Answer::Outcome {
                    contribution: query.contribution,
                    reply,
                })
            }),
            Effect::Persist => {
                let snapshot = self.session.snapshot();
                off_reactor(move || state.save_session(&snapshot)).await?;
            }
            Effect::DiscardUpload { contribution, cohort } => state.discard_encoded(contribution, cohort)?,
            Effect::Discard { contribution } => state.discard(contribution)?,
            Effect::Included {
                job,
                contribution: _,
                round,
                model,
            } => {
                self.notes.included(job, round, model);
                if self.options.once {
                    self.end = Some(("one contribution was included (--once)".to_owned(), Ok(ExitKind::Ok)));
                }
            }
            Effect::Report(report) => {
                let server = self
                    .network
                    .connection
                    .as_ref()
                    .and_then(|(_, connection)| connection.peer_public_key());
                self.notes.report(&report, server)?;
            }
            // They were turned into requests above.
            Effect::Advertise(_)
            | Effect::Reveal(_)
            | Effect::DealShares(_)
            | Effect::AskSurvivors(_)
            | Effect::Consent(_)
            | Effect::Unmask(_) => {}
            Effect::Sleep { until, reason } => self.notes.sleeping(until.since(now()), &reason),
            // A revoked agent has been told what there is to know; what it meets while it waits is no news.
            Effect::Warn(Warning::Unreachable { reason }) if self.network.is_revoked() => tracing::debug!("{reason}"),
            Effect::Warn(warning) => {
                let retry = self.session.poll_timeout().map_or(Duration::ZERO, |at| at.since(now()));
                self.notes.warn(warning, retry);
            }
        }
        Ok(None)
    }

    /// Starts a request on the connection. Without one the session has been, or will be, told so.
    fn ask<F>(&mut self, request: RequestKind, ask: impl FnOnce(Connection) -> F)
    where
        F: Future<Output = Result<Answer, aimass_net::NetError>> + Send + 'static,
    {
        if let Some((_, connection)) = &self.network.connection {
            self.requests.start(request, ask(connection.clone()));
        }
    }

    fn begin_training(&mut self, job: JobId, round: u32, base: Digest, finish_by: Option<Timestamp>) -> Option<Event> {
        self.announce_mode(job);
        let failed = |reason: String| Some(Event::TrainFailed { job, reason });
        let Some(verified) = self.jobs.get(&job) else {
            return failed("its job file is no longer known; it is asked for again".to_owned());
        };
        let contract = &verified.file.data.contract;
        let Some(data) = self.options.data.file(contract) else {
            return failed(format!(
                "there is no data for contract {contract:?}; start with --data {contract}=FILE"
            ));
        };
        let mut id = [0; ContributionId::LEN];
        self.rng.fill_bytes(&mut id);
        let order = TrainOrder {
            job,
            file: verified.file.clone(),
            round,
            base,
            data: data.to_owned(),
            contribution: ContributionId::from_bytes(id),
            finish_by,
            bench: self.bench(),
        };
        let (number, wanted, turn) = self.training.begin();
        let (state, sender, show) = (self.options.state.clone(), self.sender.clone(), self.options.show_progress);
        let backend = self.options.backend.clone();
        tokio::task::spawn_blocking(move || {
            // A thread that panicked has let go of its training as well.
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let mut meter = Meter::new(show, !order.file.trains());
            let result = work::work_on(&state, &order, &backend, &mut |progress| {
                if let Some(percent) = meter.step(progress) {
                    let _ = sender.send(Message::Progressed { number, percent });
                }
                wanted.wish()
            });
            meter.clear();
            // It may have been kept once more after the task was dropped.
            if wanted.wish() == Wish::Drop
                && let Err(e) = state.discard_checkpoint()
            {
                tracing::warn!("{e}");
            }
            let _ = sender.send(Message::Trained {
                number,
                order: Box::new(order),
                result,
            });
        });
        None
    }

    /// What a release asks of this device.
    fn bench(&self) -> Bench {
        let of = capabilities::of_this_device(&self.options.device_class, &self.options.tags);
        Bench {
            device: Device {
                class: of.device_class,
                memory_bytes: of.memory_bytes,
                cores: of.cores,
                gpu: self.options.backend.backend != BackendChoice::Cpu,
            },
            max_file_bytes: u64::from(self.options.models.max_mib) << 20,
        }
    }

    /// The files that a task needs besides its base: those of a release or a calibration that this device may use, or a job's teacher. And whether the work can
    /// begin without them: that one can't be had is what a release measures.
    fn files_of(&self, job: JobId) -> (Vec<(Digest, u64)>, bool) {
        let bench = self.bench();
        let file = self.jobs.get(&job).map(|job| &job.file);
        if let Some(calibration) = file.and_then(|file| file.calibration.as_ref()) {
            let fits = calibration.size_bytes <= bench.max_file_bytes;
            return (
                fits.then_some((calibration.digest, calibration.size_bytes)).into_iter().collect(),
                true,
            );
        }
        let Some(release) = file.and_then(|file| file.release.as_ref()) else {
            // One that is not taken was declined with its task.
            let teacher = file.and_then(|file| work::pinned_teacher(file, bench.max_file_bytes).ok().flatten());
            return (
                teacher.into_iter().map(|teacher| (teacher.digest, teacher.size_bytes)).collect(),
                false,
            );
        };
        let variant = fit(release, &bench.device).map(|at| (release.variants[at].digest, release.variants[at].size_bytes));
        let champion = release.champion.as_ref().map(|champion| (champion.digest, champion.size_bytes));
        let mut files: Vec<_> = variant.into_iter().chain(champion).collect();
        files.retain(|(_, size_bytes)| *size_bytes <= bench.max_file_bytes);
        files.dedup();
        (files, true)
    }

    fn begin_encoding(&mut self, contribution: ContributionId, descriptor: Descriptor, masks: Option<Masks>) {
        let (state, sender) = (self.options.state.clone(), self.sender.clone());
        tokio::task::spawn_blocking(move || {
            let result = work::encode(&state, contribution, &descriptor, masks.as_ref());
            let _ = sender.send(Message::Encoded {
                contribution,
                cohort: descriptor.cohort,
                result,
            });
        });
    }

    /// Uploads what is on disk. If it was damaged there it is made again from the same delta and the same seed: the same bytes. Where there are masks,
    /// the session has to say whether they are still known.
    fn begin_upload(&mut self, contribution: ContributionId, cohort: CohortId) -> Option<Event> {
        let held = self.session.snapshot().held.into_iter().find(|c| c.id == contribution);
        let Some(Stage::Sent { descriptor, .. } | Stage::Offered { descriptor }) = held.map(|c| c.stage) else {
            return Some(Event::Failed {
                request: RequestKind::Upload,
                reason: format!("contribution {contribution} is in no cohort"),
            });
        };
        let state = self.options.state.clone();
        self.ask(RequestKind::Upload, move |c| async move {
            let path = state.encoded_path(contribution);
            let record = tokio::task::spawn_blocking(move || match &descriptor.secagg {
                None => work::encode(&state, contribution, &descriptor, None).map(Some),
                Some(_) => work::encoded(&state, contribution, cohort),
            })
            .await;
            let record = record.map_err(std::io::Error::other).and_then(|r| r.map_err(std::io::Error::other));
            let record = record.map_err(|source| aimass_net::NetError::Io {
                what: "residues".to_owned(),
                source,
            })?;
            let Some(record) = record else {
                return Ok(Answer::ResiduesLost { contribution, cohort });
            };
            let uploaded = requests::upload(&c, path, record, contribution, cohort).await?;
            Ok(Answer::Uploaded {
                contribution,
                cohort,
                uploaded,
            })
        });
        None
    }

    /// Says once a job who will be able to read its updates.
    fn announce_mode(&mut self, job: JobId) {
        let known = self.jobs.get(&job).map(|j| {
            let aggregation = &j.file.aggregation;
            (j.file.job.name.clone(), aggregation.mode, aggregation.floor)
        });
        let held = || {
            self.session
                .snapshot()
                .held
                .into_iter()
                .find(|c| c.job == job)
                .map(|c| (job.to_string(), c.consent.mode, c.consent.floor))
        };
        if let Some((name, mode, floor)) = known.or_else(held) {
            self.notes.mode_of(job, &name, mode, floor);
        }
    }

    fn enrolment(&self) -> Result<&Enrolment, RunError> {
        enrolment(&self.identity, &self.options)
    }
}

/// Who an agent is, as its session has to know it.
pub fn identity_of(enrolment: &Enrolment, key: &Arc<SigningKey>) -> Identity {
    Identity {
        key: Arc::clone(key),
        certificate: enrolment.certificate().to_vec(),
        roots: enrolment.bundle().roots().map(<[u8]>::to_vec).collect(),
        tenant: enrolment.membership().tenant.clone(),
    }
}

fn enrolment<'a>(identity: &'a IdentityFolder, options: &RunOptions) -> Result<&'a Enrolment, RunError> {
    Ok(identity.enrolment().ok_or_else(|| IdentityError::NotJoined {
        dir: options.state.identity_dir(),
    })?)
}

/// The job of the task that was at hand, its signature verified again. A task that can't be taken up again is forgotten.
fn task_at_hand(state: &StateFolder, enrolment: &Enrolment, snapshot: &mut Snapshot) -> Result<Option<VerifiedJob>, StateError> {
    let Some(assigned) = &snapshot.task else {
        state.discard_task()?;
        return Ok(None);
    };
    let found = match state.load_task() {
        Ok(Some(task)) if (task.job, task.base) == (assigned.job, assigned.base) => {
            verify_task(&task, &enrolment.membership().tenant, enrolment.bundle().content()).map_err(|e| e.to_string())
        }
        Ok(_) => Err("its signed job is not on disk".to_owned()),
        Err(e @ StateError::Damaged { .. }) => Err(e.to_string()),
        Err(e) => return Err(e),
    };
    match found {
        Ok(job) => Ok(Some(job)),
        Err(reason) => {
            tracing::warn!("the task that was at hand can't be taken up again: {reason}; the server is asked for work");
            snapshot.task = None;
            state.discard_task()?;
            Ok(None)
        }
    }
}

/// Runs what syncs to the disk off the reactor.
async fn off_reactor<T: Send + 'static>(f: impl FnOnce() -> Result<T, StateError> + Send + 'static) -> Result<T, RunError> {
    Ok(tokio::task::spawn_blocking(f).await.map_err(std::io::Error::other)??)
}

/// Draws training's or counting's progress, and says when it is to be told.
struct Meter {
    show: bool,
    counts: bool,
    drawn: Option<Instant>,
    told: Instant,
}

impl Meter {
    fn new(show: bool, counts: bool) -> Self {
        Self {
            show,
            counts,
            drawn: None,
            told: Instant::now(),
        }
    }

    /// How much of training is done, if the session should hear it.
    fn step(&mut self, progress: Progress) -> Option<u8> {
        let percent = u128::from(progress.step) * 100 / u128::from(progress.steps.max(1));
        let percent = u8::try_from(percent).unwrap_or(100).min(100);
        if self.show && self.drawn.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
            // A terminal that went away is no reason to stop training.
            let _ = if self.counts {
                write!(std::io::stderr(), "\r\x1b[Kcounting {percent:3} %")
            } else {
                write!(std::io::stderr(), "\r\x1b[Ktraining {percent:3} %, loss {:.4}", progress.loss)
            };
            self.drawn = Some(Instant::now());
        }
        let due = self.told.elapsed() >= TELL_EVERY;
        if due {
            self.told = Instant::now();
        }
        due.then_some(percent)
    }

    fn clear(&self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
