//! A picture of lines: SVG whose colours are the page's.

use std::fmt::Write;

use super::super::text::{Quantity, escape};
use super::axis::Axis;

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 240.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;
const RIGHT: f64 = 14.0;
/// About the width of a digit at the size of the ticks' texts.
const DIGIT: f64 = 6.8;
/// About so many ticks an axis.
const TICKS: usize = 5;
/// Lines with more points have no dots.
const MOST_DOTS: usize = 30;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Which of the colours and dashes, see [`class`].
    pub(super) style: usize,
    /// In the order of x.
    pub(super) points: Vec<(f64, f64)>,
    /// x, lower and upper end of a band around it.
    pub(super) band: Vec<(f64, f64, f64)>,
}

/// What a picture shows.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// What stands below it, without the unit.
    pub(super) x_name: &'a str,
    pub(super) x: Quantity,
    pub(super) y: Quantity,
    /// Whether the vertical axis starts at 0.
    pub(super) from_zero: bool,
    pub(super) lines: Vec<Line>,
}

/// Colours that are told apart; beyond them lines are dashed.
pub(super) const COLOURS: usize = 7;

/// The classes of a style: its colour, and dashes from the eighth on.
pub(super) fn class(style: usize) -> String {
    let dashed = if (style / COLOURS) % 2 == 1 { " n" } else { "" };
    format!("s{}{dashed}", style % COLOURS)
}

/// A short line as in the pictures, for legends.
pub(super) fn swatch(style: usize) -> String {
    format!(
        "<svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"l {}\" d=\"M2 5H24\"/></svg>",
        class(style)
    )
}

impl Chart<'_> {
    /// A figure with the picture; nothing where no line has a point.
    pub(super) fn draw(&self, out: &mut String) {
        let (Some(x), Some(y)) = (self.x_axis(), self.y_axis()) else {
            return;
        };
        let widest = y.ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(1);
        let left = widest as f64 * DIGIT + 12.0;
        let px = |value: f64| left + x.place(value) * (WIDTH - left - RIGHT);
        let py = |value: f64| TOP + (1.0 - y.place(value)) * (HEIGHT - TOP - BOTTOM);
        let mut notes: Vec<&str> = Vec::new();
        if !y.unit.is_empty() {
            notes.push(y.unit);
        }
        if y.is_log() {
            notes.push("logarithmic");
        }
        let notes = if notes.is_empty() {
            String::new()
        } else {
            format!(" <small>({})</small>", notes.join(", "))
        };
        let below = if x.unit.is_empty() {
            self.x_name.to_owned()
        } else {
            format!("{} ({})", self.x_name, x.unit)
        };
        let title = escape(self.title);
        let _ = write!(
            out,
            "<figure><figcaption>{title}{notes}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} over {}\">",
            escape(self.x_name)
        );
        let (bottom, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, text) in &y.ticks {
            let at = py(*value);
            let _ = write!(
                out,
                "<path class=\"g\" d=\"M{left:.1} {at:.1}H{end:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                left - 6.0,
                at + 4.0
            );
        }
        for (value, text) in &x.ticks {
            let at = px(*value);
            // The last text may not stand out of the picture.
            let half = text.chars().count() as f64 * DIGIT / 2.0;
            let centre = at.min(WIDTH - half - 1.0);
            let _ = write!(
                out,
                "<path class=\"a\" d=\"M{at:.1} {bottom:.1}v4\"/><text x=\"{centre:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                bottom + 17.0
            );
        }
        let _ = write!(
            out,
            "<path class=\"a\" d=\"M{left:.1} {bottom:.1}H{end:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            (left + end) / 2.0,
            HEIGHT - 6.0,
            escape(&below)
        );
        for line in self.lines.iter().filter(|line| !line.band.is_empty()) {
            let upper = line.band.iter().map(|&(x, _, high)| (x, high));
            let lower = line.band.iter().rev().map(|&(x, low, _)| (x, low));
            let _ = write!(
                out,
                "<path class=\"b s{}\" d=\"{}Z\"/>",
                line.style % COLOURS,
                path(upper.chain(lower), px, py)
            );
        }
        for line in self.lines.iter().filter(|line| !line.points.is_empty()) {
            let class = class(line.style);
            let _ = write!(
                out,
                "<path class=\"l {class}\" d=\"{}\"/>",
                path(line.points.iter().copied(), px, py)
            );
            if line.points.len() <= MOST_DOTS {
                for &(vx, vy) in &line.points {
                    let _ = write!(
                        out,
                        "<circle class=\"d s{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"><title>{}: {}</title></circle>",
                        line.style % COLOURS,
                        px(vx),
                        py(vy),
                        self.x.shown(vx),
                        self.y.shown(vy)
                    );
                }
            }
        }
        out.push_str("</svg></figure>\n");
    }

    fn x_axis(&self) -> Option<Axis> {
        let xs = || self.lines.iter().flat_map(|line| line.points.iter().map(|p| p.0));
        let (low, high) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
        let low = if self.x == Quantity::Count { low } else { low.min(0.0) };
        let axis = Axis::over(self.x, low, high, TICKS)?;
        Some(if low < high { axis.cut(low, high) } else { axis })
    }

    fn y_axis(&self) -> Option<Axis> {
        let points = self.lines.iter().flat_map(|line| line.points.iter().map(|p| p.1));
        let bands = self.lines.iter().flat_map(|line| line.band.iter().flat_map(|b| [b.1, b.2]));
        let (mut low, mut high) = points
            .clone()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(y), h.max(y)));
        for y in bands {
            // An interval may reach beyond what there can be, and no interval may hide the lines.
            let room = (high - low).max(high.abs() * 0.05);
            (low, high) = (low.min(y.max(low - room)), high.max(y.min(high + room)));
        }
        if self.y == Quantity::Share {
            (low, high) = (low.max(0.0), high.min(1.0));
        }
        let smallest = points.fold(f64::INFINITY, f64::min);
        if self.from_zero {
            // What is never below 0 has no interval there.
            low = if smallest >= 0.0 { 0.0 } else { low.min(0.0) };
        }
        let axis = if self.from_zero {
            Axis::over(self.y, low, high, TICKS)
        } else {
            Axis::fitting(self.y, low.max(smallest * 0.5), high, TICKS)
        };
        axis.map(|axis| if self.y == Quantity::Share { axis.cut(0.0, 1.0) } else { axis })
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>, px: impl Fn(f64) -> f64, py: impl Fn(f64) -> f64) -> String {
    let mut d = String::new();
    for (i, (x, y)) in points.enumerate() {
        let _ = write!(d, "{}{:.1} {:.1}", if i == 0 { "M" } else { "L" }, px(x), py(y));
    }
    d
}
