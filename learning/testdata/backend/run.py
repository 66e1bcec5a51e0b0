"""Runs ONNX's own backend node tests through the trainer, and writes results.json, of which docs/ops.md is made.

    pip install onnx numpy
    cargo build --release -p aimass-learning --example node_tests
    python run.py ../../../target/release/examples/node_tests            # all
    AIMASS_RECORD_OPS=1 cargo test --release -p aimass-learning --lib the_list_of_ops
    python run.py ../../../target/release/examples/node_tests softmax    # those with `softmax` in their name, printed alone

The tests come from the `onnx` package: models of one node (and `_expanded` ones: the functions that define an operator by others), each
with inputs and expected outputs. Many feed as inputs what exporters store: the target of a Reshape, the axes of a reduction, a ratio.
Training plans these ahead, so a test that is refused for that runs again with every input after the first as an initializer.
"""

from __future__ import annotations

import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test import loader

FOLDER = pathlib.Path(__file__).parent
TYPES = {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL}
# Of the tests of quantized ops alone: elsewhere these are not computed with.
SMALL = {onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.UINT16, onnx.TensorProto.INT16}
QUANTIZED = {"ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear"}
# Refusals for want of what is not a constant.
NOT_KNOWN = re.compile(
    r"known integers are needed|is not a constant|are not constants|not known|make it a constant|make it one$|the shape \[0\] for the input"
)
# Run in float32, unless the test is about it.
DOUBLE = onnx.TensorProto.DOUBLE
# Tests of what a trainer's inference does not do, by a pattern of their names.
OUT_OF_SCOPE = [
    (r"^test_batchnorm_.*training_mode", "training mode: its statistics are those of the batch only in a training step"),
    (r"^test_training_dropout", "training mode: dropout draws its own noise, and only in a training step"),
    (r"^test_mod_float_edge_cases_fmod_0", "the remainder by an infinite divisor is not a number here"),
]


