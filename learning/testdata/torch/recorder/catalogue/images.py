"""Networks over images."""

from ..architectures import images as nets
from ..data import classes, grid
from ..family import Case, Curve, Family

CE = Curve([{"loss": "cross_entropy", "output": "y", "target": "label"}], {"kind": "sgd", "lr": 0.05})
SLOW = Curve(CE.heads, {"kind": "sgd", "lr": 0.005})
FROZEN = Curve(CE.heads, CE.optimizer, "frozen_statistics", "eval")
SELF = Curve([{"loss": "mse", "output": "y", "target": "image"}], {"kind": "sgd", "lr": 0.5})
X = {"x": {0: "batch"}}


def images(channels, side, n, levels=5):
    def sample(g, sizes):
        b = sizes["batch"]
        return {"x": grid(g, b, channels, side, side, levels=levels, span=1.0)}, {"label": classes(g, n, b)}

    return sample


def self_images(g, sizes):
    x = (grid(g, sizes["batch"], 1, 8, 8, levels=5, span=0.5) + 0.5).contiguous()
    return {"x": x}, {"image": x}


FAMILIES = [
    Family("lenet", nets.LeNet, images(1, 20, 10), X, {"batch": 5}, {"batch": 2}, curves=(CE,)),
    Family("cnn_bn", nets.Cnn, images(2, 10, 4), X, {"batch": 5}, {"batch": 2}, curves=(CE, FROZEN)),
    Family("fresh_cnn_bn", nets.Cnn, images(2, 10, 4), X, {"batch": 5}, {"batch": 2}, curves=(CE, FROZEN), fresh=True),
    Family("mobilenet_v2", nets.MobileNetV2, images(3, 16, 5), X, {"batch": 6}, {"batch": 2}, curves=(CE, FROZEN)),
    Family("resnet18", nets.ResNet18, images(3, 40, 5, 3), X, {"batch": 6}, {"batch": 2}, curves=(SLOW, FROZEN)),
    Family("autoencoder", nets.ConvAutoencoder, self_images, X, {"batch": 5}, {"batch": 2}, curves=(SELF,)),
    Family("resize", nets.ResizeAutoencoder, self_images, X, {"batch": 5}, {"batch": 2}, curves=(SELF,)),
    Family("resize_corners", lambda: nets.ResizeAutoencoder(True), self_images, X, {"batch": 5}, {"batch": 2}, curves=(SELF,)),
    Family("norms", nets.Norms, images(3, 6, 4), X, {"batch": 5}, {"batch": 2}, curves=(CE,)),
]

FUSED = "the exporter folded batch norm into the convolutions, so there is no curve"
TRAINING = "dropout and batch norm in training mode; the recorded outputs are those of inference mode"
CASES = [
    Case("lenet", "torchscript", 13),
    Case("lenet", "dynamo", 17),
    Case("lenet", "dynamo", 20),
    Case("cnn_bn", "torchscript", 16, "preserve"),
    Case("cnn_bn", "torchscript", 17, suffix="_fused", curves=False, note=FUSED),
    Case("cnn_bn", "torchscript", 17, "training", suffix="_training", note=TRAINING),
    Case("cnn_bn", "dynamo", 18, fold=False),
    Case("cnn_bn", "dynamo", 18, suffix="_fused", curves=False, note=FUSED),
    Case(
        "fresh_cnn_bn",
        "torchscript",
        17,
        "preserve",
        note="equal initializers are merged: running_var is Identity(scale), running_mean Identity(shift); PyTorch trains them apart",
    ),
    Case("mobilenet_v2", "torchscript", 14, "preserve"),
    Case("mobilenet_v2", "dynamo", 18, fold=False),
    Case("resnet18", "torchscript", 17, "preserve"),
    Case("resnet18", "dynamo", 21, suffix="_fused", curves=False, note=FUSED),
    Case("autoencoder", "torchscript", 13),
    Case("autoencoder", "dynamo", 14),
    Case("autoencoder", "dynamo", 18),
    Case("resize", "torchscript", 13),
    Case("resize", "dynamo", 18),
    Case("resize_corners", "torchscript", 16),
    Case("norms", "torchscript", 13),
    Case("norms", "torchscript", 17),
    Case("norms", "dynamo", 18),
    Case("norms", "dynamo", 21),
]
