use aimass_analytics::release::Broken;
use aimass_protocol::job::{AggregationMode, JobFile};

use super::*;

fn release() -> ReleaseSection {
    let text = include_str!("../../../../protocol/testdata/release.example.toml");
    JobFile::parse(text).expect("the example").release.expect("a release")
}

fn job(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn agent(n: u8) -> AgentId {
    AgentId::from_bytes([n; 16])
}

fn register(catalog: &Catalog, n: u8) {
    let owner = PublicKeyBytes::from_bytes([7; 32]);
    let change = catalog
        .registered(job(n), owner, Digest::from_bytes([n; 32]), &release(), 1)
        .expect("a new one");
    catalog.apply(change);
}

fn stage(catalog: &Catalog, n: u8, round: u32, decision: Decision) {
    let mut report = ReleaseReport::empty(&release(), AggregationMode::Secure);
    (report.round, report.decision) = (round, decision);
    report.variants[0].devices = 3;
    if decision == Decision::RolledBack {
        report.broken.push(Broken {
            rule: "min_accuracy".to_owned(),
            variant: Some("full".to_owned()),
            wanted: 0.9,
            found: Some(0.5),
        });
    }
    catalog.apply(
        catalog
            .measured(job(n), &report, Digest::from_bytes([9; 32]), 2)
            .expect("it is measured"),
    );
}

fn aliases(catalog: &Catalog) -> (Option<u32>, Option<u32>) {
    let (model, _) = catalog.one("digits").expect("a model");
    (model.aliases.get(CHAMPION).copied(), model.aliases.get(CANDIDATE).copied())
}

#[test]
fn should_promote_after_the_last_stage_and_show_it_to_canaries_before() {
    let catalog = Catalog::default();
    register(&catalog, 1);
    assert_eq!(aliases(&catalog), (None, Some(1)));
    assert_eq!(catalog.assigned(agent(1), &[]), None, "nothing is served before a stage held");
    stage(&catalog, 1, 1, Decision::NextStage);
    catalog.expose(job(1), [agent(1)]);
    assert_eq!(catalog.assigned(agent(1), &[]), Some(job(1)));
    assert_eq!(catalog.assigned(agent(2), &[]), None, "it measured nothing");
    stage(&catalog, 1, 3, Decision::Promoted);
    assert_eq!(aliases(&catalog), (Some(1), None));
    assert_eq!(catalog.assigned(agent(2), &[]), Some(job(1)));
    let have = |n| {
        [Serving {
            model: "digits".to_owned(),
            release: job(n),
        }]
    };
    assert_eq!(catalog.assigned(agent(2), &have(1)), None, "it has it");
    let version = catalog.version_of(job(1)).expect("a version");
    assert_eq!(
        (version.state, version.round, version.decided_at_ms),
        (VersionState::Promoted, 3, Some(2))
    );
    assert!(version.variants[0].measured.is_some() && version.variants[1].measured.is_none());

    // The next one fails on its canaries, who go back to the first.
    register(&catalog, 2);
    stage(&catalog, 2, 1, Decision::NextStage);
    catalog.expose(job(2), [agent(1)]);
    assert_eq!(catalog.assigned(agent(1), &have(1)), Some(job(2)));
    stage(&catalog, 2, 2, Decision::RolledBack);
    catalog.expose(job(2), [agent(1)]);
    assert_eq!(aliases(&catalog), (Some(1), None));
    assert_eq!(catalog.assigned(agent(1), &have(2)), Some(job(1)));
    let version = catalog.version_of(job(2)).expect("a version");
    assert_eq!(version.reasons, ["variant full: min_accuracy is 0.9, and 0.500000 was measured"]);
    let report = ReleaseReport::empty(&release(), AggregationMode::Secure);
    assert_eq!(catalog.measured(job(2), &report, version.report, 3), None, "it is decided");
    assert_eq!(
        catalog.registered(job(2), version.owner, version.report, &release(), 3),
        None,
        "registered once"
    );
}

#[test]
fn should_go_back_to_the_champion_before_when_the_operator_says_so() {
    let catalog = Catalog::default();
    for n in [1, 2] {
        register(&catalog, n);
        stage(&catalog, n, 3, Decision::Promoted);
    }
    assert_eq!(aliases(&catalog), (Some(2), None));
    assert!(matches!(
        catalog.rolled_back(job(1), 5),
        Err(CatalogError::Settled { version: 1, .. })
    ));
    catalog.apply(catalog.rolled_back(job(2), 5).expect("it is the champion"));
    assert_eq!(aliases(&catalog), (Some(1), None));
    assert!(matches!(catalog.rolled_back(job(2), 5), Err(CatalogError::Settled { .. })), "once");
    assert!(matches!(catalog.rolled_back(job(9), 5), Err(CatalogError::Release { .. })));
    catalog.apply(catalog.rolled_back(job(1), 5).expect("it is the champion"));
    assert_eq!(aliases(&catalog), (None, None));
    assert_eq!(catalog.assigned(agent(1), &[]), None);
}

#[test]
fn should_set_aliases_to_versions_that_exist() {
    let catalog = Catalog::default();
    register(&catalog, 1);
    catalog.apply(catalog.aliased("digits", CHAMPION, Some(1)).expect("it exists"));
    assert_eq!(catalog.assigned(agent(3), &[]), Some(job(1)));
    catalog.apply(catalog.aliased("digits", CHAMPION, None).expect("removed"));
    assert_eq!(aliases(&catalog).0, None);
    assert!(matches!(
        catalog.aliased("digits", "x", Some(2)),
        Err(CatalogError::Version { latest: 1, .. })
    ));
    assert!(matches!(catalog.aliased("faces", "x", Some(1)), Err(CatalogError::Model { .. })));
    assert!(matches!(catalog.aliased("digits", "a b", Some(1)), Err(CatalogError::Alias { .. })));
    let stored = {
        let (model, versions) = catalog.one("digits").expect("a model");
        Catalog::of((vec![model], versions))
    };
    assert_eq!(stored.all(), catalog.all());
}

#[test]
fn should_refuse_a_release_that_was_made_for_another_champion() {
    let catalog = Catalog::default();
    catalog.check_champion(&release()).expect("there is none");
    register(&catalog, 1);
    stage(&catalog, 1, 3, Decision::Promoted);
    assert!(matches!(
        catalog.check_champion(&release()),
        Err(CatalogError::OtherChampion { version: 1, .. })
    ));
    let mut right = release();
    right.champion.as_mut().expect("named").digest = right.variants[0].digest;
    catalog.check_champion(&right).expect("it is a file of the champion");
    right.champion = None;
    catalog.check_champion(&right).expect("it compares itself with nothing");
}
