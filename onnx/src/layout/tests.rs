use super::*;
use crate::testing::{model, node, tensor, testdata};

fn rules(globs: &[&str]) -> TrainableRules {
    let globs: Vec<_> = globs.iter().map(|&glob| glob.to_owned()).collect();
    TrainableRules::new(&globs).expect("globs that parse")
}

/// Two layers and a constant that no slot makes a weight.
fn two_layers() -> Model {
    let ones = |name, dims: &[i64]| tensor(name, dims, &vec![1.0; dims.iter().product::<i64>() as usize]);
    model(
        vec![
            node("Gemm", &["x", "fc1.weight", "fc1.bias"], &["h"]),
            node("Mul", &["h", "scale"], &["s"]),
            node("MatMul", &["s", "fc2.weight"], &["y"]),
        ],
        vec![
            ones("fc1.bias", &[3]),
            ones("fc1.weight", &[2, 3]),
            ones("scale", &[]),
            ones("fc2.weight", &[3, 2]),
        ],
    )
}

fn summary(layout: &ParamLayout) -> Vec<(&str, ParamKind, usize)> {
    layout
        .params()
        .iter()
        .map(|param| (param.name.as_str(), param.kind, param.offset))
        .collect()
}

#[test]
fn parameters_keep_the_files_order_and_offsets_count_by_kind() {
    use ParamKind::{Frozen, Weight};
    let layout = two_layers().layout(&TrainableRules::default()).expect("weights");
    assert_eq!(
        summary(&layout),
        [
            ("fc1.bias", Weight, 0),
            ("fc1.weight", Weight, 3),
            ("scale", Frozen, 0),
            ("fc2.weight", Weight, 9)
        ]
    );
    assert_eq!((layout.n_weights(), layout.params()[1].range()), (15, 3..9));
}

#[test]
fn globs_train_and_freeze_and_the_last_match_wins() {
    use ParamKind::{Frozen, Weight};
    let kinds = |globs: &[&str]| -> Vec<ParamKind> {
        let layout = two_layers().layout(&rules(globs)).expect("weights");
        layout.params().iter().map(|param| param.kind).collect()
    };
    assert_eq!(kinds(&["scale"]), [Weight; 4]);
    assert_eq!(kinds(&["!fc1.*"]), [Frozen, Frozen, Frozen, Weight]);
    assert_eq!(kinds(&["!*", "*.weight"]), [Frozen, Weight, Frozen, Weight]);
    assert_eq!(kinds(&["*.weight", "!fc*", "fc2.*"]), [Frozen, Frozen, Frozen, Weight]);
}

#[test]
fn running_statistics_are_buffers_and_no_glob_trains_them() {
    let model = Model::from_bytes(&testdata("mixed.onnx")).expect("sound");
    let kind_of = |globs: &[&str], name: &str| {
        let layout = model.layout(&rules(globs)).expect("weights");
        layout.params().iter().find(|param| param.name == name).map(|param| param.kind)
    };
    assert_eq!(kind_of(&[], "bn.mean"), Some(ParamKind::Buffer));
    assert_eq!(kind_of(&["*"], "bn.mean"), Some(ParamKind::Buffer));
    assert_eq!(kind_of(&["!bn.*"], "bn.mean"), Some(ParamKind::Frozen));
    // Reached through Transpose; the Add after MatMul; int64 is no parameter.
    assert_eq!(kind_of(&[], "fc.weight"), Some(ParamKind::Weight));
    assert_eq!(kind_of(&[], "fc.bias"), Some(ParamKind::Weight));
    assert_eq!(kind_of(&[], "shape"), None);
    let layout = model.layout(&TrainableRules::default()).expect("weights");
    assert_eq!((layout.n_weights(), layout.n_buffers()), (18 + 2 + 2 + 2 + 96 + 3, 4));
}

#[test]
fn rules_that_fit_nothing_are_refused() {
    let model = two_layers();
    let error = model.layout(&rules(&["fc1.*", "!fc9.*"])).expect_err("no such layer");
    assert!(matches!(&error, LayoutError::Unmatched { glob, known } if glob == "!fc9.*" && known.starts_with("fc1.bias, ")));
    assert_eq!(model.layout(&rules(&["!*"])), Err(LayoutError::NothingTrains));
    let broken = TrainableRules::new(&["fc[1".to_owned()]).map(|_| ());
    assert!(matches!(broken, Err(LayoutError::Glob { glob, .. }) if glob == "fc[1"));
}

#[test]
fn canonical_bytes_are_as_documented() {
    let layout = model(vec![node("MatMul", &["x", "w"], &["y"])], vec![tensor("w", &[2, 2], &[0.0; 4])])
        .layout(&TrainableRules::default())
        .expect("weights");
    let mut expected = b"aimass layout v1\n".to_vec();
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, b'w', 0]);
    expected.extend([2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0; 8]);
    assert_eq!(layout.canonical_bytes(), expected);
}

#[test]
fn canonical_bytes_tell_layouts_apart() {
    let model = two_layers();
    let bytes = |globs: &[&str]| model.layout(&rules(globs)).expect("weights").canonical_bytes();
    assert_eq!(bytes(&[]), bytes(&["fc1.bias"]));
    assert_ne!(bytes(&[]), bytes(&["scale"]));
    assert_ne!(bytes(&[]), bytes(&["!fc1.bias"]));
}

#[test]
fn a_layout_is_made_again_from_its_kinds() {
    let model = two_layers();
    for globs in [&["!fc1.*"][..], &["scale"], &[]] {
        let layout = model.layout(&rules(globs)).expect("weights");
        let kinds: Vec<_> = layout.params().iter().map(|param| param.kind).collect();
        assert_eq!(ParamLayout::with_kinds(&model, &kinds), Some(layout));
        assert_eq!(ParamLayout::with_kinds(&model, &kinds[1..]), None, "one is missing");
        assert_eq!(
            ParamLayout::with_kinds(&model, &[&kinds[..], &kinds[..1]].concat()),
            None,
            "one too many"
        );
    }
}

#[test]
fn a_glob_does_not_train_the_fill_of_a_mask() {
    let nodes = vec![
        node("Add", &["x", "offset"], &["moved"]),
        node("Where", &["mask", "moved", "fill"], &["y"]),
    ];
    let mask = crate::proto::TensorProto {
        data_type: crate::proto::DataType::Bool as i32,
        raw_data: vec![1, 0].into(),
        ..tensor("mask", &[2], &[])
    };
    let initializers = vec![
        tensor("offset", &[2], &[0.5, 1.0]),
        tensor("fill", &[1], &[f32::NEG_INFINITY]),
        mask,
    ];
    let layout = model(nodes, initializers)
        .layout(&TrainableRules::new(&["*".to_owned()]).expect("a glob"))
        .expect("trains");
    let kind = |name: &str| layout.params().iter().find(|p| p.name == name).map(|p| p.kind);
    assert_eq!((kind("offset"), kind("fill")), (Some(ParamKind::Weight), Some(ParamKind::Frozen)));
}
