//! The life of a round.

use super::*;

#[test]
fn should_form_a_cohort_at_once_at_the_target() {
    let mut bench = Bench::with_job();
    assert_eq!(bench.ready(1), []);
    assert_eq!(bench.ready(2), []);
    let effects = bench.ready(3);
    assert_eq!(members(&effects), [agent(1), agent(2), agent(3)]);
    let Some(Effect::Reply {
        reply: AgentReply::Cohort(terms),
        ..
    }) = effects.get(1)
    else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (terms.members, terms.floor, terms.round, &terms.bases[..]),
        (3, 2, 1, &[model(100)][..])
    );
    assert_eq!(terms.deadline, bench.now.after(Duration::from_secs(60)));
    assert_eq!(bench.coordinator.poll_timeout(), Some(terms.deadline));
}

#[test]
fn should_form_a_cohort_of_min_when_time_is_up() {
    let mut bench = Bench::with_job();
    bench.tick_after(3600);
    bench.check_in(1);
    bench.tick_after(10);
    bench.ready(1);
    let due = bench.now.after(Duration::from_secs(50));
    assert_eq!(bench.coordinator.poll_timeout(), Some(due), "then it shows whether others need it");
    assert_eq!(bench.tick_after(60), [], "one agent is too few, whatever the time");
    assert_eq!(bench.coordinator.poll_timeout(), None);

    let mut bench = Bench::with_job();
    bench.tick_after(3600);
    bench.check_in(1);
    bench.tick_after(10);
    bench.ready(1);
    bench.ready(2);
    let due = bench.now.after(Duration::from_secs(50));
    assert_eq!(
        bench.coordinator.poll_timeout(),
        Some(due),
        "a minute after the first agent took part"
    );
    assert_eq!(bench.tick_after(49), []);
    assert_eq!(members(&bench.tick_after(1)), [agent(1), agent(2)]);
}

#[test]
fn should_never_form_a_cohort_over_max_and_serve_the_longest_waiting_first() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    for n in [9, 8, 7, 6, 5] {
        assert_eq!(bench.ready(n), [], "waits for the next cohort");
    }
    let effects = bench.tick_after(60);
    assert!(effects.contains(&Effect::DropSum { cohort: id }));
    assert_eq!(members(&effects), [agent(6), agent(7), agent(8), agent(9)]);
}

#[test]
fn should_answer_a_lost_cohort_again_and_not_wait_twice() {
    let mut bench = Bench::with_job();
    bench.ready(1);
    bench.ready(1);
    assert_eq!(
        bench.coordinator.job(job(1)).map(|v| v.ready),
        Some(1),
        "a repeated offer is one offer"
    );
    bench.ready(2);
    let first = bench.ready(3);
    assert_eq!(bench.ready(2), [first[2].clone()]);
}

#[test]
fn should_not_invite_again_whom_the_deadline_has_passed() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.add(1, id);
    bench.add(2, id);
    bench.step(upload(1, id));
    bench.step(received(3, id));
    bench.tick_after(60);
    assert_eq!(bench.phase(), PhaseName::Collecting, "agent 3's addition is waited for");
    assert_eq!(bench.coordinator.poll_timeout(), None);
    assert_eq!(members(&bench.ready(3)), [agent(3)], "its update is whole: it may finish here");

    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.step(upload(1, id));
    bench.step(received(1, id));
    bench.tick_after(60);
    assert_eq!(bench.ready(2), [], "too late for this cohort: it waits for the next");
}

#[test]
fn should_add_each_contribution_once_and_repeat_the_acknowledgement() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    let allowed = AgentReply::UploadAllowed {
        cohort: id,
        contribution: contribution(1),
    };
    assert_eq!(bench.reply(upload(1, id)), allowed);
    assert_eq!(bench.reply(upload(1, id)), allowed, "after a broken connection");
    assert_eq!(
        bench.step(received(1, id)),
        [Effect::Add {
            cohort: id,
            agent: agent(1),
            contribution: contribution(1)
        }]
    );
    assert_eq!(bench.step(received(1, id)), [], "it is on its way");
    assert_eq!(bench.step(upload(1, id)), [], "answered when it is added");
    assert_eq!(
        bench.reply(Event::Added {
            agent: agent(1),
            cohort: id
        }),
        AgentReply::Accepted
    );
    assert_eq!(
        bench.step(Event::Added {
            agent: agent(1),
            cohort: id
        }),
        []
    );
    assert_eq!(bench.reply(upload(1, id)), AgentReply::Accepted);
    assert_eq!(bench.reply(received(1, id)), AgentReply::Accepted);
}

