//! What ran, in words, and the pictures.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::text::{Quantity, escape};
use super::Run;
use super::chart::{Chart, Line, swatch};
use super::group::{DRAWN_SETTINGS, Group, Over, Value};
use crate::record::{RoundRow, Summary};

/// Most values of one kind that a sentence names.
const NAMED: usize = 12;

/// A paragraph on the population, the job and the seeds, and what was run as an equivalent.
pub(super) fn what_ran(out: &mut String, runs: &[Run], groups: &[Group<'_>]) {
    if runs.is_empty() {
        out.push_str("<p>No run is whole yet.</p>\n");
        return;
    }
    let of = |shown: fn(&Summary) -> String| named(runs, shown);
    let mut text = format!(
        "Simulated: job {}, {} clients, {} asked a round, ",
        of(|s| s.job.clone()),
        of(|s| s.clients.to_string()),
        of(|s| s.cohort.to_string())
    );
    let modes = of(|s| match s.mode.as_str() {
        "sync" => "synchronous rounds".to_owned(),
        "semi_sync" => "semi-synchronous rounds".to_owned(),
        "async" => "asynchronous steps".to_owned(),
        other => other.to_owned(),
    });
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.summary.seed).collect();
    let _ = write!(text, "{modes}, {} aggregation", of(|s| s.aggregation.clone()));
    let _ = write!(
        text,
        ", {} {}.",
        if seeds.len() == 1 { "seed" } else { "seeds" },
        of(|s| s.seed.to_string())
    );
    if runs.len() > 1 {
        let settings = if groups.len() == 1 {
            String::new()
        } else {
            format!(" of {} settings", groups.len())
        };
        let _ = write!(text, " {} runs{settings}.", runs.len());
    }
    let ends = of(|s| s.end.clone());
    let _ = writeln!(
        out,
        "<p>{}</p>\n<p class=\"soft\">Ended: {}.</p>",
        escape(&text),
        escape(ends.trim_end_matches('.'))
    );
    let shortcuts: BTreeSet<&str> = runs
        .iter()
        .flat_map(|run| run.summary.shortcuts.iter().map(String::as_str))
        .collect();
    if shortcuts.is_empty() {
        out.push_str("<p class=\"soft\">No shortcuts: all that the job says ran as it does in production.</p>\n");
    } else {
        out.push_str("<p>Shortcuts, each an equivalent of what production does:</p>\n<ul>\n");
        for shortcut in shortcuts {
            let _ = writeln!(out, "<li>{}</li>", escape(shortcut));
        }
        out.push_str("</ul>\n");
    }
}

