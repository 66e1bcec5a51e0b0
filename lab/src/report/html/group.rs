//! Runs of one setting, and the lines that they come to.

use std::collections::{BTreeMap, BTreeSet};

use super::super::statistics::{Estimate, estimate};
use super::Run;
use super::chart::Line;
use crate::record::{RoundRow, Summary};

/// Most settings that are drawn: as many as seven colours, plain and dashed, tell apart.
pub const DRAWN_SETTINGS: usize = 14;
/// Most points of a line.
const MOST_POINTS: usize = 400;

/// Runs that differ by their seed alone, in the order of the first of each setting.
pub(super) struct Group<'a> {
    /// What a sweep set.
    pub(super) fields: &'a BTreeMap<String, String>,
    pub(super) runs: Vec<&'a Run>,
    /// Its colour; `None` where it is not drawn.
    pub(super) style: Option<usize>,
}

/// What a line goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Rounds,
    VirtualTime,
    BytesUp,
}

/// The value of the round at a place of a run.
pub(super) type Value = fn(&[RoundRow], usize) -> Option<f64>;

pub(super) fn groups(runs: &[Run]) -> Vec<Group<'_>> {
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    let drawn: BTreeSet<usize> = drawn(&summaries).into_iter().collect();
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known: BTreeMap<&BTreeMap<String, String>, usize> = BTreeMap::new();
    let mut styles = 0..;
    for (i, run) in runs.iter().enumerate() {
        let at = *known.entry(&run.summary.fields).or_insert_with(|| {
            let style = if drawn.contains(&i) { styles.next() } else { None };
            groups.push(Group {
                fields: &run.summary.fields,
                runs: Vec::new(),
                style,
            });
            groups.len() - 1
        });
        groups[at].runs.push(run);
    }
    groups
}

/// The places of the runs whose rounds a report draws: all of them up to [`DRAWN_SETTINGS`] settings, otherwise those of the settings with
/// the highest mean accuracy.
pub fn drawn(summaries: &[&Summary]) -> Vec<usize> {
    let mut settings: BTreeMap<&BTreeMap<String, String>, Vec<usize>> = BTreeMap::new();
    for (i, summary) in summaries.iter().enumerate() {
        settings.entry(&summary.fields).or_default().push(i);
    }
    let mean = |places: &[usize]| {
        let found: Vec<f64> = places
            .iter()
            .filter_map(|&i| summaries[i].test_accuracy)
            .filter(|a| a.is_finite())
            .collect();
        estimate(&found).map_or(f64::NEG_INFINITY, |e| e.mean)
    };
    let mut ranked: Vec<(f64, Vec<usize>)> = settings.into_values().map(|places| (mean(&places), places)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut places: Vec<usize> = ranked.into_iter().take(DRAWN_SETTINGS).flat_map(|(_, places)| places).collect();
    places.sort_unstable();
    places
}

impl Group<'_> {
    /// `train.lr = 0.1, update.bits = 8`
    pub(super) fn label(&self) -> String {
        let fields: Vec<String> = self.fields.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        if fields.is_empty() {
            "as the job says".to_owned()
        } else {
            fields.join(", ")
        }
    }

    /// The mean of a figure over the runs that have it.
    pub(super) fn mean(&self, figure: impl Fn(&Summary) -> Option<f64>) -> Option<Estimate> {
        let found: Vec<f64> = self
            .runs
            .iter()
            .filter_map(|run| figure(&run.summary))
            .filter(|v| v.is_finite())
            .collect();
        estimate(&found)
    }

    /// The line of a value: of one run as it is; of several the mean with its band, over the part that all of them have.
    pub(super) fn line(&self, over: Over, value: Value) -> Option<Line> {
        let style = self.style?;
        let curves: Vec<Vec<(f64, f64)>> = self
            .runs
            .iter()
            .map(|run| points(&run.rows, over, value))
            .filter(|c| !c.is_empty())
            .collect();
        match &curves[..] {
            [] => None,
            [only] => Some(Line {
                style,
                points: thinned(only),
                band: Vec::new(),
            }),
            several => Some(mean_line(style, several)),
        }
    }
}

fn points(rows: &[RoundRow], over: Over, value: Value) -> Vec<(f64, f64)> {
    let mut sent = 0u64;
    let at = |row: &RoundRow| {
        sent = sent.saturating_add(row.bytes_up);
        match over {
            Over::Rounds => f64::from(row.round),
            Over::VirtualTime => row.virtual_seconds,
            Over::BytesUp => sent as f64,
        }
    };
    let xs = rows.iter().map(at);
    let all = xs.enumerate().filter_map(|(i, x)| Some((x, value(rows, i)?)));
    all.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
}

