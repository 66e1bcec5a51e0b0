use std::fmt::Write as _;

use aimass_onnx::build::mlp;
use aimass_protocol::descriptor::{MaskSuite, Profile, SecAggParams};
use aimass_protocol::job::AggregationMode;
use aimass_protocol::{TenantId, Timestamp};

use super::*;
use crate::fixture::job_file;
use crate::state::FolderLock;

mod calibrating;
mod counting;
mod disk;
mod held_back;
mod measuring;
mod teacher;

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
        finish_by: None,
        bench: Bench {
            device: aimass_analytics::release::Device {
                class: String::new(),
                memory_bytes: 1 << 30,
                cores: 2,
                gpu: false,
            },
            max_file_bytes: 1 << 30,
        },
    };
    Device {
        _dir: dir,
        _lock: lock,
        state,
        order,
    }
}

fn trained(device: &Device) -> (TrainedRecord, Vec<u8>) {
    let (record, _) = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn).expect("trains");
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
        rotation: None,
        log: None,
        secagg: None,
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
        let record = encode(&device.state, device.order.contribution, &terms, None).expect("encodes");
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
    let (record, _) = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn).expect("runs");
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
    let error = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn).expect_err("refused");
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
    let first = encode(&device.state, id, &terms, None).expect("encodes");
    let path = device.state.encoded_path(id);
    let written = fs::metadata(&path).and_then(|m| m.modified()).expect("is kept");
    assert_eq!(encode(&device.state, id, &terms, None).expect("finds it"), first);
    assert_eq!(fs::metadata(&path).and_then(|m| m.modified()).expect("is kept"), written);

    // Killed between the bytes of another cohort and their record: what is on disk is not what the record vouches for.
    let bytes = fs::read(&path).expect("is kept");
    fs::write(&path, b"of another cohort").expect("writes");
    assert_eq!(encoded(&device.state, id, terms.cohort).expect("reads"), None);
    assert_eq!(encode(&device.state, id, &terms, None).expect("encodes again"), first);
    assert_eq!(fs::read(&path).expect("is kept"), bytes);
}

fn secure(terms: &Descriptor) -> Descriptor {
    Descriptor {
        mode: AggregationMode::Secure,
        floor: 3,
        secagg: Some(SecAggParams {
            suite: MaskSuite::ChaCha20,
            profile: Profile::Standard,
            degree: 2,
            threshold: 3,
            draw: 1,
            roster: Digest::from_bytes([1; 32]),
            graph_seed: Digest::from_bytes([2; 32]),
        }),
        ..terms.clone()
    }
}

fn masks(suite: secret::Suite, signs: [secret::Sign; 2]) -> Masks {
    let mask = |sign, key| secret::SignedMask {
        sign,
        key: secret::MaskKey::from_bytes([key; 32]),
    };
    Masks::new(suite, vec![mask(signs[0], 1), mask(signs[1], 2)])
}

#[test]
fn masked_residues_are_the_plain_ones_under_their_masks() {
    let device = device(1, 0.0);
    let (record, _) = trained(&device);
    let id = device.order.contribution;
    let read = || fs::read(device.state.encoded_path(id)).expect("is kept");
    let plain = descriptor(record.base, 5, 3);
    let under_plain = encode(&device.state, id, &plain, None).expect("encodes");
    let residues = read();
    for suite in [secret::Suite::ChaCha20, secret::Suite::Aes256Ctr] {
        let terms = Descriptor {
            cohort: CohortId::from_bytes([suite as u8 + 10; 16]),
            ..secure(&plain)
        };
        let laid = masks(suite, [secret::Sign::Plus, secret::Sign::Minus]);
        let under_masks = encode(&device.state, id, &terms, Some(&laid)).expect("encodes");
        let mut masked = read();
        assert_eq!(under_masks.manifest.size_bytes(), under_plain.manifest.size_bytes());
        let same = masked.iter().zip(&residues).filter(|(a, b)| a == b).count();
        assert!(
            same < residues.len() / 10 + 10,
            "{same} of {} bytes are as they were",
            residues.len()
        );
        // Damaged on disk, they are made again byte by byte.
        fs::write(device.state.encoded_path(id), b"damaged").expect("writes");
        assert_eq!(encoded(&device.state, id, terms.cohort).expect("reads"), None);
        assert_eq!(encode(&device.state, id, &terms, Some(&laid)).expect("encodes again"), under_masks);
        assert_eq!(read(), masked);

        let codec = FixedCodec::new(FixedParams {
            n_weights: record.n_weights,
            bits: terms.codec.bits,
            clip: terms.codec.clip,
            weight_cap: terms.codec.weight_cap,
            weight_scale: record.round_mode.weight_scale(),
            members: terms.members,
            evaluation: false,
            rotation: terms.rotation.map(|seed| *seed.as_bytes()),
        })
        .expect("a plan");
        let off = masks(suite, [secret::Sign::Minus, secret::Sign::Plus]);
        lay(codec.plan(), &mut masked, &off).expect("fits");
        assert_eq!(masked, residues);
    }
}

