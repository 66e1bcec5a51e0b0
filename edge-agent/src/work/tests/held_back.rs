//! Jobs whose agents hold rows back and evaluate the base on them.

use std::ops::ControlFlow;

use aimass_compression::Accumulator;
use aimass_learning::Dataset;
use aimass_learning::data::Subset;
use aimass_learning::training::evaluate_on;

use super::*;

/// A device whose job holds a quarter of the rows back, 10 of 40.
fn evaluating(contribution: u8, shift: f32) -> Device {
    let mut device = device(contribution, shift);
    device.order.file = file("cross_entropy");
    device
}

fn file(loss: &str) -> JobFile {
    let text = crate::fixture::JOB_FILE.replace("cross_entropy", loss);
    JobFile::parse(&format!("{text}\n[evaluate]\non_devices = 0.25\n")).expect("a good job file")
}

/// What is found directly: base and data, the rows that are held back and those that are not.
fn directly(device: &Device) -> (Model, Dataset, Vec<usize>, Vec<usize>) {
    let model = Model::from_bytes(&fs::read(device.state.model_path(device.order.base)).expect("reads")).expect("a model");
    let data = Dataset::read_csv(&device.order.data, &[], "label").expect("reads");
    let all = data::open(&device.order.data, &wanted(&model, device), &Limits::default()).expect("opens");
    let print = seeds::fingerprint(&*all).expect("hashes");
    let (held_back, rest) = seeds::held_back_rows(data.len(), 0.25, device.order.file.job.seed, &print);
    (model, data, held_back, rest)
}

fn wanted(model: &Model, device: &Device) -> data::Wanted {
    Recipe::of(model, &device.order.file).expect("a recipe").wanted
}

#[test]
fn rows_that_are_held_back_are_evaluated_on_and_never_trained_on() {
    let device = evaluating(1, 0.3);
    let (record, delta) = trained(&device);
    let (model, rows, held_back, rest) = directly(&device);
    assert_eq!((held_back.len(), rest.len(), record.examples), (10, 30, 30));

    let Recipe { layout, heads, wanted } = Recipe::of(&model, &device.order.file).expect("a recipe");
    let found = evaluate_on(&model, &rows.select(&held_back).expect("rows"), &heads, &[]).expect("evaluates");
    let kept = record.evaluation.expect("the job asks for it");
    assert_eq!((kept.examples, kept.loss), (10, found.loss as f32));
    assert_eq!(kept.correct as f64, found.accuracy.expect("classes") * 10.0);
    assert!(kept.correct > 0, "some are right, or the test says nothing");

    // The same training on a file's rows of which the others were taken away.
    let all = data::open(&device.order.data, &wanted, &Limits::default()).expect("opens");
    let print = seeds::fingerprint(&*all).expect("hashes");
    let seed = seeds::of_training(device.order.file.job.seed, device.order.base, &print);
    let config = train_config(&device.order.file, Setting::Round, rest.len(), seed);
    let rest = rows.select(&rest).expect("rows");
    let direct = aimass_learning::train(&model, &layout, &rest, &config, &mut |_| ControlFlow::Continue(())).expect("trains");
    assert_eq!(direct.delta.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(), delta);
    let whole = Subset::new(all.into(), (0..40).collect()).expect("rows");
    let other = aimass_learning::train(&model, &layout, &whole, &config, &mut |_| ControlFlow::Continue(())).expect("trains");
    assert_ne!(other.delta, direct.delta, "the rows that are held back would make a difference");
}

