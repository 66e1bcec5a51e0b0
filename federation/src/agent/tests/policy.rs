//! The owner's least profile of masks.

use aimass_protocol::descriptor::{MaskSuite, SecAggParams};
use aimass_protocol::log::LogHead;

use super::*;
use crate::agent::{Consent, Contribution};
use crate::masks::graph_params;

fn with(min_profile: Profile) -> Policy {
    Policy {
        min_profile,
        ..Policy::default()
    }
}

fn secure(profile: Profile) -> Consent {
    let mut file = job_file("job 1");
    file.aggregation.mode = AggregationMode::Secure;
    file.aggregation.profile = profile;
    file.aggregation.floor = 3;
    Consent::of(&file)
}

#[test]
fn should_decline_jobs_whose_masks_are_weaker_than_the_owner_asks_for() {
    for profile in [Profile::Standard, Profile::Hardened] {
        assert_eq!(with(Profile::Standard).check_job(&secure(profile)), Ok(()));
    }
    assert_eq!(with(Profile::Hardened).check_job(&secure(Profile::Hardened)), Ok(()));
    let error = with(Profile::Hardened).check_job(&secure(Profile::Standard)).expect_err("weaker");
    assert_eq!(error, PolicyError::Profile);
    assert!(error.to_string().contains("policy.min_profile"), "{error}");
    // Whether it may do without masks is another question.
    let plain = Policy {
        allow_plain: true,
        ..with(Profile::Hardened)
    };
    assert_eq!(plain.check_job(&Consent::of(&job_file("job 1"))), Ok(()));
}

#[test]
fn should_decline_cohorts_whose_masks_are_weaker_than_the_owner_asks_for() {
    let mut contribution: Contribution = Bench::at(Activity::Offering).session.snapshot().held.expect("trained");
    contribution.consent = secure(Profile::Hardened);
    let cohort = |profile| {
        let params = graph_params(4, profile).expect("a graph");
        let mut descriptor = descriptor();
        descriptor.version = Descriptor::VERSION;
        descriptor.mode = AggregationMode::Secure;
        (descriptor.members, descriptor.floor) = (4, 3);
        descriptor.codec = contribution.consent.codec;
        descriptor.log = Some(LogHead { size: 1, root: model(1) });
        descriptor.secagg = Some(SecAggParams {
            suite: MaskSuite::Aes256Ctr,
            profile,
            degree: params.degree,
            threshold: params.threshold,
            draw: 1,
            roster: model(2),
            graph_seed: model(3),
        });
        descriptor
    };
    let check = |policy: Policy, profile| policy.check_cohort(at_s(1000), &contribution, &cohort(profile));
    assert_eq!(check(with(Profile::Hardened), Profile::Hardened), Ok(()));
    assert_eq!(check(with(Profile::Hardened), Profile::Standard), Err(PolicyError::Profile));
    let error = check(with(Profile::Standard), Profile::Standard).expect_err("weaker than signed");
    assert!(error.to_string().contains("weaker profile than the signed job"), "{error}");
}
