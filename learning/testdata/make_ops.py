"""Writes ops.json: cases of the ops on shapes, indices, elements and reductions, and of a few of every other family.

Run it with `pip install onnx numpy` and `python make_ops.py`. What a case is and what the file holds: see op_cases.py.
"""

import numpy as np

from op_cases import Cases

cases = Cases("ops.json", 7)
case = cases.case


# Matrix products.
case("gemm", [("Gemm", ["h", "w", "b"], "y", {})], (3, 4), {"w": (4, 5), "b": (5,)})
case("gemm_trans_b", [("Gemm", ["h", "w", "b"], "y", {"transB": 1})], (3, 4), {"w": (5, 4), "b": (5,)})
case("gemm_no_bias", [("Gemm", ["h", "w"], "y", {"transB": 1})], (3, 4), {"w": (5, 4)})
case("gemm_scaled", [("Gemm", ["h", "w", "b"], "y", {"alpha": 0.5, "beta": -2.0, "transB": 1})], (3, 4), {"w": (5, 4), "b": (1, 5)})
case("gemm_trans_a", [("Gemm", ["w", "h", "b"], "y", {"transA": 1})], (3, 4), {"w": (3, 5), "b": [0.25]})
case("gemm_weight_left", [("Gemm", ["w", "h"], "y", {"transA": 1, "transB": 1})], (3, 4), {"w": (4, 2)})
case("matmul", [("MatMul", ["h", "w"], "y", {})], (3, 4), {"w": (4, 5)})
case("matmul_vector", [("MatMul", ["h", "w"], "y", {})], (3, 4), {"w": (4,)})
case("matmul_3d_shared", [("MatMul", ["h", "w"], "y", {})], (2, 3, 4), {"w": (4, 5)})
case("matmul_batched", [("MatMul", ["h", "w"], "y", {})], (2, 3, 4), {"w": (2, 4, 5)})
case("matmul_broadcast", [("MatMul", ["h", "w"], "y", {})], (2, 3, 2, 4), {"w": (3, 4, 2)})
case("matmul_weight_left", [("MatMul", ["w", "h"], "y", {})], (2, 3, 4), {"w": (5, 3)})
case("matmul_vector_left", [("MatMul", ["w", "h"], "y", {})], (2, 3, 4), {"w": (3,)})
case("attention_scores", [("Transpose", ["h"], "t", {"perm": [0, 2, 1]}), ("MatMul", ["h", "t"], "s", {}), ("Softmax", ["s"], "p", {}), ("MatMul", ["p", "h"], "y", {})], (2, 3, 4))

# Element by element.
for op in ["Add", "Sub", "Mul", "Div"]:
    divisor = np.float32([[0.7, -1.2, 1.5, 2.0]])
    case(op.lower(), [(op, ["h", "w"], "y", {})], (3, 4), {"w": divisor})
    case(f"{op.lower()}_lower_rank", [(op, ["h", "w"], "y", {})], (2, 3, 4), {"w": divisor[0]})
    case(f"{op.lower()}_higher_rank", [(op, ["h", "w"], "y", {})], (3, 4), {"w": np.float32([[[0.7]], [[-1.2]]])})
    case(f"{op.lower()}_constant_right", [(op, ["h", "c"], "y", {})], (3, 4), {"c": [1.5]}, frozen=["c"])
    before = [("Exp", ["h"], "e", {})] if op == "Div" else [("Identity", ["h"], "e", {})]
    case(f"{op.lower()}_constant_left", [*before, (op, ["c", "e"], "y", {})], (3, 4), {"c": [1.5]}, frozen=["c"])
