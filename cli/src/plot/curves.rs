//! Curves over the passes of a training, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::SIZE;

/// Told apart in print and by people who don't see all colours: Okabe and Ito's palette.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x44, 0x44, 0x44),
];
/// More points than this are drawn as a line alone.
const MOST_DOTS: usize = 60;

/// One line of a picture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    /// For the legend.
    pub(crate) name: String,
    /// Passes done, and the value.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What the vertical axis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Shares from 0 to 1, shown as percent, from the tens below the lowest up to 100.
    Percent,
    /// From 0, or below where values are, to the largest.
    Values,
}

/// Draws curves over epochs.
///
/// # Errors
/// When there is no point or the file can't be written.
pub(crate) fn over_epochs(path: &Path, title: &str, what: &str, scale: Scale, curves: &[Curve]) -> Result<()> {
    let fail = |e: &dyn std::fmt::Display| anyhow!("can't draw {}: {e}", path.display());
    let factor = if scale == Scale::Percent { 100.0 } else { 1.0 };
    let points = || curves.iter().flat_map(|c| &c.points);
    let last = points().map(|p| p.0).fold(0.0, f64::max);
    if points().next().is_none() {
        return Err(anyhow!("nothing was measured, so there is nothing to draw"));
    }
    let (low, high) = match scale {
        Scale::Percent => {
            let lowest = points().map(|p| p.1).fold(1.0, f64::min) * 100.0;
            ((((lowest - 5.0) / 10.0).floor() * 10.0).max(0.0), 100.0)
        }
        Scale::Values => {
            let high = points().map(|p| p.1).fold(f64::MIN, f64::max);
            let low = points().map(|p| p.1).fold(0.0, f64::min);
            (low, (high + 0.05 * (high - low)).max(low + 1e-6))
        }
    };

    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|e| fail(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(66)
        .build_cartesian_2d(0f64..last.max(1e-6), low..high)
        .map_err(|e| fail(&e))?;
    let digits = if scale == Scale::Percent || high - low >= 20.0 {
        0
    } else if high - low >= 0.5 {
        2
    } else {
        4
    };
    // Passes are whole numbers, unless there are very few.
    let x_digits = usize::from(last < 5.0);
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc(what)
        .x_label_formatter(&|x| format!("{x:.x_digits$}"))
        .y_label_formatter(&|y| format!("{y:.digits$}"))
        .label_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .draw()
        .map_err(|e| fail(&e))?;
    for (i, curve) in curves.iter().enumerate() {
        let Some(&(_, end)) = curve.points.last() else { continue };
        let colour = COLOURS[i % COLOURS.len()];
        let scaled = || curve.points.iter().map(|&(x, y)| (x, y * factor));
        let label = match scale {
            Scale::Percent => format!("{}: {:.1} %", curve.name, end * factor),
            Scale::Values => format!("{}: {end:.4}", curve.name),
        };
        chart
            .draw_series(LineSeries::new(scaled(), colour.stroke_width(2)))
            .map_err(|e| fail(&e))?
            .label(label)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(3)));
        if curve.points.len() <= MOST_DOTS {
            let dots = scaled().map(|p| Circle::new(p, 3, colour.filled()));
            chart.draw_series(dots).map_err(|e| fail(&e))?;
        }
    }
    let place = match scale {
        Scale::Percent => SeriesLabelPosition::LowerRight,
        Scale::Values => SeriesLabelPosition::UpperRight,
    };
    chart
        .configure_series_labels()
        .position(place)
        .margin(12)
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(0xcc, 0xcc, 0xcc))
        .draw()
        .map_err(|e| fail(&e))?;
    area.present().map_err(|e| fail(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_named_with_its_last_value() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("plot.svg");
        let curve = |name: &str, values: &[f64]| Curve {
            name: name.to_owned(),
            points: values.iter().enumerate().map(|(i, &v)| ((i + 1) as f64, v)).collect(),
        };
        let curves = [curve("accuracy", &[0.5, 0.75]), curve("top 5", &[0.9, 0.95]), curve("none", &[])];
        over_epochs(&path, "digits", "share (%)", Scale::Percent, &curves).expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("an SVG is text");
        for text in ["accuracy: 75.0 %", "top 5: 95.0 %", "share (%)", "epoch", "digits"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(!svg.contains("none:"), "a curve without points is not there");
        let flat = [curve("loss", &[-1.0, -1.0])];
        over_epochs(&path, "digits", "loss", Scale::Values, &flat).expect("drawn");
        assert!(std::fs::read_to_string(&path).expect("text").contains("loss: -1.0000"));
        assert!(over_epochs(&path, "digits", "loss", Scale::Values, &curves[2..]).is_err());
    }
}
