//! Fleets whose workshop proves that each contribution counts once.

use std::collections::BTreeMap;
use std::time::Duration;

use aimass_protocol::job::{RoundMode, RoundSection};

use super::*;
use crate::population::Population;
use crate::scenario::job_file;

/// Sums who contributed.
#[derive(Debug, Default)]
struct Tally {
    sums: BTreeMap<CohortId, Vec<u32>>,
    partial: u32,
    stale: u32,
    masked: u32,
    /// Contributions of this client come to nothing.
    spoiled: Option<u32>,
    gflop: f64,
}

impl Workshop for Tally {
    fn effort(&mut self, _client: u32) -> Effort {
        Effort {
            steps: 100,
            gflop: self.gflop,
        }
    }
    fn upload_bytes(&mut self, _members: u32) -> u64 {
        100_000
    }
    fn layout(&self) -> Digest {
        Digest::from_bytes([3; 32])
    }
    fn rotation(&self, base: Digest) -> Digest {
        base
    }
    fn contribute(&mut self, work: Work) {
        self.partial += u32::from(work.steps.is_some());
        self.stale += u32::from(work.staleness > 0);
        self.masked += u32::from(work.masks.is_some());
        self.sums.entry(work.cohort).or_default().push(work.client);
    }
    fn forget(&mut self, cohort: CohortId) {
        self.sums.remove(&cohort);
    }
    fn publish(&mut self, sum: &Sum<'_>) -> Result<Published, Unpublished> {
        let mut found = self.sums.remove(&sum.cohort).unwrap_or_default();
        let mut said = sum.survivors.to_vec();
        found.sort_unstable();
        said.sort_unstable();
        assert_eq!(found, said, "round {}", sum.round);
        if let Some(spoiled) = self.spoiled.filter(|spoiled| said.contains(spoiled)) {
            let reason = "its weights are not finite; lower train.lr".to_owned();
            return Err(Unpublished {
                reason,
                blame: vec![spoiled],
            });
        }
        if let Some(record) = sum.unmasking {
            let solved = record.to_unmasking().expect("a record").solve().expect("solves");
            assert!(solved.liars.is_empty());
        }
        let mut model = [0; 32];
        model[..4].copy_from_slice(&sum.round.to_le_bytes());
        model[4..8].copy_from_slice(&said.iter().fold(0u32, |all, c| all.wrapping_mul(31).wrapping_add(*c)).to_le_bytes());
        Ok(Published {
            model: Digest::from_bytes(model),
            model_bytes: 400_000,
            test_accuracy: None,
            test_loss: None,
            train_loss: None,
            device_accuracy: None,
            clipped: 0,
        })
    }
}

fn setup(mode: RoundMode, rounds: u32, cohort: u32, max: u32) -> Setup {
    let job = job_file(
        "fleet",
        RoundSection {
            mode,
            rounds,
            min: cohort,
            target: cohort,
            max,
            max_time: Duration::from_secs(3600),
            max_staleness: if mode == RoundMode::Async { 8 } else { 0 },
        },
    );
    Setup {
        seed: 5,
        job,
        base: Digest::from_bytes([255; 32]),
        base_bytes: 400_000,
        selection: Selection::Uniform,
        dropout: Dropout::default(),
    }
}

fn fleet(setup: Setup, population: &Population, clients: u32, gflop: f64) -> Fleet<Tally> {
    let cohort = setup.job.round.target;
    let clients = population.draw(clients, cohort, setup.seed, None).expect("a population");
    let tally = Tally { gflop, ..Tally::default() };
    Fleet::new(setup, clients, tally)
}

fn all(fleet: &mut Fleet<Tally>) -> Vec<Round> {
    std::iter::from_fn(|| fleet.next_round().expect("goes on")).collect()
}

#[test]
fn rounds_are_published_each_contribution_counted_once_and_the_same_for_the_same_seed() {
    for selection in [Selection::Uniform, Selection::Arrival] {
        for mode in [RoundMode::Sync, RoundMode::SemiSync, RoundMode::Async] {
            let setup = Setup {
                selection,
                ..setup(mode, 6, 10, 14)
            };
            let run = |seed| all(&mut fleet(Setup { seed, ..setup.clone() }, &Population::default(), 100, 50.0));
            let rounds = run(5);
            assert_eq!(rounds.len(), 6, "{mode:?}");
            assert!(rounds.iter().all(|round| round.contributions >= 10), "{mode:?}");
            let sums = rounds
                .iter()
                .fold((0, 0), |sums, round| (sums.0 + round.bytes_up, sums.1 + round.bytes_down));
            assert!(sums.0 >= 60 * 100_000 && sums.1 >= 400_000, "{mode:?}: {sums:?}");
            assert_eq!(rounds, run(5), "{mode:?}");
            assert_ne!(rounds, run(6), "{mode:?}");
        }
    }
}

