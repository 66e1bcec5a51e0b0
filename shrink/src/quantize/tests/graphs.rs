//! The graphs that come out.

use super::*;

fn ops(model: &Model) -> Vec<&str> {
    model.graph().node.iter().map(|node| node.op_type.as_str()).collect()
}

fn count(model: &Model, op: &str) -> usize {
    ops(model).iter().filter(|&&found| found == op).count()
}

fn ints(model: &Model, name: &str) -> Ints {
    Ints::of(&model.initializer(name).unwrap_or_else(|| panic!("{name} is there"))).expect("integers")
}

#[test]
fn should_observe_what_layers_and_glue_read() {
    let (watched, names) = observe(&small_cnn(17), &Options::default()).expect("layers");
    // Not c1, which only the Relu reads; p and f have the scale of a.
    assert_eq!(names, ["a", "c2", "r1", "x"]);
    let outputs: Vec<&str> = watched.outputs().iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["y", "a", "c2", "r1"]);
}

#[test]
fn should_store_weights_in_a_quarter() {
    let model = small_cnn(17);
    let options = Options::default();
    let small = int8(&model, &observed(&model, &options), &options).expect("it quantizes");
    for name in ["w1", "w2", "w3", "b1", "b3"] {
        assert!(small.initializer(name).is_none(), "{name} left the file");
    }
    assert_eq!(ints(&small, "w3/quantized").shape, [5, 200]);
    assert_eq!(count(&small, "QuantizeLinear"), 6, "{:?}", ops(&small));
    // Six activations, three weights, two biases.
    assert_eq!(count(&small, "DequantizeLinear"), 11);
    // In each channel the largest magnitude is 127.
    let w1 = ints(&small, "w1/quantized");
    for channel in w1.values.chunks(18) {
        assert_eq!(channel.iter().map(|v| v.abs()).max(), Some(127));
    }
    // A bias in steps of both scales.
    let (scale, bias) = (small.initializer("b3/scale"), ints(&small, "b3/quantized"));
    let scale = scale.and_then(|scale| scale.to_f32()).expect("floats");
    for ((step, scale), value) in bias.values.iter().zip(scale).zip(pattern(5, 5)) {
        assert!((*step as f32 * scale - value).abs() <= scale * 0.5001);
    }
}

#[test]
fn should_share_scales_through_what_moves_values() {
    let model = small_cnn(17);
    let options = Options::default();
    let fake = fake(&model, &observed(&model, &options), &options).expect("it quantizes");
    let scale = |name: &str| fake.initializer(&format!("{name}/scale")).and_then(|scale| scale.to_f32());
    assert_eq!(scale("p"), scale("a"));
    assert_eq!(scale("f"), scale("a"));
}

#[test]
fn should_train_the_weights_of_a_fake_graph() {
    let model = small_cnn(17);
    let options = Options::default();
    let fake = fake(&model, &observed(&model, &options), &options).expect("it quantizes");
    let rules = TrainableRules::default();
    let (before, after) = (model.layout(&rules).expect("weights"), fake.layout(&rules).expect("weights"));
    assert_eq!(before.n_weights(), after.n_weights());
    assert_eq!(model.weights(&before), fake.weights(&after));
    // What training changes is what is frozen.
    let moved: Vec<f32> = fake.weights(&after).expect("weights").iter().map(|w| w * 0.5).collect();
    let frozen = |model: &Model| ints(&freeze(model).expect("a fake graph"), "w2/quantized");
    let halved = frozen(&fake.with_weights(&after, &moved).expect("as many"));
    for (half, whole) in halved.values.iter().zip(frozen(&fake).values) {
        assert!((2 * half - whole).abs() <= 2, "{half} {whole}");
    }
    let mut broken = moved;
    broken[3] = f32::NAN;
    let broken = fake.with_weights(&after, &broken).expect("as many");
    assert!(matches!(freeze(&broken), Err(QuantizeError::Weight { index: 3, .. })));
}

