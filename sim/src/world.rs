//! Virtual time, and everything that happens in it.

mod answers;
mod device;
mod link;
mod liveness;
mod masks;
mod server;
mod timed;
mod work;

use std::collections::BTreeMap;

use aimass_federation::RequestKind;
use aimass_federation::agent::{Event as News, Masks};
use aimass_federation::coordinator::{Event, JobEnd};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::secagg::Shares;
use aimass_protocol::{AgentId, ContributionId, Digest, JobId};

use self::device::Device;
use self::link::Link;
use self::server::{Server, Task};
use crate::chance::Chance;
use crate::fault::{Blocks, Fault, FaultPlan, Faults};
use crate::oracle::{Oracle, Violation};
use crate::report::Report;
use crate::sabotage::Sabotage;
use crate::scenario::Scenario;
use crate::simulation::Ending;
use crate::trust::Trust;
use crate::workload::Workload;

/// Things that may happen at one instant before that counts as standing still.
const MOST_AT_ONCE: u32 = 100_000;
/// A device must know what became of its contribution this long after the end of all jobs and faults.
const SETTLED_MS: u64 = 3 * 3600 * 1000;

/// What a device asks of the server.
#[derive(Debug, Clone)]
enum Ask {
    /// Something that the coordinator answers.
    Event(Event),
    /// The same, once the driver has verified them.
    Shares(Shares),
    /// A model, which the driver answers.
    Fetch { base: Digest },
}

#[derive(Debug, Clone)]
enum Happening {
    /// A request reaches the server.
    Request {
        device: usize,
        connection: u64,
        request: u64,
        kind: RequestKind,
        ask: Ask,
    },
    /// Something reaches a device in answer to a request.
    Answer {
        device: usize,
        connection: u64,
        request: u64,
        kind: RequestKind,
        news: Box<News>,
    },
    /// A connection attempt arrives.
    Connect {
        device: usize,
        life: u64,
    },
    /// It did not succeed.
    NotConnected {
        device: usize,
        life: u64,
        why: &'static str,
    },
    TrainingDone {
        device: usize,
        life: u64,
        number: u64,
    },
    TrainingProgress {
        device: usize,
        life: u64,
        number: u64,
    },
    EncodingDone {
        device: usize,
        life: u64,
        contribution: ContributionId,
        descriptor: Box<Descriptor>,
        masks: Option<Masks>,
    },
    TransferProgress {
        life: u64,
        transfer: u64,
    },
    TransferDone {
        life: u64,
        transfer: u64,
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
    TransferStalled {
        life: u64,
        transfer: u64,
    },
    /// A device has waited long enough for the answer to a request.
    NoAnswer {
        device: usize,
        connection: u64,
        request: u64,
        kind: RequestKind,
    },
    /// A connection breaks; both sides learn it in their own time.
    Cut {
        connection: u64,
        blocks: Blocks,
    },
    ServerLoses {
        connection: u64,
    },
    DeviceLoses {
        device: usize,
        connection: u64,
    },
    StartDevice {
        device: usize,
    },
    StartServer,
    /// A fault whose time has come.
    Timed {
        place: usize,
        fault: Fault,
    },
    /// The operator accepts an agent again.
    Accept {
        agent: AgentId,
    },
    /// Nothing fails from here on.
    EndOfFaults,
}

pub(crate) struct World {
    seed: u64,
    now: u64,
    seq: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    chance: Chance,
    trust: Trust,
    faults: Faults,
    server: Server,
    devices: Vec<Device>,
    links: BTreeMap<u64, Link>,
    oracle: Oracle,
    workload: Box<dyn Workload>,
    workload_chance: Chance,
    sabotage: Sabotage,
    report: Report,
    /// Jobs that the operator stopped.
    stopped: Vec<JobId>,
    /// When each job last published, or was added.
    published_at: BTreeMap<JobId, u64>,
    plan: FaultPlan,
    trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, plan: &FaultPlan, workload: Box<dyn Workload>, sabotage: Sabotage, traced: bool) -> Self {
        let mut trust = Trust::new(scenario.seed);
        let devices = scenario.agents.iter().enumerate();
        let devices =
            devices.map(|(index, plan)| Device::new(index, *plan, trust.enrol(), Chance::new(scenario.seed, &format!("device {index}"))));
        let mut world = Self {
            seed: scenario.seed,
            now: 0,
            seq: 0,
            queue: BTreeMap::new(),
            chance: Chance::new(scenario.seed, "times"),
            faults: Faults::new(plan),
            devices: devices.collect(),
            server: Server::new(scenario, &trust),
            trust,
            links: BTreeMap::new(),
            oracle: Oracle::default(),
            workload,
            workload_chance: Chance::new(scenario.seed, "workload"),
            sabotage,
            report: Report::default(),
            stopped: Vec::new(),
            published_at: BTreeMap::new(),
            plan: plan.clone(),
            trace: traced.then(Vec::new),
        };
        world.soon((0, 100), Happening::StartServer);
        for device in 0..world.devices.len() {
            world.soon((0, 3000), Happening::StartDevice { device });
        }
        for &(place, fault) in &plan.faults {
            if let Some(at_ms) = timed::begins_at(&fault) {
                world.at(at_ms, Happening::Timed { place, fault });
            }
        }
        world.at(plan.until_ms, Happening::EndOfFaults);
        world
    }

