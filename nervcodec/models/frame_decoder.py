"""The decoder network: NeRV, E-NeRV and HNeRV, and with HFSCM and MSFRP HFS-HNeRV.

HNeRV's content encoder, which the file does not hold, is in
:mod:`nervcodec.models.content_encoder`; what the others see of a frame is in
:mod:`nervcodec.models.positions`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import MIXERS, RGB
from nervcodec.models.blocks import Conv, Stage
from nervcodec.models.mixing import GridMixer
from nervcodec.models.operations import TORCH
from nervcodec.models.positions import grid_positions


class FrameDecoder(nn.Module):
    """What the file holds of a frame, or the frame's time, to the frame.

    Args:
        spec: the network's shape.
        width, height: size of the frames; the maps are cropped to it at the bottom and right.

    Parameters have the names and shapes of
    :func:`nervcodec.bitstream.tensors.tensor_specs`, without the embedding.
    """

    operations = TORCH

    def __init__(self, spec: ModelSpec, width: int, height: int) -> None:
        super().__init__()
        self.width, self.height = width, height
        self.spec, self.grid_size = spec, spec.grid(width, height)
        self.msfrp_stage = spec.msfrp_stage
        self._add_stem(spec)
        stages, channels = [], spec.stem_channels
        for index in range(len(spec.stages)):
            stages.append(Stage(channels, spec, index))
            channels = spec.stages[index].channels
            if index == spec.msfrp_stage:
                self.msfrp = Conv(channels, RGB, 1)
        self.stages = nn.ModuleList(stages)
        self.head = Conv(channels, RGB, spec.head_kernel)

    def _add_stem(self, spec: ModelSpec) -> None:
        channels, (rows, columns) = spec.stem_channels, self.grid_size
        if spec.time is None:
            self.stem = Conv(spec.embedding_channels, channels, 1)
            return
        inputs, block = 2 * spec.time.levels, spec.transformer
        if spec.time.hidden:
            self.time = Conv(inputs, spec.time.hidden, 1)
        outputs = channels * rows * columns if block is None else channels
        self.stem = Conv(spec.time.hidden or inputs, outputs, 1)
        if block is not None:
            self.grid = Conv(2 * inputs, channels, 1)
            self.mixers = nn.ModuleList(GridMixer(channels, block) for _ in range(MIXERS))
            self.modulation = nn.ModuleList(
                (Conv(inputs, block.modulation, 1), Conv(block.modulation, block.modulation, 1))
            )

    def first_map(self, source: Tensor) -> Tensor:
        """(B, stem channels, h, w) of the embedding or of the encoded time (B, 2 levels, 1, 1)."""
        spec = self.spec
        if spec.time is not None and spec.time.hidden:
            x = self.stem(F.gelu(self.time(source)))
        else:
            x = self.stem(source)
        if spec.time is None:
            return F.gelu(x)
        if spec.transformer is None:
            return F.gelu(x.reshape(len(x), spec.stem_channels, *self.grid_size))
        places = grid_positions(*self.grid_size, spec.time).to(x)
        mixed = self.mixers[0](F.gelu(self.grid(places)))
        out: Tensor = self.mixers[1](mixed * x)
        return out

    def _modulation(self, source: Tensor) -> Tensor | None:
        """E-NeRV's branch of time, (B, modulation, 1, 1)."""
        if self.spec.transformer is None:
            return None
        first, second = self.modulation
        return F.gelu(second(F.gelu(first(source))))

    def forward(self, source: Tensor, detail: Tensor | None = None) -> Tensor:
        """The embedding (B, C, h, w), or the encoded time (B, 2 levels, 1, 1), to RGB in 0..1.

        ``detail`` is the second embedding of a network that has one, on
        :meth:`~nervcodec.bitstream.syntax.ModelSpec.detail_grid`. The result is (B, 3, H, W).
        """
        x, modulation = self.first_map(source), self._modulation(source)
        reused = None
        for index, stage in enumerate(self.stages):
            x = stage(x, modulation, detail)
            if index == self.msfrp_stage:
                reused = self.msfrp(x)  # (B, 3, H / s, W / s)
        logits: Tensor = self.head(x)
        if reused is not None:
            reused = self.operations.upsampled(reused, logits.shape[3] // reused.shape[3])
            if not self.spec.msfrp_after:
                logits = logits + reused
        rgb = self.operations.in_range(logits[:, :, : self.height, : self.width])
        if reused is None or not self.spec.msfrp_after:
            return rgb
        return (rgb + reused[:, :, : self.height, : self.width]).clamp(0, 1)
