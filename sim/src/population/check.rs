//! Whether a population can be: the one place that knows the ranges.

use super::error::PopulationError;
use super::{Availability, Byzantine, ByzantineKind, DeviceClass, LinkClass, MAX_CLASSES, Population};
use crate::partition::Partition;

/// A week.
const MAX_SKEW_S: f64 = 7.0 * 86_400.0;
/// Longest name of a class, a column or a file, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Longest time that a client is away after it dropped out: 30 days.
const MAX_AWAY_S: u64 = 30 * 86_400;
const MAX_LATENCY_MS: u64 = 600_000;
/// More clients than this share never upload or never train through.
const MAX_DROPOUT: f64 = 0.99;

/// From a class's key to how errors name it, for instance `links[1].loss`.
type FieldOf<'a> = dyn Fn(&str) -> String + 'a;

impl Population {
    /// Refuses what can't be, by field and fix.
    ///
    /// # Errors
    /// [`PopulationError`] without a place.
    pub fn check(&self) -> Result<(), PopulationError> {
        check_partition(&self.partition)?;
        check_classes("devices", &self.devices, |class| (&class.name, class.share), check_device)?;
        check_classes("links", &self.links, |class| (&class.name, class.share), check_link)?;
        check_availability(&self.availability)?;
        within("dropout.training", self.dropout.training, 0.0, MAX_DROPOUT, "a probability")?;
        within("dropout.upload", self.dropout.upload, 0.0, MAX_DROPOUT, "a probability")?;
        in_order("dropout.back_after_s", self.dropout.back_after_s, MAX_AWAY_S, "seconds")?;
        within("clock_skew_s", self.clock_skew_s, 0.0, MAX_SKEW_S, "seconds")?;
        within("canaries", self.canaries, 0.0, 1.0, "a share")?;
        let Some(Byzantine { share, kind }) = &self.byzantine else {
            return Ok(());
        };
        within("byzantine.share", *share, 0.0, 1.0, "a share")?;
        if share + self.canaries > 1.0 {
            let problem = format!("{share} and {} of canaries are more than all clients", self.canaries);
            return Err(PopulationError::new("byzantine.share", problem, "lower one of the two"));
        }
        match *kind {
            ByzantineKind::SignFlip | ByzantineKind::LabelFlip => Ok(()),
            ByzantineKind::Scale { factor: 0.0 } => {
                Err(PopulationError::new("byzantine.factor", "0 sends nothing", "use for instance 10.0"))
            }
            ByzantineKind::Scale { factor } => within("byzantine.factor", factor, -1e9, 1e9, "a factor"),
            ByzantineKind::Noise { sigma } => within("byzantine.sigma", sigma, 1e-9, 1e9, "weight units"),
        }
    }
}

fn check_partition(partition: &Partition) -> Result<(), PopulationError> {
    match partition {
        Partition::Iid | Partition::Files => Ok(()),
        Partition::Dirichlet { alpha, min } => {
            within("partition.alpha", *alpha, 1e-6, 1e9, "a concentration")?;
            whole("partition.min", *min, 1, 1_000_000_000, "rows a client")
        }
        Partition::Shards { per_client } => whole("partition.per_client", *per_client, 1, 1_000_000, "shards a client"),
        Partition::Key { column } => one_line("partition.column", column),
        Partition::Reused { of, parts } => {
            if matches!(**of, Partition::Reused { .. }) {
                return Err(PopulationError::new(
                    "partition.reuse",
                    "parts are reused twice over",
                    "reuse them once",
                ));
            }
            whole("partition.parts", parts.unwrap_or(1), 1, u32::MAX, "parts")?;
            check_partition(of)
        }
    }
}

