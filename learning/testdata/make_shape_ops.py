"""Writes ops_shapes.json: cases of the ops on shapes, indices, comparisons, orders and reductions, over floats, integers and booleans.

Run it with `pip install onnx numpy` and `python make_shape_ops.py`. What a case is and what the file holds: see op_cases.py.
"""

import numpy as np
from onnx import helper

from op_cases import Cases

cases = Cases("ops_shapes.json", 21)
case = cases.case
grid = cases.grid


def i64(*values):
    return np.array(values, np.int64)


def steps(shape, first=0):
    """Integers in order."""
    return (np.arange(np.prod(shape)) + first).reshape(shape).astype(np.int64)


def truths(shape):
    return (grid(shape) > 0).astype(bool)


def both(name, op, x, attributes=None, ints=None, opset=17, more=(), **options):
    """A case over floats, and one over integers of the same shape."""
    inputs = ["h", *more]
    case(name, [(op, inputs, "y", attributes or {})], x, ints=ints, opset=opset, **options)
    case(f"{name}_ints", [(op, inputs, "y", attributes or {})], {"h": steps(x, -5)}, ints=ints, opset=opset)


# Parts of tensors.
def cut(name, x, starts, ends, axes=None, step=None, **options):
    ints = {"starts": i64(*starts), "ends": i64(*ends)}
    more = ["starts", "ends"]
    for key, values in [("axes", axes), ("steps", step)]:
        if values is not None or (key == "axes" and step is not None):
            ints[key] = i64(*(values or range(len(starts))))
            more.append(key)
    both(f"slice_{name}", "Slice", x, ints=ints, more=more, **options)


cut("front", (3, 4), [0, 1], [2, 3])
cut("axis", (2, 5, 3), [1], [4], axes=[1])
cut("negative_axis", (2, 5, 3), [-3], [-1], axes=[-2])
cut("to_the_end", (2, 5), [2], [2**63 - 1], axes=[1])
cut("steps", (5, 6), [0, 1], [5, 6], step=[2, 3])
cut("backwards", (4, 5), [-1], [-(2**63)], axes=[1], step=[-1])
cut("backwards_by_two", (6, 3), [4], [0], axes=[0], step=[-2])
cut("beyond", (3, 4), [-9, 1], [9, 99])
cut("dim_of_one", (1, 4), [0], [1], axes=[0])
case("slice_attributes", [("Slice", ["h"], "y", {"starts": [1, 0], "ends": [3, -1], "axes": [1, 0]})], (3, 4), opset=9, expected=lambda h: h[0:-1, 1:3])
case("slice_of_a_mask", [("Greater", ["h", "c"], "m", {}), ("Slice", ["m", "s", "e", "a"], "y", {})], (3, 4), {"c": 0.0}, ints={"s": i64(1), "e": i64(3), "a": i64(1)}, frozen=["c"])

for name, x, attributes, sizes, opset, parts in [
    ("equal", (2, 6), {"axis": 1}, None, 13, 3),
    ("sizes", (2, 6), {"axis": -1}, [1, 3, 2], 13, 3),
    ("first_axis", (4, 3), {}, [3, 1], 17, 2),
    ("num_outputs", (2, 7), {"axis": 1, "num_outputs": 3}, None, 18, 3),
    ("attribute", (2, 5), {"axis": 1, "split": [2, 3]}, None, 11, 2),
    ("equal_opset_11", (4, 3), {"axis": 0}, None, 11, 2),
]:
    ints = {"sizes": i64(*sizes)} if sizes else {}
    names = [f"y{i}" for i in range(parts)]
    node = [("Split", ["h", *ints], names, attributes)]
    expected = None
    if opset == 11:
        places = np.cumsum(attributes.get("split", [2, 2]))[:-1]
        expected = lambda h, a=attributes["axis"], p=places: np.split(h, p, a)
    case(f"split_{name}", node, x, ints=ints, opset=opset, expected=expected)
    case(f"split_{name}_ints", node, {"h": steps(x)}, ints=ints, opset=opset, expected=expected)
case("split_one_part_used", [("Split", ["h"], ["a", "b"], {"axis": 1}), ("Tanh", ["b"], "y", {})], (2, 4))

both("expand", "Expand", (3, 1), ints={"s": i64(2, 3, 4)}, more=["s"])
both("expand_keeps_larger", "Expand", (3, 4), ints={"s": i64(1, 1)}, more=["s"])
both("expand_lower_rank", "Expand", (2, 1, 3), ints={"s": i64(4, 1)}, more=["s"])
both("expand_ones", "Expand", (1, 1), ints={"s": i64(1, 1, 1)}, more=["s"])
both("tile", "Tile", (2, 3), ints={"r": i64(2, 1)}, more=["r"])
both("tile_both", "Tile", (2, 3), ints={"r": i64(2, 3)}, more=["r"])
both("tile_once", "Tile", (2, 3), ints={"r": i64(1, 1)}, more=["r"])

