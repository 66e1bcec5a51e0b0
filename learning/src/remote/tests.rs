use std::io::Cursor;

use aimass_onnx::ParamKind;
use aimass_onnx::build::mlp;

use super::frame;
use super::message::{Load, Refusal, RefusalKind, Reply, Request, State};
use super::*;
use crate::array::{Array, Values};
use crate::testing::layout;
use crate::{
    Batch, BatchNorm, BinaryCrossEntropy, ClassAxis, Contrastive, Cpu, CrossEntropy, Distillation, Head, Huber, Loss, Mask,
    OptimizerConfig, Pairwise, Rule, Schedule, StepReport, TrainConfig,
};

fn configs() -> Vec<TrainConfig> {
    let losses = [
        Loss::cross_entropy(),
        Loss::CrossEntropy(CrossEntropy {
            label_smoothing: 0.1,
            class_weights: Some(vec![1.0, 0.5]),
            ignore_index: Some(-100),
            class_axis: ClassAxis::Second,
        }),
        Loss::BinaryCrossEntropy(BinaryCrossEntropy {
            pos_weight: Some(vec![2.0]),
        }),
        Loss::Mse,
        Loss::Mae,
        Loss::Huber(Huber { delta: 0.5 }),
        Loss::Contrastive(Contrastive { temperature: 0.2 }),
        Loss::Pairwise(Pairwise { margin: 2.0 }),
        Loss::Distillation(Distillation {
            temperature: 3.0,
            alpha: 0.75,
            hard: Box::new(Loss::Huber(Huber { delta: 0.5 })),
        }),
    ];
    let head = |loss| Head {
        output: Some("gewicht".to_owned()),
        loss,
        weight: 0.25,
    };
    let (momentum, epsilon) = (0.9, 1e-8);
    let rules = [
        Rule::Sgd { momentum, nesterov: true },
        Rule::Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon,
            decoupled: true,
        },
        Rule::RmsProp {
            alpha: 0.99,
            epsilon,
            momentum,
        },
    ];
    let schedules = [
        Schedule::Step { every: 10, gamma: 0.5 },
        Schedule::Cosine {
            warmup: 1,
            steps: 20,
            floor: 0.1,
        },
        Schedule::Linear {
            warmup: 2,
            steps: 30,
            floor: 0.0,
        },
    ];
    let of = |(rule, schedule)| TrainConfig {
        heads: losses.iter().cloned().map(head).chain([Loss::Mse.into()]).collect(),
        optimizer: OptimizerConfig {
            rule,
            lr: 0.01,
            weight_decay: 1e-4,
            proximal: 0.25,
            clip_norm: Some(1.0),
            schedule,
        },
        batch_norm: BatchNorm::Stored,
        epochs: 3,
        batch: 17,
        seed: std::array::from_fn(|i| i as u8),
    };
    rules
        .into_iter()
        .zip(schedules)
        .map(of)
        .chain([crate::testing::config(Loss::Mse)])
        .collect()
}

fn requests() -> Vec<Request> {
    let load = |config| {
        Request::Load(Box::new(Load {
            config,
            kinds: vec![ParamKind::Weight, ParamKind::Buffer, ParamKind::Frozen],
            memory_limit_bytes: Some(1 << 33),
            model: vec![1, 2, 3],
        }))
    };
    let array = |shape: &[usize], values| Array::new(shape.to_vec(), values).expect("a shape that fits");
    let batch = Batch {
        inputs: vec![
            array(&[1, 2], Values::Floats(vec![0.5, f32::MIN_POSITIVE])),
            array(&[2], Values::Ints(vec![i64::MIN, 7])),
            array(&[2, 0], Values::Floats(Vec::new())),
        ],
        targets: vec![array(&[], Values::Bools(vec![true]))],
        weights: Some(vec![1.0]),
        flat: true,
    };
    let mut all: Vec<_> = configs().into_iter().map(load).collect();
    all.extend([
        Request::Hello { version: 7 },
        Request::Probe,
        Request::SetState(state()),
        Request::Batch(batch),
        Request::GetState,
        Request::Bye,
        Request::SetMask(None),
        Request::SetMask(Some(Mask::of_weights(&[1.0, 0.0, 2.0, 0.0, 0.0, 6.0, 7.0, 8.0, 0.0, 10.0]))),
    ]);
    all
}

fn state() -> State {
    State {
        steps: 1 << 40,
        weights: vec![1.0, -2.0],
        buffers: vec![0.5],
        moments: vec![vec![0.0, 0.1], vec![3.0, 4.0]],
    }
}

