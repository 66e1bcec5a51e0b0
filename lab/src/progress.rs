//! How far a simulation is, as a line for a terminal or a log. The caller keeps the time and draws.

use crate::report::text::duration;

/// Seconds between plain lines where there is no terminal.
const PLAIN_EVERY: f64 = 10.0;
/// A bar is this wide at least, and no wider than [`LONGEST_BAR`], columns.
const SHORTEST_BAR: usize = 8;
const LONGEST_BAR: usize = 30;

/// The figures of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Which run of how many, in a sweep.
    pub run: Option<(usize, usize)>,
    /// Rounds that are done.
    pub rounds: u32,
    /// Rounds that the job asks for.
    pub of: u32,
    /// The newest accuracy, 0 to 1.
    pub accuracy: Option<f64>,
    /// Simulated time since the job began.
    pub virtual_seconds: f64,
    /// Clients that were simulated since the first round began.
    pub clients: u64,
    /// Wall time since then.
    pub seconds: f64,
}

impl Progress {
    /// Wall seconds until the last round, if the rest goes as fast; `None` before the first round.
    pub fn left(&self) -> Option<f64> {
        let rest = f64::from(self.of.saturating_sub(self.rounds));
        (self.rounds > 0).then(|| rest * self.seconds / f64::from(self.rounds))
    }

    /// Clients a wall second; `None` before there are any.
    pub fn pace(&self) -> Option<f64> {
        (self.clients > 0 && self.seconds > 0.0).then(|| self.clients as f64 / self.seconds)
    }

    /// What it says, each with its rank: what ranks last goes first where there is little room.
    fn parts(&self) -> Vec<(u8, String)> {
        let mut parts = Vec::new();
        if let Some((run, of)) = self.run {
            parts.push((3, format!("run {run}/{of}")));
        }
        parts.push((0, format!("round {}/{}", self.rounds, self.of)));
        if let Some(accuracy) = self.accuracy.filter(|accuracy| accuracy.is_finite()) {
            parts.push((1, format!("accuracy {:.1} %", accuracy * 100.0)));
        }
        parts.push((4, format!("simulated {}", duration(self.virtual_seconds))));
        if let Some(pace) = self.pace() {
            let digits = usize::from(pace < 10.0);
            parts.push((5, format!("{pace:.digits$} clients/s")));
        }
        if let Some(left) = self.left().filter(|_| self.rounds < self.of) {
            parts.push((2, format!("{} left", duration(left))));
        }
        parts
    }

    /// A line of at most `width` columns: a bar and the figures; where there is little room, the bar and the figures that matter least go.
    pub fn line(&self, width: usize) -> String {
        let mut parts = self.parts();
        let joined = |parts: &[(u8, String)]| parts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("  ");
        let mut text = joined(&parts);
        while text.chars().count() > width && parts.len() > 1 {
            let least = parts.iter().map(|(rank, _)| *rank).max();
            parts.retain(|(rank, _)| Some(*rank) != least);
            text = joined(&parts);
        }
        let room = width.saturating_sub(text.chars().count() + 2).min(LONGEST_BAR);
        if room >= SHORTEST_BAR {
            return format!("{}  {text}", bar(self.rounds, self.of, room));
        }
        text.chars().take(width).collect()
    }

    /// All figures in a line, for a log.
    pub fn plain(&self) -> String {
        self.parts().into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a plain line is due `now`, where the last one was at `last`; both in wall seconds of one clock. The first round and the last one
/// have a line in any case.
pub fn plain_line_is_due(progress: &Progress, last: Option<f64>, now: f64) -> bool {
    progress.rounds >= progress.of || last.is_none_or(|last| now - last >= PLAIN_EVERY)
}

fn bar(done: u32, of: u32, width: usize) -> String {
    // In halves of a column.
    let halves = (u64::from(done.min(of)) * 2 * width as u64).checked_div(of.into()).unwrap_or(0) as usize;
    let (whole, half) = (halves / 2, halves % 2);
    let rest = width - whole - half;
    format!("{}{}{}", "━".repeat(whole), "╸".repeat(half), "─".repeat(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            run: Some((3, 12)),
            rounds: 40,
            of: 100,
            accuracy: Some(0.9312),
            virtual_seconds: 5400.0,
            clients: 400,
            seconds: 8.0,
        }
    }

    #[test]
    fn a_wide_line_says_everything() {
        let wanted = "━━━━━━━━━━━━──────────────────  run 3/12  round 40/100  accuracy 93.1 %  simulated 90 min  50 clients/s  12 s left";
        assert_eq!(progress().line(200), wanted);
        assert_eq!(
            progress().plain(),
            "run 3/12, round 40/100, accuracy 93.1 %, simulated 90 min, 50 clients/s, 12 s left"
        );
    }

    #[test]
    fn a_line_fits_its_terminal_and_keeps_what_matters() {
        for width in 0..200 {
            let line = progress().line(width);
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        assert_eq!(
            progress().line(64),
            "━━━━╸───────  run 3/12  round 40/100  accuracy 93.1 %  12 s left"
        );
        assert_eq!(progress().line(45), "round 40/100  accuracy 93.1 %  12 s left");
        assert_eq!(progress().line(30), "round 40/100  accuracy 93.1 %");
        assert_eq!(progress().line(5), "round");
    }

    #[test]
    fn a_run_that_has_not_begun_has_no_pace() {
        let start = Progress {
            of: 10,
            ..Progress::default()
        };
        assert_eq!((start.left(), start.pace()), (None, None));
        assert_eq!(start.line(40), format!("{}  round 0/10  simulated 0 s", "─".repeat(13)));
        let done = Progress {
            rounds: 10,
            of: 10,
            seconds: 5.0,
            clients: 100,
            ..Progress::default()
        };
        assert_eq!(done.plain(), "round 10/10, simulated 0 s, 20 clients/s");
        assert_eq!(bar(10, 10, 4), "━━━━");
        assert_eq!((bar(0, 0, 4), bar(11, 10, 4)), ("────".to_owned(), "━━━━".to_owned()));
    }

    #[test]
    fn plain_lines_come_every_so_often_and_at_the_end() {
        assert!(plain_line_is_due(&progress(), None, 0.0));
        assert!(!plain_line_is_due(&progress(), Some(0.0), 9.9));
        assert!(plain_line_is_due(&progress(), Some(0.0), 10.0));
        assert!(plain_line_is_due(&Progress { rounds: 100, ..progress() }, Some(0.0), 0.1));
    }
}
