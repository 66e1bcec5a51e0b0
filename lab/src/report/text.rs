//! Figures as people read them.

use super::statistics::Estimate;

/// What a number counts, and so the units that it is shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Whole things, and means of them.
    Count,
    /// A loss, a mean.
    Number,
    /// 0 to 1, shown as percent.
    Share,
    /// A difference of shares, shown as percentage points.
    Points,
    Seconds,
    Bytes,
    Joules,
}

impl Quantity {
    /// What a value is divided by, and the unit's name, for values about as large as this one.
    pub(crate) fn unit(self, magnitude: f64) -> (f64, &'static str) {
        let m = magnitude.abs();
        let largest = |units: &[(f64, f64, &'static str)]| {
            let fitting = units.iter().rfind(|(from, _, _)| m >= *from).or(units.first());
            fitting.map_or((1.0, ""), |(_, divisor, name)| (*divisor, *name))
        };
        match self {
            Self::Count | Self::Number => (1.0, ""),
            Self::Share => (0.01, "%"),
            Self::Points => (0.01, "points"),
            Self::Seconds if m == 0.0 => (1.0, "s"),
            Self::Seconds => largest(&[
                (0.0, 1e-3, "ms"),
                (0.0995, 1.0, "s"),
                (119.5, 60.0, "min"),
                (7170.0, 3600.0, "h"),
                (172_800.0, 86_400.0, "days"),
            ]),
            Self::Bytes => largest(&[
                (0.0, 1.0, "B"),
                (999.5, 1e3, "kB"),
                (999.5e3, 1e6, "MB"),
                (999.5e6, 1e9, "GB"),
                (999.5e9, 1e12, "TB"),
            ]),
            Self::Joules if m == 0.0 => (1.0, "J"),
            Self::Joules => largest(&[
                (0.0, 1e-3, "mJ"),
                (0.995, 1.0, "J"),
                (999.5, 1e3, "kJ"),
                (999.5e3, 1e6, "MJ"),
                (999.5e6, 1e9, "GJ"),
            ]),
        }
    }

    /// A value with its unit.
    pub(crate) fn shown(self, value: f64) -> String {
        let (divisor, unit) = self.unit(value);
        let sign = if self == Self::Points && value > 0.0 { "+" } else { "" };
        let value = value / divisor;
        let number = match self.decimals(value, value.fract() == 0.0) {
            Some(decimals) => format!("{value:.decimals$}"),
            None => format!("{value:.2e}"),
        };
        with_unit(&format!("{sign}{number}"), unit)
    }

    /// A mean with its unit, and how far it may be off.
    pub(crate) fn estimate(self, estimate: &Estimate) -> String {
        let Some(half) = estimate.half else {
            return self.shown(estimate.mean);
        };
        let (divisor, unit) = self.unit(estimate.mean.abs().max(half));
        let (mean, half) = (estimate.mean / divisor, half / divisor);
        let sign = if self == Self::Points && mean > 0.0 { "+" } else { "" };
        // Nothing but rounding.
        if half <= 1e-9 * mean.abs() {
            return self.shown(estimate.mean);
        }
        // Both with the digits that fit the larger one, and as many as show the smaller one.
        let size = mean.abs().max(half);
        let whole = mean.fract() == 0.0 && half.fract() == 0.0;
        let least = if half < 1.0 {
            (-half.log10()).ceil().clamp(0.0, 4.0) as usize
        } else {
            0
        };
        let (mean, half) = match self.decimals(size, whole).map(|decimals| decimals.max(least)) {
            Some(decimals) => (format!("{mean:.decimals$}"), format!("{half:.decimals$}")),
            None => (format!("{mean:.2e}"), format!("{half:.2e}")),
        };
        with_unit(&format!("{sign}{mean} ± {half}"), unit)
    }

    /// Digits after the point of values up to `size`, all of which may be `whole`; `None` where they need powers of ten.
    fn decimals(self, size: f64, whole: bool) -> Option<usize> {
        let size = size.abs();
        Some(match self {
            Self::Share | Self::Points => 2,
            _ if size == 0.0 => 0,
            Self::Count | Self::Bytes if whole && size < 1e6 => 0,
            _ if !(1e-4..1e6).contains(&size) => return None,
            _ if size >= 99.95 => 0,
            _ if size >= 9.995 => 1,
            _ if size >= 0.9995 => 2,
            _ if size >= 0.09995 => 3,
            _ => 4,
        })
    }
}

fn with_unit(number: &str, unit: &str) -> String {
    if unit.is_empty() {
        number.to_owned()
    } else {
        format!("{number} {unit}")
    }
}

/// A time in few digits: `0.42 s`, `12 s`, `3.5 min`, `1.5 h`, `2.3 days`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds <= 0.0 {
        return "0 s".to_owned();
    }
    let (divisor, unit) = Quantity::Seconds.unit(seconds);
    let value = seconds / divisor;
    let digits = if value >= 9.95 { 0 } else { 1 };
    format!("{value:.digits$} {unit}")
}