both("pad_zeros", "Pad", (2, 3), ints={"p": i64(1, 0, 0, 2)}, more=["p"])
case("pad_value", [("Pad", ["h", "p", "v"], "y", {})], (2, 3), {"v": 1.5}, ints={"p": i64(0, 2, 1, 1)}, frozen=["v"])
case("pad_value_ints", [("Pad", ["h", "p", "v"], "y", {})], {"h": steps((2, 3))}, ints={"p": i64(0, 2, 1, 1), "v": np.int64(9)})
case("pad_crops", [("Pad", ["h", "p"], "y", {})], (4, 5), ints={"p": i64(-1, 2, 0, -2)}, expected=lambda h: np.pad(h[1:, :-2], [(0, 0), (2, 0)]))
case("pad_axes", [("Pad", ["h", "p", "", "a"], "y", {})], (2, 3, 4), ints={"p": i64(1, 2), "a": i64(-1)}, opset=18)
case("pad_axes_two", [("Pad", ["h", "p", "", "a"], "y", {"mode": "edge"})], (2, 3, 4), ints={"p": i64(1, 2, 0, 1), "a": i64(2, 0)}, opset=18)
both("pad_reflect", "Pad", (3, 4), {"mode": "reflect"}, ints={"p": i64(1, 3, 2, 2)}, more=["p"])
both("pad_edge", "Pad", (3, 4), {"mode": "edge"}, ints={"p": i64(1, 0, 2, 3)}, more=["p"])
both("pad_wrap", "Pad", (3, 4), {"mode": "wrap"}, ints={"p": i64(1, 2, 0, 3)}, more=["p"], opset=19)
case("pad_attribute", [("Pad", ["h"], "y", {"pads": [0, 1, 1, 0], "value": 0.5})], (2, 3), opset=10, expected=lambda h: np.pad(h, [(0, 1), (1, 0)], constant_values=0.5))
case("pad_images", [("Pad", ["h", "p"], "y", {"mode": "reflect"})], (1, 2, 3, 4), ints={"p": i64(0, 0, 1, 2, 0, 0, 2, 1)})

# Indices. Fed ones are checked for every batch; known ones while planning.
case("gather_ints", [("Gather", ["d", "i"], "y", {"axis": 1})], {"d": steps((2, 4)), "i": np.array([[0, -1], [2, 2]])})
case("gather_embedding", [("Gather", ["w", "i"], "y", {})], {"i": np.array([[0, 3, 3], [-1, 1, 0]])}, {"w": (5, 2)})
case("gather_embedding_int32", [("Gather", ["w", "i"], "y", {})], {"i": np.array([[0, 3], [2, 1]], np.int32)}, {"w": (5, 2)})
case("gather_last_axis", [("Gather", ["h", "i"], "y", {"axis": -1})], {"h": (2, 3, 4), "i": np.array([3, 0, 0])})
case("gather_scalar", [("Gather", ["h", "i"], "y", {"axis": 1})], {"h": (2, 3, 4), "i": np.array(1)})
case("gather_one_row", [("Gather", ["h", "i"], "y", {"axis": 0})], {"h": (1, 3), "i": np.array([0, 0])})
case("gather_of_a_mask", [("Less", ["h", "c"], "m", {}), ("Gather", ["m", "i"], "y", {"axis": 1})], {"h": (2, 4), "i": np.array([2, 0])}, {"c": 0.0}, frozen=["c"])
for kind, data in [("", (3, 4)), ("_ints", steps((3, 4)))]:
    case(f"gather_elements{kind}", [("GatherElements", ["d", "i"], "y", {"axis": 1})], {"d": data, "i": np.array([[0, 3], [-1, -1], [2, 1]])})
    case(f"gather_elements_axis_0{kind}", [("GatherElements", ["d", "i"], "y", {})], {"d": data, "i": np.array([[2, 0, 1, -1], [0, 0, 2, 1]])})
    case(f"gather_nd{kind}", [("GatherND", ["d", "i"], "y", {})], {"d": data, "i": np.array([[0, 1], [2, -1], [0, 1]])})
    case(f"gather_nd_rows{kind}", [("GatherND", ["d", "i"], "y", {})], {"d": data, "i": np.array([[[2], [0]], [[-1], [0]]])})
case("gather_elements_fewer_rows", [("GatherElements", ["d", "i"], "y", {"axis": 1})], {"d": (3, 4), "i": np.array([[0, 3]])}, expected=lambda d, i: d[:1][:, [0, 3]])
case("gather_nd_batch", [("GatherND", ["d", "i"], "y", {"batch_dims": 1})], {"d": (2, 3, 4), "i": np.array([[[1], [0]], [[2], [2]]])})
case("gather_nd_batch_ints", [("GatherND", ["d", "i"], "y", {"batch_dims": 1})], {"d": steps((2, 3, 4)), "i": np.array([[1], [2]])})
case("compress", [("Compress", ["h", "c"], "y", {"axis": 1})], (2, 4), ints={"c": np.array([True, False, True])})
case("compress_flat", [("Compress", ["h", "c"], "y", {})], (2, 3), ints={"c": np.array([False, True, False, False, True])})
case("compress_ints", [("Compress", ["h", "c"], "y", {"axis": 0})], {"h": steps((3, 2))}, ints={"c": np.array([False, True, True])})
case("compress_flat_ints", [("Compress", ["h", "c"], "y", {})], {"h": steps((3, 2))}, ints={"c": np.array([False, True, True])})


def put(name, nodes, inputs, expected=None, **options):
    """Indices fed, and where the data are floats those as well."""
    case(name, nodes, inputs, expected=expected, **options)


def scattered(name, d, i, u, reduction="none", axis=0, opset=18):
    attributes = {"axis": axis} if reduction == "none" else {"axis": axis, "reduction": reduction}
    node = [("ScatterElements", ["d", "i", "u"], "y", attributes)]
    case(f"scatter_elements_{name}", node, {"d": d, "i": np.array(i), "u": u}, opset=opset)
    ints = {"d": steps(d), "i": np.array(i), "u": steps(u, -3)}
    case(f"scatter_elements_{name}_ints", node, ints, opset=opset)


