//! How rounds and jobs end, restarts, and agents that come and go.

use super::*;

#[test]
fn should_end_after_the_last_round_or_at_the_target_accuracy() {
    for (accuracy, target_reached, rounds) in [(0.5, false, 3), (0.9, true, 1)] {
        let mut bench = Bench::with_job();
        let mut last = Vec::new();
        for round in 1..=rounds {
            let id = bench.gather_round(round);
            (1..=3).for_each(|n| drop(bench.add_round(round, n, id)));
            let base = model(100 + u8::try_from(round).expect("few rounds"));
            last = bench.step(Event::Published {
                job: job(1),
                round,
                base,
                base_bytes: 1000,
                accuracy: Some(accuracy),
            });
        }
        assert_eq!(
            last,
            [Effect::JobEnded {
                job: job(1),
                end: JobEnd::Finished { target_reached }
            }]
        );
        assert_eq!(bench.phase(), PhaseName::Ended);
        assert!(matches!(bench.check_in(1), AgentReply::ComeBack(_)));
    }
}

impl Bench {
    fn gather_round(&mut self, round: u32) -> CohortId {
        let base = self.coordinator.job(job(1)).expect("there").base;
        let effects: Vec<_> = (1..=3)
            .flat_map(|n| {
                let ready = Ready {
                    job: job(1),
                    base,
                    contribution: of_round(round, n),
                };
                self.step(Event::Ready { agent: agent(n), ready })
            })
            .collect();
        opened(&effects)
    }

    fn add_round(&mut self, round: u32, n: u8, cohort: CohortId) -> Vec<Effect> {
        self.step(Event::Received {
            agent: agent(n),
            cohort,
            contribution: of_round(round, n),
        });
        self.step(Event::Added { agent: agent(n), cohort })
    }
}

fn of_round(round: u32, n: u8) -> ContributionId {
    contribution(n + 10 * u8::try_from(round).expect("few rounds"))
}

#[test]
fn should_try_to_publish_four_times_with_pauses_and_then_fail() {
    let mut bench = Bench::with_job();
    for failure in 1..=4 {
        let id = if failure == 1 {
            bench.gather(3)
        } else {
            opened(&bench.tick_after(1 << (failure - 2)))
        };
        (1..=3).for_each(|n| drop(bench.add(n, id)));
        bench.step(outcome(1, id));
        let effects = bench.step(Event::PublishFailed {
            job: job(1),
            round: 1,
            retry: false,
            blame: Vec::new(),
            reason: "weight 0 would become NaN".to_owned(),
        });
        assert_eq!(effects[..2], [Effect::DropSum { cohort: id }, not_included(1)]);
        match effects.get(2) {
            None => {
                (1..=3).for_each(|n| assert_eq!(bench.ready(n), [], "there is a pause"));
                assert_eq!(
                    bench.coordinator.poll_timeout(),
                    Some(bench.now.after(Duration::from_secs(1 << (failure - 1))))
                );
            }
            Some(Effect::JobEnded {
                end: JobEnd::Failed { reason },
                ..
            }) => {
                assert_eq!(failure, 4);
                assert!(reason.contains("would become NaN"), "{reason}");
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.phase(), PhaseName::Ended);
}

#[test]
fn should_finish_a_round_that_is_being_published_before_it_stops() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    (1..=3).for_each(|n| drop(bench.add(n, id)));
    bench.step(outcome(1, id));
    assert_eq!(bench.step(Event::StopJob { job: job(1) }), []);
    let included = AgentReply::Outcome(OutcomeReply::Included {
        round: 1,
        model: model(101),
    });
    assert_eq!(
        bench.publish(1, 101),
        [
            told(1, included),
            Effect::JobEnded {
                job: job(1),
                end: JobEnd::Stopped
            }
        ]
    );
}

#[test]
fn should_stop_at_once_otherwise() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.ready(4);
    bench.step(outcome(1, id));
    let ended = Effect::JobEnded {
        job: job(1),
        end: JobEnd::Stopped,
    };
    assert_eq!(
        bench.step(Event::StopJob { job: job(1) }),
        [
            Effect::DropSum { cohort: id },
            not_included(1),
            told(4, AgentReply::Superseded),
            ended
        ]
    );
    assert_eq!(bench.step(Event::StopJob { job: job(1) }), []);
}

