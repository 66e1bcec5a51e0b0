use std::sync::Arc;

use aimass_onnx::Model;
use aimass_onnx::build::{Cell, InitialWeights, RecurrentClassifier, mlp};
use aimass_onnx::proto::{AttributeProto, AttributeType, NodeProto, TensorProto};

use super::*;
use crate::tensor::{Data, Datatype};

fn options() -> LoadOptions {
    LoadOptions {
        threads: 2,
        batches: vec![1, 4],
        ..LoadOptions::default()
    }
}

fn rows(n: usize, features: usize) -> Tensor {
    let values = (0..n * features).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::f32(vec![n, features], values).expect("fills")
}

#[test]
fn should_know_its_inputs_and_outputs_and_run_them() {
    let model = Servable::load(mlp(&[8, 6, 3], 1).as_bytes(), &options()).expect("loads");
    let [input] = model.inputs() else { panic!("one input") };
    assert_eq!((input.datatype, input.axes.len(), input.fits(&[5, 8])), (Datatype::F32, 2, true));
    assert!(matches!(input.axes[0], Axis::Free(_)) && input.axes[1] == Axis::Fixed(8));
    assert_eq!(model.outputs()[0].datatype, Datatype::F32);
    assert!(model.has_independent_rows());
    assert_eq!(model.batches(), [1, 4]);
    let all = model.run(&[rows(7, 8)]).expect("runs");
    assert_eq!(all[0].shape(), [7, 3]);
    let alone = model.run(&[rows(7, 8).slice(0, 2, 3).expect("in range")]).expect("runs");
    assert!(alone[0].is_close(&all[0].slice(0, 2, 3).expect("in range"), 1e-5));
}

#[test]
fn should_give_the_same_when_a_state_is_used_again() {
    let model = RecurrentClassifier::new(Cell::Gru)
        .build(InitialWeights::seeded(3))
        .expect("builds");
    let model = Servable::load(model.as_bytes(), &options()).expect("loads");
    let inputs = zeros(model.inputs(), model.first_shapes()).expect("zeros");
    let first = model.run(&inputs).expect("runs");
    for _ in 0..3 {
        assert_eq!(model.run(&inputs).expect("runs"), first);
    }
}

#[test]
fn should_run_from_several_threads() {
    let model = Arc::new(Servable::load(mlp(&[8, 6, 3], 1).as_bytes(), &options()).expect("loads"));
    let expected = model.run(&[rows(4, 8)]).expect("runs");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(model.run(&[rows(4, 8)]).expect("runs"), expected);
                }
            });
        }
    });
}

#[test]
fn should_refuse_inputs_that_do_not_fit() {
    let model = Servable::load(mlp(&[8, 3], 1).as_bytes(), &options()).expect("loads");
    let ints = Tensor::new(vec![1, 8], Data::I64(vec![0; 8])).expect("fills");
    assert!(matches!(model.run(&[ints]), Err(RunError::Datatype { .. })));
    assert!(matches!(model.run(&[rows(1, 7)]), Err(RunError::Shape { .. })));
    assert!(matches!(model.run(&[]), Err(RunError::Inputs { wanted: 1, found: 0 })));
}

#[test]
fn should_bound_its_plans() {
    let model = Servable::load(mlp(&[8, 3], 1).as_bytes(), &LoadOptions { max_plans: 2, ..options() }).expect("loads");
    for n in 2..12 {
        model.run(&[rows(n, 8)]).expect("runs");
        assert!(model.plans.later_rows().len() <= 2, "{n}");
    }
    // The most recent ones stay.
    assert_eq!(model.plans.later_rows(), [11, 10]);
}

