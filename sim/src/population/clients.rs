//! What each client is: drawn once, a few bytes each; everything else follows from seed, client and time.

use rand_distr::{Distribution, StandardNormal};

use super::diurnal::Days;
use super::error::PopulationError;
use super::links::transfer_ms;
use super::{Availability, DeviceClass, LinkClass, MAX_CLIENTS, Population, Trace};
use crate::chance::Chance;

/// Of a battery, what is never spent on training.
const RESERVE: f64 = 0.2;

/// What a client does in a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What it is asked to.
    Honest,
    /// An attack ([`Population::byzantine`]).
    Byzantine,
    /// Its data holds what a later check looks for in the model.
    Canary,
}

/// A stretch of virtual time in which a client is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from_ms: u64,
    /// The first moment after it; `u64::MAX` where it never ends.
    pub until_ms: u64,
}

/// What is kept of a client.
#[derive(Debug, Clone, Copy)]
struct Client {
    gflops: f32,
    skew_ms: i32,
    device: u8,
    link: u8,
    role: Role,
}

#[derive(Debug)]
enum Hours {
    Always,
    Diurnal(Days),
    Trace(Trace),
}

/// All clients of a simulated fleet, numbered from 0. Methods that take a client panic where its number is [`Clients::len`] or more.
#[derive(Debug)]
pub struct Clients {
    clients: Vec<Client>,
    devices: Vec<DeviceClass>,
    links: Vec<LinkClass>,
    hours: Hours,
    seed: u64,
}

impl Clients {
    /// Memory of one client.
    pub const BYTES: usize = size_of::<Client>();

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none: never, of those that were drawn.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Memory of all of them; classes and a trace are shared.
    pub fn memory_bytes(&self) -> usize {
        self.clients.capacity() * Self::BYTES
    }

    fn client(&self, client: u32) -> &Client {
        &self.clients[client as usize]
    }

    /// Its device.
    pub fn class(&self, client: u32) -> &DeviceClass {
        &self.devices[usize::from(self.client(client).device)]
    }

    /// Its link.
    pub fn link(&self, client: u32) -> &LinkClass {
        &self.links[usize::from(self.client(client).link)]
    }

    /// What it does.
    pub fn role(&self, client: u32) -> Role {
        self.client(client).role
    }

    /// Its own speed in training, in billions of operations a second: log-normal around the median of its class.
    pub fn gflops(&self, client: u32) -> f64 {
        self.client(client).gflops.into()
    }

    /// How far its clock is ahead, in milliseconds.
    pub fn skew_ms(&self, client: u32) -> i64 {
        self.client(client).skew_ms.into()
    }

    /// The first moment at or after `at_ms` at which the client is there, and until when; `None`: never again. Two windows of a client
    /// don't overlap, but one may begin where another ends. Computed anew each time from seed, client and time.
    pub fn window(&self, client: u32, at_ms: u64) -> Option<Window> {
        match &self.hours {
            Hours::Always => Some(Window {
                from_ms: at_ms,
                until_ms: u64::MAX,
            }),
            Hours::Diurnal(days) => days.window(self.seed, client, at_ms),
            Hours::Trace(trace) => trace.window(client, at_ms),
        }
    }

    /// How long so many bytes take, from the client (`up`) or to it: see `docs/populations.md`. The same every time.
    pub fn transfer_ms(&self, client: u32, bytes: u64, up: bool) -> u64 {
        let class = self.link(client);
        let (from, to) = class.latency_ms;
        let latency_ms = from + mixed(self.seed, LATENCY, client, 0) % (to - from + 1);
        transfer_ms(class, latency_ms, bytes, up)
    }

    /// What a training and the bytes of its transfers take, in joules.
    pub fn energy_j(&self, client: u32, train_ms: u64, bytes: u64) -> f64 {
        let train = self.class(client).train_watts * train_ms as f64 / 1000.0;
        train + self.link(client).joules_per_mib * bytes as f64 / f64::from(1 << 20)
    }

    /// Of a battery that is full when a window begins, what is spent: whether the client still takes work. A fifth is kept in reserve.
    pub fn battery_holds(&self, client: u32, spent_j: f64) -> bool {
        let full_wh = self.class(client).battery_wh;
        full_wh.is_none_or(|wh| spent_j <= (1.0 - RESERVE) * wh * 3600.0)
    }
}

pub(super) fn draw(
    population: &Population,
    clients: u32,
    cohort: u32,
    seed: u64,
    trace: Option<&Trace>,
) -> Result<Clients, PopulationError> {
    population.check()?;
    if clients == 0 || clients > MAX_CLIENTS {
        let problem = format!("{clients} are not possible");
        return Err(PopulationError::new("clients", problem, format!("use 1 to {MAX_CLIENTS}")));
    }
    if cohort == 0 || cohort > clients {
        let problem = format!("{cohort} of {clients} clients are not possible");
        let fix = format!("use a cohort of 1 to {clients}, or more clients");
        return Err(PopulationError::new("cohort", problem, fix));
    }
    let hours = hours(population, clients, trace)?;
    let most = match &hours {
        Hours::Always => clients,
        Hours::Diurnal(days) => (days.most() * f64::from(clients)).ceil() as u32,
        Hours::Trace(trace) => trace.most_at_once(),
    };
    if cohort > most {
        let problem = format!("{cohort} are more than are ever there at once: {most} of {clients} clients, by [availability]");
        let fix = format!("use a cohort of at most {most}, more clients, or raise availability.at_peak (or the trace's windows)");
        return Err(PopulationError::new("cohort", problem, fix));
    }
    Ok(Clients {
        clients: draw_each(population, clients, seed)?,
        devices: population.devices.clone(),
        links: population.links.clone(),
        hours,
        seed,
    })
}

