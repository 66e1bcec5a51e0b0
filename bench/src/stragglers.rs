//! Sixteen agents, some of them 2 and 4 times slower: how long each way of making rounds takes to the same accuracy.
//!
//! Coordinator and sessions are the real ones, in the virtual time of `sim/`; what they train is the example's model on the example's digits.

mod deal;
mod digits;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use aimass_protocol::job::{RoundMode, RoundSection};
use aimass_sim::{AgentPlan, FaultPlan, Scenario, Simulation, job_file, job_spec};
use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use self::deal::{Deal, SLOWNESS};
use self::digits::{Cost, Data, Digits, JITTER, STEP_MS};
use crate::median;
use crate::report::{Report, sorted};

#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Share of the held-out digits that a model must recognise.
    #[arg(long, default_value_t = 0.95)]
    accuracy: f32,
    /// Passes that an agent makes over its rows for an update.
    #[arg(long, default_value_t = 5)]
    epochs: u32,
    /// Agents' learning rate.
    #[arg(long, default_value_t = 0.1)]
    lr: f32,
    /// Pieces of the rows, sorted by digit, that each agent has: the fewer, the more uneven.
    #[arg(long, default_value_t = 4)]
    pieces: usize,
    /// Updates in an asynchronous step.
    #[arg(long, default_value_t = 8)]
    buffer: u32,
    /// The server's learning rate in asynchronous steps; 1 in the others.
    #[arg(long, default_value_t = 1.0)]
    server_lr: f32,
    /// How many steps old an update's base may be in asynchronous rounds.
    #[arg(long, default_value_t = 10)]
    max_staleness: u32,
    /// Rounds after which a run gives up.
    #[arg(long, default_value_t = 300)]
    rounds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct StragglersArgs {
    /// Seeds: of who has which rows, the first weights, and all times.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    report: Report,
}

const AGENTS: u32 = SLOWNESS.len() as u32;
/// Rounds that wait for agents wait for all of them.
const LONG: Duration = Duration::from_secs(4 * 3600);
/// Updates of the example are shorter than this; rows of an agent are fewer than that.
const CLIP: f32 = 10.0;
const WEIGHT_CAP: u32 = 4096;

/// A way of making rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    All,
    FastestHalf,
    SemiSync,
    Async,
}

impl Way {
    /// The first is what the others are compared with.
    const ALL: [Self; 4] = [Self::All, Self::FastestHalf, Self::SemiSync, Self::Async];

    fn name(self) -> &'static str {
        match self {
            Self::All => "synchronous, all 16",
            Self::FastestHalf => "synchronous, the first 8 of 16",
            Self::SemiSync => "semi-synchronous",
            Self::Async => "asynchronous",
        }
    }

    /// `usual` is the time that an agent's training takes if it is not slow.
    fn round(self, settings: &Settings, usual: Duration) -> RoundSection {
        let (mode, min, target) = match self {
            Self::All => (RoundMode::Sync, AGENTS, AGENTS),
            Self::FastestHalf => (RoundMode::Sync, AGENTS / 2, AGENTS / 2),
            Self::SemiSync => (RoundMode::SemiSync, AGENTS / 2, AGENTS),
            Self::Async => (RoundMode::Async, settings.buffer, settings.buffer),
        };
        RoundSection {
            mode,
            rounds: settings.rounds,
            min,
            target,
            max: AGENTS,
            max_time: match self {
                // Nine tenths of it are for training: those that are not slow have enough, jitter included.
                Self::SemiSync => usual * (100 + JITTER as u32) / 90,
                _ => LONG,
            },
            max_staleness: if self == Self::Async { settings.max_staleness } else { 0 },
        }
    }
}

/// How a run went, up to the accuracy or to where it gave up.
#[derive(Debug, Clone)]
struct Run {
    /// Virtual minutes to the accuracy.
    minutes: Option<f64>,
    rounds: usize,
    /// Updates in published rounds.
    counted: usize,
    /// Trainings begun.
    trainings: usize,
    best: f32,
}

fn measure(way: Way, seed: u64, settings: &Settings, data: &Rc<Data>) -> Result<Run> {
    let usual = settings.epochs * u32::try_from(data.most_rows().div_ceil(10))? * Duration::from_millis(STEP_MS);
    let mut file = job_file("stragglers", way.round(settings, usual));
    file.train.lr = settings.lr;
    file.train.epochs = settings.epochs;
    file.train.batch = 10;
    file.update.bits = 24;
    file.update.clip = CLIP;
    file.update.weight_cap = WEIGHT_CAP;
    if way == Way::Async {
        file.strategy.server_lr = settings.server_lr;
    }
    if let Some(evaluate) = &mut file.evaluate {
        evaluate.target_accuracy = Some(settings.accuracy);
    }
    let scenario = Scenario {
        seed,
        jobs: vec![job_spec(1, file)],
        agents: SLOWNESS
            .iter()
            .map(|&slowness| AgentPlan {
                slowness,
                ..AgentPlan::default()
            })
            .collect(),
    };
    let cost = Rc::new(RefCell::new(Cost::default()));
    let workload = Digits::new(data.clone(), cost.clone());
    let ending = Simulation::new(&scenario, &FaultPlan::none()).workload(workload).run();
    let cost = cost.take();
    if let Some(trouble) = cost.trouble {
        bail!("seed {seed}, {}: training failed: {trouble}", way.name());
    }
    if let Some(violation) = ending.violation {
        bail!("seed {seed}, {}: {violation}", way.name());
    }
    let report = ending.report;
    let reached = report.reached_ms(scenario.jobs[0].id, settings.accuracy);
    Ok(Run {
        minutes: reached.map(|ms| ms as f64 / 60_000.0),
        rounds: report.rounds.len(),
        counted: report.rounds.iter().map(|round| round.contributions).sum(),
        trainings: cost.trainings,
        best: report.rounds.iter().filter_map(|round| round.accuracy).fold(0.0, f32::max),
    })
}

