//! What a simulated run says of itself: a row a round, and a summary. `docs/simulator-outputs.md` is the reference of every field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One round; a line of `rounds.jsonl` and of `--json`.
///
/// Counts, bytes and joules are those of this round. `None`, written as `null`: not measured, or no finite number.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RoundRow {
    /// Counted from 1.
    pub round: u32,
    /// Share of the server's evaluation rows that the new model gets right, 0 to 1.
    pub test_accuracy: Option<f64>,
    /// Mean loss on them.
    pub test_loss: Option<f64>,
    /// Mean loss while the clients trained, weighted by their rows.
    pub train_loss: Option<f64>,
    /// Accuracy of the round's base model on the rows that devices hold back, 0 to 1.
    pub device_accuracy: Option<f64>,
    /// Wall time of this round.
    pub seconds: f64,
    /// Simulated time since the job began.
    pub virtual_seconds: f64,
    /// From clients to the server.
    pub bytes_up: u64,
    /// From the server to clients.
    pub bytes_down: u64,
    /// What the devices spent on training and on their links, joules.
    pub energy_j: f64,
    /// Updates in the sum.
    pub contributions: u32,
    /// Clients in the cohort.
    pub members: u32,
    /// Members that did not finish.
    pub dropped: u32,
    /// Updates whose norm was cut.
    pub clipped: u32,
    /// Mean steps that the contributions' base models were behind.
    pub mean_staleness: f64,
    /// SHA-256 of the model's weights, hex.
    pub model: String,
}

impl RoundRow {
    /// The row without wall times: two runs of one seed agree in it byte for byte.
    pub fn without_wall_time(&self) -> Self {
        Self {
            seconds: 0.0,
            ..self.clone()
        }
    }
}

/// The last object of a run; `summary.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The job's name.
    pub job: String,
    /// Of everything that was drawn.
    pub seed: u64,
    /// Clients in the population.
    pub clients: u32,
    /// Clients that a round asks for.
    pub cohort: u32,
    /// Rounds that were published.
    pub rounds: u32,
    /// `sync`, `semi_sync` or `async`.
    pub mode: String,
    /// `plain` or `secure`.
    pub aggregation: String,
    /// Sentences for people: what ran as an equivalent of what production does.
    pub shortcuts: Vec<String>,
    /// What a sweep set, by key of the job file.
    pub fields: BTreeMap<String, String>,
    /// Why the run ended.
    pub end: String,
    /// After the last round that was evaluated, 0 to 1.
    pub test_accuracy: Option<f64>,
    /// The best of all rounds.
    pub best_accuracy: Option<f64>,
    /// When target accuracies were first met, in their order.
    pub reached: Vec<Reached>,
    /// Wall time of the whole run.
    pub seconds: f64,
    /// Of it, until the first round began.
    pub start_seconds: f64,
    /// Simulated time of the whole run.
    pub virtual_seconds: f64,
    /// From clients to the server, in all.
    pub bytes_up: u64,
    /// From the server to clients, in all.
    pub bytes_down: u64,
    /// What the devices spent, joules, in all.
    pub energy_j: f64,
    /// Updates in all sums.
    pub contributions: u64,
    /// Trainings that clients finished, whether or not they counted.
    pub trainings: u64,
    /// Members that did not finish.
    pub dropped: u64,
    /// Most memory that the process ever held, MiB, where the system says so.
    pub peak_memory_mib: Option<f64>,
    /// Mean cosine between what canary clients planted and the published steps, where there are canaries.
    pub canary_cosine: Option<f64>,
    /// Threads that trained.
    pub threads: u32,
    /// SHA-256 of the last model's weights, hex.
    pub model: String,
}

impl Summary {
    /// The summary without what the machine makes of it (wall times, memory, threads): two runs of one seed agree in it byte for byte.
    pub fn without_wall_time(&self) -> Self {
        Self {
            seconds: 0.0,
            start_seconds: 0.0,
            peak_memory_mib: None,
            threads: 0,
            ..self.clone()
        }
    }
}

