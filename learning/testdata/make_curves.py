"""Writes curves.json: losses of PyTorch, step by step, for an MLP and a small convolutional network.

Run it with `pip install torch onnx numpy` and `python make_curves.py`. Batches come in a fixed order, so that the Rust test steps
through the same ones: step s takes the rows s * batch ... (s + 1) * batch of the data, round and round.
"""

import json
import pathlib

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

torch.manual_seed(3)
torch.set_num_threads(1)
STEPS, BATCH, ROWS = 60, 10, 40


def clouds(n_features, classes):
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(classes, n_features))
    y = np.arange(ROWS) % classes
    # Rounded, so that the file stays small and every number is exact.
    return np.round(centres[y] + 0.5 * rng.normal(size=(ROWS, n_features)), 2).astype(np.float32), y


def onnx_of(module, input_shape, last):
    """By hand, as torch.onnx.export would: Gemm with transB, Conv, MaxPool, Flatten."""
    nodes, weights, value = [], [], "x"
    for i, layer in enumerate(module):
        out = "y" if i == last else f"v{i}"
        names = []
        for part, tensor in layer.named_parameters():
            weights.append(numpy_helper.from_array(tensor.detach().numpy().copy(), f"{i}.{part}"))
            names.append(f"{i}.{part}")
        op, attributes = {
            torch.nn.Linear: ("Gemm", {"transB": 1}),
            torch.nn.ReLU: ("Relu", {}),
            torch.nn.Conv2d: ("Conv", {"pads": [1, 1, 1, 1]}),
            torch.nn.MaxPool2d: ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            torch.nn.Flatten: ("Flatten", {}),
        }[type(layer)]
        nodes.append(helper.make_node(op, [value, *names], [out], name=f"layer{i}", **attributes))
        value = out
    graph = helper.make_graph(
        nodes,
        "curve",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *input_shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def curve(name, module, input_shape, classes, lr, loss_name="cross_entropy"):
    n_features = int(np.prod(input_shape))
    x, y = clouds(n_features, classes)
    model = onnx_of(module, input_shape, len(module) - 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    losses = []
    for step in range(STEPS):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % ROWS
        outputs = module(torch.tensor(x[rows].reshape(-1, *input_shape)))
        if loss_name == "mse":
            loss = torch.nn.functional.mse_loss(outputs[:, 0], torch.tensor(y[rows], dtype=torch.float32))
        else:
            loss = torch.nn.functional.cross_entropy(outputs, torch.tensor(y[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    after = np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])
    return {
        "name": name,
        "loss": loss_name,
        "lr": lr,
        "batch": BATCH,
        "model": model.SerializeToString().hex(),
        "n_features": n_features,
        "x": [round(float(v), 2) for v in x.ravel()],
        "y": [int(v) for v in y],
        "losses": losses,
        "weights_sum": float(after.sum(dtype=np.float64)),
        "weights_norm": float(np.sqrt((after.astype(np.float64) ** 2).sum())),
    }


nn = torch.nn
curves = [
    curve("mlp", nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)), [12], 4, 0.1),
    curve("mlp_mse", nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1)), [6], 4, 0.02, "mse"),
    curve("cnn", nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 3)), [1, 8, 8], 3, 0.1),
]
path = pathlib.Path(__file__).with_name("curves.json")
path.write_text("[\n" + ",\n".join(json.dumps(c) for c in curves) + "\n]\n")
for c in curves:
    print(c["name"], c["losses"][0], c["losses"][-1])
print(path.stat().st_size, "bytes, torch", torch.__version__, "onnx", onnx.__version__)
