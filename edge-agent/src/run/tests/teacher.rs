//! A job's teacher on its way to the device.

use super::*;

const SIZES: [usize; 3] = [2, 9, 2];

/// A device whose job has this teacher, of which `sent` arrives.
fn taught_by(teacher: &[u8], size_bytes: usize, sent: Vec<u8>) -> Device {
    let digest = Digest::from_bytes(sha256(teacher));
    let section = format!(
        "[train.distil]\nteacher = \"teacher.onnx\"\ndigest = \"{}\"\nsize_bytes = {size_bytes}\n",
        digest.to_hex()
    );
    let device = device_for(&format!("{JOB_FILE}{section}"), None, true, Faults::default());
    device.script.others.lock().expect("not poisoned").insert(digest, sent);
    device
}

fn teacher() -> Vec<u8> {
    mlp(&SIZES, 5).as_bytes().to_vec()
}

#[test]
fn should_fetch_the_teacher_keep_it_and_learn_from_it() {
    let device = taught_by(&teacher(), teacher().len(), teacher());
    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    let digest = Digest::from_bytes(sha256(&teacher()));
    assert_eq!(device.script.seen().others_fetched, [digest]);
    assert_eq!(
        std::fs::read(device.options.state.model_path(digest)).expect("kept for the next round"),
        teacher()
    );
    let taught = device.script.seen().update.clone();
    let alone = device_for(JOB_FILE, None, true, Faults::default());
    assert_eq!(run_to_end(&alone).expect("runs"), ExitKind::Ok);
    assert_ne!(alone.script.seen().update, taught, "it was learnt from");
}

#[test]
fn should_not_learn_from_another_file_than_the_one_that_was_signed() {
    let other = mlp(&SIZES, 6).as_bytes().to_vec();
    assert_eq!(other.len(), teacher().len(), "only the digest tells them apart");
    let device = taught_by(&teacher(), teacher().len(), other);
    run_until(&device, |seen| seen.others_fetched.len() >= 2);
    let seen = device.script.seen();
    assert!(seen.offered.is_empty() && seen.uploads.is_empty(), "{seen:?}");
}

#[test]
fn should_not_take_a_file_of_another_length_than_the_one_that_was_signed() {
    let device = taught_by(&teacher(), teacher().len(), [teacher(), vec![0]].concat());
    run_until(&device, |seen| !seen.others_fetched.is_empty());
    let seen = device.script.seen();
    assert!(seen.offered.is_empty(), "{seen:?}");
    assert!(!device.options.state.model_path(Digest::from_bytes(sha256(&teacher()))).exists());
}

#[test]
fn should_decline_a_job_whose_teacher_is_too_large_for_this_device_before_anything_is_fetched() {
    let device = taught_by(&teacher(), (1 << 30) - 1, teacher());
    let mut options = device.options.clone();
    options.models.max_mib = 1;
    let small = Device { options, ..device };
    run_until(&small, |seen| seen.check_ins.iter().any(|check_in| !check_in.declined.is_empty()));
    let seen = small.script.seen();
    assert!(seen.fetched_from.is_empty() && seen.others_fetched.is_empty(), "{seen:?}");
}
