//! What can't run here, and hostile graphs: each is refused by node and op, and nothing large is allocated before.

use aimass_onnx::Model;
use aimass_onnx::proto::{AttributeProto, TensorProto};

use crate::testing::{self, floats, ints, node};
use crate::{Loss, fit_check};

/// What checking the model says; it must be refused.
pub(super) fn refusal(model: &Model) -> String {
    let layout = testing::layout(model);
    fit_check(model, &layout, 3, &Loss::cross_entropy().into(), Some(2))
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn what_can_not_run_is_refused_by_node_and_op() {
    let list = |name: &str, values: &[i64]| AttributeProto::int_list(name, values);
    let reshaped = |shape: &[i64], mut nodes: Vec<_>| {
        let mut all = vec![node("Reshape", &["x", "to"], "r", vec![])];
        all.append(&mut nodes);
        all.push(node("Reshape", &["z", "back"], "h", vec![]));
        testing::behind(
            17,
            all,
            vec![ints("to", shape), ints("back", &[0, 3]), floats("k", &[1, 2, 2], &[0.0; 4])],
        )
    };
    let one = |op: &str, attributes: Vec<AttributeProto>| testing::behind(17, vec![node(op, &["x"], "h", attributes)], vec![]);
    let two = |op: &str, second: &str, more| testing::behind(17, vec![node(op, &["x", second], "h", vec![])], more);
    let expected = [
        (one("Det", vec![]), "`the_det` (Det): the op is not supported"),
        (
            one("Relu", vec![AttributeProto::float("alpha", 1.0)]),
            "`the_relu` (Relu): its attribute `alpha` is not supported",
        ),
        (
            one("LeakyRelu", vec![AttributeProto::int("alpha", 1)]),
            "its attribute `alpha` is of the type Int",
        ),
        (one("Cast", vec![AttributeProto::int("to", 10)]), "casts to the element type 10"),
        (
            one("Cast", vec![AttributeProto::int("to", 7)]),
            "`the_gemm` (Gemm): its input 0 is made of integers where floats are needed",
        ),
        (one("Transpose", vec![list("perm", &[0, 0])]), "name each dimension once"),
        (
            one("Softmax", vec![AttributeProto::int("axis", 2)]),
            "axis 2 is outside a tensor of 2 dimensions",
        ),
        (
            one("Gelu", vec![AttributeProto::text("approximate", "cubic")]),
            "`approximate` is `cubic`",
        ),
        (one("MaxPool", vec![list("kernel_shape", &[2])]), "its input has 2 dimensions"),
        (two("Add", "c", vec![floats("c", &[4], &[0.0; 4])]), "do not broadcast"),
        (two("Pow", "i", vec![ints("i", &[1, 2])]), "do not broadcast"),
        (two("Reshape", "s", vec![ints("s", &[0, 4])]), "can't become [0, 4]"),
        (two("Reshape", "s", vec![ints("s", &[-1, -1])]), "can't become [-1, -1]"),
        (two("Reshape", "x", vec![]), "known integers are needed"),
        (two("MatMul", "m", vec![floats("m", &[2, 3], &[0.0; 6])]), "can't be multiplied"),
        (
            two("Gather", "i", vec![ints("i", &[9])]),
            "`the_gather` (Gather): the index 9 is outside an axis of",
        ),
        (two("Gather", "x", vec![]), "its indices are computed from floats"),
        (two("Squeeze", "a", vec![ints("a", &[1])]), "is not 1"),
        (two("Concat", "c", vec![floats("c", &[1, 3, 1], &[0.0; 3])]), "can't be joined"),
        (
            two("Clip", "c", vec![floats("c", &[2, 1, 1], &[0.0; 2])]),
            "its `min` has the shape [2, 1, 1]",
        ),
        (two("Reshape", "s", vec![ints("s", &[0, i64::MAX])]), "can't become"),
        (
            two("Add", "big", vec![floats("big", &[1 << 8, 1, 1], &[0.0; 1 << 8])]),
            "Gemm takes matrices",
        ),
        (
            reshaped(&[0, 1, 3], vec![node("Conv", &["r", "k"], "z", vec![])]),
            "do not fit an input of shape",
        ),
        (
            reshaped(&[0, 1, 3], vec![node("MaxPool", &["r"], "z", vec![list("kernel_shape", &[4])])]),
            "its window spans 4",
        ),
        (
            reshaped(&[0, 1, 3], vec![node("MaxPool", &["r"], "z", vec![])]),
            "`kernel_shape` is missing",
        ),
        (
            reshaped(&[0, 1, 3], vec![node("MaxPool", &["r"], "z", vec![list("kernel_shape", &[0])])]),
            "which is not 1 numbers from 1",
        ),
        (
            reshaped(
                &[0, 1, 3],
                vec![node(
                    "MaxPool",
                    &["r"],
                    "z",
                    vec![list("kernel_shape", &[1]), list("pads", &[1, 1])],
                )],
            ),
            "wholly in the padding",
        ),
    ];
    for (model, text) in expected {
        let said = refusal(&model);
        assert!(said.contains(text), "expected `{text}`, got `{said}`");
        assert!(said.contains("node `"), "no node named: {said}");
    }
}

#[test]
fn huge_outputs_are_refused_before_anything_is_allocated() {
    let big = floats("big", &[1 << 14, 1, 1], &vec![0.0; 1 << 14]);
    let wide = floats("wide", &[1 << 14, 1, 1, 1], &vec![0.0; 1 << 14]);
    let nodes = vec![node("Add", &["x", "big"], "a", vec![]), node("Add", &["a", "wide"], "h", vec![])];
    let said = refusal(&testing::behind(17, nodes, vec![big, wide]));
    assert!(said.contains("past the memory limit"), "{said}");
}

#[test]
fn what_indices_and_shapes_can_not_do_is_refused() {
    let int = AttributeProto::int;
    let text = AttributeProto::text;
    let h = i64::MAX;
    // Op, names of the inputs after `x`, initializers, attributes, what is said.
    type Refused = (
        &'static str,
        &'static [&'static str],
        Vec<TensorProto>,
        Vec<AttributeProto>,
        &'static str,
    );
    let expected: Vec<Refused> = vec![
        (
            "Slice",
            &["s", "e"],
            vec![ints("s", &[0]), ints("e", &[1, 1])],
            vec![],
            "differ in length",
        ),
        (
            "Slice",
            &["s", "e", "a", "t"],
            vec![ints("s", &[0]), ints("e", &[1]), ints("a", &[1]), ints("t", &[0])],
            vec![],
            "its step is 0",
        ),
        (
            "Slice",
            &["s", "e"],
            vec![ints("s", &[3]), ints("e", &[3])],
            vec![],
            "which is empty",
        ),
        (
            "Slice",
            &["s", "e", "a"],
            vec![ints("s", &[0]), ints("e", &[1]), ints("a", &[2])],
            vec![],
            "axis 2 is outside",
        ),
        (
            "Split",
            &["s"],
            vec![ints("s", &[h, h])],
            vec![int("axis", 1)],
            "do not make 1 parts",
        ),
        ("Expand", &["s"], vec![ints("s", &[h, h, 1, 3])], vec![], "past the memory limit"),
        ("Expand", &["s"], vec![ints("s", &[2])], vec![], "can't be expanded to [2]"),
        ("Expand", &["s"], vec![ints("s", &[-1])], vec![], "can't be expanded to [-1]"),
        ("Tile", &["r"], vec![ints("r", &[h, h])], vec![], "can't be repeated"),
        ("Tile", &["r"], vec![ints("r", &[1, 1 << 40])], vec![], "past the limit"),
        ("Tile", &["r"], vec![ints("r", &[2])], vec![], "can't be repeated"),
        ("Pad", &["p"], vec![ints("p", &[0, h, 0, h])], vec![], "its pads"),
        ("Pad", &["p"], vec![ints("p", &[0, 1 << 40, 0, 0])], vec![], "past the memory limit"),
        (
            "Pad",
            &["p"],
            vec![ints("p", &[0, 1 << 40, 0, 0])],
            vec![text("mode", "wrap")],
            "past the limit",
        ),
        (
            "Pad",
            &["p"],
            vec![ints("p", &[0, -3, 0, 1])],
            vec![],
            "leave nothing of an axis of 3",
        ),
        ("Pad", &["p"], vec![ints("p", &[0, 1])], vec![], "do not fit 2 axes"),
        (
            "Pad",
            &["p"],
            vec![ints("p", &[0; 4])],
            vec![text("mode", "mirror")],
            "its mode is `mirror`",
        ),
        ("Where", &["x", "x"], vec![], vec![], "its input 0 is not made of booleans"),
        ("GatherElements", &["i"], vec![ints("i", &[0])], vec![], "do not fit a tensor"),
        ("GatherND", &["i"], vec![ints("i", &[0, 0, 0])], vec![], "do not fit a tensor"),
        (
            "GatherND",
            &["i"],
            vec![ints("i", &[0, 0])],
            vec![int("batch_dims", h)],
            "do not fit a tensor",
        ),
        (
            "GatherND",
            &["i"],
            vec![ints("i", &[0, 3])],
            vec![],
            "the index 3 is outside an axis of 3",
        ),
        (
            "ScatterND",
            &["i", "x"],
            vec![ints("i", &[0, 0])],
            vec![],
            "its updates have the shape",
        ),
        ("Trilu", &["k"], vec![ints("k", &[1, 1])], vec![], "takes matrices and a scalar"),
        ("TopK", &["k"], vec![ints("k", &[4])], vec![], "it takes 4 of an axis of 3"),
        ("TopK", &["k"], vec![ints("k", &[-1])], vec![], "it takes -1 of an axis of 3"),
        ("CumSum", &["a"], vec![ints("a", &[2])], vec![], "axis 2 is outside"),
        ("NonZero", &[], vec![], vec![], "supported on integers and booleans"),
        (
            "Compress",
            &["c"],
            vec![ints("c", &[1, 1, 1, 1])],
            vec![int("axis", 1)],
            "has 4 values for 3",
        ),
        (
            "Resize",
            &["", "s"],
            vec![floats("s", &[1], &[2.0])],
            vec![],
            "not one for each of 2 axes",
        ),
        (
            "Resize",
            &["", "s"],
            vec![floats("s", &[2], &[1.0, f32::NAN])],
            vec![],
            "not a positive number",
        ),
        ("Resize", &["", "s"], vec![floats("s", &[2], &[1.0, 1e8])], vec![], "past the limit"),
        ("Resize", &["", "", "n"], vec![ints("n", &[3, h])], vec![], "past the limit"),
        (
            "Resize",
            &["", "s"],
            vec![floats("s", &[2], &[1.0, 2.0])],
            vec![text("coordinate_transformation_mode", "tf_crop_and_resize")],
            "tf_crop_and_resize",
        ),
        ("Resize", &["", "x"], vec![], vec![], "its scales are not constants"),
        (
            "DepthToSpace",
            &[],
            vec![],
            vec![int("blocksize", h)],
            "it takes [batch, channels, height, width]",
        ),
        (
            "Einsum",
            &["x"],
            vec![],
            vec![text("equation", "ij,jk->ik")],
            "does not fit the operands",
        ),
        ("Einsum", &["x"], vec![], vec![text("equation", "ii,ij->ij")], "repeats a letter"),
        (
            "Einsum",
            &["x", "x"],
            vec![],
            vec![text("equation", "ij,ij,ij->ij")],
            "one or two operands",
        ),
        ("Einsum", &[], vec![], vec![text("equation", "i->i")], "does not fit"),
        ("Einsum", &[], vec![], vec![text("equation", "ij->ik")], "no operand has"),
        (
            "EyeLike",
            &[],
            vec![],
            vec![text("dtype", "float")],
            "its attribute `dtype` is of the type String",
        ),
        ("ReduceMax", &["a"], vec![ints("a", &[-3])], vec![], "axis -3 is outside"),
        ("Equal", &["i"], vec![ints("i", &[1])], vec![], "it compares float with int"),
        (
            "Mod",
            &["i"],
            vec![ints("i", &[1])],
            vec![],
            "made of integers where floats are needed",
        ),
        (
            "OneHot",
            &["d", "x"],
            vec![ints("d", &[3])],
            vec![],
            "its indices are computed from floats",
        ),
        ("ArgMax", &[], vec![], vec![], "`the_gemm` (Gemm): its input 0 is made of integers"),
    ];
    for (op, more, initializers, attributes, said) in expected {
        let inputs: Vec<&str> = std::iter::once("x").chain(more.iter().copied()).collect();
        let model = testing::behind(18, vec![node(op, &inputs, "h", attributes)], initializers);
        let found = refusal(&model);
        assert!(found.contains(said), "{op}: expected `{said}`, got `{found}`");
        assert!(found.contains("node `"), "no node named: {found}");
    }
}

