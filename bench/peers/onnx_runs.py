"""Inference in onnxruntime on one thread, for `aimass-bench infer`.

    python onnx_runs.py MODEL BATCH

Says one line of JSON when it is ready, and one for each line of its input, which holds the seconds to run for.
"""
import json
import platform
import sys
import time

import numpy as np
import onnxruntime as ort


def say(what):
    print(json.dumps(what), flush=True)


def main():
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    x = np.random.default_rng(1).standard_normal((int(sys.argv[2]), 1, 28, 28)).astype(np.float32)

    def run():
        return float(session.run(None, {name: x})[0].ravel()[0])

    for _ in range(3):
        run()
    versions = {"python": platform.python_version(), "onnxruntime": ort.__version__}
    say({"weights": 0, "start_bytes": 0, "versions": versions})
    for line in sys.stdin:
        window, steps, begin = float(line), 0, time.perf_counter()
        while steps == 0 or time.perf_counter() - begin < window:
            value = run()
            steps += 1
        say({"steps": steps, "seconds": time.perf_counter() - begin, "loss": value})


main()
