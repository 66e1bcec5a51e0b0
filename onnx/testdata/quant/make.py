"""Makes the quantized graphs that serving is tested with, and what onnxruntime computes from them.

    pip install onnx onnxruntime numpy
    python make.py

`good/NAME.onnx` come out as onnxruntime has them; their inputs and outputs are in `vectors.json`. `bad/NAME.onnx` are refused with an error
that has the text in `vectors.json`. The same versions write the same bytes.
"""

import json
import logging
import pathlib
import shutil
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

HERE = pathlib.Path(__file__).parent
GOOD, BAD = {}, {}
MS = "com.microsoft"


def rng(name):
    return np.random.default_rng(sum(name.encode()))


def init(name, values, dtype=None):
    """An initializer; `dtype` by ONNX's number where numpy has no such type."""
    if dtype is None:
        return nh.from_array(np.asarray(values), name)
    values = np.asarray(values)
    return h.make_tensor(name, dtype, values.shape, values.flatten().tolist())


def model(nodes, inputs, outputs, inits, opset=17, ms=False, ir=8):
    """`inputs` and `outputs`: (name, element type, shape)."""
    value = lambda v: h.make_tensor_value_info(v[0], v[1], v[2])
    graph = h.make_graph(nodes, "quantized", [value(v) for v in inputs], [value(v) for v in outputs], inits)
    imports = [h.make_opsetid("", opset)] + ([h.make_opsetid(MS, 1)] if ms else [])
    return h.make_model(graph, opset_imports=imports, ir_version=ir)


def n(op, inputs, outputs, **attributes):
    return h.make_node(op, inputs, outputs, **attributes)


def f32(values):
    return np.asarray(values, np.float32)


def array(value):
    values = value.flatten().tolist()
    return {"type": str(value.dtype), "shape": list(value.shape), "values": values}


def good(name, proto, tolerance=None, **feeds):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Else products with few-bit weights round the activations to int8, which no node of the graph says.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    runs = session.run(None, feeds)
    GOOD[name] = {
        "inputs": {k: array(v) for k, v in feeds.items()},
        "outputs": {o.name: array(v) for o, v in zip(session.get_outputs(), runs)},
    }
    if tolerance:
        # In units of the outputs: what onnxruntime rounds in other places for.
        GOOD[name]["tolerance"] = tolerance
    onnx.save(proto, HERE / "good" / f"{name}.onnx")


def bad(name, proto, refusal):
    BAD[name] = {"refusal": refusal}
    onnx.save(proto, HERE / "bad" / f"{name}.onnx")


def q(x, scale, zero, y):
    return n("QuantizeLinear", [x, scale, zero], [y])


def dq(x, scale, zero, y, **attributes):
    return n("DequantizeLinear", [x, scale, zero] if zero else [x, scale], [y], **attributes)


def pair(x, y, scale, zero, kind=np.uint8, tag=None):
    """A QuantizeLinear and a DequantizeLinear, with their constants."""
    tag = tag or x
    inits = [init(f"{tag}_s", f32(scale)), init(f"{tag}_z", np.asarray(zero, kind))]
    return [q(x, f"{tag}_s", f"{tag}_z", f"{tag}_q"), dq(f"{tag}_q", f"{tag}_s", f"{tag}_z", y)], inits


def weight(name, values, axis=None, kind=np.int8, zero=0):
    """Quantized weights and the node that dequantizes them."""
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    if axis is None:
        scale = f32(np.abs(values).max() / 127)
        shaped = scale
    else:
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = f32(np.abs(values).max(axis=others) / 127)
        shaped = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    ints = np.clip(np.rint(values / shaped) + zero, low, high).astype(kind)
    zeros = np.full(scale.shape, zero, kind)
    inits = [init(f"{name}_q", ints), init(f"{name}_s", scale), init(f"{name}_z", zeros)]
    attributes = {} if axis is None else {"axis": axis}
    return dq(f"{name}_q", f"{name}_s", f"{name}_z", name, **attributes), inits, scale


def bias(name, values, x_scale, w_scale):
    scale = f32(np.float32(x_scale) * w_scale)
    ints = np.rint(values / scale).astype(np.int32)
    zeros = np.zeros(scale.shape, np.int32)
    inits = [init(f"{name}_q", ints), init(f"{name}_s", scale), init(f"{name}_z", zeros)]
    return dq(f"{name}_q", f"{name}_s", f"{name}_z", name, **({"axis": 0} if scale.ndim else {})), inits


# ---- one value ----