#[test]
fn a_fleet_is_drawn_from_evenly() {
    let mut fleet = fleet(setup(RoundMode::Sync, 200, 10, 10), &Population::default(), 50, 1.0);
    let rounds = all(&mut fleet);
    assert_eq!(rounds.len(), 200);
    // 2000 contributions of 50 clients: each was kept by 40 on average.
    assert_eq!(fleet.kept.len() + fleet.active.len(), 50);
    assert!(
        rounds.iter().all(|round| round.trainings == 10 && round.dropped == 0),
        "nobody trains in vain"
    );
}

#[test]
fn all_clients_may_be_drawn_at_once() {
    let rounds = all(&mut fleet(setup(RoundMode::Sync, 3, 500, 500), &Population::default(), 500, 1.0));
    // Nobody waits for the next look at free places.
    assert!(rounds.last().expect("three").at_ms < 10_000, "{rounds:?}");
}

#[test]
fn clients_that_are_lost_are_made_up_for() {
    for mode in [RoundMode::Sync, RoundMode::Async] {
        let setup = Setup {
            dropout: Dropout {
                training: 0.2,
                upload: 0.1,
                back_after_s: (10, 100),
            },
            ..setup(mode, 20, 10, 13)
        };
        let setup = {
            let mut setup = setup;
            setup.job.round.min = 6;
            setup
        };
        let rounds = all(&mut fleet(setup, &Population::default(), 200, 400.0));
        assert_eq!(rounds.len(), 20, "{mode:?}");
        assert!(rounds.iter().map(|round| round.dropped).sum::<u32>() > 10, "{mode:?}");
    }
}

#[test]
fn masks_come_off_also_where_clients_are_lost() {
    let mut setup = setup(RoundMode::Sync, 3, 9, 9);
    setup.job.aggregation.mode = AggregationMode::Secure;
    setup.job.aggregation.floor = 4;
    setup.job.round.min = 4;
    setup.dropout.upload = 0.1;
    let mut fleet = fleet(setup, &Population::default(), 60, 10.0);
    let rounds = all(&mut fleet);
    assert_eq!(rounds.len(), 3);
    assert!(fleet.workshop.masked >= rounds.iter().map(|round| round.contributions).sum());
}

#[test]
fn masks_change_nothing_of_who_takes_part() {
    let run = |mode| {
        let mut setup = setup(RoundMode::Sync, 6, 9, 9);
        setup.job.aggregation.mode = mode;
        setup.job.aggregation.floor = 5;
        setup.job.round.min = 5;
        let rounds = all(&mut fleet(setup, &Population::default(), 60, 10.0));
        rounds.into_iter().map(|round| round.published.model).collect::<Vec<_>>()
    };
    assert_eq!(run(AggregationMode::Secure), run(AggregationMode::Plain));
}

#[test]
fn asynchronous_rounds_have_stale_contributions_and_short_ones_partial_work() {
    let mut slow = Population::default();
    slow.devices[0].spread = 0.8;
    let mut buffered = fleet(setup(RoundMode::Async, 20, 5, 20), &slow, 100, 500.0);
    let rounds = all(&mut buffered);
    assert!(buffered.workshop.stale > 10);
    assert!(rounds.iter().any(|round| round.mean_staleness > 0.5));

    let mut short = setup(RoundMode::SemiSync, 3, 10, 10);
    short.job.round.max_time = Duration::from_secs(60);
    let mut short = fleet(short, &slow, 100, 2000.0);
    assert_eq!(all(&mut short).len(), 3);
    assert!(short.workshop.partial > 10);
}

#[test]
fn a_contribution_that_is_of_no_use_costs_its_round_and_says_why() {
    let mut fleet = fleet(setup(RoundMode::Sync, 2, 10, 10), &Population::default(), 10, 1.0);
    fleet.workshop.spoiled = Some(3);
    let error = fleet.next_round().expect_err("nobody is left");
    assert!(error.to_string().contains("lower train.lr"), "{error}");
}

#[test]
fn phones_come_and_go() {
    let phones = Population::named("phones").expect("a population");
    for selection in [Selection::Uniform, Selection::Arrival] {
        let mut setup = setup(RoundMode::Sync, 4, 20, 26);
        setup.selection = selection;
        setup.job.round.min = 10;
        setup.dropout = phones.dropout.clone();
        let rounds = all(&mut fleet(setup, &phones, 1_000, 200.0));
        assert_eq!(rounds.len(), 4, "{selection:?}");
        assert!(rounds.iter().map(|round| round.energy_j).sum::<f64>() > 0.0);
    }
}

#[test]
fn nobody_who_can_take_part_is_said_after_virtual_days() {
    let mut setup = setup(RoundMode::Sync, 2, 10, 10);
    setup.job.job.tags = vec!["nobody has this".to_owned()];
    let error = fleet(setup, &Population::default(), 20, 1.0).next_round().expect_err("nobody may");
    assert!(
        matches!(&error, FleetError::Stuck { trouble, .. } if !trouble.is_empty()),
        "{error}"
    );
}
