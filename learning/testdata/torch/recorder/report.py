"""README.md's table and ops.json, from the JSON files that are there."""

from __future__ import annotations

import json
import pathlib
from collections import defaultdict
from importlib.metadata import version

START, END = "<!-- table: written by record.py -->", "<!-- end of the table -->"
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")
CONTROL_FLOW = {"If", "Loop", "Scan"}


def refused_ops(ops) -> list[str]:
    """Ops that the trainer refuses by name: control flow and sequences."""
    return sorted(op for op in ops if op in CONTROL_FLOW or "Sequence" in op)


def write(folder: pathlib.Path):
    metas = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json")) if p.name != "ops.json"]
    by_op = defaultdict(list)
    for meta in metas:
        for op in meta["ops"]:
            by_op[op].append(meta["name"])
    lines = ",\n".join(f" {json.dumps(op)}: {json.dumps(names)}" for op, names in sorted(by_op.items()))
    (folder / "ops.json").write_text("{\n" + lines + "\n}\n")
    readme = folder / "README.md"
    before, rest = readme.read_text().split(START)
    _, after = rest.split(END)
    readme.write_text(before + START + "\n" + table(metas) + END + after)


def table(metas) -> str:
    versions = ", ".join(f"{name} {version(name).split('+')[0]}" for name in PACKAGES)
    text = f"Recorded with {versions}.\n\n| file | exporter | opset | mode | curves | dynamic | ops |\n|---|---|---|---|---|---|---|\n"
    for meta in metas:
        dims = dict.fromkeys(d for i in meta["inputs"] for d in i["shape"] if isinstance(d, str))
        curves = " ".join(c["name"] for c in meta.get("curves", [])) or "none"
        mode = meta["mode"] + ("" if meta["constant_folding"] else ", not folded")
        refused = refused_ops(meta["ops"])
        ops = " ".join(f"**{op}**" if op in refused else op for op in meta["ops"])
        text += f"| {meta['name']} | {meta['exporter']} | {meta['opset']} | {mode} | {curves} | {' '.join(dims)} | {ops} |\n"
    return text