scattered("replace", (3, 4), [[0, 2, -1, 1]], (1, 4))
scattered("replace_axis_1", (2, 5), [[1, -1], [0, 3]], (2, 2), axis=1, opset=16)
scattered("add", (3, 4), [[0, 2, 2, 1], [0, 2, 0, 1]], (2, 4), "add")
scattered("add_last_axis", (2, 3), [[0, 0, 2, 2], [1, 1, 1, -1]], (2, 4), "add", axis=-1)
scattered("max", (3, 4), [[0, 2, 2, 1], [0, 2, 0, 1]], (2, 4), "max")
scattered("min", (3, 4), [[0, 2, 2, 1], [0, 2, 0, 1]], (2, 4), "min")
unique = np.array([[0, 2, 1, 1]])
case("scatter_elements_mul", [("ScatterElements", ["d", "i", "u"], "y", {"reduction": "mul"})], {"d": (3, 4), "u": (1, 4)}, ints={"i": unique}, opset=18)
case("scatter_elements_mul_ints", [("ScatterElements", ["d", "i", "u"], "y", {"reduction": "mul"})], {"d": steps((3, 4)), "i": unique, "u": steps((1, 4), 2)}, opset=18)
case(
    "scatter_elements_messages",
    [("Gather", ["h", "from"], "m", {}), ("ScatterElements", ["zeros", "to", "m"], "y", {"reduction": "add"})],
    {"h": (4, 2), "from": np.array([0, 1, 1, 3, 2]), "to": np.array([[1, 1], [0, 0], [3, 3], [1, 1], [1, 1]])},
    {"zeros": np.zeros((4, 2))},
    frozen=["zeros"],
    opset=18,
)
case(
    "scatter_elements_largest_message",
    [("Gather", ["h", "from"], "m", {}), ("ScatterElements", ["least", "to", "m"], "y", {"reduction": "max"})],
    {"h": (4, 2), "from": np.array([0, 1, 1, 3, 2]), "to": np.array([[1, 1], [0, 0], [3, 3], [1, 1], [1, 1]])},
    {"least": np.full((4, 2), -5.0)},
    frozen=["least"],
    opset=18,
)
for kind, d, u, u1 in [("", (4, 3), (2, 3), (3,)), ("_ints", steps((4, 3)), steps((2, 3), 50), steps((3,), 50))]:
    case(f"scatter_nd_rows{kind}", [("ScatterND", ["d", "i", "u"], "y", {})], {"d": d, "i": np.array([[2], [-1]]), "u": u}, opset=16)
    case(f"scatter_nd_elements{kind}", [("ScatterND", ["d", "i", "u"], "y", {})], {"d": d, "i": np.array([[0, 0], [1, -1], [3, 2]]), "u": u1}, opset=16)
    case(f"scatter_nd_add{kind}", [("ScatterND", ["d", "i", "u"], "y", {"reduction": "add"})], {"d": d, "i": np.array([[1], [1]]), "u": u}, opset=16)
    case(f"scatter_nd_max{kind}", [("ScatterND", ["d", "i", "u"], "y", {"reduction": "max"})], {"d": d, "i": np.array([[1], [1]]), "u": u}, opset=18)
case("scatter_nd_mul", [("ScatterND", ["d", "i", "u"], "y", {"reduction": "mul"})], {"d": (4, 3), "u": (2, 3)}, ints={"i": np.array([[0], [3]])}, opset=16)

case("one_hot", [("OneHot", ["i", "n", "v"], "y", {})], {"i": np.array([1, 3, -1, 7])}, {"v": [0.0, 1.0]}, ints={"n": np.int64(4)})
case("one_hot_axis_0", [("OneHot", ["i", "n", "v"], "y", {"axis": 0})], {"i": np.array([[1, 0], [2, -3]])}, {"v": [-0.5, 2.0]}, ints={"n": np.int64(3)})
case("one_hot_ints", [("OneHot", ["i", "n", "v"], "y", {"axis": 1})], {"i": np.array([[1, 0], [2, -3]])}, ints={"n": np.int64(3), "v": i64(7, 9)})
case("one_hot_classes", [("OneHot", ["i", "n", "v"], "o", {}), ("MatMul", ["o", "w"], "y", {})], {"i": np.array([1, 0, 2])}, {"v": [0.0, 1.0], "w": (3, 2)}, ints={"n": np.int64(3)}, frozen=["v"])
case("non_zero", [("NonZero", ["m"], "n", {}), ("Transpose", ["n"], "t", {}), ("GatherND", ["h", "t"], "y", {})], {"h": (2, 3)}, ints={"m": np.array([[True, False, True], [False, True, False]])})

# Comparisons.
for op in ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]:
    name = op.lower()
    case(f"{name}_floats", [(op, ["h", "w"], "y", {})], {"h": np.float32([[0, 1, 2], [2, 1, 0]])}, {"w": [[1.0, 1.0, 1.0]]})
    case(f"{name}_constant", [(op, ["h", "c"], "m", {}), ("Cast", ["m"], "f", {"to": 1}), ("Mul", ["h", "f"], "y", {})], {"h": np.float32([[0.5, 1, 2], [2, 1, 0.3]])}, {"c": 1.25}, frozen=["c"])
    case(f"{name}_ints", [(op, ["a", "b"], "y", {})], {"a": steps((2, 3)), "b": i64(1, 2, 2)})
