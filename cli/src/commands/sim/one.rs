//! One run: rounds as they come, a folder that can be gone on with.

use std::io::{IsTerminal, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aimass_edge_agent::exit::ExitKind;
use aimass_lab::progress::{Progress, plain_line_is_due};
use aimass_lab::report::{Input, RoundLog, RunFolder, State};
use aimass_lab::run::Run;
use aimass_lab::sweep::Setting;
use aimass_lab::{RoundRow, Summary};
use anyhow::{Context, Result};
use serde_json::json;

use super::SimArgs;
use super::setup::{Inputs, of_run, told_apart_by};
use crate::output::{Failure, Output, print_line};
use crate::run_folder;

/// Models of an interrupted run lie here.
const MODELS: &str = "models";
const CHECKPOINT: &str = "checkpoint";
/// How much of a run is lost at most when it is killed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// The bar is drawn so often.
const DRAW_EVERY: Duration = Duration::from_millis(100);

pub(super) fn run(args: &SimArgs, out: &Output, began: Instant) -> Result<ExitKind> {
    let stop = Arc::new(AtomicBool::new(false));
    run_folder::listen_for_ctrl_c(stop.clone())?;
    let inputs = Inputs::read(args)?;
    let mut view = View::new(out, None);
    if args.out.is_none() {
        view.stop_when_unread(stop.clone());
    }
    let done = single(args, &inputs, None, args.out.as_deref(), &mut view, &stop, began)?;
    match done {
        Done::Whole(summary) => {
            out.result(&json!(summary), || text(&summary, args.out.as_deref()));
            Ok(ExitKind::Ok)
        }
        Done::Interrupted(summary) => {
            out.result(&json!(summary), || text(&summary, args.out.as_deref()));
            let again = args
                .out
                .as_ref()
                .map_or("; with -o what was done could be gone on with", |_| "; the same command goes on");
            Err(Failure::new(ExitKind::Interrupted, format!("interrupted after round {}{again}", summary.rounds)).into())
        }
    }
}

/// How a run ended.
pub(super) enum Done {
    Whole(Box<Summary>),
    Interrupted(Box<Summary>),
}

/// Runs a setting, into its folder where it has one; goes on with what is there.
pub(super) fn single(
    args: &SimArgs,
    inputs: &Inputs,
    setting: Option<&Setting>,
    folder: Option<&Path>,
    view: &mut View,
    stop: &AtomicBool,
    began: Instant,
) -> Result<Done> {
    let job_text = inputs.job_text(setting)?;
    let seed = setting.map(|setting| setting.seed).or(args.seed);
    let apart = told_apart_by(args, inputs, seed)?;
    let input = Input {
        job: job_text.as_bytes(),
        population: inputs.population_text.as_ref().map(String::as_bytes),
        options: &apart,
    };
    let mut kept = match folder {
        Some(path) => {
            // Nothing is made where the run could not begin.
            if !matches!(RunFolder::look(path, &input)?, State::Begun | State::Whole) {
                inputs.run(args, &job_text, setting, (Vec::new(), PathBuf::new()), began)?;
            }
            let (run_folder, state) = RunFolder::claim(path, &input)?;
            if state == State::Whole
                && let Some(summary) = run_folder.summary()?
            {
                view.note(&format!("{} is whole already", path.display()));
                return Ok(Done::Whole(Box::new(summary)));
            }
            Some(Kept::open(run_folder, path)?)
        }
        None => None,
    };
    let recorded = kept
        .as_ref()
        .map_or_else(|| (Vec::new(), PathBuf::new()), |kept| (kept.recorded.clone(), kept.models.clone()));
    let n_recorded = recorded.0.len();
    if n_recorded > 0 {
        view.note(&format!("going on after round {n_recorded}"));
    }
    let mut run = inputs.run(args, &job_text, setting, recorded, began)?;
    let rounds = run.job().round.rounds;
    let begun = Instant::now();
    let mut clients = 0;
    let mut failed = None;
    let ran = loop {
        let row = match run.next_round() {
            Ok(Some(row)) => row.clone(),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        if run.rows().len() > n_recorded {
            clients += u64::from(row.members);
            if let Some(kept) = &mut kept
                && let Err(error) = kept.push(&row, &mut run)
            {
                failed = Some(error);
                break Ok(());
            }
            view.row(&row);
        }
        view.progress(Progress {
            run: None,
            rounds: row.round,
            of: rounds,
            accuracy: row.test_accuracy,
            virtual_seconds: row.virtual_seconds,
            clients,
            seconds: begun.elapsed().as_secs_f64(),
        });
        if stop.load(Ordering::Relaxed) && row.round < rounds {
            view.close();
            let summary = run.summary();
            if let Some(kept) = &mut kept {
                kept.checkpoint(&mut run)?;
                kept.folder.write_reports(&summary)?;
            }
            return Ok(Done::Interrupted(Box::new(summary)));
        }
    };
    view.close();
    if let Some(error) = failed {
        return Err(error);
    }
    let summary = run.summary();
    if let Some(kept) = &mut kept {
        kept.end(&mut run, &summary, ran.is_ok())?;
    }
    ran.map_err(of_run)?;
    Ok(Done::Whole(Box::new(summary)))
}

/// A run's folder, and what was in it.
struct Kept {
    folder: RunFolder,
    log: RoundLog,
    recorded: Vec<RoundRow>,
    models: PathBuf,
    path: PathBuf,
    checkpointed: Instant,
}

impl Kept {
    fn open(folder: RunFolder, path: &Path) -> Result<Self> {
        let models = path.join(MODELS);
        // Rounds after the last models that were kept are computed again.
        let round = std::fs::read_to_string(models.join(CHECKPOINT))
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok());
        let log = folder.log(round.unwrap_or(0))?;
        Ok(Self {
            recorded: folder.rounds()?,
            folder,
            log,
            models,
            path: path.to_owned(),
            checkpointed: Instant::now(),
        })
    }

    fn push(&mut self, row: &RoundRow, run: &mut Run) -> Result<()> {
        self.log.push(row)?;
        if self.checkpointed.elapsed() >= CHECKPOINT_EVERY {
            self.checkpoint(run)?;
        }
        Ok(())
    }

    /// Keeps the models that rounds to come stand on, then the round's number.
    fn checkpoint(&mut self, run: &mut Run) -> Result<()> {
        let Some(round) = run.rows().last().map(|row| row.round) else {
            return Ok(());
        };
        let at = |path: &Path| format!("can't write {}", path.display());
        std::fs::create_dir_all(&self.models).with_context(|| at(&self.models))?;
        let mut names = Vec::new();
        for (digest, model) in run.lab().models() {
            let path = self.models.join(format!("{}.onnx", digest.to_hex()));
            if !path.exists() {
                write_whole(&path, model.as_bytes())?;
            }
            names.push(path);
        }
        write_whole(&self.models.join(CHECKPOINT), round.to_string().as_bytes())?;
        let old = self.models.read_dir().with_context(|| at(&self.models))?.flatten();
        for entry in old {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "onnx") && !names.contains(&path) {
                std::fs::remove_file(&path).with_context(|| at(&path))?;
            }
        }
        self.checkpointed = Instant::now();
        Ok(())
    }

    fn end(&mut self, run: &mut Run, summary: &Summary, is_whole: bool) -> Result<()> {
        if let Some(model) = run.lab().model() {
            write_whole(&self.path.join("model.onnx"), model.as_bytes())?;
        }
        if !is_whole {
            self.folder.write_reports(summary)?;
            return Ok(());
        }
        self.folder.finish(summary)?;
        if self.models.exists() {
            std::fs::remove_dir_all(&self.models).with_context(|| format!("can't delete {}", self.models.display()))?;
        }
        Ok(())
    }
}

