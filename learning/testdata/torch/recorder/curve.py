"""Training runs in PyTorch: losses, optimizers, the curve."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from .family import Curve, Tensors

STEPS = 10


def contrastive(a, b, same, margin):
    """Hadsell, Chopra and LeCun 2006, equation 4, over the Euclidean distance; `same` is 1 for a pair of one class."""
    distance = (a - b).pow(2).sum(dim=1).add(1e-12).sqrt()
    return 0.5 * (same * distance.pow(2) + (1 - same) * (margin - distance).clamp_min(0).pow(2))


def info_nce(a, b, temperature):
    """Van den Oord et al. 2018: row i of `a` belongs to row i of `b`, the other rows are its negatives."""
    logits = a @ b.t() / temperature
    return F.cross_entropy(logits, torch.arange(len(a)), reduction="none")


def sample_losses(head: dict, outputs: Tensors, targets: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """One loss a sample (a token, for token_cross_entropy), and its weight in the mean."""
    kind = head["loss"]
    out = outputs[head["output"]]
    target = targets.get(head.get("target"))
    if kind == "cross_entropy" or kind == "token_cross_entropy":
        ignore = head.get("ignore_index", -100)
        weight = torch.tensor(head["class_weights"], dtype=out.dtype) if "class_weights" in head else None
        flat, labels = out.reshape(-1, out.shape[-1]), target.reshape(-1)
        losses = F.cross_entropy(
            flat, labels, weight, ignore_index=ignore, label_smoothing=head.get("label_smoothing", 0.0), reduction="none"
        )
        kept = labels != ignore
        share = kept.to(out.dtype) if weight is None else torch.where(kept, weight[labels.clamp_min(0)], 0.0)
        return losses, share
    elementwise = {
        "bce_logits": F.binary_cross_entropy_with_logits,
        "mse": F.mse_loss,
        "mae": F.l1_loss,
        "huber": lambda o, t, reduction: F.huber_loss(o, t, delta=head["delta"], reduction=reduction),
    }
    if kind in elementwise:
        losses = elementwise[kind](out, target.to(out.dtype).reshape(out.shape), reduction="none").reshape(len(out), -1).mean(dim=1)
    elif kind == "contrastive":
        losses = contrastive(out, outputs[head["other"]], target.to(out.dtype), head["margin"])
    elif kind == "info_nce":
        losses = info_nce(out, outputs[head["other"]], head["temperature"])
    else:
        raise ValueError(kind)
    return losses, torch.ones_like(losses)


def total_loss(curve: Curve, outputs: Tensors, targets: Tensors) -> torch.Tensor:
    """Sum over the heads of weight * (weighted mean over the samples).

    With class weights the mean divides by the weights' sum, as torch does; a sample weight w multiplies the losses and the mean
    divides by the sum of all w.
    """
    total = torch.zeros(())
    for head in curve.heads:
        losses, share = sample_losses(head, outputs, targets)
        if curve.sample_weight:
            weight = targets["sample_weight"].to(losses.dtype)
            mean = (losses * weight).sum() / (share * weight).sum()
        else:
            mean = losses.sum() / share.sum()
        total = total + head.get("weight", 1.0) * mean
    return total


def optimizer_of(curve: Curve, parameters):
    settings = dict(curve.optimizer)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}[
        settings.pop("kind")
    ]
    return kind(parameters, **settings)


def set_mode(model, mode):
    """Train mode for all but dropout, which would make the run random."""
    model.train(mode == "train")
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.eval()


def floats_to(tensors: Tensors, dtype) -> Tensors:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def train(model, names, batches, curve: Curve, dtype=torch.float32):
    """Trains a copy of `model`: (the copy, losses before each of the steps, the learning rate of each step)."""
    model = copy.deepcopy(model).to(dtype)
    set_mode(model, curve.mode)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in curve.frozen)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer_of(curve, parameters)
    base = curve.optimizer["lr"]
    losses, rates = [], []
    for step in range(STEPS):
        inputs, targets = batches[step % len(batches)]
        rate = base * (curve.lr_factors[step] if curve.lr_factors else 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        outputs = model(**floats_to(inputs, dtype))
        outputs = dict(zip(names, outputs if isinstance(outputs, tuple) else (outputs,), strict=True))
        loss = total_loss(curve, outputs, targets)
        optimizer.zero_grad()
        loss.backward()
        if curve.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, curve.clip_norm)
        optimizer.step()
        losses.append(loss.item())
        rates.append(rate)
    return model, losses, rates