#[test]
fn hostile_shape_arithmetic_is_refused() {
    let int = AttributeProto::int;
    let h = i64::MAX;
    // Nodes from integers to `s`, which shapes an `Expand`, and what is said.
    let expected = [
        (
            vec![node("ConstantOfShape", &["a"], "f", vec![])],
            vec![ints("a", &[h, h])],
            "past the limit",
        ),
        (
            vec![node("ConstantOfShape", &["a"], "f", vec![])],
            vec![ints("a", &[-1])],
            "[-1] is no shape",
        ),
        (
            vec![node("Range", &["one", "c", "one"], "f", vec![])],
            vec![ints("c", &[h])],
            "past the limit",
        ),
        (
            vec![node("Range", &["c", "one", "one"], "f", vec![])],
            vec![ints("c", &[i64::MIN])],
            "past the limit",
        ),
        (
            vec![node("Expand", &["one", "a"], "f", vec![])],
            vec![ints("a", &[1 << 13, 1 << 13])],
            "past the limit",
        ),
        (
            vec![node("Tile", &["one", "a"], "f", vec![])],
            vec![ints("a", &[1 << 30])],
            "past the limit",
        ),
        (
            vec![node("Pad", &["one", "a"], "f", vec![])],
            vec![ints("a", &[1 << 30, 0])],
            "past the limit",
        ),
        (
            vec![node("OneHot", &["one", "c", "a"], "f", vec![])],
            vec![ints("c", &[h]), ints("a", &[0, 1])],
            "past the limit",
        ),
        (
            vec![node("CumSum", &["a", "zero"], "f", vec![])],
            vec![ints("a", &[h, 1]), ints("zero", &[0])],
            "overflows",
        ),
        (vec![node("ReduceProd", &["a"], "f", vec![])], vec![ints("a", &[h, 2])], "overflows"),
        (
            vec![node("Pow", &["a", "a"], "f", vec![])],
            vec![ints("a", &[1 << 40])],
            "overflows",
        ),
        (
            vec![node("ArgMax", &["a"], "f", vec![int("axis", h)])],
            vec![ints("a", &[1])],
            "is outside",
        ),
        (
            vec![node("ScatterElements", &["a", "c", "a"], "f", vec![])],
            vec![ints("a", &[1]), ints("c", &[h])],
            "is outside",
        ),
        (
            vec![node("Split", &["a", "c"], "f", vec![])],
            vec![ints("a", &[1]), ints("c", &[h])],
            "do not make",
        ),
        (
            vec![node("Trilu", &["a", "c"], "f", vec![])],
            vec![ints("a", &[1]), ints("c", &[h])],
            "takes matrices",
        ),
        (
            vec![node("EyeLike", &["a"], "f", vec![int("k", h)])],
            vec![ints("a", &[1])],
            "takes a matrix",
        ),
    ];
    for (mut nodes, mut initializers, said) in expected {
        nodes.push(node("Expand", &["x", "f"], "h", vec![]));
        initializers.push(ints("one", &[1]));
        let found = refusal(&testing::behind(18, nodes, initializers));
        assert!(found.contains(said), "expected `{said}`, got `{found}`");
    }
}
