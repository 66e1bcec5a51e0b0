//! Many idle agents on one aggregator, and how they come back after it was killed.

use std::time::{Duration, Instant};

use aimass_cli::cluster::ClusterSettings;
use aimass_cli::fleet::Process;
use aimass_swarm::{Rig, RigSettings, Settings};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::report::{Report, quantile, sorted};
use crate::{mib, program};

#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// Agents.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// How long they are idle, seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Sockets that they share.
    #[arg(long, default_value_t = 4)]
    sockets: usize,
    /// Agents a second that come up at the beginning.
    #[arg(long, default_value_t = 500)]
    arrivals_per_s: u64,
    #[command(flatten)]
    report: Report,
}

/// Longest wait for all agents.
const ALL: Duration = Duration::from_secs(300);

pub(crate) fn run(args: &IdleArgs) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = vec![("AIMASS_SERVER_MAX_CONNECTIONS", (2 * args.agents).to_string())];
    let cluster = Rig::services(
        &program()?,
        dir.path(),
        ClusterSettings {
            server,
            ..ClusterSettings::default()
        },
    )?;
    let alone = cluster.server_process().usage().context("no /proc here")?;
    let begin = Instant::now();
    let swarm = Settings {
        hosts: args.sockets,
        arrival: Duration::from_secs(args.agents as u64 / args.arrivals_per_s),
        ..Settings::default()
    };
    let settings = RigSettings {
        agents: args.agents,
        swarm,
        ..RigSettings::default()
    };
    let mut rig = Rig::new(cluster, settings)?;
    let enrolled_s = begin.elapsed().as_secs_f64();
    eprintln!("{} agents have certificates after {enrolled_s:.1} s", args.agents);
    rig.wait_online(ALL)?;
    let online_s = begin.elapsed().as_secs_f64();
    eprintln!("all online after {online_s:.1} s");
    let usage = |rig: &Rig| Process::usage(rig.cluster.server_process()).context("the aggregator has no /proc entry");
    let (first, idle_since) = (usage(&rig)?, Instant::now());
    let (drops, failed) = (rig.swarm.tally().disconnects(), rig.swarm.tally().failed_connects());
    for left in (0..args.seconds).rev() {
        std::thread::sleep(Duration::from_secs(1));
        rig.cluster.check()?;
        if left % 60 == 0 {
            let now = usage(&rig)?;
            eprintln!(
                "{left} s left: {:.1} MiB, {} dropped",
                mib(now.rss_bytes),
                rig.swarm.tally().disconnects() - drops
            );
        }
    }
    let last = usage(&rig)?;
    let idle_s = idle_since.elapsed().as_secs_f64();
    let dropped = rig.swarm.tally().disconnects() - drops;
    let check_ins = sorted(rig.swarm.tally().check_ins_since(idle_since).iter().map(|d| d.as_secs_f64() * 1e3));
    let kib_an_agent = |bytes: u64| bytes.saturating_sub(alone.rss_bytes) as f64 / 1024.0 / args.agents as f64;
    let cpu_share = (last.cpu_s - first.cpu_s) / idle_s;

    let killed = Instant::now();
    rig.cluster.kill_and_restart_server()?;
    let (restart_s, up) = (killed.elapsed().as_secs_f64(), Instant::now());
    // It knows all agents and has none of their connections.
    let known = usage(&rig)?;
    rig.wait_until("half of the agents online again", ALL, |rig| {
        Ok(rig.swarm.tally().connected_since(killed) >= args.agents / 2)
    })?;
    let half_s = up.elapsed().as_secs_f64();
    rig.wait_until("all agents online again", ALL, |rig| {
        Ok(rig.swarm.tally().connected_since(killed) == args.agents)
    })?;
    let again_s = up.elapsed().as_secs_f64();
    let after = usage(&rig)?;
    let kib_a_connection = after.rss_bytes.saturating_sub(known.rss_bytes) as f64 / 1024.0 / args.agents as f64;
    let failed = rig.swarm.tally().failed_connects() - failed;
    let result = json!({
        "what": "idle agents on one aggregator process, mutual TLS on loopback; then kill -9 of the aggregator",
        "agents": args.agents,
        "idle_s": idle_s,
        "enrolled_s": enrolled_s,
        "online_s": online_s,
        "server_alone_mib": mib(alone.rss_bytes),
        "server_mib": mib(last.rss_bytes),
        "server_peak_mib": mib(last.peak_rss_bytes),
        "kib_an_agent": kib_an_agent(last.rss_bytes),
        "kib_an_agent_at_the_peak": kib_an_agent(last.peak_rss_bytes),
        "server_cpu_share": cpu_share,
        "check_ins": check_ins.len(),
        "check_in_ms_median": quantile(&check_ins, 0.5),
        "check_in_ms_p99": quantile(&check_ins, 0.99),
        "dropped": dropped,
        "restart_s": restart_s,
        "half_again_s": half_s,
        "all_again_s": again_s,
        "failed_connects": failed,
        "server_cpu_s_for_all_again": after.cpu_s,
        "kib_a_connection": kib_a_connection,
        "server_mib_after_all_again": mib(after.rss_bytes),
        "troubles": rig.swarm.tally().troubles(),
    });
    let row = |what: &str, found: String, aim: &str| vec![what.to_owned(), found, aim.to_owned()];
    let rows = [
        row("agents", args.agents.to_string(), ""),
        row("idle, s", format!("{idle_s:.0}"), ""),
        row("aggregator, KiB an agent", format!("{:.1}", kib_an_agent(last.rss_bytes)), "100"),
        row(
            "aggregator at its peak, KiB an agent",
            format!("{:.1}", kib_an_agent(last.peak_rss_bytes)),
            "",
        ),
        row("aggregator, share of a core", format!("{:.1} %", cpu_share * 100.0), ""),
        row("dropped", dropped.to_string(), "0"),
        row(
            "check-in, median and p99, ms",
            format!("{:.2}, {:.2}", quantile(&check_ins, 0.5), quantile(&check_ins, 0.99)),
            "",
        ),
        row("restart after kill -9, s", format!("{restart_s:.2}"), "5"),
        row("aggregator, KiB a connection that is new", format!("{kib_a_connection:.1}"), "40"),
        row("all connected again after the restart, s", format!("{again_s:.1}"), "30"),
    ];
    args.report.show(&["", "found", "aim"], &rows, &result)?;
    rig.stop();
    Ok(())
}
