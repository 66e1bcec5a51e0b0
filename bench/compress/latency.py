#!/usr/bin/env python3
"""Latency of the files that run.py made: as devices run them (`aimass model measure`), by tract alone, and onnxruntime; one thread, batches of 1 and 32.

  latency.py --aimass target/release/aimass --peer PYTHON [--out FOLDER] [--repeat N] [--only MODEL] [--json FILE]

Medians; of N repetitions in turn the least, for all three: what other programs cost the machine is not what is measured.
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


def ours(aimass, path, engine):
    found = json.loads(subprocess.run([aimass, "--json", "model", "measure", path, "--engine", engine], capture_output=True, text=True, check=True).stdout)
    return found["costs"]


def theirs(peer, path):
    found = subprocess.run([peer, "-c", PEER, path], capture_output=True, text=True, check=False)
    return json.loads(found.stdout) if found.returncode == 0 else {}


def measure(args, path):
    """Microseconds by batch of each, the engine that was chosen, and MiB of the process with it."""
    row = {"file": str(path.relative_to(args.out)), "chosen": {}, "tract": {}, "onnxruntime": {}, "engine": {}, "mib": 0}

    def least(name, batch, us):
        row[name][batch] = min(us, row[name].get(batch, us))

    for _ in range(args.repeat):
        for cost in ours(args.aimass, path, "auto"):
            least("chosen", str(cost["batch"]), cost["median_us"])
            row["engine"][str(cost["batch"])] = cost["engine"]
            row["mib"] = max(row["mib"], (cost["peak_memory_bytes"] or 0) / 2**20)
        for cost in ours(args.aimass, path, "tract"):
            least("tract", str(cost["batch"]), cost["median_us"])
        for batch, us in theirs(args.peer, path).items():
            least("onnxruntime", batch, us)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aimass", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--out", type=Path, default=Path("compress-bench"))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print("| model | file | as served, us, 1 / 32 rows | by | tract | onnxruntime | process, MiB |\n| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for work in sorted(folder for folder in args.out.iterdir() if folder.is_dir() and (not args.only or folder.name in args.only)):
        for name, file in FILES.items():
            path = work / file
            if not path.exists():
                continue
            row = measure(args, path)
            rows.append(row)
            show = lambda found: " / ".join(f"{found[n]:.0f}" if n in found else "-" for n in ("1", "32"))
            engines = " / ".join(sorted(set(row["engine"].values())))
            print(f"| {work.name} | {name} | {show(row['chosen'])} | {engines} | {show(row['tract'])} | {show(row['onnxruntime'])} | {row['mib']:.0f} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