case("mul_itself", [("Mul", ["h", "h"], "y", {})], (3, 4))
case("pow_2", [("Pow", ["h", "c"], "y", {})], (3, 4), {"c": [2.0]}, frozen=["c"])
case("pow_3", [("Pow", ["h", "c"], "y", {})], (3, 4), {"c": [3.0]}, frozen=["c"])
case("pow_int_exponent", [("Pow", ["h", "c"], "y", {})], (3, 4), ints={"c": np.int64(2)})
case("pow_half", [("Exp", ["h"], "e", {}), ("Pow", ["e", "c"], "y", {})], (3, 4), {"c": 0.5}, frozen=["c"])
case("pow_fraction", [("Exp", ["h"], "e", {}), ("Pow", ["e", "c"], "y", {})], (3, 4), {"c": 1.7}, frozen=["c"])
case("clip_both", [("Clip", ["h", "lo", "hi"], "y", {})], (3, 4), {"lo": -0.8, "hi": 0.9}, frozen=["lo", "hi"])
case("clip_min", [("Clip", ["h", "lo"], "y", {})], (3, 4), {"lo": 0.05}, frozen=["lo"])
case("clip_max", [("Clip", ["h", "", "hi"], "y", {})], (3, 4), {"hi": 0.05}, frozen=["hi"])
for op in ["Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Erf"]:
    case(op.lower(), [(op, ["h"], "y", {})], (3, 4))
case("log", [("Exp", ["h"], "e", {}), ("Add", ["e", "w"], "s", {}), ("Log", ["s"], "y", {})], (3, 4), {"w": np.full((1, 4), 0.5)})
case("sqrt", [("Exp", ["h"], "e", {}), ("Add", ["e", "w"], "s", {}), ("Sqrt", ["s"], "y", {})], (3, 4), {"w": np.full((1, 4), 0.5)})
case("leaky_relu", [("LeakyRelu", ["h"], "y", {})], (3, 4))
case("leaky_relu_alpha", [("LeakyRelu", ["h"], "y", {"alpha": 0.3})], (3, 4))
case("gelu", [("Gelu", ["h"], "y", {})], (3, 4), opset=20)
case("gelu_tanh", [("Gelu", ["h"], "y", {"approximate": "tanh"})], (3, 4), opset=20)
case("dropout_of_a_file_for_inference", [("Dropout", ["h"], "y", {})], (3, 4))

# Normalisation.
case("softmax", [("Softmax", ["h"], "y", {})], (3, 4))
case("softmax_axis_1", [("Softmax", ["h"], "y", {"axis": 1})], (2, 3, 4))


def flat_softmax(x):
    """Before opset 13 all axes from `axis` on are one; the evaluator computes the later definition for every opset."""
    e = np.exp(x.reshape(x.shape[0], -1))
    return (e / e.sum(1, keepdims=True)).reshape(x.shape)


case("softmax_opset_11", [("Softmax", ["h"], "y", {"axis": 1})], (2, 3, 4), opset=11, expected=flat_softmax)
case("log_softmax", [("LogSoftmax", ["h"], "y", {"axis": -1})], (3, 4))
case("log_softmax_axis_1", [("LogSoftmax", ["h"], "y", {"axis": 1})], (2, 3, 4))
case("softmax_of_large_numbers", [("Mul", ["h", "c"], "l", {}), ("LogSoftmax", ["l"], "y", {})], (3, 4), {"c": 20.0}, frozen=["c"])
statistics = {"s": [0.5, 1.5, -1.0], "b": [0.1, -0.2, 0.3], "m": [0.2, -0.1, 0.4], "v": [0.5, 1.0, 2.0]}
case("batch_norm_2d", [("BatchNormalization", ["h", "s", "b", "m", "v"], "y", {})], (2, 3, 3, 2), statistics)
case("batch_norm_epsilon", [("BatchNormalization", ["h", "s", "b", "m", "v"], "y", {"epsilon": 0.1, "momentum": 0.8})], (4, 3), statistics)

# Convolutions.
def conv(name, x, w, **attributes):
    case(f"conv_{name}", [("Conv", ["h", "w", "b"], "y", attributes)], x, {"w": w, "b": (w[0],)})