case("equal_bools", [("Equal", ["a", "b"], "y", {})], {"a": truths((2, 3)), "b": truths((3,))})
case("equal_device_bools", [("Greater", ["h", "c"], "m", {}), ("Equal", ["m", "b"], "y", {})], {"h": (2, 3), "b": truths((3,))}, {"c": 0.0}, frozen=["c"])
for op in ["And", "Or", "Xor"]:
    case(f"{op.lower()}_bools", [(op, ["a", "b"], "y", {})], {"a": truths((2, 3)), "b": truths((3,))})
    case(f"{op.lower()}_mixed", [("Greater", ["h", "c"], "m", {}), (op, ["m", "b"], "y", {})], {"h": (2, 3), "b": truths((2, 1))}, {"c": 0.0}, frozen=["c"])
case("not_bools", [("Not", ["a"], "y", {})], {"a": truths((2, 3))})
case("not_device", [("Greater", ["h", "c"], "m", {}), ("Not", ["m"], "y", {})], {"h": (2, 3)}, {"c": 0.0}, frozen=["c"])
special = np.float32([[0, np.nan, np.inf], [-np.inf, 1, -1]])
case("is_nan", [("IsNaN", ["h"], "y", {})], {"h": special})
case("is_inf", [("IsInf", ["h"], "y", {})], {"h": special})
case("is_inf_positive", [("IsInf", ["h"], "y", {"detect_negative": 0})], {"h": special})
case("is_inf_negative", [("IsInf", ["h"], "y", {"detect_positive": 0})], {"h": special})
case("is_inf_neither", [("IsInf", ["h"], "y", {"detect_positive": 0, "detect_negative": 0})], {"h": special})

# Choices.
case("where", [("Where", ["m", "h", "w"], "y", {})], {"m": truths((3, 4)), "h": (3, 4)}, {"w": (3, 4)})
case("where_broadcast", [("Where", ["m", "h", "w"], "y", {})], {"m": truths((4,)), "h": (3, 1)}, {"w": (2, 1, 4)})
case("where_constant_right", [("Where", ["m", "h", "c"], "y", {})], {"m": truths((2, 1, 4)), "h": (3, 4)}, {"c": -3.0}, frozen=["c"])
case("where_constant_left", [("Where", ["m", "c", "h"], "y", {})], {"m": truths((3, 4)), "h": (3, 4)}, {"c": [-3.0]}, frozen=["c"])
case("where_both_constant", [("Where", ["m", "c", "d"], "y", {})], {"m": truths((3, 4))}, {"c": [-3.0], "d": 2.0}, frozen=["c", "d"])
case("where_device", [("Greater", ["h", "c"], "m", {}), ("Where", ["m", "h", "w"], "y", {})], (3, 4), {"c": 0.0, "w": (4,)}, frozen=["c"])
case("where_of_ints", [("Where", ["m", "a", "b"], "y", {})], {"m": truths((3, 4)), "a": steps((4,)), "b": i64(-1)})
case("where_of_ints_on_the_device", [("Greater", ["h", "c"], "m", {}), ("Where", ["m", "a", "b"], "y", {})], {"h": (3, 4), "a": steps((4,)), "b": i64(-1)}, {"c": 0.0}, frozen=["c"])
case("where_of_bools_on_the_device", [("Greater", ["h", "c"], "m", {}), ("Where", ["m", "a", "m"], "y", {})], {"h": (3, 4), "a": truths((4,))}, {"c": 0.0}, frozen=["c"])
case("where_masks_attention", [("Where", ["m", "h", "c"], "s", {}), ("Softmax", ["s"], "y", {})], {"m": np.tril(np.ones((4, 4), bool)), "h": (2, 4, 4)}, {"c": -np.inf}, frozen=["c"])
case("causal_mask_from_shapes", [("Shape", ["h"], "s", {"start": 1, "end": 2}), ("Squeeze", ["s"], "n", {}), ("Range", ["zero", "n", "one"], "r", {}), ("Unsqueeze", ["r", "a1"], "c", {}), ("Less", ["c", "r"], "m", {}), ("Where", ["m", "c0", "h"], "w", {}), ("Softmax", ["w"], "y", {})], (2, 3, 3), {"c0": -1e9}, ints={"zero": np.int64(0), "one": np.int64(1), "a1": i64(1)}, frozen=["c0"])
case("float_range_from_shapes", [("Shape", ["h"], "s", {"start": 1}), ("Squeeze", ["s"], "n", {}), ("Cast", ["n"], "f", {"to": 1}), ("Range", ["zero", "f", "one"], "r", {}), ("Less", ["r", "two"], "m", {}), ("Where", ["m", "h", "zero"], "y", {})], (2, 4), {"zero": 0.0, "one": 1.0, "two": 2.0}, frozen=["zero", "one", "two"])
case("attention_scale_by_shapes", [("Shape", ["h"], "s", {"start": -1}), ("Cast", ["s"], "f", {"to": 1}), ("Sqrt", ["f"], "r", {}), ("Div", ["one", "r"], "q", {}), ("Mul", ["h", "q"], "y", {})], (2, 4), {"one": [1.0]}, frozen=["one"])
case("integers_through_floats", [("Shape", ["h"], "s", {}), ("Cast", ["s"], "f", {"to": 1}), ("Mul", ["f", "half"], "g", {}), ("Floor", ["g"], "k", {}), ("Cast", ["k"], "e", {"to": 7}), ("Slice", ["h", "zeros", "e"], "y", {})], (4, 5), {"half": [0.5]}, ints={"zeros": i64(0, 0)}, frozen=["half"])
for name, x, k, attributes in [
    ("upper", (3, 4), None, {}),
    ("lower", (4, 3), None, {"upper": 0}),
    ("upper_above", (2, 3, 3), 1, {}),
    ("lower_below", (2, 3, 3), -1, {"upper": 0}),
    ("upper_below", (3, 3), -1, {}),
]:
    ints = {} if k is None else {"k": np.int64(k)}
    both(f"trilu_{name}", "Trilu", x, attributes, ints=ints, more=list(ints))
