//! Reports of analytics jobs: fetched, and shown as a table.

use aimass_analytics::{FeatureReport, RangeCounts, Report};
use aimass_protocol::job::AggregationMode;
use anyhow::{Context, Result};
use serde_json::Value;

use super::MAX_REPORT_BYTES;
use crate::api::Api;
use crate::output::table;

/// Columns of a histogram; more bins than that are drawn together.
const WIDEST: usize = 32;
/// Classes of a feature that are listed.
const MOST_CLASSES: usize = 32;
/// From nothing to the highest bin.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Whether a job's results are reports: the one place where the command tells them from models.
pub(super) fn is_of(view: &Value) -> bool {
    view["kind"].as_str() == Some("analytics")
}

/// The report of a round of an analytics job, and its bytes as they are in the log; the latest when `round` is `None`.
pub(super) fn pull(api: &Api, job: &str, round: Option<u32>) -> Result<(Report, Vec<u8>)> {
    let query = round.map(|r| format!("?round={r}")).unwrap_or_default();
    let bytes = api.get_bytes(&format!("/v1/jobs/{job}/model{query}"), MAX_REPORT_BYTES)?;
    let report = Report::parse(&bytes).context("the aggregator sent what is no report")?;
    Ok((report, bytes))
}

/// The report of a stage of a release, as it is in the log; the latest when `round` is `None`.
pub(super) fn pull_release(api: &Api, job: &str, round: Option<u32>) -> Result<Vec<u8>> {
    let query = round.map(|r| format!("?round={r}")).unwrap_or_default();
    let bytes = api.get_bytes(&format!("/v1/jobs/{job}/model{query}"), MAX_REPORT_BYTES)?;
    aimass_analytics::release::ReleaseReport::parse(&bytes).context("the aggregator sent what is no report")?;
    Ok(bytes)
}

/// For people: who was counted, a table of the numbers, a line for each feature that is classes.
pub(super) fn text(report: &Report) -> String {
    let sum = match report.mode {
        AggregationMode::Secure => "a sum under masks",
        AggregationMode::Plain => "a PLAIN sum: the aggregator could read what each agent counted",
    };
    let mut lines = vec![
        String::new(),
        format!(
            "report of round {}: {} rows of {} agents, {sum}",
            report.round, report.rows, report.agents
        ),
    ];
    if report.capped_agents > 0 {
        lines.push(format!(
            "{} of the agents have more than {} rows: {} of each were counted",
            report.capped_agents, report.max_rows, report.max_rows
        ));
    }
    let rows: Vec<Vec<String>> = report
        .features
        .iter()
        .filter_map(|feature| Some(row(feature, feature.range.as_ref()?)))
        .collect();
    if !rows.is_empty() {
        let head = [
            "FEATURE",
            "COUNT",
            "MISSING",
            "MEAN",
            "SD",
            "+-",
            "CLIPPED",
            "QUARTILES",
            "RANGE",
            "HISTOGRAM",
        ];
        lines.push(table(&head, &rows));
    }
    lines.extend(report.features.iter().filter_map(classes));
    lines.join("\n")
}

fn row(feature: &FeatureReport, range: &RangeCounts) -> Vec<String> {
    let known = |value: Option<f64>| value.map_or("-".to_owned(), short);
    vec![
        feature.title(),
        feature.count.to_string(),
        feature.missing.to_string(),
        known(range.mean),
        known(range.sd),
        short(range.error),
        percent(range.below + range.above, feature.count),
        range.quartiles.map_or("-".to_owned(), |quartiles| quartiles.map(short).join(" ")),
        format!("{} to {}", short(range.low), short(range.high)),
        histogram(&range.bins),
    ]
}

/// A line, or more where there are many classes.
fn classes(feature: &FeatureReport) -> Option<String> {
    let classes = feature.classes.as_ref()?;
    let count = |count: u64| format!("{count} ({})", percent(count, feature.count));
    let shown = classes.counts.iter().take(MOST_CLASSES).enumerate();
    let mut parts: Vec<String> = shown.map(|(class, &n)| format!("{class}: {}", count(n))).collect();
    if let Some(more) = classes.counts.len().checked_sub(MOST_CLASSES).filter(|more| *more > 0) {
        parts.push(format!("{more} more classes: `aimass job pull` writes all"));
    }
    if classes.other > 0 {
        parts.push(format!("no class: {}", count(classes.other)));
    }
    if feature.missing > 0 {
        parts.push(format!("missing: {}", feature.missing));
    }
    Some(format!("{}  {}", feature.title(), parts.join("  ")))
}

