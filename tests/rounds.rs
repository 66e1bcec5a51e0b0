//! Rounds of unit vectors that things happen to: whatever is accepted is in exactly one model. `aimass-bench kills` and `relay` do the same for long.

use std::path::Path;
use std::time::Duration;

use aimass_cli::cluster::ClusterSettings;
use aimass_protocol::job::AggregationMode;
use aimass_relay::udp::{UdpRelay, Weather};
use aimass_swarm::{Audit, Rig, RigSettings, Settings};

use crate::support::PROGRAM;

const AGENTS: usize = 6;
/// Updates of three chunks: uploads can be cut in the middle.
const WEIGHTS: usize = 200_000;
/// Datagrams of uploads, of some thousand that a round has.
const UNDER_WAY: u64 = 300;
const SEED: u64 = 20_251;
const LONG: Duration = Duration::from_secs(60);

/// Agents one a host, in rounds that need all of them; the first is done.
fn rig(relay: impl FnOnce(&str) -> Option<String>) -> (Rig, tempfile::TempDir) {
    println!("seed {SEED}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let cluster = Rig::services(Path::new(PROGRAM), dir.path(), ClusterSettings::default()).expect("the services start");
    let settings = RigSettings {
        agents: AGENTS,
        server: relay(cluster.server_address()),
        swarm: Settings {
            hosts: AGENTS,
            training: (Duration::from_millis(20), Duration::from_millis(100)),
            keep_alive: Duration::from_millis(250),
            backoff_first: Duration::from_millis(100),
            seed: SEED,
            ..Settings::default()
        },
        mode: AggregationMode::Plain,
    };
    let rig = Rig::in_rounds(cluster, settings, WEIGHTS, LONG).expect("the first round");
    (rig, dir)
}

/// Stops the job; every agent must have been counted exactly once in each round.
fn check(mut rig: Rig) -> Audit {
    rig.stop_job().expect("the job stops");
    let audit = rig.audit(LONG).expect("models of whole counts");
    assert!(audit.is_clean(), "{audit:?}");
    assert_eq!(audit.counted, AGENTS as u64 * u64::from(audit.rounds), "{audit:?}");
    rig.stop();
    audit
}

/// Agents that know that their update for `round` was accepted.
fn told(rig: &Rig, round: u64) -> u64 {
    let accepted = |index| {
        rig.swarm
            .tally()
            .passages(index)
            .iter()
            .any(|passage| u64::from(passage.round) == round)
    };
    (0..AGENTS).filter(|&index| accepted(index)).count() as u64
}

#[test]
fn a_killed_aggregator_goes_on_where_it_was_and_counts_everybody_once() {
    const PHASES: [&str; 3] = ["gathering", "collecting", "publishing"];
    let (mut rig, _dir) = rig(|_| None);
    for (order, phase) in PHASES.into_iter().enumerate() {
        let round = rig.wait_phase(phase, 2, LONG).expect("the phase comes");
        if phase == "collecting" {
            rig.wait_until("two updates are accepted", LONG, |rig| Ok(told(rig, round + 1) >= 2))
                .expect("they are");
        }
        let told = told(&rig, round + 1);
        rig.cluster.kill_and_restart_server().expect("it comes up again");
        let after = rig.job().expect("it knows the job");
        let now = PHASES.iter().position(|name| after["phase"] == *name).expect("a phase");
        // It may have got further between the look at it and the kill.
        assert!(
            after["round"].as_u64() > Some(round) || now >= order,
            "killed while {phase}, then {after}"
        );
        if after["round"] == round && after["phase"] == "collecting" {
            assert!(after["received"].as_u64() >= Some(told), "{told} were told, then {after}");
        }
        rig.wait_round(round + 1, LONG).expect("the round goes on");
    }
    let audit = check(rig);
    assert_eq!(audit.thrown_back, 0, "what was accepted is in the sum of its round: {audit:?}");
}

#[test]
fn killed_agents_go_on_where_they_were() {
    let (mut rig, _dir) = rig(|_| None);
    for (kill, pause_ms) in [10, 60, 110, 160].into_iter().enumerate() {
        std::thread::sleep(Duration::from_millis(pause_ms));
        let round = rig.job().expect("a job")["round"].as_u64().expect("a number");
        let victims = [kill % AGENTS, (kill + 2) % AGENTS, (kill + 4) % AGENTS];
        for host in victims {
            rig.swarm.kill(host).expect("there is such a host");
        }
        for host in victims {
            rig.swarm.revive(host).expect("it starts again");
        }
        rig.wait_round(round + 2, LONG).expect("the round goes on");
    }
    check(rig);
}

#[test]
fn all_updates_land_once_over_a_link_that_loses_a_tenth_and_reorders() {
    let mut link = None;
    let (mut rig, _dir) = rig(|server| {
        let relay = UdpRelay::start(server.parse().expect("an address"), SEED, Weather::default()).expect("a relay");
        let address = relay.address().to_string();
        link = Some(relay);
        Some(address)
    });
    let relay = link.expect("started");
    relay.set_weather(Weather {
        loss: 0.1,
        doubled: 0.05,
        held_back: 0.1,
        delay: Duration::ZERO,
        hold: Duration::from_millis(5),
    });
    let round = rig.job().expect("a job")["round"].as_u64().expect("a number");
    rig.wait_round(round + 2, LONG).expect("rounds go on");
    let stats = relay.stats();
    assert!(stats.lost > 0 && stats.doubled > 0 && stats.held_back > 0, "{stats:?}");
    relay.set_weather(Weather::default());
    check(rig);
}

#[test]
fn an_address_change_in_mid_upload_costs_no_update() {
    let mut link = None;
    let (mut rig, _dir) = rig(|server| {
        let weather = Weather {
            // Slow enough that uploads are under way when they are looked at.
            delay: Duration::from_millis(10),
            ..Weather::default()
        };
        let relay = UdpRelay::start(server.parse().expect("an address"), SEED, weather).expect("a relay");
        let address = relay.address().to_string();
        link = Some(relay);
        Some(address)
    });
    let relay = link.expect("started");
    let mut hits = 0;
    for _ in 0..20 {
        let round = rig.wait_phase("collecting", 0, LONG).expect("uploads begin");
        let before = relay.stats().received;
        rig.wait_until("uploads under way", LONG, |_| Ok(relay.stats().received >= before + UNDER_WAY))
            .expect("they are");
        relay.change_addresses();
        let view = rig.job().expect("a job");
        // On a busy machine it may be through by then.
        hits += usize::from(view["phase"] == "collecting" && view["round"] == round);
        rig.wait_round(round + 1, LONG).expect("the round goes on");
        if hits == 3 {
            break;
        }
    }
    assert_eq!(hits, 3, "address changes in mid-upload");
    assert_eq!(rig.swarm.tally().disconnects(), 0, "{:?}", rig.swarm.tally().troubles());
    check(rig);
}
