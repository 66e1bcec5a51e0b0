"""Fully connected networks and what goes around them."""

from ..architectures import plain as nets
from ..data import classes, grid
from ..family import Case, Curve, Family

CE = {"loss": "cross_entropy", "output": "y", "target": "label"}
SGD = {"kind": "sgd", "lr": 0.1}
BATCH, SECOND = {"batch": 6}, {"batch": 3}
ROWS = {"x": {0: "batch"}}


def rows(features, n):
    def sample(g, sizes):
        b = sizes["batch"]
        return {"x": grid(g, b, features)}, {"label": classes(g, n, b), "sample_weight": grid(g, b, levels=4, span=0.75) + 1.0}

    return sample


def regression(g, sizes):
    b = sizes["batch"]
    return {"x": grid(g, b, 8)}, {"value": grid(g, b, 3), "bits": classes(g, 2, b, 3).float()}


def two_inputs(g, sizes):
    b = sizes["batch"]
    return {"image": grid(g, b, 1, 8, 8), "row": grid(g, b, 5)}, {"label": classes(g, 3, b)}


def two_heads(g, sizes):
    b = sizes["batch"]
    return {"x": grid(g, b, 8)}, {"label": classes(g, 3, b), "value": grid(g, b)}


def pairs(g, sizes):
    b = sizes["batch"]
    return {"a": grid(g, b, 10), "b": grid(g, b, 10)}, {"same": classes(g, 2, b).float()}


def optimizers():
    """Every optimizer and what goes with it, on one small network."""
    ce = [CE]
    step = (1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125)
    return (
        Curve(ce, {"kind": "sgd", "lr": 0.2}, "sgd"),
        Curve(ce, {"kind": "sgd", "lr": 0.2, "weight_decay": 0.05}, "sgd_decay"),
        Curve(ce, {"kind": "sgd", "lr": 0.1, "momentum": 0.9}, "momentum"),
        Curve(ce, {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, "nesterov"),
        Curve(ce, {"kind": "adam", "lr": 0.02}, "adam"),
        Curve(ce, {"kind": "adam", "lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-4, "weight_decay": 0.1}, "adam_decay"),
        Curve(ce, {"kind": "adamw", "lr": 0.02, "weight_decay": 0.1}, "adamw"),
        Curve(ce, {"kind": "rmsprop", "lr": 0.01}, "rmsprop"),
        Curve(
            ce, {"kind": "rmsprop", "lr": 0.01, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1, "centered": True}, "rmsprop_centered"
        ),
        Curve(ce, {"kind": "sgd", "lr": 0.5}, "clipped", clip_norm=0.2),
        Curve(ce, {"kind": "sgd", "lr": 0.4}, "step_schedule", lr_factors=step),
        Curve(ce, {"kind": "sgd", "lr": 0.2}, "frozen", frozen=("fc1.weight", "fc1.bias")),
        Curve(ce, {"kind": "sgd", "lr": 0.2}, "sample_weight", sample_weight=True),
        Curve([{**CE, "label_smoothing": 0.1}], {"kind": "sgd", "lr": 0.2}, "label_smoothing"),
        Curve([{**CE, "class_weights": [0.5, 2.0, 1.0]}], {"kind": "sgd", "lr": 0.2}, "class_weights"),
        Curve([{**CE, "class_weights": [0.5, 2.0, 1.0], "label_smoothing": 0.2}], {"kind": "sgd", "lr": 0.2}, "weights_and_smoothing"),
        Curve([{**CE, "ignore_index": 1}], {"kind": "sgd", "lr": 0.2}, "ignore_index"),
    )


def losses():
    return (
        Curve([{"loss": "mse", "output": "y", "target": "value"}], SGD, "mse"),
        Curve([{"loss": "mae", "output": "y", "target": "value"}], SGD, "mae"),
        Curve([{"loss": "huber", "output": "y", "target": "value", "delta": 0.5}], SGD, "huber"),
        Curve([{"loss": "bce_logits", "output": "y", "target": "bits"}], SGD, "bce_logits"),
    )


HEADS = [{**CE, "output": "classes", "weight": 1.0}, {"loss": "mse", "output": "value", "target": "value", "weight": 0.25}]
PAIR = {"output": "za", "other": "zb"}

FAMILIES = [
    Family("mlp", nets.Mlp, rows(12, 4), ROWS, BATCH, SECOND, curves=(Curve([CE], SGD), Curve([CE], SGD, "frozen_statistics", "eval"))),
    Family("optimizers", nets.SmallMlp, rows(8, 3), ROWS, BATCH, SECOND, curves=optimizers()),
    Family("losses", nets.SmallMlp, regression, ROWS, BATCH, SECOND, curves=losses()),
    Family(
        "two_inputs", nets.TwoInputs, two_inputs, {"image": {0: "batch"}, "row": {0: "batch"}}, BATCH, SECOND, curves=(Curve([CE], SGD),)
    ),
    Family("two_heads", nets.TwoHeads, two_heads, ROWS, BATCH, SECOND, ("classes", "value"), (Curve(HEADS, SGD),)),
    Family(
        "siamese_pairs",
        lambda: nets.Siamese(False),
        pairs,
        {"a": {0: "batch"}, "b": {0: "batch"}},
        BATCH,
        SECOND,
        ("za", "zb"),
        (Curve([{"loss": "contrastive", "target": "same", "margin": 1.5, **PAIR}], SGD),),
    ),  # fmt: skip
    Family(
        "siamese_info_nce",
        lambda: nets.Siamese(True),
        pairs,
        {"a": {0: "batch"}, "b": {0: "batch"}},
        BATCH,
        SECOND,
        ("za", "zb"),
        (Curve([{"loss": "info_nce", "temperature": 0.5, **PAIR}], SGD),),
    ),  # fmt: skip
    Family("activations", nets.Activations, rows(6, 3), ROWS, BATCH, SECOND, curves=(Curve([CE], {"kind": "sgd", "lr": 0.05}),)),
]

TRAINING = "dropout and batch norm in training mode; the recorded outputs are those of inference mode"
CASES = [
    Case("mlp", "torchscript", 13, "preserve"),
    Case("mlp", "torchscript", 14, "training", suffix="_training", note=TRAINING),
    Case("mlp", "dynamo", 18, fold=False),
    Case("mlp", "dynamo", 18, "training", fold=False, suffix="_training", note=TRAINING),
    Case("mlp", "dynamo", 21, suffix="_fused", curves=False, note="the exporter folded batch norm into Gemm, so there is no curve"),
    Case("optimizers", "torchscript", 17),
    Case("losses", "torchscript", 17),
    Case("two_inputs", "torchscript", 16),
    Case("two_inputs", "dynamo", 20),
    Case("two_heads", "torchscript", 17),
    Case("two_heads", "dynamo", 18),
    Case("siamese_pairs", "torchscript", 17),
    Case("siamese_pairs", "dynamo", 18),
    Case("siamese_info_nce", "torchscript", 13),
    Case("siamese_info_nce", "dynamo", 21),
    Case("activations", "torchscript", 13),
    Case("activations", "torchscript", 18),
    Case("activations", "dynamo", 18),
    Case("activations", "dynamo", 20),
]
