"""Writes ops_nn.json: cases of convolutions, pools, normalisations, activations, matrix products and recurrent layers.

Run it with `pip install onnx numpy` and `python make_nn_ops.py`. What a case is and what the file holds: see op_cases.py. With
onnxruntime at hand its outputs are compared too, besides those of the cases in DIFFERENT.
"""

import numpy as np

from op_cases import Cases
from recurrent_reference import recurrent

cases = Cases("ops_nn.json", 13)


def case(*args, expected=None, **named):
    """A case whose expected outputs may come in float64."""
    single = lambda y: y.astype(np.float32) if y.dtype == np.float64 else y
    rounded = lambda *inputs: [single(np.asarray(y)) for y in (lambda r: r if isinstance(r, list) else [r])(expected(*inputs))]
    cases.case(*args, expected=expected and rounded, **named)



def one(op, name, x, opset=17, span=3.0, expected=None, tolerance=2e-6, gradient=True, **attributes):
    """A case of an op on one tensor."""
    name = f"{op.lower()}_{name}" if name else op.lower()
    case(name, [(op, ["h"], "y", attributes)], x, opset=opset, span=span, expected=expected, tolerance=tolerance, gradient=gradient)


# Activations. The second of each crosses more of its curve.
for op, opset in [
    ("Elu", 17), ("Selu", 17), ("Celu", 17), ("Softplus", 17), ("Softsign", 17), ("HardSigmoid", 17), ("HardSwish", 17), ("Mish", 18),
    ("ThresholdedRelu", 17), ("Shrink", 17), ("Sigmoid", 7), ("Tanh", 7), ("Relu", 7),
]:  # fmt: skip
    one(op, "", (3, 4), opset)
    one(op, "wide", (3, 4), opset, span=11.3)
one("Elu", "alpha", (3, 4), alpha=0.3)
one("Selu", "own_numbers", (3, 4), alpha=1.2, gamma=0.7)
one("Celu", "alpha", (3, 4), alpha=0.4)
one("HardSigmoid", "own_line", (3, 4), alpha=0.4, beta=0.3)
one("ThresholdedRelu", "low", (3, 4), alpha=0.1)
one("Shrink", "soft", (3, 4), lambd=0.7, bias=0.7)
one("Softplus", "huge", np.float32([[-200.0, -90.0, 0.1, 90.0, 200.0]]))
one("Elu", "huge", np.float32([[-200.0, -90.0, 0.1, 90.0, 200.0]]))
one("Mish", "huge", np.float32([[-200.0, -90.0, 0.1, 90.0, 200.0]]), 18)
one("Sigmoid", "huge", np.float32([[-200.0, -90.0, 0.1, 90.0, 200.0]]))
one("Tanh", "huge", np.float32([[-200.0, -90.0, 0.1, 90.0, 200.0]]))
one("Gelu", "wide", (3, 4), 20, span=12.0)
one("Gelu", "tanh_wide", (3, 4), 20, span=12.0, approximate="tanh")
one("Swish", "", (3, 4), 24)
one("Swish", "alpha", (3, 4), 24, alpha=1.7)
one("Relu", "column", (4, 1))
for name, slope in [("per_channel", (3, 1, 1)), ("shared", (1,)), ("full", (2, 3, 2, 2)), ("last", (2,)), ("scalar", ())]:
    values = np.float32(0.25) if slope == () else slope
    case(f"prelu_{name}", [("PRelu", ["h", "slope"], "y", {})], (2, 3, 2, 2), {"slope": values})
case("prelu_opset_7", [("PRelu", ["h", "slope"], "y", {})], (2, 3), {"slope": (3,)}, opset=7)
case("clip_as_relu6_opset_6", [("Clip", ["h"], "y", {"min": 0.0, "max": 6.0})], (3, 4), opset=7, span=20.0, expected=lambda h: np.clip(h, 0, 6))


# Softmax and its kin. Before opset 13 all axes from `axis` on are one; the evaluator computes the later definition for every opset.
def flat(of, axis):
    def compute(x):
        rows = x.reshape(int(np.prod(x.shape[:axis])), -1)
        return of(rows).reshape(x.shape)

    return compute


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def hardmax(x):
    return np.eye(x.shape[1], dtype=np.float32)[x.argmax(1)]


