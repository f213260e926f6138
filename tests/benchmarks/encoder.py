"""A transformer encoder in plain torch: a source for ``test_encoder.py``, which trains it."""

import torch
from torch import nn

HEADS = 4


class Layer(nn.Module):
    """Pre-norm self-attention and feed-forward; ``[N, tokens, width]`` to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys = nn.Linear(width, width), nn.Linear(width, width)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.wide = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.before(x)
        queries, keys, values = (
            part(y).reshape(-1, y.shape[1], HEADS, y.shape[2] // HEADS).transpose(1, 2)
            for part in (self.queries, self.keys, self.values)
        )
        weights = torch.softmax(queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5, -1)
        x = x + self.out((weights @ values).transpose(1, 2).reshape(-1, y.shape[1], y.shape[2]))
        return x + self.wide(self.between(x))


class Encoder(nn.Module):
    """Images ``[N, 1, 8, 8]`` as 16 tokens of 2 x 2 pixels, to 10 logits."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.places = nn.Parameter(torch.zeros(1, 16, width))
        self.layers = nn.Sequential(*(Layer(width) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.places
        return self.head(self.layers(tokens).mean(1))


def make(width: int, depth: int) -> Encoder:
    return Encoder(width, depth)
