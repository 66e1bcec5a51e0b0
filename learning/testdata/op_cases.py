"""What the op-test generators share: a case is a small ONNX model with inputs, and the outputs that ONNX's reference evaluator computes.

Every file `ops*.json` holds a list of cases, one a line, all read by `src/ops/tests.rs`:

    {
      "name": "where_broadcast",          unique over all files
      "model": "0809...",                 the ONNX file in hex
      "frozen": ["c"],                    globs of initializers that must not train (constants of the graph)
      "inputs":  [{"name": "h", "dtype": "float", "shape": [3, 4], "data": [...]}],    dtype: float (float32), int (of any size), bool
      "outputs": [{"dtype": "float", "shape": [3, 4], "data": [...]}],                 in the order of the model's outputs
      "tolerance": 2e-6                   largest difference allowed, as a share of the largest output
      "gradient": true                    false: piecewise constant or too steep for finite differences, only the forward values are compared
    }

Numbers that JSON lacks are the strings "nan", "inf" and "-inf"; booleans are 0 and 1. The Rust tests compare the outputs, with integer
inputs fed and with the same integers as initializers; then the gradients by every float initializer and every float input with finite
differences.
"""

import json
import math
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

KINDS = {"f": "float", "i": "int", "u": "int", "b": "bool"}


def number(value):
    """A number as JSON can hold it."""
    value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return int(value) if isinstance(value, bool) else value


def described(array):
    array = np.asarray(array)
    return {"dtype": KINDS[array.dtype.kind], "shape": list(array.shape), "data": [number(v) for v in array.ravel()]}


class Cases:
    """The cases of one file."""

    def __init__(self, file, seed):
        self.path = pathlib.Path(__file__).parent / file
        self.rng = np.random.default_rng(seed)
        self.cases = []

    def grid(self, shape, span=3.0):
        """Shuffled, evenly spaced values: no two are so near that a finite difference crosses a kink between them."""
        n = int(np.prod(shape))
        values = (np.arange(n) + 0.5) / n * span - span / 2
        self.rng.shuffle(values)
        return values.reshape(shape).astype(np.float32)

    def case(
        self, name, nodes, inputs, weights=None, ints=None, opset=17, frozen=None, span=3.0, expected=None, outputs=None, tolerance=2e-6, gradient=True
    ):
        """Adds a case.

        `nodes`: (op, inputs, output or list of outputs, attributes), or NodeProto. `inputs`: a shape or an array for the one input `h`, or
        a dict from name to shape (floats of `grid`) or array (float32, int64, int32, bool). `weights`: float initializers, shapes or
        values; `ints`: integer or boolean initializers. `frozen`: initializers that must not train. `outputs`: names of the model's
        outputs, the last node's if missing. `expected`: from the inputs to the outputs, in place of the evaluator's.
        """
        inputs = inputs if isinstance(inputs, dict) else {"h": inputs}
        inputs = {k: self.grid(v, span) if isinstance(v, tuple) else np.asarray(v) for k, v in inputs.items()}
        initializers = []
        for key, value in (weights or {}).items():
            value = self.grid(value, 2.0) if isinstance(value, tuple) else np.asarray(value, np.float32)
            initializers.append(numpy_helper.from_array(value, key))
        for key, value in (ints or {}).items():
            initializers.append(numpy_helper.from_array(np.asarray(value), key))
        made = []
        for node in nodes:
            if not isinstance(node, onnx.NodeProto):
                op, operands, results, attributes = node
                results = [results] if isinstance(results, str) else results
                node = helper.make_node(op, operands, results, name=f"{results[0]}_{op.lower()}", **attributes)
            made.append(node)
        outputs = outputs or [o for o in made[-1].output if o]
        graph = helper.make_graph(
            made,
            name,
            [
                helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), [f"{k}_{i}" for i in range(v.ndim)])
                for k, v in inputs.items()
            ],
            [helper.make_empty_tensor_value_info(o) for o in outputs],
            initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        for output in model.graph.output:
            output.type.tensor_type.elem_type = TensorProto.FLOAT
        values = expected(*inputs.values()) if expected else ReferenceEvaluator(model).run(None, inputs)
        values = values if isinstance(values, (list, tuple)) else [values]
        for output, value in zip(model.graph.output, values):
            value = np.asarray(value)
            output.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        self.add(name, model, inputs, values, frozen or [], tolerance, gradient)

    def add(self, name, model, inputs, outputs, frozen=(), tolerance=2e-6, gradient=True):
        """Adds a case of a finished model; `inputs` by name, `outputs` in order."""
        assert all(name != case["name"] for case in self.cases), name
        self.cases.append(
            {
                "name": name,
                "model": model.SerializeToString().hex(),
                "frozen": list(frozen),
                "inputs": [{"name": k, **described(v)} for k, v in inputs.items()],
                "outputs": [described(v) for v in outputs],
                "tolerance": tolerance,
                "gradient": gradient,
            }
        )

    def write(self):
        self.path.write_text("[\n" + ",\n".join(json.dumps(c) for c in self.cases) + "\n]\n")
        print(len(self.cases), "cases,", self.path.stat().st_size, "bytes, onnx", onnx.__version__)
