"""Graph convolutions, Kipf and Welling 2017: with a dense adjacency matrix and with a list of edges."""

import torch
from torch import nn


class DenseGcn(nn.Module):
    """x [batch, nodes, 4] and adjacency [batch, nodes, nodes] -> [batch, 3]."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x, adjacency):
        a = adjacency + torch.eye(adjacency.shape[1], dtype=x.dtype)
        scale = a.sum(dim=-1).pow(-0.5)
        a = scale.unsqueeze(-1) * a * scale.unsqueeze(-2)
        x = torch.relu(a @ self.fc1(x))
        x = torch.relu(torch.einsum("bij,bjf->bif", a, self.fc2(x)))
        return self.out(x.mean(dim=1))


class EdgeGcn(nn.Module):
    """x [nodes, 4] and edges int64 [2, edges] -> [nodes, 3]; messages are added by `how`."""

    def __init__(self, how):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 3)
        self.how = how

    def gather(self, messages, to, nodes):
        zeros = torch.zeros(nodes, messages.shape[1], dtype=messages.dtype)
        if self.how == "index_add":
            return zeros.index_add(0, to, messages)
        if self.how == "index_put":
            return zeros.index_put((to,), messages, accumulate=True)
        return zeros.scatter_add(0, to.unsqueeze(1).expand_as(messages), messages)

    def layer(self, linear, x, edges):
        source, to = edges[0], edges[1]
        h = linear(x)
        degree = self.gather(torch.ones_like(to, dtype=x.dtype).unsqueeze(1), to, x.shape[0]) + 1
        norm = degree.rsqrt()
        messages = h.index_select(0, source) * norm[source] * norm[to]
        return self.gather(messages, to, x.shape[0]) + h / degree

    def forward(self, x, edges):
        return self.layer(self.fc2, torch.relu(self.layer(self.fc1, x, edges)), edges)
