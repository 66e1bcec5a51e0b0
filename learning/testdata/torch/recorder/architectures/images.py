"""Convolutional networks over images."""

import torch
import torch.nn.functional as F
from torch import nn


class LeNet(nn.Module):
    """LeCun et al. 1998 with fewer channels: tanh and average pooling, [batch, 1, 20, 20] -> [batch, 10]."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 8, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(72, 40), nn.Linear(40, 24), nn.Linear(24, 10)

    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc1(torch.flatten(x, 1)))
        return self.fc3(torch.tanh(self.fc2(x)))


class Cnn(nn.Module):
    """Convolutions with batch norm and max-pool with padding, [batch, 2, 10, 10] -> [batch, 4]; no convolution has a bias."""

    def __init__(self, dropout=0.5):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.drop = nn.MaxPool2d(3, stride=2, padding=1), nn.Dropout(dropout)
        self.fc = nn.Linear(8 * 3 * 3, 4)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        return self.fc(self.drop(x.flatten(1)))


class InvertedResidual(nn.Module):
    """Sandler et al. 2018, figure 4d."""

    def __init__(self, c_in, c_out, stride, expand):
        super().__init__()
        hidden = c_in * expand
        layers = [nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()] if expand != 1 else []
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        layers += [nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """[batch, 3, 16, 16] -> [batch, 5], with five blocks."""

    def __init__(self):
        super().__init__()
        blocks = [(4, 4, 1, 1), (4, 6, 2, 6), (6, 6, 1, 6), (6, 8, 2, 6), (8, 8, 1, 6)]
        stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6())
        last = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.features = nn.Sequential(stem, *[InvertedResidual(*b) for b in blocks], last)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 5))

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1))


class BasicBlock(nn.Module):
    """He et al. 2016, figure 2; the 1x1 convolution where the shape changes."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        changes = stride != 1 or c_in != c_out
        self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)) if changes else nn.Identity()

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet18(nn.Module):
    """All 18 layers, 4 channels where the paper has 64; [batch, 3, 40, 40] -> [batch, 5]."""

    def __init__(self, width=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.layers = nn.Sequential(*[
            nn.Sequential(BasicBlock(a, b, 1 if i == 0 else 2), BasicBlock(b, b, 1)) for i, (a, b) in enumerate(zip(widths, widths[1:]))
        ])  # fmt: skip
        self.fc = nn.Linear(8 * width, 5)

    def forward(self, x):
        x = self.layers(self.maxpool(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class ConvAutoencoder(nn.Module):
    """[batch, 1, 8, 8] to itself by ConvTranspose2d with output_padding."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)
        self.up1 = nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1)
        self.up2 = nn.ConvTranspose2d(4, 1, 3, 2, 1, output_padding=1)

    def forward(self, x):
        x = F.relu(self.down2(F.relu(self.down1(x))))
        return torch.sigmoid(self.up2(F.relu(self.up1(x))))


class ResizeAutoencoder(nn.Module):
    """[batch, 1, 8, 8] to itself by Resize: nearest, then bilinear; `corners` is align_corners."""

    def __init__(self, corners=False):
        super().__init__()
        self.down, self.middle, self.up = nn.Conv2d(1, 4, 3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
        self.corners = corners

    def forward(self, x):
        x = F.interpolate(F.relu(self.down(x)), scale_factor=2, mode="nearest")
        x = F.interpolate(F.relu(self.middle(x)), scale_factor=2, mode="bilinear", align_corners=self.corners)
        return self.up(x)


class RmsNorm(nn.Module):
    """Zhang and Sennrich 2019, written out: the TorchScript exporter doesn't know nn.RMSNorm."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-6) * self.weight


class Norms(nn.Module):
    """GroupNorm, InstanceNorm, LayerNorm over channels, RMSNorm: [batch, 3, 6, 6] -> [batch, 4]."""

    def __init__(self):
        super().__init__()
        self.conv1, self.group = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.conv2, self.instance = nn.Conv2d(8, 6, 3), nn.InstanceNorm2d(6, affine=True)
        self.bare = nn.InstanceNorm2d(6)
        self.layer, self.rms = nn.LayerNorm([4, 4]), RmsNorm(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(self.group(self.conv1(x)))
        x = F.relu(self.instance(self.conv2(x)))
        x = self.layer(x + 0.5 * self.bare(x))
        return self.fc(self.rms(x.mean(dim=(2, 3)) + x.amax(dim=(2, 3))))
