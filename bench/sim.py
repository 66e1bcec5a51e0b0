#!/usr/bin/env python3
"""What simulating costs: `aimass sim` beside pfl and Flower, in turns on the same machine.

    bench/sim.py --aimass target/release/aimass [--peers FOLDER --python PYTHON] [--turns N] [-o bench/results/sim.json]

FOLDER has b_flower_sim.py and c_pfl_sim.py (bench/peers), PYTHON is an interpreter that has pfl, --flower-python one that has Flower (default: the same).
Everything that is simulated is made in a temporary folder (400 MB): models, job files, 100 clients of 600 rows of 784 values.
`--only` runs some of the work and keeps the other results of the file that -o names. `--wrap` names a program that runs each measured command,
for instance one that keeps others quiet meanwhile.
"""
import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from array import array
from pathlib import Path

CLIENTS, ROWS, FEATURES, CLASSES = 100, 600, 784, 10
FLEETS = [1_000, 10_000, 100_000, 1_000_000]
SELECTIONS = ["uniform", "arrival"]
PARTS = ["2nn", "idle", "secure", "threads", "fleets"]
# Prints the time and what the processors did so far, and becomes the command: what a wrapper does or waits for is not counted.
STARTED = ["sh", "-c", 'head -n 1 /proc/stat; date +%s.%N; exec "$@"', "sh"]

JOB = """\
[job]
name = "sim-bench"
kind = "train"
seed = 1
purpose = "research"

[model]
path = "{model}"

[data]
contract = "synthetic"
target = "label"

[train]
loss = "cross_entropy"
lr = 0.05
epochs = 1
batch = 10

[strategy]
name = "fedavg"

[round]
mode = "sync"
min = {cohort}
target = {cohort}
max = {cohort}
rounds = 10
max_time = "10m"

[aggregation]
mode = "{mode}"
"""


# --- what is simulated

def npy(file, kind, values, shape):
    """NumPy's format 1.0: magic, version, length of the header, header; then the values, little-endian."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    for chunk in values:
        file.write(chunk)


def npz(path, clients):
    """The rows of these clients: images uniform in [0, 1), labels uniform, as the peers' scripts draw them."""
    rows = ROWS * len(clients)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("input.npy", "w", force_zip64=True) as file:
            npy(file, "<f4", (images(client) for client in clients), (rows, FEATURES))
        with archive.open("label.npy", "w") as file:
            npy(file, "<i8", (labels(client) for client in clients), (rows,))


def images(client):
    draw = array("H", random.Random(client).randbytes(2 * ROWS * FEATURES))
    return array("f", map(SHARES.__getitem__, draw)).tobytes()


def labels(client):
    draw = random.Random(f"labels of {client}")
    return array("q", (draw.randrange(CLASSES) for _ in range(ROWS))).tobytes()


SHARES = [i / 65536 for i in range(65536)]


def prepare(aimass, folder):
    if sys.byteorder != "little":
        sys.exit("sim.py writes little-endian files as they lie in memory; run it on such a machine")
    for kind, name in [("mlp", "2nn"), ("cnn-mcmahan", "cnn")]:
        subprocess.run([aimass, "model", "new", kind, "-o", f"{folder}/{name}.onnx"], check=True, stdout=subprocess.DEVNULL)
    for model, cohort in [("2nn", 10), ("cnn", 100)]:
        for mode in ["plain", "secure"]:
            Path(folder, f"{model}-{mode}.toml").write_text(JOB.format(model=f"{model}.onnx", cohort=cohort, mode=mode))
    Path(folder, "files.toml").write_text('[partition]\nkind = "files"\n')
    Path(folder, "files").mkdir()
    for client in range(CLIENTS):
        npz(f"{folder}/files/c{client:03}.npz", [client])
    npz(f"{folder}/shared.npz", range(CLIENTS))


# --- one run

