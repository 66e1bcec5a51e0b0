//! Figures of settings and of runs, as tables.

use std::fmt::Write;

use super::super::statistics::{Estimate, estimate};
use super::super::text::{Quantity, escape};
use super::Run;
use super::chart::swatch;
use super::group::Group;
use crate::record::{Reached, Summary};

/// Most rows of a table; `runs.csv` has them all.
const MOST_ROWS: usize = 500;
/// Most targets of a table, the highest ones.
const MOST_TARGETS: usize = 8;

/// A figure of a run.
type Figure = (&'static str, Quantity, fn(&Summary) -> Option<f64>);

const FIGURES: &[Figure] = &[
    ("Accuracy at the end", Quantity::Share, |s| s.test_accuracy),
    ("Best accuracy", Quantity::Share, |s| s.best_accuracy),
    ("Rounds", Quantity::Count, |s| Some(s.rounds.into())),
    ("Simulated time", Quantity::Seconds, |s| Some(s.virtual_seconds)),
    ("Sent to the server", Quantity::Bytes, |s| Some(s.bytes_up as f64)),
    ("Sent to clients", Quantity::Bytes, |s| Some(s.bytes_down as f64)),
    ("Energy of the devices", Quantity::Joules, |s| {
        (s.energy_j > 0.0).then_some(s.energy_j)
    }),
    ("Updates in sums", Quantity::Count, |s| Some(s.contributions as f64)),
    ("Trainings", Quantity::Count, |s| (s.trainings > 0).then_some(s.trainings as f64)),
    ("Dropped out", Quantity::Count, |s| (s.dropped > 0).then_some(s.dropped as f64)),
    ("Canaries' cosine", Quantity::Number, |s| s.canary_cosine),
    ("Wall time", Quantity::Seconds, |s| Some(s.seconds)),
    ("Until the first round", Quantity::Seconds, |s| Some(s.start_seconds)),
    ("Memory at most", Quantity::Bytes, |s| {
        s.peak_memory_mib.map(|mib| mib * 1_048_576.0)
    }),
    ("Threads", Quantity::Count, |s| Some(s.threads.into())),
];

/// Figures that a table of settings leaves out.
const ALONE: [&str; 5] = ["Updates in sums", "Trainings", "Until the first round", "Memory at most", "Threads"];

/// The figures of the summaries: one setting's as a list, several settings' as a table.
pub(super) fn figures(out: &mut String, groups: &[Group<'_>]) {
    let of = |group: &Group<'_>, figure: &Figure| group.mean(figure.2).map(|mean| figure.1.estimate(&mean));
    match groups {
        [] => return,
        [group] => {
            out.push_str("<dl class=\"facts\">\n");
            for figure in FIGURES {
                if let Some(shown) = of(group, figure) {
                    let _ = writeln!(out, "<div><dt>{}</dt><dd>{shown}</dd></div>", figure.0);
                }
            }
            out.push_str("</dl>\n");
            if let [run] = &group.runs[..] {
                let _ = writeln!(
                    out,
                    "<p class=\"soft\">SHA-256 of the last model: {}</p>",
                    escape(&run.summary.model)
                );
            }
        }
        _ => {
            out.push_str("<h2>Settings</h2>\n");
            let wanted = FIGURES.iter().filter(|figure| !ALONE.contains(&figure.0));
            let there: Vec<&Figure> = wanted
                .filter(|figure| groups.iter().any(|group| of(group, figure).is_some()))
                .collect();
            let mut header = vec!["Setting", "Runs"];
            header.extend(there.iter().map(|figure| figure.0));
            let rows = groups.iter().map(|group| {
                let mut row = vec![named(group), group.runs.len().to_string()];
                row.extend(there.iter().map(|figure| of(group, figure).unwrap_or_else(none)));
                row
            });
            table(out, &header, rows);
        }
    }
    if groups.iter().any(|group| group.runs.len() > 1) {
        out.push_str("<p class=\"soft\">Means over the seeds, ± half of the 95 % confidence interval of the mean by Student's t.</p>\n");
    }
}

/// When targets were met.
pub(super) fn targets(out: &mut String, groups: &[Group<'_>]) {
    let all = groups.iter().flat_map(|group| &group.runs).flat_map(|run| &run.summary.reached);
    let mut targets: Vec<f64> = all
        .map(|reached| reached.accuracy)
        .filter(|accuracy| accuracy.is_finite())
        .collect();
    targets.sort_by(f64::total_cmp);
    targets.dedup();
    let targets = &targets[targets.len().saturating_sub(MOST_TARGETS)..];
    if targets.is_empty() {
        return;
    }
    out.push_str("<h2>When targets were met</h2>\n");
    let several = groups.len() > 1;
    let mut header = if several { vec!["Setting", "Accuracy"] } else { vec!["Accuracy"] };
    header.extend(["Runs that met it", "Round", "Simulated time", "Sent to the server"]);
    let rows = groups
        .iter()
        .flat_map(|group| targets.iter().map(move |target| (group, *target)))
        .map(|(group, target)| {
            let met: Vec<&Reached> = group.runs.iter().filter_map(|run| when(&run.summary, target)).collect();
            let mut row = if several { vec![named(group)] } else { Vec::new() };
            row.push(Quantity::Share.shown(target));
            row.push(format!("{} of {}", met.len(), group.runs.len()));
            row.extend(REACHED.iter().map(|(quantity, figure)| {
                let values: Vec<f64> = met.iter().map(|reached| figure(reached)).collect();
                estimate(&values).map_or_else(none, |mean| quantity.estimate(&mean))
            }));
            row
        });
    table(out, &header, rows);
    if groups.iter().any(|group| group.runs.len() > 1) {
        out.push_str("<p class=\"soft\">Means over the runs that met it.</p>\n");
    }
}

/// A figure of a target that was met.
type When = (Quantity, fn(&Reached) -> f64);

const REACHED: &[When] = &[
    (Quantity::Count, |r| f64::from(r.round)),
    (Quantity::Seconds, |r| r.virtual_seconds),
    (Quantity::Bytes, |r| r.bytes_up as f64),
];

fn when(summary: &Summary, target: f64) -> Option<&Reached> {
    summary.reached.iter().find(|reached| reached.accuracy == target)
}

/// How each setting differs from the first, seed by seed.
pub(super) fn differences(out: &mut String, groups: &[Group<'_>]) {
    let Some((first, others)) = groups.split_first().filter(|(_, others)| !others.is_empty()) else {
        return;
    };
    let pairs: Vec<Vec<(&Summary, &Summary)>> = others
        .iter()
        .map(|group| {
            let other = |seed| group.runs.iter().find(|run| run.summary.seed == seed);
            first
                .runs
                .iter()
                .filter_map(|run| Some((&run.summary, &other(run.summary.seed)?.summary)))
                .collect()
        })
        .collect();
    if pairs.iter().all(Vec::is_empty) {
        return;
    }
    // The highest target that every run met.
    let every = |target: f64| {
        groups
            .iter()
            .flat_map(|group| &group.runs)
            .all(|run| when(&run.summary, target).is_some())
    };
    let first_run = first.runs.first();
    let common = first_run.and_then(|run| run.summary.reached.iter().map(|r| r.accuracy).rfind(|target| every(*target)));
    let mut header = vec!["Setting".to_owned(), "Seeds".to_owned(), "Accuracy at the end".to_owned()];
    if let Some(target) = common {
        let shown = Quantity::Share.shown(target);
        header.extend(["Rounds", "Simulated time", "Sent to the server"].map(|what| format!("{what} to {shown}")));
    }
    let _ = writeln!(out, "<h2>Differences from {}</h2>", escape(&first.label()));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows = others.iter().zip(&pairs).map(|(group, pairs)| {
        let difference = |quantity: Quantity, figure: &dyn Fn(&Summary) -> Option<f64>| {
            let values: Vec<f64> = pairs
                .iter()
                .filter_map(|(a, b)| Some(figure(b)? - figure(a)?))
                .filter(|d| d.is_finite())
                .collect();
            estimate(&values).map_or_else(none, |mean| signed(quantity, &mean))
        };
        let mut row = vec![
            named(group),
            pairs.len().to_string(),
            difference(Quantity::Points, &|s| s.test_accuracy),
        ];
        if let Some(target) = common {
            row.extend(
                REACHED
                    .iter()
                    .map(|(quantity, figure)| difference(*quantity, &|s| when(s, target).map(figure))),
            );
        }
        row
    });
    table(out, &header, rows);
    out.push_str(
        "<p class=\"soft\">Each run is compared with the run of the same seed: means of the differences, ± half of their 95 % confidence interval by \
        Student's t where there are two seeds or more. The intervals are not widened for the number of settings.</p>\n",
    );
}

fn signed(quantity: Quantity, difference: &Estimate) -> String {
    let shown = quantity.estimate(difference);
    if difference.mean > 0.0 && !shown.starts_with('+') {
        format!("+{shown}")
    } else {
        shown.replacen('-', "−", 1)
    }
}

/// Every run, where there are several.
pub(super) fn runs(out: &mut String, runs: &[Run]) {
    if runs.len() < 2 {
        return;
    }
    out.push_str("<details><summary>All runs</summary>\n");
    let header = ["Run", "Seed", "Accuracy", "Rounds", "Simulated time", "Wall time", "Ended", "Model"];
    let rows = runs.iter().map(|run| {
        let s = &run.summary;
        vec![
            escape(&run.name),
            s.seed.to_string(),
            s.test_accuracy.map_or_else(none, |accuracy| Quantity::Share.shown(accuracy)),
            s.rounds.to_string(),
            Quantity::Seconds.shown(s.virtual_seconds),
            Quantity::Seconds.shown(s.seconds),
            escape(&s.end),
            escape(&s.model.chars().take(12).collect::<String>()),
        ]
    });
    table(out, &header, rows);
    out.push_str("</details>\n");
}

/// The setting's name with its colour, as HTML.
fn named(group: &Group<'_>) -> String {
    format!("{}{}", group.style.map(swatch).unwrap_or_default(), escape(&group.label()))
}

fn none() -> String {
    "–".to_owned()
}

/// A table; cells are HTML.
fn table(out: &mut String, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    out.push_str("<div class=\"wide\"><table>\n<tr>");
    for name in header {
        let _ = write!(out, "<th>{name}</th>");
    }
    out.push_str("</tr>\n");
    let mut left_out = 0;
    for (i, row) in rows.enumerate() {
        if i >= MOST_ROWS {
            left_out += 1;
            continue;
        }
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    if left_out > 0 {
        let _ = writeln!(
            out,
            "<p class=\"soft\">{left_out} more rows are left out here; runs.csv has every run.</p>"
        );
    }
}
