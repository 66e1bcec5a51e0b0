//! kill -9 of the aggregator in every phase, and of agents at any moment: what was acknowledged is counted once.

use std::time::{Duration, Instant};

use aimass_cli::cluster::ClusterSettings;
use aimass_protocol::job::AggregationMode;
use aimass_swarm::{Audit, Rig, RigSettings, Settings};
use anyhow::{Result, ensure};
use clap::Args;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::program;
use crate::report::{Report, quantile, sorted};

#[derive(Debug, Args)]
pub(crate) struct KillsArgs {
    /// Kills of the aggregator in each phase.
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// Kills of 10, of 30 and of 50 % of the agents.
    #[arg(long, default_value_t = 30)]
    agent_kills: usize,
    /// Agents.
    #[arg(long, default_value_t = 20)]
    agents: usize,
    /// Weights of the model: an update has about three and a half bytes a weight.
    #[arg(long, default_value_t = 100_000)]
    weights: usize,
    /// Of the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    report: Report,
}

const PHASES: [&str; 3] = ["gathering", "collecting", "publishing"];
const SHARES: [usize; 3] = [10, 30, 50];
/// Longest wait for a phase or a round.
const LONG: Duration = Duration::from_secs(120);

pub(crate) fn run(args: &KillsArgs) -> Result<()> {
    let (mut rows, mut results) = (Vec::new(), Vec::new());
    for phase in PHASES.into_iter().filter(|_| args.kills > 0) {
        let found = kill_server(args, phase)?;
        rows.push(found.row(&format!("aggregator, {phase}")));
        results.push(found.json(phase));
        eprintln!("{}", results.last().unwrap_or(&Value::Null));
    }
    for share in SHARES.into_iter().filter(|_| args.agent_kills > 0) {
        let found = kill_agents(args, share)?;
        rows.push(found.row(&format!("{share} % of the agents")));
        results.push(found.json(&format!("{share} % of the agents")));
        eprintln!("{}", results.last().unwrap_or(&Value::Null));
    }
    let result = json!({
        "what": "kill -9 during rounds of unit vectors: accepted updates lost and counted twice",
        "agents": args.agents,
        "weights": args.weights,
        "seed": args.seed,
        "results": results,
    });
    let header = [
        "killed",
        "kills",
        "went on in the same phase",
        "restart median, s",
        "worst, s",
        "next round median, s",
        "worst, s",
        "rounds",
        "accepted",
        "lost",
        "counted twice",
        "offered again",
    ];
    args.report.show(&header, &rows, &result)
}

/// What a row of kills did.
struct Found {
    kills: usize,
    same_phase: usize,
    restart_s: Vec<f64>,
    next_round_s: Vec<f64>,
    audit: Audit,
}

impl Found {
    fn row(&self, what: &str) -> Vec<String> {
        let seconds = |values: &[f64], share| format!("{:.2}", quantile(values, share));
        let Audit {
            rounds,
            accepted,
            lost,
            doubled,
            thrown_back,
            ..
        } = self.audit;
        let none = self.restart_s.is_empty();
        let or_dash = |text: String| if none { "-".to_owned() } else { text };
        vec![
            what.to_owned(),
            self.kills.to_string(),
            or_dash(self.same_phase.to_string()),
            or_dash(seconds(&self.restart_s, 0.5)),
            or_dash(seconds(&self.restart_s, 1.0)),
            seconds(&self.next_round_s, 0.5),
            seconds(&self.next_round_s, 1.0),
            rounds.to_string(),
            accepted.to_string(),
            lost.to_string(),
            doubled.to_string(),
            thrown_back.to_string(),
        ]
    }

    fn json(&self, what: &str) -> Value {
        json!({
            "killed": what,
            "kills": self.kills,
            "went_on_in_the_same_phase": self.same_phase,
            "restart_s_median": quantile(&self.restart_s, 0.5),
            "restart_s_worst": quantile(&self.restart_s, 1.0),
            "next_round_s_median": quantile(&self.next_round_s, 0.5),
            "next_round_s_worst": quantile(&self.next_round_s, 1.0),
            "audit": self.audit,
        })
    }
}