def busy_seconds(line):
    """Seconds that all processors were busy since the machine started, from the first line of /proc/stat."""
    fields = [int(field) for field in line.split()[1:]]
    user, nice, system, _idle, _wait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.wrap = options.wrap.split() if options.wrap else []

    def run(self, command, cwd):
        """Lines of the output with the time of each, when the command began, and what else kept the processors busy meanwhile."""
        child = subprocess.Popen(self.wrap + STARTED + command, stdout=subprocess.PIPE, text=True, cwd=cwd)
        lines = [(time.time(), line.rstrip("\n")) for line in child.stdout]
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        began, after = float(lines[1][1]), Path("/proc/stat").read_text().split("\n", 1)[0]
        seconds = time.time() - began
        if child.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit code {child.returncode}")
        own = used.ru_utime + used.ru_stime
        others = busy_seconds(after) - busy_seconds(lines[0][1]) - own
        return lines[2:], began, {"cpu_seconds": own, "others_cores": max(0.0, others / seconds)}

    def ours(self, job, *extra):
        command = [self.options.aimass, "sim", job, "--json", *extra]
        lines, began, used = self.run(command, self.folder)
        read = [(at, json.loads(line)) for at, line in lines]
        (first_at, first), summary = read[0], read[-1][1]
        rounds = [row["seconds"] for _, row in read[:-1]]
        later = rounds[1:] or rounds
        return {
            "round_s": statistics.median(later), "rounds_s": rounds, "start_to_first_round_s": first_at - first["seconds"] - began,
            "peak_mib": summary["peak_memory_mib"], "model": summary["model"], "bytes_up": first["bytes_up"], "virtual_s": summary["virtual_seconds"],
            "contributions": summary["contributions"], "end": summary["end"], "shortcuts": summary["shortcuts"], **used}

    def peer(self, python, script, *extra):
        lines, _, used = self.run([python, script, *extra], self.options.peers)
        text = "\n".join(line for _, line in lines)
        found = json.loads(text[text.index("{\n"):])
        if "flower" in script:
            # Ray's processes are not children of the script.
            used = {}
        return {
            "round_s": found["round_s"]["median"], "round_s_least": found["round_s"]["min"], "round_s_most": found["round_s"]["max"],
            "start_to_first_round_s": found["start_to_first_round_s"], "first_round_s": found["round_s_first"],
            "peak_mib": found["memory"]["peak_rss_mib"], "peak_pss_mib": found["memory"]["peak_pss_mib"], "versions": found["versions"], **used}

    # --- the work

    def in_turns(self, sides):
        found = {name: [] for name, _ in sides}
        for turn in range(self.options.turns):
            for name, measure in sides:
                found[name].append(measure())
                print(f"  turn {turn + 1}, {name}: {found[name][-1]['round_s']:.3f} s a round", file=sys.stderr)
        return found

    def peers(self, job, rounds):
        if not self.options.peers:
            return []
        noop = ["--noop"] if job == "noop" else []
        all_of_them = [
            ("pfl", lambda: self.peer(self.options.python, "c_pfl_sim.py", *noop, "--rounds", str(rounds))),
            ("flower", lambda: self.peer(self.options.flower_python or self.options.python, "b_flower_sim.py", job, "--rounds", str(min(rounds, 6)))),
        ]
        return [(name, measure) for name, measure in all_of_them if name not in self.options.leave_out.split(",")]

    def part_2nn(self):
        rounds = ["--rounds", "15"]
        return self.in_turns([
            ("files", lambda: self.ours("2nn-plain.toml", "--population", "files.toml", "--data", "files", *rounds)),
            ("shared", lambda: self.ours("2nn-plain.toml", "--data", "shared.npz", *rounds)),
            *self.peers("2nn", 15),
        ])

    def part_idle(self):
        return self.in_turns([
            ("idle", lambda: self.ours("cnn-plain.toml", "--no-train", "--rounds", "6")),
            *self.peers("noop", 6),
        ])

    def part_secure(self):
        files = ["--population", "files.toml", "--data", "files", "--rounds", "6"]
        idle = ["--no-train", "--rounds", "3"]
        return self.in_turns([
            ("2nn plain", lambda: self.ours("2nn-plain.toml", *files)),
            ("2nn secure", lambda: self.ours("2nn-secure.toml", *files)),
            ("2nn secure, --without-masks", lambda: self.ours("2nn-secure.toml", "--without-masks", *files)),
            ("idle plain", lambda: self.ours("cnn-plain.toml", *idle)),
            ("idle secure", lambda: self.ours("cnn-secure.toml", *idle)),
            ("idle secure, --without-masks", lambda: self.ours("cnn-secure.toml", "--without-masks", *idle)),
        ])

    def part_threads(self):
        work = {
            "2nn": ["2nn-plain.toml", "--population", "files.toml", "--data", "files", "--rounds", "15"],
            "idle": ["cnn-plain.toml", "--no-train", "--rounds", "6"],
            "2nn secure": ["2nn-secure.toml", "--population", "files.toml", "--data", "files", "--rounds", "6"],
        }
        return self.in_turns([
            (f"{name}, threads {threads}", lambda command=command, threads=threads: self.ours(*command, "--threads", str(threads)))
            for name, command in work.items() for threads in [1, 2]])

    def part_fleets(self):
        return self.in_turns([
            (f"{selection} {clients}", lambda selection=selection, clients=clients: self.ours(
                "2nn-plain.toml", "--no-train", "--cohort", "1000", "--rounds", "5", "--clients", str(clients), "--selection", selection))
            for clients in FLEETS for selection in SELECTIONS])


