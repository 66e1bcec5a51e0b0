use std::fmt::Write as _;

use aimass_onnx::build::mlp;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::{TenantId, Timestamp};

use super::*;
use crate::fixture::job_file;
use crate::state::FolderLock;

struct Device {
    _dir: tempfile::TempDir,
    _lock: FolderLock,
    state: StateFolder,
    order: TrainOrder,
}

/// A device with a base model and rows of two features; `shift` makes its data another's.
fn device(contribution: u8, shift: f32) -> Device {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let state = StateFolder::new(dir.path().join("agent"));
    let lock = state.open().expect("opens");
    let model = mlp(&[2, 4, 2], 1);
    let base = Digest::from_bytes(sha256(model.as_bytes()));
    fs::write(state.model_path(base), model.as_bytes()).expect("writes");
    let mut rows = "x,y,label\n".to_owned();
    for i in 0..40 {
        let x = (i as f32 * 0.7).sin() + shift;
        writeln!(rows, "{x},{},{}", x * 0.5 - 0.1, i32::from(x > 0.0)).expect("writes to a string");
    }
    let data = dir.path().join("rows.csv");
    fs::write(&data, rows).expect("writes");
    let order = TrainOrder {
        job: JobId::from_bytes([1; 16]),
        file: job_file(),
        round: 1,
        base,
        data,
        contribution: ContributionId::from_bytes([contribution; 16]),
    };
    Device {
        _dir: dir,
        _lock: lock,
        state,
        order,
    }
}