/// Names and shares; then each class by `check`.
fn check_classes<T>(
    field: &str,
    classes: &[T],
    about: fn(&T) -> (&String, f64),
    check: fn(&FieldOf<'_>, &T) -> Result<(), PopulationError>,
) -> Result<(), PopulationError> {
    if classes.is_empty() || classes.len() > MAX_CLASSES {
        let problem = format!("{} classes are not possible", classes.len());
        return Err(PopulationError::new(field, problem, format!("give 1 to {MAX_CLASSES}")));
    }
    let mut names = std::collections::BTreeSet::new();
    let mut sum = 0.0;
    for (at, class) in classes.iter().enumerate() {
        let (name, share) = about(class);
        let key = |key: &str| format!("{field}[{at}].{key}");
        one_line(&key("name"), name)?;
        if !names.insert(name) {
            let fix = "give each class a name of its own";
            return Err(PopulationError::new(key("name"), format!("{name:?} is there twice"), fix));
        }
        within(&key("share"), share, 0.0, 1e9, "relative to the other classes")?;
        check(&key, class)?;
        sum += share;
    }
    if sum > 0.0 {
        return Ok(());
    }
    let fix = "give at least one class a share above 0";
    Err(PopulationError::new(format!("{field}[0].share"), "the shares sum to nothing", fix))
}

fn check_device(key: &FieldOf<'_>, class: &DeviceClass) -> Result<(), PopulationError> {
    within(&key("gflops"), class.gflops, 1e-3, 1e7, "billions of operations a second")?;
    whole(&key("cores"), class.cores, 1, 65_536, "cores")?;
    whole(&key("memory_mib"), class.memory_mib, 1, 1 << 30, "MiB")?;
    if let Some(battery) = class.battery_wh {
        within(
            &key("battery_wh"),
            battery,
            1e-3,
            1e6,
            "watt-hours; without the key it is on mains power",
        )?;
    }
    within(&key("train_watts"), class.train_watts, 0.0, 1e6, "watts")?;
    within(&key("spread"), class.spread, 0.0, 2.0, "standard deviation of the logarithm")
}

fn check_link(key: &FieldOf<'_>, class: &LinkClass) -> Result<(), PopulationError> {
    within(&key("down_mbps"), class.down_mbps, 1e-3, 1e6, "megabits a second")?;
    within(&key("up_mbps"), class.up_mbps, 1e-3, 1e6, "megabits a second")?;
    in_order(&key("latency_ms"), class.latency_ms, MAX_LATENCY_MS, "milliseconds")?;
    within(&key("loss"), class.loss, 0.0, 0.5, "a share of packets")?;
    within(&key("joules_per_mib"), class.joules_per_mib, 0.0, 1e6, "joules a MiB")
}

fn check_availability(availability: &Availability) -> Result<(), PopulationError> {
    match availability {
        Availability::Always => Ok(()),
        Availability::Trace { file } => one_line("availability.file", file),
        Availability::Diurnal {
            peak_hour,
            at_peak,
            at_trough,
            mean_minutes,
            zones,
        } => {
            within("availability.peak_hour", *peak_hour, 0.0, 24.0, "an hour of the day")?;
            within("availability.at_peak", *at_peak, 0.001, 1.0, "a share of the clients")?;
            within(
                "availability.at_trough",
                *at_trough,
                0.0,
                *at_peak,
                "a share, at most that of the peak",
            )?;
            within("availability.mean_minutes", *mean_minutes, 1.0, 240.0, "minutes")?;
            whole("availability.zones", *zones, 1, 24, "time zones")
        }
    }
}

fn within(field: &str, value: f64, low: f64, high: f64, unit: &str) -> Result<(), PopulationError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let problem = if value.is_finite() {
        format!("{value} is out of range")
    } else {
        format!("{value} is not finite")
    };
    Err(PopulationError::new(field, problem, format!("use {low} to {high} ({unit})")))
}

fn whole(field: &str, value: u32, low: u32, high: u32, unit: &str) -> Result<(), PopulationError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let fix = format!("use {low} to {high} ({unit})");
    Err(PopulationError::new(field, format!("{value} is out of range"), fix))
}

fn in_order(field: &str, (from, to): (u64, u64), high: u64, unit: &str) -> Result<(), PopulationError> {
    if from <= to && to <= high {
        return Ok(());
    }
    let fix = format!("write the smaller first, at most {high} ({unit})");
    Err(PopulationError::new(field, format!("{from} to {to} is no range"), fix))
}

fn one_line(field: &str, text: &str) -> Result<(), PopulationError> {
    let problem = if text.trim().is_empty() {
        "is empty"
    } else if text.len() > MAX_NAME_BYTES {
        "is too long"
    } else if text.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    let fix = format!("write one line of plain text, at most {MAX_NAME_BYTES} bytes");
    Err(PopulationError::new(field, problem, fix))
}