one("Softmax", "first_axis", (2, 3, 4), axis=0)
one("Softmax", "of_one", (3, 1))
one("Softmax", "opset_7_axis_2", (2, 3, 4), 7, axis=2, expected=flat(softmax, 2))
one("Softmax", "opset_11_default", (2, 3, 2), 11, expected=flat(softmax, 1))
one("LogSoftmax", "opset_11_default", (2, 3, 2), 11, expected=flat(lambda x: np.log(softmax(x)), 1))
one("Hardmax", "", (3, 4), gradient=False)
one("Hardmax", "middle_axis", (2, 3, 4), axis=1, gradient=False)
one("Hardmax", "ties", np.float32([[1, 3, 3, 2], [0, 0, 0, 0]]), gradient=False)
one("Hardmax", "opset_11", (2, 3, 2), 11, gradient=False, expected=flat(hardmax, 1))

# Dropout at rest. Before opset 12 a file can't say whether it is for training, so it drops when it is trained.
case("dropout_opset_7", [("Dropout", ["h"], "y", {"ratio": 0.3})], (3, 4), opset=7, expected=lambda h: h, gradient=False)
case("dropout_opset_10_mask", [("Dropout", ["h"], ["y", "m"], {"ratio": 0.3})], (3, 4), opset=10, expected=lambda h: [h, np.ones(h.shape, bool)], gradient=False)
case("dropout_opset_13_mask", [("Dropout", ["h", "ratio"], ["y", "m"], {})], (3, 4), {"ratio": 0.3}, frozen=["ratio"])
case("dropout_opset_22", [("Dropout", ["h", "ratio", "on"], ["y"], {})], (3, 4), {"ratio": 0.3}, {"on": np.bool_(False)}, frozen=["ratio"], opset=22)
case(
    "dropout_mask_is_used",
    [("Dropout", ["h"], ["d", "m"], {}), ("Cast", ["m"], "f", {"to": 1}), ("Mul", ["d", "f"], "y", {})],
    (3, 4),
)

# Matrix products.
case("gemm_scalar_c", [("Gemm", ["h", "w", "c"], "y", {})], (3, 4), {"w": (4, 2), "c": np.float32(0.5)})
case("gemm_column_c", [("Gemm", ["h", "w", "c"], "y", {})], (3, 4), {"w": (4, 2), "c": (3, 1)})
case("gemm_full_c", [("Gemm", ["h", "w", "c"], "y", {"beta": 0.5})], (3, 4), {"w": (4, 2), "c": (3, 2)})
case("gemm_of_one", [("Gemm", ["h", "w", "c"], "y", {"transB": 1})], (1, 1), {"w": (1, 1), "c": (1,)})
case("gemm_both_turned", [("Gemm", ["h", "w", "c"], "y", {"transA": 1, "transB": 1, "alpha": 1.5})], (3, 4), {"w": (2, 3), "c": (2,)})
for name, a, b in [
    ("vectors", (4,), (4,)),
    ("vector_times_stack", (4,), (2, 3, 4, 5)),
    ("stack_times_vector", (2, 3, 4), (4,)),
    ("both_broadcast", (2, 1, 3, 4), (1, 3, 4, 2)),
    ("higher_rank_right", (3, 4), (2, 2, 4, 3)),
    ("higher_rank_left", (2, 2, 3, 4), (2, 4, 3)),
    ("ones", (1, 1, 1), (1, 1)),
]:
    case(f"matmul_{name}", [("MatMul", ["a", "b"], "y", {})], {"a": a, "b": b})


# Normalisations.
def affine(n, more=()):
    return {"s": (*more, n), "b": (*more, n)}


case("layer_norm", [("LayerNormalization", ["h", "s", "b"], "y", {})], (2, 3, 4), affine(4), tolerance=1e-5)
case("layer_norm_no_bias", [("LayerNormalization", ["h", "s"], "y", {"epsilon": 0.1})], (2, 3, 4), {"s": (4,)}, tolerance=1e-5)
case("layer_norm_axis_1", [("LayerNormalization", ["h", "s", "b"], "y", {"axis": 1})], (2, 3, 4), affine(4, (3,)), tolerance=1e-5)
case("layer_norm_axis_0", [("LayerNormalization", ["h", "s", "b"], "y", {"axis": 0})], (2, 3), affine(3, (2,)), tolerance=1e-5)
case("layer_norm_axis_minus_2", [("LayerNormalization", ["h", "s", "b"], "y", {"axis": -2})], (2, 3, 4), affine(4, (3,)), tolerance=1e-5)
case("layer_norm_scale_broadcasts", [("LayerNormalization", ["h", "s", "b"], "y", {"axis": 1})], (2, 3, 4), {"s": (4,), "b": (3, 1)}, tolerance=1e-5)
case("layer_norm_statistics", [("LayerNormalization", ["h", "s", "b"], ["y", "mean", "inverse"], {})], (2, 3, 4), affine(4), tolerance=1e-5)
case("layer_norm_only_inverse", [("LayerNormalization", ["h", "s"], ["y", "", "inverse"], {"axis": 1})], (2, 3, 4), {"s": (3, 4)}, tolerance=1e-5)
case("layer_norm_far_from_0", [("LayerNormalization", ["h", "s", "b"], "y", {})], np.float32([[1000.1, 1000.3, 999.8, 1000.9]]), affine(4), tolerance=2e-3, gradient=False)


