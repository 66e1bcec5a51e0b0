//! What a training says while it runs: a bar and a line an epoch for people, JSON lines for machines and for `metrics.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aimass_learning::metrics::HeadScores;
use aimass_learning::training::Stepped;
use aimass_learning::{Evaluation, Metric};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::output::{Output, bytes, print_line};

/// Lines with the loss between epochs, at most.
const LOSS_LINES: u64 = 200;
pub(super) const METRICS: &str = "metrics.jsonl";

/// What a person watches.
#[derive(Clone)]
pub(super) struct View {
    json: bool,
    bar: ProgressBar,
}

impl View {
    pub(super) fn new(out: &Output) -> Self {
        let bar = ProgressBar::new(0);
        let template = "{bar:40.cyan/black} step {pos}/{len}  {msg}  {elapsed} (about {eta} left)";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        if out.is_json() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { json: out.is_json(), bar }
    }

    /// A sentence for people.
    pub(super) fn say(&self, text: &str) {
        if self.json {
            return;
        }
        if self.bar.is_hidden() {
            print_line(text);
        } else {
            self.bar.println(text);
        }
    }

    /// A sentence that is no result.
    pub(super) fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

pub(super) struct Log {
    view: View,
    file: File,
    path: PathBuf,
    epochs: u32,
    /// Steps between two lines with the loss.
    every: u64,
    /// When the current epoch began, and the rows seen since.
    since: Instant,
    rows: u64,
    /// The last epoch's line, for machines and for people.
    last: Value,
    last_shown: String,
}

/// What the summary says.
pub(super) struct End<'a> {
    pub(super) folder: &'a Path,
    pub(super) model_sha256: &'a str,
    pub(super) train_rows: usize,
    pub(super) validation_rows: usize,
    pub(super) seconds: f64,
    pub(super) steps: u64,
    pub(super) plots: &'a [PathBuf],
}

