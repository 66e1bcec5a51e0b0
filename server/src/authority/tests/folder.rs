//! The folder: first start, lock, permissions, crashes, damage.

use std::path::PathBuf;

use aimass_net::identity::durable;

use super::super::store::StoreError;
use super::*;

fn only_file(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir).expect("the folder");
    let path = entries.next().expect("a file").expect("a file").path();
    assert!(entries.next().is_none(), "one file");
    path
}

#[test]
fn the_first_start_makes_a_root_and_the_next_ones_keep_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, created) = State::open(dir.path(), LIFETIMES, START).expect("a new folder");
    let spki = state.issuing_spki();
    assert!(created);
    drop(state);
    let (state, created) = State::open(dir.path(), LIFETIMES, START).expect("the same folder");
    assert!(!created);
    assert_eq!(state.issuing_spki(), spki);
    assert_eq!(state.current_bundle().version(), 1);
}

#[cfg(unix)]
#[test]
fn private_files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, mut state) = new_folder();
    joined(&mut state, Role::Agent, &key(1));
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&only_file(&dir.path().join("tokens"))), 0o600);
    assert_eq!(mode(&dir.path().join("certificates.jsonl")), 0o600);
    let pem = dir.path().join("roots").join(state.issuing_spki().to_hex()).with_extension("pem");
    assert_eq!(mode(&pem), 0o600);
    drop(state);
    fs::set_permissions(&pem, fs::Permissions::from_mode(0o644)).expect("the mode is set");
    let error = State::open(dir.path(), LIFETIMES, START)
        .map(|_| ())
        .expect_err("others can read the root's key");
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn one_process_a_folder() {
    let (dir, state) = new_folder();
    let error = State::open(dir.path(), LIFETIMES, START)
        .map(|_| ())
        .expect_err("the folder is taken");
    assert!(matches!(error, AuthorityError::Store(StoreError::Locked { .. })), "{error}");
    drop(state);
    open(dir.path());
}

#[test]
fn a_crash_during_the_first_start_is_made_good_and_a_lost_bundle_is_not() {
    let (dir, mut state) = new_folder();
    let spki = state.issuing_spki();
    let bundle = only_file(&dir.path().join("bundles"));
    fs::remove_file(&bundle).expect("it was there");
    // As after a crash between the root and its bundle.
    drop(state);
    state = open(dir.path());
    assert_eq!(state.issuing_spki(), spki);

    joined(&mut state, Role::Agent, &key(1));
    drop(state);
    fs::remove_file(&bundle).expect("it was there");
    let error = State::open(dir.path(), LIFETIMES, START)
        .map(|_| ())
        .expect_err("the bundle of a used folder is lost");
    assert!(matches!(error, AuthorityError::Store(StoreError::Corrupt { .. })), "{error}");
}

#[test]
fn a_crash_in_the_middle_of_a_write_leaves_what_was_acknowledged() {
    let (dir, mut state) = new_folder();
    let token = token(&mut state, Role::Agent);
    joined(&mut state, Role::Agent, &key(5));
    drop(state);

    // Between the temporary file and its rename, and in the middle of a line of the log.
    let record = dir.path().join("tokens").join(format!(
        "{}.json",
        Digest::from_bytes(aimass_crypto::hash::sha256(token.secret.as_bytes())).to_hex()
    ));
    drop(durable::stage(&record, b"{ half a record").expect("it is staged"));
    let log = dir.path().join("certificates.jsonl");
    let whole = fs::read(&log).expect("the log");
    fs::write(&log, [&whole[..], &whole[..whole.len() / 2]].concat()).expect("a torn line");

    let mut state = open(dir.path());
    assert_eq!(state.issued, 1);
    assert_eq!(fs::read(&log).expect("the log"), whole);
    assert_eq!(fs::read_dir(dir.path().join("tokens")).expect("the folder").count(), 2);
    enrol(&mut state, START, &token, &key(1)).expect("the token was not used");
    drop(state);
    assert_eq!(open(dir.path()).issued, 2);
}

#[test]
fn what_can_not_be_stored_is_not_acknowledged() {
    let (dir, mut state) = new_folder();
    let token = token(&mut state, Role::Agent);
    let (tokens, aside) = (dir.path().join("tokens"), dir.path().join("aside"));
    fs::rename(&tokens, &aside).expect("the disk fails");
    assert_eq!(code(enrol(&mut state, START, &token, &key(1))), ErrorCode::Unavailable);
    assert!(state.create_token(START, "127.0.0.1:4434", new_token(Role::Agent)).is_err());
    fs::rename(&aside, &tokens).expect("the disk is back");
    enrol(&mut state, START, &token, &key(2)).expect("the first one was told that it failed");
}

#[test]
fn a_damaged_file_is_named() {
    for part in ["tokens", "bundles", "roots"] {
        let (dir, mut state) = new_folder();
        token(&mut state, Role::Agent);
        drop(state);
        let mut paths: Vec<_> = fs::read_dir(dir.path().join(part))
            .expect("the folder")
            .map(|e| e.expect("a file").path())
            .collect();
        paths.sort();
        fs::write(&paths[0], b"damaged").expect("it is overwritten");
        let error = State::open(dir.path(), LIFETIMES, START)
            .map(|_| ())
            .expect_err("it is damaged")
            .to_string();
        assert!(error.contains(&paths[0].display().to_string()), "{error}");
    }
}

#[test]
fn no_file_holds_a_secret_of_a_token() {
    let (dir, mut state) = new_folder();
    let token = token(&mut state, Role::Agent);
    enrol(&mut state, START, &token, &key(1)).expect("it joins");
    let secret = token.secret.as_bytes();
    let text = hex::encode(secret);
    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("the file");
            let shows = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
            assert!(!shows(secret) && !shows(text.as_bytes()), "{}", path.display());
        }
    }
}