def rms(axis, epsilon=1e-5):
    def compute(x):
        axes = tuple(range(axis % x.ndim, x.ndim))
        return x / np.sqrt((np.float64(x) ** 2).mean(axes, keepdims=True) + epsilon)

    return compute


case("rms_norm", [("RMSNormalization", ["h", "s"], "y", {})], (2, 3, 4), {"s": np.ones(4)}, opset=23, expected=rms(-1), tolerance=1e-5)
case("rms_norm_axis_1", [("RMSNormalization", ["h", "s"], "y", {"axis": 1, "epsilon": 0.1})], (2, 3, 4), {"s": np.ones((3, 4))}, opset=23, expected=rms(1, 0.1), tolerance=1e-5)
case("rms_norm_scaled", [("RMSNormalization", ["h", "s"], "y", {})], (2, 3, 4), {"s": np.full(4, 1.5)}, opset=23, expected=lambda x: 1.5 * rms(-1)(x), tolerance=1e-5)
for name, shape in [("1d", (2, 3, 4)), ("2d", (2, 3, 2, 4)), ("3d", (1, 2, 2, 2, 3)), ("one_channel", (2, 1, 5))]:
    case(f"instance_norm_{name}", [("InstanceNormalization", ["h", "s", "b"], "y", {"epsilon": 1e-3})], shape, affine(shape[1]), tolerance=1e-5)
case("instance_norm_opset_7", [("InstanceNormalization", ["h", "s", "b"], "y", {})], (2, 3, 4), affine(3), opset=7, tolerance=1e-5)


def grouped(groups, per_group, epsilon=1e-5):
    def compute(x, scale, bias):
        rows = np.float64(x).reshape(x.shape[0], groups, -1)
        rows = (rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + epsilon)
        view = rows if per_group else rows.reshape(x.shape[0], x.shape[1], -1)
        return (view * scale[None, :, None] + bias[None, :, None]).reshape(x.shape)

    return compute


def group_norm(name, x, groups, opset, **attributes):
    """The evaluator's output for opset 21; before, scale and bias have one value a group and it knows no such form."""
    per_group = opset < 21
    n = groups if per_group else x[1]
    s, b = cases.grid((n,), 2.0), cases.grid((n,), 2.0)
    compute = grouped(groups, per_group, attributes.get("epsilon", 1e-5))
    nodes = [("GroupNormalization", ["h", "s", "b"], "y", {"num_groups": groups, **attributes})]
    case(f"group_norm_{name}", nodes, x, {"s": s, "b": b}, opset=opset, expected=lambda h: compute(h, s, b), tolerance=1e-5)


group_norm("opset_18", (2, 4, 3, 2), 2, 18)
group_norm("opset_18_one_group", (2, 4, 3), 1, 18)
group_norm("opset_21", (2, 4, 3, 2), 2, 21)
group_norm("opset_21_each_channel", (2, 4, 3), 4, 21, epsilon=1e-3)
group_norm("no_space", (2, 4), 2, 21)

statistics = {"s": [0.5, 1.5, -1.0], "b": [0.1, -0.2, 0.3], "m": [0.2, -0.1, 0.4], "v": [0.5, 1.0, 2.0]}
for name, shape in [("1d", (2, 3, 4)), ("flat", (4, 3)), ("3d", (2, 3, 2, 1, 2)), ("one_row", (1, 3, 2, 2))]:
    case(f"batch_norm_of_{name}", [("BatchNormalization", ["h", "s", "b", "m", "v"], "y", {})], shape, statistics)
case("batch_norm_opset_7", [("BatchNormalization", ["h", "s", "b", "m", "v"], "y", {"spatial": 1})], (2, 3, 4), statistics, opset=7, expected=lambda h: (
    np.float32([0.5, 1.5, -1.0])[:, None] * (h - np.float32([0.2, -0.1, 0.4])[:, None]) / np.sqrt(np.float32([0.5, 1.0, 2.0])[:, None] + 1e-5) + np.float32([0.1, -0.2, 0.3])[:, None]
))  # fmt: skip
one("LpNormalization", "", (3, 4))
one("LpNormalization", "p_1", (3, 4), p=1, expected=lambda h: h / np.abs(h).sum(1, keepdims=True))
one("LpNormalization", "first_axis", (3, 4), axis=0)
one("LpNormalization", "axis_minus_2", (2, 3, 2), axis=-2, p=1, expected=lambda h: h / np.abs(h).sum(1, keepdims=True))
one("LpNormalization", "of_zeros", np.float32([[0, 0, 0], [3, 0, 4]]), gradient=False)


