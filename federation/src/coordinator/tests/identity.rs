//! Two devices with one identity: the newest request of a kind replaces the older, and gets no other's answer.

use super::*;

/// Jobs 1 and 2, each with a cohort; agent 1 is in both.
fn in_two_cohorts() -> (Bench, CohortId, CohortId) {
    let mut bench = Bench::new();
    for n in [1, 2] {
        let mut spec = job_spec(n);
        spec.file.round.target = 2;
        bench.step(Event::AddJob(Box::new(spec)));
    }
    let mut cohort_of = |n: u8, other: u8| {
        let ready = |who, c| Event::Ready {
            agent: agent(who),
            ready: Ready {
                job: job(n),
                base: model(100),
                contribution: contribution(c),
            },
        };
        bench.step(ready(other, 10 * n + other));
        opened(&bench.step(ready(1, n)))
    };
    let (first, second) = (cohort_of(1, 2), cohort_of(2, 3));
    (bench, first, second)
}

/// What is said to agent 1.
fn to_agent_1(effects: &[Effect]) -> Vec<&AgentReply> {
    let reply = |effect| match effect {
        &Effect::Reply { agent: to, ref reply } if to == agent(1) => Some(reply),
        _ => None,
    };
    effects.iter().filter_map(reply).collect()
}

fn begun(c: u8, cohort: CohortId) -> Event {
    Event::UploadBegun {
        agent: agent(1),
        cohort,
        contribution: contribution(c),
    }
}

fn arrived(c: u8, cohort: CohortId) -> Event {
    Event::Received {
        agent: agent(1),
        cohort,
        contribution: contribution(c),
    }
}

fn in_the_sum(cohort: CohortId) -> Event {
    Event::Added { agent: agent(1), cohort }
}

#[test]
fn should_not_answer_an_upload_with_what_became_of_another() {
    let (mut bench, first, second) = in_two_cohorts();
    bench.step(begun(1, first));
    bench.step(arrived(1, first));
    assert!(matches!(bench.reply(begun(2, second)), AgentReply::UploadAllowed { .. }));
    assert_eq!(
        to_agent_1(&bench.step(in_the_sum(first))),
        [] as [&AgentReply; 0],
        "it would be taken for the second"
    );
    bench.step(arrived(2, second));
    assert_eq!(to_agent_1(&bench.step(in_the_sum(second))), [&AgentReply::Accepted]);
    assert_eq!(bench.reply(begun(1, first)), AgentReply::Accepted, "asked again, it is answered");
}

#[test]
fn should_not_answer_a_question_with_the_outcome_of_another() {
    let (mut bench, first, second) = in_two_cohorts();
    let ask = |n: u8, cohort, c| Event::Outcome {
        agent: agent(1),
        query: OutcomeQuery {
            job: job(n),
            cohort,
            contribution: contribution(c),
        },
    };
    for (c, cohort) in [(1, first), (2, second)] {
        bench.step(begun(c, cohort));
        bench.step(arrived(c, cohort));
        bench.step(in_the_sum(cohort));
    }
    assert_eq!(bench.step(ask(1, first, 1)), []);
    assert_eq!(bench.step(ask(2, second, 2)), []);
    bench.step(Event::Received {
        agent: agent(2),
        cohort: first,
        contribution: contribution(12),
    });
    bench.step(Event::Added {
        agent: agent(2),
        cohort: first,
    });
    assert_eq!(to_agent_1(&bench.publish(1, 101)), [] as [&AgentReply; 0]);
}
