"""Writes ONNX's own backend node tests as cases (see op_cases.py), to a file that is not kept here: it is made by the `onnx` package.

    pip install onnx numpy
    python make_node_tests.py node_tests.json
    AIMASS_OP_CASES=$PWD/node_tests.json cargo test --release --workspace --lib onnx_node_tests -- --ignored --nocapture

The last command says for every op how many of its tests pass and why the others are refused. Left out are tests of types that this
project does not compute with (float16, float64, unsigned integers, strings, sequences, optionals) and of training by ONNX's own ops.
"""

import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases

from op_cases import Cases

warnings.simplefilter("ignore")
KNOWN = {np.dtype(t) for t in [np.float32, np.int64, np.int32, np.bool_]}
NUMBERS = {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL}


def array(value):
    """The array, where it is one of a type that is computed with."""
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    known = isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).dtype in KNOWN
    return np.asarray(value) if known else None


def main(path):
    cases = Cases(pathlib.Path(path).resolve(), 0)
    left_out = 0
    for test in collect_testcases(None):
        graph = test.model.graph
        inputs, outputs = test.data_sets[0]
        inputs, outputs = [array(v) for v in inputs], [array(v) for v in outputs]
        # Values of types that are not computed with can also be inside.
        inner = [v.type.tensor_type.elem_type for v in graph.value_info]
        inner += [a.i for n in graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"]
        usable = all(v is not None for v in inputs + outputs) and all(t in NUMBERS for t in inner) and len(inputs) == len(graph.input)
        usable = usable and all(i.domain in ("", "ai.onnx") for i in test.model.opset_import)
        if not usable:
            left_out += 1
            continue
        named = dict(zip([i.name for i in graph.input], inputs))
        cases.add(test.name, test.model, named, outputs, tolerance=max(test.rtol, 1e-5), gradient=False)
    cases.write()
    print(left_out, "left out")


main(sys.argv[1])
