//! `aimass-sim`: runs seeded fault plans, and shrinks those that break something.

use std::fmt::Write as _;
use std::ops::Range;
use std::process::ExitCode;

use aimass_sim::{Ending, FaultPlan, Mode, Report, Sabotage, Scenario, Simulation, shrink};

const HELP: &str = "\
aimass-sim --seed N [--trace] [--faults]     runs one plan and says what happened
aimass-sim --seeds A..B                      runs many; stops at the first that fails

  --mode sync|semi_sync|async|mixed          round modes of the jobs (default: by the seed)
  --agents N                                 only the first N agents
  --only 3,8                                 only these faults of the plan; `--only none` for none
  --sabotage NAME                            a driver that is wrong on purpose: adds_twice, forgets_additions, forgets_rounds, forgets_open_rounds
  --trace                                    a line for each thing that happens
  --faults                                   lists the plan's faults
Exit codes: 0 all invariants held, 1 one did not, 2 wrong arguments.";

/// What to run.
#[derive(Default)]
struct Options {
    seeds: Range<u64>,
    mode: Option<Mode>,
    agents: Option<usize>,
    only: Option<Vec<usize>>,
    sabotage: Sabotage,
    trace: bool,
    faults: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(options) => run(&options),
        Err(problem) => {
            eprintln!("{problem}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                options.seeds = seed..seed.saturating_add(1);
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) = text
                    .split_once("..")
                    .ok_or_else(|| format!("{text:?} is no range; write for instance 0..1000"))?;
                options.seeds = number(from)?..number(to)?;
            }
            "--mode" => {
                let name = value()?;
                options.mode = Some(Mode::parse(&name).ok_or_else(|| format!("{name:?} is no mode"))?);
            }
            "--agents" => options.agents = Some(usize::try_from(number(&value()?)?).map_err(|error| error.to_string())?),
            "--only" => options.only = Some(places(&value()?)?),
            "--sabotage" => {
                let name = value()?;
                options.sabotage = Sabotage::parse(&name).ok_or_else(|| format!("{name:?} is no sabotage"))?;
            }
            "--trace" => options.trace = true,
            "--faults" => options.faults = true,
            "--help" | "-h" => return Err("Runs rounds with seeded faults in virtual time.".to_owned()),
            _ => return Err(format!("{flag} is unknown")),
        }
    }
    if options.seeds.is_empty() {
        return Err("say which seeds".to_owned());
    }
    Ok(options)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn places(text: &str) -> Result<Vec<usize>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|place| place.parse().map_err(|_| format!("{place:?} is no number")))
        .collect()
}

fn run(options: &Options) -> ExitCode {
    let one = options.seeds.end - options.seeds.start == 1;
    let mut total = Report::default();
    for seed in options.seeds.clone() {
        let mode = options.mode.unwrap_or_else(|| Mode::of_seed(seed));
        let mut scenario = Scenario::generate(seed, mode);
        let mut plan = FaultPlan::generate(&scenario);
        if let Some(n) = options.agents {
            scenario.keep_agents(n);
            plan = plan.among(n);
        }
        if let Some(only) = &options.only {
            plan = plan.only(only);
        }
        if options.faults {
            for (place, fault) in &plan.faults {
                println!("{place:>5} {fault}");
            }
        }
        let simulate = |scenario: &Scenario, plan: &FaultPlan, traced: bool| -> Ending {
            Simulation::new(scenario, plan).sabotage(options.sabotage).traced(traced).run()
        };
        let ending = simulate(&scenario, &plan, options.trace);
        for line in &ending.trace {
            println!("{line}");
        }
        if one {
            say(&scenario, mode, &ending.report);
        }
        if let Some(violation) = &ending.violation {
            println!(
                "seed {seed} ({}) fails at {} s: {violation}",
                mode.name(),
                ending.report.ended_ms / 1000
            );
            if options.only.is_none()
                && let Some(shrunk) = shrink(&scenario, &plan, &ending, |s, p| simulate(s, p, false))
            {
                println!("{} faults are enough, {} runs tried:", shrunk.plan.faults.len(), shrunk.runs);
                for (place, fault) in &shrunk.plan.faults {
                    println!("{place:>5} {fault}");
                }
                println!("{}", shrunk.violation);
                println!(
                    "{}",
                    command(seed, mode, &scenario, &shrunk.scenario, &shrunk.plan, options.sabotage)
                );
            }
            return ExitCode::from(1);
        }
        add(&mut total, &ending.report);
    }
    if !one {
        println!("{} plans, all invariants held: {total}", options.seeds.end - options.seeds.start);
        for (kind, n) in &total.faults {
            println!("{n:>8} {kind}");
        }
        println!(
            "{} rounds were published before the faults ended; {} requests were given up without an answer",
            total.rounds_in_trouble, total.unanswered
        );
        println!(
            "{} jobs whose model too many agents had spent: {} ended, {} wait for new agents",
            total.spent_up + total.starved,
            total.spent_up,
            total.starved
        );
        println!("server kills by the phase of each running job: {:?}", total.server_kills);
        println!("{} steps of coordinators, {} of sessions", total.server_steps, total.agent_steps);
    }
    ExitCode::SUCCESS
}

fn say(scenario: &Scenario, mode: Mode, report: &Report) {
    println!(
        "{} agents, {} jobs ({}): {report}",
        scenario.agents.len(),
        scenario.jobs.len(),
        mode.name()
    );
    for round in &report.rounds {
        println!(
            "{:>8} s job {} round {}: {} contributions",
            round.at_ms / 1000,
            round.job,
            round.round,
            round.contributions
        );
    }
    for (job, end) in &report.ends {
        println!("job {job}: {}", end.reason());
    }
    for (kind, n) in &report.faults {
        println!("{n:>8} {kind}");
    }
}

/// The command that repeats a shrunk run.
fn command(seed: u64, mode: Mode, whole: &Scenario, shrunk: &Scenario, plan: &FaultPlan, sabotage: Sabotage) -> String {
    let places: Vec<String> = plan.places().iter().map(ToString::to_string).collect();
    let only = if places.is_empty() { "none".to_owned() } else { places.join(",") };
    let mut text = format!(
        "cargo run --release --bin aimass-sim -- --seed {seed} --mode {} --only {only}",
        mode.name()
    );
    // Writing into a string does not fail.
    if shrunk.agents.len() < whole.agents.len() {
        let _ = write!(text, " --agents {}", shrunk.agents.len());
    }
    if sabotage != Sabotage::None {
        let _ = write!(text, " --sabotage {}", sabotage.name());
    }
    text + " --trace"
}

fn add(total: &mut Report, report: &Report) {
    total.messages += report.messages;
    total.server_steps += report.server_steps;
    total.agent_steps += report.agent_steps;
    total.ended_ms += report.ended_ms;
    total.starved += report.starved;
    total.spent_up += report.spent_up;
    total.unanswered += report.unanswered;
    total.rounds_in_trouble += report.rounds_in_trouble;
    total.rounds.extend(&report.rounds);
    for (kind, n) in &report.faults {
        *total.faults.entry(kind).or_insert(0) += n;
    }
    for (phase, n) in &report.server_kills {
        *total.server_kills.entry(*phase).or_insert(0) += n;
    }
}
