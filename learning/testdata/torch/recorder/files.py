"""Builds a case and writes NAME.onnx, NAME.npz and NAME.json."""

from __future__ import annotations

import json
import pathlib
from dataclasses import asdict

import numpy as np
import onnx
import torch

from . import export
from .curve import train
from .data import seed_of
from .family import Case, Curve, Family, Tensors
from .report import refused_ops

BATCHES = 3
SHARPEST = 2e-5  # relative, between the losses in f32 and f64
WHOLE_ARRAYS = 3  # weights whose values after a curve are recorded whole: the smallest ones
DTYPES = {"float32": "f32", "float64": "f64", "int64": "i64", "int32": "i32", "bool": "bool"}


def record(family: Family, case: Case, folder: pathlib.Path) -> dict:
    model = initial_model(family)
    proto = export.export(model, family, case)
    onnx.checker.check_model(proto, full_check=True)
    arrays: dict[str, np.ndarray] = {}
    meta = {
        "name": case.name,
        "family": family.name,
        "exporter": case.exporter,
        "opset": next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")),
        "mode": case.mode,
        "constant_folding": case.fold,
        "note": case.note,
        "converted_from_18": case.exporter == "dynamo" and case.opset < 18,
        "ops": dict(sorted(export.ops_of(proto).items())),
        "refused_ops": refused_ops(export.ops_of(proto)),
        "inputs": [value_info(v) for v in proto.graph.input],
        "outputs": [value_info(v) for v in proto.graph.output],
        "inference": [
            inference(model, proto, family, sizes, f"infer{i}", arrays) for i, sizes in enumerate((family.sizes, family.second_sizes))
        ],
    }
    if meta["opset"] != case.opset:
        raise AssertionError(f"{case.name}: the exporter made opset {meta['opset']}")
    if case.curves and family.curves:
        meta["batches"] = recorded_batches(batches_of(family), arrays)
        runs = [curve(model, proto, family, case, c, i, arrays) for i, c in enumerate(family.curves)]
        meta["parameters"] = [n for n in export.float_initializers(proto) if any(n in r["after"] for r in runs) and not is_buffer(n)]
        meta["curves"] = runs
    onnx.save(proto, folder / f"{case.name}.onnx")
    np.savez_compressed(folder / f"{case.name}.npz", **arrays)
    (folder / f"{case.name}.json").write_text(text_of(meta))
    return meta


def text_of(meta: dict) -> str:
    """JSON with a line a key, and a line a curve."""

    def value(key, item):
        if key in ("curves", "batches", "inference"):
            return "[\n  " + ",\n  ".join(json.dumps(i) for i in item) + "\n ]"
        return json.dumps(item)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {value(key, item)}" for key, item in meta.items()) + "\n}\n"


def initial_model(family: Family) -> torch.nn.Module:
    """Seeded; norms and running statistics away from 1 and 0, no two weights alike, as in a model that was trained before.

    It matters: both exporters merge initializers of equal values, so in the file of a fresh model batch norms share their weights, and
    so do the layers of nn.TransformerEncoder, which begin as copies of one.
    """
    torch.manual_seed(seed_of(family.name))
    model = family.build()
    if family.fresh:
        return model.eval()
    g = torch.Generator().manual_seed(seed_of(family.name) + 1)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.copy_(0.75 + 0.5 * torch.rand(tensor.shape, generator=g))
            elif name.endswith("running_mean") or (tensor.is_floating_point() and (tensor == 0).all()):
                tensor.copy_(0.2 * torch.randn(tensor.shape, generator=g))
            elif tensor.is_floating_point():
                tensor.add_(0.05 * torch.randn(tensor.shape, generator=g))
    return model.eval()


def value_info(value: onnx.ValueInfoProto) -> dict:
    tensor = value.type.tensor_type
    dtype = DTYPES[onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name]
    return {
        "name": value.name,
        "dtype": dtype,
        "shape": [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim],
    }


def inference(model, proto, family: Family, sizes, prefix: str, arrays) -> dict:
    inputs, _ = family.sample(torch.Generator().manual_seed(seed_of(prefix)), sizes)
    inputs = {name: inputs[name] for name in family.dynamic}
    expected = outputs_of(model, family, inputs)
    difference = export.check(proto, inputs, expected)
    return {
        "sizes": sizes,
        "inputs": keep(arrays, prefix, {n: t.numpy() for n, t in inputs.items()}),
        "outputs": keep(arrays, prefix, expected),
        "max_abs_diff_onnxruntime": difference,
        "max_abs": max(float(np.abs(o).max()) for o in expected.values()),
    }


