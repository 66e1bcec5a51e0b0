"""Random data on coarse grids: exact in f32, and small once compressed."""

import torch


def grid(g, *shape, levels=9, span=2.0):
    """Values of `levels` steps in [-span, span], with noise-like order."""
    return torch.randint(0, levels, shape, generator=g).float() * (2 * span / (levels - 1)) - span


def classes(g, n, *shape):
    return torch.randint(0, n, shape, generator=g)


def seed_of(name: str) -> int:
    return sum((i + 1) * byte for i, byte in enumerate(name.encode())) % 100_000
