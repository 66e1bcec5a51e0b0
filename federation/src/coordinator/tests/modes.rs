//! Semi-synchronous and asynchronous rounds, and how long is waited for whom.

use aimass_protocol::job::RoundMode;

use super::*;

fn with_mode(mode: RoundMode, max_staleness: u32) -> Bench {
    let mut spec = job_spec(1);
    spec.file.round.mode = mode;
    spec.file.round.max_staleness = max_staleness;
    spec.file.round.rounds = 100;
    let mut bench = Bench::new();
    assert_eq!(bench.step(Event::AddJob(Box::new(spec))), []);
    bench
}

fn ready_from(n: u8, c: u8, base: u8) -> Event {
    Event::Ready {
        agent: agent(n),
        ready: Ready {
            job: job(1),
            base: model(base),
            contribution: contribution(c),
        },
    }
}

fn add_as(bench: &mut Bench, n: u8, c: u8, cohort: CohortId) -> Vec<Effect> {
    bench.step(Event::Received {
        agent: agent(n),
        cohort,
        contribution: contribution(c),
    });
    bench.step(Event::Added { agent: agent(n), cohort })
}

fn terms(effects: &[Effect]) -> CohortTerms {
    match effects.first() {
        Some(Effect::OpenRound(open)) => open.terms.clone(),
        other => panic!("a cohort expected, got {other:?}"),
    }
}

#[test]
fn should_leave_what_is_left_of_a_semi_synchronous_round_for_training() {
    let mut bench = with_mode(RoundMode::SemiSync, 0);
    let left = |reply| match reply {
        AgentReply::Task { finish_within, .. } => finish_within,
        other => panic!("work expected, got {other:?}"),
    };
    // Of 60 s, 6 are left for the uploads.
    assert_eq!(left(bench.check_in(1)), Some(Duration::from_secs(54)));
    bench.tick_after(40);
    assert_eq!(left(bench.check_in(2)), Some(Duration::from_secs(14)));
    bench.tick_after(9);
    assert!(matches!(bench.check_in(3), AgentReply::ComeBack(_)), "too late for this round");
}

#[test]
fn should_begin_a_semi_synchronous_round_anew_that_could_not_be_filled() {
    let mut bench = with_mode(RoundMode::SemiSync, 0);
    bench.check_in(1);
    bench.step(ready_from(1, 1, 100));
    bench.tick_after(60);
    let reply = bench.check_in(2);
    assert!(
        matches!(reply, AgentReply::Task { finish_within: Some(left), .. } if left == Duration::from_secs(54)),
        "{reply:?}"
    );
    // The one that waited is in it.
    let effects = bench.step(ready_from(2, 2, 100));
    assert_eq!(effects, [], "two of three: more may come");
    assert_eq!(terms(&bench.tick_after(60)).members, 2);
}

#[test]
fn should_not_hurry_agents_in_the_other_modes() {
    for mode in [RoundMode::Sync, RoundMode::Async] {
        let mut bench = with_mode(mode, 1);
        assert!(matches!(bench.check_in(1), AgentReply::Task { finish_within: None, .. }));
    }
}

#[test]
fn should_give_work_in_every_phase_of_an_asynchronous_job() {
    let mut bench = with_mode(RoundMode::Async, 2);
    let id = bench.gather(3);
    assert_eq!(bench.phase(), PhaseName::Collecting);
    assert!(matches!(bench.check_in(4), AgentReply::Task { base, .. } if base == model(100)));
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    assert_eq!(bench.phase(), PhaseName::Publishing);
    assert!(matches!(bench.check_in(5), AgentReply::Task { .. }));
}

#[test]
fn should_take_contributions_of_permitted_age_and_name_their_models_newest_first() {
    let mut bench = with_mode(RoundMode::Async, 1);
    let id = bench.gather(3);
    // Agent 4 trained on model 100 and waits while the step is taken.
    assert_eq!(bench.step(ready_from(4, 4, 100)), []);
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    assert_eq!(bench.publish(1, 101), [], "it is one step behind now, which is permitted");
    assert_eq!(bench.step(ready_from(5, 5, 101)), []);
    let effects = bench.step(ready_from(6, 6, 101));
    let agreed = terms(&effects);
    assert_eq!(agreed.bases, [model(101), model(100)]);
    assert_eq!(members(&effects), [agent(4), agent(5), agent(6)]);

    // Agent 7 is too old once the next step is taken.
    assert_eq!(bench.step(ready_from(7, 7, 100)), []);
    for n in [4, 5, 6] {
        add_as(&mut bench, n, n, agreed.cohort);
    }
    assert_eq!(bench.publish(2, 102), [told(7, AgentReply::Superseded)]);
    assert_eq!(bench.reply(ready_from(8, 8, 100)), AgentReply::Superseded);
    assert_eq!(bench.step(ready_from(9, 9, 101)), [], "one behind");
}

