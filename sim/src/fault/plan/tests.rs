use super::super::{Blocks, Trouble};
use super::network::{MESSAGES, TICK_MS};
use super::*;
use crate::scenario::Mode;

const SEEDS: u64 = 300;

fn plans() -> impl Iterator<Item = (u64, usize, FaultPlan)> {
    (0..SEEDS).map(|seed| {
        let scenario = Scenario::generate(seed, Mode::of_seed(seed));
        (seed, scenario.agents.len(), FaultPlan::generate(&scenario))
    })
}

fn count(plan: &FaultPlan, is: impl Fn(&Fault) -> bool) -> usize {
    plan.faults.iter().filter(|(_, fault)| is(fault)).count()
}

/// Of how many a rate is drawn to be none, and the largest.
fn spread(rates: &[f64]) -> (f64, f64) {
    let none = rates.iter().filter(|rate| **rate == 0.0).count();
    let most = rates.iter().copied().fold(0.0, f64::max);
    (none as f64 / rates.len() as f64, most)
}

#[test]
fn should_lose_and_repeat_messages_up_to_the_range() {
    let (mut lost, mut twice) = (Vec::new(), Vec::new());
    for (_, agents, plan) in plans() {
        let all = agents as f64 * MESSAGES as f64;
        let gone = count(&plan, |fault| {
            matches!(
                fault,
                Fault::Message {
                    trouble: Trouble::Lost | Trouble::Breaks,
                    ..
                }
            )
        }) as f64;
        let again = count(&plan, |fault| {
            matches!(
                fault,
                Fault::Message {
                    trouble: Trouble::Twice { .. },
                    ..
                }
            )
        }) as f64;
        lost.push(gone / all);
        twice.push(again / (all - gone));
    }
    for (rates, most) in [(&lost, 0.3), (&twice, 0.5)] {
        let (none, largest) = spread(rates);
        assert!((0.25..0.45).contains(&none), "in {none} of plans nothing");
        assert!((0.95 * most..1.05 * most).contains(&largest), "{largest} at most, not {most}");
    }
}

#[test]
fn should_partition_at_up_to_three_percent_of_ticks() {
    let mut rates = Vec::new();
    let (mut kinds, mut shortest, mut longest) = ([0; 3], u64::MAX, 0);
    let (mut one, mut all) = (0, 0);
    for (seed, agents, plan) in plans() {
        let mut whole_ms = plan.until_ms;
        let mut begun = 0;
        let mut last_end = 0;
        for (_, fault) in &plan.faults {
            let Fault::Partition {
                at_ms,
                for_ms,
                agents: cut_off,
                blocks,
            } = *fault
            else {
                continue;
            };
            assert!(at_ms >= last_end, "seed {seed}: partitions don't overlap");
            assert!(at_ms < plan.until_ms, "seed {seed}");
            last_end = at_ms + for_ms;
            whole_ms = whole_ms.saturating_sub(for_ms);
            begun += 1;
            kinds[match blocks {
                Blocks::Both => 0,
                Blocks::Requests => 1,
                Blocks::Replies => 2,
            }] += 1;
            let isolated = (0..agents).filter(|agent| cut_off >> agent & 1 == 1).count();
            assert!(isolated >= 1, "seed {seed}: somebody is cut off");
            one += u32::from(isolated == 1);
            all += u32::from(isolated == agents);
            (shortest, longest) = (shortest.min(for_ms), longest.max(for_ms));
        }
        if whole_ms > 100 * TICK_MS {
            rates.push(f64::from(begun) / (whole_ms / TICK_MS) as f64);
        }
    }
    let (none, largest) = spread(&rates);
    assert!((0.25..0.55).contains(&none), "in {none} of plans none");
    assert!((0.02..0.08).contains(&largest), "{largest} of ticks begin a partition");
    assert!(kinds.iter().all(|n| *n > 30), "{kinds:?}");
    assert!(one > 30 && all > 10, "one: {one}, all: {all}");
    assert!(shortest < 20_000 && longest > 200_000, "{shortest} to {longest} ms");
}

#[test]
fn should_make_disks_slow_on_both_sides() {
    let (mut server, mut agents, mut factors) = (0, 0, Vec::new());
    for (seed, n, plan) in plans() {
        for (_, fault) in &plan.faults {
            let Fault::SlowDisk { agent, for_ms, factor, .. } = *fault else {
                continue;
            };
            assert!(agent.is_none_or(|agent| agent < n) && for_ms <= plan.until_ms, "seed {seed}");
            server += u32::from(agent.is_none());
            agents += u32::from(agent.is_some());
            factors.push(factor);
        }
    }
    assert!(server > 100 && agents > 300, "{server}, {agents}");
    assert_eq!((factors.iter().min(), factors.iter().max()), (Some(&2), Some(&100)));
}