conv("plain", (2, 2, 5, 5), (3, 2, 3, 3))
conv("same_5x5", (2, 1, 6, 6), (2, 1, 5, 5), pads=[2, 2, 2, 2])
conv("strided", (2, 2, 6, 6), (3, 2, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
conv("strided_remainder", (1, 2, 7, 6), (2, 2, 2, 3), strides=[3, 2])
conv("dilated", (1, 2, 7, 7), (2, 2, 3, 3), dilations=[2, 2])
conv("dilated_strided_padded", (2, 1, 8, 7), (2, 1, 3, 2), dilations=[2, 3], strides=[2, 1], pads=[1, 2, 1, 2])
conv("uneven_pads", (2, 2, 5, 5), (3, 2, 3, 3), pads=[0, 1, 2, 1])
conv("uneven_pads_strided", (1, 2, 6, 5), (3, 2, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2])
conv("groups", (2, 4, 5, 5), (6, 2, 3, 3), group=2)
conv("depthwise", (2, 3, 5, 5), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1])
conv("depthwise_strided", (2, 3, 6, 6), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1], strides=[2, 2])
conv("depthwise_multiplier", (1, 2, 5, 5), (4, 1, 3, 3), group=2, pads=[1, 1, 1, 1])
conv("pointwise", (2, 4, 3, 3), (5, 4, 1, 1))
conv("same_upper", (1, 2, 6, 5), (2, 2, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2])
conv("same_lower", (1, 2, 6, 5), (2, 2, 4, 2), auto_pad="SAME_LOWER")
conv("valid", (1, 2, 5, 5), (2, 2, 3, 3), auto_pad="VALID", kernel_shape=[3, 3])
conv("1d", (2, 3, 8), (4, 3, 3), pads=[1, 1])
conv("1d_causal", (2, 2, 8), (3, 2, 3), pads=[4, 0], dilations=[2])
conv("1d_groups_strided", (2, 4, 9), (4, 2, 3), group=2, strides=[2])
case("conv_no_bias", [("Conv", ["h", "w"], "y", {})], (1, 2, 4, 4), {"w": (2, 2, 2, 2)})

# Pools.
def pool(name, x, op="MaxPool", opset=17, **attributes):
    case(f"{op.lower()}_{name}", [(op, ["h"], "y", attributes)], x, opset=opset)