fn percent(part: u64, all: u64) -> String {
    if all == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", part as f64 / all as f64 * 100.0)
}

/// Five digits that count.
fn short(value: f64) -> String {
    let digits = value.abs().log10().floor();
    if value == 0.0 {
        "0".to_owned()
    } else if (-4.0..7.0).contains(&digits) {
        let decimals = (4.0 - digits).max(0.0) as usize;
        let text = format!("{value:.decimals$}");
        if decimals > 0 {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    } else {
        format!("{value:.4e}")
    }
}

/// A bar a bin; what is there at all is seen.
pub(super) fn histogram(bins: &[u64]) -> String {
    if bins.is_empty() {
        return String::new();
    }
    let joined = bins.len().div_ceil(WIDEST);
    let heights: Vec<u64> = bins
        .chunks(joined)
        .map(|bins| bins.iter().fold(0_u64, |sum, n| sum.saturating_add(*n)))
        .collect();
    let highest = heights.iter().copied().max().unwrap_or(0).max(1);
    let bar = |height: u64| BARS[(u128::from(height) * 8).div_ceil(u128::from(highest)) as usize];
    heights.into_iter().map(bar).chain(['|']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(bins: Vec<u64>) -> RangeCounts {
        RangeCounts {
            low: 0.0,
            high: 16.0,
            below: 1,
            above: 2,
            sum: 5,
            squares: 5,
            bins,
            mean: Some(4.888_888),
            sd: None,
            error: 0.000_122_07,
            quartiles: Some([0.0, 1.5, 12.25]),
        }
    }

    fn feature(name: &str) -> FeatureReport {
        FeatureReport {
            name: name.to_owned(),
            index: None,
            count: 12,
            missing: 3,
            range: None,
            classes: None,
        }
    }

    #[test]
    fn numbers_are_a_table_and_classes_are_lines() {
        let pixel = FeatureReport {
            index: Some(3),
            range: Some(range(vec![8, 0, 1, 4])),
            ..feature("pixel")
        };
        let label = FeatureReport {
            classes: Some(aimass_analytics::ClassCounts {
                counts: vec![6, 3],
                other: 3,
            }),
            ..feature("label")
        };
        let report = Report {
            format: "aimass-analytics/1".to_owned(),
            round: 2,
            mode: AggregationMode::Secure,
            agents: 5,
            rows: 15,
            capped_agents: 1,
            max_rows: 4,
            bits: 16,
            features: vec![pixel, label],
        };
        let expected = "
report of round 2: 15 rows of 5 agents, a sum under masks
1 of the agents have more than 4 rows: 4 of each were counted
FEATURE   COUNT  MISSING  MEAN    SD  +-          CLIPPED  QUARTILES    RANGE    HISTOGRAM
pixel[3]  12     3        4.8889  -   0.00012207  25.0 %   0 1.5 12.25  0 to 16  █ ▁▄|
label  0: 6 (50.0 %)  1: 3 (25.0 %)  no class: 3 (25.0 %)  missing: 3";
        assert_eq!(text(&report), expected);
        let plain = Report {
            mode: AggregationMode::Plain,
            features: Vec::new(),
            capped_agents: 0,
            ..report
        };
        let shown = text(&plain);
        assert!(shown.contains("a PLAIN sum") && shown.lines().count() == 2, "{shown}");
    }

    #[test]
    fn numbers_have_five_digits() {
        let shown = [
            0.0,
            1.0,
            -2.5,
            123_456.7,
            1_234_567.0,
            12_345_678.0,
            0.000_123_456,
            1.5e-7,
            -1e300,
            5e-324,
        ]
        .map(short);
        let expected = [
            "0",
            "1",
            "-2.5",
            "123457",
            "1234567",
            "1.2346e7",
            "0.00012346",
            "1.5000e-7",
            "-1.0000e300",
            "4.9407e-324",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn histograms_fit_a_line_whatever_they_hold() {
        assert_eq!(histogram(&[]), "");
        assert_eq!(histogram(&[0, 0]), "  |");
        assert_eq!(histogram(&[1, u64::MAX / 2]), "▁█|");
        let many = histogram(&[1; 4096]);
        assert_eq!(many.chars().count(), WIDEST + 1);
        assert!(many.starts_with('█'));
    }
}
