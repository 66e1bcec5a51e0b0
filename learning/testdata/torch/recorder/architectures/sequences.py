"""Networks over sequences: 1-D convolutions, recurrent ones, embeddings, transformers."""

import torch
import torch.nn.functional as F
from torch import nn


class Conv1dNet(nn.Module):
    """Dilated, grouped and strided convolutions, [batch, 4, time] -> [batch, 3].

    `pooled`: with MaxPool1d, which makes torch.export fix the time.
    """

    def __init__(self, pooled=True):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(4, 8, 3, dilation=2, padding=2), nn.BatchNorm1d(8)
        self.conv2, self.bn2 = nn.Conv1d(8, 8, 3, groups=4, padding=1, bias=False), nn.BatchNorm1d(8)
        self.conv3 = nn.Conv1d(8, 10, 5, stride=2, padding=2)
        self.pool = nn.MaxPool1d(2) if pooled else nn.Identity()
        self.average, self.fc = nn.AdaptiveAvgPool1d(1), nn.Linear(10, 3)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        return self.fc(self.average(F.relu(self.conv3(x))).squeeze(2))


class Deconv1d(nn.Module):
    """[batch, 3, time] to itself (time a multiple of 4) by ConvTranspose1d: grouped, dilated, padded."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv1d(3, 6, 4, 2, 1), nn.Conv1d(6, 8, 4, 2, 1)
        self.up1, self.up2 = nn.ConvTranspose1d(8, 6, 4, 2, 1, groups=2), nn.ConvTranspose1d(6, 4, 3, 2, 1, output_padding=1)
        self.up3 = nn.ConvTranspose1d(4, 3, 3, padding=2, dilation=2)

    def forward(self, x):
        x = F.relu(self.down2(F.relu(self.down1(x))))
        return self.up3(F.relu(self.up2(F.relu(self.up1(x)))))


class Recurrent(nn.Module):
    """RNN, LSTM or GRU over [batch, time, 5] -> [batch, 3]: the last state of each direction."""

    def __init__(self, kind, layers=1, bidirectional=False, **more):
        super().__init__()
        self.rnn = kind(5, 6, layers, batch_first=True, bidirectional=bidirectional, **more)
        self.fc = nn.Linear(12 if bidirectional else 6, 3)
        self.directions = 2 if bidirectional else 1

    def forward(self, x):
        _, state = self.rnn(x)
        state = state[0] if isinstance(state, tuple) else state
        last = state[-self.directions :]
        return self.fc(last.transpose(0, 1).flatten(1))


class EveryStep(nn.Module):
    """The same over all the outputs: their mean over time, [batch, time, 5] -> [batch, 3]; time comes first inside."""

    def __init__(self, kind, **more):
        super().__init__()
        self.rnn = kind(5, 6, 2, bidirectional=True, **more)
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        h, _ = self.rnn(x.transpose(0, 1))
        return self.fc(h.mean(dim=0))


class Packed(nn.Module):
    """[batch, time, 5] and lengths [batch] (falling) -> [batch, 3], by pack_padded_sequence: sequence_lens in ONNX."""

    def __init__(self, kind, bidirectional):
        super().__init__()
        self.rnn = kind(5, 6, batch_first=True, bidirectional=bidirectional)
        width = 12 if bidirectional else 6
        self.fc = nn.Linear(2 * width, 3)
        self.width = width

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=True)
        h, state = self.rnn(packed)
        h, _ = nn.utils.rnn.pad_packed_sequence(h, batch_first=True)
        state = state[0] if isinstance(state, tuple) else state
        last = state.transpose(0, 1).reshape(-1, self.width)
        return self.fc(torch.cat([h.sum(dim=1), last], dim=1))


class RnnLm(nn.Module):
    """tokens int64 [batch, time] -> logits [batch, time, 16]."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(16, 6), nn.LSTM(6, 8, 2, batch_first=True), nn.Linear(8, 16)

    def forward(self, tokens):
        h, _ = self.rnn(self.embed(tokens))
        return self.out(h)


class Bags(nn.Module):
    """tokens int64 [batch, time] -> [batch, 3] by two embedding bags of fixed length: mean and sum."""

    def __init__(self):
        super().__init__()
        self.mean, self.sum = nn.EmbeddingBag(12, 6, mode="mean"), nn.EmbeddingBag(12, 4, mode="sum")
        self.fc = nn.Linear(10, 3)

    def forward(self, tokens):
        return self.fc(torch.cat([self.mean(tokens), self.sum(tokens)], dim=1))


class OffsetBags(nn.Module):
    """tokens int64 [total] and offsets int64 [batch] -> [batch, 3]."""

    def __init__(self, mode="mean"):
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(12, 6, mode=mode), nn.Linear(6, 3)

    def forward(self, tokens, offsets):
        return self.fc(self.bag(tokens, offsets))


class Bag(nn.Module):
    """tokens int64 [total], offsets int64 [batch] (or with the end, [batch + 1]) and weights [total] -> [batch, 3]: any one bag."""

    def __init__(self, **settings):
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(12, 6, **settings), nn.Linear(6, 3)

    def forward(self, tokens, offsets=None, weights=None):
        return self.fc(self.bag(tokens, offsets, weights))


class WeightedGrid(nn.Module):
    """tokens int64 and weights [batch, time] -> [batch, 3]: the sum of each row, weighted."""

    def __init__(self):
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(12, 6, mode="sum"), nn.Linear(6, 3)

    def forward(self, tokens, weights):
        return self.fc(self.bag(tokens, per_sample_weights=weights))


