"""The decoder network: HNeRV, and HFS-HNeRV where HFSCM and MSFRP are switched on.

Its content encoder, which the file does not hold, is in :mod:`nervcodec.models.content_encoder`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import RGB
from nervcodec.models.blocks import Conv, Stage


class HnervDecoder(nn.Module):
    """Embedding of a frame to the frame (HNeRV section 3; paper Figure 2).

    Args:
        spec: the network's shape.
        width, height: size of the frames; the maps are cropped to it at the bottom and right.

    Parameters have the names and shapes of
    :func:`nervcodec.bitstream.tensors.tensor_specs`, without the embedding.
    """

    def __init__(self, spec: ModelSpec, width: int, height: int) -> None:
        super().__init__()
        self.width, self.height = width, height
        self.msfrp_stage = spec.msfrp_stage
        self.stem = Conv(spec.embedding_channels, spec.stem_channels, 1)
        stages, channels = [], spec.stem_channels
        for index, stage in enumerate(spec.stages):
            stages.append(Stage(channels, stage, spec.hfscm))
            channels = stage.channels
            if index == spec.msfrp_stage:
                self.msfrp = Conv(channels, RGB, 1)
        self.stages = nn.ModuleList(stages)
        self.head = Conv(channels, RGB, spec.head_kernel)

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, C, h, w) to RGB in 0..1, (B, 3, H, W)."""
        x = F.gelu(self.stem(embedding))
        reused = None
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index == self.msfrp_stage:
                reused = self.msfrp(x)  # (B, 3, H / s, W / s)
        logits: Tensor = self.head(x)
        if reused is not None:
            logits = logits + F.interpolate(
                reused, size=logits.shape[2:], mode="bilinear", align_corners=False
            )
        return 0.5 * torch.tanh(logits[:, :, : self.height, : self.width]) + 0.5
