use std::time::Duration;

use aimass_crypto::cert::{CERTIFICATE_LIFETIME, Root};
use aimass_protocol::bundle::TrustBundle;
use aimass_protocol::token::Role;
use aimass_protocol::{AgentId, TenantId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_bytes::ByteBuf;

use super::*;

const NOW_S: i64 = 1_800_000_000;
const DAY_S: i64 = 24 * 3600;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn bundle(version: u64, roots: &[&Root]) -> Bundle {
    let ders = roots.iter().map(|root| ByteBuf::from(root.certificate_der().to_vec())).collect();
    let content = TrustBundle {
        version,
        issued_at: Timestamp::from_ms(1),
        roots: ders,
        owners: Vec::new(),
    };
    Bundle::sign(&content, roots.iter().map(|root| root.key())).expect("a bundle")
}

fn enrolment(root: &Root, key: &SigningKey, now_s: i64) -> Enrolment {
    enrolment_for(CERTIFICATE_LIFETIME, root, key, now_s)
}

fn enrolment_for(lifetime: Duration, root: &Root, key: &SigningKey, now_s: i64) -> Enrolment {
    let certificate = root
        .issue("default", "agent", &key.public(), now_s, lifetime, &mut rng(7))
        .expect("a certificate");
    Enrolment::new(membership(key), certificate, bundle(1, &[root])).expect("they fit")
}

fn membership(key: &SigningKey) -> Membership {
    Membership {
        tenant: TenantId::default(),
        role: Role::Agent,
        id: AgentId::from_bytes(key.public().fingerprint()),
        authority: "127.0.0.1:4434".to_owned(),
        server: "127.0.0.1:4433".to_owned(),
    }
}

/// A folder that has joined.
fn joined() -> (tempfile::TempDir, Root, Enrolment) {
    let dir = tempfile::tempdir().expect("a folder");
    let root = Root::create("root", NOW_S, &mut rng(1));
    let mut folder = IdentityFolder::open_or_create(dir.path(), &mut rng(2)).expect("a new folder");
    let enrolment = enrolment(&root, folder.key(), NOW_S);
    folder.save(enrolment.clone()).expect("it is stored");
    (dir, root, enrolment)
}

#[test]
fn a_key_is_made_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let inner = dir.path().join("identity");
    let first = IdentityFolder::open_or_create(&inner, &mut rng(1)).expect("a new folder");
    let again = IdentityFolder::open_or_create(&inner, &mut rng(2)).expect("the same folder");
    assert_eq!(first.key().public(), again.key().public());
    assert!(again.enrolment().is_none());
    assert!(matches!(IdentityFolder::open(&inner), Err(IdentityError::NotJoined { .. })));
    assert!(matches!(
        IdentityFolder::open(&dir.path().join("none")),
        Err(IdentityError::NotJoined { .. })
    ));
    assert!(!dir.path().join("none").exists());
}

#[cfg(unix)]
#[test]
fn the_folder_and_its_files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().expect("a folder");
    let dir = parent.path().join("a").join("identity");
    let mut folder = IdentityFolder::open_or_create(&dir, &mut rng(1)).expect("a new folder");
    folder
        .save(enrolment(&Root::create("root", NOW_S, &mut rng(3)), &folder.key().clone(), NOW_S))
        .expect("it is stored");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in [KEY, CERTIFICATE, BUNDLE, ENROLMENT] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused_with_the_fix() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, ..) = joined();
    let key = dir.path().join(KEY);
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("the mode is set");
        let error = IdentityFolder::open(dir.path()).map(|_| ()).expect_err("others can read it");
        assert!(matches!(error, IdentityError::Exposed { mode: got, .. } if got == mode));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).expect("the mode is set");
    IdentityFolder::open(dir.path()).expect("its owner alone can read it");
}

#[test]
fn what_was_saved_is_there_at_the_next_start() {
    let (dir, root, first) = joined();
    let (mut folder, loaded) = IdentityFolder::open(dir.path()).expect("it has joined");
    assert_eq!(loaded, first);
    let newer = bundle(2, &[&root, &Root::create("next", NOW_S, &mut rng(5))]);
    folder.save_bundle(newer.clone()).expect("it is stored");
    let renewed = Enrolment::new(first.membership().clone(), first.certificate().to_vec(), newer.clone()).expect("they fit");
    assert_eq!(folder.enrolment(), Some(&renewed));
    assert_eq!(IdentityFolder::open(dir.path()).expect("it has joined").1.bundle(), &newer);
}

#[test]
fn a_certificate_for_another_key_is_not_stored() {
    let (dir, root, first) = joined();
    let (mut folder, _) = IdentityFolder::open(dir.path()).expect("it has joined");
    let other = SigningKey::generate(&mut rng(9));
    assert!(matches!(
        folder.save(enrolment(&root, &other, NOW_S)),
        Err(IdentityError::Corrupt { .. })
    ));
    assert_eq!(IdentityFolder::open(dir.path()).expect("nothing changed").1, first);
}

#[test]
fn a_damaged_file_is_named() {
    for file in [KEY, CERTIFICATE, BUNDLE, ENROLMENT] {
        let (dir, ..) = joined();
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).expect("it is there");
        bytes.truncate(bytes.len() / 2);
        durable::write(&path, &bytes).expect("it is cut");
        let error = IdentityFolder::open(dir.path()).map(|_| ()).expect_err("half a file");
        assert!(
            matches!(&error, IdentityError::Corrupt { path: named, .. } if *named == path),
            "{file}: {error}"
        );
        assert!(error.to_string().contains("join again"), "{error}");
    }
}

