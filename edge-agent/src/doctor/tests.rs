use super::*;
use crate::config::{DataConfig, PolicyConfig};

fn examine_in(dir: &std::path::Path, files: Vec<String>) -> Report {
    let policy = PolicyConfig {
        allow_plain: true,
        ..PolicyConfig::default()
    };
    let data_dir = dir.join("agent").display().to_string();
    examine(&AgentConfig {
        data_dir,
        policy,
        data: DataConfig { files },
        ..AgentConfig::default()
    })
}

fn find<'a>(report: &'a Report, name: &str) -> &'a Check {
    report.checks.iter().find(|c| c.name == name).expect("is checked")
}

#[test]
fn a_device_that_has_not_joined_is_told_how_to() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let report = examine_in(dir.path(), vec![]);
    assert!(!report.healthy);
    let identity = find(&report, "identity");
    assert!(identity.health == Health::Fail && identity.fix.as_deref().is_some_and(|fix| fix.contains("join")));
    assert_eq!(find(&report, "folder").health, Health::Ok);
    assert!(!dir.path().join("agent").exists(), "looking leaves nothing behind");
}

#[test]
fn every_failure_has_a_fix_and_a_bad_data_file_its_place() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("bad.csv");
    std::fs::write(&path, "a,label\n1,0\n2,x\n").expect("writes");
    let report = examine_in(dir.path(), vec![path.display().to_string()]);
    let data = find(&report, "data");
    assert!(data.health == Health::Fail && data.found.contains("bad.csv:3:2"), "{data:?}");
    assert!(report.checks.iter().all(|c| c.health == Health::Ok || c.fix.is_some()));
    assert!(report.to_string().contains("FAIL"));
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_found() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let state = crate::state::StateFolder::new(dir.path().join("agent"));
    let mut rng = crate::platform::system_rng().expect("randomness");
    aimass_net::identity::IdentityFolder::open_or_create(&state.identity_dir(), &mut rng).expect("makes a key");
    let key = state.identity_dir().join("key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changes the mode");
    let report = examine_in(dir.path(), vec![]);
    let identity = find(&report, "identity");
    assert!(
        identity.found.contains("mode 644") && identity.fix.as_deref().is_some_and(|fix| fix.contains("chmod 600")),
        "{identity:?}"
    );
}

#[test]
fn masked_updates_are_nothing_to_warn_of_and_plain_ones_are() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let plain = examine_in(dir.path(), vec![]);
    let policy = find(&plain, "policy");
    assert!(
        policy.health == Health::Warn && policy.found.contains("the server can read each update"),
        "{policy:?}"
    );
    let secure = examine(&AgentConfig {
        data_dir: dir.path().join("agent").display().to_string(),
        ..AgentConfig::default()
    });
    let policy = find(&secure, "policy");
    assert!(
        policy.health == Health::Ok && policy.found.contains("masked updates alone"),
        "{policy:?}"
    );
}

#[test]
fn the_report_reads_well_for_machines() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let value = serde_json::to_value(examine_in(dir.path(), vec![])).expect("serialises");
    assert_eq!(value["healthy"], false);
    assert_eq!(value["checks"][0]["name"], "folder");
    assert_eq!(value["checks"][0]["health"], "ok");
}