    /// Runs until all is done, or something does not hold.
    pub(crate) fn run(&mut self) {
        let (mut at_once, mut last) = (0, 0);
        while self.oracle.violation.is_none() && !self.is_done() {
            let Some((at, next)) = self.next() else {
                return self.oracle.violate(Violation::Dead);
            };
            self.now = self.now.max(at);
            at_once = if self.now == last { at_once + 1 } else { 0 };
            last = self.now;
            if at_once > MOST_AT_ONCE {
                let (who, what) = ("the simulation".to_owned(), format!("stands still at {} ms", self.now));
                return self.oracle.violate(Violation::Spin { who, what });
            }
            self.report.happenings += 1;
            match next {
                Next::Queue => {
                    if let Some((_, happening)) = self.queue.pop_first() {
                        self.happen(happening);
                    }
                }
                Next::Server => self.tell_server(Event::Tick),
                Next::Device(device) => self.tell_device(device, News::Tick),
            }
            self.check_progress();
        }
    }

    /// What is next, and when.
    fn next(&self) -> Option<(u64, Next)> {
        let queue = self.queue.first_key_value().map(|((at, _), _)| (*at, Next::Queue));
        let server = self.server.timeout().map(|at| (at, Next::Server));
        let devices = self
            .devices
            .iter()
            .enumerate()
            .filter_map(|(index, device)| Some((device.timeout()?, Next::Device(index))));
        queue.into_iter().chain(server).chain(devices).min()
    }

    fn is_done(&self) -> bool {
        self.all_over() && self.now >= self.faults.until_ms() && self.unsettled().is_none()
    }

    /// Checks the end, and says what the run was like.
    pub(crate) fn end(mut self) -> Ending {
        self.report.starved = self
            .server
            .disk
            .jobs
            .values()
            .filter(|spec| self.is_starved(spec) && self.may_wait(spec))
            .count();
        for (id, spec) in &self.server.disk.jobs {
            let expected = match &spec.ended {
                Some(JobEnd::Finished { target_reached }) => {
                    *target_reached || spec.recent.len() == usize::try_from(spec.file.round.rounds).unwrap_or(0)
                }
                Some(JobEnd::Stopped) => self.stopped.contains(id),
                // The others are too few, and what is spent must not be offered again.
                Some(JobEnd::Failed { reason }) => reason.contains("have spent") && self.spent(spec) > 0,
                None => true,
            };
            if !expected {
                let how = format!("{:?} after {} rounds", spec.ended, spec.recent.len());
                self.oracle.violate(Violation::Ended { job: *id, how });
            }
            if let Some(end) = &spec.ended {
                self.report.spent_up += usize::from(matches!(end, JobEnd::Failed { .. }));
                self.report.ends.insert(*id, end.clone());
            }
        }
        let applied: Vec<usize> = self.faults.applied().iter().copied().collect();
        for (place, fault) in &self.plan.faults {
            if self.faults.applied().contains(place) {
                *self.report.faults.entry(fault.kind()).or_insert(0) += 1;
            }
        }
        self.report.ended_ms = self.now;
        let until_ms = self.faults.until_ms();
        self.report.rounds_in_trouble = self.report.rounds.iter().filter(|round| round.at_ms < until_ms).count();
        self.report.told_included = self.oracle.told_included();
        Ending {
            violation: self.oracle.violation,
            report: self.report,
            applied,
            trace: self.trace.unwrap_or_default(),
        }
    }