case("trilu_of_infinity", [("Trilu", ["c", "k"], "t", {}), ("Add", ["h", "t"], "s", {}), ("Softmax", ["s"], "y", {})], (3, 3), {"c": np.full((3, 3), -np.inf)}, ints={"k": np.int64(1)}, frozen=["c"])

# Shapes and constants.
case("size", [("Size", ["h"], "s", {}), ("Cast", ["s"], "f", {"to": 1}), ("Div", ["h", "f"], "y", {})], (2, 3))
case("size_ints", [("Size", ["h"], "y", {})], {"h": steps((2, 3))})
case("flatten_ints", [("Flatten", ["h"], "y", {"axis": -1})], {"h": steps((2, 3, 4))})
case("flatten_axis_0", [("Flatten", ["h"], "y", {"axis": 0})], (2, 3))
case("identity_ints", [("Identity", ["h"], "y", {})], {"h": steps((2, 3))})
case("reshape_ints", [("Reshape", ["h", "s"], "y", {})], {"h": steps((2, 3))}, ints={"s": i64(-1, 2)})
case("squeeze_ints", [("Squeeze", ["h", "a"], "y", {})], {"h": steps((2, 1, 3))}, ints={"a": i64(-2)})
case("unsqueeze_ints", [("Unsqueeze", ["h", "a"], "y", {})], {"h": steps((2, 3))}, ints={"a": i64(0, -1)})
case("transpose_ints", [("Transpose", ["h"], "y", {"perm": [2, 0, 1]})], {"h": steps((2, 3, 4))})
case("concat_ints", [("Concat", ["a", "b"], "y", {"axis": -1})], {"a": steps((2, 3)), "b": steps((2, 1))})
case("concat_masks", [("Greater", ["h", "c"], "m", {}), ("Concat", ["m", "b"], "y", {"axis": 1})], {"h": (2, 3), "b": truths((2, 2))}, {"c": 0.0}, frozen=["c"])
case("masks_move", [("Greater", ["h", "c"], "m", {}), ("Unsqueeze", ["m", "a"], "u", {}), ("Transpose", ["u"], "t", {"perm": [2, 1, 0]}), ("Expand", ["t", "s"], "e", {}), ("Reshape", ["e", "r"], "y", {})], (2, 3), {"c": 0.0}, ints={"a": i64(1), "s": i64(3, 2, 2), "r": i64(6, 2)}, frozen=["c"])
fill = {"value": helper.make_tensor("value", 1, [1], [0.25])}
case("constant_of_shape", [("Shape", ["h"], "s", {}), ("ConstantOfShape", ["s"], "c", fill), ("Mul", ["h", "c"], "y", {})], (2, 3))
case("constant_of_shape_zeros", [("Shape", ["h"], "s", {}), ("ConstantOfShape", ["s"], "c", {}), ("Add", ["h", "c"], "y", {})], (2, 3))
fill = {"value": helper.make_tensor("value", 7, [1], [3])}
case("constant_of_shape_ints", [("Shape", ["h"], "s", {}), ("ConstantOfShape", ["s"], "c", fill), ("Add", ["h", "c"], "y", {})], {"h": steps((2, 3))})
case("range_ints", [("Range", ["a", "b", "c"], "r", {}), ("Add", ["h", "r"], "y", {})], {"h": i64(5)}, ints={"a": np.int64(7), "b": np.int64(-2), "c": np.int64(-3)})
case("range_floats", [("Range", ["a", "b", "c"], "r", {}), ("Mul", ["h", "r"], "y", {})], (2, 4), {"a": 0.5, "b": 2.4, "c": 0.5}, frozen=["a", "b", "c"])
case("eye_like", [("EyeLike", ["h"], "e", {"k": 1}), ("Mul", ["h", "e"], "y", {})], (3, 4))
case("eye_like_ints", [("EyeLike", ["h"], "e", {"k": -1}), ("Add", ["h", "e"], "y", {})], {"h": steps((3, 3))})
case("eye_like_floats_of_ints", [("EyeLike", ["i"], "e", {"dtype": 1}), ("MatMul", ["h", "e"], "y", {})], {"h": (2, 3), "i": steps((3, 3))})
case("cast_mask_to_float", [("Cast", ["m"], "f", {"to": 1}), ("Mul", ["h", "f"], "y", {})], {"h": (2, 3), "m": truths((2, 3))})
case("cast_ints_to_float", [("Cast", ["m"], "f", {"to": 1}), ("Mul", ["h", "f"], "y", {})], {"h": (2, 3), "m": steps((2, 3))})
case("cast_ints_to_bool", [("Cast", ["m"], "y", {"to": 9})], {"m": steps((2, 3), -1)})
case("cast_to_int32", [("Cast", ["m"], "y", {"to": 6})], {"m": steps((2, 3), -1)})
case("cast_floats_to_ints", [("Cast", ["h"], "y", {"to": 7})], (2, 4))
case("cast_floats_to_bool", [("Cast", ["h"], "y", {"to": 9})], {"h": np.float32([0, 1, -0.5])})
case("cast_device_mask_to_int", [("Greater", ["h", "c"], "m", {}), ("Cast", ["m"], "y", {"to": 7})], (2, 4), {"c": 0.0}, frozen=["c"])
case("cast_like", [("CastLike", ["m", "h"], "f", {}), ("Mul", ["h", "f"], "y", {})], {"h": (2, 3), "m": truths((2, 3))}, opset=15)
case("cast_like_ints", [("CastLike", ["m", "i"], "y", {})], {"i": steps((1,)), "m": truths((2, 3))}, opset=15)