/// The different values of some runs, in the order of the first of each.
fn named(runs: &[Run], shown: fn(&Summary) -> String) -> String {
    let mut seen = BTreeSet::new();
    let mut values: Vec<String> = Vec::new();
    for run in runs {
        let value = shown(&run.summary);
        if seen.insert(value.clone()) {
            values.push(value);
        }
    }
    let more = values.len().saturating_sub(NAMED);
    values.truncate(NAMED);
    let text = values.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

/// Accuracy and loss over rounds, simulated time and bytes.
pub(super) fn curves(out: &mut String, groups: &[Group<'_>]) {
    let has = |value: Value| any(groups, value);
    let test: Value = |rows, i| rows[i].test_accuracy;
    let devices: Value = |rows, i| rows[i].device_accuracy;
    let (loss, training): (Value, Value) = (|rows, i| rows[i].test_loss, |rows, i| rows[i].train_loss);
    let mut rows: Vec<(&str, Quantity, Vec<Value>)> = Vec::new();
    // With one setting there are colours left for what belongs together.
    let alone = groups.len() == 1;
    match (has(test), alone && has(devices)) {
        (true, true) => rows.push(("Accuracy", Quantity::Share, vec![test, devices])),
        (true, false) => rows.push(("Test accuracy", Quantity::Share, vec![test])),
        (false, _) if has(devices) => rows.push(("Accuracy on the devices", Quantity::Share, vec![devices])),
        (false, _) => {}
    }
    match (has(loss), alone && has(training)) {
        (true, true) => rows.push(("Loss", Quantity::Number, vec![loss, training])),
        (true, false) => rows.push(("Test loss", Quantity::Number, vec![loss])),
        (false, _) if has(training) => rows.push(("Training loss", Quantity::Number, vec![training])),
        (false, _) => {}
    }
    if rows.is_empty() {
        if !groups.is_empty() {
            out.push_str("<p>Nothing was evaluated, so there are no curves of accuracy and loss.</p>\n");
        }
        return;
    }
    out.push_str("<h2>Learning</h2>\n");
    if rows.iter().any(|(_, _, values)| values.len() > 1) {
        let _ = writeln!(
            out,
            "<ul class=\"legend\"><li>{}the server's test data</li><li>{}the devices: accuracy on what they hold back, loss in training</li></ul>",
            swatch(0),
            swatch(1)
        );
    }
    legend(out, groups);
    bands(out, groups);
    out.push_str("<div class=\"charts\">\n");
    for (title, quantity, values) in rows {
        for (over, name, x) in [
            (Over::Rounds, "round", Quantity::Count),
            (Over::VirtualTime, "simulated time", Quantity::Seconds),
            (Over::BytesUp, "sent to the server", Quantity::Bytes),
        ] {
            let mut lines: Vec<Line> = groups.iter().filter_map(|group| group.line(over, values[0])).collect();
            if let (Some(second), [group]) = (values.get(1), groups) {
                lines.extend(group.line(over, *second).map(|line| Line { style: 1, ..line }));
            }
            // Where nothing passes, there is nothing to see over it.
            if over != Over::Rounds && !lines.iter().any(|line| line.points.iter().any(|p| p.0 > 0.0)) {
                continue;
            }
            Chart {
                title,
                x_name: name,
                x,
                y: quantity,
                from_zero: false,
                lines,
            }
            .draw(out);
        }
    }
    out.push_str("</div>\n");
}

/// What is drawn of each round: title, quantity, value, and whether it is drawn where it is 0 throughout.
type Figure = (&'static str, Quantity, Value, bool);

const FIGURES: &[Figure] = &[
    ("Sent to the server", Quantity::Bytes, |rows, i| Some(rows[i].bytes_up as f64), true),
    ("Sent to clients", Quantity::Bytes, |rows, i| Some(rows[i].bytes_down as f64), true),
    ("Energy of the devices", Quantity::Joules, |rows, i| Some(rows[i].energy_j), false),
    ("Simulated time", Quantity::Seconds, simulated, false),
    ("Wall time", Quantity::Seconds, |rows, i| Some(rows[i].seconds), false),
    (
        "Updates in the sum",
        Quantity::Count,
        |rows, i| Some(rows[i].contributions.into()),
        true,
    ),
    (
        "Members that dropped out",
        Quantity::Count,
        |rows, i| Some(rows[i].dropped.into()),
        false,
    ),
    (
        "Updates whose norm was cut",
        Quantity::Count,
        |rows, i| Some(rows[i].clipped.into()),
        false,
    ),
    (
        "Mean staleness, steps",
        Quantity::Number,
        |rows, i| Some(rows[i].mean_staleness),
        false,
    ),
];

fn simulated(rows: &[RoundRow], i: usize) -> Option<f64> {
    let before = i.checked_sub(1).map_or(0.0, |before| rows[before].virtual_seconds);
    Some(rows[i].virtual_seconds - before)
}

/// What a round sends, spends and loses.
pub(super) fn each_round(out: &mut String, groups: &[Group<'_>]) {
    if !any(groups, |_, _| Some(0.0)) {
        return;
    }
    out.push_str("<h2>Each round</h2>\n");
    legend(out, groups);
    bands(out, groups);
    out.push_str("<div class=\"charts\">\n");
    for (title, quantity, value, always) in FIGURES {
        let lines: Vec<Line> = groups.iter().filter_map(|group| group.line(Over::Rounds, *value)).collect();
        if *always || lines.iter().any(|line| line.points.iter().any(|p| p.1 != 0.0)) {
            Chart {
                title,
                x_name: "round",
                x: Quantity::Count,
                y: *quantity,
                from_zero: true,
                lines,
            }
            .draw(out);
        }
    }
    out.push_str("</div>\n");
}

fn any(groups: &[Group<'_>], value: Value) -> bool {
    let mut runs = groups.iter().filter(|group| group.style.is_some()).flat_map(|group| &group.runs);
    runs.any(|run| (0..run.rows.len()).any(|i| value(&run.rows, i).is_some_and(f64::is_finite)))
}

/// The names of the lines, where there are several settings.
fn legend(out: &mut String, groups: &[Group<'_>]) {
    if groups.len() < 2 {
        return;
    }
    out.push_str("<ul class=\"legend\">");
    for group in groups {
        if let Some(style) = group.style {
            let _ = write!(out, "<li>{}{}</li>", swatch(style), escape(&group.label()));
        }
    }
    out.push_str("</ul>\n");
    if groups.iter().any(|group| group.style.is_none()) {
        let _ = writeln!(
            out,
            "<p class=\"soft\">Drawn are the {DRAWN_SETTINGS} settings of {} with the highest accuracy.</p>",
            groups.len()
        );
    }
}

/// What bands are, where there are any.
fn bands(out: &mut String, groups: &[Group<'_>]) {
    if groups.iter().any(|group| group.style.is_some() && group.runs.len() > 1) {
        out.push_str(
            "<p class=\"soft\">Lines are means over the seeds, as far as all of them have values; bands are 95 % confidence intervals of the mean by \
            Student's t.</p>\n",
        );
    }
}
