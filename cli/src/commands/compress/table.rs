//! What `aimass compress` shows.

use std::path::Path;

use aimass_compress::{Compressed, Measured, Step};
use aimass_inference::measure::Cost;
use serde_json::{Value, json};

use crate::commands::model::measure::Found;
use crate::output::{bytes, table};

/// One line for a step that has ended.
pub(super) fn step_line(step: &Step) -> String {
    format!("{:<9} {}; {}, {:.1} s", step.name, step.note, measured(&step.after), step.seconds)
}

fn measured(measured: &Measured) -> String {
    let size = bytes(measured.bytes);
    match measured.score {
        None => size,
        Some(score) => match (score.accuracy, score.explained) {
            (Some(accuracy), _) => format!("{size}, accuracy {}", percent(accuracy)),
            (None, Some(explained)) => format!("{size}, {} of the variance explained", percent(explained)),
            (None, None) => format!("{size}, loss {:.6}", score.loss),
        },
    }
}

/// Costs of the two files, where they were measured.
#[derive(Debug, Clone)]
pub(super) struct Costs {
    pub(super) before: Found,
    pub(super) after: Found,
}

impl Costs {
    /// Of runs of so many rows.
    fn both(&self, batch: usize) -> Option<(Cost, Cost)> {
        let of = |found: &Found| found.costs.iter().find(|cost| cost.batch == batch).copied();
        Some((of(&self.before)?, of(&self.after)?))
    }
}

fn costs_json(found: Option<&Found>) -> Value {
    let of = |batch: usize| found.and_then(|found| found.costs.iter().find(|cost| cost.batch == batch));
    json!({
        "latency_us_batch_1": of(1).map(|cost| cost.median_us),
        "latency_us_batch_32": of(32).map(|cost| cost.median_us),
        "peak_memory_bytes": of(1).and_then(|cost| cost.peak_memory_bytes),
    })
}

pub(super) fn summary(done: &Compressed, output: &Path, seconds: f64, costs: Option<&Costs>) -> Value {
    json!({
        "output": output,
        "before": done.before,
        "after": done.after,
        "cost_before": costs_json(costs.map(|costs| &costs.before)),
        "cost_after": costs_json(costs.map(|costs| &costs.after)),
        "times_smaller": done.before.bytes as f64 / done.after.bytes.max(1) as f64,
        "points_lost": done.drop_points(),
        "parity": done.parity,
        "steps": done.steps,
        "seconds": seconds,
    })
}

pub(super) fn text(done: &Compressed, output: &Path, measured_on: &str, costs: Option<&Costs>) -> String {
    let (before, after) = (&done.before, &done.after);
    let mut rows = vec![row(
        "size",
        &bytes(before.bytes),
        &bytes(after.bytes),
        Some(ratio(before.bytes as f64, after.bytes as f64, ["smaller", "larger"])),
    )];
    if let (Some(was), Some(is)) = (before.score, after.score) {
        if let (Some(was_share), Some(is_share)) = (was.share(), is.share()) {
            let points = (is_share - was_share) * 100.0;
            let name = if was.accuracy.is_some() { "accuracy" } else { "variance explained" };
            rows.push(row(
                name,
                &percent(was_share),
                &percent(is_share),
                Some(format!("{points:+.2} points")),
            ));
        }
        let loss = |loss: f64| format!("{loss:.6}");
        rows.push(row("loss", &loss(was.loss), &loss(is.loss), None));
    }
    for (batch, name) in [(1, "latency, 1 row"), (32, "latency, 32 rows")] {
        if let Some((was, is)) = costs.and_then(|costs| costs.both(batch)) {
            let us = |cost: Cost| format!("{:.0} us", cost.median_us);
            rows.push(row(
                name,
                &us(was),
                &us(is),
                Some(ratio(was.median_us, is.median_us, ["faster", "slower"])),
            ));
        }
    }
    if let Some((was, is)) = costs.and_then(|costs| costs.both(1))
        && let (Some(was), Some(is)) = (was.peak_memory_bytes, is.peak_memory_bytes)
    {
        rows.push(row("peak memory", &bytes(was), &bytes(is), None));
    }
    let mut text = table(&["", "BEFORE", "AFTER", ""], &rows);
    text.push_str(&format!("\n\nmeasured with tract on {measured_on}"));
    if let Some(parity) = done.parity {
        text.push_str(&format!(
            "\nparity: the trainer and tract differ by {:.1e} of a row's largest output at most, {:.1e} in the mean ({} rows; allowed {:.0e} and {:.0e})",
            parity.max, parity.mean, parity.rows, parity.tolerance.max, parity.tolerance.mean
        ));
    }
    text.push_str(&format!("\nwritten: {}", output.display()));
    text
}

fn row(name: &str, before: &str, after: &str, change: Option<String>) -> Vec<String> {
    vec![name.to_owned(), before.to_owned(), after.to_owned(), change.unwrap_or_default()]
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// `3.90 times smaller`, or `1.90 times slower`.
fn ratio(before: f64, after: f64, [better, worse]: [&str; 2]) -> String {
    let (before, after) = (before.max(f64::MIN_POSITIVE), after.max(f64::MIN_POSITIVE));
    if after <= before {
        format!("{:.2} times {better}", before / after)
    } else {
        format!("{:.2} times {worse}", after / before)
    }
}
