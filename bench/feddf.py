"""FedDF over groups beside FedAvg, in simulated fleets of MNIST clients that know few digits each, with as many client trainings.

    python3 bench/feddf.py --aimass target/release/aimass --mnist MNIST -o bench/results/feddf.json

MNIST: the four IDX files. 55,000 rows are the clients', 5,000 are public and lose their labels, 10,000 measure. Needs numpy.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np

JOB = """[job]
name = "mnist"
kind = "train"
seed = {seed}
purpose = "measure"
[model]
path = "2nn.onnx"
[data]
contract = "mnist"
inputs = ["image"]
target = "label"
[train]
lr = {lr}
epochs = {epochs}
batch = 10
[strategy]
{strategy}
[round]
rounds = {rounds}
min = 10
[aggregation]
mode = "plain"
floor = 1
[update]
bits = 16
clip = 50.0
[evaluate]
data = "test.npz"
"""
FUSED = 'name = "feddf"\ngroups = {}\ndata = "public.npz"\nepochs = 2\nbatch = 64'
STRATEGIES = {"fedavg": 'name = "fedavg"', "feddf, 2 groups": FUSED.format(2), "feddf, 4 groups": FUSED.format(4)}
POPULATIONS = {
    "shards": '[partition]\nkind = "shards"\nper_client = 2\n',
    "dirichlet 0.1": '[partition]\nkind = "dirichlet"\nalpha = 0.1\nmin = 10\n',
}
# Passes over the client's rows a round, and the rate.
EFFORTS = [(1, 0.1), (10, 0.05)]


def idx(path, header):
    return np.frombuffer(path.read_bytes(), np.uint8)[header:]


def prepare(mnist, to):
    images = lambda name: idx(mnist / f"{name}-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 255
    labels = lambda name: idx(mnist / f"{name}-labels-idx1-ubyte", 8).astype(np.float32)
    image, label = images("train"), labels("train")
    order = np.random.default_rng(0).permutation(len(image))
    public, rest = order[:5000], order[5000:]
    np.savez(to / "train.npz", image=image[rest], label=label[rest])
    np.savez(to / "public.npz", image=image[public])
    np.savez(to / "test.npz", image=images("t10k"), label=labels("t10k"))


def run(args, folder, population, effort, name, seed):
    epochs, lr = effort
    job = JOB.format(seed=seed, lr=lr, epochs=epochs, strategy=STRATEGIES[name], rounds=args.rounds)
    (folder / "job.toml").write_text(job)
    (folder / "population.toml").write_text(POPULATIONS[population])
    command = [args.aimass, "--json", "sim", "job.toml", "--clients", "100", "--data", "train.npz", "--population", "population.toml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    measured = [(row["round"], row["test_accuracy"]) for row in rows[:-1] if row["test_accuracy"] is not None]
    after = lambda n: [accuracy for at, accuracy in measured if at <= n][-1]
    half = [accuracy for at, accuracy in measured if at > args.rounds // 2]
    return {
        "population": population,
        "epochs": epochs,
        "strategy": name,
        "seed": seed,
        "trainings": rows[-1]["trainings"],
        "half_way": after(args.rounds // 2),
        "end": after(args.rounds),
        "best": rows[-1]["best_accuracy"],
        "mean_of_second_half": sum(half) / len(half),
        "seconds": rows[-1]["seconds"],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--aimass", required=True, type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--mnist", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", default=40, type=int)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("-o", "--output", required=True, type=pathlib.Path)
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(args.mnist, folder)
        for seed in map(int, args.seeds.split(",")):
            new = [args.aimass, "model", "new", "mlp", "--sizes", "784,200,200,10", "--seed", str(seed), "-o", "2nn.onnx", "--force"]
            subprocess.run(new, cwd=folder, check=True, capture_output=True)
            for population in POPULATIONS:
                for effort in EFFORTS:
                    for strategy in STRATEGIES:
                        found.append(run(args, folder, population, effort, strategy, seed))
                        print(json.dumps(found[-1]), flush=True)
                        args.output.write_text(json.dumps(found, indent=1) + "\n")


main()
