"""Writes distillation.json: the loss of Hinton, Vinyals, Dean 2015 as PyTorch computes it, in float64, and its gradient by the student's output.

Run it with `pip install torch` and `python make_distillation.py`. A case:

    {"name": "...", "loss": "cross_entropy" | "binary_cross_entropy" | "mse", "shape": [4, 3], "temperature": 2.0, "alpha": 0.7,
     "ignore_index": null or -100, "second": whether classes are axis 1, "student": [...], "teacher": [...], "targets": [...],
     "weights": null or [...], "value": 1.2, "gradient": [...]}

And {"name": "...", "ensemble": "logits" | "probabilities", "loss": ..., "temperature": 2.0, "shape": [...], "teachers": [[...], ...],
"soft": [...]}: the probabilities at the temperature (values for mse) that several teachers stand for together.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(11)
cases = []


def case(name, loss, shape, temperature, alpha, weights=False, ignore_index=None, second=False):
    student = (torch.randn(shape) * 2).double().float().requires_grad_()
    teacher = torch.randn(shape) * 2
    t = temperature
    rows = torch.rand(shape[0]) + 0.5 if weights else torch.ones(shape[0])
    s, z, w = student.double(), teacher.double(), rows.double()
    if loss == "cross_entropy":
        axis = 1 if second else len(shape) - 1
        positions = [d for i, d in enumerate(shape) if i != axis]
        targets = torch.randint(0, shape[axis], positions)
        if ignore_index is not None:
            targets.view(-1)[::3] = ignore_index
        s, z = s.movedim(axis, -1).flatten(0, -2), z.movedim(axis, -1).flatten(0, -2)
        flat = targets.flatten()
        each = w.repeat_interleave(flat.numel() // shape[0])
        counts = each * (flat != (ignore_index if ignore_index is not None else -1)).double()
        kl = F.kl_div(F.log_softmax(s / t, -1), F.softmax(z / t, -1), reduction="none").sum(-1)
        hard = F.cross_entropy(s, flat, reduction="none", ignore_index=-1 if ignore_index is None else ignore_index)
        soft, hard = ((v * counts).sum() / counts.sum() for v in (t * t * kl, hard))
    elif loss == "binary_cross_entropy":
        targets = (torch.rand(shape) > 0.5).float()
        p = torch.sigmoid(z / t)
        kl = F.binary_cross_entropy_with_logits(s / t, p, reduction="none") - F.binary_cross_entropy_with_logits(z / t, p, reduction="none")
        hard = F.binary_cross_entropy_with_logits(s, targets.double(), reduction="none")
        soft, hard = ((v.flatten(1).mean(1) * w).sum() / w.sum() for v in (t * t * kl, hard))
    else:
        targets = torch.randn(shape)
        soft, hard = (((s - v) ** 2).flatten(1).mean(1).mul(w).sum() / w.sum() for v in (z, targets.double()))
    value = alpha * soft + (1 - alpha) * hard
    value.backward()
    cases.append(
        {
            "name": name, "loss": loss, "shape": list(shape), "temperature": temperature, "alpha": alpha, "ignore_index": ignore_index, "second": second,
            "student": student.flatten().tolist(), "teacher": teacher.flatten().tolist(), "targets": targets.flatten().tolist(),
            "target_shape": list(targets.shape), "weights": rows.tolist() if weights else None, "value": value.item(), "gradient": student.grad.flatten().tolist(),
        }
    )


case("classes", "cross_entropy", (4, 5), 2.0, 0.7)
case("classes_soft_alone", "cross_entropy", (3, 4), 4.0, 1.0)
case("classes_hard_alone", "cross_entropy", (3, 4), 4.0, 0.0)
case("classes_weighted", "cross_entropy", (6, 3), 1.0, 0.5, weights=True)
case("tokens_ignored", "cross_entropy", (2, 5, 4), 3.0, 0.6, weights=True, ignore_index=-100)
case("pixels", "cross_entropy", (2, 3, 2, 2), 2.0, 0.9, second=True)
case("labels", "binary_cross_entropy", (4, 3), 2.5, 0.8, weights=True)
case("values", "mse", (5, 2), 1.0, 0.25, weights=True)

for ensemble in ["logits", "probabilities"]:
    for loss, shape in [("cross_entropy", (3, 4)), ("binary_cross_entropy", (3, 2)), ("mse", (4, 2))]:
        t = 2.0
        teachers = [torch.randn(shape) * 3 for _ in range(3)]
        stack = torch.stack(teachers).double()
        if loss == "mse":
            soft = stack.mean(0)
        else:
            of = (lambda v: F.softmax(v / t, -1)) if loss == "cross_entropy" else (lambda v: torch.sigmoid(v / t))
            soft = of(stack.mean(0)) if ensemble == "logits" else of(stack).mean(0)
        cases.append(
            {"name": f"{ensemble}_{loss}", "ensemble": ensemble, "loss": loss, "temperature": t, "shape": list(shape),
             "teachers": [v.flatten().tolist() for v in teachers], "soft": soft.flatten().tolist()}
        )

path = pathlib.Path(__file__).parent / "distillation.json"
path.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
print(len(cases), "cases, torch", torch.__version__)