class MaskedBag(nn.Module):
    """tokens int64 [batch, time], 0 for none -> [batch, 3]: an embedding bag written as a masked mean, a sum and a maximum."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Embedding(12, 5), nn.Linear(15, 3)

    def forward(self, tokens):
        there = (tokens != 0).unsqueeze(-1)
        rows = self.embed(tokens)
        total = (rows * there.to(rows.dtype)).sum(dim=1)
        mean = total / there.sum(dim=1).clamp(min=1).to(rows.dtype)
        top = rows.masked_fill(~there, -1e4).max(dim=1).values
        return self.fc(torch.cat([mean, total, top], dim=1))


class EncoderLayer(nn.Module):
    """Vaswani et al. 2017, with the mask by masked_fill; norm after (or before) each half."""

    def __init__(self, width, heads, norm_first):
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(0.1)
        self.heads, self.norm_first = heads, norm_first

    def attention(self, x, padding):
        batch, time, width = x.shape
        q, k, v = (layer(x).view(batch, time, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = torch.matmul(q, k.transpose(2, 3)) / (width // self.heads) ** 0.5
        weights = scores.masked_fill(padding[:, None, None, :], float("-inf")).softmax(dim=-1)
        return self.drop(self.proj(torch.matmul(weights, v).transpose(1, 2).reshape(batch, time, width)))

    def feed_forward(self, x):
        return self.down(self.drop(F.gelu(self.up(x))))

    def forward(self, x, padding):
        if self.norm_first:
            x = x + self.attention(self.norm1(x), padding)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attention(x, padding))
        return self.norm2(x + self.feed_forward(x))


class Encoder(nn.Module):
    """tokens int64 [batch, time], 0 is padding -> [batch, 3], with learned positions; `torch_layers`: nn.TransformerEncoder."""

    def __init__(self, norm_first=False, torch_layers=False):
        super().__init__()
        self.embed, self.positions = nn.Embedding(12, 8), nn.Embedding(16, 8)
        self.torch_layers = torch_layers
        if torch_layers:
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=norm_first)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        else:
            self.layers = nn.ModuleList([EncoderLayer(8, 2, norm_first) for _ in range(2)])
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, tokens):
        padding = tokens == 0
        x = self.embed(tokens) + self.positions(torch.arange(tokens.shape[1]))
        if self.torch_layers:
            x = self.layers(x, src_key_padding_mask=padding)
        else:
            for layer in self.layers:
                x = layer(x, padding)
        kept = (~padding).unsqueeze(-1).to(x.dtype)
        return self.fc((self.norm(x) * kept).sum(dim=1) / kept.sum(dim=1))


class CausalBlock(nn.Module):
    """Radford et al. 2019: norm first, one projection for query, key and value, a causal mask."""

    def __init__(self, width, heads, fused):
        super().__init__()
        self.norm1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.heads, self.fused = heads, fused

    def attention(self, x):
        batch, time, width = x.shape
        q, k, v = (t.view(batch, time, self.heads, width // self.heads).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mask = torch.tril(torch.ones(time, time, dtype=torch.bool))
            scores = q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5
            mixed = torch.softmax(torch.where(mask, scores, float("-inf")), dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(batch, time, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class CausalLm(nn.Module):
    """tokens int64 [batch, time] -> logits [batch, time, 14]; `tied`: the embedding is the output layer too."""

    def __init__(self, tied=False, fused=False):
        super().__init__()
        self.embed, self.positions = nn.Embedding(14, 8), nn.Embedding(16, 8)
        self.blocks = nn.ModuleList([CausalBlock(8, 2, fused) for _ in range(2)])
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 14, bias=False)
        if tied:
            self.out.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


class Attention(nn.Module):
    """Two inputs [batch, time, 8] and [batch, other, 8], and a boolean mask [batch, other] -> [batch, time, 3]: cross-attention."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x, memory, there):
        q, k, v = (layer(t).unflatten(-1, (2, 4)).transpose(1, 2) for layer, t in ((self.q, x), (self.k, memory), (self.v, memory)))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None, :])
        return self.out(mixed.transpose(1, 2).flatten(2))


class ShapeArithmetic(nn.Module):
    """[batch, time, 6] (time at least 4) -> [batch, 4]: what models do with shapes, indices and masks."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 4), nn.Linear(8, 4)
        self.start = nn.Parameter(0.1 * torch.randn(1, 1, 8))

    def forward(self, x):
        batch, time, _ = x.shape
        h = torch.cat([self.start.expand(batch, -1, -1), torch.tanh(self.a(x))], dim=1)
        left, right = h.chunk(2, dim=-1)
        both = torch.stack([left, right.flip(1)], dim=2).reshape(batch, time + 1, 8)
        front, back = torch.split(both, [3, 5], dim=-1)
        both = torch.cat([back, front], dim=-1)
        shifted = F.pad(both, (0, 0, 1, 0))[:, :-1]
        running = torch.cumsum(shifted, dim=1) / torch.arange(1, time + 2, dtype=x.dtype).view(1, -1, 1)
        steps = torch.arange(time + 1).unsqueeze(0).repeat(batch, 1)
        odd = (steps % 2 == 1).unsqueeze(-1)
        mixed = torch.where(odd, running, both * 0.5)
        best, _ = torch.topk(mixed[:, 1::2], 2, dim=1)
        narrow = mixed.narrow(1, time - 3, 3)[:, ::2, :4]
        lowest = torch.minimum(self.b(narrow).amin(dim=1), torch.full((batch, 4), 0.3))
        return self.c(best.mean(dim=1) + mixed.select(1, -1)) + lowest + torch.zeros(batch, 4).masked_fill(lowest > 0, 0.25)
