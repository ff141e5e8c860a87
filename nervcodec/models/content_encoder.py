"""HNeRV's content encoder: a small ConvNeXt from a frame to its embedding; never in a file.

What it gives is decoded by :mod:`nervcodec.models.frame_decoder`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import RGB
from nervcodec.models.blocks import Conv
from nervcodec.models.operations import TORCH

KERNEL = 7
LAYER_SCALE = 1e-6
WEIGHT_STD = 0.02
STAGE_LAYERS = 3
"""Convolution, norm and block."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, H, W)."""

    operations = TORCH

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        return self.operations.channel_norm(input, self.weight, self.bias)


class Downsampling(nn.Conv2d):
    """Convolution whose kernel is its stride: one sum a place of the smaller map."""

    operations = TORCH

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride, stride=stride)

    def forward(self, input: Tensor) -> Tensor:
        assert self.bias is not None
        parts = F.pixel_unshuffle(input, self.stride[0])
        return self.operations.convolve(parts, self.weight.flatten(1)[:, :, None, None], self.bias)


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, expansion with GELU, layer scale, residual (ConvNeXt)."""

    operations = TORCH

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = Conv(channels, channels, KERNEL, groups=channels)
        self.norm = ChannelNorm(channels)
        self.expand = Conv(channels, expansion * channels, 1)
        self.project = Conv(expansion * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.project(self.operations.gelu(self.expand(self.norm(self.depthwise(x)))))
        out: Tensor = x + self.scale * inner
        return out


class ContentEncoder(nn.Module):
    """One downsampling convolution (kernel = stride) and one ConvNeXt block a stage.

    Frames (B, 3, H, W) in 0..1 are extended to a multiple of the total stride by repeating the
    last row and column; the result is (B, embedding channels, h, w) and, for a network with a
    second embedding, the first stage's map averaged over each of its places, and a 1x1 convolution.

    Args:
        spec: of the network that its results are for.
        width, height: size of the frames.
        channels: of every stage but the last.
        expansion: of the channels inside a block.
    """

    def __init__(
        self, spec: ModelSpec, width: int, height: int, channels: int, expansion: int
    ) -> None:
        super().__init__()
        rows, columns = spec.grid(width, height)
        self.extend = (columns * spec.total_stride - width, rows * spec.total_stride - height)
        widths = [channels] * (len(spec.stages) - 1) + [spec.embedding_channels]
        layers: list[nn.Module] = []
        inputs = RGB
        for stage, outputs in zip(spec.stages, widths, strict=True):
            down = Downsampling(inputs, outputs, stage.stride)
            norm = ChannelNorm(inputs if layers else outputs)
            layers += [norm, down] if layers else [down, norm]
            layers.append(ConvNextBlock(outputs, expansion))
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.detail = None
        if spec.detail is not None:
            self.detail_grid = spec.detail_grid(width, height)
            self.detail = Conv(widths[0], spec.detail.channels, 1)
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
