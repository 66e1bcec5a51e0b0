//! Every event in every phase.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::*;

/// Agents 1 and 2 are ready.
fn gathering() -> (Bench, CohortId) {
    let mut bench = Bench::with_job();
    bench.ready(1);
    bench.ready(2);
    (bench, cohort(7))
}

/// Agent 1 is in the sum and asks for the outcome, agent 2 uploads, agent 3 was told. Agent 4 waits.
fn collecting() -> (Bench, CohortId) {
    let (mut bench, _) = gathering();
    let id = opened(&bench.ready(3));
    bench.add(1, id);
    bench.step(outcome(1, id));
    bench.step(upload(2, id));
    bench.ready(4);
    (bench, id)
}

/// Agents 1 and 2 are in the sum, agent 3 came too late. Agent 4 waits.
fn publishing() -> (Bench, CohortId) {
    let (mut bench, id) = collecting();
    bench.add(2, id);
    assert!(matches!(bench.tick_after(60).last(), Some(Effect::Aggregate { .. })));
    (bench, id)
}

/// Round 1 of agents 1 and 2 reached the target.
fn ended() -> (Bench, CohortId) {
    let (mut bench, id) = publishing();
    bench.step(Event::Published {
        job: job(1),
        round: 1,
        base: model(101),
        base_bytes: 1000,
        accuracy: Some(0.95),
    });
    (bench, id)
}

fn events(cohort: CohortId) -> Vec<(&'static str, Event)> {
    let failed = |code| Event::AddFailed {
        agent: agent(2),
        cohort,
        code,
    };
    vec![
        ("known job", Event::AddJob(Box::new(job_spec(1)))),
        (
            "ended job",
            Event::AddJob(Box::new(JobSpec {
                next_round: 4,
                ..job_spec(2)
            })),
        ),
        ("", Event::StopJob { job: job(1) }),
        (
            "new agent",
            Event::CheckIn {
                agent: agent(9),
                check_in: check_in(),
            },
        ),
        ("agent 1 again", ready(1, 1)),
        ("agent 3", ready(3, 3)),
        ("agent 9 with the name of contribution 1", ready(9, 1)),
        ("agent 1", upload(1, cohort)),
        ("agent 2", upload(2, cohort)),
        ("agent 3", upload(3, cohort)),
        ("stranger", upload(9, cohort)),
        ("agent 2", received(2, cohort)),
        ("stranger", received(9, cohort)),
        ("not asked for", Event::Added { agent: agent(3), cohort }),
        ("not asked for", failed(ErrorCode::UpdateValue)),
        ("agent 1", outcome(1, cohort)),
        ("agent 3", outcome(3, cohort)),
        ("stranger", outcome(9, cohort)),
        ("agent 1", Event::Gone { agent: agent(1) }),
        ("agent 1", Event::Revoked { agent: agent(1) }),
        ("agent 2", Event::Revoked { agent: agent(2) }),
        (
            "",
            Event::Published {
                job: job(1),
                round: 1,
                base: model(101),
                base_bytes: 1000,
                accuracy: Some(0.5),
            },
        ),
        (
            "wrong round",
            Event::Published {
                job: job(1),
                round: 9,
                base: model(101),
                base_bytes: 1000,
                accuracy: None,
            },
        ),
        (
            "disk full",
            Event::PublishFailed {
                job: job(1),
                round: 1,
                retry: true,
                blame: Vec::new(),
                reason: "disk full".to_owned(),
            },
        ),
        (
            "no model",
            Event::PublishFailed {
                job: job(1),
                round: 1,
                retry: false,
                blame: Vec::new(),
                reason: "weight 0 would become NaN".to_owned(),
            },
        ),
        (
            "",
            Event::OpenFailed {
                cohort,
                reason: "disk full".to_owned(),
            },
        ),
        ("agent 2", Event::UploadProgressed { agent: agent(2), cohort }),
        ("agent 1", progress(1, 100)),
        ("agent 1 from an old model", progress(1, 99)),
        ("a minute later", Event::Tick),
    ]
}

fn progress(n: u8, base: u8) -> Event {
    Event::Progress {
        agent: agent(n),
        progress: Progress {
            job: job(1),
            base: model(base),
            percent: 50,
        },
    }
}

pub(super) fn kind(event: &Event) -> &'static str {
    match event {
        Event::AddJob(_) => "AddJob",
        Event::StopJob { .. } => "StopJob",
        Event::CheckIn { .. } => "CheckIn",
        Event::Ready { .. } => "Ready",
        Event::Progress { .. } => "Progress",
        Event::UploadBegun { .. } => "UploadBegun",
        Event::UploadProgressed { .. } => "UploadProgressed",
        Event::OpenFailed { .. } => "OpenFailed",
        Event::SealFailed { .. } => "SealFailed",
        Event::Received { .. } => "Received",
        Event::Added { .. } => "Added",
        Event::AddFailed { .. } => "AddFailed",
        Event::Outcome { .. } => "Outcome",
        Event::Secure { .. } => "Secure",
        Event::Described { .. } => "Described",
        Event::Gone { .. } => "Gone",
        Event::Revoked { .. } => "Revoked",
        Event::Published { .. } => "Published",
        Event::PublishFailed { .. } => "PublishFailed",
        Event::Tick => "Tick",
    }
}

#[test]
fn should_react_to_every_event_in_every_phase_as_recorded() {
    let phases = [
        ("gathering", gathering as fn() -> _),
        ("collecting", collecting),
        ("publishing", publishing),
        ("ended", ended),
    ];
    let mut table = String::new();
    let mut kinds = BTreeSet::new();
    for (name, build) in phases {
        let (start, cohort): (Bench, CohortId) = build();
        for (label, event) in events(cohort) {
            kinds.insert(kind(&event));
            let mut bench = start.clone();
            if event == Event::Tick {
                bench.now = bench.now.after(Duration::from_secs(60));
            }
            let heading = format!("{name} x {} {label}", kind(&event));
            let effects = bench.step(event);
            writeln!(table, "{} -> {:?}", heading.trim_end(), bench.phase()).expect("a string takes all");
            for effect in effects {
                writeln!(table, "    {effect:?}").expect("a string takes all");
            }
        }
    }
    assert_eq!(kinds.len(), 17, "an event kind is missing from the table: {kinds:?}");
    insta::assert_snapshot!(table);
}
