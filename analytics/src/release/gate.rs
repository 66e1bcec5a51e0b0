//! Whether what a stage measured is good enough to go on.

use std::fmt;

use aimass_protocol::job::ReleaseSection;
use serde::{Deserialize, Serialize};

use super::report::{ReleaseReport, VariantReport};

/// What follows from a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Nothing is measured yet.
    Started,
    /// All rules hold: the next stage measures it.
    NextStage,
    /// All rules hold in the last stage: it is the champion now.
    Promoted,
    /// All rules hold in the last stage, and it stays the candidate, as its file says.
    Measured,
    /// A rule does not hold: what was served before is served again.
    RolledBack,
}

impl Decision {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::NextStage => "next_stage",
            Self::Promoted => "promoted",
            Self::Measured => "measured",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// A rule that does not hold. `Display` says by how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broken {
    /// The key of `[gate]`.
    pub rule: String,
    /// The variant; none where it is about all of them.
    pub variant: Option<String>,
    /// What the rule asks for.
    pub wanted: f64,
    /// What was measured; none where nothing was.
    pub found: Option<f64>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(variant) = &self.variant {
            write!(f, "variant {variant}: ")?;
        }
        match self.found {
            Some(found) => write!(f, "{} is {}, and {found:.6} was measured", self.rule, self.wanted),
            None => write!(f, "{} is {}, and nothing was measured", self.rule, self.wanted),
        }
    }
}

/// Holds a report against the gate of its release. Each variant that any agent took is held against every rule; a rule about what no agent could measure of
/// it does not hold. Variants that no agent took say nothing.
pub fn decide(release: &ReleaseSection, report: &ReleaseReport) -> (Decision, Vec<Broken>) {
    let mut broken = Vec::new();
    let gate = &release.gate;
    let good: u64 = report
        .variants
        .iter()
        .map(|variant| variant.devices.saturating_sub(variant.failed()))
        .sum();
    if good < gate.min_canaries.into() {
        broken.push(Broken {
            rule: "min_canaries".to_owned(),
            variant: None,
            wanted: gate.min_canaries.into(),
            found: Some(good as f64),
        });
    }
    for variant in report.variants.iter().filter(|variant| variant.devices > 0) {
        rules(release, variant, &mut broken);
    }
    let decision = match (broken.is_empty(), report.round >= report.rounds, release.promotes) {
        (false, _, _) => Decision::RolledBack,
        (true, false, _) => Decision::NextStage,
        (true, true, true) => Decision::Promoted,
        (true, true, false) => Decision::Measured,
    };
    (decision, broken)
}

fn rules(release: &ReleaseSection, variant: &VariantReport, broken: &mut Vec<Broken>) {
    let gate = &release.gate;
    // Files hold six digits that count: 0.9 is no more than 0.9.
    let exact = |value: f32| value.to_string().parse::<f64>().unwrap_or_else(|_| value.into());
    let mut check = |rule: &str, wanted: f64, found: Option<f64>, holds: fn(f64, f64) -> bool| {
        if !found.is_some_and(|found| holds(found, wanted)) {
            broken.push(Broken {
                rule: rule.to_owned(),
                variant: Some(variant.name.clone()),
                wanted,
                found,
            });
        }
    };
    let at_least = |found: f64, wanted: f64| found >= wanted;
    let at_most = |found: f64, wanted: f64| found <= wanted;
    check(
        "max_failures",
        exact(gate.max_failures),
        Some(variant.failed() as f64 / variant.devices as f64),
        at_most,
    );
    if variant.failed() >= variant.devices {
        // That it failed everywhere is said, or permitted; there is nothing else to hold against anything.
        return;
    }
    if let Some(wanted) = gate.min_accuracy {
        check("min_accuracy", exact(wanted), variant.accuracy, at_least);
    }
    if let Some(wanted) = gate.max_accuracy_drop {
        // Of the rows that both were measured on alone; an agent's rows are all of those, or none.
        let drop = match (variant.compared == variant.rows, variant.accuracy, variant.champion_accuracy) {
            (true, Some(own), Some(champions)) => Some(champions - own),
            _ => None,
        };
        check("max_accuracy_drop", exact(wanted), drop, at_most);
    }
    if let Some(wanted) = gate.max_latency_ms {
        check("max_latency_ms", exact(wanted), variant.latency_p95_ms, at_most);
    }
    if let Some(wanted) = gate.max_memory_mib {
        let mib = variant.memory_max_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
        check("max_memory_mib", wanted.into(), mib, at_most);
    }
}
