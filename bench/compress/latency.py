#!/usr/bin/env python3
"""Latency of the files that run.py made, on an idle machine: tract (`aimass model measure`) beside onnxruntime, one thread, batches of 1 and 32.

  latency.py --aimass target/release/aimass --peer PYTHON [--out FOLDER]
"""
import argparse
import json
import subprocess
from pathlib import Path

FILES = {
    "floats": "trained/model.onnx",
    "int8 weights": "int8-weights.onnx",
    "int8": "int8.onnx",
    "int8 dynamic": "int8-dynamic.onnx",
    "channels 50 %": "channels-50-.onnx",
}

PEER = """
import json, sys, time
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
fed, found = session.get_inputs()[0], {}
for batch in (1, 32):
    shape = [batch] + [d if isinstance(d, int) else 32 for d in fed.shape[1:]]
    rows, times, end = {fed.name: np.random.RandomState(0).rand(*shape).astype(np.float32)}, [], time.perf_counter() + 0.7
    while time.perf_counter() < end or len(times) < 20:
        begin = time.perf_counter(); session.run(None, rows); times.append(time.perf_counter() - begin)
    found[batch] = sorted(times)[len(times) // 2] * 1e6
print(json.dumps(found))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aimass", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--out", type=Path, default=Path("compress-bench"))
    args = parser.parse_args()
    print("| model | file | tract, us, 1 / 32 rows | onnxruntime, us, 1 / 32 rows | process, MiB |\n| --- | --- | --- | --- | --- |")
    for work in sorted(folder for folder in args.out.iterdir() if folder.is_dir()):
        for name, file in FILES.items():
            path = work / file
            if not path.exists():
                continue
            ours = json.loads(subprocess.run([args.aimass, "--json", "model", "measure", path], capture_output=True, text=True, check=True).stdout)
            us = {str(cost["batch"]): cost["median_us"] for cost in ours["costs"]}
            peer = subprocess.run([args.peer, "-c", PEER, path], capture_output=True, text=True, check=False)
            theirs = json.loads(peer.stdout) if peer.returncode == 0 else {}
            show = lambda found: " / ".join(f"{found[n]:.0f}" if n in found else "-" for n in ("1", "32"))
            peak = max(cost["peak_memory_bytes"] or 0 for cost in ours["costs"])
            print(f"| {work.name} | {name} | {show(us)} | {show(theirs)} | {peak / 2**20:.0f} |", flush=True)


if __name__ == "__main__":
    main()