    fn happen(&mut self, happening: Happening) {
        // A machine that writes does nothing else: what comes meanwhile is for later, in the same order.
        let until = self.busy_until(&happening);
        if until > self.now {
            return self.at(until, happening);
        }
        match happening {
            Happening::StartServer => self.start_server(),
            Happening::StartDevice { device } => self.start_device(device),
            Happening::Connect { device, life } => self.connect(device, life),
            Happening::NotConnected { device, life, why } => {
                if self.devices[device].is_alive(life) {
                    self.tell_device(device, News::Disconnected { reason: why.to_owned() });
                }
            }
            Happening::Cut { connection, blocks } => self.cut_by(connection, blocks),
            Happening::NoAnswer {
                device,
                connection,
                request,
                kind,
            } => self.no_answer(device, connection, request, kind),
            Happening::TransferStalled { life, transfer } => self.transfer_stalled(life, transfer),
            Happening::ServerLoses { connection } => self.server_loses(connection),
            Happening::DeviceLoses { device, connection } => self.device_loses(device, connection),
            Happening::Request {
                device,
                connection,
                request,
                kind,
                ask,
            } => self.requested(device, connection, request, kind, ask),
            Happening::Answer {
                device,
                connection,
                request,
                kind,
                news,
            } => self.answered(device, connection, request, kind, *news),
            Happening::TrainingDone { device, life, number } => self.training_done(device, life, number),
            Happening::TrainingProgress { device, life, number } => self.training_progressed(device, life, number),
            Happening::EncodingDone {
                device,
                life,
                contribution,
                descriptor,
                masks,
            } => self.encoding_done(device, life, contribution, &descriptor, masks.as_ref()),
            Happening::TransferProgress { life, transfer } => self.transfer_progressed(life, transfer),
            Happening::TransferDone { life, transfer } => self.transfer_done(life, transfer),
            Happening::Done { life, task } if life == self.server.life => self.done(task),
            Happening::Announce { life, event } if life == self.server.life => self.tell_server(event),
            Happening::Done { .. } | Happening::Announce { .. } => {}
            Happening::Timed { place, fault } => {
                if self.now < self.faults.until_ms() {
                    self.faults.happened(place);
                    self.timed(fault);
                }
            }
            Happening::Accept { agent } => {
                self.server.disk.revoked.remove(&agent);
            }
            Happening::EndOfFaults => self.end_of_faults(),
        }
    }

    /// Until when a slow disk keeps the machine that this happens to.
    fn busy_until(&self, happening: &Happening) -> u64 {
        match happening {
            Happening::Request { .. }
            | Happening::Done { .. }
            | Happening::Announce { .. }
            | Happening::ServerLoses { .. }
            | Happening::TransferProgress { .. }
            | Happening::TransferDone { .. } => self.server.busy_until,
            Happening::Answer { device, .. }
            | Happening::NoAnswer { device, .. }
            | Happening::Connect { device, .. }
            | Happening::NotConnected { device, .. }
            | Happening::DeviceLoses { device, .. }
            | Happening::TrainingDone { device, .. }
            | Happening::TrainingProgress { device, .. }
            | Happening::EncodingDone { device, .. } => self.devices[*device].busy_until,
            _ => 0,
        }
    }

    fn soon(&mut self, within_ms: (u64, u64), happening: Happening) {
        let at = self.now + self.chance.within(within_ms);
        self.at(at, happening);
    }

    fn at(&mut self, at_ms: u64, happening: Happening) {
        self.seq += 1;
        self.queue.insert((at_ms, self.seq), happening);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>5}.{:03} {}", self.now / 1000, self.now % 1000, line()));
        }
    }
}

/// Who is next, if several are at the same time in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Queue,
    Server,
    Device(usize),
}