fn replies() -> Vec<Reply> {
    let report = StepReport {
        loss: 0.75,
        gradient_norm: Some(2.5),
    };
    vec![
        Reply::Hello { version: 1 },
        Reply::Probe(Adapter {
            name: "Karte".to_owned(),
            api: "vulkan".to_owned(),
            driver: String::new(),
            kind: AdapterKind::Integrated,
        }),
        Reply::Done,
        Reply::Progress { steps: 3, report },
        Reply::State(state()),
        Reply::Refused(Refusal {
            kind: RefusalKind::Diverged,
            reason: "warum".to_owned(),
            step: 9,
            loss: 1.5,
        }),
    ]
}

#[test]
fn messages_are_read_as_they_were_written() {
    for request in requests() {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    for reply in replies() {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }
}

#[test]
fn bytes_are_as_documented() {
    let hello = Request::Hello { version: VERSION };
    assert_eq!(hello.encode(), b"\x01AIMGPU\r\n\x02\x00");
    let report = StepReport {
        loss: 1.0,
        gradient_norm: None,
    };
    let progress = Reply::Progress { steps: 2, report };
    assert_eq!(progress.encode(), [6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 63, 0]);
    let batch = Batch {
        inputs: vec![Array::floats(vec![1, 2], vec![1.0, 2.0]).expect("a shape that fits")],
        targets: vec![Array::ints(vec![1], vec![3]).expect("a shape that fits")],
        weights: None,
        flat: false,
    };
    let expected: Vec<u8> = [
        &[
            5, 1, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64,
        ][..],
        &[1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(Request::Batch(batch).encode(), expected);
    let mask = Mask::of_weights(&[1.0, 0.0, 0.5]);
    let expected = [11, 1, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0b101];
    assert_eq!(Request::SetMask(Some(mask)).encode(), expected);
    assert_eq!(Request::SetMask(None).encode(), [11, 0]);
}

#[test]
fn what_a_worker_says_can_be_shown() {
    let refusal = Refusal {
        kind: RefusalKind::Device,
        reason: format!("\x1b[2Jgone\n{}", "!".repeat(10_000)),
        step: 0,
        loss: 0.0,
    };
    let Ok(Reply::Refused(read)) = Reply::decode(&Reply::Refused(refusal).encode()) else {
        panic!("it is a refusal");
    };
    assert!(
        read.reason.starts_with(" [2Jgone !!") && read.reason.len() == 600,
        "{}",
        read.reason
    );
}

#[test]
fn messages_cut_short_or_drawn_out_are_refused() {
    let check = |bytes: &[u8], refused: &dyn Fn(&[u8]) -> bool| {
        for end in 0..bytes.len() {
            assert!(refused(&bytes[..end]), "{end} of {bytes:?}");
        }
        assert!(refused(&[bytes, &[0]].concat()), "{bytes:?} and a byte");
    };
    requests()
        .iter()
        .for_each(|r| check(&r.encode(), &|bytes| Request::decode(bytes).is_err()));
    replies()
        .iter()
        .for_each(|r| check(&r.encode(), &|bytes| Reply::decode(bytes).is_err()));
}

/// Any byte changed to any of these: an error or another message, but no panic and no large allocation.
#[test]
fn changed_bytes_do_no_harm() {
    let all = requests()
        .iter()
        .map(Request::encode)
        .chain(replies().iter().map(Reply::encode))
        .collect::<Vec<_>>();
    for mut bytes in all {
        for at in 0..bytes.len() {
            let was = bytes[at];
            for byte in [0, 1, 2, 9, 10, 127, 255] {
                bytes[at] = byte;
                let (_, _) = (Request::decode(&bytes), Reply::decode(&bytes));
            }
            bytes[at] = was;
        }
    }
}

#[test]
fn frames_have_limits() {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, b"abc").expect("a buffer");
    assert_eq!(bytes, b"\x03\0\0\0abc");
    let read = |bytes: &[u8], limit| frame::read(&mut Cursor::new(bytes), limit).map_err(|e| e.kind());
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    assert_eq!(read(&bytes, 3), Ok(Some(b"abc".to_vec())));
    assert_eq!(read(&bytes, 2), Err(InvalidData));
    assert_eq!(read(&[], 3), Ok(None));
    assert_eq!(read(&bytes[..2], 3), Err(UnexpectedEof));
    assert_eq!(read(&bytes[..6], 3), Err(UnexpectedEof));
    assert_eq!(read(&[0, 0, 0, 0], 3), Err(InvalidData), "no kind");
    // A length that lies: nothing of that size is allocated.
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xbf, 1], frame::MAX_FRAME_BYTES), Err(UnexpectedEof));
}

