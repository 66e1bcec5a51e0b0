//! Whatever server and driver report, in whatever order: invariants after each step.

use std::collections::BTreeSet;
use std::time::Duration;

use aimass_protocol::ErrorCode;
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{ComeBack, OutcomeReply};
use proptest::prelude::*;

use super::tests::{config, descriptor};
use super::*;
use crate::RequestKind;
use crate::fixtures::{at_s, cohort, contribution, identity, job, job_file, model, rng};

fn request() -> impl Strategy<Value = RequestKind> {
    prop::sample::select(vec![
        RequestKind::CheckIn,
        RequestKind::Fetch,
        RequestKind::Ready,
        RequestKind::Upload,
        RequestKind::Outcome,
        RequestKind::Progress,
    ])
}

fn event() -> impl Strategy<Value = Event> {
    let job_id = || (1..3u8).prop_map(job);
    let base = || (100..102u8).prop_map(model);
    let name = || (1..4u8).prop_map(contribution);
    let cohort_id = || (1..4u8).prop_map(cohort);
    let reason = || Just("because".to_owned());
    let code = prop::sample::select(ErrorCode::all().collect::<Vec<_>>());
    let outcome = prop_oneof![
        Just(OutcomeReply::NotIncluded),
        base().prop_map(|model| OutcomeReply::Included { round: 1, model })
    ];
    prop_oneof![
        6 => Just(Event::Connected),
        2 => reason().prop_map(|reason| Event::Disconnected { reason }),
        8 => (job_id(), base(), prop::option::of(1..100_000u64)).prop_map(|(job, base, finish_within_ms)| {
            let server = identity().key.public();
            Event::Task { job, file: Box::new(job_file("a job")), round: 1, base, base_bytes: 10, finish_within_ms, log: None, server }
        }),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(after_ms, spread_ms)| Event::ComeBack(ComeBack { after_ms, reason: "later".to_owned(), spread_ms })),
        8 => base().prop_map(|base| Event::Fetched { base }),
        1 => base().prop_map(|base| Event::BaseLost { base }),
        4 => any::<u8>().prop_map(|percent| Event::Progressed { percent }),
        1 => (job_id(), base()).prop_map(|(job, base)| Event::Unwanted { job, base }),
        12 => (job_id(), base(), name()).prop_map(|(job, base, contribution)| Event::Trained { job, base, contribution }),
        1 => (job_id(), reason()).prop_map(|(job, reason)| Event::TrainFailed { job, reason }),
        12 => (name(), job_id(), base(), cohort_id(), 0..4u32).prop_map(|(contribution, job, base, cohort, floor)| {
            let descriptor = Descriptor { job, bases: vec![base], cohort, floor: floor.max(2), ..descriptor() };
            Event::Cohort { contribution, descriptor: Box::new(descriptor) }
        }),
        2 => name().prop_map(|contribution| Event::Superseded { contribution }),
        1 => (job_id(), reason()).prop_map(|(job, reason)| Event::Invalid { job, reason }),
        12 => (name(), cohort_id()).prop_map(|(contribution, cohort)| Event::Encoded { contribution, cohort }),
        1 => (name(), reason()).prop_map(|(contribution, reason)| Event::EncodeFailed { contribution, reason }),
        12 => (name(), cohort_id()).prop_map(|(contribution, cohort)| Event::Accepted { contribution, cohort }),
        6 => (name(), outcome).prop_map(|(contribution, reply)| Event::Outcome { contribution, reply }),
        3 => (request(), code).prop_map(|(request, code)| Event::Refused { request, refusal: Refusal::new(code, "no") }),
        2 => (request(), reason()).prop_map(|(request, reason)| Event::Failed { request, reason }),
        4 => Just(Event::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn should_keep_the_invariants_whatever_comes(
        steps in prop::collection::vec((0..400_000u64, event(), prop::bool::weighted(0.02)), 1..200),
    ) {
        let mut session = Session::new(config(), Snapshot::default());
        let (identity, mut rng) = (identity(), rng(7));
        let mut now = at_s(1000);
        let mut disk = Snapshot::default();
        let mut kept = BTreeSet::new();
        for (ms, event, killed) in steps {
            now = now.after(Duration::from_millis(ms / 100));
            if killed {
                session = Session::new(config(), disk.clone());
            }
            if let Event::Trained { contribution, .. } = event {
                kept.insert(contribution);
            }
            let mut out = Vec::new();
            session.step(now, event, &mut Hands { rng: &mut rng, identity: &identity }, &mut out);
            for effect in &out {
                match effect {
                    Effect::Persist => disk = session.snapshot(),
                    Effect::Discard { contribution } => {
                        prop_assert!(disk.held.as_ref().is_none_or(|c| c.id != *contribution), "forgotten on disk before it is deleted");
                        kept.remove(contribution);
                    }
                    Effect::Upload { contribution, cohort } => {
                        let Some(Contribution { id, stage: Stage::Sent { descriptor, .. }, .. }) = &disk.held else {
                            return Err(TestCaseError::fail("what is uploaded is persisted as sent"));
                        };
                        prop_assert_eq!((id, &descriptor.cohort), (contribution, cohort));
                    }
                    Effect::Encode { contribution, descriptor, masks } => {
                        prop_assert!(kept.contains(contribution) && masks.is_none());
                        prop_assert!(descriptor.floor >= 2 && descriptor.mode == AggregationMode::Plain);
                    }
                    Effect::Train { job, base, finish_by, .. } => {
                        let task = disk.task.as_ref().expect("what is trained is persisted");
                        prop_assert!(task.fetched);
                        prop_assert_eq!((task.job, task.base, task.limit.map(|limit| limit.finish_by)), (*job, *base, *finish_by));
                    }
                    Effect::DropTask { job, base } => {
                        let gone = disk.task.as_ref().is_none_or(|task| (task.job, task.base) != (*job, *base));
                        prop_assert!(gone, "forgotten on disk before it is deleted");
                    }
                    Effect::Progress(progress) => prop_assert!(progress.percent <= 100),
                    Effect::Sleep { until, .. } => prop_assert!(*until > now),
                    _ => {}
                }
            }
            // All that decides about a contribution is on disk.
            prop_assert_eq!(&disk, &session.snapshot());
            prop_assert!(disk.held.is_none() || disk.task.is_none(), "one thing at a time");
            if let Some(at) = session.poll_timeout() {
                prop_assert!(at > now, "a timer that is due at once would spin");
            }
            let requests = out.iter().filter(|e| matches!(e, Effect::CheckIn(_) | Effect::Fetch { .. } | Effect::Offer(_) | Effect::Upload { .. } | Effect::AskOutcome(_)));
            prop_assert!(requests.count() <= 1, "one request at a time");
        }
    }
}