/// The file is what it was or whole, at any time.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    aimass_lab::report::write_whole(path, bytes, true)?;
    Ok(())
}

/// What a person, or a script, sees meanwhile.
pub(super) struct View {
    json: bool,
    terminal: bool,
    run: Option<(usize, usize)>,
    drawn: Option<Instant>,
    began: Instant,
    said: Option<f64>,
    /// What ends a run whose rows nobody reads.
    stop: Option<Arc<AtomicBool>>,
}

impl View {
    pub(super) fn new(out: &Output, run: Option<(usize, usize)>) -> Self {
        Self {
            json: out.is_json(),
            terminal: std::io::stderr().is_terminal(),
            run,
            drawn: None,
            began: Instant::now(),
            said: None,
            stop: None,
        }
    }

    /// For a run without a folder: it ends when nobody reads its rows any more.
    fn stop_when_unread(&mut self, stop: Arc<AtomicBool>) {
        self.stop = Some(stop);
    }

    pub(super) fn of_run(&mut self, run: (usize, usize)) {
        self.run = Some(run);
    }

    pub(super) fn note(&mut self, text: &str) {
        self.close();
        eprintln!("{text}");
    }

    /// A line of JSON a round.
    fn row(&mut self, row: &RoundRow) {
        if !self.json || self.run.is_some() {
            return;
        }
        // A row is JSON.
        if let Ok(line) = serde_json::to_string(row) {
            let is_read = print_line(line);
            // Nobody reads any more: a run goes on for its folder alone.
            if let Some(stop) = self.stop.as_ref().filter(|_| !is_read) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn progress(&mut self, progress: Progress) {
        let progress = Progress { run: self.run, ..progress };
        if self.terminal {
            if self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_EVERY) || progress.rounds >= progress.of {
                let width = terminal_width().saturating_sub(1);
                eprint!("\r\x1b[K{}", progress.line(width));
                let _ = std::io::stderr().flush();
                self.drawn = Some(Instant::now());
            }
            return;
        }
        let now = self.began.elapsed().as_secs_f64();
        if !self.json && plain_line_is_due(&progress, self.said, now) {
            eprintln!("{}", progress.plain());
            self.said = Some(now);
        }
    }

    /// Leaves the line that was drawn.
    pub(super) fn close(&mut self) {
        if self.drawn.take().is_some() {
            eprintln!();
        }
    }
}

fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr())
        .map_or(80, |size| usize::from(size.ws_col))
        .max(20)
}

