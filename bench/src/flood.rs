//! Honest agents beside a flood of clients that never finish their handshake.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aimass_cli::cluster::ClusterSettings;
use aimass_crypto::cert::dns_name;
use aimass_protocol::frame::ALPN_AGENT;
use aimass_relay::flood::{Flood, Flooded, Hellos};
use aimass_swarm::{Rig, RigSettings, Settings};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::report::{Report, quantile, sorted};
use crate::{mib, program};

#[derive(Debug, Args)]
pub(crate) struct FloodArgs {
    /// Honest agents that stay connected and check in.
    #[arg(long, default_value_t = 300)]
    agents: usize,
    /// Handshakes that are held half open.
    #[arg(long, default_value_t = 5_000)]
    half_open: usize,
    /// How long each part takes, seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    #[command(flatten)]
    report: Report,
}

/// A process that floods.
#[derive(Debug, Args)]
pub(crate) struct GeneratorArgs {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    half_open: usize,
    #[arg(long)]
    repeated: bool,
    #[arg(long)]
    seconds: u64,
}

const LONG: Duration = Duration::from_secs(60);
/// The aggregator's core, and that of everything else.
const CORES: [&str; 2] = ["0", "1"];
/// What leaves and comes back while the flood goes on: one of so many hosts.
const HOSTS: usize = 6;

pub(crate) fn run(args: &FloodArgs) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cluster = Rig::services(&program()?, dir.path(), ClusterSettings::default())?;
    let pinned = pin(cluster.server_process().id(), CORES[0]) && pin(std::process::id(), CORES[1]);
    let settings = RigSettings {
        agents: args.agents,
        swarm: Settings {
            hosts: HOSTS,
            arrival: Duration::from_millis(500),
            ..Settings::default()
        },
        ..RigSettings::default()
    };
    let mut rig = Rig::new(cluster, settings)?;
    rig.wait_online(LONG)?;
    let target: SocketAddr = rig.cluster.server_address().parse()?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let parts = [
        ("nobody floods", None),
        ("made, and sent elsewhere", Some((sink.local_addr()?, false))),
        ("made", Some((target, false))),
        ("repeated, and sent elsewhere", Some((sink.local_addr()?, true))),
        ("repeated", Some((target, true))),
    ];
    let (mut rows, mut results) = (Vec::new(), Vec::new());
    for (what, flood) in parts {
        let found = part(args, &mut rig, what, flood)?;
        let number = |key: &str| found[key].as_f64().unwrap_or_default();
        rows.push(vec![
            what.to_owned(),
            format!("{:.0}", number("hellos_a_s")),
            found["check_ins"].to_string(),
            format!("{:.2}", number("check_in_ms_median")),
            format!("{:.2}", number("check_in_ms_p99")),
            found["dropped"].to_string(),
            found["come_back_s"]
                .as_f64()
                .map_or("not in time".to_owned(), |s| format!("{s:.1}")),
            format!("{:.0}", number("server_mib")),
            format!("{:.0}", number("server_peak_mib")),
        ]);
        eprintln!("{found}");
        results.push(found);
    }
    let result = json!({
        "what": "honest agents' check-ins beside half-open handshakes and first packets as fast as one process sends them",
        "agents": args.agents,
        "half_open": args.half_open,
        "pinned": pinned,
        "results": results,
    });
    let header = [
        "",
        "first packets a second",
        "check-ins",
        "median, ms",
        "p99, ms",
        "dropped",
        "a sixth comes back, s",
        "aggregator, MiB",
        "its peak, MiB",
    ];
    args.report.show(&header, &rows, &result)?;
    rig.stop();
    Ok(())
}

fn part(args: &FloodArgs, rig: &mut Rig, what: &str, flood: Option<(SocketAddr, bool)>) -> Result<Value> {
    let generator = flood
        .map(|(target, repeated)| start_generator(args, target, repeated))
        .transpose()?;
    // The flood comes up, and what the part before left dies away.
    std::thread::sleep(Duration::from_secs(2));
    let (begin, dropped) = (Instant::now(), rig.swarm.tally().disconnects());
    std::thread::sleep(Duration::from_secs(args.seconds));
    rig.cluster.check()?;
    let check_ins = sorted(rig.swarm.tally().check_ins_since(begin).iter().map(|d| d.as_secs_f64() * 1e3));
    let dropped = rig.swarm.tally().disconnects() - dropped;
    let left = Instant::now();
    rig.swarm.kill(0)?;
    rig.swarm.revive(0)?;
    let back = rig.wait_online(LONG).is_ok();
    let come_back_s = back.then(|| left.elapsed().as_secs_f64());
    let usage = rig.cluster.server_process().usage().context("the aggregator has no /proc entry")?;
    let flooded = generator.map(end_generator).transpose()?;
    rig.wait_online(LONG)?;
    let figure = |key: &str| flooded.as_ref().map_or(json!(0), |flooded| flooded[key].clone());
    Ok(json!({
        "part": what,
        "hellos_a_s": figure("hellos_a_s"),
        "half_open": figure("half_open"),
        "addresses_proven": figure("proven"),
        "check_ins": check_ins.len(),
        "check_in_ms_median": quantile(&check_ins, 0.5),
        "check_in_ms_p99": quantile(&check_ins, 0.99),
        "check_in_ms_worst": quantile(&check_ins, 1.0),
        "dropped": dropped,
        "come_back_s": come_back_s,
        "server_mib": mib(usage.rss_bytes),
        "server_peak_mib": mib(usage.peak_rss_bytes),
    }))
}

/// It lives as long as its part takes at the longest, and is ended when the part is over.
fn start_generator(args: &FloodArgs, target: SocketAddr, repeated: bool) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    let seconds = args.seconds + LONG.as_secs() + 10;
    command
        .args(["flood-generator", "--target", &target.to_string()])
        .args(repeated.then_some("--repeated"))
        .args(["--half-open", &args.half_open.to_string(), "--seconds", &seconds.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command.spawn().context("the generator does not start")
}

fn end_generator(mut child: Child) -> Result<Value> {
    drop(child.stdin.take());
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the generator failed: {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The generator's process: floods until its input ends.
pub(crate) fn generate(args: &GeneratorArgs) -> Result<()> {
    let mut flood = Flood::new(args.target, ALPN_AGENT, &dns_name("default", "server"))?;
    let waiting = std::thread::spawn(|| {
        // Whether it ends or fails: nobody wants the flood any more.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    });
    let hellos = if args.repeated { Hellos::Repeated } else { Hellos::Made };
    let begin = Instant::now();
    let mut flooded = Flooded::default();
    while !waiting.is_finished() && begin.elapsed() < Duration::from_secs(args.seconds) {
        flooded = flood.run(Duration::from_millis(200), args.half_open, hellos)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({ "hellos_a_s": flooded.hellos as f64 / seconds, "half_open": flooded.half_open, "proven": flooded.proven })
    );
    Ok(())
}

/// Keeps a process, all of its threads, on one core; says whether that worked.
fn pin(process: u32, core: &str) -> bool {
    let enough = std::thread::available_parallelism().is_ok_and(|n| n.get() >= CORES.len());
    enough
        && Command::new("taskset")
            .args(["-a", "-c", "-p", core, &process.to_string()])
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}
