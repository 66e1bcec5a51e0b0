use aimass_protocol::job::RoundMode;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::{CohortId, JobId};

use super::*;

fn folder() -> (tempfile::TempDir, StateFolder, FolderLock) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let state = StateFolder::new(dir.path().join("agent"));
    let lock = state.open().expect("opens");
    (dir, state, lock)
}

const DELTA: [f32; 3] = [1.5, -0.0, f32::MIN_POSITIVE];

fn record() -> TrainedRecord {
    TrainedRecord {
        job: JobId::from_bytes([1; 16]),
        base: Digest::from_bytes([2; 32]),
        layout_digest: Digest::from_bytes([3; 32]),
        n_weights: 3,
        delta_crc32: crc32_of(&DELTA),
        examples: 10,
        steps: 2,
        train_loss: 0.5,
        tally: None,
        release: None,
        calibration: None,
        evaluation: Some(EvaluationRecord {
            loss: 0.1,
            correct: 3,
            examples: 4,
        }),
        round: 1,
        round_mode: RoundMode::Sync,
        rounding_seed: Digest::from_bytes([4; 32]),
    }
}

const ID: ContributionId = ContributionId::from_bytes([7; 16]);

#[test]
fn a_contribution_comes_back_as_it_was() {
    let (_dir, state, _lock) = folder();
    assert!(!state.is_intact(ID).expect("can be asked"), "nothing there yet");
    state.save_trained(ID, &record(), &DELTA).expect("writes");
    assert!(state.is_intact(ID).expect("can be asked"));
    let found = state.load_trained(ID).expect("reads").expect("is there");
    assert_eq!(found, record());
    let values = state.load_delta(ID, &found).expect("reads");
    assert_eq!(values.map_bits(), DELTA.map_bits());
    assert_eq!(state.contributions().expect("lists"), [ID]);

    let path = state.contribution_dir(ID).join("delta.f32");
    for damage in [&[0; 12][..], &[0; 5]] {
        fs::write(&path, damage).expect("writes");
        assert!(!state.is_intact(ID).expect("can be asked"), "a power failure is noticed");
    }
}

#[test]
fn a_contribution_of_an_earlier_version_has_no_evaluation() {
    let (_dir, state, _lock) = folder();
    state.save_trained(ID, &record(), &DELTA).expect("writes");
    let path = state.contribution_dir(ID).join("trained.json");
    let mut written: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("reads")).expect("JSON");
    let fields = written.as_object_mut().expect("an object");
    assert!(fields.remove("evaluation").is_some() && fields.remove("tally").is_some());
    fs::write(&path, written.to_string()).expect("writes");
    let expected = TrainedRecord {
        evaluation: None,
        ..record()
    };
    assert_eq!(state.load_trained(ID).expect("reads"), Some(expected));
}

trait MapBits {
    fn map_bits(&self) -> Vec<u32>;
}

impl<T: AsRef<[f32]>> MapBits for T {
    fn map_bits(&self) -> Vec<u32> {
        self.as_ref().iter().map(|v| v.to_bits()).collect()
    }
}

/// Killed after each step of `save_trained`: either there is no contribution, or it is whole.
#[test]
fn killed_while_keeping_a_contribution() {
    let (_dir, state, lock) = folder();
    let path = state.contribution_dir(ID);
    durable::create_private_dir(&path).expect("creates");

    fs::write(path.join("delta.f32.tmp"), [0; 5]).expect("writes");
    assert_eq!(state.load_trained(ID).expect("reads"), None);
    fs::write(path.join("delta.f32"), [0; 12]).expect("writes");
    assert_eq!(state.load_trained(ID).expect("reads"), None);
    fs::write(path.join("trained.json.tmp"), b"{\"job\":").expect("writes");
    assert_eq!(state.load_trained(ID).expect("reads"), None);

    drop(lock);
    let _lock = state.open().expect("starts again");
    assert!(!path.join("delta.f32.tmp").exists() && !path.join("trained.json.tmp").exists());
    state.save_trained(ID, &record(), &[1.0, 2.0, 3.0]).expect("writes");
    assert_eq!(state.load_delta(ID, &record()).expect("reads"), [1.0, 2.0, 3.0]);
}

