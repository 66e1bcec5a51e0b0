"""Training steps in plain PyTorch, for `aimass-bench train`: eager, SGD, cross-entropy.

    python torch_steps.py CASE --batch N --threads N

Says one line of JSON when it is ready, and one for each line of its input, which holds the seconds to train for. The architectures are
those of `aimass model new`; `aimass-bench` compares the numbers of weights.
"""
import argparse
import json
import platform
import sys
import time

import torch
from torch import nn

CHARACTERS, WORDS, CLASSES, TOPICS = 90, 128, 10, 4


def two_nn():
    return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, CLASSES))


def cnn():
    """McMahan et al. 2017, section 3."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(7 * 7 * 64, 512), nn.ReLU(), nn.Linear(512, CLASSES))


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, 8)
        self.lstm = nn.LSTM(8, 256, 2, batch_first=True)
        self.decoder = nn.Linear(256, CHARACTERS)

    def forward(self, tokens):
        return self.decoder(self.lstm(self.embedding(tokens))[0])


class Transformer(nn.Module):
    def __init__(self, width=128, heads=4, layers=4, longest=64):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width)
        self.position = nn.Embedding(longest, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.classifier = nn.Linear(width, TOPICS)

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1])
        return self.classifier(self.layers(self.embedding(tokens) + self.position(places)).mean(1))


class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = nn.Identity()
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


def resnet18():
    """For small images: a 3x3 stem without pooling (He et al. 2016, section 4.2)."""
    parts = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    channels = 64
    for stage in range(4):
        for block in range(2):
            parts.append(Block(channels, 64 << stage, 2 if stage > 0 and block == 0 else 1))
            channels = 64 << stage
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES))


def images(shape):
    return lambda batch: (torch.rand(batch, *shape) * 2 - 1, torch.randint(CLASSES, (batch,)))


def characters(batch):
    return torch.randint(CHARACTERS, (batch, 80)), torch.randint(CHARACTERS, (batch, 80))


def words(batch):
    return torch.randint(WORDS, (batch, 64)), torch.randint(TOPICS, (batch,))


# By the name of `aimass-bench`, which ends in the batch where there are several.
CASES = {
    "2nn": (two_nn, images([784])),
    "cnn": (cnn, images([1, 28, 28])),
    "lstm-lm": (LanguageModel, characters),
    "transformer": (Transformer, words),
    "resnet18": (resnet18, images([3, 32, 32])),
}


def loss_of(model, x, y):
    logits = model(x)
    return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten())


def resident_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    start_bytes = resident_bytes()
    make, data = CASES[args.case.rsplit("-b", 1)[0]]
    model = make()
    model.train()
    x, y = data(args.batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(2):
        step()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    say({"weights": sum(p.numel() for p in model.parameters()), "start_bytes": start_bytes, "versions": versions})
    for line in sys.stdin:
        window, steps, begin = float(line), 0, time.perf_counter()
        while steps == 0 or time.perf_counter() - begin < window:
            loss = step()
            steps += 1
        say({"steps": steps, "seconds": time.perf_counter() - begin, "loss": loss})


def say(what):
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
