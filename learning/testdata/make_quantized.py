"""Writes ops_quantized.json: cases of the quantized ops, whose outputs onnxruntime computes, to the last bit where nothing is summed in floats.

Run it with `pip install onnx onnxruntime numpy` and `python make_quantized.py`. What a case is and what the file holds: see op_cases.py.
"""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from op_cases import Cases

cases = Cases("ops_quantized.json", 29)
rng = cases.rng
MICROSOFT = "com.microsoft"


def session(model):
    options = onnxruntime.SessionOptions()
    # As written: nothing is fused, and no weights are packed otherwise.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def case(name, nodes, inputs, constants, outputs, opset=21, tolerance=0.0, gradient=False, typed=None):
    """`nodes`: (op, inputs, outputs, attributes). `inputs`: arrays by name. `constants`: the same, or (array, ONNX type) for 4 bits. `typed`: types of
    outputs that are no floats."""
    tensors = []
    for key, value in constants.items():
        if isinstance(value, tuple):
            values, kind = value
            tensors.append(helper.make_tensor(key, kind, values.shape, values.ravel()))
        else:
            tensors.append(numpy_helper.from_array(np.asarray(value), key))
    made = []
    for op, operands, results, attributes in nodes:
        domain = MICROSOFT if op == "MatMulNBits" else ""
        results = [results] if isinstance(results, str) else results
        made.append(helper.make_node(op, operands, results, name=f"{results[0]}_{op.lower()}", domain=domain, **attributes))
    infos = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), [f"{k}_{i}" for i in range(v.ndim)]) for k, v in inputs.items()
    ]
    types = typed or {}
    results = [helper.make_tensor_value_info(o, types.get(o, TensorProto.FLOAT), None) for o in outputs]
    graph = helper.make_graph(made, name, infos, results, tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    found = session(model).run(outputs, inputs)
    cases.add(name, model, inputs, found, frozen=["*"], tolerance=tolerance, gradient=gradient)


U8, I8, U16, I16, I32 = (TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32)
f32 = np.float32

# QuantizeLinear: halves on both sides, saturation on both sides, values that are none.
edges = np.array([0, -0.0, 0.25, 0.75, 1.25, -0.25, -0.75, -1.25, 63.3, 64.0, -64.5, 127.4, 1e9, -1e9, np.inf, -np.inf, 3.14159, 0.7499999], f32)
edges = edges.reshape(3, 6)
for kind, zero, label in [(np.uint8, 0, "u8"), (np.uint8, 128, "u8_128"), (np.int8, 0, "i8"), (np.int8, -7, "i8_m7"), (np.uint16, 300, "u16"), (np.int16, -300, "i16")]:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    case(f"quantize_{label}", [("QuantizeLinear", ["h", "s", "z"], "y", {})], {"h": edges}, {"s": f32(0.5), "z": kind(zero)}, ["y"], typed={"y": number})
case("quantize_without_zero_point", [("QuantizeLinear", ["h", "s"], "y", {})], {"h": edges}, {"s": f32(0.1)}, ["y"], typed={"y": U8})
case("quantize_output_dtype", [("QuantizeLinear", ["h", "s"], "y", {"output_dtype": I8})], {"h": edges}, {"s": f32(0.1)}, ["y"], typed={"y": I8})
case("quantize_opset_10", [("QuantizeLinear", ["h", "s", "z"], "y", {})], {"h": edges}, {"s": f32(0.3), "z": np.uint8(3)}, ["y"], opset=10, typed={"y": U8})
image = (rng.standard_normal((2, 3, 4, 5)) * 3).astype(f32)
three = {"s": np.array([0.02, 0.011, 0.5], f32), "z": np.array([3, -5, 100], np.int8)}
case("quantize_per_channel", [("QuantizeLinear", ["h", "s", "z"], "y", {})], {"h": image}, three, ["y"], opset=13, typed={"y": I8})
case("quantize_per_channel_from_the_end", [("QuantizeLinear", ["h", "s", "z"], "y", {"axis": -3})], {"h": image}, three, ["y"], opset=19, typed={"y": I8})
case("quantize_rows", [("QuantizeLinear", ["h", "s"], "y", {"axis": 0})], {"h": image}, {"s": np.array([0.02, 0.3], f32)}, ["y"], opset=13, typed={"y": U8})
case("quantize_one_scale_in_a_list", [("QuantizeLinear", ["h", "s", "z"], "y", {})], {"h": image}, {"s": f32([0.03]), "z": np.uint8([120])}, ["y"], opset=13, typed={"y": U8})
blocks = {"s": (rng.random((2, 2, 4, 5)) + 0.05).astype(f32), "z": rng.integers(-9, 9, (2, 2, 4, 5)).astype(np.int8)}
case("quantize_blocks", [("QuantizeLinear", ["h", "s", "z"], "y", {"axis": 1, "block_size": 2})], {"h": image[:, [0, 1, 2, 0]]}, blocks, ["y"], typed={"y": I8})

# DequantizeLinear: of inputs and of constants.
bytes_ = rng.integers(0, 256, (2, 3, 4)).astype(np.uint8)
signed = rng.integers(-128, 128, (2, 3, 4)).astype(np.int8)
case("dequantize_u8", [("DequantizeLinear", ["q", "s", "z"], "y", {})], {"q": bytes_}, {"s": f32(0.013), "z": np.uint8(77)}, ["y"])
case("dequantize_i8_without_zero_point", [("DequantizeLinear", ["q", "s"], "y", {})], {"q": signed}, {"s": f32(0.013)}, ["y"], opset=10)
case("dequantize_per_channel", [("DequantizeLinear", ["q", "s", "z"], "y", {})], {"q": signed}, {"s": f32([0.1, 0.02, 3]), "z": np.int8([3, -7, 0])}, ["y"], opset=13)
case("dequantize_last_axis", [("DequantizeLinear", ["q", "s"], "y", {"axis": -1})], {"q": signed}, {"s": f32([0.1, 0.02, 3, 1])}, ["y"])
case("dequantize_blocks", [("DequantizeLinear", ["q", "s", "z"], "y", {"axis": 2, "block_size": 3})], {"q": signed}, {"s": (rng.random((2, 3, 2)) + 0.1).astype(f32), "z": rng.integers(-9, 9, (2, 3, 2)).astype(np.int8)}, ["y"])
wide = rng.integers(-(2**30), 2**30, (3, 4)).astype(np.int32)
case("dequantize_i32", [("DequantizeLinear", ["q", "s"], "y", {})], {"q": wide}, {"s": f32(1e-4)}, ["y"])
case("dequantize_u16", [("DequantizeLinear", ["q", "s", "z"], "y", {})], {"q": rng.integers(0, 65536, (3, 4)).astype(np.uint16)}, {"s": f32(0.01), "z": np.uint16(1234)}, ["y"])
four = (rng.integers(-8, 8, (3, 5)), TensorProto.INT4)
case("dequantize_constant_i4", [("DequantizeLinear", ["q", "s"], "w", {"axis": 1}), ("MatMul", ["h", "w"], "y", {})], {"h": (rng.standard_normal((2, 3))).astype(f32)}, {"q": four, "s": f32([0.5, 0.25, 1, 2, 0.125])}, ["y"], tolerance=1e-6)
case("dequantize_constant_u4_blocks", [("DequantizeLinear", ["q", "s", "z"], "w", {"axis": 0, "block_size": 2}), ("Add", ["h", "w"], "y", {})], {"h": np.zeros((4, 3), f32)}, {"q": (rng.integers(0, 16, (4, 3)), TensorProto.UINT4), "s": (rng.random((2, 3)) + 0.1).astype(f32), "z": (rng.integers(0, 16, (2, 3)), TensorProto.UINT4)}, ["y"])

# Through ops that move.
case(
    "quantized_values_move",
    [
        ("QuantizeLinear", ["h", "s", "z"], "q", {}),
        ("Transpose", ["q"], "t", {"perm": [1, 0, 2, 3]}),
        ("Reshape", ["t", "to"], "r", {}),
        ("Concat", ["r", "r"], "c", {"axis": 0}),
        ("DequantizeLinear", ["c", "s", "z"], "y", {}),
    ],
    {"h": image},
    {"s": f32(0.05), "z": np.uint8(120), "to": np.int64([6, -1])},
    ["y", "q"],
    typed={"q": U8},
)
case("quantized_cast", [("QuantizeLinear", ["h", "s", "z"], "q", {}), ("Cast", ["q"], "y", {"to": TensorProto.FLOAT}), ("Cast", ["q"], "i", {"to": I32})], {"h": edges}, {"s": f32(0.5), "z": np.int8(3)}, ["y", "i", "q"], typed={"q": I8, "i": I32})

# There and back again, in one operation where it is compiled.
case("fake_u8", [("QuantizeLinear", ["h", "s", "z"], "q", {}), ("DequantizeLinear", ["q", "s", "z"], "y", {})], {"h": image}, {"s": f32(0.02), "z": np.uint8(140)}, ["y"])
case("fake_per_channel", [("QuantizeLinear", ["h", "s", "z"], "q", {"axis": 1}), ("DequantizeLinear", ["q", "s", "z"], "y", {"axis": 1})], {"h": image}, three, ["y"])
case("fake_last_axis", [("QuantizeLinear", ["h", "s"], "q", {"axis": 3}), ("DequantizeLinear", ["q", "s"], "y", {"axis": 3})], {"h": image}, {"s": f32([0.01, 0.02, 0.03, 0.04, 0.05])}, ["y"])
case("fake_by_other_scales", [("QuantizeLinear", ["h", "s"], "q", {}), ("DequantizeLinear", ["q", "t"], "y", {})], {"h": image}, {"s": f32(0.02), "t": f32(0.03)}, ["y"])
case("fake_read_twice", [("QuantizeLinear", ["h", "s"], "q", {}), ("DequantizeLinear", ["q", "s"], "a", {}), ("DequantizeLinear", ["q", "t"], "b", {}), ("Sub", ["a", "b"], "y", {})], {"h": image}, {"s": f32(0.02), "t": f32(0.03)}, ["y"])

# DynamicQuantizeLinear.
for label, values in [("both_signs", image), ("positive", np.abs(image) + 1), ("negative", -np.abs(image) - 1), ("zeros", np.zeros((2, 3), f32)), ("one", f32([[3.7]]))]:
    case(f"dynamic_quantize_{label}", [("DynamicQuantizeLinear", ["h"], ["y", "s", "z"], {})], {"h": values.astype(f32)}, {}, ["y", "s", "z"], opset=11, typed={"y": U8, "z": U8})

# MatMulInteger: sums past what a float holds.
a, b = rng.integers(0, 256, (3, 700)).astype(np.uint8), rng.integers(0, 256, (700, 5)).astype(np.uint8)
case("matmul_integer_long", [("MatMulInteger", ["a", "b"], "y", {})], {"a": a}, {"b": b}, ["y"], typed={"y": I32})
case("matmul_integer_extreme", [("MatMulInteger", ["a", "b", "az", "bz"], "y", {})], {"a": np.full((2, 700), 255, np.uint8)}, {"b": np.full((700, 3), -128, np.int8), "az": np.uint8(0), "bz": np.int8(127)}, ["y"], typed={"y": I32})
case("matmul_integer_zero_points", [("MatMulInteger", ["a", "b", "az", "bz"], "y", {})], {"a": a[:, :30]}, {"b": b[:30], "az": np.uint8(7), "bz": np.uint8(100)}, ["y"], typed={"y": I32})
case("matmul_integer_by_column", [("MatMulInteger", ["a", "b", "az", "bz"], "y", {})], {"a": a[:, :30]}, {"b": rng.integers(-128, 128, (30, 5)).astype(np.int8), "az": np.uint8(7), "bz": np.int8([1, -2, 3, 100, 0])}, ["y"], typed={"y": I32})
case("matmul_integer_batched", [("MatMulInteger", ["a", "b", "az"], "y", {})], {"a": rng.integers(0, 256, (2, 3, 4, 6)).astype(np.uint8), "b": rng.integers(0, 256, (2, 1, 6, 5)).astype(np.uint8)}, {"az": np.uint8(9)}, ["y"], typed={"y": I32})
case("matmul_integer_shared", [("MatMulInteger", ["a", "b", "az", "bz"], "y", {})], {"a": rng.integers(0, 256, (2, 3, 6)).astype(np.uint8)}, {"b": rng.integers(-128, 128, (6, 5)).astype(np.int8), "az": np.uint8(9), "bz": np.int8([4])}, ["y"], typed={"y": I32})
weights = rng.integers(-127, 128, (12, 5)).astype(np.int8)
case(
    "dynamic_layer",
    [
        ("DynamicQuantizeLinear", ["h"], ["q", "s", "z"], {}),
        ("MatMulInteger", ["q", "w", "z", "wz"], "i", {}),
        ("Cast", ["i"], "f", {"to": TensorProto.FLOAT}),
        ("Mul", ["s", "ws"], "m", {}),
        ("Mul", ["f", "m"], "p", {}),
        ("Add", ["p", "b"], "y", {}),
    ],
    {"h": rng.standard_normal((4, 12)).astype(f32)},
    {"w": weights, "wz": np.int8(0), "ws": f32(0.01), "b": rng.standard_normal(5).astype(f32)},
    ["y"],
)

# ConvInteger and QLinearConv.
x = rng.integers(0, 256, (2, 6, 7, 6)).astype(np.uint8)
w = rng.integers(0, 256, (4, 6, 3, 2)).astype(np.uint8)
case("conv_integer", [("ConvInteger", ["x", "w"], "y", {})], {"x": x}, {"w": w}, ["y"], typed={"y": I32})
case("conv_integer_zero_points", [("ConvInteger", ["x", "w", "xz", "wz"], "y", {"pads": [1, 0, 2, 1], "strides": [2, 1]})], {"x": x}, {"w": w, "xz": np.uint8(120), "wz": np.uint8(99)}, ["y"], typed={"y": I32})
case("conv_integer_groups", [("ConvInteger", ["x", "w", "xz", "wz"], "y", {"group": 2, "dilations": [1, 2]})], {"x": x}, {"w": w[:, :3], "xz": np.uint8(120), "wz": np.uint8(3)}, ["y"], typed={"y": I32})
deep = rng.integers(200, 256, (1, 80, 5, 5)).astype(np.uint8)
case("conv_integer_deep", [("ConvInteger", ["x", "w"], "y", {"pads": [1, 1, 1, 1]})], {"x": deep}, {"w": rng.integers(200, 256, (2, 80, 3, 3)).astype(np.uint8)}, ["y"], typed={"y": I32})
case("conv_integer_of_a_row", [("ConvInteger", ["x", "w", "xz"], "y", {})], {"x": x[:, :, :, 0]}, {"w": w[:, :, :, 0], "xz": np.uint8(5)}, ["y"], typed={"y": I32})


def qlinear_conv(name, x, w, wz, wscale, bias=True, y=(np.uint8, 30, 0.9), xz=np.uint8(120), **attributes):
    kind, zero, scale = y
    constants = {"xs": f32(0.02), "xz": xz, "w": w, "ws": wscale, "wz": wz, "ys": f32(scale), "yz": kind(zero)}
    operands = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if bias:
        constants["b"] = rng.integers(-9000, 9000, w.shape[0]).astype(np.int32)
        operands.append("b")
    case(name, [("QLinearConv", operands, "y", attributes)], {"x": x}, constants, ["y"], typed={"y": helper.np_dtype_to_tensor_dtype(np.dtype(kind))})


signed = rng.integers(-127, 128, (4, 6, 3, 2)).astype(np.int8)
by_channel = f32([0.01, 0.02, 0.005, 0.03])
qlinear_conv("qlinear_conv", x, w, np.uint8(128), f32(0.015))
qlinear_conv("qlinear_conv_without_bias", x, w, np.uint8(128), f32(0.015), bias=False, pads=[1, 1, 1, 1])
qlinear_conv("qlinear_conv_per_channel", x, signed, np.int8([0, 0, 0, 0]), by_channel)
qlinear_conv("qlinear_conv_groups", x, signed[:, :3], np.int8(0), f32(0.01), group=2, strides=[2, 2], pads=[0, 1, 1, 0])
qlinear_conv("qlinear_conv_depthwise", x, rng.integers(-127, 128, (6, 1, 3, 3)).astype(np.int8), np.int8(0), f32(0.05), group=6, y=(np.uint8, 128, 0.1))
qlinear_conv("qlinear_conv_signed", (x.astype(np.int16) - 128).astype(np.int8), signed, np.int8(0), f32(0.01), y=(np.int8, -10, 0.5), xz=np.int8(-8))


def qlinear_matmul(name, a, b, az, bz, bs, y=(np.uint8, 100, 0.4)):
    kind, zero, scale = y
    constants = {"as": f32(0.03), "az": az, "b": b, "bs": bs, "bz": bz, "ys": f32(scale), "yz": kind(zero)}
    case(name, [("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], "y", {})], {"a": a}, constants, ["y"], typed={"y": helper.np_dtype_to_tensor_dtype(np.dtype(kind))})


left, right = rng.integers(0, 256, (3, 40)).astype(np.uint8), rng.integers(-128, 128, (40, 5)).astype(np.int8)
qlinear_matmul("qlinear_matmul", left, right, np.uint8(120), np.int8(3), f32(0.02))
qlinear_matmul("qlinear_matmul_u8", left, b[:40], np.uint8(120), np.uint8(130), f32(0.02))
qlinear_matmul("qlinear_matmul_signed", (left.astype(np.int16) - 128).astype(np.int8), right, np.int8(4), np.int8(3), f32(0.02), y=(np.int8, 10, 0.4))
qlinear_matmul("qlinear_matmul_by_column", left, right, np.uint8(120), np.int8([1, 2, -3, 0, 9]), f32([0.01, 0.02, 0.03, 0.04, 0.05]))
qlinear_matmul("qlinear_matmul_batched", rng.integers(0, 256, (2, 3, 8)).astype(np.uint8), rng.integers(0, 256, (2, 8, 4)).astype(np.uint8), np.uint8(120), np.uint8(7), f32(0.02))


def few_bits(name, n, k, bits, block, zeros=None, bias=False, batch=(3,)):
    blocks = -(-k // block)
    constants = {
        "b": rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8),
        "s": (rng.standard_normal(n * blocks) * 0.1).astype(f32),
    }
    operands = ["h", "b", "s"]
    if zeros == "packed":
        constants["z"] = rng.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)
        operands.append("z")
    elif zeros == "floats":
        constants["z"] = (rng.random(n * blocks) * 2**bits).astype(f32)
        operands.append("z")
    if bias:
        constants["c"] = rng.standard_normal(n).astype(f32)
        operands += [""] * (5 - len(operands)) + ["c"]
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
    case(name, [("MatMulNBits", operands, "y", attributes)], {"h": rng.standard_normal((*batch, k)).astype(f32)}, constants, ["y"], tolerance=2e-6)


few_bits("matmul_4_bits", 5, 32, 4, 16)
few_bits("matmul_4_bits_zero_points", 5, 80, 4, 16, zeros="packed", batch=(2, 3))
few_bits("matmul_4_bits_float_zero_points", 6, 64, 4, 32, zeros="floats")
few_bits("matmul_4_bits_partly_filled", 4, 50, 4, 32, zeros="packed")
few_bits("matmul_4_bits_bias", 4, 32, 4, 32, bias=True)
few_bits("matmul_8_bits", 4, 64, 8, 32, zeros="packed")

# A small network as static quantization leaves it: QDQ around everything, weights per channel, a bias in int32.
net = {
    "xs": f32(0.03), "xz": np.uint8(110), "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), "ws": f32([0.01, 0.004, 0.02, 0.008]),
    "b": rng.integers(-900, 900, 4).astype(np.int32), "bs": f32([0.01, 0.004, 0.02, 0.008]) * f32(0.03), "hs": f32(0.05), "hz": np.uint8(0),
    "v": rng.integers(-127, 128, (48, 5)).astype(np.int8), "vs": f32(0.01), "ys": f32(0.1), "yz": np.uint8(128),
}
case(
    "qdq_network",
    [
        ("QuantizeLinear", ["h", "xs", "xz"], "xq", {}), ("DequantizeLinear", ["xq", "xs", "xz"], "xd", {}),
        ("DequantizeLinear", ["w", "ws"], "wd", {"axis": 0}), ("DequantizeLinear", ["b", "bs"], "bd", {"axis": 0}),
        ("Conv", ["xd", "wd", "bd"], "c", {}), ("Relu", ["c"], "r", {}),
        ("QuantizeLinear", ["r", "hs", "hz"], "rq", {}), ("DequantizeLinear", ["rq", "hs", "hz"], "rd", {}),
        ("Flatten", ["rd"], "f", {}), ("DequantizeLinear", ["v", "vs"], "vd", {}), ("MatMul", ["f", "vd"], "m", {}),
        ("QuantizeLinear", ["m", "ys", "yz"], "yq", {}), ("DequantizeLinear", ["yq", "ys", "yz"], "y", {}),
    ],
    {"h": rng.standard_normal((2, 3, 5, 6)).astype(f32)},
    net,
    ["y"],
)

cases.write()
print("onnxruntime", onnxruntime.__version__)
