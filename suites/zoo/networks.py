"""The three networks of the zoo, in plain torch modules. All take float32 images [N, 1, H, W] and
give float32 logits [N, 10].

They are written for export: fixed channel counts, no fused attention, and reshapes whose only
free axis is the batch, so that one definition gives both an ONNX and a TFLite graph.
"""

import torch
from torch import nn

CLASSES = 10


class Cnn(nn.Sequential):
    """Four 3x3 convolutions on 8x8 images, 35 thousand weights."""

    def __init__(self) -> None:
        super().__init__(
            *_conv(1, 16, kernel=3),
            *_conv(16, 32, kernel=3),
            *_conv(32, 32, kernel=3, stride=2),
            *_conv(32, 64, kernel=3, stride=2),
            nn.Flatten(),
            nn.Linear(64 * 2 * 2, CLASSES),
        )


class MobileNetV2(nn.Module):
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2), for one-channel images.

    The inverted residuals, strides and rounding to 8 channels are the paper's; as in its
    reference code, the last convolution keeps 1280 channels for widths below 1.
    """

    # expansion, channels at width 1, repeats, stride of the first
    SETTINGS = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, width: float = 0.35, dropout: float = 0.2) -> None:
        super().__init__()
        channels = _round_to_8(32 * width)
        layers: list[nn.Module] = [*_conv(1, channels, kernel=3, stride=2, activation=nn.ReLU6)]
        for expansion, base, repeats, first_stride in self.SETTINGS:
            out = _round_to_8(base * width)
            for stride in (first_stride, *[1] * (repeats - 1)):
                layers.append(InvertedResidual(channels, out, expansion, stride))
                channels = out
        layers += _conv(channels, 1280, kernel=1, activation=nn.ReLU6)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, CLASSES))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Expand (1x1), filter (3x3 depthwise), project (1x1, linear); skip where shapes allow."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += _conv(channels, hidden, kernel=1, activation=nn.ReLU6)
        layers += _conv(hidden, hidden, 3, stride=stride, groups=hidden, activation=nn.ReLU6)
        layers += _conv(hidden, out, kernel=1, activation=None)
        self.block = nn.Sequential(*layers)
        self.skip = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x) if self.skip else self.block(x)


class VisionTransformer(nn.Module):
    """Pre-norm vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929) with mean pooling.

    32x32 images in 4x4 patches: 64 tokens, so that matrix products make up nearly all its time.
    """

    def __init__(
        self, image: int = 32, patch: int = 4, width: int = 64, depth: int = 3, heads: int = 4
    ) -> None:
        super().__init__()
        self.tokens = (image // patch) ** 2
        self.width = width
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, self.tokens, width))
        self.blocks = nn.Sequential(*(Block(self.tokens, width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        patches = self.patches(image).reshape(-1, self.width, self.tokens).transpose(1, 2)
        return self.classifier(self.norm(self.blocks(patches + self.positions)).mean(1))


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each behind a layer norm and a skip."""

    def __init__(self, tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), Attention(tokens, width, heads))
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(x)
        return x + self.think(x)


class Attention(nn.Module):
    """Multi-head self-attention over [N, tokens, width], in plain matrix products and a softmax.

    Queries, keys and values are three layers, not one that is split: every tensor keeps four
    axes at most, which TFLite's quantizer and its delegates need.
    """

    def __init__(self, tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.width, self.heads = tokens, width, heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (self._split(f(x)) for f in (self.query, self.key, self.value))
        scale = (self.width // self.heads) ** -0.5
        weights = torch.softmax(torch.matmul(query * scale, key.transpose(2, 3)), dim=-1)
        mixed = torch.matmul(weights, value).transpose(1, 2)
        return self.project(mixed.reshape(-1, self.tokens, self.width))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """[N, tokens, width] to [N, heads, tokens, width / heads]."""
        shape = (-1, self.tokens, self.heads, self.width // self.heads)
        return x.reshape(shape).transpose(1, 2)


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Merge each batch norm into the convolution before it, in place; for inference only."""
    network.eval()
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(1, len(module)):
            if isinstance(module[i], nn.BatchNorm2d):
                convolution = module[i - 1]
                module[i - 1] = nn.utils.fusion.fuse_conv_bn_eval(convolution, module[i])
                module[i] = nn.Identity()
    return network


def _conv(
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> list[nn.Module]:
    """Convolution with "same" padding, batch norm, activation: flat, so that folding finds them."""
    padding = kernel // 2
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return layers + ([activation()] if activation else [])


def _round_to_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8 and never below 90 % of the number asked for."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
