"""Networks over sequences."""

import torch
from torch import nn

from ..architectures import sequences as nets
from ..data import classes, grid
from ..family import Case, Curve, Family

HEAD = {"loss": "cross_entropy", "output": "y", "target": "label"}
CE = Curve([HEAD], {"kind": "sgd", "lr": 0.1})
FAST = Curve([HEAD], {"kind": "sgd", "lr": 0.5})
FROZEN = Curve(CE.heads, CE.optimizer, "frozen_statistics", "eval")
TOKENS = Curve([{"loss": "token_cross_entropy", "output": "y", "target": "next"}], {"kind": "sgd", "lr": 0.5})
IGNORED = Curve(
    [{"loss": "token_cross_entropy", "output": "y", "target": "next", "ignore_index": 0}], {"kind": "sgd", "lr": 0.5}, "ignore_index"
)
SIZES, SECOND = {"batch": 4, "time": 6}, {"batch": 2, "time": 9}
TIME = {0: "batch", 1: "time"}
STEPS = {"y": {0: "batch", 1: "time"}}


def signals(g, sizes):
    return {"x": grid(g, sizes["batch"], 4, sizes["time"])}, {"label": classes(g, 3, sizes["batch"])}


def self_signals(g, sizes):
    x = grid(g, sizes["batch"], 3, sizes["time"], span=1.0)
    return {"x": x}, {"signal": x}


def steps(features):
    def sample(g, sizes):
        return {"x": grid(g, sizes["batch"], sizes["time"], features)}, {"label": classes(g, 3, sizes["batch"])}

    return sample


def packed(g, sizes):
    batch, time = sizes["batch"], sizes["time"]
    lengths = torch.cat([torch.tensor([time]), 1 + classes(g, time, batch - 1)]).sort(descending=True).values
    inputs, targets = steps(5)(g, sizes)
    return {**inputs, "lengths": lengths}, targets


def text(vocabulary):
    """tokens and the ones that come next."""

    def sample(g, sizes):
        line = classes(g, vocabulary, sizes["batch"], sizes["time"] + 1)
        return {"tokens": line[:, :-1].contiguous()}, {"next": line[:, 1:].contiguous()}

    return sample


def padded_text(g, sizes):
    batch, time = sizes["batch"], sizes["time"]
    tokens = 1 + classes(g, 11, batch, time)
    lengths = 2 + classes(g, time - 1, batch)
    tokens = torch.where(torch.arange(time) < lengths.unsqueeze(1), tokens, 0)
    return {"tokens": tokens}, {"label": classes(g, 3, batch)}


def flat_text(g, sizes):
    batch, total = sizes["batch"], sizes["total"]
    cuts = 1 + torch.randperm(total - 1, generator=g)[: batch - 1].sort().values
    return {"tokens": classes(g, 12, total), "offsets": torch.cat([torch.zeros(1, dtype=torch.int64), cuts])}, {
        "label": classes(g, 3, batch)
    }


def grid_text(g, sizes):
    return {"tokens": classes(g, 12, sizes["batch"], sizes["time"])}, {"label": classes(g, 3, sizes["batch"])}


def weighted_grid(g, sizes):
    inputs, targets = grid_text(g, sizes)
    return {**inputs, "weights": grid(g, sizes["batch"], sizes["time"])}, targets


def bags(weighted=False, last=False, empty=False):
    """As flat_text, with more that an embedding bag may take."""

    def sample(g, sizes):
        inputs, targets = flat_text(g, sizes)
        if empty:
            # The second bag begins where the third does, and the last where there is nothing left.
            inputs["offsets"][1], inputs["offsets"][-1] = inputs["offsets"][2], sizes["total"]
        if last:
            end = torch.tensor([sizes["total"]])
            inputs["offsets"] = torch.cat([inputs["offsets"], end])
        if weighted:
            inputs["weights"] = grid(g, sizes["total"])
        return inputs, targets

    return sample