# Integer arithmetic.
a, b = steps((2, 3), -3), np.array([[2], [-3]])
for op in ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]:
    expected = (lambda a, b: np.trunc(a / b).astype(np.int64)) if op == "Div" else None
    case(f"{op.lower()}_of_ints", [(op, ["a", "b"], "y", {})], {"a": a, "b": b}, opset=18, expected=expected)
case("fmod_of_ints", [("Mod", ["a", "b"], "y", {"fmod": 1})], {"a": a, "b": b})
case("pow_of_ints", [("Pow", ["a", "b"], "y", {})], {"a": a, "b": np.array([2, 0, 3])})
case("sum_of_ints", [("Sum", ["a", "b", "c"], "y", {})], {"a": a, "b": b, "c": i64(0)})
case("max_of_one", [("Max", ["h"], "y", {})], {"h": a})
for op in ["Neg", "Abs", "Sign", "BitwiseNot"]:
    case(f"{op.lower()}_of_ints", [(op, ["a"], "y", {})], {"a": a}, opset=18)
case("clip_of_ints", [("Clip", ["a", "lo", "hi"], "y", {})], {"a": a}, ints={"lo": np.int64(-1), "hi": np.int64(1)})
case("clip_of_ints_above", [("Clip", ["a", "", "hi"], "y", {})], {"a": a}, ints={"hi": np.int64(1)})

# Element by element.
for op in ["Abs", "Sign", "Floor", "Ceil", "Round", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh"]:
    case(op.lower(), [(op, ["h"], "y", {})], (3, 4))
case("round_halves", [("Round", ["h"], "y", {})], {"h": np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])}, gradient=False)
case("tan", [("Tan", ["h"], "y", {})], (3, 4), span=2.0)
for op in ["Asin", "Acos", "Atanh"]:
    case(op.lower(), [(op, ["h"], "y", {})], (3, 4), span=1.6)
case("acosh", [("Exp", ["h"], "e", {}), ("Add", ["e", "c"], "s", {}), ("Acosh", ["s"], "y", {})], (3, 4), {"c": 1.5}, frozen=["c"])
case("reciprocal", [("Exp", ["h"], "e", {}), ("Reciprocal", ["e"], "y", {})], (3, 4))
case("pow_tensor", [("Exp", ["h"], "e", {}), ("Pow", ["e", "w"], "y", {})], (3, 4), {"w": (4,)})
case("pow_tensor_higher_rank", [("Exp", ["h"], "e", {}), ("Pow", ["e", "w"], "y", {})], (3, 4), {"w": (2, 1, 4)})
# The evaluator can't broadcast these to a higher rank.
w, v = np.linspace(-1.3, 1.1, 8).reshape(2, 1, 4).astype(np.float32), np.float32([[0.05], [-0.55], [0.62]])
three = {"Mean": lambda h: (h + w + v) / 3, "Sum": lambda h: h + w + v}
for op in ["Max", "Min", "Sum", "Mean"]:
    name = op.lower()
    case(f"{name}_two", [(op, ["h", "w"], "y", {})], (3, 4), {"w": np.linspace(-1.3, 1.1, 4)})
    case(f"{name}_three", [(op, ["h", "w", "v"], "y", {})], (3, 4), {"w": np.linspace(-1.3, 1.1, 8).reshape(2, 1, 4), "v": [[0.05], [-0.55], [0.62]]}, expected=three.get(op))
    case(f"{name}_one", [(op, ["h"], "y", {})], (3, 4))
divisor = np.float32([0.7, -1.1, 0.4, -0.9])
case("mod_floats", [("Mod", ["h", "w"], "y", {"fmod": 1})], (3, 4), {"w": divisor}, frozen=["w"])
case("mod_floats_by_weights", [("Mod", ["h", "w"], "y", {"fmod": 1})], {"h": np.float32([[1.0, 1.5, -1.0, 2.0]])}, {"w": divisor})
case("mod_floats_down", [("Mod", ["h", "w"], "y", {})], (3, 4), {"w": divisor}, frozen=["w"])
case("mod_by_infinity", [("Mod", ["h", "w"], "y", {"fmod": 1})], {"h": np.float32([-5, 5])}, {"w": [np.inf, -np.inf]}, frozen=["w"])
case("pow_by_fed_ints", [("Pow", ["h", "i"], "y", {})], {"h": (3, 4), "i": np.array([0, 1, 2, 3])})
case("one_hot_of_floats", [("OneHot", ["c", "n", "v"], "o", {}), ("Mul", ["h", "o"], "y", {})], (2, 3), {"c": [1.0, 0.0], "n": 3.0, "v": [0.5, 2.0]}, frozen=["c", "n", "v"])
case("concat_of_an_empty_part", [("Concat", ["h", "e"], "y", {"axis": 1})], (2, 3), {"e": np.zeros((2, 0))}, frozen=["e"])
case("clip_by_tensors", [("Clip", ["h", "lo", "hi"], "y", {})], (3, 4), {"lo": -0.8, "hi": 0.93})
case("clip_below_by_a_tensor", [("Clip", ["h", "lo"], "y", {})], (3, 4), {"lo": 0.05})
case("clip_attributes", [("Clip", ["h"], "y", {"min": -0.8, "max": 0.93})], (3, 4), opset=7, expected=lambda h: np.clip(h, np.float32(-0.8), np.float32(0.93)))

