"""Graph convolutions."""

import torch

from ..architectures import graphs as nets
from ..data import classes, grid
from ..family import Case, Curve, Family

CE = (Curve([{"loss": "cross_entropy", "output": "y", "target": "label"}], {"kind": "sgd", "lr": 0.2}),)


def dense(g, sizes):
    batch, nodes = sizes["batch"], sizes["nodes"]
    upper = torch.triu(classes(g, 2, batch, nodes, nodes), diagonal=1)
    adjacency = (upper + upper.transpose(1, 2)).float()
    return {"x": grid(g, batch, nodes, 4), "adjacency": adjacency}, {"label": classes(g, 3, batch)}


def edges(g, sizes):
    """Edges at random; some come twice, some nodes have none."""
    nodes = sizes["nodes"]
    return {"x": grid(g, nodes, 4), "edges": classes(g, nodes, 2, sizes["edges"])}, {"label": classes(g, 3, nodes)}


def by_edges(name, how):
    return Family(
        name, lambda: nets.EdgeGcn(how), edges, {"x": {0: "nodes"}, "edges": {1: "edges"}},
        {"nodes": 7, "edges": 15}, {"nodes": 4, "edges": 9}, curves=CE, output_dynamic={"y": {0: "nodes"}},
    )  # fmt: skip


SQUARE = {"x": {0: "batch", 1: "nodes"}, "adjacency": {0: "batch", 1: "nodes", 2: "nodes"}}
FAMILIES = [
    Family("gcn_dense", nets.DenseGcn, dense, SQUARE, {"batch": 4, "nodes": 5}, {"batch": 2, "nodes": 8}, curves=CE),
    by_edges("gcn_scatter", "scatter_add"),
    by_edges("gcn_index_add", "index_add"),
    by_edges("gcn_index_put", "index_put"),
]

# The TorchScript exporter leaves the reduction out of index_add and index_put(accumulate=True): its files lose repeated edges.
CASES = [
    Case("gcn_dense", "torchscript", 13),
    Case("gcn_dense", "dynamo", 18),
    Case("gcn_scatter", "torchscript", 16),
    Case("gcn_scatter", "torchscript", 18),
    Case("gcn_scatter", "dynamo", 17),
    Case("gcn_scatter", "dynamo", 18),
    Case("gcn_index_add", "dynamo", 20),
    Case("gcn_index_put", "dynamo", 21),
]