def lrn(size, alpha=1e-4, beta=0.75, bias=1.0):
    def compute(x):
        squares = np.float64(x) ** 2
        sums = np.zeros_like(squares)
        for c in range(x.shape[1]):
            sums[:, c] = squares[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].sum(1)
        return x / (bias + alpha / size * sums) ** beta

    return compute


for name, x, attributes in [
    ("odd", (2, 5, 2, 2), {"size": 3, "alpha": 0.3}),
    ("even", (2, 5, 2), {"size": 4, "alpha": 0.3, "beta": 0.5, "bias": 0.7}),
    ("one", (2, 3, 2), {"size": 1, "alpha": 0.3, "beta": 1.0}),
    ("wider_than_all", (2, 3, 2), {"size": 99, "alpha": 3.0}),
    ("defaults", (2, 3), {"size": 3}),
]:
    one("LRN", name, x, 13, expected=lrn(**attributes), **attributes)


# Convolutions.
def conv(name, x, w, bias=True, **attributes):
    operands = ["h", "w"] + (["b"] if bias else [])
    weights = {"w": w, **({"b": (w[0],)} if bias else {})}
    case(f"conv_{name}", [("Conv", operands, "y", attributes)], x, weights, tolerance=3e-6)


conv("1d_dilated_uneven", (2, 2, 9), (3, 2, 3), dilations=[2], pads=[1, 3], strides=[2])
conv("1d_depthwise", (2, 3, 7), (3, 1, 3), group=3, pads=[1, 1])
conv("1d_pointwise", (2, 3, 4), (2, 3, 1))
conv("1d_same_lower", (1, 2, 7), (2, 2, 4), auto_pad="SAME_LOWER", strides=[3])
conv("2d_of_one", (1, 1, 1, 1), (1, 1, 1, 1))
conv("2d_depthwise_dilated", (1, 3, 6, 6), (3, 1, 3, 3), group=3, dilations=[2, 2], pads=[2, 2, 2, 2])
conv("2d_pads_wider_than_kernel", (1, 1, 3, 3), (2, 1, 2, 2), pads=[2, 1, 3, 2])
conv("2d_same_upper_dilated", (1, 2, 6, 7), (2, 2, 3, 2), auto_pad="SAME_UPPER", dilations=[2, 1])
conv("2d_rectangular", (2, 2, 4, 7), (2, 2, 1, 5), pads=[0, 2, 0, 2], strides=[1, 2])
conv("3d", (1, 2, 4, 4, 4), (2, 2, 2, 3, 2), pads=[1, 1, 0, 1, 1, 0])
conv("3d_uneven_strided_groups", (1, 2, 4, 5, 3), (2, 1, 2, 2, 2), group=2, strides=[2, 1, 1], pads=[0, 1, 0, 1, 0, 1], dilations=[1, 2, 1])
conv("3d_no_bias", (2, 1, 3, 3, 3), (2, 1, 3, 1, 2), bias=False)


def conv_transpose(name, x, w, bias=True, opset=17, expected=None, **attributes):
    operands = ["h", "w"] + (["b"] if bias else [])
    features = w[1] * attributes.get("group", 1)
    values = {"w": cases.grid(w, 2.0), **({"b": cases.grid((features,), 2.0)} if bias else {})}
    compute = (lambda h: scattered(h, values["w"], values.get("b"), **attributes)) if expected is None else expected
    nodes = [("ConvTranspose", operands, "y", attributes)]
    case(f"conv_transpose_{name}", nodes, x, values, opset=opset, expected=compute, tolerance=3e-6)


