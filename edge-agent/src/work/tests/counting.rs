//! Jobs that count.

use aimass_analytics::{Report, Shape};
use aimass_compression::Accumulator;

use super::*;

const JOB: &str = r#"
[job]
name = "counted"
kind = "analytics"
purpose = "look at the rows"

[data]
contract = "default"

[[analyze.columns]]
names = ["x", "y"]
low = -1
high = 1
bins = 8

[[analyze.columns]]
names = ["label"]
classes = 2

[round]
min = 3
"#;

/// A device whose job counts its 40 rows; of the base only its digest matters.
fn counting(contribution: u8, shift: f32, job: &str) -> Device {
    let mut device = device(contribution, shift);
    device.order.file = JobFile::parse(job).expect("a good job file");
    device.order.base = nobody(&device);
    device
}

/// What the first round of the device's job stands on.
fn nobody(device: &Device) -> Digest {
    let file = &device.order.file;
    let analyze = file.analyze.as_ref().expect("an analytics job");
    Digest::from_bytes(sha256(&Report::empty(analyze, file.aggregation.mode).to_bytes()))
}

fn run(device: &Device, wish: &mut dyn FnMut(Progress) -> Wish) -> Result<TrainedRecord, WorkError> {
    work_on(&device.state, &device.order, &BackendConfig::cpu(), wish).map(|(record, _)| record)
}

fn counted(device: &Device) -> TrainedRecord {
    run(device, &mut |_| Wish::GoOn).expect("counts")
}

fn terms(device: &Device, members: u32) -> Descriptor {
    Descriptor {
        codec: device.order.file.update,
        ..descriptor(device.order.base, 5, members)
    }
}

/// The report of what lies packed on these devices.
fn report(devices: &[Device]) -> Report {
    let analyze = devices[0].order.file.analyze.clone().expect("an analytics job");
    let codec = Shape::of(&analyze).codec(devices.len() as u32).expect("a plan");
    let mut sum = Accumulator::new(codec.plan());
    for device in devices {
        encode(&device.state, device.order.contribution, &terms(device, devices.len() as u32), None).expect("encodes");
        let packed = fs::read(device.state.encoded_path(device.order.contribution)).expect("is kept");
        sum.add(&packed).expect("fits the plan");
    }
    Report::of_sum(&analyze, AggregationMode::Plain, 1, &sum).expect("honest numbers")
}

#[test]
fn what_devices_count_is_what_their_rows_hold_together() {
    let devices = [counting(1, 0.0, JOB), counting(2, 0.5, JOB), counting(3, -0.5, JOB)];
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for device in &devices {
        let record = counted(device);
        assert_eq!((record.examples, record.steps), (40, 0));
        assert!(device.state.is_intact(device.order.contribution).expect("can be asked"));
        let text = fs::read_to_string(&device.order.data).expect("reads");
        // Data is read as float32.
        let row = |line: &str| line.split(',').map(|v| f64::from(v.parse::<f32>().expect("a number"))).collect();
        rows.extend(text.lines().skip(1).map(row));
    }
    let found = report(&devices);
    assert_eq!((found.agents, found.rows, found.capped_agents), (3, 120, 0));
    for (column, feature) in found.features[..2].iter().enumerate() {
        let range = feature.range.as_ref().expect("numbers");
        let values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
        let cut = || values.iter().map(|v| v.clamp(-1.0, 1.0));
        let mean = cut().sum::<f64>() / 120.0;
        let sd = (cut().map(|v| (v - mean).powi(2)).sum::<f64>() / 120.0).sqrt();
        assert!((range.mean.expect("values") - mean).abs() <= range.error, "{feature:?}");
        assert!((range.sd.expect("values") - sd).abs() <= range.error, "{feature:?}");
        let beyond = values.iter().filter(|v| v.abs() > 1.0).count() as u64;
        assert_eq!(range.below + range.above, beyond, "{feature:?}");
        assert!(column == 1 || beyond > 0, "some are beyond the range, or the test says less");
    }
    let labels = found.features[2].classes.as_ref().expect("classes");
    let ones = rows.iter().filter(|row| row[2] == 1.0).count() as u64;
    assert_eq!((&labels.counts[..], labels.other), (&[120 - ones, ones][..], 0));
}

#[test]
fn of_too_many_rows_some_are_counted_and_that_is_said() {
    let capped = JOB.replace(
        "[[analyze.columns]]\nnames = [\"x\"",
        "[analyze]\nmax_rows = 10\n[[analyze.columns]]\nnames = [\"x\"",
    );
    let devices = [counting(1, 0.0, &capped), counting(2, 0.0, &capped)];
    devices.iter().for_each(|device| assert_eq!(counted(device).examples, 10));
    let found = report(&devices);
    assert_eq!((found.rows, found.capped_agents, found.max_rows), (20, 2, 10));
}

#[test]
fn empty_fields_are_counted_as_missing() {
    let device = counting(1, 0.0, JOB);
    fs::write(&device.order.data, "x,y,label\n,0.5,1\nnan,,0\n0.25,inf,\n").expect("writes");
    assert_eq!(counted(&device).examples, 3);
    let found = report(&[device]);
    let missing: Vec<_> = found.features.iter().map(|feature| (feature.missing, feature.count)).collect();
    assert_eq!(missing, [(2, 1), (2, 1), (1, 2)]);
}