impl Log {
    /// Opens `metrics.jsonl`. A run that goes on after a step keeps the lines up to there.
    pub(super) fn open(folder: &Path, view: View, resumed_at: Option<u64>, steps: u64, epochs: u32) -> Result<Self> {
        let path = folder.join(METRICS);
        let mut kept = Vec::new();
        if let Some(step) = resumed_at {
            kept = read(&path)?;
            kept.retain(|line| line["step"].as_u64().is_some_and(|s| s <= step));
        }
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        super::write_whole(&path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        view.bar.set_length(steps);
        view.bar.set_position(resumed_at.unwrap_or_default());
        view.bar.reset_eta();
        if !view.json {
            view.bar.enable_steady_tick(Duration::from_millis(200));
        }
        Ok(Self {
            view,
            file: file.with_context(|| format!("can't write {}", path.display()))?,
            path,
            epochs,
            every: (steps / LOSS_LINES).max(1),
            since: Instant::now(),
            rows: 0,
            last: kept.into_iter().rfind(|line| line["kind"] == "epoch").unwrap_or(Value::Null),
            last_shown: String::new(),
        })
    }

    /// A sentence for people.
    pub(super) fn say(&self, text: &str) {
        self.view.say(text);
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        writeln!(self.file, "{line}").with_context(|| format!("can't write {}", self.path.display()))?;
        if self.view.json {
            print_line(line);
        }
        Ok(())
    }

    /// Whether a line with the loss is due after this step.
    pub(super) fn wants_loss(&self, stepped: &Stepped) -> bool {
        stepped.step.is_multiple_of(self.every)
    }

    /// A line with the mean loss since the last one.
    pub(super) fn step(&mut self, stepped: &Stepped, loss: f64) -> Result<()> {
        self.write(&json!({ "kind": "step", "epoch": stepped.epoch, "step": stepped.step, "loss": loss }))
    }

    /// A step within an epoch.
    pub(super) fn advance(&mut self, stepped: &Stepped) {
        self.rows += stepped.rows as u64;
        self.view.bar.set_position(stepped.step);
        self.view.bar.set_message(format!(
            "epoch {}/{}  loss {:.4}  {}",
            stepped.epoch,
            self.epochs,
            stepped.loss,
            per_second(self.rows, self.since.elapsed())
        ));
    }

    /// The end of an epoch. `measuring` is what of its time went into `scores`.
    pub(super) fn epoch(&mut self, stepped: &Stepped, loss: f64, scores: Option<&Evaluation>, measuring: Duration) -> Result<()> {
        self.advance(stepped);
        let took = self.since.elapsed().saturating_sub(measuring);
        let mut line = json!({
            "kind": "epoch",
            "epoch": stepped.epoch,
            "step": stepped.step,
            "steps": stepped.steps,
            "loss": loss,
            "seconds": rounded(took.as_secs_f64()),
            "examples_per_second": rounded(self.rows as f64 / took.as_secs_f64().max(1e-9)),
        });
        if let Some(scores) = scores {
            line["validation"] = validation(scores);
        }
        self.write(&line)?;
        let width = self.epochs.to_string().len();
        let shown = scores.map(shown).unwrap_or_default();
        self.say(&format!(
            "epoch {:>width$}/{}  loss {loss:.4}{shown}  {}",
            stepped.epoch,
            self.epochs,
            per_second(self.rows, took)
        ));
        (self.since, self.rows, self.last) = (Instant::now(), 0, line);
        self.last_shown = format!("loss {loss:.4}{shown}");
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .with_context(|| format!("can't write {}", self.path.display()))
    }

    /// Takes the bar away.
    pub(super) fn close(&self) {
        self.view.bar.finish_and_clear();
    }

    pub(super) fn finish(&self, end: &End<'_>) -> Result<()> {
        self.sync()?;
        self.close();
        let model = end.folder.join("model.onnx");
        if self.view.json {
            let summary = json!({
                "kind": "summary",
                "epoch": self.last["epoch"],
                "step": end.steps,
                "loss": self.last["loss"],
                "validation": self.last["validation"],
                "train_examples": end.train_rows,
                "validation_examples": end.validation_rows,
                "seconds": rounded(end.seconds),
                "model": model,
                "model_sha256": end.model_sha256,
                "metrics": self.path,
                "plots": end.plots,
            });
            print_line(summary);
            return Ok(());
        }
        let size = std::fs::metadata(&model).map_or(0, |m| m.len());
        print_line("");
        print_line(format_args!("trained  {} steps, {:.1} s in this run", end.steps, end.seconds));
        if !self.last_shown.is_empty() {
            print_line(format_args!("result   {}", self.last_shown));
        }
        print_line(format_args!(
            "model    {} ({}, SHA-256 {})",
            model.display(),
            bytes(size),
            end.model_sha256
        ));
        print_line(format_args!("figures  {}", self.path.display()));
        for plot in end.plots {
            print_line(format_args!("plot     {}", plot.display()));
        }
        Ok(())
    }
}

/// Three digits after the point are enough for a time or a rate.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn per_second(rows: u64, time: Duration) -> String {
    let rate = rows as f64 / time.as_secs_f64().max(1e-9);
    let digits = usize::from(rate < 10.0);
    format!("{rate:.digits$} examples/s")
}

/// Whole lines; a last one that was cut off by a kill is left out.
pub(super) fn read(path: &Path) -> Result<Vec<Value>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("can't read {}", path.display())),
    }
}

/// A metric's value for people.
fn value(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Mae | Metric::Rmse | Metric::Perplexity => format!("{metric} {value:.4}"),
        _ => format!("{metric} {:.1} %", value * 100.0),
    }
}

fn shown(scores: &Evaluation) -> String {
    let mut text = format!("  validation loss {:.4}", scores.loss);
    for head in &scores.heads {
        for (&metric, &found) in &head.values {
            text.push_str(&format!("  {}", value(metric, found)));
        }
    }
    text
}

/// Scores of all heads; of one head, its metrics stand beside the loss.
fn validation(scores: &Evaluation) -> Value {
    let mut all = Map::new();
    if let [head] = &scores.heads[..] {
        all = head_scores(head);
    } else {
        let heads: Vec<Value> = scores.heads.iter().map(|head| Value::Object(head_scores(head))).collect();
        all.insert("heads".to_owned(), heads.into());
    }
    all.insert("loss".to_owned(), scores.loss.into());
    Value::Object(all)
}

fn head_scores(head: &HeadScores) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("loss".to_owned(), head.loss.into());
    for (metric, value) in &head.values {
        all.insert(metric.to_string(), (*value).into());
    }
    if !head.classes.is_empty() {
        let classes = head.classes.iter();
        let classes = classes.map(|c| json!({ "precision": c.precision, "recall": c.recall, "f1": c.f1, "support": c.support }));
        all.insert("classes".to_owned(), classes.collect());
    }
    if let Some(confusion) = &head.confusion {
        all.insert(
            "confusion".to_owned(),
            confusion.cells.chunks(confusion.classes.max(1)).map(|row| json!(row)).collect(),
        );
    }
    all
}
