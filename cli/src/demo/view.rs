//! What a person sees while the demo runs.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::report::Summary;
use crate::args::DemoArgs;
use crate::commands::job::round_line;
use crate::output::{Output, bytes, print_line};

/// A bar with a line a round above it; JSON lines for machines.
pub(crate) struct View {
    json: bool,
    bar: ProgressBar,
}

impl View {
    pub(crate) fn new(args: &DemoArgs, out: &Output) -> Self {
        let bar = ProgressBar::new(u64::from(args.rounds));
        let template = "{bar:40.cyan/black} round {pos}/{len}  {msg}  {elapsed} (about {eta} left)";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        if out.is_json() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        } else {
            bar.set_message("starting");
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { json: out.is_json(), bar }
    }

    /// A sentence for people.
    pub(crate) fn say(&self, text: &str) {
        if !self.json {
            self.line(text);
        }
    }

    /// A finished round.
    pub(crate) fn round(&self, round: &Value) {
        if self.json {
            print_line(round);
            return;
        }
        self.line(&round_line(round));
        let accuracy = round["accuracy"].as_f64().unwrap_or_default();
        self.bar.set_message(format!("accuracy {:.1} %", accuracy * 100.0));
        self.bar.set_position(round["round"].as_u64().unwrap_or_default());
    }

    /// The end.
    pub(crate) fn finish(&self, summary: &Summary, folder: &Path) {
        self.bar.finish_and_clear();
        if self.json {
            print_line(summary.to_json());
            return;
        }
        print_line("");
        print_line(format_args!(
            "test accuracy   {:.2} % after {} rounds in {:.1} s",
            summary.test_accuracy * 100.0,
            summary.rounds,
            summary.seconds
        ));
        print_line(format_args!(
            "traffic         {} up, {} down, all agents together",
            bytes(summary.bytes_up),
            bytes(summary.bytes_down)
        ));
        print_line(format_args!(
            "memory          aggregator {}, largest agent {} at their peaks",
            bytes(summary.peak_server_bytes),
            bytes(summary.peak_agent_bytes)
        ));
        let parity = if summary.parity_max_abs == 0.0 {
            "agree to the last bit".to_owned()
        } else {
            format!("differ by {:.1e} at most", summary.parity_max_abs)
        };
        print_line(format_args!(
            "parity          trainer and tract {parity} on {} test rows",
            summary.parity_rows
        ));
        print_line(format_args!(
            "model           {} (SHA-256 {})",
            folder.join("model.onnx").display(),
            summary.model_sha256
        ));
        print_line(format_args!("figures         {}", folder.join("metrics.jsonl").display()));
        print_line(format_args!("plot            {}", folder.join("accuracy.svg").display()));
    }

    fn line(&self, text: &str) {
        if self.bar.is_hidden() {
            print_line(text);
        } else {
            self.bar.println(text);
        }
    }
}
