//! Calibrations: what a device counts of a model's activations, and what it refuses.

use std::ops::ControlFlow;
use std::sync::Arc;

use aimass_analytics::calibration::{CalibrationReport, CalibrationShape};
use aimass_compress::{Watched, observed, spread};
use aimass_compression::Accumulator;
use aimass_learning::data::Subset;

use super::*;

fn model() -> Model {
    mlp(&[2, 4, 2], 1)
}

/// A calibration of the small model; `change` may spoil the text.
fn job(change: impl Fn(String) -> String) -> JobFile {
    let model = model();
    let watched = Watched::of(&model, &[]).expect("can be quantized");
    let text = format!(
        "[job]\nname = \"c\"\nkind = \"calibration\"\npurpose = \"p\"\n[model]\npath = \"m.onnx\"\n[data]\ncontract = \"default\"\ntarget = \"label\"\n\
         [calibration]\nrows = 30\ndigest = \"{}\"\nsize_bytes = {}\ntensors = {:?}\n[round]\nmin = 3\n",
        Digest::from_bytes(sha256(model.as_bytes())).to_hex(),
        model.as_bytes().len(),
        watched.tensors(),
    );
    let text = change(text);
    JobFile::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn same(text: String) -> String {
    text
}

/// A device with the model, at the beginning of the job.
fn calibrating(contribution: u8, change: impl Fn(String) -> String) -> Device {
    let mut device = device(contribution, f32::from(contribution) * 0.4);
    device.order.file = job(change);
    let beginning = beginning(&device);
    stand_on(&mut device, &beginning, 1);
    device
}

fn beginning(device: &Device) -> CalibrationReport {
    let file = &device.order.file;
    CalibrationReport::empty(file.calibration.as_ref().expect("a calibration"), file.aggregation.mode)
}

/// The device has fetched the report that its round stands on.
fn stand_on(device: &mut Device, report: &CalibrationReport, round: u32) {
    let bytes = report.to_bytes();
    device.order.base = Digest::from_bytes(sha256(&bytes));
    device.order.round = round;
    device.order.contribution = ContributionId::from_bytes([device.order.contribution.as_bytes()[0] + 16; 16]);
    fs::write(device.state.model_path(device.order.base), bytes).expect("written");
}

fn run(device: &Device, wish: &mut dyn FnMut(Progress) -> Wish) -> Result<TrainedRecord, WorkError> {
    work_on(&device.state, &device.order, &BackendConfig::cpu(), wish).map(|(record, _)| record)
}

fn refused(device: &Device) -> String {
    let error = run(device, &mut |_| Wish::GoOn).expect_err("refused").to_string();
    assert!(device.state.load_trained(device.order.contribution).expect("reads").is_none());
    error
}

/// The report of the round that all devices are in.
fn report(devices: &[Device], before: &CalibrationReport) -> CalibrationReport {
    let calibration = devices[0].order.file.calibration.clone().expect("a calibration");
    let codec = CalibrationShape::of(&calibration, devices[0].order.round)
        .codec(devices.len() as u32)
        .expect("a plan");
    let mut sum = Accumulator::new(codec.plan());
    for device in devices {
        let record = run(device, &mut |_| Wish::GoOn).expect("looks");
        assert_eq!((record.examples, record.steps, record.is_counted()), (30, 0, true));
        let terms = Descriptor {
            codec: device.order.file.update,
            ..descriptor(device.order.base, 5, devices.len() as u32)
        };
        encode(&device.state, device.order.contribution, &terms, None).expect("encodes");
        sum.add(&fs::read(device.state.encoded_path(device.order.contribution)).expect("is kept"))
            .expect("fits the plan");
    }
    CalibrationReport::of_sum(&calibration, before, &sum).expect("honest numbers")
}

/// The rows of a device that are looked at.
fn rows(device: &Device) -> Subset {
    let wanted = aimass_recipe::reading(&model(), &device.order.file).expect("runs").1;
    let all: Arc<dyn Source> = data::open(&device.order.data, &wanted, &Limits::default()).expect("opens").into();
    let chosen = spread(all.len(), 30);
    Subset::new(all, chosen).expect("some")
}

#[test]
fn should_add_up_to_the_histograms_of_all_rows() {
    let mut devices = [1, 2, 3].map(|n| calibrating(n, same));
    let before = beginning(&devices[0]);
    let first = report(&devices, &before);
    assert_eq!((first.round, first.agents, first.rows), (1, 3, 90));
    devices.iter_mut().for_each(|device| stand_on(device, &first, 2));
    let second = report(&devices, &first);
    let seen = observed(&second).expect("histograms");

    let watched = Watched::of(&model(), &[]).expect("can be quantized");
    let exponents: Vec<i32> = first.tensors.iter().map(|tensor| tensor.exponent.expect("known")).collect();
    let mut all = watched.bounded(&exponents).expect("known");
    let mut grown = watched.open();
    for device in &devices {
        let heads = aimass_recipe::heads(&device.order.file.train);
        let mut go_on = |_, _| ControlFlow::Continue(());
        all = watched
            .look(all, &rows(device), &heads, &mut go_on)
            .expect("fits")
            .expect("to the end");
        grown = watched
            .look(grown, &rows(device), &heads, &mut go_on)
            .expect("fits")
            .expect("to the end");
    }
    for (name, histogram) in all.histograms() {
        assert_eq!(seen.histograms()[name].counts(), histogram.counts(), "{name}");
        assert_eq!(
            seen.histograms()[name].exponent(),
            grown.histograms()[name].exponent(),
            "{name}: no wider than needed"
        );
        assert_eq!(
            seen.histograms()[name].counts(),
            grown.histograms()[name].counts(),
            "{name}: nothing was clipped"
        );
    }
}

#[test]
fn should_stand_on_the_empty_report_first_and_then_on_that_of_the_first_round() {
    let mut device = calibrating(1, same);
    let empty = beginning(&device);
    for round in [0, 3, u32::MAX] {
        device.order.round = round;
        assert!(matches!(run(&device, &mut |_| Wish::GoOn), Err(WorkError::Turn { .. })), "{round}");
    }
    stand_on(&mut device, &empty, 2);
    assert!(
        refused(&device).contains("it is of round 0, and round 2 follows"),
        "nobody has said which exponents"
    );
    let devices = [calibrating(1, same)];
    let first = report(&devices, &empty);
    let [mut device] = devices;
    stand_on(&mut device, &first, 1);
    assert!(matches!(run(&device, &mut |_| Wish::GoOn), Err(WorkError::Beginning { .. })));
    let mut other = first.clone();
    other.tensors[0].exponent = Some(1000);
    stand_on(&mut device, &other, 2);
    assert!(refused(&device).contains("no exponent"));
    stand_on(&mut device, &first, 2);
    fs::write(device.state.model_path(device.order.base), b"{}").expect("written");
    assert!(
        matches!(run(&device, &mut |_| Wish::GoOn), Err(WorkError::Base { .. })),
        "damaged: it is fetched again"
    );
    stand_on(&mut device, &first, 2);
    run(&device, &mut |_| Wish::GoOn).expect("looks");
    run(&device, &mut |_| Wish::GoOn).expect("again, as after a kill");
    let mut nearly = first.clone();
    nearly.rows += 1;
    stand_on(&mut device, &nearly, 2);
    let again = run(&device, &mut |_| Wish::GoOn);
    assert!(matches!(again, Err(WorkError::Again { round: 2, counted: 2 })), "{again:?}");
    stand_on(&mut device, &empty, 1);
    let back = run(&device, &mut |_| Wish::GoOn);
    assert!(matches!(back, Err(WorkError::Again { round: 1, counted: 2 })), "{back:?}");
}

#[test]
fn should_run_the_signed_model_alone() {
    let path = |device: &Device| {
        device
            .state
            .model_path(device.order.file.calibration.as_ref().expect("a calibration").digest)
    };
    let missing = calibrating(1, same);
    fs::remove_file(path(&missing)).expect("removed");
    assert!(refused(&missing).contains("could not be fetched"));
    let damaged = calibrating(1, same);
    let mut bytes = fs::read(path(&damaged)).expect("read");
    *bytes.last_mut().expect("some") ^= 1;
    fs::write(path(&damaged), bytes).expect("written");
    assert!(refused(&damaged).contains("not the one that the owner signed"));
    let mut large = calibrating(1, same);
    large.order.bench.max_file_bytes = 10;
    assert!(refused(&large).contains("max_mib permits 10"));
    let other = calibrating(1, |text| text.replace("tensors = [", "tensors = [\"more\", "));
    assert!(refused(&other).contains("not those that the job names"));
}

#[test]
fn should_count_nothing_of_rows_that_do_not_fit() {
    let with = |rows: &str| {
        let device = calibrating(1, same);
        fs::write(&device.order.data, rows).expect("written");
        refused(&device)
    };
    let text = with("x,y,z,label\n1,2,3,0\n4,5,6,1\n");
    assert!(text.contains('3') && text.contains('2'), "{text}");
    assert!(with("x,y,digit\n1,2,0\n").contains("label"));
    let text = with("x,y,label\n3e38,-3e38,0\n3e38,3e38,1\n");
    assert!(text.contains("NaN or infinite") && text.contains("nothing is counted"), "{text}");
}

#[test]
fn should_leave_nothing_when_it_is_stopped() {
    let device = calibrating(1, |text| text.replace("rows = 30", "rows = 1000"));
    let mut rows = "x,y,label\n".to_owned();
    (0..100).for_each(|i| writeln!(rows, "0.{i},0,1").expect("writes to a string"));
    fs::write(&device.order.data, rows).expect("written");
    for wish in [Wish::Pause, Wish::Drop] {
        let stopped = run(&device, &mut |_| wish);
        assert!(
            matches!(stopped, Err(WorkError::Train(TrainError::Stopped { step: 1 }))),
            "{stopped:?}"
        );
        assert!(device.state.load_trained(device.order.contribution).expect("reads").is_none());
    }
    let mut steps = Vec::new();
    let record = run(&device, &mut |progress| {
        steps.push((progress.step, progress.steps));
        if progress.step == progress.steps { Wish::Pause } else { Wish::GoOn }
    });
    assert_eq!(record.expect("looks").examples, 100);
    assert_eq!(steps, [(1, 4), (2, 4), (3, 4), (4, 4)]);
}