pool("2x2", (2, 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2])
pool("overlapping", (1, 2, 6, 5), kernel_shape=[3, 2])
pool("padded", (2, 2, 6, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
pool("uneven_pads", (1, 2, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
pool("dilated", (1, 2, 7, 7), kernel_shape=[2, 2], dilations=[2, 2])
pool("ceil", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
pool("same_upper", (1, 2, 5, 5), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
pool("1d", (2, 2, 8), kernel_shape=[2], strides=[2])
pool("2x2", (2, 2, 6, 6), "AveragePool", kernel_shape=[2, 2], strides=[2, 2])
pool("overlapping", (1, 2, 6, 5), "AveragePool", kernel_shape=[3, 2])
pool("padded", (1, 2, 6, 6), "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
pool("padding_counts", (1, 2, 6, 6), "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
pool("uneven_padding_counts", (1, 2, 5, 5), "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1)
pool("1d", (2, 2, 8), "AveragePool", kernel_shape=[3], strides=[2])
pool("ceil", (1, 2, 6, 7), "AveragePool", opset=19, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
case("global_average_pool", [("GlobalAveragePool", ["h"], "y", {})], (2, 3, 4, 2))
case("global_average_pool_1d", [("GlobalAveragePool", ["h"], "y", {})], (2, 3, 4))

# Reductions.
case("reduce_mean_attribute", [("ReduceMean", ["h"], "y", {"axes": [1, 2], "keepdims": 0})], (2, 3, 4), opset=13)
case("reduce_mean_input", [("ReduceMean", ["h", "a"], "y", {})], (2, 3, 4), ints={"a": np.int64([-1])}, opset=18)
case("reduce_mean_apart", [("ReduceMean", ["h", "a"], "y", {"keepdims": 0})], (2, 3, 4, 2), ints={"a": np.int64([3, 1])}, opset=18)
case("reduce_sum_input", [("ReduceSum", ["h", "a"], "y", {"keepdims": 0})], (2, 3, 4), ints={"a": np.int64([1])})
case("reduce_sum_of_a_trailing_axis", [("ReduceSum", ["h", "a"], "y", {})], (2, 3, 4), ints={"a": np.int64([1, 2])})

# Shapes.
case("flatten", [("Flatten", ["h"], "y", {})], (2, 3, 4))
case("flatten_axis_2", [("Flatten", ["h"], "y", {"axis": 2})], (2, 3, 4))
case("reshape_zero_and_open", [("Reshape", ["h", "s"], "y", {})], (2, 3, 4), ints={"s": np.int64([0, -1, 2])})
case("reshape_from_shape", [("Shape", ["h"], "s", {}), ("Gather", ["s", "zero"], "n", {"axis": 0}), ("Unsqueeze", ["n", "axis"], "u", {}), ("Concat", ["u", "open"], "t", {"axis": 0}), ("Reshape", ["h", "t"], "y", {})], (2, 3, 4), ints={"zero": np.int64(0), "axis": np.int64([0]), "open": np.int64([-1])})
case("shape_arithmetic", [("Shape", ["h"], "s", {"start": 1}), ("Gather", ["s", "i"], "g", {}), ("Mul", ["g", "two"], "m", {}), ("Div", ["m", "two"], "d", {}), ("Sub", ["d", "two"], "e", {}), ("Add", ["e", "two"], "f", {}), ("Neg", ["one"], "minus", {}), ("Concat", ["minus", "f"], "t", {"axis": 0}), ("Reshape", ["h", "t"], "y", {})], (2, 3, 4), ints={"i": np.int64([1, 0]), "two": np.int64([2]), "one": np.int64([1])})
case("attention_scale_from_shape", [("Shape", ["h"], "s", {}), ("Gather", ["s", "last"], "n", {}), ("Cast", ["n"], "f", {"to": 1}), ("Sqrt", ["f"], "r", {}), ("Div", ["h", "r"], "y", {})], (2, 4), ints={"last": np.int64(-1)})
case("transpose", [("Transpose", ["h"], "t", {"perm": [0, 2, 1]}), ("MatMul", ["t", "w"], "y", {})], (2, 3, 4), {"w": (3, 2)})
case("squeeze_unsqueeze", [("Unsqueeze", ["h", "a"], "u", {}), ("Mul", ["u", "w"], "m", {}), ("Squeeze", ["m", "a"], "y", {})], (2, 3, 4), {"w": (3, 1, 1)}, ints={"a": np.int64([2])})
case("squeeze_all_opset_11", [("Squeeze", ["h"], "y", {})], (2, 1, 4), opset=11)
case("concat", [("Mul", ["h", "w"], "m", {}), ("Concat", ["h", "m", "h"], "y", {"axis": 1})], (2, 3), {"w": (1, 3)})
case("concat_last", [("Tanh", ["h"], "m", {}), ("Concat", ["h", "m"], "y", {"axis": -1})], (2, 3, 2))
case("identity_and_cast", [("Identity", ["h"], "i", {}), ("Cast", ["i"], "c", {"to": 1}), ("Tanh", ["c"], "y", {})], (2, 3))
case("constant_node", [("Constant", [], "k", {"value_float": 0.5}), ("Constant", [], "l", {"value_floats": [1.0, -2.0, 3.0]}), ("Mul", ["h", "k"], "m", {}), ("Add", ["m", "l"], "y", {})], (2, 3))
case("used_twice", [("Tanh", ["h"], "t", {}), ("Mul", ["t", "h"], "m", {}), ("Add", ["m", "t"], "y", {})], (2, 3))
case("layer_norm_decomposed", [("ReduceMean", ["h"], "m", {"axes": [-1]}), ("Sub", ["h", "m"], "d", {}), ("Pow", ["d", "two"], "q", {}), ("ReduceMean", ["q"], "v", {"axes": [-1]}), ("Add", ["v", "eps"], "e", {}), ("Sqrt", ["e"], "r", {}), ("Div", ["d", "r"], "n", {}), ("Mul", ["n", "g"], "s", {}), ("Add", ["s", "b"], "y", {})], (2, 3, 4), {"two": 2.0, "eps": 1e-5, "g": (4,), "b": (4,)}, frozen=["two", "eps"])

cases.write()
