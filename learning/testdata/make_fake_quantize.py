"""Writes fake_quantize.json: values and gradients of torch.fake_quantize_*, the straight-through estimator.

Run it with `pip install torch numpy` and `python make_fake_quantize.py`. A case:

    {"name": "...", "shape": [2, 3], "axis": null or 1, "type": 2 (ONNX's uint8) or 3 (int8), "scales": [...], "zeros": [...],
     "x": [...], "by_output": [...], "y": [...], "by_x": [...]}

`by_x` is the gradient of sum(y * by_output) by x.
"""

import json
import pathlib

import torch

torch.manual_seed(5)
RANGES = {2: (0, 255), 3: (-128, 127)}
cases = []


def case(name, shape, kind, scales, zeros, axis=None, spread=1.0):
    least, most = RANGES[kind]
    x = (torch.randn(shape) * spread).requires_grad_()
    by_output = torch.randn(shape)
    if axis is None:
        y = torch.fake_quantize_per_tensor_affine(x, scales[0], zeros[0], least, most)
    else:
        y = torch.fake_quantize_per_channel_affine(x, torch.tensor(scales), torch.tensor(zeros, dtype=torch.int32), axis, least, most)
    (y * by_output).sum().backward()
    lists = {"x": x.detach(), "by_output": by_output, "y": y.detach(), "by_x": x.grad}
    cases.append(
        {"name": name, "shape": list(shape), "axis": axis, "type": kind, "scales": scales, "zeros": zeros}
        | {key: value.flatten().tolist() for key, value in lists.items()}
    )


# Scales are powers of 2, so that torch's multiplication by their inverse rounds as ONNX's division does.
case("uint8", (4, 5), 2, [0.015625], [100])
case("uint8_saturated", (4, 5), 2, [0.00390625], [30])
case("int8", (2, 3, 4), 3, [0.0078125], [0])
case("int8_one_sided", (40,), 3, [0.03125], [-128], spread=3.0)
case("channels", (2, 3, 4, 2), 3, [0.0078125, 0.03125, 0.00390625], [0, 5, -20], axis=1)
case("rows", (3, 7), 2, [0.0078125, 0.03125, 0.00390625], [128, 5, 200], axis=0)
case("last_axis", (5, 4), 3, [0.0078125, 0.03125, 0.00390625, 0.5], [0, 0, 0, 0], axis=1)
path = pathlib.Path(__file__).parent / "fake_quantize.json"
path.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
print(len(cases), "cases, torch", torch.__version__)