/// When a target accuracy was first met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// The target, 0 to 1.
    pub accuracy: f64,
    /// The first round whose model met it.
    pub round: u32,
    /// Simulated time since the job began.
    pub virtual_seconds: f64,
    /// From clients to the server until then.
    pub bytes_up: u64,
}

/// When each of `targets` (0 to 1) was first met, lowest target first; those that were not met are left out.
pub fn reached(rows: &[RoundRow], targets: &[f64]) -> Vec<Reached> {
    let mut targets = targets.to_vec();
    targets.sort_by(f64::total_cmp);
    targets.dedup();
    let (mut found, mut bytes_up) = (Vec::new(), 0u64);
    let mut waiting = targets.into_iter().peekable();
    for row in rows {
        bytes_up = bytes_up.saturating_add(row.bytes_up);
        let Some(accuracy) = row.test_accuracy else { continue };
        while let Some(target) = waiting.next_if(|&target| accuracy >= target) {
            found.push(Reached {
                accuracy: target,
                round: row.round,
                virtual_seconds: row.virtual_seconds,
                bytes_up,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(round: u32, accuracy: Option<f64>) -> RoundRow {
        RoundRow {
            round,
            test_accuracy: accuracy,
            seconds: f64::from(round) * 0.1,
            virtual_seconds: f64::from(round) * 60.0,
            bytes_up: 100,
            model: "00".repeat(32),
            ..RoundRow::default()
        }
    }

    #[test]
    fn a_row_is_one_line_with_the_names_that_scripts_read() {
        let line = serde_json::to_string(&row(1, Some(0.5))).expect("a row is JSON");
        let wanted = "{\"round\":1,\"test_accuracy\":0.5,\"test_loss\":null,\"train_loss\":null,\"device_accuracy\":null,\"seconds\":0.1,\
            \"virtual_seconds\":60.0,\"bytes_up\":100,\"bytes_down\":0,\"energy_j\":0.0,\"contributions\":0,\"members\":0,\"dropped\":0,\
            \"clipped\":0,\"mean_staleness\":0.0,\"model\":\"0000000000000000000000000000000000000000000000000000000000000000\"}";
        assert_eq!(line, wanted);
    }

    #[test]
    fn what_is_no_finite_number_is_read_back_as_not_measured() {
        let mut diverged = row(1, Some(f64::NAN));
        diverged.test_loss = Some(f64::INFINITY);
        let line = serde_json::to_string(&diverged).expect("a row is JSON");
        let read: RoundRow = serde_json::from_str(&line).expect("it reads back");
        assert_eq!((read.test_accuracy, read.test_loss), (None, None));
    }

    #[test]
    fn runs_are_compared_without_what_the_machine_makes_of_them() {
        let mut other = row(1, Some(0.5));
        other.seconds = 9.0;
        assert_ne!(row(1, Some(0.5)), other);
        assert_eq!(row(1, Some(0.5)).without_wall_time(), other.without_wall_time());
        let quick = Summary {
            job: "a".to_owned(),
            ..Summary::default()
        };
        let slow = Summary {
            seconds: 3.0,
            start_seconds: 1.0,
            peak_memory_mib: Some(80.0),
            threads: 4,
            ..quick.clone()
        };
        assert_eq!(quick.without_wall_time(), slow.without_wall_time());
        let another = Summary {
            virtual_seconds: 1.0,
            ..quick.clone()
        };
        assert_ne!(quick.without_wall_time(), another.without_wall_time());
    }

    #[test]
    fn targets_are_met_once_at_the_first_round_that_has_them() {
        let rows = [
            row(1, Some(0.3)),
            row(2, None),
            row(3, Some(0.8)),
            row(4, Some(0.7)),
            row(5, Some(0.9)),
        ];
        let found = reached(&rows, &[0.9, 0.5, 0.6, 0.95, 0.5]);
        let seen: Vec<(f64, u32, u64)> = found.iter().map(|r| (r.accuracy, r.round, r.bytes_up)).collect();
        assert_eq!(seen, [(0.5, 3, 300), (0.6, 3, 300), (0.9, 5, 500)]);
        assert_eq!(found[0].virtual_seconds, 180.0);
    }
}
