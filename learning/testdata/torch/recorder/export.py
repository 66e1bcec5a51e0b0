"""A module to ONNX by either exporter, and the check of the file against PyTorch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from .family import Case, Family, Tensors

TOLERANCE = 2e-5  # max |a - b| <= TOLERANCE * max(1, max |b|), onnxruntime against PyTorch


def export(model: torch.nn.Module, family: Family, case: Case) -> onnx.ModelProto:
    model.train(case.mode == "training")
    generator = torch.Generator().manual_seed(1)
    inputs, _ = family.sample(generator, family.sizes)
    inputs = {name: inputs[name] for name in family.dynamic}
    with quiet():
        proto = {"torchscript": by_torchscript, "dynamo": by_dynamo}[case.exporter](model, inputs, family, case)
    model.eval()
    return without_paths(proto)


def by_torchscript(model, inputs: Tensors, family: Family, case: Case) -> onnx.ModelProto:
    modes = torch.onnx.TrainingMode
    axes = {**family.dynamic, **{name: {0: "batch"} for name in family.outputs}, **family.output_dynamic}
    file = io.BytesIO()
    torch.onnx.export(
        model,
        tuple(inputs.values()),
        file,
        dynamo=False,
        input_names=list(inputs),
        output_names=list(family.outputs),
        dynamic_axes={name: names for name, names in axes.items() if names},
        opset_version=case.opset,
        do_constant_folding=case.fold and case.mode != "training",
        training={"eval": modes.EVAL, "preserve": modes.PRESERVE, "training": modes.TRAINING}[case.mode],
    )
    return onnx.load_from_string(file.getvalue())


def by_dynamo(model, inputs: Tensors, family: Family, case: Case) -> onnx.ModelProto:
    dims = {name: torch.export.Dim(name, min=4 if name == "time" else None) for axes in family.dynamic.values() for name in axes.values()}
    shapes = {name: {axis: dims[dim] for axis, dim in axes.items()} for name, axes in family.dynamic.items()}
    program = torch.onnx.export(
        model,
        (),
        kwargs=inputs,
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=list(inputs),
        output_names=list(family.outputs),
        dynamic_shapes=shapes,
        opset_version=case.opset,
        optimize=case.fold,
    )
    return program.model_proto


@contextlib.contextmanager
def quiet():
    """The exporters warn at length about what the cases ask for on purpose."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(level)


def without_paths(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Leaves out stack traces and their kin: they name files of the machine that exported."""

    def strip(item):
        item.doc_string = ""
        kept = [(p.key, p.value) for p in item.metadata_props if p.key in ("pkg.torch.export.graph_signature.kept",)]
        del item.metadata_props[:]
        item.metadata_props.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in kept)

    def walk(graph):
        strip(graph)
        for node in graph.node:
            strip(node)
            for attribute in node.attribute:
                for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    walk(inner)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            strip(value)
        for tensor in graph.initializer:
            tensor.doc_string = ""
            del tensor.metadata_props[:]

    walk(proto.graph)
    for function in proto.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            strip(node)
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {"recorded_by": "learning/testdata/torch/record.py"})
    return proto


def ops_of(proto: onnx.ModelProto) -> Counter:
    """Counts op types, those inside of subgraphs and functions included; `domain::Op` outside of the default domain."""
    counts = Counter()

    def walk(nodes):
        for node in nodes:
            counts[f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type] += 1
            for attribute in node.attribute:
                for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    walk(inner.node)

    walk(proto.graph.node)
    for function in proto.functions:
        walk(function.node)
    return counts


def float_initializers(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}


def inference_copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A training export with its batch norm and dropout in inference mode: what its recorded outputs mean."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    off = numpy_helper.from_array(np.array(False), "inference_mode_off")
    copy.graph.initializer.append(off)
    for node in copy.graph.node:
        if node.op_type == "Dropout" and len(node.input) > 2:
            node.input[2] = off.name
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            kept = [a for a in node.attribute if a.name != "training_mode"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return copy


def run(proto: onnx.ModelProto, inputs: Tensors) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    outputs = session.run(None, {name: t.numpy() for name, t in inputs.items() if name in wanted})
    return dict(zip([o.name for o in session.get_outputs()], outputs, strict=True))


def check(proto: onnx.ModelProto, inputs: Tensors, expected: dict[str, np.ndarray]) -> float:
    """max |a - b| between onnxruntime and PyTorch; an error where it is more than rounding explains."""
    worst = 0.0
    got = run(inference_copy(proto), inputs)
    for name, want in expected.items():
        if got[name].shape != want.shape:
            raise AssertionError(f"{name}: onnxruntime gives {got[name].shape}, PyTorch {want.shape}")
        difference = float(np.abs(got[name].astype(np.float64) - want).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(want).max())):
            raise AssertionError(f"{name}: onnxruntime and PyTorch differ by {difference}")
        worst = max(worst, difference)
    return worst