#[test]
fn should_aggregate_when_all_are_in() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.add(1, id);
    bench.add(2, id);
    let effects = bench.add(3, id);
    let survivors: Vec<_> = (1..=3).map(|n| (agent(n), contribution(n))).collect();
    assert_eq!(
        effects,
        [
            told(3, AgentReply::Accepted),
            Effect::Seal {
                cohort: id,
                survivors: survivors.clone()
            },
            Effect::Aggregate {
                job: job(1),
                cohort: id,
                round: 1,
                base: model(100),
                survivors
            }
        ]
    );
}

#[test]
fn should_go_on_at_the_deadline_with_min_and_tell_the_late() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.add(1, id);
    bench.add(2, id);
    bench.step(upload(3, id));
    bench.step(outcome(1, id));
    bench.step(outcome(3, id));
    let effects = bench.tick_after(60);
    assert!(matches!(&effects[0], Effect::Seal { survivors, .. } if survivors.len() == 2));
    assert!(
        matches!(&effects[1], Effect::Reply { agent: a, reply: AgentReply::Refused { refusal, .. } } if *a == agent(3) && refusal.code == ErrorCode::Late)
    );
    assert_eq!(effects[2], not_included(3));
    assert!(matches!(&effects[3], Effect::Aggregate { survivors, .. } if survivors.len() == 2));
    assert_eq!(bench.refusal(received(3, id)), ErrorCode::Late);
    assert_eq!(bench.step(outcome(1, id)), [], "known when the round is published");
    let included = AgentReply::Outcome(OutcomeReply::Included {
        round: 1,
        model: model(101),
    });
    assert!(bench.publish(1, 101).contains(&told(1, included)));
}

#[test]
fn should_try_again_with_the_same_base_when_too_few_are_in() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.add(1, id);
    bench.step(outcome(1, id));
    assert_eq!(bench.tick_after(60), [Effect::DropSum { cohort: id }, not_included(1)]);
    assert_eq!(bench.reply(outcome(2, id)), AgentReply::Outcome(OutcomeReply::NotIncluded));
    assert_ne!(bench.gather(3), id, "held contributions make another cohort");
    assert_eq!(bench.refusal(upload(1, id)), ErrorCode::CohortUnknown);
}

#[test]
fn should_wait_for_additions_under_way_at_the_deadline() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.add(1, id);
    bench.step(upload(2, id));
    bench.step(received(2, id));
    assert_eq!(bench.tick_after(60), []);
    assert_eq!(bench.refusal(received(3, id)), ErrorCode::Late);
    let effects = bench.step(Event::Added {
        agent: agent(2),
        cohort: id,
    });
    assert!(
        matches!(&effects[..], [_, Effect::Seal { .. }, Effect::Aggregate { survivors, .. }] if survivors.len() == 2),
        "{effects:?}"
    );
}

/// The updates of two of three members are no good.
fn with_two_refused() -> Bench {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    for n in [1, 2] {
        bench.step(upload(n, id));
        bench.step(received(n, id));
        bench.step(Event::AddFailed {
            agent: agent(n),
            cohort: id,
            code: ErrorCode::UpdateValue,
        });
    }
    bench
}

#[test]
fn should_give_up_early_when_too_few_can_come() {
    let bench = with_two_refused();
    assert_eq!(bench.phase(), PhaseName::Gathering);
}

#[test]
fn should_drop_a_bad_update_and_bar_its_agent_from_the_round() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.step(upload(1, id));
    bench.step(outcome(1, id));
    bench.step(received(1, id));
    let effects = bench.step(Event::AddFailed {
        agent: agent(1),
        cohort: id,
        code: ErrorCode::UpdateLength,
    });
    assert!(
        matches!(&effects[..], [Effect::Reply { reply: AgentReply::Refused { .. }, .. }, e] if *e == not_included(1)),
        "{effects:?}"
    );
    assert_eq!(bench.refusal(upload(1, id)), ErrorCode::UpdateLength);
    assert_eq!(bench.refusal(ready(1, 77)), ErrorCode::UpdateLength);
    assert!(matches!(bench.check_in(1), AgentReply::ComeBack(_)));
    bench.add(2, id);
    bench.add(3, id);
    bench.publish(1, 101);
    assert!(
        matches!(bench.check_in(1), AgentReply::Task { round: 2, .. }),
        "the next round is a new chance"
    );
}