#[test]
fn data_that_lacks_what_is_counted_is_refused_with_what_it_has() {
    let refused = |job: &str| {
        let device = counting(1, 0.0, job);
        let error = run(&device, &mut |_| Wish::GoOn).expect_err("refused").to_string();
        assert!(device.state.load_trained(device.order.contribution).expect("reads").is_none());
        error
    };
    let text = refused(&JOB.replace("\"y\"", "\"height\""));
    assert!(text.contains("there is no column `height`; the file has x, y, label"), "{text}");
    let text = refused(&JOB.replace("names = [\"label\"]", "names = [\"label\"]\nfeatures = 3"));
    assert!(text.contains("`label` holds 1 values a row, and the job counts 3"), "{text}");
}

#[test]
fn nothing_is_counted_more_often_than_the_owner_signed() {
    let asked = |rounds: u32, round: u32, base: Option<Digest>| {
        let mut device = counting(1, 0.0, &JOB.replace("min = 3", &format!("min = 3\nrounds = {rounds}")));
        (device.order.round, device.order.base) = (round, base.unwrap_or(device.order.base));
        run(&device, &mut |_| Wish::GoOn)
    };
    let other = Digest::from_bytes([3; 32]);
    assert!(asked(1, 1, None).is_ok());
    assert!(matches!(asked(1, 1, Some(other)), Err(WorkError::Beginning { base }) if base == other));
    for (rounds, round) in [(1, 0), (1, 2), (3, 4), (3, u32::MAX)] {
        assert!(
            matches!(asked(rounds, round, None), Err(WorkError::Turn { .. })),
            "round {round} of {rounds}"
        );
    }
    assert!(
        asked(3, 2, Some(other)).is_ok(),
        "later rounds stand on reports that nobody can know before"
    );
}

#[test]
fn counting_that_is_stopped_leaves_nothing_and_starts_anew() {
    // More than a batch.
    let device = counting(1, 0.0, JOB);
    let mut rows = "x,y,label\n".to_owned();
    for i in 0..50_000 {
        writeln!(rows, "0.{i},0,1").expect("writes to a string");
    }
    fs::write(&device.order.data, rows).expect("writes");
    for wish in [Wish::Pause, Wish::Drop] {
        let result = run(&device, &mut |_| wish);
        assert!(
            matches!(result, Err(WorkError::Train(TrainError::Stopped { step: 1 }))),
            "{result:?}"
        );
        assert!(device.state.load_trained(device.order.contribution).expect("reads").is_none());
    }
    let mut steps = Vec::new();
    let record = run(&device, &mut |progress| {
        steps.push((progress.step, progress.steps));
        Wish::GoOn
    });
    assert_eq!(record.expect("counts").examples, 50_000);
    assert_eq!(steps, [(1, 3), (2, 3), (3, 3)]);
}

#[test]
fn residues_are_the_same_each_time_and_masks_come_off_them() {
    let device = counting(1, 0.0, JOB);
    let record = counted(&device);
    let (id, plain) = (device.order.contribution, terms(&device, 3));
    let read = || fs::read(device.state.encoded_path(id)).expect("is kept");
    encode(&device.state, id, &plain, None).expect("encodes");
    let residues = read();
    let secure = Descriptor {
        cohort: CohortId::from_bytes([6; 16]),
        ..secure(&plain)
    };
    assert!(matches!(encode(&device.state, id, &secure, None), Err(WorkError::Mode)));
    let laid = masks(secret::Suite::ChaCha20, [secret::Sign::Plus, secret::Sign::Minus]);
    encode(&device.state, id, &secure, Some(&laid)).expect("encodes");
    let mut masked = read();
    assert_ne!(masked, residues);
    let codec = record.tally.expect("what was counted").codec(3).expect("a plan");
    lay(
        codec.plan(),
        &mut masked,
        &masks(secret::Suite::ChaCha20, [secret::Sign::Minus, secret::Sign::Plus]),
    )
    .expect("fits");
    assert_eq!(masked, residues);
}

#[test]
fn a_cohort_of_another_kind_of_job_gets_nothing() {
    let device = counting(1, 0.0, JOB);
    counted(&device);
    let of_updates = descriptor(device.order.base, 5, 3);
    assert!(matches!(
        encode(&device.state, device.order.contribution, &of_updates, None),
        Err(WorkError::OtherCodec)
    ));
    let trains = super::device(2, 0.0);
    trained(&trains);
    let of_counts = Descriptor {
        codec: device.order.file.update,
        ..descriptor(trains.order.base, 5, 3)
    };
    assert!(matches!(
        encode(&trains.state, trains.order.contribution, &of_counts, None),
        Err(WorkError::OtherCodec)
    ));
}

#[test]
fn damage_to_what_was_counted_is_noticed() {
    let device = counting(1, 0.0, JOB);
    let record = counted(&device);
    let id = device.order.contribution;
    let path = device.state.encoded_path(id).with_file_name("tally.u64");
    let bytes = fs::read(&path).expect("is kept");
    assert_eq!(bytes.len(), record.n_weights * 8);
    fs::write(&path, &bytes[1..]).expect("writes");
    assert!(!device.state.is_intact(id).expect("can be asked"));
    assert!(matches!(
        encode(&device.state, id, &terms(&device, 3), None),
        Err(WorkError::State(StateError::Damaged { .. }))
    ));
}