/// Between two measurements a curve is straight.
fn mean_line(style: usize, curves: &[Vec<(f64, f64)>]) -> Line {
    let from = curves
        .iter()
        .filter_map(|c| c.first())
        .map(|p| p.0)
        .fold(f64::NEG_INFINITY, f64::max);
    let to = curves.iter().filter_map(|c| c.last()).map(|p| p.0).fold(f64::INFINITY, f64::min);
    let mut xs: Vec<f64> = curves.iter().flatten().map(|p| p.0).filter(|x| (from..=to).contains(x)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let step = xs.len().div_ceil(MOST_POINTS).max(1);
    let last = xs.len().saturating_sub(1);
    let kept = xs.iter().enumerate().filter(|(i, _)| i % step == 0 || *i == last).map(|(_, x)| *x);
    let (mut points, mut band) = (Vec::new(), Vec::new());
    for x in kept {
        let values: Vec<f64> = curves.iter().filter_map(|curve| at(curve, x)).collect();
        if let Some(Estimate { mean, half }) = estimate(&values) {
            points.push((x, mean));
            band.extend(half.map(|half| (x, mean - half, mean + half)));
        }
    }
    Line { style, points, band }
}

/// A curve's value at `x`, which lies within it.
fn at(curve: &[(f64, f64)], x: f64) -> Option<f64> {
    let next = curve.partition_point(|p| p.0 < x);
    let &(x1, y1) = curve.get(next)?;
    if x1 == x || next == 0 {
        return Some(y1);
    }
    let (x0, y0) = curve[next - 1];
    Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

/// At most [`MOST_POINTS`] points: of each stretch the lowest and the highest.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let size = points.len().div_ceil(MOST_POINTS / 2 - 1);
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let inner = &points[1..points.len() - 1];
    kept.push(points[0]);
    for stretch in inner.chunks(size) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (stretch.iter().min_by(by_value), stretch.iter().max_by(by_value));
        let mut both: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both.dedup();
        kept.extend(both);
    }
    kept.push(points[points.len() - 1]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_of_curves_are_taken_where_all_have_values() {
        let line = mean_line(0, &[vec![(0.0, 0.0), (2.0, 2.0), (4.0, 4.0)], vec![(1.0, 3.0), (3.0, 3.0)]]);
        // Values at 1: 1 and 3; at 2: 2 and 3; at 3: 3 and 3.
        assert_eq!(line.points, [(1.0, 2.0), (2.0, 2.5), (3.0, 3.0)]);
        let halves: Vec<f64> = line.band.iter().map(|(_, low, high)| (high - low) / 2.0).collect();
        assert!((halves[0] - 12.706_205).abs() < 1e-5 && halves[2] == 0.0, "{halves:?}");
        assert_eq!(mean_line(0, &[vec![(0.0, 1.0)], vec![(5.0, 1.0)]]).points, [], "nothing in common");
        // Two rounds at one moment divide nothing by nothing.
        let jump = [(0.0, 0.0), (1.0, 1.0), (1.0, 2.0), (2.0, 2.0)];
        assert!(mean_line(0, &[jump.to_vec(), jump.to_vec()]).points.iter().all(|p| p.1.is_finite()));
    }

    #[test]
    fn long_lines_keep_their_ends_and_their_peaks() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[54_321].1 = 9.0;
        points[12_345].1 = -9.0;
        let kept = thinned(&points);
        assert!(kept.len() <= MOST_POINTS, "{}", kept.len());
        assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[99_999]));
        assert!(kept.contains(&(54_321.0, 9.0)) && kept.contains(&(12_345.0, -9.0)));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn of_many_settings_the_best_are_drawn() {
        let summary = |i: u32, accuracy| Summary {
            fields: BTreeMap::from([("train.lr".to_owned(), i.to_string())]),
            test_accuracy: accuracy,
            ..Summary::default()
        };
        let all: Vec<Summary> = (0..40).map(|i| summary(i / 2, Some(f64::from(i / 2) / 20.0))).collect();
        let drawn = drawn(&all.iter().collect::<Vec<_>>());
        assert_eq!(drawn, (12..40).collect::<Vec<_>>());
    }
}
