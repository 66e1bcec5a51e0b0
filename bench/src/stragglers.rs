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
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::deal::{Deal, Digits, SLOWNESS};
use self::digits::{Cost, Data, Example, JITTER, ROW_MS};
use crate::median;
use crate::report::{Report, sorted};

#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Share of the held-out digits that a model must recognise.
    #[arg(long, default_value_t = 0.95)]
    accuracy: f32,
    /// Models in a row that must be that good; the time is the first one's.
    #[arg(long, default_value_t = 1)]
    in_a_row: usize,
    /// Rows a step.
    #[arg(long, default_value_t = 5)]
    batch: u32,
    /// Passes that an agent makes over its rows for an update.
    #[arg(long, default_value_t = 1)]
    epochs: u32,
    /// Agents' learning rate.
    #[arg(long, default_value_t = 0.4)]
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
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Only these ways of making rounds.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Way::ALL)]
    ways: Vec<Way>,
    /// Only these ways of dealing the digits.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Digits::ALL)]
    digits: Vec<Digits>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Synchronous, waiting for everybody.
    All,
    /// Synchronous, with the first half of the agents that are ready.
    FirstHalf,
    /// Training stops when those that are not slow are done.
    SemiSync,
    /// Buffered.
    Async,
}

impl Way {
    const ALL: [Self; 4] = [Self::All, Self::FirstHalf, Self::SemiSync, Self::Async];

    fn name(self) -> &'static str {
        match self {
            Self::All => "synchronous, all 16",
            Self::FirstHalf => "synchronous, the first 8 of 16",
            Self::SemiSync => "semi-synchronous",
            Self::Async => "asynchronous",
        }
    }

    /// `usual` is the time that an agent's training takes if it is not slow.
    fn round(self, settings: &Settings, usual: Duration) -> RoundSection {
        let (mode, min, target) = match self {
            Self::All => (RoundMode::Sync, AGENTS, AGENTS),
            Self::FirstHalf => (RoundMode::Sync, AGENTS / 2, AGENTS / 2),
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
    /// Published rounds.
    models: usize,
    /// Updates in published rounds.
    counted: usize,
    /// Trainings begun.
    trainings: usize,
    best: f32,
}

fn measure(way: Way, seed: u64, settings: &Settings, data: &Rc<Data>) -> Result<Run> {
    let usual = settings.epochs * u32::try_from(data.most_rows())? * Duration::from_millis(ROW_MS);
    let mut file = job_file("stragglers", way.round(settings, usual));
    file.train.lr = settings.lr;
    file.train.epochs = settings.epochs;
    file.train.batch = settings.batch;
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
    let workload = Example::new(data.clone(), settings.in_a_row, cost.clone());
    let ending = Simulation::new(&scenario, &FaultPlan::none()).workload(workload).run();
    let cost = cost.take();
    if let Some(trouble) = cost.trouble {
        bail!("seed {seed}, {}: training failed: {trouble}", way.name());
    }
    if let Some(violation) = ending.violation {
        bail!("seed {seed}, {}: {violation}", way.name());
    }
    let report = ending.report;
    // The workload says how good the worst of the last models is.
    let good = report
        .rounds
        .iter()
        .position(|round| round.accuracy.is_some_and(|found| found >= settings.accuracy));
    let first = good.and_then(|last| report.rounds.get(last + 1 - settings.in_a_row.max(1).min(last + 1)));
    Ok(Run {
        minutes: first.map(|round| round.at_ms as f64 / 60_000.0),
        models: report.rounds.len(),
        counted: report.rounds.iter().map(|round| round.contributions).sum(),
        trainings: cost.trainings,
        best: report.rounds.iter().filter_map(|round| round.accuracy).fold(0.0, f32::max),
    })
}

/// A run of each way with one seed's data.
fn of_seed(seed: u64, deal: Deal, ways: &[Way], settings: &Settings) -> Result<Vec<Run>> {
    let data = Rc::new(Data::example(seed, &deal)?);
    let of_way = |way: &Way| {
        let run = measure(*way, seed, settings, &data)?;
        let minutes = run.minutes.map_or("-".to_owned(), |minutes| format!("{minutes:.0}"));
        let (deal, way) = (deal.name(), way.name());
        eprintln!(
            "{deal}, seed {seed}, {way}: {minutes} min, {} models, best {:.3}",
            run.models, run.best
        );
        Ok(run)
    };
    ways.iter().map(of_way).collect()
}

/// The runs of each way, one a seed. Seeds run at the same time.
fn compare(deal: Deal, args: &StragglersArgs) -> Result<Vec<Vec<Run>>> {
    let of_seeds: Vec<Result<Vec<Run>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.seeds)
            .map(|seed| scope.spawn(move || of_seed(seed, deal, &args.ways, &args.settings)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|_| bail!("a run panicked, see above"));
        threads.into_iter().map(join).collect()
    });
    let of_seeds = of_seeds.into_iter().collect::<Result<Vec<_>>>()?;
    Ok((0..args.ways.len())
        .map(|way| of_seeds.iter().map(|runs| runs[way].clone()).collect())
        .collect())
}

pub(crate) fn run(args: &StragglersArgs) -> Result<()> {
    let settings = &args.settings;
    let (mut rows, mut results) = (Vec::new(), Vec::new());
    for digits in &args.digits {
        let deal = Deal {
            pieces: settings.pieces.max(1),
            digits: *digits,
        };
        let found = compare(deal, args)?;
        let all = args.ways.iter().position(|way| *way == Way::All);
        let all = all.map_or(&[][..], |index| &found[index]);
        for (way, runs) in args.ways.iter().zip(&found) {
            let figures = figures(deal, *way, runs, all);
            rows.push(row(&figures, args.seeds));
            results.push(figures);
        }
    }
    let result = json!({
        "what": "16 agents (8 of the usual speed, 4 twice and 4 four times slower, each training up to 10 % off that), virtual minutes to the accuracy; the example's digits and model, trained with the agents' code; coordinator and sessions in virtual time",
        "accuracy": short(settings.accuracy),
        "epochs": settings.epochs,
        "lr": short(settings.lr),
        "row_ms": ROW_MS,
        "batch": settings.batch,
        "in_a_row": settings.in_a_row,
        "pieces": settings.pieces,
        "buffer": settings.buffer,
        "server_lr": short(settings.server_lr),
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
fn figures(deal: Deal, way: Way, runs: &[Run], all: &[Run]) -> Value {
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
        "models": middle(|run| run.models),
        "counted": middle(|run| run.counted),
        "trainings": middle(|run| run.trainings),
        "best_accuracy": runs.iter().map(|run| short(run.best)).collect::<Vec<_>>(),
    })
}

/// Without the digits that f32 does not hold.
fn short(value: f32) -> f64 {
    (f64::from(value) * 1e6).round() / 1e6
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
    let times = if figures["times_faster_range"][0].is_null() {
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
