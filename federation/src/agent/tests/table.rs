//! Every event in every activity.

use std::collections::BTreeSet;
use std::fmt::Write;

use aimass_protocol::message::secagg::{ConsentReply, DrawCall, SurvivorsReply, UnmaskReply};

use super::fleet::{Fleet, NOW};
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

/// Steps of a job with masks.
const SECURE: [Activity; 10] = [
    Activity::Offering,
    Activity::Advertising,
    Activity::Revealing,
    Activity::Sharing,
    Activity::Encoding,
    Activity::Uploading,
    Activity::AwaitingSurvivors,
    Activity::Consenting,
    Activity::Unmasking,
    Activity::AwaitingOutcome,
];

/// What an honest server says to the first agent of a fleet in every step, and what else it may say.
fn events_of_masks() -> Vec<Event> {
    let cohort = cohort(1);
    let mut fleet = Fleet::new(3);
    let mut events = Vec::new();
    for activity in SECURE {
        let answers = fleet.answers();
        if !matches!(activity, Activity::Encoding | Activity::Uploading | Activity::AwaitingOutcome) {
            events.push(answers[&0].clone());
        }
        fleet.deliver(answers);
    }
    let call = DrawCall { cohort, draw: 2 };
    events.extend([
        Event::DrawAgain { cohort, draw: 1, call },
        Event::Survivors {
            cohort,
            reply: SurvivorsReply::NotIncluded,
        },
        Event::Agreed {
            cohort,
            reply: ConsentReply::NotIncluded,
        },
        Event::Unmasked {
            cohort,
            reply: UnmaskReply::Abandoned,
        },
        Event::ResiduesLost {
            contribution: contribution(1),
            cohort,
        },
    ]);
    let requests = [
        RequestKind::Advert,
        RequestKind::Reveal,
        RequestKind::Shares,
        RequestKind::Survivors,
        RequestKind::Consent,
        RequestKind::Unmask,
    ];
    events.extend(requests.map(|request| refused(request, ErrorCode::CohortUnknown)));
    events.extend(requests.map(|request| refused(request, ErrorCode::SecAgg)));
    events.extend(requests.map(|request| Event::Failed {
        request,
        reason: "because".to_owned(),
    }));
    events
}

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
        Event::Draw { .. } => "Draw",
        Event::Roster { .. } => "Roster",
        Event::Opening { .. } => "Opening",
        Event::DrawAgain { .. } => "DrawAgain",
        Event::SharesReceived { .. } => "SharesReceived",
        Event::Survivors { .. } => "Survivors",
        Event::Agreed { .. } => "Agreed",
        Event::Unmasked { .. } => "Unmasked",
        Event::ResiduesLost { .. } => "ResiduesLost",
        Event::Refused { .. } => "Refused",
        Event::Failed { .. } => "Failed",
        Event::Tick => "Tick",
    }
}

/// What an effect is about, without the terms that the fixtures fix, and without keys and shares.
pub(super) fn short(effect: &Effect) -> String {
    match effect {
        Effect::CheckIn(check_in) => {
            let spent = if check_in.spent.is_empty() {
                String::new()
            } else {
                format!(" spent {:?}", check_in.spent)
            };
            format!("CheckIn declined {:?} held {:?}{spent}", check_in.declined, check_in.held)
        }
        Effect::Advertise(advert) => format!("Advertise draw {}", advert.draw),
        Effect::Reveal(reveal) => format!("Reveal draw {}", reveal.draw),
        Effect::DealShares(shares) => format!("DealShares to {}", shares.shares.len()),
        Effect::Encode {
            contribution,
            descriptor,
            masks,
        } => {
            let masks = masks
                .as_ref()
                .map_or(String::new(), |masks| format!(" with {} masks", masks.signed().len()));
            format!("Encode {contribution:?} for {:?}{masks}", descriptor.cohort)
        }
        Effect::Consent(consent) => format!("Consent in {:?}", consent.cohort),
        Effect::Unmask(unmask) => format!("Unmask with {} shares", unmask.shares.len()),
        Effect::Report(report) => format!("Report at {} in {:?}: {}", report.step, report.cohort, report.what),
        other => format!("{other:?}"),
    }
}

fn label(event: &Event) -> String {
    match event {
        Event::Refused { request, refusal } => format!("Refused {request} {}", refusal.code),
        Event::Failed { request, .. } => format!("Failed {request}"),
        Event::Outcome {
            reply: OutcomeReply::Included { .. },
            ..
        } => "Outcome included".to_owned(),
        Event::Survivors {
            reply: SurvivorsReply::NotIncluded,
            ..
        } => "Survivors not included".to_owned(),
        Event::Agreed {
            reply: ConsentReply::NotIncluded,
            ..
        } => "Agreed not included".to_owned(),
        Event::Unmasked {
            reply: UnmaskReply::Abandoned,
            ..
        } => "Unmasked abandoned".to_owned(),
        other => kind(other).to_owned(),
    }
}

/// One activity: what each event makes of it, and below that the events that change nothing.
fn write_rows(table: &mut String, activity: Activity, rows: Vec<(String, Activity, Vec<Effect>)>) {
    let mut ignored = BTreeSet::new();
    for (label, after, effects) in rows {
        if effects.is_empty() && after == activity {
            ignored.insert(label);
            continue;
        }
        writeln!(table, "{activity:?} x {label} -> {after:?}").expect("a string takes all");
        for effect in effects {
            writeln!(table, "    {}", short(&effect)).expect("a string takes all");
        }
    }
    let ignored: Vec<String> = ignored.into_iter().collect();
    writeln!(table, "{activity:?} ignores {}", ignored.join(", ")).expect("a string takes all");
}

#[test]
fn should_react_to_every_event_in_every_activity_as_recorded() {
    let mut table = String::new();
    let mut kinds = BTreeSet::new();
    let all: Vec<Event> = events().into_iter().chain(events_of_masks()).collect();
    for activity in ACTIVITIES {
        let rows = all.iter().map(|event| {
            kinds.insert(kind(event));
            let mut bench = Bench::at(activity);
            let effects = bench.step(event.clone());
            (label(event), bench.session.activity(), effects)
        });
        let rows = rows.collect();
        write_rows(&mut table, activity, rows);
    }
    assert_eq!(kinds.len(), 29, "an event kind is missing from the table: {kinds:?}");
    insta::assert_snapshot!(table);
}

#[test]
fn should_react_to_every_event_in_every_step_of_a_cohort_with_masks_as_recorded() {
    let mut table = String::new();
    let all: Vec<Event> = events().into_iter().chain(events_of_masks()).collect();
    for activity in SECURE {
        let rows = all.iter().map(|event| {
            let mut fleet = Fleet::at(activity);
            let effects = fleet.agents[0].step(NOW, event.clone());
            (label(event), fleet.agents[0].session.activity(), effects)
        });
        write_rows(&mut table, activity, rows.collect());
    }
    insta::assert_snapshot!(table);
}
