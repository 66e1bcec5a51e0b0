#!/usr/bin/env python3
"""Trains a model for each work, makes it smaller in several ways, and prints size, accuracy and latency beside onnxruntime's.

  run.py --aimass target/release/aimass --data FOLDER --mnist FOLDER [--peer PYTHON] [--only WORK,...] [--out FOLDER] [--output results.json]

FOLDER of --data holds what prepare.py wrote, that of --mnist the four uncompressed IDX files. --peer is a Python with onnxruntime: it runs the same
files, for accuracy by another implementation and for latency (one thread). What is there already in --out is not trained again.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

JOB = """[job]
name = "{name}"
kind = "train"
purpose = "compression bench"
[model]
path = "model.onnx"
[data]
contract = "local"
target = "y"
[train]
loss = "{loss}"
optimizer = "adam"
lr = {lr}
epochs = 1
batch = {batch}
[round]
rounds = 1
min = 3
target = 3
"""

MNIST = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
WORKS = {
    "cnn": dict(new=["cnn-mcmahan"], data=MNIST, epochs=3, lr=0.0005, tune=1),
    "lenet": dict(new=["lenet"], data=MNIST, epochs=8, lr=0.001, tune=4),
    "conv1d": dict(
        new=["conv1d", "--channels", "40", "--length", "32", "--filters", "64,128,128", "--batch-norm", "--dropout", "0.3"],
        data=("digits-series-train.npz", "digits-series-test.npz"), epochs=30, lr=0.001, tune=10),
    "gru": dict(
        new=["gru", "--features", "40", "--classes", "10", "--hidden", "128", "--dropout", "0.2"],
        data=("digits-steps-train.npz", "digits-steps-test.npz"), epochs=30, lr=0.001, tune=10),
    "autoencoder": dict(
        new=["mlp", "--sizes", "128,256,32,256,128"], loss="mse",
        data=("sensors-train.npz", "sensors-test.npz"), epochs=40, lr=0.001, tune=10),
}
VARIANTS = {
    "int8 weights": ["--quantize", "weights", "--epochs", "0"],
    "int8": ["--quantize", "static"],
    "int8 aware": ["--quantize", "aware"],
    "int8 dynamic": ["--quantize", "dynamic", "--epochs", "0"],
    "4 bits": ["--quantize", "4bit", "--epochs", "0"],
    "pruned 90 %": ["--prune", "0.9"],
    "pruned 90 %, int8": ["--prune", "0.9", "--quantize", "aware", "--store", "compact"],
    "channels 30 %": ["--channels", "0.3"],
    "channels 50 %": ["--channels", "0.5"],
}
UNSUITED = {("gru", "channels 30 %"), ("gru", "channels 50 %")}

PEER = """
import json, sys, time
import numpy as np, onnxruntime as ort
path, test, classify = sys.argv[1], sys.argv[2], sys.argv[3] == "1"
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
if test.endswith(".npz"):
    held = np.load(test); x, y = held["x"], held["y"]
else:
    x = np.frombuffer(open(test, "rb").read(), np.uint8, offset=16).astype(np.float32) / 255
    y = np.frombuffer(open(test.replace("images-idx3", "labels-idx1"), "rb").read(), np.uint8, offset=8)
if all(isinstance(d, int) for d in shape[1:]):
    x = x.reshape([len(y)] + shape[1:])
out = np.concatenate([session.run(None, {name: x[i:i + 64]})[0] for i in range(0, len(x), 64)])
found = {"accuracy": float((out.argmax(1) == y).mean())} if classify else {"loss": float(((out - y) ** 2).mean())}
for batch in (1, 32):
    rows, times = {name: x[:batch]}, []
    end = time.perf_counter() + 0.7
    while time.perf_counter() < end or len(times) < 20:
        begin = time.perf_counter(); session.run(None, rows); times.append(time.perf_counter() - begin)
    found[f"latency_us_batch_{batch}"] = sorted(times)[len(times) // 2] * 1e6
print(json.dumps(found))
"""


def call(*args):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, args))}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def trained(args, name, work, folder):
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.onnx").exists():
        call(args.aimass, "--json", "model", "new", *work["new"], "--seed", "1", "-o", folder / "model.onnx")
    job = folder / "job.toml"
    job.write_text(JOB.format(name=name, loss=work.get("loss", "cross_entropy"), lr=work["lr"], batch=32))
    run = folder / "trained"
    if not (run / "model.onnx").exists():
        print(f"training {name}", file=sys.stderr)
        call(args.aimass, "--json", "train", job, "--data", work["train"], "--validation", work["test"], "--epochs", work["epochs"], "--out", run)
    return job, run / "model.onnx"


def peer(args, work, model):
    if not args.peer:
        return None
    done = subprocess.run([args.peer, "-c", PEER, model, work["test"], "0" if work.get("loss") else "1"], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {"refused": done.stderr.strip().splitlines()[-1][:300]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aimass", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--peer")
    parser.add_argument("--only", default=",".join(WORKS))
    parser.add_argument("--variants", default="|".join(VARIANTS), help="separated by |")
    parser.add_argument("--out", type=Path, default=Path("compress-bench"))
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    for name in args.only.split(","):
        work = WORKS[name]
        base = args.mnist if work["data"] is MNIST else args.data
        work["train"], work["test"] = (str(base / file) for file in work["data"])
        job, model = trained(args, name, work, args.out / name)
        rows.append({"work": name, "variant": "float32", "peer": peer(args, work, model)})
        for variant in args.variants.split("|"):
            if (name, variant) in UNSUITED:
                continue
            small = args.out / name / (variant.replace(" ", "-").replace("%", "").replace(",", "") + ".onnx")
            options = VARIANTS[variant]
            epochs = [] if "--epochs" in options else ["--epochs", work["tune"]]
            found = call(args.aimass, "--json", "compress", model, "-o", small, "--job", job, "--data", work["train"], "--test", work["test"],
                         *options, *epochs)
            found.update(work=name, variant=variant, peer=peer(args, work, str(small)))
            rows.append(found)
            before, after = found["before"]["score"], found["after"]["score"]
            print(f"{name:12} {variant:20} {found['before']['bytes']:>9} -> {found['after']['bytes']:>8} bytes ({found['times_smaller']:.2f}), "
                  f"accuracy {before['accuracy']} -> {after['accuracy']}, loss {before['loss']:.5f} -> {after['loss']:.5f}, "
                  f"us {found['cost_before'] and found['cost_before']['latency_us_batch_1']} -> {found['cost_after'] and found['cost_after']['latency_us_batch_1']}, "
                  f"peer {found['peer']}", flush=True)
            if args.output:
                args.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
