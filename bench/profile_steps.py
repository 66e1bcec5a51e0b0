#!/usr/bin/env python3
"""Where the time of a training step goes: `perf record` over the process that `aimass-bench train` measures, by groups of symbols.

    bench/profile_steps.py [--threads N] [--seconds S] [MODEL ...]

Prints a Markdown table in percent of the processor time of all threads, and under it the symbols that take the most.
Needs linux-perf, and a kernel.perf_event_paranoid that lets you use it.
"""
import argparse
import collections
import os
import re
import subprocess
import tempfile

MODELS = ["2nn-b10", "2nn-b32", "cnn-b10", "cnn-b32", "lstm-lm", "transformer", "resnet18"]

# The first that fits a symbol (or the kernel, which has none) counts.
GROUPS = [
    ("making the model", r"aimass_onnx::build"),
    ("matrix products: kernels", r"gemm.*microkernel"),
    ("matrix products: packing and the rest", r"gemm|pulp::|matmul|thread::local::LocalKey"),
    # The columns of a convolution's windows are filled in rayon's loop over a batch.
    ("convolutions: layout and columns", r"ops::conv|conv_transpose|im2col|ForEachConsumer"),
    ("pooling", r"ops::pool::"),
    ("copies", r"to_contiguous|copy_|strided_index|StridedIter|ops::(slice|cat|expand|gather_scatter|repeat_dim)::|memcpy|memmove"),
    ("sums and means", r"ops::reduce::|sum_|reduce"),
    # Loops over closures are named after the iterator that they are in.
    ("element by element", r"ops::(binary|unary|activation|float|mask|comparison|bool|int)::|simd::|zip::|macerator|libm|erff|expf|expm1f|tanhf"
                           r"|logf|Iterator>::fold|ops::function::"),
    ("zeros and fresh pages", r"^\[k\]|memset|extend_with|from_elem"),
    ("allocation", r"malloc|calloc|realloc|^cfree|_int_|__rust_|__rdl|unlink_chunk|alloc_zeroed|free$"),
    ("threads", r"rayon|crossbeam|sched_yield|futex|pthread"),
    ("autodiff and bookkeeping", r"burn|hashbrown|BuildHasher|hash|drop_in_place|alloc::|btree|cubecl"),
    ("loss, interpreter, optimizer", r"aimass_"),
]


def group_of(symbol):
    return next((name for name, pattern in GROUPS if re.search(pattern, symbol)), "other")


def profile(program, model, threads, seconds):
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        subprocess.run(
            ["perf", "record", "-q", "-F", "499", "-e", "cpu-clock", "-o", data, "--",
             program, "train-steps", model, "--threads", str(threads)],
            input=f"{seconds}\n", text=True, check=True, stdout=subprocess.DEVNULL)
        report = subprocess.run(
            ["perf", "report", "-i", data, "--stdio", "--sort", "symbol", "-F", "overhead,symbol", "--percent-limit", "0"],
            text=True, check=True, capture_output=True).stdout
    symbols = collections.Counter()
    for line in report.splitlines():
        found = re.match(r"\s*([\d.]+)%\s+(\[[.k]\])\s+(.*\S)", line)
        if found:
            share, kind, name = found.groups()
            symbols[f"[k] {name}" if kind == "[k]" else name] += float(share)
    return without_start(symbols)


def without_start(symbols):
    """Shares of the steps alone, as far as names tell."""
    kept = {symbol: share for symbol, share in symbols.items() if group_of(symbol) != "making the model"}
    total = sum(kept.values())
    return collections.Counter({symbol: 100 * share / total for symbol, share in kept.items()})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--program", default="target/release/aimass-bench")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--top", type=int, default=12)
    args = parser.parse_args()
    profiles = {model: profile(os.path.abspath(args.program), model, args.threads, args.seconds) for model in args.models}
    print("| | " + " | ".join(profiles) + " |\n|---|" + "---|" * len(profiles))
    for name in [name for name, _ in GROUPS[1:]] + ["other"]:
        shares = (sum(share for symbol, share in found.items() if group_of(symbol) == name) for found in profiles.values())
        print(f"| {name} | " + " | ".join(f"{share:.0f}" for share in shares) + " |")
    for model, found in profiles.items():
        print(f"\n{model}")
        for symbol, share in found.most_common(args.top):
            print(f"  {share:5.1f}  {group_of(symbol)}: {symbol[:140]}")


if __name__ == "__main__":
    main()
