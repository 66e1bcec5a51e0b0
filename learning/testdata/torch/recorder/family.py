"""A family: one architecture with its data and its training; a case: one way to export it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Tensors = dict[str, torch.Tensor]
Sizes = dict[str, int]


@dataclass(frozen=True)
class Curve:
    """One training run. `heads` and `optimizer` are written to the JSON file as they are."""

    heads: list[dict]
    optimizer: dict
    name: str = "train"
    mode: str = "train"  # "eval": batch norm keeps its running statistics, as the exported inference graph says literally
    clip_norm: float | None = None
    frozen: tuple[str, ...] = ()  # torch parameter names that don't train
    lr_factors: tuple[float, ...] | None = None
    sample_weight: bool = False


@dataclass(frozen=True)
class Family:
    """`sample(generator, sizes)` gives inputs and targets by name; `dynamic` names the dynamic axes of each input."""

    name: str
    build: Callable[[], torch.nn.Module]
    sample: Callable[[torch.Generator, Sizes], tuple[Tensors, Tensors]]
    dynamic: dict[str, dict[int, str]]
    sizes: Sizes
    second_sizes: Sizes
    outputs: tuple[str, ...] = ("y",)
    curves: tuple[Curve, ...] = ()
    output_dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    fresh: bool = False  # the weights as the constructors leave them


@dataclass(frozen=True)
class Case:
    """One exported file.

    `mode`: "eval" (what an export of `model.eval()` gives, batch norm folded into convolutions where the exporter does so),
    "preserve" (inference mode, but nothing fused; TorchScript exporter only) or "training" (`model.train()`).
    """

    family: str
    exporter: str  # "torchscript" or "dynamo"
    opset: int
    mode: str = "eval"
    fold: bool = True  # TorchScript: do_constant_folding; dynamo: optimize
    suffix: str = ""
    curves: bool = True
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.family}{self.suffix}_{'ts' if self.exporter == 'torchscript' else 'dyn'}{self.opset}"
