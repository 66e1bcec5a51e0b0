"""Compares rewritten models with onnxruntime: pruned channels, folded norms, sparse files.

    cargo build --release -p aimass-shrink --example shrink
    python shrink/testdata/check.py target/release/examples/shrink [FOLDER OF MORE MODELS]

Needs onnx, onnxruntime and numpy. The folder may hold models of other exporters, each with one float32 input: `export_torch.py` makes some.
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort

BUILT = ["mlp", "mcmahan", "conv1d", "resnet18", "mobilenet", "transformer"]


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Models that were never trained compute numbers too small to be multiplied fast.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feeds(s, batch):
    rng = np.random.default_rng(1)
    out = {}
    for i in s.get_inputs():
        dims = [d if isinstance(d, int) else (batch if at == 0 else 16) for at, d in enumerate(i.shape)]
        out[i.name] = rng.integers(0, 50, dims) if "int" in i.type else rng.standard_normal(dims).astype(np.float32)
    return out


def compare(name, a, b, tolerance):
    """Largest difference of the outputs of two files over the largest output; at two batch sizes where the batch is open."""
    onnx.checker.check_model(onnx.load(b))
    a, b = session(a), session(b)
    is_open = all(not isinstance(i.shape[0], int) for i in a.get_inputs())
    worst = 0.0
    for batch in (1, 3) if is_open else (1,):
        x = feeds(a, batch)
        for p, q in zip(a.run(None, x), b.run(None, x), strict=True):
            assert p.shape == q.shape, f"{name}: {p.shape} became {q.shape}"
            worst = max(worst, float(np.abs(p - q).max() / max(np.abs(p).max(), 1e-9)))
    assert worst <= tolerance, f"{name}: outputs differ by {worst:.2e}, more than {tolerance:.0e}"
    return worst


def speed(path):
    s = session(path)
    x = feeds(s, 1)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        s.run(None, x)
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))


def main():
    program, more = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        run = lambda *args: subprocess.run([program, *args], check=True, capture_output=True, text=True).stdout.strip()
        models = {}
        for name in BUILT:
            models[name] = at(f"{name}.onnx")
            run("build", name, models[name])
        for file in sorted(os.listdir(more)) if more else []:
            if file.endswith(".onnx"):
                models[file] = os.path.join(more, file)
        failed = 0
        for name, model in models.items():
            try:
                for share in ("0.3", "0.6"):
                    done = subprocess.run([program, "channels", model, share, at("small.onnx"), at("silenced.onnx")], capture_output=True, text=True)
                    if "NothingToRemove" in done.stderr:
                        print(f"{name}: channels {share}: nothing can be removed")
                        continue
                    said = run("channels", model, share, at("small.onnx"), at("silenced.onnx"))
                    worst = compare(name, at("silenced.onnx"), at("small.onnx"), 2e-4)
                    sizes = [os.path.getsize(path) for path in (model, at("small.onnx"))]
                    print(f"{name}: channels {share}: {said}; {sizes[0]} -> {sizes[1]} bytes, "
                          f"{speed(model):.2f} -> {speed(at('small.onnx')):.2f} ms, differs by {worst:.1e}")
                said = run("fold", model, at("plain.onnx"))
                print(f"{name}: fold: {said}; differs by {compare(name, model, at('plain.onnx'), 2e-4):.1e}")
                for form in ("standard", "compact"):
                    said = run("pack", model, "0.9", form, at("packed.onnx"))
                    run("expand", at("packed.onnx"), at("expanded.onnx"))
                    assert compare(name, at("packed.onnx.dense"), at("expanded.onnx"), 0.0) == 0.0
                    note = ""
                    if form == "standard":
                        worst = compare(name, at("packed.onnx.dense"), at("packed.onnx"), 1e-5)
                        note = f"; onnxruntime reads it, differs by {worst:.1e}, {speed(at('packed.onnx.dense')):.2f} -> {speed(at('packed.onnx')):.2f} ms"
                    print(f"{name}: {form}: {said}{note}")
            except Exception as error:
                failed += 1
                print(f"{name}: FAILED: {error} {getattr(error, 'stderr', '') or ''}")
        sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
