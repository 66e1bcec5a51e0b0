//! Training with a teacher.

use aimass_protocol::job::{AttachedFile, DistilSection, Pinned};

use super::*;

/// A device whose job has a teacher, which lies in its folder.
fn taught_device(epochs: u32) -> (Device, Digest) {
    let mut device = device(1, 0.0);
    let teacher = mlp(&[2, 9, 2], 5);
    let digest = Digest::from_bytes(sha256(teacher.as_bytes()));
    fs::write(device.state.model_path(digest), teacher.as_bytes()).expect("writes");
    device.order.file.train.epochs = epochs;
    device.order.file.train.distil = Some(DistilSection {
        teacher: AttachedFile {
            path: "teacher.onnx".to_owned(),
            pinned: Some(Pinned {
                digest,
                size_bytes: teacher.as_bytes().len() as u64,
            }),
        },
        temperature: 2.0,
        alpha: 0.5,
    });
    (device, digest)
}

fn refused(device: &Device) -> WorkError {
    train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn).expect_err("refused")
}

#[test]
fn should_go_on_with_a_teacher_after_an_interruption_to_the_same_bytes() {
    for epochs in [1, 4] {
        let (whole, _) = taught_device(epochs);
        let expected = trained(&whole);
        let (cut, _) = taught_device(epochs);
        let paused = train(&cut.state, &cut.order, &BackendConfig::cpu(), &mut |progress| {
            if progress.step == 2 { Wish::Pause } else { Wish::GoOn }
        });
        assert!(
            matches!(paused, Err(WorkError::Train(TrainError::Stopped { step: 2 }))),
            "{paused:?}"
        );
        assert_eq!(trained(&cut), expected);
    }
}

#[test]
fn should_be_measured_by_the_task_and_not_by_the_teacher() {
    let (mut taught, _) = taught_device(1);
    let mut alone = device(1, 0.0);
    for device in [&mut taught, &mut alone] {
        device.order.file.evaluate = Some(aimass_protocol::job::EvaluateSection {
            data: None,
            on_devices: Some(0.25),
            target_accuracy: None,
        });
    }
    let (taught, alone) = (trained(&taught), trained(&alone));
    assert_eq!(taught.0.evaluation, alone.0.evaluation);
    assert_ne!(taught.1, alone.1);
}

#[test]
fn should_notice_a_teacher_that_is_gone_damaged_or_of_another_length() {
    let (device, digest) = taught_device(1);
    let path = device.state.model_path(digest);
    let whole = fs::read(&path).expect("there");
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    for bytes in [damaged, whole[..50].to_vec()] {
        fs::write(&path, bytes).expect("writes");
        assert!(matches!(refused(&device), WorkError::Teacher { teacher } if teacher == digest));
        assert!(!path.exists(), "so that it is fetched anew");
        assert!(matches!(refused(&device), WorkError::Teacher { .. }));
    }
    fs::write(&path, whole).expect("writes");
    trained(&device);
}

#[test]
fn should_refuse_a_teacher_that_is_too_large_unsigned_or_of_other_outputs() {
    let (mut device, _) = taught_device(1);
    device.order.bench.max_file_bytes = 10;
    assert!(refused(&device).to_string().contains("max_mib"));
    let (mut device, _) = taught_device(1);
    let distil = device.order.file.train.distil.as_mut().expect("there");
    distil.teacher.pinned = None;
    assert!(matches!(refused(&device), WorkError::TeacherUnpinned));
    let other = mlp(&[2, 9, 3], 5);
    let digest = Digest::from_bytes(sha256(other.as_bytes()));
    fs::write(device.state.model_path(digest), other.as_bytes()).expect("writes");
    let distil = device.order.file.train.distil.as_mut().expect("there");
    distil.teacher.pinned = Some(Pinned {
        digest,
        size_bytes: other.as_bytes().len() as u64,
    });
    let error = refused(&device).to_string();
    assert!(error.contains("the teacher's output") && error.contains('3'), "{error}");
    device.order.file.train.epochs = 0;
    train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn).expect("a dry run learns from nobody");
}