# Orders.
for op in ["ArgMax", "ArgMin"]:
    name = op.lower()
    both(f"{name}", op, (3, 4), {"axis": 1})
    both(f"{name}_first_axis", op, (3, 4), {"keepdims": 0})
    both(f"{name}_negative_axis", op, (2, 3, 4), {"axis": -2, "keepdims": 0})
    ties = np.float32([[1, 2, 2, 1], [3, 3, 3, 3]])
    case(f"{name}_ties", [(op, ["h"], "y", {"axis": 1})], {"h": ties})
    case(f"{name}_last", [(op, ["h"], "y", {"axis": 1, "select_last_index": 1})], {"h": ties})
    case(f"{name}_last_ints", [(op, ["h"], "y", {"axis": 1, "select_last_index": 1})], {"h": ties.astype(np.int64)})

def stable_top(h, k, attributes):
    axis = attributes.get("axis", -1)
    order = np.argsort(h if attributes.get("largest", 1) == 0 else -h, axis=axis, kind="stable")
    order = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(h, order, axis), order


for name, x, k, attributes in [
    ("largest", (3, 5), 2, {}),
    ("smallest", (3, 5), 3, {"largest": 0}),
    ("axis_0", (5, 2), 2, {"axis": 0}),
    ("middle", (2, 4, 3), 4, {"axis": 1}),
    ("one", (3, 1), 1, {}),
]:
    node = [("TopK", ["h", "k"], ["y", "i"], attributes)]
    case(f"top_k_{name}", node, x, ints={"k": i64(k)})
    case(f"top_k_{name}_ints", node, {"h": steps(x) * 7 % 5}, ints={"k": i64(k)}, expected=lambda h, a=attributes, k=k: stable_top(h, k, a))


tied = np.float32([[0, 1, 0, 2, 1, 0], [0, 0, 0, 0, 0, 0]])
case("top_k_ties", [("TopK", ["h", "k"], ["y", "i"], {})], {"h": tied}, ints={"k": i64(5)}, expected=lambda h: stable_top(h, 5, {}), gradient=False)
case("top_k_ties_smallest", [("TopK", ["h", "k"], ["y", "i"], {"largest": 0})], {"h": tied}, ints={"k": i64(5)}, expected=lambda h: stable_top(h, 5, {"largest": 0}), gradient=False)
for name, axis, attributes in [("", 1, {}), ("_exclusive", -1, {"exclusive": 1}), ("_reverse", 0, {"reverse": 1}), ("_both", 1, {"exclusive": 1, "reverse": 1})]:
    both(f"cumsum{name}", "CumSum", (3, 4), attributes, ints={"a": np.int64(axis)}, more=["a"])

# Reductions.
for op in ["ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"]:
    name = op.lower()
    before = [("Exp", ["h"], "e", {})] if op == "ReduceLogSum" else [("Identity", ["h"], "e", {})]
    attribute = {} if op == "ReduceSum" else {"axes": [1, -1], "keepdims": 0}
    old = 11 if op == "ReduceSum" else 13
    case(f"{name}_attribute", [*before, (op, ["e"], "y", attribute)], (2, 3, 4), opset=old)
    case(f"{name}_input", [*before, (op, ["e", "a"], "y", {})], (2, 3, 4), ints={"a": i64(-2)}, opset=18)
    case(f"{name}_apart", [*before, (op, ["e", "a"], "y", {"keepdims": 0})], (2, 3, 2, 2), ints={"a": i64(0, 2)}, opset=18)
    case(f"{name}_all", [*before, (op, ["e"], "y", {"keepdims": 0})], (2, 3), opset=18)
    case(f"{name}_noop", [*before, (op, ["e"], "y", {"noop_with_empty_axes": 1})], (2, 3), opset=18)
    case(f"{name}_of_one", [*before, (op, ["e", "a"], "y", {})], (3, 1), ints={"a": i64(1)}, opset=18)
    if op not in ["ReduceL2", "ReduceLogSum", "ReduceLogSumExp"]:
        expected = (lambda h: np.trunc(h.mean(1)).astype(np.int64)) if op == "ReduceMean" else None
        case(f"{name}_of_ints", [(op, ["h", "a"], "y", {"keepdims": 0})], {"h": steps((2, 3, 2), -4)}, ints={"a": i64(1)}, opset=18, expected=expected)
case("reduce_log_sum_exp_large", [("Mul", ["h", "c"], "l", {}), ("ReduceLogSumExp", ["l"], "y", {"axes": [1]})], (3, 4), {"c": 60.0}, frozen=["c"], gradient=False)

# Space.
case("depth_to_space", [("DepthToSpace", ["h"], "y", {"blocksize": 2})], (1, 8, 2, 3))
case("depth_to_space_crd", [("DepthToSpace", ["h"], "y", {"blocksize": 2, "mode": "CRD"})], (2, 4, 1, 3))
case("space_to_depth", [("SpaceToDepth", ["h"], "y", {"blocksize": 2})], (1, 2, 4, 6))