#[test]
fn nothing_is_encoded_without_the_masks_of_a_secure_cohort() {
    let device = device(1, 0.0);
    let (record, _) = trained(&device);
    let id = device.order.contribution;
    let plain = descriptor(record.base, 5, 3);
    let laid = masks(secret::Suite::Aes256Ctr, [secret::Sign::Plus; 2]);
    for result in [
        encode(&device.state, id, &secure(&plain), None),
        encode(&device.state, id, &plain, Some(&laid)),
    ] {
        assert!(matches!(result, Err(WorkError::Mode)));
    }
    assert!(!device.state.encoded_path(id).exists(), "not even for a moment");
}

#[test]
fn a_larger_cohort_takes_wider_sums() {
    let device = device(1, 0.0);
    let (record, _) = trained(&device);
    let id = device.order.contribution;
    let narrow = encode(&device.state, id, &descriptor(record.base, 5, 2), None)
        .expect("encodes")
        .manifest
        .size_bytes();
    let wide = encode(&device.state, id, &descriptor(record.base, 6, 2000), None)
        .expect("encodes")
        .manifest
        .size_bytes();
    assert!(wide > narrow, "{wide} {narrow}");
    assert_eq!(encoded(&device.state, id, CohortId::from_bytes([5; 16])).expect("reads"), None);
}

#[test]
fn dropped_training_keeps_nothing() {
    let device = device(1, 0.0);
    let result = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::Drop);
    assert!(!device.state.checkpoint_path().exists());
    assert!(matches!(result, Err(WorkError::Train(TrainError::Stopped { .. }))));
    assert_eq!(device.state.load_trained(device.order.contribution).expect("reads"), None);
}

#[test]
fn a_damaged_base_model_is_noticed() {
    let device = device(1, 0.0);
    fs::write(device.state.model_path(device.order.base), b"damaged").expect("writes");
    let result = train(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn);
    assert!(matches!(result, Err(WorkError::Base { .. })));
}

#[test]
fn a_contribution_that_is_gone_can_not_be_encoded() {
    let device = device(1, 0.0);
    let result = encode(
        &device.state,
        ContributionId::from_bytes([9; 16]),
        &descriptor(device.order.base, 5, 3),
        None,
    );
    assert!(matches!(result, Err(WorkError::Missing { .. })));
}

/// As [`device`], with 3 passes of 4 steps and an optimizer with moments.
fn longer() -> Device {
    let text = crate::fixture::JOB_FILE
        .replace("optimizer = \"sgd\"", "optimizer = \"adam\"")
        .replace("epochs = 1", "epochs = 3");
    let mut device = device(1, 0.0);
    device.order.file = JobFile::parse(&text).expect("a good job file");
    device
}

/// Trains until `wish` ends it.
fn train_with(device: &Device, wish: &mut dyn FnMut(Progress) -> Wish) -> Result<TrainedRecord, WorkError> {
    train(&device.state, &device.order, &BackendConfig::cpu(), wish).map(|(record, _)| record)
}

fn pause_after(device: &Device, last: u64) {
    let result = train_with(device, &mut |p| if p.step < last { Wish::GoOn } else { Wish::Pause });
    assert!(
        matches!(result, Err(WorkError::Train(TrainError::Stopped { step })) if step == last),
        "{result:?}"
    );
    assert!(device.state.checkpoint_path().exists());
}

#[test]
fn training_that_was_interrupted_ends_with_the_same_bytes() {
    let whole = trained(&longer());
    assert_eq!(whole.0.steps, 12);
    for interrupted in [&[1][..], &[4], &[6], &[11], &[2, 5, 8]] {
        let device = longer();
        for last in interrupted {
            pause_after(&device, *last);
        }
        let mut first = None;
        let record = train_with(&device, &mut |p| {
            first.get_or_insert(p.step);
            Wish::GoOn
        });
        assert_eq!(first, interrupted.last().map(|last| last + 1), "it went on, not anew");
        let record = record.expect("trains");
        let delta = device.state.load_delta(device.order.contribution, &record).expect("is kept");
        let bytes: Vec<u8> = delta.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!((record, bytes), whole, "after {interrupted:?}");
    }
}

#[test]
fn a_killed_training_goes_on_from_its_last_checkpoint() {
    let whole = trained(&longer());
    let device = longer();
    pause_after(&device, 5);
    // Killed two steps later: nothing is written on the way out.
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        train_with(&device, &mut |p| if p.step < 7 { Wish::GoOn } else { panic!("killed on purpose") })
    }));
    assert!(killed.is_err());
    let mut steps = Vec::new();
    train_with(&device, &mut |p| {
        steps.push(p.step);
        Wish::GoOn
    })
    .expect("trains");
    assert_eq!(steps, (6..=12).collect::<Vec<_>>());
    assert_eq!(trained(&longer()), whole);
}

