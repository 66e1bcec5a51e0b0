"""Fully connected networks, several inputs and outputs, activations, shape arithmetic."""

import torch
import torch.nn.functional as F
from torch import nn


class Mlp(nn.Module):
    """[batch, 12] -> [batch, 4], with batch norm and dropout."""

    def __init__(self, dropout=0.5):
        super().__init__()
        self.fc1, self.bn1, self.drop1 = nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(dropout)
        self.fc2, self.bn2, self.drop2 = nn.Linear(16, 12, bias=False), nn.BatchNorm1d(12), nn.Dropout(dropout)
        self.fc3 = nn.Linear(12, 4)

    def forward(self, x):
        x = self.drop1(F.relu(self.bn1(self.fc1(x))))
        x = self.drop2(F.relu(self.bn2(self.fc2(x))))
        return self.fc3(x)


class SmallMlp(nn.Module):
    """[batch, 8] -> [batch, 3]."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


class TwoInputs(nn.Module):
    """An image [batch, 1, 8, 8] and a row [batch, 5] -> [batch, 3]."""

    def __init__(self):
        super().__init__()
        self.conv, self.row = nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.Linear(5, 6)
        self.head = nn.Linear(3 * 4 * 4 + 6, 3)

    def forward(self, image, row):
        a = F.relu(self.conv(image)).flatten(1)
        return self.head(torch.cat([a, F.relu(self.row(row))], dim=1))


class TwoHeads(nn.Module):
    """[batch, 8] -> logits [batch, 3] and a value [batch]."""

    def __init__(self):
        super().__init__()
        self.trunk, self.classes, self.value = nn.Linear(8, 12), nn.Linear(12, 3), nn.Linear(12, 1)

    def forward(self, x):
        h = torch.sigmoid(self.trunk(x))
        return self.classes(h), self.value(h).squeeze(-1)


class Siamese(nn.Module):
    """One encoder for two inputs [batch, 10]: two embeddings [batch, 6], of length 1 where `normalized`."""

    def __init__(self, normalized):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 6))
        self.normalized = normalized

    def embed(self, x):
        z = self.encoder(x)
        return F.normalize(z, dim=1) if self.normalized else z

    def forward(self, a, b):
        return self.embed(a), self.embed(b)


class Activations(nn.Module):
    """[batch, 6] -> [batch, 3]: a sum over many activations, each of its own linear layer."""

    def __init__(self):
        super().__init__()
        self.shapes = nn.ModuleList([
            nn.PReLU(8), nn.PReLU(), nn.LeakyReLU(0.1), nn.ELU(0.7), nn.SELU(), nn.CELU(1.3), nn.Hardswish(), nn.Hardsigmoid(),
            nn.Hardtanh(-0.6, 0.9), nn.ReLU6(), nn.Softplus(), nn.Softsign(), nn.Mish(), nn.SiLU(), nn.GELU(), nn.GELU("tanh"),
            nn.LogSigmoid(), nn.Sigmoid(), nn.Tanh(), nn.Tanhshrink(), nn.Softmax(dim=-1), nn.LogSoftmax(dim=-1), nn.Softmin(dim=-1),
            nn.GLU(), nn.Hardshrink(0.3), nn.Softshrink(0.2),
        ])  # fmt: skip
        self.inner = nn.ModuleList([nn.Linear(6, 8) for _ in self.shapes])
        self.outer = nn.ModuleList([nn.Linear(4 if isinstance(s, nn.GLU) else 8, 3, bias=False) for s in self.shapes])

    def forward(self, x):
        return sum(outer(shape(inner(x))) for inner, shape, outer in zip(self.inner, self.shapes, self.outer))