#[test]
fn should_leave_excluded_layers_in_floats() {
    let model = small_cnn(17);
    let exclude = |globs: &[&str]| Options {
        exclude: globs.iter().map(|&glob| glob.to_owned()).collect(),
        ..Options::default()
    };
    // By node, by output, by weight.
    for (glob, kept) in [("y", "w3"), ("w3", "w3"), ("c?", "w1")] {
        let options = exclude(&[glob]);
        let small = int8(&model, &observed(&model, &options), &options).expect("the others quantize");
        assert!(small.initializer(kept).is_some(), "{glob}");
    }
    assert!(matches!(
        observe(&model, &exclude(&["nothing*"])),
        Err(QuantizeError::Unmatched { .. })
    ));
    assert!(matches!(observe(&model, &exclude(&["[x"])), Err(QuantizeError::Glob { .. })));
    assert!(matches!(observe(&model, &exclude(&["*"])), Err(QuantizeError::Nothing { .. })));
}

#[test]
fn should_name_what_was_not_observed() {
    let (model, options) = (small_cnn(17), Options::default());
    let (_, names) = observe(&model, &options).expect("layers");
    let mut seen = Observed::new(&names);
    for name in names.iter().filter(|name| *name != "r1") {
        seen.add(name, &[1.0]).expect("finite");
    }
    assert_eq!(
        int8(&model, &seen, &options).map(|_| ()),
        Err(QuantizeError::Unobserved { tensor: "r1".to_owned() })
    );
    assert!(matches!(
        int8(&model, &Observed::from_histograms(std::collections::BTreeMap::new()), &options),
        Err(QuantizeError::Unobserved { .. })
    ));
}

#[test]
fn should_refuse_to_quantize_twice() {
    let (model, options) = (small_cnn(17), Options::default());
    let small = int8(&model, &observed(&model, &options), &options).expect("it quantizes");
    assert!(matches!(observe(&small, &options), Err(QuantizeError::Nothing { .. })));
    assert!(matches!(dynamic::quantize(&small, &options), Err(QuantizeError::Nothing { .. })));
    assert!(matches!(freeze(&small), Err(QuantizeError::Nothing { .. })));
    assert!(matches!(freeze(&model), Err(QuantizeError::Nothing { .. })));
}

#[test]
fn should_raise_the_opset_where_nothing_changes_meaning() {
    let (model, options) = (small_cnn(11), Options::default());
    let small = int8(&model, &observed(&model, &options), &options).expect("it quantizes");
    assert_eq!(small.opset(), 13);
    let nodes = vec![node("MatMul", &["x", "w"], "m"), node("Softmax", &["m"], "y")];
    let model = model_of(12, &[None, Some(4)], nodes, vec![floats("w", &[4, 4], &pattern(16, 1))]);
    let refused = int8(&model, &observed(&model, &options), &options).map(|_| ());
    let softmax = "Softmax \"y\"".to_owned();
    assert_eq!(refused, Err(QuantizeError::Opset { found: 12, node: softmax }));
}

#[test]
fn should_refuse_weights_that_are_not_finite() {
    let mut weights = pattern(16, 1);
    weights[5] = f32::INFINITY;
    let model = model_of(
        17,
        &[None, Some(4)],
        vec![node("MatMul", &["x", "w"], "y")],
        vec![floats("w", &[4, 4], &weights)],
    );
    let options = Options::default();
    let wrong = QuantizeError::Weight {
        tensor: "w".to_owned(),
        index: 5,
    };
    assert_eq!(int8(&model, &observed(&model, &options), &options).map(|_| ()), Err(wrong.clone()));
    assert_eq!(dynamic::quantize(&model, &options).map(|_| ()), Err(wrong.clone()));
    assert_eq!(blocks::quantize(&model, &blocks::Options::default()).map(|_| ()), Err(wrong));
}

