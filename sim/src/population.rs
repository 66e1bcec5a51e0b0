//! Who takes part in a simulated fleet: data, devices, links, hours, faults and roles of its clients, drawn from a seed.
//!
//! [`Population`] is what a file says (`docs/populations.md`), [`Clients`] what each client then is, [`Parts`] which rows each has.
//! Text comes in as `&str` or bytes: nothing here opens a file.

mod check;
mod clients;
mod diurnal;
mod error;
mod file;
mod links;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod trace;

pub use crate::partition::{Partition, Parts};
pub use clients::{Clients, Role, Window};
pub use error::PopulationError;
pub use trace::{Trace, TraceError};

/// Longest text of a population, in bytes.
pub const MAX_POPULATION_BYTES: usize = 1 << 20;
/// Longest trace, in bytes.
pub const MAX_TRACE_BYTES: usize = 64 << 20;
/// Most device classes, and most link classes.
pub const MAX_CLASSES: usize = 64;
/// Most clients.
pub const MAX_CLIENTS: u32 = 10_000_000;

/// What a population file says. Shares of classes are relative: they are divided by their sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Population {
    /// `[partition]`: which rows are whose.
    pub partition: Partition,
    /// `[[devices]]`: 1 to [`MAX_CLASSES`].
    pub devices: Vec<DeviceClass>,
    /// `[[links]]`: 1 to [`MAX_CLASSES`]; drawn independently of the device.
    pub links: Vec<LinkClass>,
    /// `[availability]`: when clients are there.
    pub availability: Availability,
    /// `[dropout]`: how often a task is given up.
    pub dropout: Dropout,
    /// Every clock is wrong by up to so many seconds, either way, uniformly; at most a week.
    pub clock_skew_s: f64,
    /// `[byzantine]`: clients that attack.
    pub byzantine: Option<Byzantine>,
    /// The share of the clients that hold a canary.
    pub canaries: f64,
}

/// Devices of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceClass {
    /// Of the report's tables.
    pub name: String,
    /// Of the clients, relative to the other classes.
    pub share: f64,
    /// Sustained in training, in billions of floating point operations a second: the median of the class.
    pub gflops: f64,
    /// Processor cores.
    pub cores: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// A full battery, in watt-hours; `None` on mains power.
    pub battery_wh: Option<f64>,
    /// What training takes, in watts.
    pub train_watts: f64,
    /// Of the speed within the class: standard deviation of its logarithm.
    pub spread: f64,
}

/// Links of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkClass {
    /// Of the report's tables.
    pub name: String,
    /// Of the clients, relative to the other classes.
    pub share: f64,
    /// To the client, in megabits (10^6) a second.
    pub down_mbps: f64,
    /// From the client, in megabits a second.
    pub up_mbps: f64,
    /// One way, from here to there, in milliseconds; each client has a value of its own.
    pub latency_ms: (u64, u64),
    /// The share of packets that is lost.
    pub loss: f64,
    /// What the radio takes, in joules a MiB, either way.
    pub joules_per_mib: f64,
}

/// When clients are there.
#[derive(Debug, Clone, PartialEq)]
pub enum Availability {
    /// At any time.
    Always,
    /// By the hour of the day: a cosine from `at_trough`, twelve hours from the peak, to `at_peak`. The simulation begins at midnight of the first zone.
    Diurnal {
        /// Local hour of the peak, 0 to 24.
        peak_hour: f64,
        /// The share of the clients that is there at the peak, 0.001 to 1.
        at_peak: f64,
        /// The share that is there twelve hours later.
        at_trough: f64,
        /// How long a client stays, on the mean; 1 to 240.
        mean_minutes: f64,
        /// Neighbouring time zones, an hour apart, with as many clients each; 1 to 24.
        zones: u32,
    },
    /// As a file says ([`Trace`]).
    Trace {
        /// Relative to the population file.
        file: String,
    },
}

/// How often a task is given up.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// Probability that a client leaves during a training.
    pub training: f64,
    /// Probability that it leaves during an upload.
    pub upload: f64,
    /// It is back after so many seconds, from here to there.
    pub back_after_s: (u64, u64),
}

/// Clients that attack.
#[derive(Debug, Clone, PartialEq)]
pub struct Byzantine {
    /// Of the clients.
    pub share: f64,
    /// What they do.
    pub kind: ByzantineKind,
}

/// What an attacking client does to its update or its data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ByzantineKind {
    /// Sends the update with the opposite sign.
    SignFlip,
    /// Sends the update times `factor`.
    Scale {
        /// Not 0.
        factor: f64,
    },
    /// Adds normal noise to the update.
    Noise {
        /// Its standard deviation, in weight units.
        sigma: f64,
    },
    /// Trains on labels in reverse order: of C classes, y becomes C - 1 - y.
    LabelFlip,
}

impl Default for DeviceClass {
    /// A single-board computer on mains power.
    fn default() -> Self {
        Self {
            name: "gateway".to_owned(),
            share: 1.0,
            gflops: 8.0,
            cores: 4,
            memory_mib: 4096,
            battery_wh: None,
            train_watts: 6.4,
            spread: 0.0,
        }
    }
}

impl Default for LinkClass {
    /// A wired line.
    fn default() -> Self {
        Self {
            name: "broadband".to_owned(),
            share: 1.0,
            down_mbps: 50.0,
            up_mbps: 10.0,
            latency_ms: (10, 30),
            loss: 0.0005,
            joules_per_mib: 0.0,
        }
    }
}

impl Default for Dropout {
    fn default() -> Self {
        Self {
            training: 0.0,
            upload: 0.0,
            back_after_s: (60, 600),
        }
    }
}

impl Default for Population {
    /// Equal gateways that are always there, with rows shared out at random.
    fn default() -> Self {
        Self {
            partition: Partition::Iid,
            devices: vec![DeviceClass::default()],
            links: vec![LinkClass::default()],
            availability: Availability::Always,
            dropout: Dropout::default(),
            clock_skew_s: 0.0,
            byzantine: None,
            canaries: 0.0,
        }
    }
}

impl Population {
    /// What [`Population::named`] knows.
    pub const NAMES: [&str; 3] = ["phones", "gateways", "hospitals"];

    /// Reads a population file of at most [`MAX_POPULATION_BYTES`]; what it leaves out is as [`Population::default`] has it.
    ///
    /// # Errors
    /// [`PopulationError`], with the line, for unknown keys, wrong types and impossible values.
    pub fn parse(text: &str) -> Result<Self, PopulationError> {
        file::parse(text)
    }

    /// The text of a ready population, with the source of each figure.
    pub fn text_of(name: &str) -> Option<&'static str> {
        match name {
            "phones" => Some(include_str!("../populations/phones.toml")),
            "gateways" => Some(include_str!("../populations/gateways.toml")),
            "hospitals" => Some(include_str!("../populations/hospitals.toml")),
            _ => None,
        }
    }

    /// A ready population: one of [`Population::NAMES`].
    pub fn named(name: &str) -> Option<Self> {
        Self::parse(Self::text_of(name)?).ok()
    }

    /// What every client is, drawn from the seed: as many of a class as its share says, to the rounding, in random order. Takes
    /// [`Clients::BYTES`] a client, and shares the trace.
    ///
    /// # Errors
    /// [`PopulationError`] where the population itself, the numbers of clients and cohort, or the trace can't be.
    pub fn draw(&self, clients: u32, cohort: u32, seed: u64, trace: Option<&Trace>) -> Result<Clients, PopulationError> {
        clients::draw(self, clients, cohort, seed, trace)
    }
}