def outputs_of(model, family: Family, inputs: Tensors) -> dict[str, np.ndarray]:
    model.eval()
    with torch.no_grad():
        outputs = model(**inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {name: t.numpy().copy() for name, t in zip(family.outputs, outputs, strict=True)}


def keep(arrays, prefix: str, tensors: dict[str, np.ndarray]) -> dict[str, str]:
    """Adds arrays as `prefix.name`; gives their names."""
    arrays.update({f"{prefix}.{name}": np.ascontiguousarray(array) for name, array in tensors.items()})
    return {name: f"{prefix}.{name}" for name in tensors}


def batches_of(family: Family) -> list[tuple[Tensors, Tensors]]:
    g = torch.Generator().manual_seed(seed_of(family.name) + 2)
    return [family.sample(g, family.sizes) for _ in range(BATCHES)]


def recorded_batches(batches, arrays) -> list[dict]:
    """Only what the curves use twice is written once: batch i serves the steps i, i + 3, i + 6, ..."""
    return [
        {
            "inputs": keep(arrays, f"batch{i}", {n: t.numpy() for n, t in inputs.items()}),
            "targets": keep(arrays, f"batch{i}.target", {n: t.numpy() for n, t in targets.items()}),
        }
        for i, (inputs, targets) in enumerate(batches)
    ]


def curve(model, proto, family: Family, case: Case, spec: Curve, index: int, arrays) -> dict:
    batches = batches_of(family)
    trained, losses, rates = train(model, family.outputs, batches, spec)
    _, exact, _ = train(model, family.outputs, batches, spec, torch.float64)
    if max(abs(a / b - 1) for a, b in zip(losses, exact)) > SHARPEST:
        raise AssertionError(f"{case.name}: the curve in f32 is so far from f64 that nothing can be compared with it; train slower")
    # Exporting in training mode traces the model once, which moves its statistics.
    statistics = {n: b.numpy().copy() for n, b in trained.named_buffers() if is_buffer(n)}
    before, after = export.float_initializers(proto), export.float_initializers(export.export(trained, family, case))
    if family.fresh:
        # Trained weights differ, so more of them are in the file; and the statistics' names stand for others' values in the first one.
        after = {n: after[n] for n in before}
        before |= {n: b.numpy() for n, b in model.named_buffers() if is_buffer(n)}
        after |= statistics
    after |= {n: statistics[n] for n in after if n in statistics}
    if list(before) != list(after):
        raise AssertionError(f"{case.name}: names of initializers change from export to export")
    changed = {n: a for n, a in after.items() if not np.array_equal(a, before[n])}
    same_weights(model, trained, changed)
    smallest = sorted(changed, key=lambda n: changed[n].size)[:WHOLE_ARRAYS]
    buffers = [n for n in changed if is_buffer(n)]
    whole = {n: f"curve{index}.after{i}" for i, n in enumerate(dict.fromkeys(smallest + buffers))}
    arrays.update({key: after[n] for n, key in whole.items()})
    settings = {k: v for k, v in asdict(spec).items() if v not in (None, (), False)}
    return {
        **settings,
        "rates": rates,
        "losses": losses,
        "losses_f64": exact,
        "after": {
            n: {"sum": float(a.sum(dtype=np.float64)), "norm": float(np.sqrt((a.astype(np.float64) ** 2).sum()))}
            for n, a in changed.items()
        },
        "after_arrays": whole,
    }


def same_weights(model, trained, changed: dict[str, np.ndarray]):
    """An error where the file's weights are not PyTorch's one by one: fused, copied, or gone into constants."""
    before = dict(model.named_parameters())
    moved = sum(p.numel() for n, p in trained.named_parameters() if not torch.equal(p, before[n]))
    in_file = sum(a.size for n, a in changed.items() if not is_buffer(n))
    if moved != in_file:
        raise AssertionError(f"training moves {moved} numbers in PyTorch, {in_file} in the file: {' '.join(changed)}")


def is_buffer(name: str) -> bool:
    return name.endswith(("running_mean", "running_var"))
