"""Files that the trainer must refuse, each naming what it must name."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from . import export
from .family import Case, Family


def write(folder: pathlib.Path):
    target = folder / "refused"
    target.mkdir(exist_ok=True)
    reasons = {}
    for build in (if_by_hand, if_by_torch, loop, scan, sequence, custom_domain, half_weights, unknown_op):
        proto, names, why = build()
        if build is not unknown_op:
            onnx.checker.check_model(proto)
        name = build.__name__
        onnx.save(proto, target / f"{name}.onnx")
        reasons[name] = {"names": names, "why": why}
    (target / "refused.json").write_text(json.dumps(reasons, indent=1) + "\n")


def model(nodes, opset=17, domains=(), weights=None, kind=TensorProto.FLOAT):
    """x [batch, 4] through a Gemm with weight `w`, then `nodes` from h to y [batch, 3]."""
    initializers = [numpy_helper.from_array(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "w")] if weights is None else weights
    gemm = helper.make_node("Gemm", ["x", "w"], ["h"], name="first")
    graph = helper.make_graph(
        [gemm, *nodes],
        "refused",
        [helper.make_tensor_value_info("x", kind, ["batch", 4])],
        [helper.make_tensor_value_info("y", kind, ["batch", 3])],
        initializers,
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, array):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array), name))


def if_by_hand():
    branches = [
        helper.make_graph([helper.make_node(op, ["h"], [out])], out, [], [value(out, TensorProto.FLOAT, ["batch", 3])])
        for op, out in (("Relu", "positive"), ("Neg", "negative"))
    ]
    node = helper.make_node("If", ["flag"], ["y"], name="choice", then_branch=branches[0], else_branch=branches[1])
    return model([constant("flag", True), node]), ["If", "choice"], "control flow"


class SqueezeOfUnknown(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x).unsqueeze(1).reshape(x.shape[0], x.shape[1] - 3, 3).squeeze(1)


def if_by_torch():
    """The TorchScript exporter turns squeeze over a dimension that it doesn't know into If."""
    family = Family("squeeze", SqueezeOfUnknown, lambda g, s: ({"x": torch.randn(2, 4)}, {}), {"x": {0: "batch", 1: "features"}}, {}, {})
    return export.export(SqueezeOfUnknown(), family, Case("squeeze", "torchscript", 16)), ["If"], "control flow"


def loop():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Tanh", ["state"], ["next"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, ["batch", 3])],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, ["batch", 3])],
    )
    node = helper.make_node("Loop", ["times", "", "h"], ["y"], name="thrice", body=body)
    return model([constant("times", np.int64(3)), node]), ["Loop", "thrice"], "control flow"


def scan():
    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "row"], ["new"]), helper.make_node("Identity", ["new"], ["out"])],
        "body",
        [value("sum", TensorProto.FLOAT, [3]), value("row", TensorProto.FLOAT, [3])],
        [value("new", TensorProto.FLOAT, [3]), value("out", TensorProto.FLOAT, [3])],
    )
    node = helper.make_node("Scan", ["zero", "h"], ["total", "y"], name="prefix_sum", body=body, num_scan_inputs=1)
    return model([constant("zero", np.zeros(3, np.float32)), node]), ["Scan", "prefix_sum"], "control flow"


def sequence():
    nodes = [
        helper.make_node("SequenceConstruct", ["h", "h"], ["list"], name="pack"),
        constant("second", np.int64(1)),
        helper.make_node("SequenceAt", ["list", "second"], ["y"], name="unpack"),
    ]
    return model(nodes), ["SequenceConstruct", "pack"], "sequences"


def custom_domain():
    node = helper.make_node("Swirl", ["h"], ["y"], name="swirl", domain="com.example", strength=2.0)
    return model([node], domains=["com.example"]), ["com.example", "Swirl", "swirl"], "an operator of a custom domain"


def half_weights():
    weight = numpy_helper.from_array(np.linspace(-1, 1, 12).astype(np.float16).reshape(4, 3), "w")
    proto = model([helper.make_node("Relu", ["h"], ["y"], name="relu")], weights=[weight], kind=TensorProto.FLOAT16)
    return proto, ["w", "float16"], "weights of half precision"


def unknown_op():
    return model([helper.make_node("Frobnicate", ["h"], ["y"], name="odd")]), ["Frobnicate", "odd"], "not an ONNX operator"
