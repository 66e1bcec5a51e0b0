"""Values and gradients of PyTorch's losses in float64; writes losses.json. Needs torch."""
import json
from pathlib import Path

import torch
import torch.nn.functional as F

torch.manual_seed(7)


def draw(*shape, scale=2.0):
    """Numbers that are exact in float32."""
    return (torch.randn(*shape) * scale).float().double().requires_grad_()


cases = []


def case(name, loss, options, output, targets, value, weights=None):
    value.backward()
    cases.append({
        "name": name,
        "loss": loss,
        "options": options,
        "output_shape": list(output.shape),
        "output": output.detach().flatten().tolist(),
        "targets_shape": list(targets.shape),
        "targets": targets.detach().flatten().tolist(),
        "weights": weights,
        "value": value.item(),
        "gradient": output.grad.flatten().tolist(),
    })


def floats(values):
    return torch.tensor(values).float().double()


# Cross-entropy.
CLASS_WEIGHTS = [0.5, 2.0, 0.0, 1.25, 1.0]
for name, options in [
    ("plain", {}),
    ("smooth", {"label_smoothing": 0.125}),
    ("weighted", {"class_weights": CLASS_WEIGHTS}),
    ("ignoring", {"ignore_index": -100}),
    ("everything", {"label_smoothing": 0.25, "class_weights": CLASS_WEIGHTS, "ignore_index": 3}),
]:
    keywords = {
        "label_smoothing": options.get("label_smoothing", 0.0),
        "weight": floats(options["class_weights"]) if "class_weights" in options else None,
        "ignore_index": options.get("ignore_index", -100),
    }
    output, targets = draw(6, 5), torch.tensor([0, 4, 3, 1, 2, 3])
    if name == "ignoring":
        targets[1] = -100
    case(f"cross_entropy_{name}", "cross_entropy", options, output, targets, F.cross_entropy(output, targets, **keywords))
    targets = torch.randint(0, 5, (2, 3, 2))
    if name == "ignoring":
        targets[0, 1, 1] = targets[1, 0, 0] = -100
    # PyTorch's layout, then the classes last.
    output = draw(2, 5, 3, 2)
    second = {**options, "class_axis": "second"}
    case(f"cross_entropy_{name}_second", "cross_entropy", second, output, targets, F.cross_entropy(output, targets, **keywords))
    output = draw(2, 3, 2, 5)
    value = F.cross_entropy(output.movedim(-1, 1), targets, **keywords)
    case(f"cross_entropy_{name}_last", "cross_entropy", options, output, targets, value)

# Weights of samples: the weighted mean, by PyTorch's unreduced losses.
row_weights = [0.5, 0.0, 2.0, 1.0]
w = floats(row_weights)
output, targets = draw(4, 5), torch.tensor([1, 0, 4, 4])
by_class = floats(CLASS_WEIGHTS)
rows = F.cross_entropy(output, targets, weight=by_class, reduction="none")
case("cross_entropy_rows", "cross_entropy", {"class_weights": CLASS_WEIGHTS}, output, targets, (rows * w).sum() / (w * by_class[targets]).sum(), row_weights)
output, targets = draw(4, 3), draw(4, 3).detach()
case("mse_rows", "mse", {}, output, targets, (((output - targets) ** 2).mean(1) * w).sum() / w.sum(), row_weights)

# Binary cross-entropy.
for name, options in [("plain", {}), ("one_weight", {"pos_weight": [3.0]}), ("weighted", {"pos_weight": [0.5, 2.0, 4.0]})]:
    weight = floats(options["pos_weight"]) if options else None
    output, targets = draw(4, 3, scale=4.0), torch.randint(0, 2, (4, 3)).double()
    case(f"binary_{name}", "binary_cross_entropy", options, output, targets, F.binary_cross_entropy_with_logits(output, targets, pos_weight=weight))
output, targets = draw(5, 1), floats([0.0, 1.0, 0.25, 1.0, 0.75]).reshape(5, 1)
value = F.binary_cross_entropy_with_logits(output, targets)
case("binary_column", "binary_cross_entropy", {}, output, targets.reshape(5), value)
output, targets = (torch.tensor([[200.0, -200.0], [-200.0, 200.0]]).double().requires_grad_(), floats([[1.0, 0.0], [1.0, 0.0]]))
case("binary_far", "binary_cross_entropy", {}, output, targets, F.binary_cross_entropy_with_logits(output, targets))

# Regression.
for name, options, loss in [
    ("mse", {}, F.mse_loss),
    ("mae", {}, F.l1_loss),
    ("huber", {"delta": 0.75}, lambda x, t: F.huber_loss(x, t, delta=0.75)),
]:
    output, targets = draw(4, 3, 2), draw(4, 3, 2).detach()
    case(name, name, options, output, targets, loss(output, targets))
    output, targets = draw(5, 1), draw(5).detach()
    case(f"{name}_column", name, options, output, targets, loss(output, targets.reshape(5, 1)))


# Supervised contrastive loss, equation 2 of Khosla et al. 2020, written with the matrices of all pairs.
def contrastive(x, labels, temperature):
    z = F.normalize(x, dim=1)
    n = len(x)
    similarity = (z @ z.T / temperature).masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    log_p = similarity - torch.logsumexp(similarity, 1, keepdim=True)
    same = (labels[:, None] == labels[None, :]) & ~torch.eye(n, dtype=torch.bool)
    anchors = same.any(1)
    log_p = torch.where(same, log_p, 0.0)
    return -(log_p.sum(1)[anchors] / same.sum(1)[anchors]).mean()


for name, labels in [("classes", [0, 1, 0, 2, 1, 0, 3]), ("pairs", [5, 6, 7, 5, 6, 7])]:
    for temperature in [0.5, 0.125]:
        output, targets = draw(len(labels), 4), torch.tensor(labels)
        case(f"contrastive_{name}_{temperature}", "contrastive", {"temperature": temperature}, output, targets, contrastive(output, targets, temperature))


# Equation 4 of Hadsell et al. 2006 over all pairs.
def pairwise(x, labels, margin):
    terms = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            d = (x[i] - x[j]).norm()
            terms.append(0.5 * d**2 if labels[i] == labels[j] else 0.5 * torch.clamp(margin - d, min=0) ** 2)
    return torch.stack(terms).mean()


output, targets = draw(6, 3, scale=0.75), torch.tensor([0, 1, 0, 2, 1, 0])
case("pairwise", "pairwise", {"margin": 1.5}, output, targets, pairwise(output, targets, 1.5))

text = ",\n".join(json.dumps(c) for c in cases)
Path(__file__).with_name("losses.json").write_text(f"[\n{text}\n]\n")
