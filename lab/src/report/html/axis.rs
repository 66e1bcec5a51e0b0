//! Where an axis begins and ends, and what stands at it.

use super::super::text::Quantity;

/// An axis over values of one quantity.
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Value and text of each tick.
    pub(super) ticks: Vec<(f64, String)>,
    /// The unit of the texts.
    pub(super) unit: &'static str,
}

/// Values further apart than this are drawn on a logarithmic axis, where that is allowed.
const LOG_FROM: f64 = 100.0;

impl Axis {
    /// An axis from `low` to `high` or a little further, with about `n` ticks. `None` without a finite range.
    pub(super) fn over(quantity: Quantity, low: f64, high: f64, n: usize) -> Option<Self> {
        if !(low.is_finite() && high.is_finite() && low <= high && high - low < f64::MAX) {
            return None;
        }
        let (divisor, unit) = quantity.unit(low.abs().max(high.abs()));
        let (mut from, mut to) = (low / divisor, high / divisor);
        // A flat line has room on both sides.
        if to - from <= f64::EPSILON * to.abs().max(from.abs()) {
            let room = if from == 0.0 { 1.0 } else { from.abs() * 0.1 };
            (from, to) = (if from >= 0.0 { (from - room).max(0.0) } else { from - room }, to + room);
        }
        let mut step = nice((to - from) / n.max(1) as f64);
        if quantity == Quantity::Count {
            step = step.max(1.0);
        }
        let (first, last) = ((from / step).floor(), (to / step).ceil());
        let decimals = if step >= 1.0 {
            0
        } else {
            (-step.log10()).ceil().clamp(0.0, 12.0) as usize
        };
        let ticks = (0..=((last - first) as usize).min(100))
            .map(|i| {
                let value = (first + i as f64) * step;
                let text = if value.abs() >= 1e6 || (step < 1e-6) {
                    format!("{value:.1e}")
                } else {
                    format!("{value:.decimals$}")
                };
                (value * divisor, text)
            })
            .collect();
        Some(Self {
            low: first * step * divisor,
            high: last * step * divisor,
            log: false,
            ticks,
            unit,
        })
    }

    /// A logarithmic axis where the values are positive and far apart, otherwise a plain one.
    pub(super) fn fitting(quantity: Quantity, low: f64, high: f64, n: usize) -> Option<Self> {
        if quantity != Quantity::Number || low <= 0.0 || high / low < LOG_FROM || !high.is_finite() {
            return Self::over(quantity, low, high, n);
        }
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        // At most about six decades are named.
        let every = ((last - first) / 6 + 1).max(1);
        let ticks = (first..=last)
            .filter(|decade| (decade - first) % every == 0)
            .map(|decade| {
                let value = 10f64.powi(decade);
                let text = if (-3..5).contains(&decade) {
                    value.to_string()
                } else {
                    format!("1e{decade}")
                };
                (value, text)
            })
            .collect();
        Some(Self {
            low: 10f64.powi(first),
            high: 10f64.powi(last),
            log: true,
            ticks,
            unit: "",
        })
    }

    /// An axis of which no values lie beyond its ends: ticks that do are left out.
    pub(super) fn cut(mut self, low: f64, high: f64) -> Self {
        self.low = self.low.max(low);
        self.high = self.high.min(high);
        let (from, to, slack) = (self.low, self.high, (self.high - self.low) * 1e-9);
        self.ticks.retain(|(value, _)| *value >= from - slack && *value <= to + slack);
        self
    }

    /// Where a value lies, 0 to 1 from the lower end; what lies beyond the ends is at them.
    pub(super) fn place(&self, value: f64) -> f64 {
        let at = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if at.is_nan() { 0.0 } else { at.clamp(0.0, 1.0) }
    }

    pub(super) fn is_log(&self) -> bool {
        self.log
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = step / power;
    // A little more is rounding.
    let nice = [1.0, 2.0, 5.0].into_iter().find(|n| digit <= n * 1.000_001).unwrap_or(10.0);
    nice * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_values_of_the_unit() {
        let axis = |quantity, low, high| Axis::over(quantity, low, high, 5).expect("a range");
        let days = axis(Quantity::Seconds, 0.0, 86_400.0 * 9.3);
        assert_eq!((texts(&days), days.unit), (vec!["0", "2", "4", "6", "8", "10"], "days"));
        let share = axis(Quantity::Share, 0.113, 0.978);
        assert_eq!((texts(&share), share.unit), (vec!["0", "20", "40", "60", "80", "100"], "%"));
        assert_eq!(texts(&axis(Quantity::Count, 1.0, 3.0)), ["1", "2", "3"]);
        assert_eq!(texts(&axis(Quantity::Number, 0.13, 0.47)), ["0.1", "0.2", "0.3", "0.4", "0.5"]);
        assert_eq!(texts(&axis(Quantity::Bytes, 0.0, 3.1e9)), ["0", "1", "2", "3", "4"]);
        assert_eq!(texts(&days.cut(0.0, 86_400.0 * 9.3)), ["0", "2", "4", "6", "8"]);
    }

    #[test]
    fn flat_and_strange_ranges_have_an_axis_or_none() {
        for (low, high) in [
            (0.0, 0.0),
            (5.0, 5.0),
            (-2.0, -2.0),
            (1e300, 1e300),
            (1e-300, 1e-300),
            (1.0, 1.0 + 1e-15),
        ] {
            let axis = Axis::over(Quantity::Number, low, high, 5).expect("a range");
            assert!(axis.ticks.len() >= 2 && axis.ticks.len() < 20, "{low} {high}: {}", axis.ticks.len());
            assert!((0.0..=1.0).contains(&axis.place(low)));
        }
        assert!(Axis::over(Quantity::Number, f64::NAN, 1.0, 5).is_none());
        assert!(Axis::over(Quantity::Number, f64::NEG_INFINITY, 1.0, 5).is_none());
        assert!(Axis::over(Quantity::Number, f64::INFINITY, f64::NEG_INFINITY, 5).is_none());
    }

    #[test]
    fn values_far_apart_are_drawn_by_their_logarithm() {
        let axis = Axis::fitting(Quantity::Number, 0.02, 3000.0, 5).expect("a range");
        assert!(axis.is_log());
        assert_eq!(texts(&axis), ["0.01", "1", "100", "10000"]);
        assert!((axis.place(10.0) - 0.5).abs() < 1e-9);
        assert!(!Axis::fitting(Quantity::Number, 0.02, 1.5, 5).expect("a range").is_log());
        assert!(!Axis::fitting(Quantity::Bytes, 1.0, 1e9, 5).expect("a range").is_log());
        assert!(Axis::fitting(Quantity::Number, 1e-300, 1e300, 5).expect("a range").ticks.len() <= 8);
    }
}