/// A rig in the middle of rounds that need every agent.
fn rig(args: &KillsArgs, dir: &tempfile::TempDir, hosts: usize) -> Result<Rig> {
    let cluster = Rig::services(&program()?, dir.path(), ClusterSettings::default())?;
    let swarm = Settings {
        hosts,
        // A round in between is long enough to be hit, and a killed aggregator is noticed soon.
        training: (Duration::from_millis(20), Duration::from_millis(200)),
        keep_alive: Duration::from_millis(250),
        backoff_first: Duration::from_millis(100),
        seed: args.seed,
        ..Settings::default()
    };
    let settings = RigSettings {
        agents: args.agents,
        swarm,
        mode: AggregationMode::Plain,
        ..RigSettings::default()
    };
    Rig::in_rounds(cluster, settings, args.weights, LONG)
}

fn kill_server(args: &KillsArgs, phase: &str) -> Result<Found> {
    let dir = tempfile::tempdir()?;
    let mut rig = rig(args, &dir, 2)?;
    let (mut restart_s, mut next_round_s, mut same_phase) = (Vec::new(), Vec::new(), 0);
    for kill in 0..args.kills {
        // Spread over the whole of collecting: before the first update is in, and with all but one.
        let received = (kill % args.agents) as u64;
        let round = rig.wait_phase(phase, received, LONG)?;
        let killed = Instant::now();
        rig.cluster.kill_and_restart_server()?;
        restart_s.push(killed.elapsed().as_secs_f64());
        same_phase += usize::from(rig.job()?["phase"] == phase);
        rig.wait_round(round + 1, LONG)?;
        next_round_s.push(killed.elapsed().as_secs_f64());
        if (kill + 1) % 10 == 0 {
            eprintln!("{phase}: {} kills", kill + 1);
        }
    }
    end(rig, args.kills, same_phase, restart_s, next_round_s)
}

fn kill_agents(args: &KillsArgs, share: usize) -> Result<Found> {
    let dir = tempfile::tempdir()?;
    // One host each: whoever is killed, the others live.
    let mut rig = rig(args, &dir, args.agents)?;
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed ^ share as u64);
    let mut next_round_s = Vec::new();
    for kill in 0..args.agent_kills {
        let round = rig.job()?["round"].as_u64().unwrap_or_default();
        std::thread::sleep(Duration::from_millis(u64::from(rng.next_u32() % 300)));
        let mut hosts: Vec<usize> = (0..rig.swarm.hosts()).collect();
        let victims: Vec<usize> = (0..(args.agents * share).div_ceil(100))
            .map(|_| hosts.swap_remove(rng.next_u32() as usize % hosts.len()))
            .collect();
        let killed = Instant::now();
        for &host in &victims {
            rig.swarm.kill(host)?;
        }
        std::thread::sleep(Duration::from_millis(u64::from(rng.next_u32() % 300)));
        for &host in &victims {
            rig.swarm.revive(host)?;
        }
        // One that was running when they died may have all it needs: the one after it needs them.
        rig.wait_round(round + 2, LONG)?;
        next_round_s.push(killed.elapsed().as_secs_f64());
        if (kill + 1) % 10 == 0 {
            eprintln!("{share} %: {} kills", kill + 1);
        }
    }
    end(rig, args.agent_kills, 0, Vec::new(), next_round_s)
}

fn end(mut rig: Rig, kills: usize, same_phase: usize, restart_s: Vec<f64>, next_round_s: Vec<f64>) -> Result<Found> {
    rig.stop_job()?;
    let audit = rig.audit(LONG)?;
    eprintln!("troubles: {:?}", rig.swarm.tally().troubles());
    ensure!(audit.is_clean(), "not everybody was counted once: {audit:?}");
    rig.stop();
    Ok(Found {
        kills,
        same_phase,
        restart_s: sorted(restart_s),
        next_round_s: sorted(next_round_s),
        audit,
    })
}