/// Text for HTML, in elements and in quoted attributes; control characters but line ends and tabs are left out.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_unit_that_fits() {
        let cases = [
            (Quantity::Share, 0.93124, "93.12 %"),
            (Quantity::Points, 0.0125, "+1.25 points"),
            (Quantity::Points, -0.0125, "-1.25 points"),
            (Quantity::Count, 12.0, "12"),
            (Quantity::Count, 12.5, "12.5"),
            (Quantity::Number, 0.03125, "0.0312"),
            (Quantity::Number, 0.0, "0"),
            (Quantity::Number, 1.5e9, "1.50e9"),
            (Quantity::Seconds, 0.0042, "4.20 ms"),
            (Quantity::Seconds, 0.42, "0.420 s"),
            (Quantity::Seconds, 90.5, "90.5 s"),
            (Quantity::Seconds, 5400.0, "90.0 min"),
            (Quantity::Seconds, 86_400.0, "24.0 h"),
            (Quantity::Seconds, 864_000.0, "10.0 days"),
            (Quantity::Bytes, 999.0, "999 B"),
            (Quantity::Bytes, 6_653_480.0, "6.65 MB"),
            (Quantity::Joules, 12_250.0, "12.2 kJ"),
            (Quantity::Joules, 0.0, "0 J"),
        ];
        for (quantity, value, wanted) in cases {
            assert_eq!(quantity.shown(value), wanted);
        }
        let estimate = |mean, half| Estimate { mean, half: Some(half) };
        assert_eq!(Quantity::Share.estimate(&estimate(0.93, 0.006)), "93.00 ± 0.60 %");
        assert_eq!(Quantity::Seconds.estimate(&estimate(5400.0, 60.0)), "90.0 ± 1.0 min");
        assert_eq!(Quantity::Count.estimate(&estimate(12.0, 1.5)), "12.0 ± 1.5");
        assert_eq!(Quantity::Count.estimate(&estimate(12.0, 0.0)), "12");
        assert_eq!(Quantity::Bytes.estimate(&estimate(405.2e6, 4.1e4)), "405.20 ± 0.04 MB");
    }

    #[test]
    fn durations_are_short() {
        let shown: Vec<String> = [0.0, f64::NAN, 0.05, 0.42, 12.3, 119.0, 210.0, 5400.0, 9000.0, 200_000.0]
            .map(duration)
            .into();
        assert_eq!(
            shown,
            [
                "0 s", "0 s", "50 ms", "0.4 s", "12 s", "119 s", "3.5 min", "90 min", "2.5 h", "2.3 days"
            ]
        );
    }

    #[test]
    fn nothing_of_a_file_becomes_markup() {
        assert_eq!(
            escape("<script>\"a\" & 'b'\u{0}\u{1b}\n"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\n"
        );
    }
}