fn trained(device: &Device) -> (TrainedRecord, Vec<u8>) {
    let (record, _) = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("trains");
    let delta = device.state.load_delta(device.order.contribution, &record).expect("is kept");
    assert!(delta.iter().any(|v| *v != 0.0), "training changed nothing");
    (record, delta.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn descriptor(base: Digest, cohort: u8, members: u32) -> Descriptor {
    Descriptor {
        version: 1,
        tenant: TenantId::default(),
        job: JobId::from_bytes([1; 16]),
        round: 1,
        cohort: CohortId::from_bytes([cohort; 16]),
        bases: vec![base],
        layout_digest: Digest::from_bytes([0; 32]),
        codec: job_file().update,
        mode: AggregationMode::Plain,
        members,
        floor: 2,
        deadline: Timestamp::from_ms(0),
    }
}

#[test]
fn the_same_data_gives_the_same_update_whatever_the_contribution_is_called() {
    let (first, second) = (device(1, 0.0), device(2, 0.0));
    let (a, b) = (trained(&first), trained(&second));
    assert_eq!(a, b);
    // The cohort's name is drawn at random: the residues must not depend on it.
    let encoded = |device: &Device, cohort| {
        let terms = descriptor(device.order.base, cohort, 3);
        let record = encode(&device.state, device.order.contribution, &terms).expect("encodes");
        assert_eq!(record.cohort, terms.cohort);
        fs::read(device.state.encoded_path(device.order.contribution)).expect("is kept")
    };
    assert_eq!(encoded(&first, 5), encoded(&second, 6));
}

#[test]
fn other_data_or_another_job_seed_gives_another_update() {
    let (record, delta) = trained(&device(1, 0.0));
    let (other_record, other_delta) = trained(&device(1, 0.2));
    assert!(delta != other_delta && record.rounding_seed != other_record.rounding_seed);
    let mut reseeded = device(1, 0.0);
    reseeded.order.file.job.seed += 1;
    assert_ne!(trained(&reseeded).1, delta);
}

#[test]
fn a_dry_run_changes_nothing_and_still_contributes() {
    let mut device = device(1, 0.0);
    device.order.file.train.epochs = 0;
    let (record, _) = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("runs");
    assert_eq!((record.steps, record.examples), (0, 40));
    let delta = device.state.load_delta(device.order.contribution, &record).expect("is kept");
    assert!(delta.iter().all(|v| *v == 0.0));
}

#[test]
fn a_job_trains_with_the_optimizer_and_loss_that_it_names() {
    let plain = trained(&device(1, 0.0)).1;
    for (keys, loss) in [
        ("optimizer = \"adam\"", "label_smoothing = 0.1"),
        ("optimizer = \"momentum\"", "class_weights = [1.0, 4.0]"),
    ] {
        let text = crate::fixture::JOB_FILE.replace("optimizer = \"sgd\"", &format!("{keys}\n{loss}"));
        let mut device = device(1, 0.0);
        device.order.file = JobFile::parse(&text).expect("a good job file");
        assert_ne!(trained(&device).1, plain, "{keys}");
    }
}

#[test]
fn a_base_without_the_adapters_that_the_job_trains_is_refused() {
    let text = crate::fixture::JOB_FILE.replace("lr = 0.1", "lr = 0.1\nlora = { rank = 2 }");
    let mut device = device(1, 0.0);
    device.order.file = JobFile::parse(&text).expect("a good job file");
    let error = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| {
        ControlFlow::Continue(())
    })
    .expect_err("refused");
    assert!(
        error
            .to_string()
            .starts_with("the job's train.lora: the model has no low-rank adapters"),
        "{error}"
    );
    assert!(device.state.load_trained(device.order.contribution).expect("reads").is_none());
}

#[test]
fn residues_for_a_cohort_are_made_once() {
    let device = device(1, 0.0);
    let (record, _) = trained(&device);
    let id = device.order.contribution;
    let terms = descriptor(record.base, 5, 3);
    let first = encode(&device.state, id, &terms).expect("encodes");
    let path = device.state.encoded_path(id);
    let written = fs::metadata(&path).and_then(|m| m.modified()).expect("is kept");
    assert_eq!(encode(&device.state, id, &terms).expect("finds it"), first);
    assert_eq!(fs::metadata(&path).and_then(|m| m.modified()).expect("is kept"), written);

    // Killed between the bytes of another cohort and their record: what is on disk is not what the record vouches for.
    let bytes = fs::read(&path).expect("is kept");
    fs::write(&path, b"of another cohort").expect("writes");
    assert_eq!(encoded(&device.state, id, terms.cohort).expect("reads"), None);
    assert_eq!(encode(&device.state, id, &terms).expect("encodes again"), first);
    assert_eq!(fs::read(&path).expect("is kept"), bytes);
}

#[test]
fn a_larger_cohort_takes_wider_sums() {
    let device = device(1, 0.0);
    let (record, _) = trained(&device);
    let id = device.order.contribution;
    let narrow = encode(&device.state, id, &descriptor(record.base, 5, 2))
        .expect("encodes")
        .manifest
        .size_bytes();
    let wide = encode(&device.state, id, &descriptor(record.base, 6, 2000))
        .expect("encodes")
        .manifest
        .size_bytes();
    assert!(wide > narrow, "{wide} {narrow}");
    assert_eq!(encoded(&device.state, id, CohortId::from_bytes([5; 16])).expect("reads"), None);
}

#[test]
fn stopped_training_keeps_nothing() {
    let device = device(1, 0.0);
    let result = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| ControlFlow::Break(()));
    assert!(matches!(result, Err(WorkError::Train(TrainError::Stopped { .. }))));
    assert_eq!(device.state.load_trained(device.order.contribution).expect("reads"), None);
}

#[test]
fn a_damaged_base_model_is_noticed() {
    let device = device(1, 0.0);
    fs::write(device.state.model_path(device.order.base), b"damaged").expect("writes");
    let result = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(WorkError::Base { .. })));
}

#[test]
fn a_contribution_that_is_gone_can_not_be_encoded() {
    let device = device(1, 0.0);
    let result = encode(
        &device.state,
        ContributionId::from_bytes([9; 16]),
        &descriptor(device.order.base, 5, 3),
    );
    assert!(matches!(result, Err(WorkError::Missing { .. })));
}
