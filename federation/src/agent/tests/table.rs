//! Every event in every activity.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::*;

const ACTIVITIES: [Activity; 8] = [
    Activity::Idle,
    Activity::CheckingIn,
    Activity::Fetching,
    Activity::Training,
    Activity::Offering,
    Activity::Encoding,
    Activity::Uploading,
    Activity::AwaitingOutcome,
];

fn events() -> Vec<Event> {
    let reason = || "because".to_owned();
    let (contribution, cohort) = (contribution(1), cohort(1));
    vec![
        Event::Connected,
        Event::Disconnected { reason: reason() },
        task(&|_| {}),
        task(&|file| file.job.purpose = "adverts".to_owned()),
        Event::ComeBack(ComeBack {
            after_ms: 5000,
            reason: reason(),
            spread_ms: 0,
        }),
        Event::Fetched { base: model(100) },
        Event::BaseLost { base: model(100) },
        Event::Progressed { percent: 40 },
        Event::Unwanted {
            job: job(1),
            base: model(100),
        },
        trained(),
        Event::TrainFailed {
            job: job(1),
            reason: reason(),
        },
        joined(&|_| {}),
        joined(&|descriptor| descriptor.floor = 1),
        Event::Superseded { contribution },
        Event::Invalid {
            job: job(1),
            reason: reason(),
        },
        Event::Encoded { contribution, cohort },
        Event::EncodeFailed {
            contribution,
            reason: reason(),
        },
        Event::Accepted { contribution, cohort },
        outcome(OutcomeReply::Included {
            round: 1,
            model: model(101),
        }),
        outcome(OutcomeReply::NotIncluded),
        refused(RequestKind::CheckIn, ErrorCode::Pending),
        refused(RequestKind::Fetch, ErrorCode::BlobUnknown),
        refused(RequestKind::Ready, ErrorCode::JobUnknown),
        refused(RequestKind::Ready, ErrorCode::Unavailable),
        refused(RequestKind::Upload, ErrorCode::Late),
        refused(RequestKind::Upload, ErrorCode::UpdateValue),
        refused(RequestKind::Outcome, ErrorCode::CohortUnknown),
        Event::Failed {
            request: RequestKind::Upload,
            reason: reason(),
        },
        Event::Tick,
    ]
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Connected => "Connected",
        Event::Disconnected { .. } => "Disconnected",
        Event::Task { .. } => "Task",
        Event::ComeBack(_) => "ComeBack",
        Event::Fetched { .. } => "Fetched",
        Event::BaseLost { .. } => "BaseLost",
        Event::Progressed { .. } => "Progressed",
        Event::Unwanted { .. } => "Unwanted",
        Event::Trained { .. } => "Trained",
        Event::TrainFailed { .. } => "TrainFailed",
        Event::Cohort { .. } => "Cohort",
        Event::Superseded { .. } => "Superseded",
        Event::Invalid { .. } => "Invalid",
        Event::Encoded { .. } => "Encoded",
        Event::EncodeFailed { .. } => "EncodeFailed",
        Event::Accepted { .. } => "Accepted",
        Event::Outcome { .. } => "Outcome",
        Event::Refused { .. } => "Refused",
        Event::Failed { .. } => "Failed",
        Event::Tick => "Tick",
    }
}

/// What an effect is about, without the terms that the fixtures fix.
pub(super) fn short(effect: &Effect) -> String {
    match effect {
        Effect::CheckIn(check_in) => format!("CheckIn declined {:?} held {:?}", check_in.declined, check_in.held),
        Effect::Encode { contribution, descriptor } => format!("Encode {contribution:?} for {:?}", descriptor.cohort),
        other => format!("{other:?}"),
    }
}

#[test]
fn should_react_to_every_event_in_every_activity_as_recorded() {
    let mut table = String::new();
    let mut kinds = BTreeSet::new();
    for activity in ACTIVITIES {
        let start = Bench::at(activity);
        for event in events() {
            kinds.insert(kind(&event));
            let mut bench = start.clone();
            let label = match &event {
                Event::Refused { request, refusal } => format!("Refused {request} {}", refusal.code),
                Event::Outcome {
                    reply: OutcomeReply::Included { .. },
                    ..
                } => "Outcome included".to_owned(),
                other => kind(other).to_owned(),
            };
            let effects = bench.step(event);
            writeln!(table, "{activity:?} x {label} -> {:?}", bench.session.activity()).expect("a string takes all");
            for effect in effects {
                writeln!(table, "    {}", short(&effect)).expect("a string takes all");
            }
        }
    }
    assert_eq!(kinds.len(), 20, "an event kind is missing from the table: {kinds:?}");
    insta::assert_snapshot!(table);
}