#[test]
fn should_keep_to_its_memory_and_give_it_back() {
    let model = mlp(&[512, 512, 10], 1);
    let small = MemoryBudget::new(1 << 20);
    let capped = |memory: &MemoryBudget| {
        let options = LoadOptions {
            memory: memory.clone(),
            ..options()
        };
        Servable::load(model.as_bytes(), &options)
    };
    assert!(
        matches!(capped(&small), Err(LoadError::Memory(_))),
        "1 MiB of weights, and plans of them"
    );
    assert_eq!(small.used(), 0, "what is refused holds nothing");
    for engine in [Engine::Tract, Engine::Plan] {
        let large = MemoryBudget::new(64 << 20);
        let options = LoadOptions {
            memory: large.clone(),
            engine,
            ..options()
        };
        let loaded = Servable::load(model.as_bytes(), &options).expect("fits");
        // tract holds the graph and a plan of it; the plan its weights, once.
        let (least, bytes) = (if engine == Engine::Tract { 2 } else { 1 }, model.as_bytes().len() as u64);
        let used = large.used();
        assert!(
            used >= least * bytes * 9 / 10 && (engine == Engine::Tract || used < 2 * bytes),
            "{engine}: {used}"
        );
        drop(loaded);
        assert_eq!(large.used(), 0);
    }
}

#[test]
fn should_refuse_a_file_that_is_too_large_or_none() {
    let dir = std::env::temp_dir();
    assert!(matches!(
        Servable::open(&dir.join("no such file.onnx"), &options()),
        Err(LoadError::File { .. })
    ));
    assert!(matches!(Servable::open(&dir, &options()), Err(LoadError::File { .. })), "a folder");
    let model = mlp(&[8, 3], 1);
    let tight = LoadOptions {
        max_model_bytes: 10,
        ..options()
    };
    assert!(matches!(
        Servable::load(model.as_bytes(), &tight),
        Err(LoadError::TooLarge { limit: 10, .. })
    ));
}

#[test]
fn should_name_the_operator_that_tract_lacks_before_anything_else() {
    let mut proto = mlp(&[5, 4, 3], 1).proto().clone();
    let graph = proto.graph.as_mut().expect("a graph");
    let relu = graph.node.iter_mut().find(|node| node.op_type == "Relu").expect("a Relu");
    (relu.op_type, relu.name) = ("Frobnicate".to_owned(), "act".to_owned());
    let model = Model::from_proto(proto).expect("structurally sound");
    match Servable::load(model.as_bytes(), &options()) {
        Err(LoadError::Infer(InferError::Op { node, op })) => assert_eq!((node.as_str(), op.as_str()), ("act", "Frobnicate")),
        other => panic!("expected the operator's name, got {other:?}"),
    }
}

/// An MLP whose output goes through one more node of the caller's.
fn with_last(change: impl FnOnce(&mut aimass_onnx::proto::GraphProto, &str)) -> Model {
    let mut proto = mlp(&[4, 3], 1).proto().clone();
    let graph = proto.graph.as_mut().expect("a graph");
    let name = graph.output[0].name.clone();
    for node in &mut graph.node {
        for output in &mut node.output {
            if *output == name {
                *output = "inner".to_owned();
            }
        }
    }
    change(graph, &name);
    Model::from_proto(proto).expect("structurally sound")
}

#[test]
fn should_refuse_a_value_of_gigabytes_before_it_is_allocated() {
    let model = with_last(|graph, output| {
        graph.initializer.push(TensorProto {
            name: "huge".to_owned(),
            dims: vec![2],
            data_type: 7,
            int64_data: vec![1 << 30, 3],
            ..TensorProto::default()
        });
        graph.node.push(NodeProto {
            name: "bomb".to_owned(),
            op_type: "Expand".to_owned(),
            input: vec!["inner".to_owned(), "huge".to_owned()],
            output: vec![output.to_owned()],
            ..NodeProto::default()
        });
    });
    match Servable::load(model.as_bytes(), &options()) {
        Err(LoadError::Value { bytes, .. }) => assert_eq!(bytes, 12 << 30),
        other => panic!("expected the value, got {other:?}"),
    }
}