def scattered(x, w, bias=None, group=1, strides=None, dilations=None, pads=None, output_padding=None, output_shape=None, auto_pad="NOTSET", kernel_shape=None):
    """Adds every input times the kernel where it belongs."""
    rank = x.ndim - 2
    strides, dilations, behind = strides or [1] * rank, dilations or [1] * rank, output_padding or [0] * rank
    kernel, sizes = w.shape[2:], x.shape[2:]
    length = lambda i: strides[i] * (sizes[i] - 1) + dilations[i] * (kernel[i] - 1) + 1 + behind[i]
    # Where more is asked for than there is, it is added behind, as onnxruntime does.
    behind = [behind[i] + (max(0, output_shape[i] - length(i)) if output_shape else 0) for i in range(rank)]
    full = [strides[i] * (sizes[i] - 1) + dilations[i] * (kernel[i] - 1) + 1 + behind[i] for i in range(rank)]
    if output_shape or auto_pad.startswith("SAME"):
        wanted = output_shape or [sizes[i] * strides[i] for i in range(rank)]
        total = [full[i] - wanted[i] for i in range(rank)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if auto_pad == "SAME_UPPER" else large + small
    pads = pads or [0] * (2 * rank)
    per_group_in, per_group_out = x.shape[1] // group, w.shape[1]
    y = np.zeros((x.shape[0], per_group_out * group, *full))
    for at in np.ndindex(*sizes):
        for k in np.ndindex(*kernel):
            place = tuple(at[i] * strides[i] + k[i] * dilations[i] for i in range(rank))
            for g in range(group):
                inputs = x[(slice(None), slice(g * per_group_in, (g + 1) * per_group_in), *at)]
                weights = w[(slice(g * per_group_in, (g + 1) * per_group_in), slice(None), *k)]
                y[(slice(None), slice(g * per_group_out, (g + 1) * per_group_out), *place)] += np.float64(inputs) @ weights
    y = y[(slice(None), slice(None), *[slice(pads[i], full[i] - pads[i + rank]) for i in range(rank)])]
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


conv_transpose("2d", (2, 3, 3, 2), (3, 2, 2, 3))
conv_transpose("strided", (2, 2, 3, 3), (2, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
conv_transpose("output_padding", (2, 2, 3, 3), (2, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
conv_transpose("uneven_pads", (1, 2, 3, 3), (2, 2, 3, 3), strides=[2, 1], pads=[0, 1, 2, 0])
conv_transpose("uneven_pads_and_output_padding", (1, 2, 3, 3), (2, 2, 3, 3), strides=[2, 2], pads=[0, 1, 1, 1], output_padding=[1, 0])
conv_transpose("groups", (1, 4, 3, 3), (4, 2, 2, 2), group=2, strides=[2, 2])
conv_transpose("depthwise", (1, 3, 3, 3), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1])
conv_transpose("dilated", (1, 2, 3, 3), (2, 2, 2, 3), dilations=[2, 2])
conv_transpose("dilated_strided_padded", (1, 2, 3, 4), (2, 2, 3, 2), dilations=[2, 1], strides=[2, 3], pads=[1, 1, 1, 1], output_padding=[1, 2])
conv_transpose("output_shape", (1, 2, 3, 3), (2, 2, 3, 3), strides=[3, 2], output_shape=[8, 6])
conv_transpose("output_shape_upper", (1, 2, 3, 3), (2, 2, 3, 3), strides=[3, 2], output_shape=[8, 6], auto_pad="SAME_UPPER")
conv_transpose("output_shape_beyond", (1, 2, 3, 3), (2, 2, 3, 3), strides=[3, 2], output_shape=[10, 9])
conv_transpose("same_upper_beyond", (1, 2, 3, 3), (2, 2, 1, 3), strides=[2, 2], auto_pad="SAME_UPPER", output_padding=[1, 0])
conv_transpose("same_upper", (1, 2, 3, 3), (2, 2, 4, 3), strides=[2, 2], auto_pad="SAME_UPPER")
conv_transpose("same_lower", (1, 2, 3, 3), (2, 2, 4, 3), strides=[2, 2], auto_pad="SAME_LOWER")
conv_transpose("valid", (1, 2, 3, 3), (2, 2, 2, 2), auto_pad="VALID", kernel_shape=[2, 2])
conv_transpose("no_bias", (1, 2, 2, 3), (2, 1, 2, 2), bias=False)
conv_transpose("1d", (2, 3, 5), (3, 2, 4), strides=[2], pads=[1, 1])
conv_transpose("1d_uneven_groups", (2, 4, 5), (4, 1, 3), group=2, strides=[2], pads=[2, 1], output_padding=[1])
conv_transpose("1d_opset_7", (1, 1, 4), (1, 1, 3), opset=7)
conv_transpose("3d", (1, 2, 2, 3, 2), (2, 2, 2, 2, 2), strides=[2, 1, 1], pads=[0, 1, 0, 1, 1, 0])
conv_transpose("of_one", (1, 1, 1, 1), (1, 1, 1, 1))


# Pools.
def windows(x, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET"):
    """For each place of the output its values in the input, and how many of its elements lie within the pads."""
    rank = x.ndim - 2
    strides, dilations, pads = strides or [1] * rank, dilations or [1] * rank, list(pads or [0] * (2 * rank))
    out = []
    for i in range(rank):
        span, n = dilations[i] * (kernel_shape[i] - 1) + 1, x.shape[2 + i]
        if auto_pad.startswith("SAME"):
            total = max(0, (-(-n // strides[i]) - 1) * strides[i] + span - n)
            pads[i], pads[i + rank] = (total // 2, total - total // 2) if auto_pad == "SAME_UPPER" else (total - total // 2, total // 2)
        room = n + pads[i] + pads[i + rank] - span
        length = (-(-room // strides[i]) if ceil_mode else room // strides[i]) + 1
        out.append(length - 1 if ceil_mode and (length - 1) * strides[i] >= n + pads[i] else length)
    for at in np.ndindex(*out):
        places = [[at[i] * strides[i] + k * dilations[i] - pads[i] for k in range(kernel_shape[i])] for i in range(rank)]
        inside = [[p for p in places[i] if 0 <= p < x.shape[2 + i]] for i in range(rank)]
        padded = np.prod([sum(-pads[i] <= p < x.shape[2 + i] + pads[i + rank] for p in places[i]) for i in range(rank)])
        values = np.float64(x)[np.ix_(range(x.shape[0]), range(x.shape[1]), *inside)].reshape(*x.shape[:2], -1)
        yield at, out, values, padded


def pooled(of):
    def compute(x, **attributes):
        y = None
        for at, out, values, padded in windows(x, **attributes):
            y = np.zeros((*x.shape[:2], *out)) if y is None else y
            y[(slice(None), slice(None), *at)] = of(values, padded)
        return y

    return compute


def pool(name, x, op="MaxPool", opset=17, own={}, tolerance=2e-6, **attributes):
    """`own`: attributes of this op alone."""
    of = {
        "MaxPool": lambda v, n: v.max(-1),
        "AveragePool": lambda v, n: v.sum(-1) / (n if own.get("count_include_pad") else v.shape[-1]),
        "LpPool": lambda v, n: (np.abs(v) ** own.get("p", 2)).sum(-1) ** (1 / own.get("p", 2)),
    }[op]
    expected = lambda h: pooled(of)(h, **attributes)
    case(f"{op.lower()}_{name}", [(op, ["h"], "y", {**attributes, **own})], x, opset=opset, expected=expected, tolerance=tolerance)


pool("1d_padded", (2, 2, 7), kernel_shape=[3], strides=[2], pads=[1, 1])
pool("1d_uneven_dilated", (1, 2, 8), kernel_shape=[3], dilations=[2], pads=[0, 2])
pool("1d_ceil", (1, 2, 8), kernel_shape=[3], strides=[3], ceil_mode=1)
pool("ceil_and_pads", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
pool("ceil_and_uneven_pads", (1, 2, 6, 7), kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1)
pool("ceil_drops_a_window_of_padding", (1, 1, 4, 4), kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1)
pool("same_lower", (1, 2, 5, 6), kernel_shape=[2, 3], strides=[2, 1], auto_pad="SAME_LOWER")
pool("opset_8", (1, 2, 4, 4), opset=8, kernel_shape=[2, 2])
pool("of_one", (1, 1, 1, 1), kernel_shape=[1, 1])
pool("3d", (1, 2, 4, 3, 4), kernel_shape=[2, 2, 2], strides=[2, 1, 2])
pool("3d_padded_ceil_dilated", (1, 1, 5, 4, 4), kernel_shape=[2, 3, 2], strides=[2, 1, 2], pads=[1, 1, 0, 0, 1, 1], dilations=[2, 1, 1], ceil_mode=1)
counted = {"count_include_pad": 1}
for name, own in [("", {}), ("_counted", counted)]:
    average = dict(op="AveragePool", opset=19, own=own)
    pool(f"1d_padded{name}", (2, 2, 7), **average, kernel_shape=[3], strides=[2], pads=[1, 1])
    pool(f"1d_uneven{name}", (2, 2, 7), **average, kernel_shape=[3], pads=[0, 2])
    pool(f"uneven{name}", (1, 2, 5, 5), **average, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 2])
    pool(f"ceil_and_pads{name}", (1, 2, 6, 7), **average, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    pool(f"ceil_and_uneven_pads{name}", (1, 2, 6, 7), **average, kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1)
    pool(f"dilated{name}", (2, 2, 6, 6), **average, kernel_shape=[2, 3], dilations=[2, 2], pads=[1, 0, 1, 2])
    pool(f"same_upper{name}", (1, 2, 5, 6), **average, kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    pool(f"3d{name}", (1, 2, 4, 3, 4), **average, kernel_shape=[2, 2, 3], strides=[2, 1, 1], pads=[1, 0, 1, 0, 1, 1])
pool("opset_7", (1, 2, 4, 4), "AveragePool", 7, kernel_shape=[2, 2], pads=[1, 0, 0, 0])
pool("opset_10_ceil", (1, 2, 6, 7), "AveragePool", 10, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
pool("opset_7", (1, 2, 4, 4), "LpPool", 7, kernel_shape=[2, 2])
pool("p_1", (1, 2, 5, 5), "LpPool", 18, {"p": 1}, kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1])
pool("p_3_dilated", (1, 2, 6), "LpPool", 18, {"p": 3}, tolerance=1e-5, kernel_shape=[2], dilations=[2])
pool("ceil", (1, 2, 6, 5), "LpPool", 18, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)
case("lp_pool_of_zeros", [("LpPool", ["h"], "y", {"kernel_shape": [2]})], np.float32([[[0, 0, 3, 4]]]), opset=18, expected=lambda h: np.float32([[[0, 3, 5]]]), gradient=False)
for name, shape in [("1d", (2, 3, 4)), ("2d", (2, 3, 4, 2)), ("4d", (1, 2, 2, 2, 1, 3)), ("of_one", (2, 3, 1, 1))]:
    axes = tuple(range(2, len(shape)))
    one("GlobalMaxPool", name, shape, expected=lambda h, axes=axes: h.max(axes, keepdims=True))
    one("GlobalLpPool", name, shape, expected=lambda h, axes=axes: np.sqrt((np.float64(h) ** 2).sum(axes, keepdims=True)))
    one("GlobalAveragePool", f"of_{name}", shape)
one("GlobalLpPool", "p_1", (2, 3, 4), expected=lambda h: np.abs(h).sum(2, keepdims=True), p=1)


# Recurrent layers.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
SLOTS = ["bias", "lengths", "initial_h", "initial_c", "p"]


def layer(name, op, given=(), outputs=(), steps=4, batch=3, features=2, hidden=3, opset=17, lengths=None, fed=False, expected=None, gradient=True, **attributes):
    """A case of a whole layer. `given`: the optional operands; `outputs`: names of those that are wanted, all if missing."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    width = GATES[op] * hidden
    first = attributes.get("layout", 0)
    state = (batch, directions, hidden) if first else (directions, batch, hidden)
    shapes = {
        "w": (directions, width, features),
        "r": (directions, width, hidden),
        "bias": (directions, 2 * width),
        "initial_h": state,
        "initial_c": state,
        "p": (directions, 3 * hidden),
    }
    values = {k: cases.grid(s, 2.0) for k, s in shapes.items() if k in ("w", "r") or k in given}
    x = cases.grid((batch, steps, features) if first else (steps, batch, features))
    inputs = {"x": x}
    operands = ["x", "w", "r"] + [s if s in given or (s == "lengths" and lengths is not None) else "" for s in SLOTS]
    while not operands[-1]:
        operands.pop()
    ints = {}
    if lengths is not None:
        (inputs if fed else ints)["lengths"] = np.int32(lengths)
    names = ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]
    wanted = outputs or names
    made = [n if n in wanted else "" for n in names]
    while not made[-1]:
        made.pop()

    def compute(*_):
        optional = [values.get("bias"), lengths, values.get("initial_h"), values.get("initial_c"), values.get("p")]
        results = dict(zip(names, recurrent(op, x, values["w"], values["r"], *optional, **attributes)))
        return [results[n] for n in wanted]

    nodes = [(op, operands, made, {"hidden_size": hidden, **attributes})]
    case(name, nodes, inputs, values, ints, opset=opset, outputs=list(wanted), expected=compute, tolerance=3e-6, gradient=gradient)


for op in ["LSTM", "GRU", "RNN"]:
    start = ["bias", "initial_h"] + (["initial_c"] if op == "LSTM" else [])
    low = op.lower()
    layer(f"{low}_plain", op)
    layer(f"{low}_bias", op, ["bias"])
    layer(f"{low}_initial_state", op, start)
    layer(f"{low}_reverse", op, start, direction="reverse")
    layer(f"{low}_bidirectional", op, start, direction="bidirectional")
    layer(f"{low}_batch_first", op, start, layout=1)
    layer(f"{low}_batch_first_both_ways", op, start, layout=1, direction="bidirectional")
    layer(f"{low}_opset_7", op, ["bias"], opset=7)
    layer(f"{low}_only_last", op, ["bias"], ["y_h"])
    layer(f"{low}_only_all", op, ["bias"], ["y"])
    layer(f"{low}_one_step", op, start, steps=1, batch=1, features=1, hidden=1)
    layer(f"{low}_many_steps", op, ["bias"], steps=11, batch=2)
    layer(f"{low}_clip", op, start, clip=0.45)
    layer(f"{low}_lengths", op, start, lengths=[4, 2, 1])
    layer(f"{low}_lengths_fed", op, ["bias"], lengths=[3, 4, 2], fed=True)
    layer(f"{low}_lengths_reverse", op, start, lengths=[2, 4, 3], direction="reverse")
    layer(f"{low}_lengths_both_ways_fed", op, start, lengths=[1, 4, 3], direction="bidirectional", fed=True)
    layer(f"{low}_lengths_batch_first", op, start, lengths=[4, 1, 2], layout=1, direction="bidirectional")
    layer(f"{low}_lengths_whole", op, start, lengths=[4, 4, 4])
layer("lstm_only_cell", "LSTM", ["bias"], ["y_c"])
layer("lstm_peepholes", "LSTM", ["bias", "initial_c", "p"])
layer("lstm_peepholes_clip_both_ways", "LSTM", ["bias", "initial_h", "initial_c", "p"], clip=0.57, direction="bidirectional")
layer("lstm_input_forget", "LSTM", ["bias", "initial_c"], input_forget=1)
layer("lstm_input_forget_peepholes_lengths", "LSTM", ["bias", "p"], input_forget=1, lengths=[2, 3, 4])
layer("lstm_other_activations", "LSTM", ["bias"], activations=["HardSigmoid", "Softsign", "ScaledTanh"], activation_alpha=[0.3, 1.2], activation_beta=[0.4, 0.8])
layer("lstm_default_numbers", "LSTM", ["bias"], activations=["HardSigmoid", "Softsign", "Elu"])
layer(
    "lstm_activations_of_each_way", "LSTM", ["bias"], direction="bidirectional",
    activations=["Sigmoid", "Softplus", "Affine", "HardSigmoid", "Tanh", "LeakyRelu"], activation_alpha=[0.5, 0.25, 0.1], activation_beta=[0.1, 0.45],
)  # fmt: skip
layer("gru_resets_after", "GRU", ["bias", "initial_h"], linear_before_reset=1)
layer("gru_resets_after_no_bias", "GRU", linear_before_reset=1)
layer("gru_resets_after_both_ways", "GRU", ["bias"], linear_before_reset=1, direction="bidirectional", lengths=[4, 3, 1])
layer("gru_resets_after_clip", "GRU", ["bias"], linear_before_reset=1, clip=0.5)
layer("gru_other_activations", "GRU", ["bias"], activations=["HardSigmoid", "Softsign"], activation_alpha=[0.13])
layer("rnn_relu", "RNN", ["bias"], activations=["Relu"])
layer("rnn_of_each_way", "RNN", ["bias"], direction="bidirectional", activations=["Elu", "ThresholdedRelu"], activation_alpha=[0.7, 0.2])

# What onnxruntime does otherwise, by choice or by defect; ours is what the text of the operators says, or what PyTorch does.
DIFFERENT = {
    "dropout_opset_10_mask": "its mask is all false where nothing is dropped",
}


def compare_with_onnxruntime():
    try:
        import onnxruntime
    except ImportError:
        return
    agreed, missing, apart = 0, [], []
    for made in cases.cases:
        types = {"float": np.float32, "int": np.int32, "bool": bool}
        feeds = {i["name"]: np.array(i["data"], types[i["dtype"]]).reshape(i["shape"]) for i in made["inputs"]}
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            results = onnxruntime.InferenceSession(bytes.fromhex(made["model"]), options, providers=["CPUExecutionProvider"]).run(None, feeds)
        except Exception as e:  # it knows fewer forms
            missing.append((made["name"], str(e).split("\n")[0][:150]))
            continue
        close = all(
            list(r.shape) == o["shape"] and np.allclose(np.float64(r).ravel(), np.float64(o["data"]), rtol=0, atol=1e-4)
            for r, o in zip(results, made["outputs"])
        )
        agreed += close
        if not close and made["name"] not in DIFFERENT:
            apart.append(made["name"])
    missing = [(name, reason) for name, reason in missing if "not supported" not in reason and "not implemented" not in reason]
    print(f"onnxruntime {onnxruntime.__version__}: {agreed} agree, {len(missing)} it can't run; apart: {apart}")
    for name, reason in missing:
        print("   ", name, reason)


cases.write()
compare_with_onnxruntime()
