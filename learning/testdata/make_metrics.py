"""What scikit-learn's metrics say; writes metrics.json. Needs numpy and scikit-learn."""
import json
from pathlib import Path

import numpy as np
from sklearn import metrics as sk

rng = np.random.default_rng(11)
cases = []


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def case(name, loss, output, targets, weights, values, **more):
    cases.append({
        "name": name,
        "loss": loss,
        "output_shape": list(output.shape),
        "output": output.flatten().tolist(),
        "targets_shape": list(targets.shape),
        "targets": targets.flatten().tolist(),
        "weights": None if weights is None else weights.tolist(),
        "values": {key: float(value) for key, value in values.items()},
        **more,
    })


def classes(name, n, c, weights=None, present=None):
    # Quarters, so that there are ties between rows.
    z = np.round(rng.normal(size=(n, c)) * 4) / 4
    y = rng.choice(present or c, size=n)
    z[np.arange(n), y] += 0.5
    # Of equal logits the first counts, as argmax has it.
    answer, p = z.argmax(1), softmax(z)
    w = {"sample_weight": weights}
    rank = (-z).argsort(1, kind="stable")
    values = {
        "accuracy": sk.accuracy_score(y, answer, **w),
        "top2": np.average((rank[:, :2] == y[:, None]).any(1), weights=weights),
        "f1_macro": sk.f1_score(y, answer, average="macro", **w),
        "f1_micro": sk.f1_score(y, answer, average="micro", **w),
        "f1_weighted": sk.f1_score(y, answer, average="weighted", **w),
        "perplexity": np.exp(np.average(-np.log(p[np.arange(n), y]), weights=weights)),
    }
    if c == 2:
        values["auc"] = sk.roc_auc_score(y, z[:, 1] - z[:, 0], **w)
    elif present is None:
        values["auc"] = np.mean([sk.roc_auc_score(y == k, p[:, k], **w) for k in range(c)])
    table = sk.precision_recall_fscore_support(y, answer, labels=range(c), zero_division=0, **w)
    confusion = sk.confusion_matrix(y, answer, labels=range(c), **w)
    case(name, "cross_entropy", z, y, weights, values, classes=np.stack(table).T.tolist(), confusion=confusion.flatten().tolist())


classes("four classes", 120, 4)
classes("weighted", 60, 3, weights=rng.choice([0.5, 1.0, 2.0], size=60))
classes("two classes", 80, 2)
classes("two classes weighted", 80, 2, weights=rng.choice([0.0, 1.0, 3.0], size=80))
classes("empty classes", 30, 6, present=[1, 3])

x = np.round(rng.normal(size=(90, 3)) * 4) / 4
t = (x + rng.normal(size=x.shape) > 0).astype(int)
answer = (x > 0).astype(int)
case("labels", "binary_cross_entropy", x, t, None, {
    "accuracy": sk.accuracy_score(t, answer),
    "f1_macro": sk.f1_score(t, answer, average="macro"),
    "f1_micro": sk.f1_score(t, answer, average="micro"),
    "f1_weighted": sk.f1_score(t, answer, average="weighted"),
    "auc": sk.roc_auc_score(t, x, average="macro"),
}, classes=np.stack(sk.precision_recall_fscore_support(t, answer)).T.tolist())
x, t, answer = x[:, :1], t[:, 0], answer[:, 0]
case("one label", "binary_cross_entropy", x, t, None, {
    "accuracy": sk.accuracy_score(t, answer),
    "f1_macro": sk.f1_score(t, answer),
    "auc": sk.roc_auc_score(t, x[:, 0]),
}, confusion=sk.confusion_matrix(t, answer).flatten().tolist())

x, t = rng.normal(size=(50, 2)).astype(np.float32).astype(float), rng.normal(size=(50, 2)).astype(np.float32).astype(float)
weights = rng.choice([0.5, 1.0, 4.0], size=50)
case("values", "huber", x, t, weights, {
    "mae": sk.mean_absolute_error(t, x, sample_weight=weights),
    "rmse": np.sqrt(np.average(((t - x) ** 2).mean(1), weights=weights)),
})

text = ",\n".join(json.dumps(c) for c in cases)
Path(__file__).with_name("metrics.json").write_text(f"[\n{text}\n]\n")