def cross(g, sizes):
    batch, time, other = sizes["batch"], sizes["time"], sizes["other"]
    there = classes(g, 2, batch, other).bool()
    there[:, 0] = True
    inputs = {"x": grid(g, batch, time, 8), "memory": grid(g, batch, other, 8), "there": there}
    return inputs, {"next": classes(g, 3, batch, time)}


def recurrent(name, build, curve=FAST):
    return Family(name, build, steps(5), {"x": TIME}, SIZES, SECOND, curves=(curve,))


def offset_bag(name, sample, **settings):
    sizes, second = {"batch": 4, "total": 13}, {"batch": 3, "total": 8}
    inputs = sample(torch.Generator(), sizes)[0]
    ended = settings.get("include_last_offset", False)
    dynamic = {name: {0: "offset" if ended and name == "offsets" else "batch" if name == "offsets" else "total"} for name in inputs}
    return Family(name, lambda: nets.Bag(**settings), sample, dynamic, sizes, second, curves=(FAST,))


LENGTHS = {"x": TIME, "lengths": {0: "batch"}}
FAMILIES = [
    Family(
        "conv1d_unpooled",
        lambda: nets.Conv1dNet(pooled=False),
        signals,
        {"x": {0: "batch", 2: "time"}},
        {"batch": 5, "time": 16},
        {"batch": 2, "time": 21},
        curves=(CE, FROZEN),
    ),  # fmt: skip
    Family(
        "conv1d",
        nets.Conv1dNet,
        signals,
        {"x": {0: "batch", 2: "time"}},
        {"batch": 5, "time": 16},
        {"batch": 2, "time": 21},
        curves=(CE, FROZEN),
    ),
    Family(
        "autoencoder1d",
        nets.Deconv1d,
        self_signals,
        {"x": {0: "batch"}},
        {"batch": 4, "time": 16},
        {"batch": 2, "time": 16},
        curves=(Curve([{"loss": "mse", "output": "y", "target": "signal"}], {"kind": "sgd", "lr": 0.2}),),
    ),  # fmt: skip
    recurrent("lstm", lambda: nets.Recurrent(nn.LSTM)),
    recurrent("bilstm_last", lambda: nets.Recurrent(nn.LSTM, layers=2, bidirectional=True)),
    recurrent("bilstm", lambda: nets.EveryStep(nn.LSTM)),
    recurrent("gru", lambda: nets.Recurrent(nn.GRU)),
    recurrent("bigru", lambda: nets.EveryStep(nn.GRU)),
    recurrent("gru_no_bias", lambda: nets.Recurrent(nn.GRU, bias=False)),
    recurrent("rnn", lambda: nets.Recurrent(nn.RNN)),
    Family("lstm_lengths", lambda: nets.Packed(nn.LSTM, False), packed, LENGTHS, SIZES, SECOND, curves=(FAST,)),
    Family("bilstm_lengths", lambda: nets.Packed(nn.LSTM, True), packed, LENGTHS, SIZES, SECOND, curves=(FAST,)),
    Family("bigru_lengths", lambda: nets.Packed(nn.GRU, True), packed, LENGTHS, SIZES, SECOND, curves=(FAST,)),
    Family("rnn_lm", nets.RnnLm, text(16), {"tokens": TIME}, SIZES, SECOND, curves=(TOKENS, IGNORED), output_dynamic=STEPS),
    Family(
        "bags",
        nets.Bags,
        lambda g, s: ({"tokens": classes(g, 12, s["batch"], 5)}, {"label": classes(g, 3, s["batch"])}),
        {"tokens": {0: "batch"}},
        {"batch": 4},
        {"batch": 2},
        curves=(FAST,),
    ),
    Family(
        "offset_bags",
        nets.OffsetBags,
        flat_text,
        {"tokens": {0: "total"}, "offsets": {0: "batch"}},
        {"batch": 4, "total": 13},
        {"batch": 3, "total": 8},
        curves=(FAST,),
    ),
    offset_bag("max_bags", bags(), mode="max"),
    offset_bag("weighted_bags", bags(weighted=True, empty=True), mode="sum"),
    offset_bag("ended_bags", bags(last=True), mode="mean", include_last_offset=True),
    offset_bag("ended_max_bags", bags(last=True), mode="max", include_last_offset=True),
    offset_bag("empty_bags", bags(empty=True), mode="mean"),
    offset_bag("empty_max_bags", bags(empty=True), mode="max"),
    offset_bag("padded_bags", bags(empty=True), mode="mean", padding_idx=2),
    offset_bag("padded_max_bags", bags(), mode="max", padding_idx=-3),
    offset_bag("padded_sum_bags", bags(weighted=True, last=True), mode="sum", include_last_offset=True, padding_idx=0),
    Family("grid_bags", lambda: nets.Bag(mode="max"), grid_text, {"tokens": TIME}, SIZES, SECOND, curves=(FAST,)),
    Family("grid_weighted_bags", nets.WeightedGrid, weighted_grid, {"tokens": TIME, "weights": TIME}, SIZES, SECOND, curves=(FAST,)),
    Family("grid_padded_bags", lambda: nets.Bag(mode="mean", padding_idx=0), padded_text, {"tokens": TIME}, SIZES, SECOND, curves=(FAST,)),
    Family("grid_fixed_bags", lambda: nets.Bag(mode="mean"), grid_text, {"tokens": {}}, SIZES, SIZES, curves=(FAST,)),
    Family("masked_bag", nets.MaskedBag, padded_text, {"tokens": TIME}, SIZES, SECOND, curves=(CE,)),
    Family("encoder", nets.Encoder, padded_text, {"tokens": TIME}, SIZES, SECOND, curves=(CE,)),
    Family("encoder_norm_first", lambda: nets.Encoder(norm_first=True), padded_text, {"tokens": TIME}, SIZES, SECOND, curves=(CE,)),
    Family("torch_encoder", lambda: nets.Encoder(torch_layers=True), padded_text, {"tokens": TIME}, SIZES, SECOND, curves=(CE,)),
    Family(
        "torch_encoder_fixed",
        lambda: nets.Encoder(True, True),
        padded_text,
        {"tokens": {0: "batch"}},
        SIZES,
        {"batch": 2, "time": 6},
        curves=(CE,),
    ),
    Family("causal_lm", nets.CausalLm, text(14), {"tokens": TIME}, SIZES, SECOND, curves=(TOKENS,), output_dynamic=STEPS),
    Family(
        "causal_lm_tied",
        lambda: nets.CausalLm(tied=True),
        text(14),
        {"tokens": TIME},
        SIZES,
        SECOND,
        curves=(TOKENS,),
        output_dynamic=STEPS,
    ),
    Family(
        "causal_lm_sdpa",
        lambda: nets.CausalLm(fused=True),
        text(14),
        {"tokens": TIME},
        SIZES,
        SECOND,
        curves=(TOKENS,),
        output_dynamic=STEPS,
    ),
    Family(
        "cross_attention",
        nets.Attention,
        cross,
        {"x": TIME, "memory": {0: "batch", 1: "other"}, "there": {0: "batch", 1: "other"}},
        {"batch": 4, "time": 5, "other": 7},
        {"batch": 2, "time": 8, "other": 3},
        curves=(TOKENS,),
        output_dynamic=STEPS,
    ),  # fmt: skip
    Family("shapes", nets.ShapeArithmetic, steps(6), {"x": TIME}, {"batch": 4, "time": 6}, {"batch": 2, "time": 9}, curves=(CE,)),
]

