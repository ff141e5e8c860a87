"""HNeRV's content encoder: a small ConvNeXt from a frame to its embedding; never in a file.

What it gives is decoded by :mod:`nervcodec.models.frame_decoder`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervcodec.bitstream.syntax import ModelSpec

WIDTH = 64
EXPANSION = 4
KERNEL = 7
LAYER_SCALE = 1e-6
NORM_EPSILON = 1e-6
WEIGHT_STD = 0.02
STAGE_LAYERS = 3
"""Convolution, norm and block."""


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPSILON)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, 4x expansion with GELU, layer scale, residual (ConvNeXt)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, KERNEL, padding=KERNEL // 2, groups=channels)
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, EXPANSION * channels, 1)
        self.project = nn.Conv2d(EXPANSION * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.project(F.gelu(self.expand(self.norm(self.depthwise(x)))))
        out: Tensor = x + self.scale * inner
        return out


class ContentEncoder(nn.Module):
    """One downsampling convolution (kernel = stride) and one ConvNeXt block a stage.

    Frames (B, 3, H, W) in 0..1 are extended to a multiple of the total stride by repeating the
    last row and column; the result is (B, embedding channels, h, w) and, for a network with a
    second embedding, the first stage's map averaged over each of its places, and a 1x1 convolution.
    """

    def __init__(self, spec: ModelSpec, width: int, height: int) -> None:
        super().__init__()
        rows, columns = spec.grid(width, height)
        self.extend = (columns * spec.total_stride - width, rows * spec.total_stride - height)
        widths = [WIDTH] * (len(spec.stages) - 1) + [spec.embedding_channels]
        layers: list[nn.Module] = []
        channels = 3
        for stage, outputs in zip(spec.stages, widths, strict=True):
            down = nn.Conv2d(channels, outputs, stage.stride, stride=stage.stride)
            norm = ChannelNorm(channels if layers else outputs)
            layers += [norm, down] if layers else [down, norm]
            layers.append(ConvNextBlock(outputs))
            channels = outputs
        self.layers = nn.Sequential(*layers)
        self.detail = None
        if spec.detail is not None:
            self.detail_grid = spec.detail_grid(width, height)
            self.detail = nn.Conv2d(widths[0], spec.detail.channels, 1)
        self.apply(_initialise)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """The embedding, and the second one if the network has it."""
        right, bottom = self.extend
        padded = F.pad(frames, [0, right, 0, bottom], mode="replicate")
        first: Tensor = self.layers[:STAGE_LAYERS](padded)
        embedding: Tensor = self.layers[STAGE_LAYERS:](first)
        if self.detail is None:
            return (embedding,)
        return embedding, self.detail(F.adaptive_avg_pool2d(first, self.detail_grid))


def _initialise(module: nn.Module) -> None:
    """ConvNeXt's initialisation: truncated normal weights, zero biases."""
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=WEIGHT_STD)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
