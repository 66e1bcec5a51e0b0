//! Releases: what a device measures, and what it refuses.

use aimass_analytics::release::{Decision, ReleaseReport, ReleaseShape};
use aimass_compression::Accumulator;
use aimass_inference::RowModel;
use aimass_onnx::build::{InitialWeights, Stack, TransformerClassifier};

use super::*;
use crate::trial;

const ROWS: u32 = 4;
const SEED: u64 = 7;

fn outputs(bytes: &[u8]) -> Vec<f32> {
    let model = RowModel::load(bytes).expect("loads");
    trial::computed(&model, SEED, ROWS as usize).expect("runs")
}

/// A release of the small model alone, compared with another as the champion. `change` may spoil the text.
fn release(small: &[u8], champion: &[u8], change: impl Fn(String) -> String) -> JobFile {
    let digest = |bytes: &[u8]| Digest::from_bytes(sha256(bytes)).to_hex();
    let text = format!(
        "[job]\nname = \"r\"\nkind = \"release\"\npurpose = \"p\"\nseed = {SEED}\n[data]\ncontract = \"default\"\ntarget = \"label\"\n\
         [evaluate]\non_devices = 0.5\n[release]\nmodel = \"m\"\nstages = [\"3\"]\n\
         [[release.variants]]\nname = \"small\"\npath = \"m\"\ndigest = \"{}\"\nsize_bytes = {}\noutputs = {:?}\ncores = 1\n\
         [release.champion]\ndigest = \"{}\"\nsize_bytes = {}\n[gate]\nmin_accuracy = 0.0\nmax_accuracy_drop = 1.0\n[round]\nmin = 3\n",
        digest(small),
        small.len(),
        outputs(small),
        digest(champion),
        champion.len(),
    );
    let text = change(text);
    JobFile::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// A device that has both files of the release.
fn releasing(contribution: u8, change: impl Fn(String) -> String) -> Device {
    let device = device(contribution, f32::from(contribution) * 0.01);
    releasing_on(device, &mlp(&[2, 4, 2], 1), &mlp(&[2, 3, 2], 5), change)
}

fn releasing_on(mut device: Device, small: &Model, champion: &Model, change: impl Fn(String) -> String) -> Device {
    for model in [small, champion] {
        let path = device.state.model_path(Digest::from_bytes(sha256(model.as_bytes())));
        fs::write(path, model.as_bytes()).expect("written");
    }
    device.order.file = release(small.as_bytes(), champion.as_bytes(), change);
    device.order.base = beginning(&device);
    device
}

fn beginning(device: &Device) -> Digest {
    let file = &device.order.file;
    let release = file.release.as_ref().expect("a release");
    Digest::from_bytes(sha256(&ReleaseReport::empty(release, file.aggregation.mode).to_bytes()))
}

fn report(devices: &[Device]) -> ReleaseReport {
    let file = &devices[0].order.file;
    let release = file.release.as_ref().expect("a release");
    let codec = ReleaseShape::of(release).codec(devices.len() as u32).expect("a plan");
    let mut sum = Accumulator::new(codec.plan());
    for device in devices {
        work_on(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn).expect("measures");
        let terms = Descriptor {
            codec: device.order.file.update,
            ..descriptor(device.order.base, 5, devices.len() as u32)
        };
        encode(&device.state, device.order.contribution, &terms, None).expect("encodes");
        let packed = fs::read(device.state.encoded_path(device.order.contribution)).expect("is kept");
        sum.add(&packed).expect("fits the plan");
    }
    ReleaseReport::of_sum(release, AggregationMode::Plain, 1, &sum).expect("honest numbers")
}

fn same(text: String) -> String {
    text
}

#[test]
fn should_measure_on_the_rows_that_are_held_back() {
    let devices = [1, 2, 3].map(|n| releasing(n, same));
    let report = report(&devices);
    let small = &report.variants[0];
    assert_eq!(
        (small.devices, small.failed(), small.rows, small.compared),
        (3, 0, 60, 60),
        "{report:?}"
    );
    assert!(small.correct <= 60 && small.champion_correct <= 60);
    assert_eq!(small.latency.iter().sum::<u64>(), 3 * u64::from(ReleaseShape::RUNS));
    assert_eq!((report.decision, &report.broken[..]), (Decision::Promoted, &[][..]));
    // What tract says of the same rows, counted by hand.
    let model = mlp(&[2, 4, 2], 1);
    let held = aimass_recipe::held_back::evaluate;
    let mut correct = 0;
    for device in &devices {
        let wanted = aimass_learning::data::Wanted {
            inputs: Vec::new(),
            targets: vec!["label".to_owned()],
            model_inputs: vec![model.inputs()[0].name.clone()],
            labels: None,
        };
        let data: std::sync::Arc<dyn Source> = data::open(&device.order.data, &wanted, &Limits::default()).expect("opens").into();
        let fingerprint = seeds::fingerprint(&*data).expect("reads");
        let rows = Parts::of(data, Some(0.5), SEED, &fingerprint).held_back.expect("some");
        correct += held(&model, &rows, &aimass_recipe::heads(&device.order.file.train))
            .expect("evaluates")
            .correct;
    }
    assert_eq!(small.correct, correct, "as the trainer counts them");
}

#[test]
fn should_measure_a_model_of_tokens() {
    let stack = Stack {
        vocabulary: 8,
        width: 8,
        heads: 2,
        layers: 1,
        feed_forward: 8,
        ..Stack::default()
    };
    let words = |seed| {
        let words = TransformerClassifier { classes: 2, stack };
        words.build(InitialWeights::seeded(seed)).expect("a model")
    };
    let devices = [1, 2, 3].map(|n| {
        let device = device(n, 0.0);
        let rows: String = (0..40)
            .map(|i| format!("{},{},{}\n", i % 8, (i * 3 + u32::from(n)) % 8, i % 2))
            .collect();
        fs::write(&device.order.data, format!("x,y,label\n{rows}")).expect("written");
        releasing_on(device, &words(1), &words(2), same)
    });
    let report = report(&devices);
    let small = &report.variants[0];
    assert_eq!(
        (small.devices, small.failed(), small.rows, small.compared),
        (3, 0, 60, 60),
        "{report:?}"
    );
}

#[test]
fn should_measure_numbers_by_how_near_they_are() {
    let near = |within: &str| {
        let within = format!("within = {within}\n");
        let devices = [1, 2, 3].map(|n| {
            let numbers = |seed| mlp(&[2, 3, 1], seed);
            releasing_on(device(n, 0.0), &numbers(1), &numbers(2), |text| {
                text.replace("[[release.variants]]", &format!("{within}[[release.variants]]"))
            })
        });
        let report = report(&devices);
        let small = report.variants[0].clone();
        assert_eq!(
            (small.devices, small.failed(), small.rows, small.compared),
            (3, 0, 60, 60),
            "{report:?}"
        );
        small.correct
    };
    let (none, some, all) = (near("0.000001"), near("0.7"), near("1000"));
    assert!(none < some && some < all && all == 60, "{none} {some} {all}");
}

#[test]
fn should_count_what_can_not_be_used_by_its_reason() {
    let reason = |device: Device| {
        let report = report(&[device]);
        let small = &report.variants[0];
        assert_eq!((small.devices, small.rows, report.decision), (1, 0, Decision::RolledBack));
        small.failures.keys().cloned().collect::<Vec<_>>()
    };
    let path = |device: &Device| {
        device
            .state
            .model_path(device.order.file.release.as_ref().expect("a release").variants[0].digest)
    };
    let missing = releasing(1, same);
    fs::remove_file(path(&missing)).expect("removed");
    assert_eq!(reason(missing), ["fetch"]);
    let wrong = releasing(1, same);
    let mut bytes = fs::read(path(&wrong)).expect("read");
    *bytes.last_mut().expect("some") ^= 1;
    fs::write(path(&wrong), bytes).expect("written");
    assert_eq!(reason(wrong), ["hash"]);
    let mut large = releasing(1, same);
    large.order.bench.max_file_bytes = 10;
    assert_eq!(reason(large), ["too_large"]);
    let other = releasing(1, |text| {
        text.replace("outputs = [", "outputs = [99.0, -99.0, 1, 2, 3, 4, 5, 6] # ")
    });
    assert_eq!(reason(other), ["self_test"]);
    let none = releasing(1, |text| text.replace("cores = 1", "cores = 64"));
    let report = report(&[none]);
    assert_eq!((report.unfit, report.variants[0].devices), (1, 0));
}

#[test]
fn should_measure_no_more_often_than_the_owner_signed() {
    let mut device = releasing(1, same);
    device.order.round = 2;
    let error = work_on(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn).expect_err("one stage");
    assert!(matches!(error, WorkError::Turn { round: 2, rounds: 1 }), "{error}");
    device.order.round = 1;
    device.order.base = Digest::from_bytes([1; 32]);
    let error = work_on(&device.state, &device.order, &BackendConfig::cpu(), &mut |_| Wish::GoOn).expect_err("another beginning");
    assert!(matches!(error, WorkError::Beginning { .. }), "{error}");
}

#[test]
fn should_refuse_bytes_that_are_no_model_without_a_crash() {
    let test = trial::SelfTest {
        seed: 1,
        rows: 1,
        tolerance: 0.1,
        outputs: vec![0.0],
    };
    for bytes in [&b""[..], b"no model", &[0xff; 4096]] {
        assert!(trial::load(bytes, &test).is_err());
    }
}