#[test]
fn evaluations_are_summed_beside_the_updates() {
    let shifts = [0.3, -0.2, 0.9];
    let (mut correct, mut loss, mut sum) = (0, 0.0, None);
    for (name, shift) in (1..).zip(shifts) {
        let device = evaluating(name, shift);
        let (record, _) = trained(&device);
        let own = record.evaluation.expect("the job asks for it");
        correct += own.correct;
        loss += f64::from(own.loss) / shifts.len() as f64;
        let terms = descriptor(device.order.base, 1, 3);
        encode(&device.state, device.order.contribution, &terms, None).expect("encodes");
        let (_, sum) = sum.get_or_insert_with(|| {
            let codec = codec(record.n_weights, &terms);
            let sum = Accumulator::new(codec.plan());
            (codec, sum)
        });
        sum.add(&fs::read(device.state.encoded_path(device.order.contribution)).expect("is kept"))
            .expect("fits the plan");
    }
    let (codec, sum) = sum.expect("three were added");
    let pooled = sum.decode(&codec).expect("decodes").evaluation.expect("three evaluated");
    assert_eq!((pooled.correct, pooled.examples), (correct, 30));
    // Levels are 2048 / (2^24 - 1) apart, and each agent has a hundredth of the weight cap.
    let bound = 3.0 * 2048.0 / f64::from((1 << 24) - 1) * 1000.0 / 30.0;
    assert!((f64::from(pooled.loss) - loss).abs() < bound, "{} and not {loss}", pooled.loss);
}

fn codec(n_weights: usize, terms: &Descriptor) -> FixedCodec {
    let params = FixedParams {
        n_weights,
        bits: terms.codec.bits,
        clip: terms.codec.clip,
        weight_cap: terms.codec.weight_cap,
        weight_scale: 1,
        members: terms.members,
        evaluation: true,
        rotation: None,
    };
    FixedCodec::new(params).expect("a plan")
}

#[test]
fn an_agent_with_one_row_trains_on_it_and_evaluates_none() {
    let device = evaluating(1, 0.0);
    fs::write(&device.order.data, "x,y,label\n0.5,0.1,1\n").expect("writes");
    let (record, _) = trained(&device);
    assert_eq!((record.examples, record.evaluation), (1, Some(state::EvaluationRecord::default())));
    let terms = descriptor(device.order.base, 1, 3);
    encode(&device.state, device.order.contribution, &terms, None).expect("encodes");
    let codec = codec(record.n_weights, &terms);
    let mut sum = Accumulator::new(codec.plan());
    sum.add(&fs::read(device.state.encoded_path(device.order.contribution)).expect("is kept"))
        .expect("fits the plan of those who evaluate");
    assert_eq!(sum.decode(&codec).expect("decodes").evaluation, None);
}

#[test]
fn a_loss_that_can_not_be_summed_costs_no_update() {
    let untrained = |loss| {
        let mut file = file(loss);
        file.train.epochs = 0;
        file
    };
    let mut device = device(1, 0.0);
    device.order.file = untrained("mae");
    let model = mlp(&[2, 4, 1], 1);
    device.order.base = Digest::from_bytes(sha256(model.as_bytes()));
    fs::write(device.state.model_path(device.order.base), model.as_bytes()).expect("writes");
    let mut rows = "x,y,label\n".to_owned();
    (0..40).for_each(|i| writeln!(rows, "{i},1,{}", if i < 20 { 900.0 } else { 1000.0 }).expect("writes to a string"));
    fs::write(&device.order.data, &rows).expect("writes");
    let record = train_with(&device, &mut |_| Wish::GoOn).expect("trains");
    let found = record.evaluation.expect("the job asks for it");
    assert!(found.examples == 10 && found.correct == 0 && found.loss > 800.0, "{found:?}");

    device.order.file = untrained("mse");
    let record = train_with(&device, &mut |_| Wish::GoOn).expect("trains");
    assert_eq!(
        record.evaluation,
        Some(state::EvaluationRecord::default()),
        "a loss of nearly a million"
    );
    encode(&device.state, device.order.contribution, &descriptor(device.order.base, 1, 3), None).expect("encodes");
}

#[test]
fn training_that_goes_on_after_an_interruption_holds_the_same_rows_back() {
    let longer = || {
        let mut device = evaluating(1, 0.0);
        device.order.file.train.epochs = 3;
        device
    };
    let whole = trained(&longer());
    assert_eq!(whole.0.steps, 9);
    let device = longer();
    pause_after(&device, 4);
    assert_eq!(trained(&device), whole);
}