FIXED = "nn.MultiheadAttention: the TorchScript exporter freezes the sequence length, so only the batch is dynamic"
TIED = "exported without constant folding, which would make a transposed copy of the shared embedding"
CASES = [
    Case("conv1d", "torchscript", 13, "preserve"),
    Case("conv1d_unpooled", "dynamo", 20, fold=False),
    Case("autoencoder1d", "torchscript", 14),
    Case("autoencoder1d", "dynamo", 18),
    Case("lstm", "torchscript", 13),
    Case("lstm", "dynamo", 16),
    Case("lstm", "dynamo", 18),
    Case("bilstm_last", "torchscript", 14),
    Case("bilstm", "torchscript", 16),
    Case("bilstm", "dynamo", 21),
    Case("gru", "torchscript", 14),
    Case("gru", "dynamo", 18),
    Case("bigru", "torchscript", 17),
    Case("bigru", "dynamo", 20),
    Case("gru_no_bias", "torchscript", 13),
    Case("rnn", "torchscript", 17),
    Case("lstm_lengths", "torchscript", 13),
    Case("bilstm_lengths", "torchscript", 17),
    Case("bigru_lengths", "torchscript", 16),
    Case("rnn_lm", "torchscript", 16),
    Case("rnn_lm", "dynamo", 18),
    Case("bags", "torchscript", 13),
    Case("bags", "dynamo", 18),
    Case("offset_bags", "torchscript", 16),
    Case("offset_bags", "dynamo", 18),
    Case("max_bags", "torchscript", 14),
    Case("max_bags", "torchscript", 18),
    Case("max_bags", "dynamo", 21),
    Case("weighted_bags", "torchscript", 15),
    Case("weighted_bags", "torchscript", 20, fold=False),
    Case("weighted_bags", "dynamo", 20),
    Case("ended_bags", "torchscript", 17),
    Case("ended_bags", "torchscript", 19),
    Case("ended_bags", "dynamo", 18),
    Case("ended_max_bags", "dynamo", 19),
    Case("empty_bags", "dynamo", 18),
    Case("empty_max_bags", "dynamo", 18),
    Case("padded_bags", "dynamo", 18),
    Case("padded_max_bags", "dynamo", 20),
    Case("padded_sum_bags", "dynamo", 18),
    Case("grid_bags", "torchscript", 18),
    Case("grid_bags", "dynamo", 18),
    Case("grid_weighted_bags", "torchscript", 13),
    Case("grid_weighted_bags", "dynamo", 21),
    Case("grid_padded_bags", "dynamo", 18),
    Case("grid_fixed_bags", "torchscript", 16),
    Case("grid_fixed_bags", "dynamo", 18),
    Case("masked_bag", "torchscript", 13),
    Case("masked_bag", "dynamo", 21),
    Case("encoder", "torchscript", 13),
    Case("encoder", "torchscript", 17),
    Case("encoder", "dynamo", 17),
    Case("encoder", "dynamo", 18),
    Case("encoder", "dynamo", 20),
    Case("encoder_norm_first", "torchscript", 14),
    Case("encoder_norm_first", "dynamo", 21),
    Case(
        "encoder",
        "torchscript",
        17,
        "training",
        suffix="_training",
        note="dropout in training mode; the outputs are those of inference mode",
    ),
    Case("torch_encoder", "dynamo", 18),
    Case("torch_encoder", "dynamo", 21),
    Case("torch_encoder_fixed", "torchscript", 14, note=FIXED),
    Case("torch_encoder_fixed", "torchscript", 17, note=FIXED),
    Case("causal_lm", "torchscript", 14),
    Case("causal_lm", "torchscript", 20),
    Case("causal_lm", "dynamo", 18),
    Case("causal_lm", "dynamo", 21),
    Case("causal_lm_tied", "torchscript", 17, fold=False, note=TIED),
    Case("causal_lm_tied", "dynamo", 18, suffix="_untied", curves=False, note="folding made a transposed copy of the shared embedding"),
    Case("causal_lm_sdpa", "torchscript", 17),
    Case("causal_lm_sdpa", "dynamo", 20),
    Case("cross_attention", "torchscript", 16),
    Case("cross_attention", "dynamo", 18),
    Case("shapes", "torchscript", 13),
    Case("shapes", "torchscript", 17, fold=False, suffix="_unfolded"),
    Case("shapes", "dynamo", 18),
    Case("shapes", "dynamo", 21),
]
