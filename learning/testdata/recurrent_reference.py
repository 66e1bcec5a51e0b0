"""LSTM, GRU and RNN in numpy, straight from the equations of ONNX's docs/Operators.md: ONNX's own evaluator knows only some of their forms."""

import numpy as np

PLAIN = {
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x >= 0, x, a * x),
    "ThresholdedRelu": lambda x, a, b: np.where(x > a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: np.where(x >= 0, x, a * (np.exp(x) - 1)),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: np.log1p(np.exp(x)),
}
TAKES_ALPHA = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}
TAKES_BETA = {"Affine", "ScaledTanh", "HardSigmoid"}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
ALPHAS = {"LeakyRelu": 0.01, "HardSigmoid": 0.2}
BETAS = {"HardSigmoid": 0.5, "Affine": 0.0}


def functions(names, alphas, betas):
    """One function of one array for each name; they take their numbers from the lists, in order."""
    alphas, betas = list(alphas), list(betas)
    made = []
    for name in names:
        alpha = alphas.pop(0) if name in TAKES_ALPHA and alphas else ALPHAS.get(name, 1.0)
        beta = betas.pop(0) if name in TAKES_BETA and betas else BETAS.get(name, 1.0)
        made.append(lambda x, name=name, alpha=alpha, beta=beta: PLAIN[name](x, alpha, beta))
    return made


def step(op, x, h, c, w, r, b, p, act, clip, attributes):
    """One step of one direction; `act`: f, g, h."""
    n = h.shape[1]
    gates = w.shape[0] // n
    wb, rb = b[: gates * n], b[gates * n :]
    part = lambda m, i: m[i * n : (i + 1) * n]
    bound = lambda v: np.clip(v, -clip, clip) if clip else v
    of = lambda i, past=None: x @ part(w, i).T + part(wb, i) + (h @ part(r, i).T + part(rb, i) if past is None else past)
    if op == "RNN":
        return act[0](bound(of(0))), c
    if op == "GRU":
        z, reset = act[0](bound(of(0))), act[0](bound(of(1)))
        if attributes.get("linear_before_reset"):
            past = reset * (h @ part(r, 2).T + part(rb, 2))
        else:
            past = (reset * h) @ part(r, 2).T + part(rb, 2)
        return (1 - z) * act[1](bound(of(2, past))) + z * h, c
    i = act[0](bound(of(0) + part(p, 0) * c))
    f = 1 - i if attributes.get("input_forget") else act[0](bound(of(2) + part(p, 2) * c))
    c = f * c + i * act[1](bound(of(3)))
    o = act[0](bound(of(1) + part(p, 1) * c))
    return o * act[2](c), c


def recurrent(op, x, w, r, b=None, lengths=None, initial_h=None, initial_c=None, p=None, **attributes):
    """Y, Y_h and, of an LSTM, Y_c, in float64."""
    x, w, r = (np.float64(v) for v in (x, w, r))
    directions, n = w.shape[0], r.shape[2]
    swap = (lambda v: v.swapaxes(0, 1)) if attributes.get("layout") else (lambda v: v)
    x = swap(x)
    steps, batch = x.shape[:2]
    b = np.zeros((directions, 2 * w.shape[1])) if b is None else np.float64(b)
    p = np.zeros((directions, 3 * n)) if p is None else np.float64(p)
    state = lambda v: np.zeros((directions, batch, n)) if v is None else swap(np.float64(v))
    hs, cs = state(initial_h), state(initial_c)
    lengths = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    names = attributes.get("activations") or DEFAULTS[op] * directions
    act = functions(names, attributes.get("activation_alpha", []), attributes.get("activation_beta", []))
    each = len(act) // directions
    y = np.zeros((steps, directions, batch, n))
    last_h, last_c = np.zeros_like(hs), np.zeros_like(cs)
    for d in range(directions):
        backwards = attributes.get("direction") == "reverse" or d == 1
        for row in range(batch):
            h, c = hs[d, row : row + 1], cs[d, row : row + 1]
            times = range(lengths[row])
            for t in reversed(times) if backwards else times:
                own = act[d * each : (d + 1) * each]
                h, c = step(op, x[t, row : row + 1], h, c, w[d], r[d], b[d], p[d], own, attributes.get("clip"), attributes)
                y[t, d, row] = h
            last_h[d, row], last_c[d, row] = h, c
    y = y.transpose(2, 0, 1, 3) if attributes.get("layout") else y
    results = [y, swap(last_h)] + ([swap(last_c)] if op == "LSTM" else [])
    return [v.astype(np.float32) for v in results]
