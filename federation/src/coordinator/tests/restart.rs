//! A server that was killed goes on where it was.

use super::*;

fn open(survivors: Option<&[u8]>) -> OpenRound {
    let of = |n: &u8| (agent(*n), contribution(*n));
    let spec = job_spec(1);
    OpenRound {
        terms: CohortTerms {
            job: job(1),
            round: 1,
            cohort: cohort(7),
            bases: vec![model(100)],
            members: 3,
            floor: 2,
            deadline: at_s(990),
            codec: spec.file.update,
            mode: spec.file.aggregation.mode,
            secagg: None,
        },
        members: [1, 2, 3].iter().map(of).collect(),
        survivors: survivors.map(|all| all.iter().map(of).collect()),
        secagg: None,
        unmasking: None,
    }
}

/// A coordinator that was killed with this round open, and the effects of its start.
fn restarted(open: OpenRound, durable: &[u8]) -> (Bench, Vec<Effect>) {
    let mut bench = Bench::new();
    let durable = durable.iter().map(|n| (agent(*n), contribution(*n))).collect();
    let spec = JobSpec {
        open: Some(RestoredRound { open, durable }),
        ..job_spec(1)
    };
    let effects = bench.step(Event::AddJob(Box::new(spec)));
    (bench, effects)
}

fn add(n: u8) -> Effect {
    Effect::Add {
        cohort: cohort(7),
        agent: agent(n),
        contribution: contribution(n),
    }
}

fn added(n: u8) -> Event {
    Event::Added {
        agent: agent(n),
        cohort: cohort(7),
    }
}

#[test]
fn should_go_on_collecting_with_what_is_in_the_journal() {
    let (mut bench, effects) = restarted(open(None), &[1, 2]);
    assert_eq!(effects, [Effect::OpenRound(open(None)), add(1), add(2)]);
    assert_eq!(bench.phase(), PhaseName::Collecting);
    // Agent 1 never heard that its update was taken, agent 2 did.
    assert_eq!(bench.step(upload(1, cohort(7))), [], "answered when it is in the sum again");
    assert_eq!(bench.step(outcome(2, cohort(7))), []);
    assert_eq!(bench.step(added(1)), [told(1, AgentReply::Accepted)]);
    assert_eq!(bench.step(added(2)), [told(2, AgentReply::Accepted)]);
    // Agent 3 was told of the cohort before the kill; its old deadline does not count against it.
    assert!(matches!(bench.reply(upload(3, cohort(7))), AgentReply::UploadAllowed { .. }));
    bench.step(received(3, cohort(7)));
    let effects = bench.step(added(3));
    assert!(
        matches!(effects.last(), Some(Effect::Aggregate { survivors, .. }) if survivors.len() == 3),
        "{effects:?}"
    );
}

#[test]
fn should_give_members_that_were_told_the_same_terms_again() {
    let (mut bench, _) = restarted(open(None), &[]);
    assert_eq!(bench.ready(2), [told(2, AgentReply::Cohort(open(None).terms))]);
}

#[test]
fn should_publish_a_sealed_sum_of_its_survivors_alone() {
    let (mut bench, effects) = restarted(open(Some(&[1, 2])), &[1, 2, 3]);
    assert_eq!(effects, [Effect::OpenRound(open(Some(&[1, 2]))), add(1), add(2)]);
    assert_eq!(bench.phase(), PhaseName::Publishing);
    assert_eq!(bench.refusal(upload(3, cohort(7))), ErrorCode::Late);
    assert_eq!(bench.reply(outcome(3, cohort(7))), AgentReply::Outcome(OutcomeReply::NotIncluded));
    bench.step(added(1));
    let effects = bench.step(added(2));
    assert_eq!(effects[0], told(2, AgentReply::Accepted));
    let survivors = vec![(agent(1), contribution(1)), (agent(2), contribution(2))];
    assert_eq!(
        effects[1..],
        [
            Effect::Seal {
                cohort: cohort(7),
                survivors: survivors.clone()
            },
            Effect::Aggregate {
                job: job(1),
                cohort: cohort(7),
                round: 1,
                base: model(100),
                survivors
            }
        ]
    );
}

#[test]
fn should_give_the_cohort_up_when_what_it_acknowledged_can_not_be_read() {
    let (mut bench, _) = restarted(open(None), &[1, 2]);
    bench.step(added(1));
    bench.step(outcome(2, cohort(7)));
    // Unreadable or damaged: agent 2 is not to blame, and holds its contribution until it hears of the outcome. Nothing is lost.
    for code in [ErrorCode::Unavailable, ErrorCode::UpdateValue, ErrorCode::UpdateLength] {
        let mut bench = bench.clone();
        let failed = Event::AddFailed {
            agent: agent(2),
            cohort: cohort(7),
            code,
        };
        assert_eq!(bench.step(failed), [Effect::DropSum { cohort: cohort(7) }, not_included(2)]);
        assert_eq!(bench.phase(), PhaseName::Gathering);
        assert!(bench.coordinator.job(job(1)).expect("there").trouble.is_some());
        assert_eq!(bench.ready(2), [], "it may offer it again");
    }
}

#[test]
fn should_wait_for_the_others_as_long_as_a_round_may_take() {
    let (mut bench, _) = restarted(open(None), &[1, 2]);
    bench.step(added(1));
    bench.step(added(2));
    assert_eq!(bench.tick_after(59), []);
    assert!(matches!(bench.tick_after(1).last(), Some(Effect::Aggregate { survivors, .. }) if survivors.len() == 2));
}

#[test]
fn should_ignore_an_open_round_that_is_over() {
    let mut old = open(None);
    old.terms.round = 9;
    let (bench, effects) = restarted(old, &[1]);
    assert_eq!(effects, []);
    assert_eq!(bench.phase(), PhaseName::Gathering);
}

#[test]
fn should_publish_the_same_sum_again_after_storage_failed() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        let failed = Event::PublishFailed {
            job: job(1),
            round: 1,
            retry: true,
            blame: Vec::new(),
            reason: "disk full".to_owned(),
        };
        assert_eq!(bench.step(failed), [], "nothing is dropped");
        assert_eq!(bench.phase(), PhaseName::Publishing);
        assert_eq!(bench.coordinator.job(job(1)).expect("there").trouble.as_deref(), Some("disk full"));
        assert_eq!(bench.tick_after(pause - 1), []);
        assert!(matches!(&bench.tick_after(1)[..], [Effect::Aggregate { cohort, .. }] if *cohort == id));
    }
    bench.publish(1, 101);
    assert_eq!(bench.phase(), PhaseName::Gathering);
    assert_eq!(bench.coordinator.job(job(1)).expect("there").trouble, None);
}

#[test]
fn should_stop_a_job_whose_sum_can_not_be_stored() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    bench.step(outcome(1, id));
    bench.step(Event::PublishFailed {
        job: job(1),
        round: 1,
        retry: true,
        blame: Vec::new(),
        reason: "disk full".to_owned(),
    });
    let effects = bench.step(Event::StopJob { job: job(1) });
    assert_eq!(effects[..2], [Effect::DropSum { cohort: id }, not_included(1)]);
    assert_eq!(bench.phase(), PhaseName::Ended);
}

#[test]
fn should_gather_again_later_what_could_not_be_opened() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    let failed = Event::OpenFailed {
        cohort: id,
        reason: "disk full".to_owned(),
    };
    assert_eq!(bench.step(failed), [Effect::DropSum { cohort: id }]);
    (1..=3).for_each(|n| assert_eq!(bench.ready(n), [], "there is a pause"));
    opened(&bench.tick_after(1));
}