def values():
    x = f32(np.concatenate([np.arange(-40, 300) * 0.25, rng("v").normal(0, 30, 60)]))[None]
    for name, kind, scale, zero in [
        ("q_u8_ties", np.uint8, 0.5, 3), ("q_u8_tenth", np.uint8, 0.1, 128), ("q_i8_third", np.int8, 1 / 3, -7), ("q_i8_symmetric", np.int8, 0.25, 0),
    ]:
        inits = [init("s", f32(scale)), init("z", np.asarray(zero, kind))]
        kind_out = T.UINT8 if kind == np.uint8 else T.INT8
        good(name, model([q("x", "s", "z", "y")], [("x", T.FLOAT, [1, 400])], [("y", kind_out, [1, 400])], inits), x=x)
    # Values next to the middle of two steps, where a product with the reciprocal goes the other way.
    scale = np.float32(0.1)
    middle = f32((np.arange(-120, 120) + 0.5)) * scale
    near = np.concatenate([np.nextafter(middle, f32(-np.inf)), middle, np.nextafter(middle, f32(np.inf))])[None]
    nodes, inits = pair("x", "y", scale, 128)
    good("qdq_next_to_middle", model(nodes, [("x", T.FLOAT, ["n", 720])], [("y", T.FLOAT, ["n", 720])], inits), x=near)
    good("qdq_opset10", model(nodes, [("x", T.FLOAT, ["n", 720])], [("y", T.FLOAT, ["n", 720])], inits, opset=10, ir=5), x=near)
    x = f32(rng("axis").normal(0, 2, (2, 3, 4)))
    inits = [init("s", f32([0.1, 0.02, 0.3])), init("z", np.asarray([128, 3, 250], np.uint8))]
    nodes = [n("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1), n("DequantizeLinear", ["q", "s", "z"], ["y"], axis=-2)]
    io = [("x", T.FLOAT, [2, 3, 4])], [("y", T.FLOAT, [2, 3, 4])]
    good("qdq_along_axis", model(nodes, *io, inits), x=x)
    inits = [init("s", f32(0.001)), init("z", np.asarray(100, np.int16))]
    good("qdq_i16", model([q("x", "s", "z", "q"), dq("q", "s", "z", "y")], *io, inits, opset=21, ir=10), x=x)
    nodes = [n("QuantizeLinear", ["x", "s"], ["q"]), n("DequantizeLinear", ["q", "s"], ["y"])]
    good("qdq_no_zero_point", model(nodes, *io, [init("s", f32(0.02))]), x=x)
    nodes = [n("QuantizeLinear", ["x", "s"], ["q"], output_dtype=T.INT8), n("DequantizeLinear", ["q", "s"], ["y"])]
    good("qdq_output_dtype", model(nodes, *io, [init("s", f32(0.02))], opset=21, ir=10), x=x)
    nodes = [
        n("Constant", [], ["s"], value=init("", f32(0.03))), n("Constant", [], ["z0"], value=init("", np.asarray(9, np.uint8))), n("Identity", ["z0"], ["z"]),
        q("x", "s", "z", "q"), dq("q", "s", "z", "y"),
    ]
    good("qdq_constant_nodes", model(nodes, *io, []), x=x)
    inits = [init("b", np.asarray([-5, 0, 70000], np.int32)), init("bs", f32(0.001))]
    good("dq_i32", model([n("DequantizeLinear", ["b", "bs"], ["d"]), n("Add", ["x", "d"], ["y"])], [("x", T.FLOAT, [2, 3])], [("y", T.FLOAT, [2, 3])], inits), x=f32(np.ones((2, 3))))
    for name, data in [("dynamic_values", x), ("dynamic_zeros", np.zeros((2, 3, 4), np.float32)), ("dynamic_positive", np.abs(x) + 1), ("dynamic_negative", -np.abs(x) - 1)]:
        outputs = [("q", T.UINT8, [2, 3, 4]), ("s", T.FLOAT, []), ("z", T.UINT8, [])]
        good(name, model([n("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])], io[0], outputs, []), x=f32(data))
    nodes = [n("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), n("DequantizeLinear", ["q", "s", "z"], ["y"])]
    good("dynamic_dequantized", model(nodes, *io, []), x=x)


# ---- layers ----


def conv(name, activation=np.uint8, w_kind=np.int8, w_zero=0, axis=0, with_bias=True, relu=False, quantized_out=True, integer_out=False, shape=(4, 3, 3, 3), **attributes):
    r = rng(name)
    x_scale, x_zero = np.float32(0.031), (117 if activation == np.uint8 else -9)
    channels = shape[1] * attributes.get("group", 1)
    x = f32(r.normal(0, 1.4, (2, channels, 7, 7)))
    nodes, inits = pair("x", "xd", x_scale, x_zero, activation)
    w, w_inits, w_scale = weight("w", f32(r.normal(0, 0.3, shape)), axis, w_kind, w_zero)
    nodes.append(w)
    inits += w_inits
    names = ["xd", "w"]
    if with_bias:
        b, b_inits = bias("b", f32(r.normal(0, 0.5, shape[0])), x_scale, w_scale if axis is not None else w_scale)
        nodes.append(b)
        inits += b_inits
        names.append("b")
    nodes.append(n("Conv", names, ["c"], **attributes))
    last = "c"
    if relu:
        nodes.append(n("Relu", ["c"], ["r"]))
        last = "r"
    out = ("y", T.FLOAT, None)
    if quantized_out:
        zero = 0 if relu else (101 if activation == np.uint8 else 5)
        more, more_inits = pair(last, "y", 0.027, zero, activation)
        inits += more_inits
        nodes += more[:1] if integer_out else more
        if integer_out:
            nodes[-1].output[0] = "y"
            out = ("y", T.UINT8 if activation == np.uint8 else T.INT8, None)
    else:
        nodes.append(n("Identity", [last], ["y"]))
    good(name, model(nodes, [("x", T.FLOAT, ["n", channels, 7, 7])], [out], inits), x=x)


def layers():
    conv("conv_u8_per_channel", integer_out=True, pads=[1, 1, 1, 1])
    conv("conv_u8_per_tensor", axis=None, integer_out=True)
    conv("conv_i8", activation=np.int8, integer_out=True, strides=[2, 2], pads=[1, 0, 1, 0])
    conv("conv_u8_weights_u8", w_kind=np.uint8, w_zero=128, axis=None, with_bias=False, integer_out=True)
    conv("conv_relu", relu=True, integer_out=True, pads=[1, 1, 1, 1])
    conv("conv_dequantized", pads=[1, 1, 1, 1])
    conv("conv_float_out", quantized_out=False, dilations=[2, 2])
    conv("conv_depthwise", shape=(4, 1, 3, 3), group=4, integer_out=True)

    r = rng("gemm")
    x = f32(r.normal(0, 1, (3, 20)))
    for name, trans, quantized_out in [("gemm_transposed", 1, True), ("gemm_plain", 0, True), ("gemm_float_out", 1, False)]:
        nodes, inits = pair("x", "xd", 0.02, 120)
        w, w_inits, w_scale = weight("w", f32(r.normal(0, 0.4, (6, 20) if trans else (20, 6))), 0 if trans else 1)
        b, b_inits = bias("b", f32(r.normal(0, 1, 6)), 0.02, w_scale)
        nodes += [w, b, n("Gemm", ["xd", "w", "b"], ["g"], transB=trans)]
        inits += w_inits + b_inits
        out = ("g", T.FLOAT, ["n", 6])
        if quantized_out:
            more, more_inits = pair("g", "y", 0.05, 130)
            nodes.append(more[0])
            inits += more_inits
            out = ("g_q", T.UINT8, ["n", 6])
        good(name, model(nodes, [("x", T.FLOAT, ["n", 20])], [out], inits), x=x)
    nodes, inits = pair("x", "xd", 0.02, 120)
    w, w_inits, _ = weight("w", f32(r.normal(0, 0.4, (20, 5))), 1)
    more, more_inits = pair("m", "y", 0.04, 127)
    good("matmul_per_column", model(nodes + [w, n("MatMul", ["xd", "w"], ["m"]), more[0]], [("x", T.FLOAT, ["n", 20])], [("m_q", T.UINT8, None)], inits + w_inits + more_inits), x=x)
    a, b = f32(r.normal(0, 1, (2, 4, 6))), f32(r.normal(0, 1, (2, 6, 3)))
    first, first_inits = pair("a", "ad", 0.02, 120)
    second, second_inits = pair("b", "bd", 0.03, 130)
    more, more_inits = pair("m", "y", 0.07, 127)
    good("matmul_activations", model(first + second + [n("MatMul", ["ad", "bd"], ["m"])] + more, [("a", T.FLOAT, [2, 4, 6]), ("b", T.FLOAT, [2, 6, 3])], [("y", T.FLOAT, None)], first_inits + second_inits + more_inits), tolerance=0.07, a=a, b=b)
    # More than float32 holds exactly.
    wide = np.full((4000, 2), 127, np.int8)
    x8 = np.full((1, 4000), 255, np.uint8)
    x8[0, ::3] = 254
    nodes = [dq("x8", "s", "z", "xf"), q("xf", "s", "z", "xq"), n("MatMulInteger", ["xq", "w"], ["y"])]
    good("matmul_integer_wide", model([q("x", "s", "z", "xq"), n("MatMulInteger", ["xq", "w"], ["y"])], [("x", T.FLOAT, [1, 4000])], [("y", T.INT32, [1, 2])], [init("w", wide), init("s", f32(1)), init("z", np.uint8(0))]), x=f32(x8))

    # The same in a convolution, with a bias that float32 has not.
    kernel = r.integers(100, 128, (2, 40, 5, 5)).astype(np.int8)
    wide = {"s": f32(1), "z": np.uint8(0), "w": kernel, "ws": f32([1e-3, 2e-3]), "wz": np.zeros(2, np.int8), "ys": f32(120), "yz": np.uint8(1), "b": np.asarray([16777219, -40000001], np.int32)}
    nodes = [q("x", "s", "z", "q"), n("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "ys", "yz", "b"], ["y"], pads=[1, 1, 1, 1])]
    good("conv_wide", model(nodes, [("x", T.FLOAT, [1, 40, 6, 6])], [("y", T.UINT8, None)], [init(k, v) for k, v in wide.items()]), x=f32(r.integers(200, 256, (1, 40, 6, 6))))
    wide |= {"w": r.integers(100, 128, (2, 900)).astype(np.int8), "ys": f32(200)}
    nodes = [q("x", "s", "z", "q"), n("QGemm", ["q", "s", "z", "w", "ws", "wz", "b", "ys", "yz"], ["y"], domain=MS, transB=1)]
    good("qgemm_wide", model(nodes, [("x", T.FLOAT, [2, 900])], [("y", T.UINT8, None)], [init(k, v) for k, v in wide.items()], ms=True), x=f32(r.integers(200, 256, (2, 900))))

    r = rng("integer")
    x = f32(r.normal(0, 1, (3, 10)))
    w = r.integers(-127, 128, (10, 4)).astype(np.int8)
    inits = [init("w", w), init("s", f32(0.03)), init("z", np.uint8(99)), init("wz", np.int8(3)), init("wzs", np.asarray([0, 1, -2, 3], np.int8))]
    for name, extra, kept in [("matmul_integer", ["z"], 3), ("matmul_integer_zero_points", ["z", "wz"], 4), ("matmul_integer_columns", ["z", "wzs"], 5), ("matmul_integer_bare", [], 3)]:
        used = [i for i in inits if i.name in ["w", "s", "z"] + extra]
        good(name, model([q("x", "s", "z", "q"), n("MatMulInteger", ["q", "w"] + extra, ["y"])], [("x", T.FLOAT, [3, 10])], [("y", T.INT32, [3, 4])], used), x=x)
    image = f32(r.normal(0, 1, (1, 2, 5, 5)))
    kernel = r.integers(0, 256, (3, 2, 3, 3)).astype(np.uint8)
    nodes = [n("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), n("ConvInteger", ["q", "w", "z", "wz"], ["i"], pads=[1, 1, 1, 1]), n("Cast", ["i"], ["f"], to=T.FLOAT), n("Mul", ["s", "ws"], ["b"]), n("Mul", ["f", "b"], ["y"])]
    good("conv_integer", model(nodes, [("x", T.FLOAT, [1, 2, 5, 5])], [("y", T.FLOAT, None), ("i", T.INT32, None)], [init("w", kernel), init("wz", np.uint8(131)), init("ws", f32(0.01))]), x=image)
    kernel = r.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8)
    inits = [init("s", f32(0.02)), init("z", np.uint8(128)), init("w", kernel), init("ws", f32([0.01, 0.02, 0.005])), init("wz", np.zeros(3, np.int8)), init("ys", f32(0.09)), init("yz", np.uint8(110)), init("b", r.integers(-900, 900, 3).astype(np.int32))]
    nodes = [q("x", "s", "z", "q"), n("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "ys", "yz", "b"], ["y"], pads=[1, 1, 1, 1])]
    good("qlinear_conv", model(nodes, [("x", T.FLOAT, [1, 2, 5, 5])], [("y", T.UINT8, None)], inits), x=image)
    inits = [init("s", f32(0.02)), init("z", np.uint8(128)), init("w", w), init("ws", f32(0.01)), init("wz", np.int8(0)), init("ys", f32(0.05)), init("yz", np.uint8(110))]
    nodes = [q("x", "s", "z", "q"), n("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "ys", "yz"], ["y"])]
    good("qlinear_matmul", model(nodes, [("x", T.FLOAT, [3, 10])], [("y", T.UINT8, None)], inits), x=x)


# ---- between pairs ----


def between():
    r = rng("between")
    x, z = f32(r.normal(0, 1, (2, 4, 6, 6))), f32(r.normal(0, 2, (2, 4, 6, 6)))
    first, first_inits = pair("x", "xd", 0.023, 120)
    second, second_inits = pair("z", "zd", 0.041, 133)

    def case(name, nodes, tolerance=None, scale=0.037, zero=125, two=False, last=True, extra=()):
        last_pair, last_inits = pair("o", "y", scale, zero)
        every = first + (second if two else []) + nodes + (last_pair if last else [n("Identity", ["o"], ["y"])])
        inits = first_inits + (second_inits if two else []) + (last_inits if last else []) + list(extra)
        inputs = [("x", T.FLOAT, [2, 4, 6, 6])] + ([("z", T.FLOAT, [2, 4, 6, 6])] if two else [])
        feeds = {"x": x, "z": z} if two else {"x": x}
        good(name, model(every, inputs, [("y", T.FLOAT, None)], inits), tolerance, **feeds)

    case("add", [n("Add", ["xd", "zd"], ["o"])], two=True, tolerance=0.037)
    case("mul", [n("Mul", ["xd", "zd"], ["o"])], two=True, tolerance=0.037)
    case("concat", [n("Concat", ["xd", "zd"], ["o"], axis=1)], two=True)
    case("max_pool", [n("MaxPool", ["xd"], ["o"], kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])], scale=0.023, zero=120)
    case("average_pool", [n("AveragePool", ["xd"], ["o"], kernel_shape=[2, 2], strides=[2, 2])], tolerance=0.037)
    case("global_average_pool", [n("GlobalAveragePool", ["xd"], ["o"])], scale=0.004, tolerance=0.004)
    case("softmax", [n("Softmax", ["xd"], ["o"], axis=-1)], scale=1 / 256, zero=0, tolerance=1 / 256)
    case("softmax_float", [n("Softmax", ["xd"], ["o"], axis=1)], last=False)
    case("sigmoid", [n("Sigmoid", ["xd"], ["o"])], scale=1 / 256, zero=0)
    case("leaky_relu", [n("LeakyRelu", ["xd"], ["o"], alpha=0.1)])
    case("clip", [n("Clip", ["xd", "lo", "hi"], ["o"])], scale=0.023, zero=0, extra=[init("lo", f32(0)), init("hi", f32(2))])
    case("moved", [n("Transpose", ["xd"], ["t"], perm=[0, 2, 3, 1]), n("Reshape", ["t", "shape"], ["o"])], scale=0.023, zero=120, extra=[init("shape", np.asarray([2, -1], np.int64))])
    # Integers that are moved as integers.
    nodes = [q("x", "x_s", "x_z", "x_q"), n("Flatten", ["x_q"], ["f"]), n("Concat", ["f", "f"], ["cc"], axis=1), n("Unsqueeze", ["cc", "axes"], ["u"]), dq("u", "x_s", "x_z", "y")]
    good("moved_as_integers", model(nodes, [("x", T.FLOAT, [2, 4, 6, 6])], [("y", T.FLOAT, None)], first_inits + [init("axes", np.asarray([1], np.int64))]), x=x)
    nodes = [q("x", "x_s", "x_z", "x_q"), n("MaxPool", ["x_q"], ["m"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), dq("m", "x_s", "x_z", "y")]
    good("max_pool_of_integers", model(nodes, [("x", T.FLOAT, [2, 4, 6, 6])], [("y", T.FLOAT, None)], first_inits), x=x)

    table = r.integers(-127, 128, (12, 5)).astype(np.int8)
    ids = np.asarray([[1, 11, 0]], np.int64)
    inits = [init("t", table), init("ts", f32(0.02)), init("tz", np.int8(4))]
    nodes = [n("Gather", ["t", "ids"], ["g"]), dq("g", "ts", "tz", "y")]
    good("embedding_rows", model(nodes, [("ids", T.INT64, [1, 3])], [("y", T.FLOAT, None)], inits), ids=ids)
    nodes = [dq("t", "ts", "tz", "tf"), n("Gather", ["tf", "ids"], ["y"])]
    good("embedding_table", model(nodes, [("ids", T.INT64, [1, 3])], [("y", T.FLOAT, None)], inits), ids=ids)

    seq = f32(r.normal(0, 1, (5, 2, 3)))
    for op, gates in [("GRU", 3), ("LSTM", 4)]:
        w, w_inits, _ = weight("W", f32(r.normal(0, 0.5, (1, gates * 4, 3))), 1)
        u, u_inits, _ = weight("R", f32(r.normal(0, 0.5, (1, gates * 4, 4))), 1)
        extra = {"linear_before_reset": 1} if op == "GRU" else {}
        nodes = [w, u, n(op, ["x", "W", "R", "B"], ["y"], hidden_size=4, **extra)]
        inits = w_inits + u_inits + [init("B", f32(r.normal(0, 0.1, (1, gates * 8))))]
        good(f"{op.lower()}_weights", model(nodes, [("x", T.FLOAT, [5, 2, 3])], [("y", T.FLOAT, None)], inits), x=seq)
    # Fake quantization of a weight, as quantization-aware training exports it.
    w = f32(r.normal(0, 0.4, (6, 5)))
    inits = [init("w", w), init("ws", f32(np.abs(w).max(axis=0) / 127)), init("wz", np.zeros(5, np.int8))]
    nodes = [n("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=1), n("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=1), n("MatMul", ["x", "wd"], ["y"])]
    good("fake_weight", model(nodes, [("x", T.FLOAT, [3, 6])], [("y", T.FLOAT, None)], inits), x=f32(r.normal(0, 1, (3, 6))))


# ---- few bits ----


def nbits_parts(name, k, cols, block, bits=4, zeros=False, seed=""):
    r = rng(name + seed)
    blocks = -(-k // block)
    packed = r.integers(0, 256, (cols, blocks, block * bits // 8)).astype(np.uint8)
    scales = f32(r.normal(0, 0.02, cols * blocks))
    inits = [init("w", packed), init("s", scales)]
    if zeros:
        inits.append(init("z", r.integers(0, 256, cols * -(-blocks * bits // 8)).astype(np.uint8)))
    return inits


def nbits(name, k, cols, block, bits=4, zeros=False, with_bias=False):
    inits = nbits_parts(name, k, cols, block, bits, zeros)
    names = ["x", "w", "s"] + (["z"] if zeros else [])
    if with_bias:
        names += [""] * (5 - len(names)) + ["b"]
        inits.append(init("b", f32(rng(name).normal(0, 1, cols))))
    node = n("MatMulNBits", names, ["y"], domain=MS, K=k, N=cols, bits=bits, block_size=block)
    x = f32(rng(name).normal(0, 1, (2, 3, k)))
    good(name, model([node], [("x", T.FLOAT, [2, 3, k])], [("y", T.FLOAT, [2, 3, cols])], inits, ms=True), x=x)


def few_bits():
    for block in (16, 32, 64, 128):
        nbits(f"nbits_{block}", 128, 6, block)
        nbits(f"nbits_{block}_zero_points", 128, 6, block, zeros=True)
    nbits("nbits_partial", 40, 5, 32)
    nbits("nbits_partial_zero_points", 80, 5, 32, zeros=True)
    nbits("nbits_bias", 64, 5, 32, with_bias=True)
    nbits("nbits_8", 64, 5, 32, bits=8)
    r = rng("few")
    x = f32(r.normal(0, 1, (3, 6)))
    io = [("x", T.FLOAT, [3, 6])], [("y", T.FLOAT, None)]
    ints = r.integers(-8, 8, (6, 5))
    inits = [init("w", ints, T.INT4), init("s", f32(r.uniform(0.01, 0.1, 5)))]
    nodes = [n("DequantizeLinear", ["w", "s"], ["wd"], axis=1), n("MatMul", ["x", "wd"], ["y"])]
    good("dq_i4_per_column", model(nodes, *io, inits, opset=21, ir=10), x=x)
    inits = [init("w", ints + 8, T.UINT4), init("s", f32(0.05)), init("z", np.asarray(7), T.UINT4)]
    nodes = [n("DequantizeLinear", ["w", "s", "z"], ["wd"]), n("MatMul", ["x", "wd"], ["y"])]
    good("dq_u4", model(nodes, *io, inits, opset=21, ir=10), x=x)
    inits = [init("w", r.integers(-127, 128, (6, 5)).astype(np.int8)), init("s", f32(r.uniform(0.01, 0.1, (3, 5)))), init("z", r.integers(-5, 5, (3, 5)).astype(np.int8))]
    nodes = [n("DequantizeLinear", ["w", "s", "z"], ["wd"], axis=0, block_size=2), n("MatMul", ["x", "wd"], ["y"])]
    good("dq_blocks", model(nodes, *io, inits, opset=21, ir=10), x=x)
    inits = [init("w", ints, T.INT4), init("s", f32(r.uniform(0.01, 0.1, (6, 2))))]
    nodes = [n("DequantizeLinear", ["w", "s"], ["wd"], axis=1, block_size=3), n("MatMul", ["x", "wd"], ["y"])]
    good("dq_i4_blocks", model(nodes, *io, inits, opset=21, ir=10), x=x)


# ---- whole models by onnxruntime's quantizer ----


def cnn():
    r = rng("cnn")
    inits = [
        init("w1", f32(r.normal(0, 0.3, (6, 1, 3, 3)))), init("b1", f32(r.normal(0, 0.1, 6))), init("w2", f32(r.normal(0, 0.15, (6, 6, 3, 3)))), init("b2", f32(r.normal(0, 0.1, 6))),
        init("w3", f32(r.normal(0, 0.2, (4, 54)))), init("b3", f32(r.normal(0, 0.1, 4))),
    ]
    nodes = [
        n("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]), n("Relu", ["c1"], ["r1"]), n("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        n("Add", ["c2", "r1"], ["a"]), n("Relu", ["a"], ["r2"]), n("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), n("Flatten", ["p"], ["f"]), n("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    return model(nodes, [("x", T.FLOAT, ["n", 1, 6, 6])], [("y", T.FLOAT, ["n", 4])], inits)


def mlp():
    r = rng("mlp")
    inits = [init("w1", f32(r.normal(0, 0.3, (12, 16)))), init("b1", f32(r.normal(0, 0.1, 16))), init("w2", f32(r.normal(0, 0.3, (16, 4)))), init("b2", f32(r.normal(0, 0.1, 4)))]
    nodes = [n("MatMul", ["x", "w1"], ["m1"]), n("Add", ["m1", "b1"], ["a1"]), n("Relu", ["a1"], ["r1"]), n("MatMul", ["r1", "w2"], ["m2"]), n("Add", ["m2", "b2"], ["y"])]
    return model(nodes, [("x", T.FLOAT, ["n", 12])], [("y", T.FLOAT, ["n", 4])], inits)


def quantizer():
    from onnxruntime import quantization as oq

    class Reader(oq.CalibrationDataReader):
        def __init__(self, shape):
            r = rng("calibration")
            self.batches = iter([{"x": f32(r.normal(0, 1, shape))} for _ in range(8)])

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        onnx.save(cnn(), folder / "cnn.onnx")
        onnx.save(mlp(), folder / "mlp.onnx")
        image, row = f32(rng("image").normal(0, 1, (3, 1, 6, 6))), f32(rng("row").normal(0, 1, (3, 12)))

        def static(name, source, shape, feed, tolerance, **options):
            oq.quantize_static(folder / f"{source}.onnx", folder / "out.onnx", Reader(shape), **options)
            good(name, onnx.load(folder / "out.onnx"), tolerance, x=feed)

        qdq, qop = oq.QuantFormat.QDQ, oq.QuantFormat.QOperator
        u8, i8 = oq.QuantType.QUInt8, oq.QuantType.QInt8
        static("ort_cnn_qdq", "cnn", (4, 1, 6, 6), image, 0.05, quant_format=qdq, activation_type=u8, weight_type=i8, per_channel=True)
        static("ort_cnn_qdq_i8", "cnn", (4, 1, 6, 6), image, 0.05, quant_format=qdq, activation_type=i8, weight_type=i8)
        static("ort_cnn_qoperator", "cnn", (4, 1, 6, 6), image, 0.05, quant_format=qop, activation_type=u8, weight_type=i8, per_channel=True)
        static("ort_mlp_qdq", "mlp", (4, 12), row, 0.05, quant_format=qdq, activation_type=u8, weight_type=i8)
        static("ort_mlp_qoperator", "mlp", (4, 12), row, 0.05, quant_format=qop, activation_type=u8, weight_type=i8)
        for name, options in [("ort_mlp_dynamic", {"weight_type": i8, "per_channel": True}), ("ort_mlp_dynamic_u8", {"weight_type": u8})]:
            oq.quantize_dynamic(folder / "mlp.onnx", folder / "out.onnx", **options)
            good(name, onnx.load(folder / "out.onnx"), x=row)
        oq.quantize_dynamic(folder / "cnn.onnx", folder / "out.onnx", weight_type=u8)
        good("ort_cnn_dynamic", onnx.load(folder / "out.onnx"), x=image)


# ---- what has to be refused ----


def refused():
    io = [("x", T.FLOAT, [2, 3])], [("y", T.FLOAT, [2, 3])]

    def qdq(name, refusal, scale=f32(0.1), zero=np.uint8(3), scale2=None, zero2=None, opset=17, ir=8, **attributes):
        inits = [init("s", scale), zero if isinstance(zero, onnx.TensorProto) else init("z", zero)]
        second = ["s", "z"]
        if scale2 is not None:
            inits.append(init("s2", scale2))
            second[0] = "s2"
        if zero2 is not None:
            inits.append(zero2 if isinstance(zero2, onnx.TensorProto) else init("z2", zero2))
            second[1] = inits[-1].name
        nodes = [n("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes), n("DequantizeLinear", ["q"] + second, ["y"], **attributes)]
        bad(name, model(nodes, *io, inits, opset=opset, ir=ir), refusal)

    qdq("scale_nan", "not a positive number", scale=f32(np.nan))
    qdq("scale_infinite", "not a positive number", scale=f32(np.inf))
    qdq("scale_zero", "not a positive number", scale=f32(0))
    qdq("scale_negative", "not a positive number", scale=f32(-0.1))
    qdq("scale_nan_later", "not a positive number", scale2=f32(np.nan))
    qdq("scale_nan_channel", "scale 1 is NaN", scale=f32([0.1, np.nan, 0.2]), zero=np.zeros(3, np.uint8))
    qdq("scale_empty", "scale is empty", scale=f32([]), zero=np.zeros(0, np.uint8))
    qdq("scale_int", "not float32", scale=np.int32(1))
    qdq("scale_half", "export the model in float32", scale=np.float16(0.1), opset=19, ir=9)
    qdq("zero_point_float", "zero point is float32", zero=f32(3))
    qdq("zero_point_int64", "zero point is int64", zero=np.int64(3))
    qdq("zero_point_int32", "zero point is int32", zero=np.int32(3))
    qdq("zero_point_other_type", "zero point is int8", zero2=np.int8(3))
    qdq("zero_point_length", "zero points for", zero=np.zeros(2, np.uint8))
    qdq("zero_point_beyond", "not in the range", zero=onnx.TensorProto(name="z", data_type=T.UINT8, int32_data=[300]))
    qdq("axis_beyond", "has no axis 7", scale=f32([0.1, 0.1, 0.1]), zero=np.zeros(3, np.uint8), axis=7)
    qdq("axis_before", "has no axis -3", scale=f32([0.1, 0.1, 0.1]), zero=np.zeros(3, np.uint8), axis=-3)
    qdq("blocks_of_activations", "a scale a block", scale=f32(np.full((2, 1), 0.1)), zero=np.zeros((2, 1), np.uint8), axis=1, block_size=3, opset=21, ir=10)

    def weights(name, refusal, ints, scale, zero=None, opset=21, ir=10, **attributes):
        inits = [ints if isinstance(ints, onnx.TensorProto) else init("w", ints), init("s", scale)]
        if zero is not None:
            inits.append(zero if isinstance(zero, onnx.TensorProto) else init("z", zero))
        nodes = [n("DequantizeLinear", [i.name for i in inits], ["wd"], **attributes), n("MatMul", ["x", "wd"], ["y"])]
        bad(name, model(nodes, [("x", T.FLOAT, [2, 4])], [("y", T.FLOAT, [2, 3])], inits, opset=opset, ir=ir), refusal)

    w = np.ones((4, 3), np.int8)
    weights("weight_scales_short", "2 scales for axis 1", w, f32([0.1, 0.2]), axis=1)
    weights("weight_scales_of_other_axis", "3 scales for axis 0", w, f32([0.1, 0.2, 0.3]), axis=0)
    weights("weight_axis_beyond", "its axis is 2", w, f32([0.1, 0.2, 0.3]), axis=2)
    weights("weight_zero_point_type", "zero point is uint8", w, f32(0.1), np.uint8(0))
    weights("weight_int32_zero_point", "int32 zero point is not 0", np.ones((4, 3), np.int32), f32(0.1), np.int32(1))
    weights("weight_float", "its weight is float32", f32(np.ones((4, 3))), f32(0.1))
    weights("weight_float8", "its weight is float8e4m3fn", init("w", np.ones((4, 3)), T.FLOAT8E4M3FN), f32(0.1))
    weights("weight_blocks_shape", "blocks of 3 ask for", w, f32(np.full((2, 3), 0.1)), axis=0, block_size=3, opset=21) if False else weights("weight_blocks_shape", "blocks of 2 ask for", w, f32(np.full((3, 3), 0.1)), axis=0, block_size=2)
    weights("weight_block_negative", "block size is negative", w, f32(np.full((2, 3), 0.1)), axis=0, block_size=-2)
    weights("weight_int4_cut_off", "ask for 6", onnx.TensorProto(name="w", data_type=T.INT4, dims=[4, 3], raw_data=b"\x11" * 5), f32(0.1))
    weights("weight_int4_too_many", "more elements", onnx.TensorProto(name="w", data_type=T.INT4, dims=[1 << 40, 1 << 40], raw_data=b"\x11"), f32(0.1))

    def packed(name, refusal, change=lambda inits: inits, zeros=False, names=("x", "w", "s"), **attributes):
        inits = change(nbits_parts(name, 64, 4, 32, zeros=zeros))
        full = {"K": 64, "N": 4, "bits": 4, "block_size": 32, **attributes}
        node = n("MatMulNBits", list(names), ["y"], domain=MS, **full)
        inputs = [("x", T.FLOAT, [2, 64])] + [(i, T.FLOAT, None) for i in names[1:] if i not in [t.name for t in inits]]
        bad(name, model([node], inputs, [("y", T.FLOAT, [2, 4])], inits, ms=True), refusal)

    def with_array(at, values):
        def change(inits):
            inits[at] = init(inits[at].name, values)
            return inits

        return change

    packed("nbits_cut_off", "its weight has 112 values", with_array(0, np.zeros((4, 2, 14), np.uint8)))
    packed("nbits_scales_short", "its scales has 7 values", with_array(1, f32(np.ones(7))))
    packed("nbits_scale_nan", "scale 3 is NaN", with_array(1, f32([1, 1, 1, np.nan, 1, 1, 1, 1])))
    packed("nbits_zero_points_short", "its zero points have 3 values", with_array(2, np.zeros(3, np.uint8)), zeros=True, names=("x", "w", "s", "z"))
    packed("nbits_block_size", "its block size 24", block_size=24)
    packed("nbits_block_size_zero", "block_size", block_size=0)
    packed("nbits_k_beyond", "its weight has 128 values", K=96)
    packed("nbits_n_huge", "split it", N=1 << 30)
    packed("nbits_k_negative", '"K" is not between', K=-64)
    packed("nbits_bits", "it has 3 bits", bits=3)
    packed("nbits_computed_scales", "is no constant", lambda inits: inits[:1], names=("x", "w", "s"))

    # A scale that is computed.
    nodes = [n("Abs", ["x0"], ["s"]), q("x", "s", "z", "q"), dq("q", "s", "z", "y")]
    bad("scale_computed", model(nodes, [("x", T.FLOAT, [2, 3]), ("x0", T.FLOAT, [])], io[1], [init("z", np.uint8(0))]), "is no constant")
    # Inside a branch.
    branch = h.make_graph([q("x", "s", "z", "bq"), dq("bq", "s", "z", "b")], "then", [], [h.make_tensor_value_info("b", T.FLOAT, [2, 3])])
    other = h.make_graph([n("Identity", ["x"], ["e"])], "else", [], [h.make_tensor_value_info("e", T.FLOAT, [2, 3])])
    nodes = [n("If", ["c"], ["y"], then_branch=branch, else_branch=other)]
    bad("inside_a_branch", model(nodes, [("x", T.FLOAT, [2, 3]), ("c", T.BOOL, [])], io[1], [init("s", f32(0.1)), init("z", np.uint8(0))]), "a graph inside it is quantized")
    # Products.
    kernel = np.ones((3, 2, 3, 3), np.int8)
    parts = {"s": f32(0.02), "z": np.uint8(128), "w": kernel, "ws": f32(0.01), "wz": np.int8(0), "ys": f32(0.09), "yz": np.uint8(110), "b": np.zeros(3, np.int32)}

    def qconv(name, refusal, **changed):
        inits = [init(k, v) for k, v in {**parts, **changed}.items()]
        nodes = [n("QuantizeLinear", ["x", "qs", "qz"], ["q"]), n("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "ys", "yz", "b"], ["y"])]
        bad(name, model(nodes, [("x", T.FLOAT, [1, 2, 5, 5])], [("y", T.UINT8, None)], inits + [init("qs", f32(0.02)), init("qz", np.uint8(128))]), refusal)

    qconv("qlinear_conv_scale", "not a positive number", ys=f32(0))
    qconv("qlinear_conv_scales", "2 zero points for", wz=np.zeros(2, np.int8))
    qconv("qlinear_conv_bias", "not one an output channel", b=np.zeros(4, np.int32))
    qconv("qlinear_conv_bias_type", "bias", b=np.zeros(3, np.int8))
    qconv("qlinear_conv_zero_type", "zero point is int8", z=np.int8(0))
    nodes = [q("x", "s", "z", "q"), n("MatMulInteger", ["q", "w", "z", "wz"], ["y"])]
    bad("matmul_integer_zero_points_length", model(nodes, [("x", T.FLOAT, [2, 3])], [("y", T.INT32, None)], [init("s", f32(0.1)), init("z", np.uint8(0)), init("w", np.ones((3, 4), np.int8)), init("wz", np.zeros(3, np.int8))]), "3 zero points for 4 channels")
    nodes = [q("x", "s", "z", "q"), n("MatMulInteger", ["q", "w", "z"], ["y"])]
    bad("matmul_integer_zero_point_type", model(nodes, [("x", T.FLOAT, [2, 3])], [("y", T.INT32, None)], [init("s", f32(0.1)), init("z", np.int8(0)), init("w", np.ones((3, 4), np.int16))]), "it multiplies int16")
    bad("unknown_microsoft", model([n("QAttention", ["x"], ["y"], domain=MS)], *io, [], ms=True), "no exact way to compute QAttention")


def main():
    logging.disable(logging.WARNING)
    for folder in ("good", "bad"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    for make in (values, layers, between, few_bits, quantizer, refused):
        make()
    made_by = {"onnx": onnx.__version__, "onnxruntime": ort.__version__, "numpy": np.__version__}
    with open(HERE / "vectors.json", "w") as file:
        json.dump({"made_by": made_by, "good": GOOD, "bad": BAD}, file, indent=None, separators=(",", ":"))
        file.write("\n")
    print(len(GOOD), "good,", len(BAD), "bad")


main()