/// All ways, each with a run a seed.
fn compare(deal: &Deal, seeds: u64, settings: &Settings) -> Result<Vec<(Way, Vec<Run>)>> {
    let mut found: Vec<_> = Way::ALL.map(|way| (way, Vec::new())).into();
    for seed in 0..seeds {
        let data = Rc::new(Data::example(seed, deal)?);
        for (way, runs) in &mut found {
            let run = measure(*way, seed, settings, &data)?;
            eprintln!(
                "digits {}, seed {seed}, {}: {} min, {} rounds, best {:.3}",
                deal.name(),
                way.name(),
                run.minutes.map_or("-".to_owned(), |minutes| format!("{minutes:.0}")),
                run.rounds,
                run.best
            );
            runs.push(run);
        }
    }
    Ok(found)
}

pub(crate) fn run(args: &StragglersArgs) -> Result<()> {
    let settings = &args.settings;
    let (mut rows, mut results) = (Vec::new(), Vec::new());
    for apart in [false, true] {
        let pieces = settings.pieces.max(1);
        let deal = Deal { pieces, apart };
        let found = compare(&deal, args.seeds, settings)?;
        let all = found[0].1.clone();
        for (way, runs) in &found {
            let figures = figures(&deal, *way, runs, &all);
            rows.push(row(&figures, args.seeds));
            results.push(figures);
        }
    }
    let result = json!({
        "what": "16 agents (8 of the usual speed, 4 twice and 4 four times slower, each training up to 10 % off that), virtual minutes to the accuracy; the example's digits and model, trained with the agents' code; coordinator and sessions in virtual time",
        "accuracy": settings.accuracy,
        "epochs": settings.epochs,
        "lr": settings.lr,
        "step_s": STEP_MS as f64 / 1e3,
        "pieces": settings.pieces,
        "buffer": settings.buffer,
        "server_lr": settings.server_lr,
        "max_staleness": settings.max_staleness,
        "most_rounds": settings.rounds,
        "seeds": args.seeds,
        "results": results,
    });
    let header = [
        "digits",
        "rounds",
        "minutes, median",
        "least to most",
        "times faster than all 16",
        "least to most",
        "models",
        "updates that counted",
        "of trainings",
    ];
    args.report.show(&header, &rows, &result)
}

/// Medians are over the seeds that got there.
fn figures(deal: &Deal, way: Way, runs: &[Run], all: &[Run]) -> Value {
    let reached = sorted(runs.iter().filter_map(|run| run.minutes));
    let pairs = runs.iter().zip(all).filter_map(|(run, all)| Some(all.minutes? / run.minutes?));
    let times = sorted(pairs);
    let middle = |value: fn(&Run) -> usize| median(&runs.iter().map(|run| value(run) as f64).collect::<Vec<_>>());
    json!({
        "digits": deal.name(),
        "rounds": way.name(),
        "reached": reached.len(),
        "minutes": runs.iter().map(|run| run.minutes).collect::<Vec<_>>(),
        "minutes_median": median(&reached),
        "minutes_range": [reached.first(), reached.last()],
        "times_faster_median": median(&times),
        "times_faster_range": [times.first(), times.last()],
        "models": middle(|run| run.rounds),
        "counted": middle(|run| run.counted),
        "trainings": middle(|run| run.trainings),
        "best_accuracy": runs.iter().map(|run| run.best).collect::<Vec<_>>(),
    })
}

fn row(figures: &Value, seeds: u64) -> Vec<String> {
    let number = |key: &str| figures[key].as_f64().unwrap_or_default();
    let range = |key: &str, digits: usize| {
        let end = |i: usize| figures[key][i].as_f64();
        end(0)
            .zip(end(1))
            .map_or("-".to_owned(), |(least, most)| format!("{least:.digits$} to {most:.digits$}"))
    };
    let text = |key: &str| figures[key].as_str().unwrap_or_default().to_owned();
    let reached = figures["reached"].as_u64().unwrap_or_default();
    let minutes = match reached {
        0 => "not reached".to_owned(),
        n if n < seeds => format!("{:.0} ({n} of {seeds})", number("minutes_median")),
        _ => format!("{:.0}", number("minutes_median")),
    };
    let times = if reached == 0 {
        "-".to_owned()
    } else {
        format!("{:.2}", number("times_faster_median"))
    };
    vec![
        text("digits"),
        text("rounds"),
        minutes,
        range("minutes_range", 0),
        times,
        range("times_faster_range", 2),
        format!("{:.0}", number("models")),
        format!("{:.0}", number("counted")),
        format!("{:.0}", number("trainings")),
    ]
}

#[cfg(test)]
mod tests;