#[test]
fn a_checkpoint_that_is_damaged_or_of_other_work_is_dropped_and_training_starts_anew() {
    let whole = trained(&longer());
    type Spoil = fn(&mut Device, Vec<u8>);
    let spoils: [(&str, Spoil); 4] = [
        ("a byte", |device, mut bytes| {
            let last = bytes.len() - 9;
            bytes[last] ^= 1;
            fs::write(device.state.checkpoint_path(), bytes).expect("writes");
        }),
        ("its end", |device, bytes| {
            fs::write(device.state.checkpoint_path(), &bytes[..bytes.len() / 2]).expect("writes");
        }),
        ("all of it", |device, _| {
            fs::write(device.state.checkpoint_path(), b"").expect("writes");
        }),
        ("the job", |device, _| device.order.job = JobId::from_bytes([9; 16])),
    ];
    for (what, spoil) in spoils {
        let mut device = longer();
        pause_after(&device, 5);
        let bytes = fs::read(device.state.checkpoint_path()).expect("is kept");
        spoil(&mut device, bytes);
        let mut first = None;
        train_with(&device, &mut |p| {
            first.get_or_insert(p.step);
            Wish::GoOn
        })
        .expect("trains");
        assert_eq!(first, Some(1), "{what}");
        assert!(!device.state.checkpoint_path().exists(), "{what}");
        device.order.job = JobId::from_bytes([1; 16]);
        assert_eq!(trained(&device), whole, "{what}");
    }
}

#[test]
fn partial_work_counts_with_what_was_really_done() {
    // The time is over before it begins: one step all the same.
    let mut device = longer();
    device.order.finish_by = Some(Timestamp::from_ms(1));
    let (record, delta) = trained(&device);
    assert_eq!((record.steps, record.examples), (1, 10));
    assert!(record.train_loss > 0.0);
    // A training that is taken up again after its time makes one step more. Rows that were seen before count once.
    for (before, steps, examples) in [(2, 3, 30), (3, 4, 40), (6, 7, 40)] {
        let mut device = longer();
        pause_after(&device, before);
        device.order.finish_by = Some(Timestamp::from_ms(1));
        let (record, more) = trained(&device);
        assert_eq!((record.steps, record.examples), (steps, examples));
        assert_ne!(more, delta);
    }
    let mut device = longer();
    device.order.finish_by = Some(crate::platform::now().after(Duration::from_secs(3600)));
    assert_eq!(trained(&device), trained(&longer()), "time enough");
}

#[test]
fn an_update_with_bad_values_is_refused_or_clipped_never_sent_as_it_is() {
    let device = device(1, 0.0);
    let (record, _) = trained(&device);
    let id = device.order.contribution;
    let mut cohort = 0;
    let mut encode_delta = |value: f32| {
        let mut delta = vec![0.01; record.n_weights];
        delta[3] = value;
        let changed = TrainedRecord {
            delta_crc32: state::crc32_of(&delta),
            ..record.clone()
        };
        device.state.save_trained(id, &changed, &delta).expect("is kept");
        cohort += 1;
        encode(&device.state, id, &descriptor(record.base, cohort, 3), None)
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = encode_delta(value).expect_err("refused").to_string();
        assert_eq!(
            error, "the update holds a value that is not finite at index 3; training diverged: lower the learning rate",
            "{value}"
        );
    }
    assert!(!encode_delta(1e-40).expect("a subnormal number is a small one").clipped);
    // The clip is 10: a million times too long, and as long as can be.
    for value in [1e7, f32::MAX] {
        assert!(encode_delta(value).expect("is scaled down").clipped, "{value}");
    }
}

#[test]
fn a_stale_contribution_weighs_less_and_one_that_the_cohort_does_not_take_is_refused() {
    let text = crate::fixture::JOB_FILE
        .replace("max = 5", "max = 5\nmode = \"async\"")
        .replace("name = \"fedavg\"", "name = \"fedbuff\"");
    let mut device = device(1, 0.0);
    device.order.file = JobFile::parse(&text).expect("a good job file");
    let (record, _) = trained(&device);
    let id = device.order.contribution;
    let newer = |n: u8| Digest::from_bytes([n; 32]);
    let mut weights = Vec::new();
    for (cohort, bases) in [(1, vec![record.base]), (2, vec![newer(3), newer(2), newer(1), record.base])] {
        let terms = Descriptor {
            bases,
            ..descriptor(record.base, cohort, 1)
        };
        encode(&device.state, id, &terms, None).expect("encodes");
        let packed = fs::read(device.state.encoded_path(id)).expect("is kept");
        let codec = FixedCodec::new(FixedParams {
            n_weights: record.n_weights,
            bits: terms.codec.bits,
            clip: terms.codec.clip,
            weight_cap: terms.codec.weight_cap,
            weight_scale: 1024,
            members: 1,
            evaluation: false,
            rotation: None,
        });
        let codec = codec.expect("a plan");
        let mut sum = aimass_compression::Accumulator::new(codec.plan());
        sum.add(&packed).expect("fits the plan");
        weights.push(sum.decode(&codec).expect("not empty").weight);
    }
    assert_eq!(weights, [40, 20], "40 examples, and three steps behind: 1 / sqrt(1 + 3)");
    let other = Descriptor {
        bases: vec![newer(1)],
        ..descriptor(record.base, 3, 1)
    };
    assert!(matches!(encode(&device.state, id, &other, None), Err(WorkError::OtherBase { .. })));
}