fn hours(population: &Population, clients: u32, trace: Option<&Trace>) -> Result<Hours, PopulationError> {
    match (&population.availability, trace) {
        (Availability::Trace { .. }, Some(trace)) if trace.clients() == clients => Ok(Hours::Trace(trace.clone())),
        (Availability::Trace { .. }, Some(trace)) => {
            let problem = format!("the trace is of {} clients, not of {clients}", trace.clients());
            Err(PopulationError::new("availability.file", problem, "run as many clients as it has"))
        }
        (Availability::Trace { file }, None) => {
            let problem = format!("the trace {file:?} was not read");
            Err(PopulationError::new(
                "availability.file",
                problem,
                "put it beside the population file",
            ))
        }
        (_, Some(_)) => {
            let fix = "add kind = \"trace\", or leave the trace out";
            Err(PopulationError::new(
                "availability.kind",
                "a trace is given, but not asked for",
                fix,
            ))
        }
        (
            &Availability::Diurnal {
                peak_hour,
                at_peak,
                at_trough,
                mean_minutes,
                zones,
            },
            None,
        ) => Ok(Hours::Diurnal(Days::new(peak_hour, at_peak, at_trough, mean_minutes, zones))),
        (Availability::Always, None) => Ok(Hours::Always),
    }
}

fn draw_each(population: &Population, clients: u32, seed: u64) -> Result<Vec<Client>, PopulationError> {
    let devices: Vec<f64> = population.devices.iter().map(|class| class.share).collect();
    let links: Vec<f64> = population.links.iter().map(|class| class.share).collect();
    let devices = deal(&devices, clients, seed, "device classes");
    let links = deal(&links, clients, seed, "link classes");
    let roles = deal_roles(population, clients, seed)?;
    let mut speeds = Chance::new(seed, "device speeds");
    let mut clocks = Chance::new(seed, "device clocks");
    let drawn = devices.iter().zip(&links).zip(&roles).map(|((&device, &link), &role)| {
        let class = &population.devices[usize::from(device)];
        let normal: f64 = StandardNormal.sample(speeds.rng());
        Client {
            gflops: (class.gflops * (class.spread * normal).exp()) as f32,
            skew_ms: ((2.0 * clocks.share() - 1.0) * population.clock_skew_s * 1000.0).round() as i32,
            device,
            link,
            role: [Role::Byzantine, Role::Canary, Role::Honest][usize::from(role)],
        }
    });
    Ok(drawn.collect())
}

/// 0, 1 and 2 for byzantine, canary and honest clients. A share that comes to no client at all is refused: its run would show nothing.
fn deal_roles(population: &Population, clients: u32, seed: u64) -> Result<Vec<u8>, PopulationError> {
    let byzantine = population.byzantine.as_ref().map_or(0.0, |byzantine| byzantine.share);
    let shares = [byzantine, population.canaries, (1.0 - byzantine - population.canaries).max(0.0)];
    let counts = quotas(&shares, clients);
    for (field, share, count) in [("byzantine.share", shares[0], counts[0]), ("canaries", shares[1], counts[1])] {
        if share > 0.0 && count == 0 {
            let problem = format!("{share} of {clients} clients is none");
            let fix = format!("use at least {}, or more clients", 1.0 / f64::from(clients));
            return Err(PopulationError::new(field, problem, fix));
        }
    }
    Ok(deal(&shares, clients, seed, "client roles"))
}

/// As many of each class as its share says, in random order.
fn deal(shares: &[f64], clients: u32, seed: u64, purpose: &str) -> Vec<u8> {
    let mut dealt = Vec::with_capacity(clients as usize);
    for (class, count) in (0_u8..).zip(quotas(shares, clients)) {
        dealt.resize(dealt.len() + count as usize, class);
    }
    Chance::new(seed, purpose).shuffle(&mut dealt);
    dealt
}

/// Whole numbers by `shares` that sum to `total`: rounded down, and one more where most was cut off (largest remainders).
fn quotas(shares: &[f64], total: u32) -> Vec<u32> {
    let sum: f64 = shares.iter().sum();
    let exact: Vec<f64> = shares.iter().map(|share| share / sum * f64::from(total)).collect();
    let mut counts: Vec<u32> = exact.iter().map(|exact| *exact as u32).collect();
    let mut by_rest: Vec<usize> = (0..shares.len()).filter(|&at| shares[at] > 0.0).collect();
    by_rest.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let left = total.saturating_sub(counts.iter().sum());
    for &at in by_rest.iter().cycle().take(left as usize) {
        counts[at] += 1;
    }
    counts
}

/// What [`mixed`] is drawn for.
pub(super) const LATENCY: u64 = 1;
pub(super) const PHASE: u64 = 2;
pub(super) const THERE: u64 = 3;

/// Random bits that follow from what they are for: the finalizer of SplitMix64 (Steele, Lea and Flood 2014) over each in turn.
pub(super) fn mixed(seed: u64, purpose: u64, client: u32, index: u64) -> u64 {
    [purpose, client.into(), index].into_iter().fold(seed, |state, word| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// [`mixed`] as a number from 0 to below 1.
pub(super) fn mixed_share(seed: u64, purpose: u64, client: u32, index: u64) -> f64 {
    (mixed(seed, purpose, client, index) >> 11) as f64 / (1_u64 << 53) as f64
}