/// Killed while the session is replaced: the old one counts, whatever lies in the temporary file.
#[test]
fn killed_while_persisting_the_session() {
    let (_dir, state, lock) = folder();
    assert_eq!(state.load_session::<u32>().expect("reads"), None);
    state.save_session(&1u32).expect("writes");
    fs::write(state.work_dir().join("session.json.tmp"), b"2").expect("writes");
    assert_eq!(state.load_session::<u32>().expect("reads"), Some(1));
    drop(lock);
    let _lock = state.open().expect("starts again");
    assert_eq!(state.load_session::<u32>().expect("reads"), Some(1));
    state.save_session(&3u32).expect("writes");
    assert_eq!(state.load_session::<u32>().expect("reads"), Some(3));
}

/// Killed between the new bytes and the new record: the old record's digest shows that the bytes are not its own.
#[test]
fn killed_between_encoded_bytes_and_their_record() {
    let (_dir, state, _lock) = folder();
    let digest = |byte| Digest::from_bytes([byte; 32]);
    let manifest = Manifest::new(digest(9), 3, vec![digest(9)]).expect("consistent");
    let first = EncodedRecord {
        cohort: CohortId::from_bytes([5; 16]),
        manifest,
        encoded_crc32: 0,
        clipped: false,
    };
    state.save_encoded(ID, &first, b"old").expect("writes");
    fs::write(state.encoded_path(ID), b"new").expect("writes");
    assert_eq!(state.load_encoded(ID).expect("reads"), Some(first));
}

#[test]
fn a_delta_of_another_length_is_damaged() {
    let (_dir, state, _lock) = folder();
    state.save_trained(ID, &record(), &[1.0, 2.0, 3.0]).expect("writes");
    fs::write(state.contribution_dir(ID).join("delta.f32"), [0; 11]).expect("writes");
    assert!(matches!(state.load_delta(ID, &record()), Err(StateError::Damaged { .. })));
}

#[test]
fn a_file_of_something_else_is_damaged_and_named() {
    let (_dir, state, _lock) = folder();
    fs::write(state.work_dir().join("session.json"), b"{").expect("writes");
    let error = state.load_session::<u32>().expect_err("must not be read");
    assert!(error.to_string().contains("session.json"), "{error}");
}

#[test]
fn two_agents_do_not_share_a_folder() {
    let (_dir, state, lock) = folder();
    assert!(matches!(state.open(), Err(StateError::InUse { .. })));
    drop(lock);
    state.open().expect("free again");
}

#[test]
fn old_models_and_contributions_go() {
    let (_dir, state, _lock) = folder();
    let (old, new) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
    fs::write(state.partial_model_path(old), b"part").expect("writes");
    fs::write(state.partial_model_path(new), b"model").expect("writes");
    let path = state.finish_model(new).expect("moves");
    state.retain_models(&[new]).expect("removes");
    assert!(path.exists() && !state.partial_model_path(old).exists());

    let other = ContributionId::from_bytes([8; 16]);
    state.save_trained(ID, &record(), &[0.0; 3]).expect("writes");
    state.save_trained(other, &record(), &[0.0; 3]).expect("writes");
    state.retain_contributions(&[other]).expect("removes");
    assert_eq!(state.contributions().expect("lists"), [other]);
}

#[cfg(unix)]
#[test]
fn what_it_writes_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, state, _lock) = folder();
    state.save_trained(ID, &record(), &[0.0; 3]).expect("writes");
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    assert_eq!(mode(&state.contribution_dir(ID).join("delta.f32")), 0o600);
    assert_eq!(mode(&state.contribution_dir(ID)), 0o700);
}

#[test]
fn an_error_says_what_to_do() {
    let text = StateError::from(io::Error::from(io::ErrorKind::StorageFull)).to_string();
    assert!(text.contains("free some space"), "{text}");
}

#[test]
fn residues_of_another_cohort_are_not_discarded() {
    let (_dir, state, _lock) = folder();
    let (old, new) = (CohortId::from_bytes([5; 16]), CohortId::from_bytes([6; 16]));
    let digest = Digest::from_bytes([9; 32]);
    let record = EncodedRecord {
        cohort: new,
        manifest: Manifest::new(digest, 3, vec![digest]).expect("consistent"),
        encoded_crc32: 0,
        clipped: false,
    };
    state.save_encoded(ID, &record, b"new").expect("writes");
    state.discard_encoded(ID, old).expect("leaves it");
    assert_eq!(state.load_encoded(ID).expect("reads"), Some(record));
    state.discard_encoded(ID, new).expect("removes it");
    assert_eq!(state.load_encoded(ID).expect("reads"), None);
    assert!(!state.encoded_path(ID).exists());
    state.discard_encoded(ID, new).expect("twice is no harm");
}