/// What a worker on the CPU replies, and how it ends.
fn serve_all(requests: &[Request]) -> (Vec<Reply>, Result<(), String>) {
    let mut input = Vec::new();
    requests
        .iter()
        .for_each(|r| frame::write(&mut input, &r.encode()).expect("a buffer"));
    serve_bytes(input)
}

fn serve_bytes(input: Vec<u8>) -> (Vec<Reply>, Result<(), String>) {
    let adapter = || {
        Ok(Adapter {
            name: "test".to_owned(),
            api: String::new(),
            driver: String::new(),
            kind: AdapterKind::Other,
        })
    };
    let mut output = Vec::new();
    let end = serve::<Cpu>(Cursor::new(input), &mut output, adapter, || {}).map_err(|e| e.to_string());
    let mut output = Cursor::new(output);
    let mut replies = Vec::new();
    while let Some(frame) = frame::read(&mut output, frame::MAX_FRAME_BYTES).expect("whole frames") {
        replies.push(Reply::decode(&frame).expect("a reply"));
    }
    (replies, end)
}

const HELLO: Request = Request::Hello { version: VERSION };

fn load() -> Load {
    let model = mlp(&[2, 2], 1);
    Load {
        config: crate::testing::config(Loss::Mse),
        kinds: layout(&model).params().iter().map(|p| p.kind).collect(),
        memory_limit_bytes: None,
        model: model.as_bytes().to_vec(),
    }
}

#[test]
fn a_worker_refuses_what_comes_out_of_order() {
    let load = || Request::Load(Box::new(load()));
    let refused = [
        vec![Request::Probe],
        vec![Request::Hello { version: VERSION + 1 }],
        vec![HELLO, load()],
        vec![HELLO, Request::Probe, Request::GetState],
    ];
    for requests in refused {
        let (replies, end) = serve_all(&requests);
        assert!(
            matches!(replies.last(), Some(Reply::Refused(r)) if r.kind == RefusalKind::Protocol),
            "{replies:?}"
        );
        assert!(end.is_err(), "{requests:?}");
    }
    let (replies, end) = serve_all(&[HELLO, Request::Probe, load(), Request::GetState, Request::Bye, Request::Probe]);
    assert_eq!(end, Ok(()));
    assert!(
        matches!(replies[..], [Reply::Hello { .. }, Reply::Probe(_), Reply::Done, Reply::State(_)]),
        "{replies:?}"
    );
}

#[test]
fn a_worker_refuses_noise() {
    let (replies, end) = serve_bytes(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    assert!(replies.is_empty() && end.is_err(), "{replies:?}");
    let (replies, end) = serve_bytes(b"\x02\0\0\0\xee\xee".to_vec());
    assert!(matches!(replies[..], [Reply::Refused(_)]) && end.is_err(), "{replies:?}");
}

#[test]
fn a_worker_refuses_models_and_states_that_do_not_fit() {
    let kind_of = |load: Load| match serve_all(&[HELLO, Request::Probe, Request::Load(Box::new(load))]).0.pop() {
        Some(Reply::Refused(refusal)) => Some(refusal.kind),
        _ => None,
    };
    assert_eq!(kind_of(load()), None);
    assert_eq!(
        kind_of(Load {
            model: vec![9; 9],
            ..load()
        }),
        Some(RefusalKind::Graph)
    );
    assert_eq!(
        kind_of(Load {
            kinds: Vec::new(),
            ..load()
        }),
        Some(RefusalKind::Graph)
    );
    assert_eq!(
        kind_of(Load {
            memory_limit_bytes: Some(1),
            ..load()
        }),
        Some(RefusalKind::Config)
    );
    let mut config = load().config;
    config.heads.clear();
    assert_eq!(kind_of(Load { config, ..load() }), Some(RefusalKind::Config));
    for of_another in [Request::SetState(state()), Request::SetMask(Some(Mask::of_weights(&[1.0])))] {
        let requests = [HELLO, Request::Probe, Request::Load(Box::new(load())), of_another];
        let refusal = serve_all(&requests).0.pop();
        assert!(
            matches!(&refusal, Some(Reply::Refused(r)) if r.kind == RefusalKind::Data),
            "{refusal:?}"
        );
    }
    let mask = Mask::of_weights(&vec![0.0; layout(&mlp(&[2, 2], 1)).n_weights()]);
    let requests = [
        HELLO,
        Request::Probe,
        Request::Load(Box::new(load())),
        Request::SetMask(Some(mask)),
        Request::GetState,
    ];
    let state = serve_all(&requests).0.pop();
    assert!(
        matches!(&state, Some(Reply::State(state)) if state.weights.iter().all(|w| *w == 0.0)),
        "{state:?}"
    );
}
