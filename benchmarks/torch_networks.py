"""The networks of networks.py in PyTorch, in the better of two layouts, as JSON.

python benchmarks/torch_networks.py STRIDE BATCH THREADS REPEATS

For a Python that has PyTorch, which nothing else of jaxseg needs. A STRIDE makes a ResNet-50 of
that output stride, 0 a ViT-S/8; images have 224 x 224 pixels.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class Bottleneck(nn.Module):
    """A residual block of ResNet-50."""

    def __init__(self, wide: int, inner: int, stride: int, dilation: int):
        super().__init__()

        def conv(before: int, after: int, kernel: int, stride: int = 1, dilation: int = 1):
            pad = dilation * (kernel // 2)
            layer = nn.Conv2d(before, after, kernel, stride, pad, dilation, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(after))

        self.one, self.two = conv(wide, inner, 1), conv(inner, inner, 3, stride, dilation)
        self.three = conv(inner, 4 * inner, 1)
        changes = stride > 1 or wide != 4 * inner
        self.skip = conv(wide, 4 * inner, 1, stride) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.two(self.one(x).relu_()).relu_()
        return (self.three(y) + self.skip(x)).relu_()


def resnet50(stride: int) -> nn.Module:
    """Returns res2 to res5, of which those beyond the output stride dilate."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    wide, reached, dilation = 64, 4, 1
    for i, count in enumerate((3, 4, 6, 3)):
        before, halve = dilation, i > 0 and reached < stride
        if halve:
            reached *= 2
        elif i > 0:
            dilation *= 2
        for j in range(count):
            step, dilated = (2 if halve else 1, before) if j == 0 else (1, dilation)
            layers.append(Bottleneck(wide, 64 * 2**i, step, dilated))
            wide = 256 * 2**i
    return nn.Sequential(*layers)


class Block(nn.Module):
    """A transformer block of ViT-S."""

    def __init__(self, width: int = 384, heads: int = 6):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(b, n, d)
        x = x + self.out(mixed)
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class VisionTransformer(nn.Module):
    """ViT-S/8 for 224 x 224 pixels: patch tokens after the last norm."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 384, 8, 8)
        self.cls, self.positions = (nn.Parameter(torch.zeros(1, n, 384)) for n in (1, 785))
        self.blocks, self.norm = nn.Sequential(*[Block() for _ in range(12)]), nn.LayerNorm(384)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        return self.norm(self.blocks(x))[:, 1:]


def clock(function: Callable[[], object], repeats: int) -> float:
    """Returns the median seconds of a call, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def measure(model: nn.Module, image: torch.Tensor, repeats: int) -> dict[str, float]:
    """Returns the seconds of a pass forward in training mode, and of one with the gradient."""

    def forward() -> None:
        with torch.no_grad():
            (model(image) ** 2).mean()

    def gradient() -> None:
        model.zero_grad()
        (model(image) ** 2).mean().backward()

    return {"forward": clock(forward, repeats), "gradient": clock(gradient, repeats)}


def main() -> None:
    stride, batch, threads, repeats = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = (resnet50(stride) if stride else VisionTransformer()).to(memory_format=layout)
        image = torch.randn(batch, 3, 224, 224).contiguous(memory_format=layout)
        found.append(measure(model, image, repeats))
    print(json.dumps({part: min(times[part] for times in found) for part in found[0]}))


if __name__ == "__main__":
    main()
