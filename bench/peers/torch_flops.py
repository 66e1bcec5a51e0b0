"""Floating-point operations of the models of torch_steps.py, as PyTorch's counter sees them: matrix products and convolutions, a
multiplication and an addition as two; nothing else is counted.

    python bench/peers/torch_flops.py > learning/testdata/flops.json
"""
import json

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from torch_steps import CASES, loss_of


def counted(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


CASES_AND_BATCHES = [("2nn", 10), ("cnn", 10), ("lstm-lm", 10), ("transformer", 16), ("resnet18", 16)]


def record(name, batch):
    make, data = CASES[name]
    model = make().train()
    x, y = data(batch)
    forward = counted(lambda: loss_of(model, x, y))
    step = counted(lambda: loss_of(model, x, y).backward())
    return {"model": name, "batch": batch, "forward": forward, "step": step}


def main():
    # oneDNN's LSTM is one operator that the counter doesn't know; without it the matrix products are seen.
    torch.backends.mkldnn.enabled = False
    # Without it attention's scores are computed again for the gradient, and counted again.
    with sdpa_kernel(SDPBackend.MATH):
        records = [record(*case) for case in CASES_AND_BATCHES]
    print(json.dumps({"torch": torch.__version__, "records": records}, indent=1))


if __name__ == "__main__":
    main()
