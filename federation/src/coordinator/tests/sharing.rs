//! Several jobs share agents: by weight, without starving, and without waiting for each other.

use super::*;

fn add_job(bench: &mut Bench, n: u8, change: impl FnOnce(&mut JobSpec)) {
    let mut spec = job_spec(n);
    spec.file.round.rounds = 100_000;
    change(&mut spec);
    bench.step(Event::AddJob(Box::new(spec)));
}

/// Runs rounds with `agents` agents that train and upload at once, and says how many rounds each of the jobs published.
fn run(bench: &mut Bench, agents: u8, check_ins: usize) -> Vec<u32> {
    let mut name = 0_u32;
    for turn in 0..check_ins {
        let n = u8::try_from(turn % usize::from(agents)).expect("few") + 1;
        bench.now = bench.now.after(Duration::from_millis(100));
        let effects = bench.step(Event::CheckIn {
            agent: agent(n),
            check_in: check_in(),
        });
        let Some(Effect::Reply {
            reply: AgentReply::Task { job, base, .. },
            ..
        }) = effects.first()
        else {
            continue;
        };
        name += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&name.to_le_bytes());
        let ready = Ready {
            job: *job,
            base: *base,
            contribution: ContributionId::from_bytes(id),
        };
        let effects = bench.step(Event::Ready { agent: agent(n), ready });
        let Some(Effect::OpenRound(open)) = effects.first() else { continue };
        let (cohort, round) = (open.terms.cohort, open.terms.round);
        for (agent, contribution) in open.members.clone() {
            bench.step(Event::Received {
                agent,
                cohort,
                contribution,
            });
            bench.step(Event::Added { agent, cohort });
        }
        let mut model = [0; 32];
        model[..4].copy_from_slice(&round.to_le_bytes());
        model[4] = job.as_bytes()[0];
        bench.step(Event::Published {
            job: *job,
            round,
            base: aimass_protocol::Digest::from_bytes(model),
            base_bytes: 1,
            accuracy: None,
        });
    }
    bench.coordinator.jobs().map(|view| view.round).collect()
}

#[test]
fn should_share_agents_by_priority_and_starve_nobody() {
    let mut bench = Bench::new();
    add_job(&mut bench, 1, |_| {});
    add_job(&mut bench, 2, |spec| spec.file.job.priority = 70);
    add_job(&mut bench, 3, |spec| spec.file.job.priority = 20);
    let rounds = run(&mut bench, 3, 9000);
    let total: u32 = rounds.iter().sum();
    assert!(total > 2500, "{rounds:?}: the agents are busy");
    // Weights 32, 128 and 4 of 164.
    let share = |i: usize| f64::from(rounds[i]) / f64::from(total);
    for (i, expected) in [32.0 / 164.0, 128.0 / 164.0, 4.0 / 164.0].into_iter().enumerate() {
        assert!(
            (share(i) - expected).abs() < 0.02,
            "{rounds:?}: job {i} has {} of {expected}",
            share(i)
        );
    }
}

#[test]
fn should_give_the_least_job_rounds_beside_the_greatest() {
    let mut bench = Bench::new();
    add_job(&mut bench, 1, |spec| spec.file.job.priority = 100);
    add_job(&mut bench, 2, |spec| spec.file.job.priority = 0);
    assert!(run(&mut bench, 3, 9000)[1] >= 2);
}

#[test]
fn should_hurry_a_job_whose_deadline_is_near() {
    let rounds = |deadline_s: Option<u64>| {
        let mut bench = Bench::new();
        add_job(&mut bench, 1, |_| {});
        add_job(&mut bench, 2, |spec| spec.file.job.deadline = deadline_s.map(at_s));
        run(&mut bench, 3, 900)
    };
    let (calm, hurried) = (rounds(None), rounds(Some(1100)));
    assert!(calm[0].abs_diff(calm[1]) <= 1, "{calm:?}");
    assert!(hurried[1] > 5 * hurried[0] && hurried[0] > 0, "{hurried:?}");
}

#[test]
fn should_serve_a_new_job_at_once_but_not_instead_of_the_others() {
    let mut bench = Bench::new();
    add_job(&mut bench, 1, |_| {});
    run(&mut bench, 3, 900);
    let before = bench.coordinator.job(job(1)).expect("there").round;
    add_job(&mut bench, 2, |_| {});
    let after = run(&mut bench, 3, 60);
    assert!(after[1] >= 9 && after[0] - before >= 9, "{before} {after:?}");
}