/// For people.
pub(super) fn text(summary: &Summary, folder: Option<&Path>) -> String {
    let mut lines = vec![format!(
        "{}: {} rounds of {} in {} clients, {}; {:.1} s, {:.0} virtual s",
        summary.job, summary.rounds, summary.cohort, summary.clients, summary.end, summary.seconds, summary.virtual_seconds
    )];
    if let (Some(last), Some(best)) = (summary.test_accuracy, summary.best_accuracy) {
        lines.push(format!("accuracy  {:.2} %, at best {:.2} %", 100.0 * last, 100.0 * best));
    }
    for reached in &summary.reached {
        lines.push(format!(
            "reached   {:.1} % in round {}, after {:.0} virtual s and {}",
            100.0 * reached.accuracy,
            reached.round,
            reached.virtual_seconds,
            crate::output::bytes(reached.bytes_up)
        ));
    }
    lines.push(format!(
        "traffic   {} up, {} down",
        crate::output::bytes(summary.bytes_up),
        crate::output::bytes(summary.bytes_down)
    ));
    lines.push(format!(
        "work      {} trainings, {} contributions, {} lost clients, {}",
        summary.trainings,
        summary.contributions,
        summary.dropped,
        joules(summary.energy_j)
    ));
    if let Some(cosine) = summary.canary_cosine {
        lines.push(format!("canaries  {cosine:.4}, mean cosine with the steps that they were in"));
    }
    lines.extend(summary.shortcuts.iter().map(|shortcut| format!("note      {shortcut}")));
    if let Some(folder) = folder {
        lines.push(format!("report    {}", folder.join("report.html").display()));
    }
    lines.join("\n")
}

fn joules(n: f64) -> String {
    if n < 10_000.0 {
        format!("{n:.0} J")
    } else {
        format!("{:.0} kJ", n / 1000.0)
    }
}

/// Whether runs go on.
pub(super) fn goes_on(stop: &AtomicBool) -> ControlFlow<()> {
    if stop.load(Ordering::Relaxed) {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