#[test]
fn should_remember_what_was_included_across_a_restart() {
    let mut spec = job_spec(1);
    spec.next_round = 2;
    spec.recent = vec![RoundOutcome {
        round: 1,
        model: model(100),
        contributions: vec![contribution(1)],
    }];
    let mut bench = Bench::new();
    assert_eq!(bench.step(Event::AddJob(Box::new(spec))), []);
    let included = AgentReply::Outcome(OutcomeReply::Included {
        round: 1,
        model: model(100),
    });
    assert_eq!(bench.reply(outcome(1, cohort(7))), included);
    assert_eq!(bench.reply(outcome(2, cohort(7))), AgentReply::Outcome(OutcomeReply::NotIncluded));
    assert_eq!(
        bench.reply(upload(1, cohort(7))),
        AgentReply::Accepted,
        "its acknowledgement was lost with the old process"
    );
    assert_eq!(bench.reply(ready(1, 1)), AgentReply::Superseded, "never a second time");
}

#[test]
fn should_end_a_restored_job_that_had_nothing_left_to_do() {
    let spec = |next_round, accuracy, ended| {
        Event::AddJob(Box::new(JobSpec {
            next_round,
            accuracy,
            ended,
            ..job_spec(1)
        }))
    };
    let ended = |target_reached| {
        [Effect::JobEnded {
            job: job(1),
            end: JobEnd::Finished { target_reached },
        }]
    };
    assert_eq!(Bench::new().step(spec(4, Some(0.5), None)), ended(false));
    assert_eq!(Bench::new().step(spec(2, Some(0.95), None)), ended(true));
    let mut bench = Bench::new();
    assert_eq!(bench.step(spec(2, None, Some(JobEnd::Stopped))), [], "its end is on record");
    assert_eq!(bench.phase(), PhaseName::Ended);
}

#[test]
fn should_forget_rounds_beyond_the_limit() {
    let mut spec = job_spec(1);
    spec.recent = (1..=70)
        .map(|n| RoundOutcome {
            round: u32::from(n),
            model: model(n),
            contributions: vec![contribution(n)],
        })
        .collect();
    let mut bench = Bench::new();
    bench.step(Event::AddJob(Box::new(spec)));
    assert_eq!(bench.reply(outcome(6, cohort(7))), AgentReply::Outcome(OutcomeReply::NotIncluded));
    assert!(matches!(
        bench.reply(outcome(7, cohort(7))),
        AgentReply::Outcome(OutcomeReply::Included { round: 7, .. })
    ));
}

#[test]
fn should_drop_a_revoked_agent_but_not_take_a_sum_apart() {
    let mut bench = Bench::with_job();
    bench.ready(9);
    assert_eq!(bench.refusal(Event::Revoked { agent: agent(9) }), ErrorCode::Revoked);
    let id = bench.gather(3);
    bench.add(1, id);
    bench.step(upload(2, id));
    assert_eq!(bench.step(Event::Revoked { agent: agent(1) }), []);
    assert_eq!(bench.refusal(Event::Revoked { agent: agent(2) }), ErrorCode::Revoked);
    assert_eq!(bench.refusal(received(2, id)), ErrorCode::Revoked);
    let effects = bench.add(3, id);
    let survivors = vec![(agent(1), contribution(1)), (agent(3), contribution(3))];
    assert_eq!(
        effects[2],
        Effect::Aggregate {
            job: job(1),
            cohort: id,
            round: 1,
            base: model(100),
            survivors
        }
    );
}

#[test]
fn should_not_mind_a_clock_that_goes_back() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.tick_after(59);
    bench.now = at_s(5);
    bench.add(1, id);
    bench.add(2, id);
    assert_eq!(bench.step(Event::Tick), []);
    bench.now = at_s(1060);
    assert!(matches!(
        &bench.step(Event::Tick)[..],
        [Effect::Seal { .. }, Effect::Aggregate { .. }]
    ));
}

#[test]
fn should_keep_a_member_that_is_gone_until_the_deadline() {
    let mut bench = Bench::with_job();
    let id = bench.gather(3);
    bench.step(upload(1, id));
    bench.step(Event::Gone { agent: agent(1) });
    assert_eq!(bench.add(1, id), [told(1, AgentReply::Accepted)], "it came back");
}

#[test]
fn should_answer_each_agent_for_one_wait_over_all_jobs() {
    let mut bench = Bench::with_job();
    bench.step(Event::AddJob(Box::new(job_spec(2))));
    bench.ready(1);
    bench.step(Event::Ready {
        agent: agent(1),
        ready: Ready {
            job: job(2),
            base: model(100),
            contribution: contribution(9),
        },
    });
    let waiting: Vec<_> = bench.coordinator.jobs().map(|v| v.ready).collect();
    assert_eq!(waiting, [0, 1], "an agent has one open offer");
}

#[test]
fn should_not_count_on_an_agent_that_is_gone() {
    let mut bench = Bench::with_job();
    bench.ready(1);
    bench.step(Event::Gone { agent: agent(1) });
    bench.ready(2);
    assert_eq!(bench.ready(3), [], "two of three are here");
    assert_eq!(members(&bench.ready(1)), [agent(1), agent(2), agent(3)]);
}
