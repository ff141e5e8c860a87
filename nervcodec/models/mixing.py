"""E-NeRV's attention over the places of a grid; :mod:`nervcodec.models.frame_decoder` uses it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nervcodec.bitstream.syntax import TransformerSpec
from nervcodec.models.blocks import Conv


class GridMixer(nn.Module):
    """Self-attention over all places of a map, then two layers at each, both residual.

    Input and output are (B, C, h, w). Without normalisation, as in E-NeRV's code.
    """

    def __init__(self, channels: int, spec: TransformerSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        inner = spec.heads * spec.head_width
        self.attend = Conv(channels, 3 * inner, 1)
        self.project = Conv(inner, channels, 1)
        self.expand = Conv(channels, spec.feed_forward, 1)
        self.reduce = Conv(spec.feed_forward, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, rows, columns = x.shape
        together = self.attend(x).reshape(batch, 3, self.heads, -1, rows * columns)
        query, key, value = together.transpose(3, 4).unbind(1)  # (B, heads, h w, head width)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.project(mixed.transpose(2, 3).reshape(batch, -1, rows, columns))
        out: Tensor = x + self.reduce(F.gelu(self.expand(x)))
        return out