#[test]
fn should_keep_recurrent_layers_in_floats_with_integer_weights() {
    let constants = vec![
        floats("w", &[1, 16, 3], &pattern(48, 1)),
        floats("r", &[1, 16, 4], &pattern(64, 2)),
        floats("table", &[300, 3], &pattern(900, 4)),
        floats("long", &[400, 3], &pattern(1200, 5)),
    ];
    let lstm = with(node("LSTM", &["x", "w", "r"], "y"), vec![AttributeProto::int("hidden_size", 4)]);
    let model = model_of(17, &[None, None, Some(3)], vec![lstm], constants);
    let options = Options::default();
    for small in [
        int8(&model, &observed(&model, &options), &options).expect("it quantizes"),
        dynamic::quantize(&model, &options).expect("it quantizes"),
    ] {
        assert_eq!(ops(&small), ["DequantizeLinear", "DequantizeLinear", "LSTM"]);
        assert_eq!(
            small
                .initializers()
                .filter(|tensor| tensor.to_f32().is_some_and(|v| v.len() > 16))
                .count(),
            0
        );
    }
}

#[test]
fn should_look_rows_up_before_they_become_floats() {
    let table = floats("table", &[400, 3], &pattern(1200, 5));
    let ids = crate::parts::longs("ids", &[1, 7]);
    let nodes = vec![node("Gather", &["table", "ids"], "e"), node("Add", &["e", "x"], "y")];
    let model = model_of(17, &[Some(2), Some(3)], nodes, vec![table, ids]);
    let options = Options::default();
    let none = Observed::new(&[]);
    for small in [int8(&model, &none, &options), dynamic::quantize(&model, &options)] {
        let small = small.expect("it quantizes");
        assert_eq!(ops(&small), ["Gather", "DequantizeLinear", "Add"]);
        assert!(small.as_bytes().len() * 3 < model.as_bytes().len());
    }
}

#[test]
fn should_multiply_in_integers_by_the_range_of_each_batch() {
    let small = dynamic::quantize(&small_cnn(17), &Options::default()).expect("it quantizes");
    assert_eq!((count(&small, "ConvInteger"), count(&small, "MatMulInteger")), (2, 1));
    assert_eq!((count(&small, "Conv"), count(&small, "Gemm")), (0, 0));
    // Transposed as the product needs it.
    assert!(small.initializer("w3/transposed").is_some_and(|tensor| tensor.shape == [200, 5]));
    let names: std::collections::BTreeSet<&str> = small.graph().node.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names.len(), small.graph().node.len(), "names are unique");
}

#[test]
fn should_store_weights_in_four_bits_and_bring_them_back() {
    let weights = pattern(100 * 6, 9);
    for (op, dims) in [("MatMul", [100, 6]), ("Gemm", [6, 100])] {
        let mut product = node(op, &["x", "w"], "y");
        if op == "Gemm" {
            product = with(product, vec![AttributeProto::int("transB", 1)]);
        }
        let model = model_of(17, &[None, Some(100)], vec![product], vec![floats("w", &dims, &weights)]);
        for block_size in blocks::BLOCK_SIZES {
            let options = blocks::Options {
                block_size,
                exclude: Vec::new(),
            };
            let small = blocks::quantize(&model, &options).expect("it quantizes");
            assert_eq!(ops(&small), ["MatMulNBits"]);
            let back = blocks::expand(&small).expect("its own graph");
            assert_eq!(ops(&back), ["MatMul"]);
            let back = back.initializers().next().and_then(|tensor| tensor.to_f32()).expect("the matrix");
            for (at, value) in back.iter().enumerate() {
                let (row, column) = (at / 6, at % 6);
                let original = if op == "Gemm" { weights[column * 100 + row] } else { weights[at] };
                // The scale is at most 0.5 / 8; the other end of a block saturates at 7.
                assert!((value - original).abs() <= 0.0626, "{op} {block_size}: {original} became {value}");
            }
        }
    }
    let odd = blocks::Options {
        block_size: 48,
        exclude: Vec::new(),
    };
    assert!(matches!(blocks::quantize(&small_cnn(17), &odd), Err(QuantizeError::Option { .. })));
}

#[test]
fn should_make_the_same_bytes_of_the_same_model() {
    let (model, options) = (small_cnn(17), Options::default());
    let make = || int8(&model, &observed(&model, &options), &options).expect("it quantizes").bytes();
    assert_eq!(make(), make());
}