#[test]
fn should_join_no_rows_that_depend_on_each_other() {
    // Softmax over the batch: a row's result depends on its neighbours.
    let model = with_last(|graph, output| {
        graph.node.push(NodeProto {
            op_type: "Softmax".to_owned(),
            input: vec!["inner".to_owned()],
            output: vec![output.to_owned()],
            attribute: vec![AttributeProto {
                name: "axis".to_owned(),
                r#type: AttributeType::Int as i32,
                i: Some(0),
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        });
    });
    let model = Servable::load(model.as_bytes(), &options()).expect("loads");
    assert!(!model.has_independent_rows());
    assert_eq!(model.batches(), [1]);
    let three = model.run(&[rows(3, 4)]).expect("runs all the same");
    assert_eq!(three[0].shape(), [3, 3]);
}

/// Damaged files are refused or run; nothing panics.
#[test]
fn should_survive_damaged_models() {
    let bytes = mlp(&[6, 5, 3], 1).as_bytes().to_vec();
    let mut state = 7u64;
    for _ in 0..400 {
        let mut damaged = bytes.clone();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % damaged.len();
            damaged[at] = (state >> 20) as u8;
        }
        let _ = Servable::load(&damaged, &LoadOptions::default());
    }
}

#[test]
fn should_give_the_same_by_either_engine() {
    let gru = RecurrentClassifier::new(Cell::Gru)
        .build(InitialWeights::seeded(3))
        .expect("builds");
    for model in [mlp(&[8, 6, 3], 1), gru] {
        let load = |engine| Servable::load(model.as_bytes(), &LoadOptions { engine, ..options() }).expect("loads");
        let (tract, plan) = (load(Engine::Tract), load(Engine::Plan));
        assert_eq!(
            (tract.engine(), plan.engine()),
            (Engine::Tract, Engine::Plan),
            "{}",
            plan.engine_reason()
        );
        assert_eq!((tract.inputs(), tract.outputs()), (plan.inputs(), plan.outputs()));
        for batch in [1, 4, 7] {
            let inputs = trial::pattern(tract.inputs(), &tract.with_batch(batch), 5).expect("fills");
            let (a, b) = (tract.run(&inputs).expect("runs"), plan.run(&inputs).expect("runs"));
            assert!(a.iter().zip(&b).all(|(a, b)| a.is_close(b, 1e-5)), "{batch} rows");
        }
    }
}

/// The plan gives what one thread gives, whoever runs beside it.
#[test]
fn should_share_the_weights_of_a_plan_between_threads() {
    let options = LoadOptions {
        engine: Engine::Plan,
        ..options()
    };
    let model = Servable::load(mlp(&[8, 6, 3], 1).as_bytes(), &options).expect("loads");
    let inputs: Vec<Tensor> = (0..4)
        .map(|i| rows(4, 8 * 4).slice(1, 8 * i, 8 * i + 8).expect("in range"))
        .collect();
    let expected: Vec<_> = inputs
        .iter()
        .map(|input| model.run(std::slice::from_ref(input)).expect("runs"))
        .collect();
    std::thread::scope(|scope| {
        for (input, expected) in inputs.iter().zip(&expected) {
            let model = &model;
            scope.spawn(move || {
                for _ in 0..200 {
                    assert_eq!(&model.run(std::slice::from_ref(input)).expect("runs"), expected);
                }
            });
        }
    });
}

#[test]
fn should_refuse_what_only_one_engine_was_asked_for_and_can_not_do() {
    // float64 is tract's alone.
    let model = with_last(|graph, output| {
        let cast = |input: &str, output: &str, to: i64| NodeProto {
            op_type: "Cast".to_owned(),
            input: vec![input.to_owned()],
            output: vec![output.to_owned()],
            attribute: vec![AttributeProto {
                name: "to".to_owned(),
                r#type: AttributeType::Int as i32,
                i: Some(to),
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        };
        graph.node.push(cast("inner", output, 11));
        if let Some(tensor) = graph.output[0].r#type.as_mut() {
            *tensor = aimass_onnx::proto::TypeProto::default();
        }
    });
    let load = |engine| Servable::load(model.as_bytes(), &LoadOptions { engine, ..options() });
    assert!(matches!(load(Engine::Plan), Err(LoadError::Plan { .. })));
    let auto = load(Engine::Auto).expect("tract runs it");
    assert_eq!(auto.engine(), Engine::Tract);
    assert!(auto.engine_reason().contains("float64"), "{}", auto.engine_reason());
}