# --- what is told

def middle(runs, key="round_s"):
    return statistics.median(run[key] for run in runs)


def figures(part, found):
    """Medians, and what follows from them."""
    told = {name: {key: middle(runs, key) for key in ["round_s", "start_to_first_round_s", "peak_mib"]} for name, runs in found.items()}
    for name, runs in found.items():
        if "peak_pss_mib" in runs[0]:
            told[name]["peak_pss_mib"] = middle(runs, "peak_pss_mib")
        if "model" in runs[0]:
            told[name]["models"] = sorted({run["model"] for run in runs})
    for name in ["files", "shared", "idle"]:
        for peer in ["pfl", "flower"]:
            if part in ["2nn", "idle"] and name in found and peer in found:
                ratios = [theirs["round_s"] / mine["round_s"] for mine, theirs in zip(found[name], found[peer])]
                told[name][f"times_{peer}"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return told


def table(parts):
    lines = ["| work | side | s a round | least to most | start to first round, s | peak MiB | others' cores meanwhile |", "|---|---|---|---|---|---|---|"]
    for part, content in parts.items():
        for name, runs in content["runs"].items():
            rounds = [run["round_s"] for run in runs]
            others = [run["others_cores"] for run in runs if "others_cores" in run]
            lines.append(f"| {part} | {name} | {middle(runs):.4g} | {min(rounds):.4g} to {max(rounds):.4g} | {middle(runs, 'start_to_first_round_s'):.3f} | "
                         f"{middle(runs, 'peak_mib'):.0f} | {f'{statistics.median(others):.2f}' if others else '-'} |")
    for part, content in parts.items():
        for name, told in content["medians"].items():
            for peer in ["pfl", "flower"]:
                if f"times_{peer}" in told:
                    times = told[f"times_{peer}"]
                    lines.append(f"\n{part}, {name}: {peer} takes {times['median']:.2f} times as long ({times['least']:.2f} to {times['most']:.2f}, turn by turn)")
    if "threads" in parts:
        medians = parts["threads"]["medians"]
        for name in sorted({name.split(", threads")[0] for name in medians}):
            one, two = medians[f"{name}, threads 1"], medians[f"{name}, threads 2"]
            same = one["models"] == two["models"] and len(one["models"]) == 1
            lines.append(f"\n{name}: two threads are {one['round_s'] / two['round_s']:.2f} times as fast as one; {'the same bytes' if same else 'OTHER BYTES'}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aimass", default="target/release/aimass")
    parser.add_argument("--peers", help="folder of b_flower_sim.py and c_pfl_sim.py; without it the peers are left out")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--flower-python")
    parser.add_argument("--leave-out", default="", help="peers that are not measured, of pfl,flower")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS), help="of " + ",".join(PARTS))
    parser.add_argument("--wrap", help="program that runs each measured command")
    parser.add_argument("--folder", help="where to make what is simulated, and leave it; what is there already is used")
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    options.aimass = shutil.which(options.aimass) or sys.exit(f"{options.aimass}: no such program")
    options.aimass = os.path.abspath(options.aimass)
    parts = {}
    if options.output and Path(options.output).exists():
        parts = json.loads(Path(options.output).read_text())["parts"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or temporary
        os.makedirs(folder, exist_ok=True)
        if not Path(folder, "shared.npz").exists():
            print("making models and data", file=sys.stderr)
            prepare(options.aimass, folder)
        bench = Bench(options, folder)
        for part in options.only.split(","):
            if part not in PARTS:
                sys.exit(f"--only {part}: not one of {', '.join(PARTS)}")
            print(part, file=sys.stderr)
            found = getattr(bench, f"part_{part}")()
            parts[part] = {"medians": figures(part, found), "runs": found}
            parts = {name: parts[name] for name in PARTS if name in parts}
            if options.output:
                machine = {"cores": os.cpu_count(), "kind": platform.machine()}
                Path(options.output).write_text(json.dumps({"machine": machine, "parts": parts}, indent=1) + "\n")
    print(table(parts))


if __name__ == "__main__":
    main()