def main(runner: str, pattern: str | None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [c for c in loader.load_model_tests(kind="node") if pattern is None or pattern in c.name]
    ops = ops_of(cases)
    verdicts = {case.name: static_verdict(case) for case in cases}
    todo = [case for case in cases if verdicts[case.name] is None]
    verdicts |= run(runner, todo, lambda case: (readable(case.model), named_inputs(case)))
    again = [case for case in todo if verdicts[case.name][0] == "refused" and NOT_KNOWN.search(verdicts[case.name][1])]
    for name, (verdict, why) in run(runner, again, with_initializers).items():
        if verdict == "passed":
            verdicts[name] = ("passed with initializers", "")
        elif verdict == "failed" or not NOT_KNOWN.search(why):
            verdicts[name] = (verdict, why)
    report(cases, ops, verdicts, whole=pattern is None)
    return any(verdict == "failed" for verdict, _ in verdicts.values())


def ops_of(cases) -> dict[str, str]:
    """The operator that each test is about: that of its only node, or of the test that it expands."""

    def own(case):
        node = case.model.graph.node[0]
        return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type

    ops = {case.name: own(case) for case in cases}
    return {name: ops.get(name.split("_expanded")[0], op) for name, op in ops.items()}


def static_verdict(case):
    """Why a test is not run; `None` if it is."""
    values = [*case.model.graph.input, *case.model.graph.output]
    if any(v.type.WhichOneof("value") != "tensor_type" for v in values):
        return "other types", "sequences, optionals or maps"
    nodes = case.model.graph.node
    names_a_type = len(nodes) > 1 or "Cast" in nodes[0].op_type or any(a.name == "dtype" for a in nodes[0].attribute)
    known = TYPES if names_a_type else TYPES | {DOUBLE}
    known |= SMALL if nodes[0].op_type in QUANTIZED else set()
    others = sorted({onnx.TensorProto.DataType.Name(t).lower() for v in values if (t := v.type.tensor_type.elem_type) not in known})
    if others:
        return "other types", ", ".join(others)
    for name, why in OUT_OF_SCOPE:
        if re.search(name, case.name):
            return "out of scope", why
    return None


def readable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float32, and of opset 7 where it is older: the oldest that is read."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in [*copy.graph.input, *copy.graph.output]:
        if value.type.tensor_type.elem_type == DOUBLE:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for opset in copy.opset_import:
        if opset.domain == "":
            opset.version = max(opset.version, 7)
    return copy


def array(value) -> np.ndarray:
    """Of what a test holds: an array, or a tensor of a type that numpy had to be taught."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def named_inputs(case) -> dict[str, np.ndarray]:
    inputs, _ = case.data_sets[0]
    arrays = [array(a) for a in inputs]
    arrays = [a.astype(np.float32) if a.dtype == np.float64 else a for a in arrays]
    return {v.name: a for v, a in zip(case.model.graph.input, arrays, strict=True)}


def with_initializers(case):
    """The same test with all inputs but the first stored in the model."""
    model = readable(case.model)
    first, *rest = named_inputs(case).items()
    del model.graph.input[1:]
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in rest)
    return model, dict([first])


def run(runner: str, cases, prepare) -> dict[str, tuple[str, str]]:
    verdicts = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for case in cases:
            model, inputs = prepare(case)
            onnx.save(model, folder / f"{case.name}.onnx")
            np.savez(folder / f"{case.name}.npz", **{name: np.ascontiguousarray(a) if a.ndim else a for name, a in inputs.items()})
        subprocess.run([runner, str(folder)], check=True, stderr=subprocess.DEVNULL)
        for case in cases:
            verdicts[case.name] = verdict(case, folder)
    return verdicts


def verdict(case, folder: pathlib.Path) -> tuple[str, str]:
    said = folder / f"{case.name}.txt"
    if said.exists():
        text = said.read_text()
        return ("failed", text) if text == "panic" else (("not claimed", text) if unclaimed(text) else ("refused", text))
    for i, expected in enumerate(case.data_sets[0][1]):
        got = np.load(folder / f"{case.name}.{i}.npy")
        expected = array(expected)
        if got.shape != expected.shape:
            return "failed", f"output {i} has the shape {list(got.shape)}, not {list(expected.shape)}"
        if (expected.dtype == bool) != (got.dtype == bool) or (expected.dtype.kind == "f") != (got.dtype.kind == "f"):
            return "failed", f"output {i} is {got.dtype}, not {expected.dtype}"
        if expected.dtype.kind != "f":
            if not np.array_equal(got, expected):
                return "failed", f"output {i} differs"
        elif not np.allclose(got, expected, rtol=case.rtol, atol=case.atol, equal_nan=True):
            with np.errstate(all="ignore"):
                return "failed", f"output {i} is {np.nanmax(np.abs(got - expected)):.1e} apart"
    return "passed", ""


def unclaimed(text: str) -> bool:
    return "the op is not supported" in text or "control flow is not supported" in text or "the op of the domain" in text


def short(why: str) -> str:
    """A refusal without names, numbers and the list of ops."""
    why = re.sub(r"^node `[^`]*` \(([^)]*)\): ", r"\1: ", why.replace("\n", " "))
    why = re.sub(r"use the ops that are.*", "", why)
    return why[:150].rstrip("; ")


def claims(verdicts) -> set[str]:
    """The operators that the trainer runs: it lists them when it refuses another."""
    lists = [why.split("use the ops that are: ")[1] for _, why in verdicts.values() if "use the ops that are: " in why]
    return set(lists[0].split(", ")) if lists else set()


def report(cases, ops, verdicts, whole: bool):
    columns = ["passed", "passed with initializers", "refused", "failed", "out of scope", "other types"]
    claimed = claims(verdicts)
    by_op = collections.defaultdict(collections.Counter)
    reasons = collections.defaultdict(lambda: collections.defaultdict(list))
    for case in cases:
        kind, why = verdicts[case.name]
        op = ops[case.name]
        if kind == "not claimed" and op in claimed:
            kind = "refused"  # an expansion that needs another operator
        by_op[op][kind] += 1
        if kind in ("refused", "failed", "out of scope"):
            reasons[op][f"{kind}: {short(why)}"].append(case.name.removeprefix("test_"))
    total = sum((counts for op, counts in by_op.items() if op in claimed), collections.Counter())
    versions = collections.defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions[schema.name].append(schema)
    ops_known = {}
    for op, schemas in sorted(versions.items()):
        texts = [f"{text} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" for text, names in reasons[op].items()]
        ops_known[op] = {
            "since": min(schema.since_version for schema in schemas),
            "deprecated": any(schema.deprecated for schema in schemas),
            "tests": {kind: by_op[op][kind] for kind in [*columns, "not claimed"] if by_op[op][kind]},
            "why": texts if op in claimed else [],
        }
    found = {
        "onnx": onnx.__version__,
        "tests": len(cases),
        "of_ops_that_run": total.total(),
        "totals": {kind: total[kind] for kind in columns},
        "ops": ops_known,
    }
    if whole:
        lines = ",\n".join(f"  {json.dumps(op)}: {json.dumps(about)}" for op, about in found.pop("ops").items())
        head = json.dumps(found)[1:-1]
        (FOLDER / "results.json").write_text("{" + head + ',\n "ops": {\n' + lines + "\n }\n}\n")
    else:
        print("\n".join(f"{c.name}: {': '.join(verdicts[c.name])}" for c in cases))
    print(", ".join(f"{kind} {total[kind]}" for kind in columns))
    for op, texts in sorted(reasons.items()):
        for text, names in texts.items():
            if text.startswith("failed"):
                print(f"{op}: {text}: {', '.join(names)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
