//! Pictures of a run: accuracy and loss over rounds, as SVG.

pub(crate) mod curves;

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 540);
const ACCURACY: RGBColor = RGBColor(0x0b, 0x6e, 0x99);
const LOSS: RGBColor = RGBColor(0xc7, 0x51, 0x1f);

/// One round's figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// The round, counted from 1.
    pub(crate) round: u32,
    /// Test accuracy, 0 to 1.
    pub(crate) accuracy: f64,
    /// Test loss.
    pub(crate) loss: f64,
}

/// Draws test accuracy (left axis, percent) and test loss (right axis) over rounds.
///
/// # Errors
/// When there is no point or the file can't be written.
pub(crate) fn accuracy_over_rounds(path: &Path, title: &str, points: &[Point]) -> Result<()> {
    let last = points
        .last()
        .ok_or_else(|| anyhow!("no round was evaluated, so there is nothing to draw"))?;
    let fail = |e: &dyn std::fmt::Display| anyhow!("can't draw {}: {e}", path.display());
    let max_loss = points.iter().map(|p| p.loss).fold(0.0, f64::max).max(1e-6) * 1.05;
    let rounds = 0f64..f64::from(last.round.max(2));

    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|e| fail(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .right_y_label_area_size(60)
        .build_cartesian_2d(rounds.clone(), 0f64..100f64)
        .map_err(|e| fail(&e))?
        .set_secondary_coord(rounds, 0f64..max_loss);
    chart
        .configure_mesh()
        .x_desc("round")
        .y_desc("test accuracy (%)")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .label_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .draw()
        .map_err(|e| fail(&e))?;
    chart
        .configure_secondary_axes()
        .y_desc("test loss")
        .y_label_formatter(&|y| format!("{y:.2}"))
        .label_style(("sans-serif", 14))
        .draw()
        .map_err(|e| fail(&e))?;
    chart
        .draw_secondary_series(LineSeries::new(
            points.iter().map(|p| (f64::from(p.round), p.loss)),
            LOSS.stroke_width(2),
        ))
        .map_err(|e| fail(&e))?
        .label(format!("loss: {:.3} after round {}", last.loss, last.round))
        .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], LOSS.stroke_width(2)));
    chart
        .draw_series(LineSeries::new(
            points.iter().map(|p| (f64::from(p.round), p.accuracy * 100.0)),
            ACCURACY.stroke_width(3),
        ))
        .map_err(|e| fail(&e))?
        .label(format!("accuracy: {:.1} % after round {}", last.accuracy * 100.0, last.round))
        .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], ACCURACY.stroke_width(3)));
    chart
        .draw_series(
            points
                .iter()
                .map(|p| Circle::new((f64::from(p.round), p.accuracy * 100.0), 3, ACCURACY.filled())),
        )
        .map_err(|e| fail(&e))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
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
    fn the_plot_holds_both_series_and_the_last_figures() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("plot.svg");
        let points: Vec<Point> = (1..=4)
            .map(|r| Point {
                round: r,
                accuracy: 0.2 * f64::from(r),
                loss: 2.0 / f64::from(r),
            })
            .collect();
        accuracy_over_rounds(&path, "digits", &points).expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("an SVG is text");
        for text in [
            "test accuracy (%)",
            "test loss",
            "accuracy: 80.0 % after round 4",
            "loss: 0.500 after round 4",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(accuracy_over_rounds(&path, "digits", &[]).is_err(), "nothing to draw is an error");
    }
}
