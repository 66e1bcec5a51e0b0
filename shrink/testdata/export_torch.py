"""Exports PyTorch models that `check.py` rewrites: both of PyTorch's exporters where they work, norms with statistics that are not the first ones.

    python shrink/testdata/export_torch.py FOLDER
"""

import os
import sys

import torch
import torchvision
from torch import nn


def stirred(model):
    """Batch norms as after some training."""
    torch.manual_seed(0)
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.2)
    return model.eval()


class View(nn.Module):
    """Flattens by x.view(x.size(0), -1), and has a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.bn = nn.BatchNorm2d(8)
        self.fc1 = nn.Linear(8 * 256, 32)
        self.fc2 = nn.Linear(32, 5)

    def forward(self, x):
        x = torch.relu(self.bn(self.up(torch.relu(self.down(x)))))
        return self.fc2(torch.relu(self.fc1(x.view(x.size(0), -1))))


class Conv1dLstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 24, 5, padding=2)
        self.bn = nn.BatchNorm1d(24)
        self.lstm = nn.LSTM(24, 16, batch_first=True)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x))).transpose(1, 2)
        return self.fc(self.lstm(x)[0][:, -1])


class Gated(nn.Module):
    """Squeeze and excitation, a dense block, and a channel split."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.dense = nn.Conv2d(19, 12, 3, padding=1)
        self.squeeze = nn.Conv2d(28, 8, 1)
        self.excite = nn.Conv2d(8, 28, 1)
        self.mix = nn.Conv2d(14, 14, 3, padding=1, groups=14)
        self.norm = nn.GroupNorm(2, 14)
        self.fc = nn.Linear(14, 5)

    def forward(self, x):
        a = torch.relu(self.stem(x))
        a = torch.cat([a, torch.relu(self.dense(torch.cat([a, x], 1)))], 1)
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(a.mean((2, 3), keepdim=True)))))
        left, right = torch.chunk(a * gate, 2, 1)
        return self.fc(self.norm(self.mix(left) + right).mean((2, 3)))


MODELS = {
    "mlp": (nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 5)), (2, 20)),
    "view": (View(), (2, 3, 16, 16)),
    "conv1d_lstm": (Conv1dLstm(), (2, 6, 30)),
    "gated": (Gated(), (2, 3, 16, 16)),
    "resnet18": (torchvision.models.resnet18(num_classes=10), (2, 3, 64, 64)),
    "resnext": (torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10, groups=8, width_per_group=4), (2, 3, 64, 64)),
    "mobilenet_v2": (torchvision.models.mobilenet_v2(num_classes=10), (2, 3, 64, 64)),
    "mobilenet_v3": (torchvision.models.mobilenet_v3_small(num_classes=10), (2, 3, 64, 64)),
    "densenet": (torchvision.models.DenseNet(8, (3, 3), 16, num_classes=10), (2, 3, 64, 64)),
    "shufflenet": (torchvision.models.shufflenet_v2_x0_5(num_classes=10), (2, 3, 64, 64)),
    "encoder": (nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (2, 7, 32)),
}


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, (model, shape) in MODELS.items():
        model, x = stirred(model), torch.randn(shape)
        for kind in ("script", "dynamo"):
            path = os.path.join(folder, f"{name}_{kind}.onnx")
            try:
                if kind == "script":
                    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
                    # Training form keeps the norms: the exporter folds them otherwise.
                    torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"], dynamic_axes=axes,
                                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
                else:
                    batch = torch.export.Dim("batch")
                    torch.onnx.export(model, (x,), path, dynamo=True, input_names=["x"], output_names=["y"], dynamic_shapes=({0: batch},), optimize=False,
                                      external_data=False)
            except Exception as error:  # An exporter that can't export a model is no matter of ours.
                print(f"{name}: {kind}: not exported: {str(error).splitlines()[0][:100]}")


if __name__ == "__main__":
    main()
