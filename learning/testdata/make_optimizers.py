"""Three steps of PyTorch's optimizers over f(w) = w^2 / 2 from (1, -2); writes optimizers.json. Needs torch."""
import json
from pathlib import Path

import torch

COMMON = {"lr": 0.1, "weight_decay": 0.1}
CASES = [
    lambda p: torch.optim.SGD(p, momentum=0.9, **COMMON),
    lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True, **COMMON),
    lambda p: torch.optim.Adam(p, **COMMON),
    lambda p: torch.optim.AdamW(p, **COMMON),
    lambda p: torch.optim.RMSprop(p, alpha=0.99, **COMMON),
    lambda p: torch.optim.RMSprop(p, alpha=0.99, momentum=0.9, **COMMON),
]


def walk(make):
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = make([w])
    seen = []
    for _ in range(3):
        optimizer.zero_grad()
        (w * w / 2).sum().backward()
        optimizer.step()
        seen += w.detach().tolist()
    return seen


rows = ",\n".join(json.dumps(walk(make)) for make in CASES)
Path(__file__).with_name("optimizers.json").write_text(f"[\n{rows}\n]\n")
