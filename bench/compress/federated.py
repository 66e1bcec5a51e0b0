#!/usr/bin/env python3
"""Ranges from agents against ranges from the same rows in one place: accuracy of the int8 models, bytes and seconds of the two rounds.

  federated.py --aimass target/release/aimass --model model.onnx --mnist FOLDER --work FOLDER [--agents 5] [--rows 512] [--output results.json]

The training images of MNIST (four uncompressed IDX files) are dealt to the agents by their label, two labels each in turn, so that no agent's rows look like
all rows. --model is a trained CNN or LeNet, as run.py leaves it. --work is an empty folder. Needs Python with numpy.
"""
import argparse
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np

JOB = """[job]
name = "ranges"
kind = "calibration"
purpose = "bench"
[model]
path = "model.onnx"
[data]
contract = "mnist"
target = "y"
[calibration]
rows = {rows}
[evaluate]
data = "test.npz"
[compress]
quantize = "static"
calibration = "{method}"
[round]
min = {agents}
"""


def images(folder, name):
    labels = name.replace("images-idx3", "labels-idx1")
    x = np.frombuffer((folder / name).read_bytes(), np.uint8, offset=16).astype(np.float32) / 255
    y = np.frombuffer((folder / labels).read_bytes(), np.uint8, offset=8)
    return x.reshape(len(y), -1), y.astype(np.int64)


class Fleet:
    def __init__(self, aimass, work):
        self.aimass, self.work, self.running = str(aimass.resolve()), work, []
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("AIMASS_")}

    def begin(self, agents):
        self.start("authority", ["authority", "--listen", "127.0.0.1:4631"])
        self.command(["owner", "create"])
        self.command(["token", "create", "--role", "server", "-o", "server.token"])
        self.start("server", ["serve", "--listen", "127.0.0.1:4633", "--join-token-file", "server.token"])
        for n in range(1, agents + 1):
            self.command(["token", "create", "--server", "127.0.0.1:4633", "-o", f"{n}.token"])
            self.command(["agent", "--data-dir", f"device-{n}", "join", "--token-file", f"{n}.token"])
            self.start(f"device-{n}", ["agent", "--data-dir", f"device-{n}", "run", "--data", f"mnist=agent-{n}.npz"])

    def start(self, name, args):
        log = open(self.work / f"{name}.log", "w")
        self.running.append(subprocess.Popen([self.aimass, *args], cwd=self.work, env=self.env, stdout=log, stderr=log))
        time.sleep(2)

    def command(self, args):
        for attempt in range(10):
            json_too = [] if args[0] == "agent" else ["--json"]
            done = subprocess.run([self.aimass, *json_too, *args], cwd=self.work, env=self.env, capture_output=True, text=True)
            if done.returncode == 0:
                return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            time.sleep(1)
        raise SystemExit(f"{args}: {done.stdout}{done.stderr}")

    def end(self):
        for process in reversed(self.running):
            process.terminate()
            process.wait(20)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aimass", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--agents", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    (args.work / "model.onnx").write_bytes(args.model.read_bytes())
    x, y = images(args.mnist, "train-images-idx3-ubyte")
    np.savez(args.work / "test.npz", **dict(zip("xy", images(args.mnist, "t10k-images-idx3-ubyte"))))
    seen = []
    for n in range(args.agents):
        own = np.flatnonzero((y // 2) % args.agents == n)
        np.savez(args.work / f"agent-{n + 1}.npz", x=x[own], y=y[own])
        count = min(args.rows, len(own))
        seen.append(own[np.arange(count) * len(own) // count])
    seen = np.concatenate(seen)
    np.savez(args.work / "all.npz", x=x[seen], y=y[seen])

    fleet, results = Fleet(args.aimass, args.work), []
    try:
        fleet.begin(args.agents)
        for method in ("minmax", "percentile", "mse", "entropy"):
            (args.work / "job.toml").write_text(JOB.format(rows=args.rows, method=method, agents=args.agents))
            job = fleet.command(["job", "submit", "job.toml"])[-1]["job"]
            fleet.command(["job", "watch", job])
            shown = fleet.command(["job", "show", job])[-1]
            made = shown["compressed"]["model"]
            local = fleet.command(["compress", "model.onnx", "-o", "local.onnx", "--quantize", "static", "--calibration", method, "--data", "all.npz",
                                   "--calibration-rows", str(len(seen)), "--test", "test.npz", "--epochs", "0", "--without-cost"])[-1]
            results.append({
                "method": method, "agents": args.agents, "rows": int(len(seen)), "tensors": len(shown["report"]["tensors"]),
                "float": made["before"]["accuracy"], "federated": made["after"]["accuracy"], "local": local["after"]["score"]["accuracy"],
                "bytes_up": [r["bytes_up"] for r in shown["history"]], "seconds": [r["seconds"] for r in shown["history"]],
            })
            print(json.dumps(results[-1]), flush=True)
    finally:
        fleet.end()
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


main()