#[test]
fn should_step_from_the_current_model_in_an_asynchronous_job() {
    let mut bench = with_mode(RoundMode::Async, 1);
    let id = bench.gather(3);
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    bench.publish(1, 101);
    bench.step(ready_from(4, 4, 100));
    bench.step(ready_from(5, 5, 100));
    let id = terms(&bench.step(ready_from(6, 6, 100))).cohort;
    add_as(&mut bench, 4, 4, id);
    add_as(&mut bench, 5, 5, id);
    let effects = add_as(&mut bench, 6, 6, id);
    assert!(matches!(effects.last(), Some(Effect::Aggregate { base, .. }) if *base == model(101)));
}

#[test]
fn should_keep_the_seats_of_those_that_train_on_while_a_step_is_taken() {
    let mut bench = with_mode(RoundMode::Async, 1);
    bench.check_in(9);
    let id = bench.gather(3);
    assert_eq!(
        bench.coordinator.job(job(1)).expect("there").seats,
        1,
        "members of the cohort are done"
    );
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    bench.publish(1, 101);
    assert_eq!(bench.coordinator.job(job(1)).expect("there").seats, 1);
}

#[test]
fn should_permit_earlier_models_after_a_restart() {
    let mut spec = job_spec(1);
    spec.file.round.mode = RoundMode::Async;
    spec.file.round.max_staleness = 1;
    spec.earlier = vec![model(99), model(98)];
    let mut bench = Bench::new();
    bench.step(Event::AddJob(Box::new(spec)));
    assert_eq!(bench.step(ready_from(1, 1, 99)), []);
    assert_eq!(bench.reply(ready_from(2, 2, 98)), AgentReply::Superseded);
}

#[test]
fn should_not_wait_for_members_that_are_silent_for_longer_than_they_ever_were() {
    let mut bench = Bench::with_job();
    // In the first round all three take 4 s to upload.
    let id = bench.gather(3);
    bench.now = bench.now.after(Duration::from_secs(4));
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    bench.publish(1, 101);
    // In the second, agent 3 sends nothing.
    bench.step(ready_from(1, 11, 101));
    bench.step(ready_from(2, 12, 101));
    let id = terms(&bench.step(ready_from(3, 13, 101))).cohort;
    add_as(&mut bench, 1, 11, id);
    add_as(&mut bench, 2, 12, id);
    // Three times of 4 s, as after one measurement (RFC 6298, 2.2); progress is worth as much again.
    assert_eq!(bench.tick_after(11), []);
    bench.step(Event::UploadProgressed {
        agent: agent(3),
        cohort: id,
    });
    assert_eq!(bench.tick_after(11), []);
    let effects = bench.tick_after(1);
    assert!(
        matches!(effects.last(), Some(Effect::Aggregate { survivors, .. }) if survivors.len() == 2),
        "{effects:?}"
    );
}

#[test]
fn should_wait_for_silent_members_while_too_few_are_in() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.now = bench.now.after(Duration::from_secs(4));
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    bench.publish(1, 101);
    bench.step(ready_from(1, 11, 101));
    bench.step(ready_from(2, 12, 101));
    let id = terms(&bench.step(ready_from(3, 13, 101))).cohort;
    add_as(&mut bench, 1, 11, id);
    assert_eq!(bench.tick_after(59), []);
    assert!(matches!(&bench.tick_after(1)[..], [Effect::DropSum { .. }, ..]));
}

#[test]
fn should_answer_progress_with_whether_the_work_is_still_wanted() {
    let mut bench = Bench::with_job();
    let progress = |base| Event::Progress {
        agent: agent(1),
        progress: Progress {
            job: job(1),
            base: model(base),
            percent: 10,
        },
    };
    let wanted = |bench: &mut Bench, base| match bench.reply(progress(base)) {
        AgentReply::Progress(reply) => reply.wanted,
        other => panic!("{other:?}"),
    };
    assert!(wanted(&mut bench, 100));
    assert!(!wanted(&mut bench, 99));
    bench.step(Event::StopJob { job: job(1) });
    assert!(!wanted(&mut bench, 100));
}

#[test]
fn should_not_wait_for_a_dead_member_because_a_stranger_was_slow() {
    let mut bench = Bench::new();
    let mut spec = job_spec(1);
    spec.file.round.target = 4;
    spec.file.round.rounds = 100;
    bench.step(Event::AddJob(Box::new(spec)));
    // Agents 1 to 3 take 4 s in the first round; agent 4 comes to the second only.
    (1..=3).for_each(|n| drop(bench.ready(n)));
    let id = opened(&bench.tick_after(60));
    bench.now = bench.now.after(Duration::from_secs(4));
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    bench.publish(1, 101);
    (1..=3).for_each(|n| drop(bench.step(ready_from(n, 10 + n, 101))));
    let id = terms(&bench.step(ready_from(4, 14, 101))).cohort;
    add_as(&mut bench, 1, 11, id);
    add_as(&mut bench, 2, 12, id);
    // Nothing is known of agent 4, so it is waited for; agent 3 is dead.
    assert_eq!(bench.tick_after(20), []);
    let effects = add_as(&mut bench, 4, 14, id);
    assert!(
        matches!(effects.last(), Some(Effect::Aggregate { survivors, .. }) if survivors.len() == 3),
        "{effects:?}"
    );
}