#[test]
fn should_fill_one_round_before_it_begins_another() {
    // Two jobs of three agents each, and four agents: two each would wait for ever.
    let mut bench = Bench::new();
    for n in 1..=2 {
        add_job(&mut bench, n, |spec| spec.file.round.min = 3);
    }
    let mut given = Vec::new();
    for n in 1..=4 {
        match bench.check_in(n) {
            AgentReply::Task { job, .. } => given.push(job.as_bytes()[0]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(given, [1, 1, 1, 2]);
}

#[test]
fn should_let_agents_go_whose_round_can_not_be_filled_when_another_job_needs_them() {
    let mut bench = Bench::new();
    add_job(&mut bench, 1, |spec| spec.file.round.min = 3);
    for n in [1, 2] {
        bench.check_in(n);
        bench.ready(n);
    }
    assert_eq!(bench.tick_after(60), [], "nobody else needs them");
    // A job for which two are enough.
    let mut spec = job_spec(2);
    spec.file.round.min = 2;
    let effects = bench.step(Event::AddJob(Box::new(spec)));
    assert_eq!(effects, [told(1, AgentReply::Superseded), told(2, AgentReply::Superseded)]);
    for n in [1, 2] {
        assert!(matches!(bench.check_in(n), AgentReply::Task { job: j, .. } if j == job(2)));
    }
}

#[test]
fn should_not_let_them_go_while_the_round_has_time() {
    let mut bench = Bench::new();
    add_job(&mut bench, 1, |spec| spec.file.round.min = 3);
    bench.ready(1);
    assert_eq!(bench.step(Event::AddJob(Box::new(job_spec(2)))), []);
    assert_eq!(bench.tick_after(59), []);
    assert_eq!(bench.tick_after(1), [told(1, AgentReply::Superseded)]);
}

#[test]
fn should_spread_reconnects_by_the_size_of_the_fleet() {
    let mut bench = Bench::new();
    let mut spread = 0;
    for n in 0..5000_u32 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_le_bytes());
        let reply = bench.reply(Event::CheckIn {
            agent: AgentId::from_bytes(id),
            check_in: check_in(),
        });
        match reply {
            AgentReply::ComeBack(come_back) => spread = come_back.spread_ms,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(spread, 4000, "1,250 a second");
}

#[test]
fn should_not_take_seats_of_agents_that_work_elsewhere_for_agents() {
    let mut bench = Bench::new();
    for n in [1, 2] {
        add_job(&mut bench, n, |spec| spec.file.round.min = 3);
    }
    // Three are seated for each job; of each three one trains for the other, and none is left.
    for n in 1..=6 {
        bench.check_in(n);
    }
    let ready = |who: u8, n: u8| Event::Ready {
        agent: agent(who),
        ready: Ready {
            job: job(n),
            base: model(100),
            contribution: contribution(who),
        },
    };
    let seats: Vec<u32> = bench.coordinator.jobs().map(|view| view.seats).collect();
    assert_eq!(seats, [3, 3]);
    for (who, n) in [(1, 1), (2, 1), (4, 2), (3, 2)] {
        bench.step(ready(who, n));
    }
    for gone in [5, 6] {
        bench.step(Event::Gone { agent: agent(gone) });
    }
    let effects = bench.tick_after(61);
    let let_go = |effect: &&Effect| {
        matches!(
            effect,
            Effect::Reply {
                reply: AgentReply::Superseded,
                ..
            }
        )
    };
    assert_eq!(
        effects.iter().filter(let_go).count(),
        2,
        "one of the jobs lets its agents go: {effects:?}"
    );
}

#[test]
fn should_keep_agents_that_wait_when_the_other_job_is_for_no_device() {
    let mut bench = Bench::new();
    add_job(&mut bench, 1, |spec| spec.file.round.min = 3);
    add_job(&mut bench, 2, |spec| spec.file.job.tags = vec!["moon".to_owned()]);
    for n in [1, 2] {
        bench.check_in(n);
        bench.ready(n);
    }
    assert_eq!(bench.tick_after(60), []);
    assert_eq!(bench.tick_after(60), []);
}

/// Restarted with two jobs that need 3 agents: one device checks in that declines these, others offer at once what they have.
fn restarted(declined: &[u8], offers: &[(u8, u8)]) -> Bench {
    let mut bench = Bench::new();
    for n in [1, 2] {
        add_job(&mut bench, n, |spec| spec.file.round.min = 3);
    }
    let mut declines = check_in();
    declines.declined = declined.iter().map(|n| job(*n)).collect();
    declines.contracts.retain(|_| declined.len() == 2);
    bench.step(Event::CheckIn {
        agent: agent(9),
        check_in: declines,
    });
    for (who, n) in offers {
        let ready = Ready {
            job: job(*n),
            base: model(100),
            contribution: contribution(*who),
        };
        assert_eq!(bench.step(Event::Ready { agent: agent(*who), ready }), []);
    }
    bench
}

#[test]
fn should_let_agents_go_that_offered_after_a_restart_although_the_only_one_that_checked_in_declines() {
    let mut bench = restarted(&[1, 2], &[(1, 1), (2, 2), (3, 2)]);
    assert_eq!(bench.tick_after(60), [told(1, AgentReply::Superseded)]);
}

#[test]
fn should_let_agents_go_to_a_job_that_they_were_not_compared_with() {
    let mut bench = restarted(&[], &[(2, 2), (3, 2)]);
    let go = [told(2, AgentReply::Superseded), told(3, AgentReply::Superseded)];
    assert_eq!(bench.tick_after(60), go);
}

#[test]
fn should_give_the_seat_of_a_device_that_declines_to_another() {
    let mut bench = Bench::with_job();
    (1..=4).for_each(|n| drop(bench.check_in(n)));
    assert!(matches!(bench.check_in(5), AgentReply::ComeBack(_)), "all seats are taken");
    let mut declines = check_in();
    declines.declined.push(job(1));
    bench.step(Event::CheckIn {
        agent: agent(4),
        check_in: declines,
    });
    assert!(matches!(bench.check_in(5), AgentReply::Task { .. }));
}
