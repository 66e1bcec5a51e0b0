//! Who is offered what.

use std::time::Duration;

use aimass_protocol::AgentId;
use aimass_protocol::job::{JobFile, RoundMode};
use aimass_protocol::limits::{MAX_DATA_OFFERS, MAX_SPREAD_MS, MAX_TAG_BYTES, MAX_TAGS};
use aimass_protocol::message::agent::{Capabilities, CheckIn, ComeBack};

use super::AgentReply;
use super::entry::{Entry, Phase};
use super::job::Context;
use crate::jitter;

/// Why an agent gets no work from a job. The greatest over all jobs is what it is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    NoJob,
    NoData(String),
    NoTag(String),
    NoClass(String, Vec<String>),
    NotMet(String, String),
    Declined(String),
    Barred(String),
    Spent(String),
    Full(String),
    Summing(String),
}

impl Reason {
    fn text(self) -> String {
        match self {
            Self::NoJob => "no job is running".to_owned(),
            Self::NoData(contract) => format!("the running jobs need other data, for instance {contract:?}"),
            Self::NoTag(job) => format!("job {job:?} asks for tags that this agent does not carry"),
            Self::NoClass(job, classes) => {
                // As many as fit a line.
                let few: Vec<_> = classes.iter().take(4).map(|class| format!("{class:?}")).collect();
                let more = if classes.len() > few.len() { " and others" } else { "" };
                format!("job {job:?} is for devices of class {}{more}; see [device] class", few.join(", "))
            }
            Self::NotMet(job, require) => format!("job {job:?} requires {require}, which this device does not meet"),
            Self::Declined(job) => format!("this agent declines job {job:?}"),
            Self::Barred(job) => format!("this agent's update was refused in the running round of job {job:?}; it may join the next one"),
            Self::Spent(job) => format!("this agent has contributed to the current model of job {job:?}; it may join the next round"),
            Self::Full(job) => format!("the running round of job {job:?} has all the agents that it takes"),
            Self::Summing(job) => format!("the running round of job {job:?} is being summed"),
        }
    }
}

/// Puts the first fitting job's work, or why there is none, into `cx`. `jobs` come in order of preference; returns the index of the one served.
pub(super) fn offer<R>(jobs: &mut [&mut Entry], cx: &mut Context<'_, R>, agent: AgentId, check_in: &CheckIn, pace: Pace) -> Option<usize> {
    let mut best = Reason::NoJob;
    for (index, entry) in jobs.iter_mut().enumerate() {
        match fit(entry, cx, agent, check_in) {
            Ok(finish_within) => {
                let job = &entry.job;
                let (round, base, base_bytes) = (job.round, job.base(), job.base_bytes);
                cx.reply(
                    agent,
                    AgentReply::Task {
                        job: job.id,
                        round,
                        base,
                        base_bytes,
                        finish_within,
                    },
                );
                return Some(index);
            }
            Err(reason) => best = best.max(reason),
        }
    }
    let after_ms = u64::try_from(pace.delay(agent).as_millis()).unwrap_or(u64::MAX);
    cx.reply(
        agent,
        AgentReply::ComeBack(ComeBack {
            after_ms,
            reason: best.text(),
            spread_ms: pace.spread_ms(),
        }),
    );
    None
}

/// Whether a device that offers data of these contracts is one that the job is for.
pub fn suits(file: &JobFile, contracts: &[String], device: &Capabilities) -> bool {
    check_device(file, contracts, device).is_ok()
}

fn check_device(file: &JobFile, contracts: &[String], device: &Capabilities) -> Result<(), Reason> {
    let (asked, name) = (&file.job, || file.job.name.clone());
    if !contracts.contains(&file.data.contract) {
        return Err(Reason::NoData(file.data.contract.clone()));
    }
    if !asked.tags.iter().all(|tag| device.tags.contains(tag)) {
        return Err(Reason::NoTag(name()));
    }
    if !asked.device_classes.is_empty() && !asked.device_classes.contains(&device.device_class) {
        return Err(Reason::NoClass(name(), asked.device_classes.clone()));
    }
    if let Some(require) = asked.require.as_ref().filter(|require| !require.holds(device)) {
        return Err(Reason::NotMet(name(), require.to_string()));
    }
    Ok(())
}

