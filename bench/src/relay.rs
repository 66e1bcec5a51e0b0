//! Rounds over bad links: a relay that loses, doubles and reorders datagrams, goes silent for a minute, changes addresses.

use std::time::{Duration, Instant};

use aimass_cli::cluster::ClusterSettings;
use aimass_protocol::job::AggregationMode;
use aimass_relay::udp::{UdpRelay, Weather};
use aimass_swarm::{Audit, Rig, RigSettings, Settings};
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::report::Report;
use crate::{median, program};

#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    /// Agents.
    #[arg(long, default_value_t = 8)]
    agents: usize,
    /// Rounds in each weather.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Percent of datagrams that are lost.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 10, 20, 30])]
    loss: Vec<u32>,
    /// Address changes in the middle of uploads.
    #[arg(long, default_value_t = 10)]
    changes: u32,
    /// Length of the blackhole, seconds; 0 for none.
    #[arg(long, default_value_t = 60)]
    blackhole_s: u64,
    /// One way's delay, milliseconds.
    #[arg(long, default_value_t = 5)]
    delay_ms: u64,
    /// Weights of the model.
    #[arg(long, default_value_t = 280_000)]
    weights: usize,
    /// Of the weather.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    report: Report,
}

const LONG: Duration = Duration::from_secs(1800);

pub(crate) fn run(args: &RelayArgs) -> Result<()> {
    let (mut rows, mut results) = (Vec::new(), Vec::new());
    let mut note = |what: String, seconds: &[f64], audit: Audit| {
        let result = json!({ "weather": what, "round_s": seconds, "round_s_median": median(seconds), "audit": audit });
        eprintln!("{result}");
        results.push(result);
        let most = seconds.iter().copied().fold(0.0, f64::max);
        rows.push(vec![
            what,
            format!("{:.2}", median(seconds)),
            format!("{most:.2}"),
            audit.counted.to_string(),
            audit.lost.to_string(),
            audit.doubled.to_string(),
        ]);
    };
    for &percent in &args.loss {
        let (seconds, audit) = lossy(args, percent)?;
        note(format!("{percent} % lost"), &seconds, audit);
    }
    if args.blackhole_s > 0 {
        let (seconds, audit) = interrupted(args, 1, |relay| {
            relay.set_blackhole(true);
            std::thread::sleep(Duration::from_secs(args.blackhole_s));
            relay.set_blackhole(false);
        })?;
        note(format!("a blackhole of {} s in mid-upload", args.blackhole_s), &seconds, audit);
    }
    if args.changes > 0 {
        let (seconds, audit) = interrupted(args, args.changes, UdpRelay::change_addresses)?;
        note("an address change in mid-upload".to_owned(), &seconds, audit);
    }
    let result = json!({
        "what": "rounds without training through a relay of datagrams",
        "agents": args.agents,
        "weights": args.weights,
        "delay_ms": args.delay_ms,
        "doubled_share": STORM.doubled,
        "held_back_share": STORM.held_back,
        "seed": args.seed,
        "results": results,
    });
    let header = ["weather", "s a round, median", "most", "updates landed", "lost", "counted twice"];
    args.report.show(&header, &rows, &result)
}

/// So many datagrams into the uploads of a round they are in their middle: they are some thousand.
const UNDER_WAY: u64 = 300;

const STORM: Weather = Weather {
    loss: 0.0,
    doubled: 0.05,
    held_back: 0.1,
    delay: Duration::ZERO,
    hold: Duration::from_millis(10),
};

fn clear(args: &RelayArgs) -> Weather {
    Weather {
        delay: Duration::from_millis(args.delay_ms),
        ..Weather::default()
    }
}

/// A rig behind a relay in good weather, its first round done.
fn rig(args: &RelayArgs, dir: &tempfile::TempDir) -> Result<(Rig, UdpRelay)> {
    let cluster = Rig::services(&program()?, dir.path(), ClusterSettings::default())?;
    let relay = UdpRelay::start(cluster.server_address().parse()?, args.seed, clear(args))?;
    let settings = RigSettings {
        agents: args.agents,
        server: Some(relay.address().to_string()),
        swarm: Settings {
            hosts: args.agents,
            seed: args.seed,
            ..Settings::default()
        },
        mode: AggregationMode::Plain,
    };
    let rig = Rig::in_rounds(cluster, settings, args.weights, LONG)?;
    Ok((rig, relay))
}

fn end(mut rig: Rig, relay: &UdpRelay, args: &RelayArgs) -> Result<Audit> {
    relay.set_weather(clear(args));
    rig.stop_job()?;
    let audit = rig.audit(LONG)?;
    ensure!(audit.is_clean(), "not everybody was counted once: {audit:?}");
    eprintln!("{:?}; troubles: {:?}", relay.stats(), rig.swarm.tally().troubles());
    rig.stop();
    Ok(audit)
}

fn lossy(args: &RelayArgs, percent: u32) -> Result<(Vec<f64>, Audit)> {
    let dir = tempfile::tempdir()?;
    let (mut rig, relay) = rig(args, &dir)?;
    if percent > 0 {
        relay.set_weather(Weather {
            loss: f64::from(percent) / 100.0,
            delay: Duration::from_millis(args.delay_ms),
            ..STORM
        });
    }
    let mut seconds = Vec::new();
    for _ in 0..args.rounds {
        let round = round_of(&rig.job()?);
        let begin = Instant::now();
        rig.wait_round(round + 1, LONG)?;
        seconds.push(begin.elapsed().as_secs_f64());
        eprintln!("{percent} %: {:.1} s", seconds[seconds.len() - 1]);
    }
    Ok((seconds, end(rig, &relay, args)?))
}

/// Does something to the link while updates are on their way, `times` times.
fn interrupted(args: &RelayArgs, times: u32, what: impl Fn(&UdpRelay)) -> Result<(Vec<f64>, Audit)> {
    let dir = tempfile::tempdir()?;
    let (mut rig, relay) = rig(args, &dir)?;
    let mut seconds = Vec::new();
    for _ in 0..times {
        let before = rig.job()?;
        rig.wait_until("uploads under way", LONG, |rig| {
            let view = rig.job()?;
            Ok(view["phase"] == "collecting" && round_of(&view) > round_of(&before))
        })?;
        let through = relay.stats().received;
        rig.wait_until("some of each upload is through", LONG, |_| {
            Ok(relay.stats().received >= through + UNDER_WAY)
        })?;
        let view = rig.job()?;
        let begin = Instant::now();
        what(&relay);
        ensure!(
            view["phase"] == "collecting" && view["received"].as_u64() < view["members"].as_u64(),
            "the uploads were over before anything happened to them (--weights or --delay-ms is too low): {view}"
        );
        rig.wait_round(round_of(&before) + 2, LONG)?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    Ok((seconds, end(rig, &relay, args)?))
}

fn round_of(view: &Value) -> u64 {
    view["round"].as_u64().unwrap_or_default()
}