#[test]
fn a_missing_file_is_named_and_no_new_key_is_made_beside_a_certificate() {
    for file in [KEY, CERTIFICATE, BUNDLE] {
        let (dir, ..) = joined();
        let path = dir.path().join(file);
        fs::remove_file(&path).expect("it was there");
        let error = IdentityFolder::open_or_create(dir.path(), &mut rng(3))
            .map(|_| ())
            .expect_err("a part is missing");
        assert!(
            matches!(&error, IdentityError::Corrupt { path: named, .. } if *named == path),
            "{file}: {error}"
        );
        assert!(!path.exists(), "{file}");
    }
}

#[test]
fn a_folder_of_mixed_identities_is_refused() {
    let (one, ..) = joined();
    let other = tempfile::tempdir().expect("a folder");
    IdentityFolder::open_or_create(other.path(), &mut rng(99)).expect("a new folder");
    fs::copy(other.path().join(KEY), one.path().join(KEY)).expect("the key is swapped");
    assert!(matches!(IdentityFolder::open(one.path()), Err(IdentityError::Corrupt { path, .. }) if path.ends_with(CERTIFICATE)));
}

#[test]
fn renewal_is_due_with_a_third_of_the_lifetime_left_or_when_another_root_issues() {
    let (_, root, first) = joined();
    // 30 days from its issue on; that it is backdated is no part of its life.
    let due_s = NOW_S + 20 * DAY_S;
    assert_eq!(first.renew_at_s(), due_s);
    assert!(!first.renew_due(NOW_S));
    assert!(!first.renew_due(due_s - 1));
    assert!(first.renew_due(due_s));
    assert!(!first.expired(first.info().not_after_s));
    assert!(first.expired(first.info().not_after_s + 1));
    assert!(!first.beyond_renewal(first.info().not_after_s + 90 * DAY_S));
    assert!(first.beyond_renewal(first.info().not_after_s + 90 * DAY_S + 1));

    let next = Root::create("next", NOW_S, &mut rng(5));
    let mut rotated = first.clone();
    rotated.set_bundle(bundle(2, &[&next, &root]));
    assert!(rotated.renew_due(NOW_S));
    assert_eq!(rotated.check_issuer(), Ok(()));
    rotated.set_bundle(bundle(3, &[&next]));
    assert_eq!(rotated.check_issuer(), Err(EnrolmentError::OtherRoot));
}

#[test]
fn a_short_lived_certificate_lives_two_thirds_of_its_time_before_it_is_due() {
    let (root, key) = (Root::create("root", NOW_S, &mut rng(1)), SigningKey::generate(&mut rng(2)));
    for (lifetime_s, due_after_s) in [(10, 7), (20, 14), (3600, 2400)] {
        let lifetime = Duration::from_secs(lifetime_s);
        let short = enrolment_for(lifetime, &root, &key, NOW_S);
        assert_eq!(short.renew_at_s() - NOW_S, due_after_s, "{lifetime_s} s");
        assert!(!short.renew_due(NOW_S), "{lifetime_s} s");
    }
}

#[test]
fn attempts_to_renew_are_most_frequent_around_the_end() {
    let (_, _, first) = joined();
    let end_s = first.info().not_after_s;
    let pause_s = |now_s| first.renewal_pause(now_s).as_secs();
    assert_eq!((pause_s(end_s - 8 * DAY_S), pause_s(end_s - 40)), (2 * 24 * 3600, 10));
    assert_eq!((pause_s(end_s - 1), pause_s(end_s), pause_s(end_s + 1)), (1, 1, 1));
    assert_eq!((pause_s(end_s + 40), pause_s(end_s + 8 * DAY_S)), (10, 2 * 24 * 3600));
}

#[test]
fn a_certificate_for_another_role_or_tenant_does_not_fit() {
    let root = Root::create("root", NOW_S, &mut rng(1));
    let key = SigningKey::generate(&mut rng(2));
    for (tenant, role) in [("default", "server"), ("other", "agent")] {
        let certificate = root
            .issue(tenant, role, &key.public(), NOW_S, CERTIFICATE_LIFETIME, &mut rng(7))
            .expect("a certificate");
        let error = Enrolment::new(membership(&key), certificate, bundle(1, &[&root])).expect_err("it names another");
        assert!(matches!(error, EnrolmentError::OtherSubject { .. }), "{error}");
    }
}

#[test]
fn a_crash_before_the_rename_leaves_the_old_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("file");
    durable::write(&path, b"old").expect("it is written");
    // The process dies here: the staged file is neither committed nor removed.
    drop(durable::stage(&path, b"new").expect("it is staged"));
    assert_eq!(fs::read(&path).expect("it is there"), b"old");
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 2);
    durable::write(&path, b"newer").expect("a leftover is no obstacle");
    assert_eq!(fs::read(&path).expect("it is there"), b"newer");
    drop(durable::stage(&path, b"lost").expect("it is staged"));
    durable::remove_leftovers(dir.path()).expect("the leftover is removed");
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
}

#[test]
fn a_write_that_fails_names_the_file_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("none").join("file");
    let error = durable::write(&path, b"x").expect_err("the folder is missing");
    assert!(error.to_string().contains("none"), "{error}");
}