#[test]
fn should_let_in_whom_it_barred_where_the_round_can_not_be_filled_without() {
    let mut bench = with_two_refused();
    assert_eq!(bench.phase(), PhaseName::Gathering);
    bench.ready(3);
    assert!(
        matches!(bench.check_in(1), AgentReply::ComeBack(_)),
        "not before the round's time is over"
    );
    bench.tick_after(59);
    assert!(matches!(bench.check_in(1), AgentReply::ComeBack(_)));
    bench.tick_after(61);
    assert!(
        matches!(bench.check_in(1), AgentReply::Task { round: 1, .. }),
        "one agent is too few for ever"
    );
}

#[test]
fn should_take_an_update_again_that_could_not_be_added_for_a_passing_reason() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.step(upload(1, id));
    bench.step(received(1, id));
    assert_eq!(
        bench.refusal(Event::AddFailed {
            agent: agent(1),
            cohort: id,
            code: ErrorCode::Unavailable
        }),
        ErrorCode::Unavailable
    );
    assert_eq!(bench.add(1, id), [told(1, AgentReply::Accepted)]);
}

#[test]
fn should_refuse_uploads_of_strangers_and_of_other_contributions() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    let before = bench.coordinator.clone();
    assert_eq!(bench.refusal(upload(9, id)), ErrorCode::CohortUnknown);
    assert_eq!(bench.refusal(received(9, id)), ErrorCode::CohortUnknown);
    assert_eq!(bench.refusal(upload(1, cohort(7))), ErrorCode::CohortUnknown);
    let other = Event::UploadBegun {
        agent: agent(1),
        cohort: id,
        contribution: contribution(2),
    };
    assert_eq!(bench.refusal(other), ErrorCode::CohortUnknown);
    let copied = Event::Ready {
        agent: agent(9),
        ready: Ready {
            job: job(1),
            base: model(100),
            contribution: contribution(1),
        },
    };
    assert_eq!(bench.refusal(copied), ErrorCode::Duplicate, "a contribution has one owner");
    let unknown = Event::Ready {
        agent: agent(9),
        ready: Ready {
            job: job(9),
            base: model(100),
            contribution: contribution(9),
        },
    };
    assert_eq!(bench.refusal(unknown), ErrorCode::JobUnknown);
    let unknown = Event::Outcome {
        agent: agent(9),
        query: OutcomeQuery {
            job: job(9),
            cohort: id,
            contribution: contribution(9),
        },
    };
    assert_eq!(bench.refusal(unknown), ErrorCode::JobUnknown);
    assert!(before == bench.coordinator, "nothing changed");
}

#[test]
fn should_supersede_those_who_wait_with_an_old_base() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.ready(4);
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    assert_eq!(bench.publish(1, 101), [told(4, AgentReply::Superseded)]);
    assert_eq!(bench.reply(ready(5, 5)), AgentReply::Superseded);
    assert_eq!(bench.coordinator.job(job(1)).map(|v| (v.round, v.base)), Some((1, model(101))));
}

#[test]
fn should_keep_those_who_wait_when_the_model_did_not_change_but_never_count_them_twice() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.ready(4);
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    assert_eq!(bench.publish(1, 100), []);
    assert_eq!(
        bench.coordinator.job(job(1)).map(|v| v.ready),
        Some(1),
        "agent 4 is in the next round"
    );
    assert_eq!(bench.reply(ready(1, 1)), AgentReply::Superseded, "contribution 1 is in round 1");
}

#[test]
fn should_not_wait_for_a_member_that_asks_for_other_work() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.add(1, id);
    bench.add(2, id);
    let effects = bench.step(Event::CheckIn {
        agent: agent(3),
        check_in: check_in(),
    });
    assert!(
        matches!(effects.last(), Some(Effect::Aggregate { survivors, .. }) if survivors.len() == 2),
        "{effects:?}"
    );
    assert_eq!(bench.refusal(upload(3, id)), ErrorCode::Late, "it may be offered again");

    // One that says that it holds its contribution is waited for.
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.add(1, id);
    bench.add(2, id);
    let mut check_in = check_in();
    check_in.held.push(Held {
        job: job(1),
        base: model(100),
    });
    bench.step(Event::CheckIn { agent: agent(3), check_in });
    assert_eq!(bench.phase(), PhaseName::Collecting);
}