/// Takes note for each job whether there is a device that it is for.
pub(super) fn look(jobs: &mut [&mut Entry], agent: AgentId, check_in: &CheckIn) {
    for entry in jobs {
        let suits = check_device(&entry.job.file, &check_in.contracts, &check_in.capabilities).is_ok();
        let fits = suits && !check_in.declined.contains(&entry.job.id);
        if fits && !entry.job.barred.contains_key(&agent) {
            entry.job.known.is_here(agent, entry.job.is_spent_in(check_in));
        } else {
            entry.job.known.is_out(agent);
        }
        entry.job.suits = Some(fits || entry.job.suits == Some(true));
    }
}

/// Whether the agent may work for this job now, and how long it may train.
fn fit<R>(entry: &mut Entry, cx: &Context<'_, R>, agent: AgentId, check_in: &CheckIn) -> Result<Option<Duration>, Reason> {
    let job = &mut entry.job;
    check_device(&job.file, &check_in.contracts, &check_in.capabilities)?;
    let name = || job.file.job.name.clone();
    if check_in.declined.contains(&job.id) {
        if !job.waiting().contains_key(&agent) {
            job.seats.leave(agent);
        }
        return Err(Reason::Declined(name()));
    }
    if job.barred.contains_key(&agent) {
        return Err(Reason::Barred(name()));
    }
    if check_in.held.iter().any(|h| h.job == job.id && job.permits(h.base)) {
        return Ok(None);
    }
    if job.is_spent_in(check_in) {
        let reason = Reason::Spent(name());
        job.free_seat(agent);
        return Err(reason);
    }
    let mut finish_within = None;
    match (&entry.phase, job.mode()) {
        (Phase::Ended(_), _)
        | (Phase::Joining(_) | Phase::Collecting(_) | Phase::Unmasking(_) | Phase::Publishing(_), RoundMode::Sync | RoundMode::SemiSync) => {
            return Err(Reason::Summing(name()));
        }
        (Phase::Gathering(phase), RoundMode::SemiSync) => match phase.time_left(job, cx.now) {
            None => return Err(Reason::Summing(name())),
            left => finish_within = left,
        },
        (Phase::Gathering(_), _) | (_, RoundMode::Async) => {}
    }
    let name = name();
    if job.seat(cx.now, cx.config.gone_grace, agent) {
        Ok(finish_within)
    } else {
        Err(Reason::Full(name))
    }
}

/// Holds a check-in to the limits. The text says the fix.
pub(super) fn check(check_in: &CheckIn) -> Result<(), String> {
    let tags = &check_in.capabilities.tags;
    if tags.len() > MAX_TAGS {
        return Err(format!("an agent may carry {MAX_TAGS} tags, this one carries {}", tags.len()));
    }
    if check_in.contracts.len() > MAX_DATA_OFFERS {
        return Err(format!(
            "an agent may offer {MAX_DATA_OFFERS} data contracts, this one offers {}",
            check_in.contracts.len()
        ));
    }
    if tags.iter().chain(&check_in.contracts).any(|t| t.len() > MAX_TAG_BYTES) {
        return Err(format!("a tag or data contract may have {MAX_TAG_BYTES} bytes; shorten it"));
    }
    Ok(())
}

/// How long agents without work stay away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) come_back: Duration,
    pub(super) check_ins_per_s: u32,
    pub(super) handshakes_per_s: u32,
    /// Agents with a connection.
    pub(super) online: usize,
    /// Makes each draw another.
    pub(super) draw: u64,
}

impl Pace {
    /// Over which time agents that lost their connection come back, in milliseconds.
    fn spread_ms(self) -> u64 {
        let ms = (self.online as u64).saturating_mul(1000) / u64::from(self.handshakes_per_s.max(1));
        ms.min(MAX_SPREAD_MS)
    }

    fn delay(self, agent: AgentId) -> Duration {
        let crowd_ms = (self.online as u64).saturating_mul(1000) / u64::from(self.check_ins_per_s.max(1));
        let key = agent
            .as_bytes()
            .iter()
            .fold(self.draw, |key, byte| jitter::mix(key ^ u64::from(*byte)));
        jitter::spread(self.come_back.max(Duration::from_millis(crowd_ms)), key)
    }
}
