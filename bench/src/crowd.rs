//! Many updates in one round: the aggregator's memory beside that with few.

use std::time::Duration;

use aimass_cli::cluster::ClusterSettings;
use aimass_protocol::job::AggregationMode;
use aimass_swarm::{JobTerms, Rig, RigSettings, Settings};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::report::Report;
use crate::{median, mib, program};

#[derive(Debug, Args)]
pub(crate) struct CrowdArgs {
    /// Numbers of agents to compare.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1000])]
    agents: Vec<usize>,
    /// Rounds of each; the first is reported apart.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Weights of the model: 4 bytes each, and an update of 1000 agents has 34 bits each.
    #[arg(long, default_value_t = 240_000)]
    weights: usize,
    #[command(flatten)]
    report: Report,
}

const LONG: Duration = Duration::from_secs(900);

pub(crate) fn run(args: &CrowdArgs) -> Result<()> {
    let (mut rows, mut results) = (Vec::new(), Vec::new());
    for &agents in &args.agents {
        let found = measure(args, agents)?;
        let number = |key: &str| found[key].as_f64().unwrap_or_default();
        rows.push(vec![
            agents.to_string(),
            format!("{:.2}", number("update_bytes") / 1e6),
            format!("{:.2}", number("round_s_median")),
            format!("{:.2}", number("server_cpu_s_a_round")),
            format!("{:.0}", number("server_idle_mib")),
            format!("{:.0}", number("server_peak_mib")),
        ]);
        results.push(found);
    }
    let result = json!({
        "what": "rounds without training in which every agent sends an update; agents in one process on the same machine",
        "weights": args.weights,
        "results": results,
    });
    let header = [
        "agents",
        "MB an update",
        "s a round",
        "CPU s of the aggregator a round",
        "aggregator before, MiB",
        "aggregator's peak, MiB",
    ];
    args.report.show(&header, &rows, &result)
}

fn measure(args: &CrowdArgs, agents: usize) -> Result<Value> {
    eprintln!("{agents} agents ...");
    let dir = tempfile::tempdir()?;
    let cluster = Rig::services(&program()?, dir.path(), ClusterSettings::default())?;
    let settings = RigSettings {
        agents,
        swarm: Settings {
            hosts: 2,
            arrival: Duration::from_millis(agents as u64 * 2),
            ..Settings::default()
        },
        ..RigSettings::default()
    };
    let mut rig = Rig::new(cluster, settings)?;
    rig.wait_online(LONG)?;
    let usage = |rig: &Rig| rig.cluster.server_process().usage().context("the aggregator has no /proc entry");
    let before = usage(&rig)?;
    rig.submit(&JobTerms {
        weights: args.weights,
        rounds: args.rounds,
        mode: AggregationMode::Plain,
        ..JobTerms::all(agents)
    })?;
    rig.wait_round(args.rounds.into(), LONG)?;
    let after = usage(&rig)?;
    let view = rig.job()?;
    let column = |key: &str| -> Vec<f64> {
        let history = view["history"].as_array();
        history.into_iter().flatten().filter_map(|round| round[key].as_f64()).collect()
    };
    let (seconds, up) = (column("seconds"), column("bytes_up"));
    let audit = rig.audit(LONG)?;
    ensure!(
        audit.is_clean() && audit.counted == agents as u64 * u64::from(args.rounds),
        "not everybody was counted once: {audit:?}"
    );
    let troubles = rig.swarm.tally().troubles();
    rig.stop();
    Ok(json!({
        "agents": agents,
        "rounds": args.rounds,
        "update_bytes": median(&up) / agents as f64,
        "round_s_first": seconds.first(),
        "round_s_median": median(seconds.get(1..).unwrap_or_default()),
        "round_s_all": seconds,
        "server_cpu_s_a_round": (after.cpu_s - before.cpu_s) / f64::from(args.rounds),
        "server_idle_mib": mib(before.rss_bytes),
        "server_peak_mib": mib(after.peak_rss_bytes),
        "audit": audit,
        "troubles": troubles,
    }))
}