def resized(name, x, scales=None, sizes=None, opset=18, axes=None, **attributes):
    operands, weights, ints = ["h", "", "scales" if scales else "", "sizes" if sizes else ""], {}, {}
    if scales:
        weights["scales"] = scales
        operands.pop()
    if sizes:
        ints["sizes"] = i64(*sizes)
    if axes:
        attributes["axes"] = axes
    case(f"resize_{name}", [("Resize", operands, "y", attributes)], x, weights, ints, opset=opset, frozen=list(weights), tolerance=4e-6)


resized("nearest_torch", (1, 2, 3, 4), [1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
resized("nearest_default", (1, 1, 3, 4), [1, 1, 1.5, 0.6])
resized("nearest_sizes", (1, 1, 3, 4), sizes=[1, 1, 7, 3], coordinate_transformation_mode="asymmetric", nearest_mode="floor")
resized("nearest_ceil", (1, 1, 4), [1, 1, 1.7], mode="nearest", nearest_mode="ceil")
resized("nearest_prefer_ceil", (1, 1, 4), [1, 1, 2.0], mode="nearest", nearest_mode="round_prefer_ceil", coordinate_transformation_mode="asymmetric")
resized("nearest_corners", (1, 1, 4, 4), sizes=[1, 1, 6, 3], mode="nearest", coordinate_transformation_mode="align_corners")
resized("linear_half_pixel", (1, 2, 3, 4), [1, 1, 2, 2], mode="linear")
resized("linear_torch", (1, 1, 3, 4), [1, 1, 2, 1.5], mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
resized("linear_torch_to_one", (1, 1, 3, 4), sizes=[1, 1, 1, 2], mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
resized("linear_corners", (1, 1, 3, 4), sizes=[1, 1, 5, 7], mode="linear", coordinate_transformation_mode="align_corners")
resized("linear_corners_to_one", (1, 1, 3, 4), sizes=[1, 1, 1, 7], mode="linear", coordinate_transformation_mode="align_corners")
resized("linear_asymmetric", (1, 1, 3, 4), [1, 1, 2, 0.5], mode="linear", coordinate_transformation_mode="asymmetric")
resized("linear_1d", (2, 2, 5), [1, 1, 2], mode="linear")
resized("linear_symmetric", (1, 1, 5), [1, 1, 1.3], mode="linear", coordinate_transformation_mode="half_pixel_symmetric", opset=19)
resized("cubic", (1, 1, 4, 5), [1, 1, 2, 1.4], mode="cubic")
resized("cubic_inside", (1, 1, 4, 5), [1, 1, 2, 1.4], mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
resized("cubic_torch", (1, 1, 4, 5), sizes=[1, 1, 7, 3], mode="cubic", coordinate_transformation_mode="pytorch_half_pixel")
resized("axes", (1, 2, 3, 4), [2, 3], axes=[2, 3], mode="linear")
resized("same", (1, 2, 3), [1, 1, 1], mode="linear")
resized("opset_11", (1, 1, 3, 4), [1, 1, 2, 2], opset=13, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
twice = lambda h: h.repeat(2, 2).repeat(3, 3)
case("resize_opset_10", [("Resize", ["h", "s"], "y", {})], (1, 2, 3, 2), {"s": [1.0, 1.0, 2.0, 3.0]}, opset=10, frozen=["s"], expected=twice)
case("upsample", [("Upsample", ["h", "s"], "y", {})], (1, 2, 3, 2), {"s": [1.0, 1.0, 2.0, 3.0]}, opset=9, frozen=["s"], expected=twice)
case("upsample_attribute", [("Upsample", ["h"], "y", {"scales": [1.0, 1.0, 2.0, 3.0]})], (1, 2, 3, 2), opset=7, expected=twice)

# Sums of products.
for name, equation, shapes in [
    ("matmul", "ij,jk->ik", [(2, 3), (3, 4)]),
    ("implicit", "ij,jk", [(2, 3), (3, 4)]),
    ("attention", "bhid,bhjd->bhij", [(2, 2, 3, 4), (2, 2, 5, 4)]),
    ("attention_values", "bhij,bhjd->bihd", [(2, 2, 3, 4), (2, 2, 4, 2)]),
    ("outer", "i,j->ji", [(3,), (4,)]),
    ("dot", "i,i->", [(3,), (3,)]),
    ("elementwise", "ij,ij->ij", [(3, 2), (3, 2)]),
    ("sums", "ijk,jl->l", [(2, 3, 2), (3, 4)]),
    ("dots", "...ij,...jk->...ik", [(2, 3, 2), (2, 2, 4)]),
    ("dots_broadcast", "...ij,jk->...ik", [(2, 3, 2), (2, 4)]),
    ("dots_of_one", "...ij,...jk->...ik", [(1, 3, 2), (5, 2, 4)]),
    ("spaces", "b i j , b j -> b i", [(2, 3, 4), (2, 4)]),
    ("transpose", "ijk->kij", [(2, 3, 4)]),
    ("sum", "ij->j", [(2, 3)]),
    ("all", "ij->", [(2, 3)]),
    ("one_implicit", "ba", [(2, 3)]),
    ("dots_alone", "...i->...", [(2, 3, 4)]),
]:
    case(f"einsum_{name}", [("Einsum", ["h", "g"][: len(shapes)], "y", {"equation": equation})], dict(zip(["h", "g"], shapes)))

cases.write()
