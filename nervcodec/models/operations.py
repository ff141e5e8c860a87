"""What a training spends its time on, one operation at a time, so that others can be put in place.

Modules of :mod:`nervcodec.models` reach these through their attribute ``operations``;
:func:`use` gives them :mod:`nervcodec.fast.operations`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervcodec.bitstream.tensors import BANDS

TILE_BYTES = 1 << 28
"""Working memory of one tile of a float64 convolution."""

NORM_EPSILON = 1e-6
"""Of the content encoder's norms: ConvNeXt's."""


class Operations:
    """As torch computes them. Maps are (B, C, H, W)."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor, groups: int = 1) -> Tensor:
        """Convolution of odd kernel with zero padding that keeps the map's size.

        In float64, where torch unfolds the whole map at once (9 GB for one 7x7 layer at 1280x640),
        the map is computed in tiles; each output value is the same sum.
        """
        if x.dtype == torch.float64:
            return _convolve_in_tiles(x, weight, bias, groups)
        return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2, groups=groups)

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(x)

    def shuffled_gelu(self, x: Tensor, stride: int) -> Tensor:
        """PixelShuffle and GELU."""
        return F.gelu(F.pixel_shuffle(x, stride))

    def upsampled(self, x: Tensor, stride: int) -> Tensor:
        """Bilinear resizing between the centres of samples."""
        factor = float(stride)
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    def upsampled_gelu(self, x: Tensor, stride: int) -> Tensor:
        """The same, and GELU."""
        return F.gelu(self.upsampled(x, stride))

    def in_range(self, logits: Tensor) -> Tensor:
        """``(1 + tanh(logits)) / 2``: samples from 0 to 1."""
        return 0.5 * torch.tanh(logits) + 0.5

    def gate(self, x: Tensor, logits: Tensor) -> Tensor:
        """``x * sigmoid(logits) + x``; ``logits`` has one channel, or as many as ``x``."""
        return x * torch.sigmoid(logits) + x

    def band_features(self, x: Tensor, phi: Tensor) -> Tensor:
        """GELU of :func:`lifted_bands`."""
        return F.gelu(lifted_bands(x, phi))

    def channel_norm(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Mean 0 and variance 1 over the channels, then a scale and a shift for each."""
        last = x.permute(0, 2, 3, 1)
        return F.layer_norm(last, scale.shape, scale, shift, NORM_EPSILON).permute(0, 3, 1, 2)


TORCH = Operations()


def use(network: nn.Module, operations: Operations) -> None:
    """Give ``operations`` to all modules of a network."""
    for module in network.modules():
        if hasattr(module, "operations"):
            setattr(module, "operations", operations)  # noqa: B010 (a plain attribute)


def _convolve_in_tiles(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    kernel = weight.shape[2]
    values = TILE_BYTES // (8 * kernel * kernel * channels)
    columns = max(1, min(width, values))
    rows = max(1, values // columns)
    padded = F.pad(x, [kernel // 2] * 4)
    out = x.new_empty(batch, len(weight), height, width)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            below, right = top + rows + kernel - 1, left + columns + kernel - 1
            tile = padded[:, :, top:below, left:right]
            out[:, :, top : top + rows, left : left + columns] = F.conv2d(
                tile, weight, bias, groups=groups
            )
    return out


def haar(x: Tensor) -> Tensor:
    """One Haar step with averages: (B, C, H, W) of even H, W to (B, 4, C, H/2, W/2).

    With a b / c d a 2x2 square, LL = (a+b+c+d)/4, HL = (a-b+c-d)/4, LH = (a+b-c-d)/4,
    HH = (a-b-c+d)/4, in this order.
    """
    a, b = x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2]
    c, d = x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2]
    top_sum, top_difference, bottom_sum, bottom_difference = a + b, a - b, c + d, c - d
    bands = (
        top_sum + bottom_sum,
        top_difference + bottom_difference,
        top_sum - bottom_sum,
        top_difference - bottom_difference,
    )
    return torch.stack(bands, dim=1) / 4


def upsampled_bands(x: Tensor) -> Tensor:
    """The four Haar bands of ``x`` back at its size: (B, C, H, W) to (B, 4, C, H, W).

    Odd sizes are extended by repeating the last row or column, and cropped afterwards.
    Upsampling is bilinear between sample centres (half-pixel, edges clamped).
    """
    batch, channels, height, width = x.shape
    even = F.pad(x, [0, width % 2, 0, height % 2], mode="replicate")
    bands = haar(even).flatten(1, 2)  # (B, 4C, H/2, W/2)
    full = F.interpolate(bands, scale_factor=2.0, mode="bilinear", align_corners=False)
    return full[:, :, :height, :width].reshape(batch, BANDS, channels, height, width)


def lifted_bands(x: Tensor, phi: Tensor) -> Tensor:
    """X and its four bands B_i = phi_i * Up2(Haar(X))_i + X: (B, C, H, W) to (B, 5C, H, W)."""
    bands = upsampled_bands(x) * phi.view(1, BANDS, 1, 1, 1)
    return torch.cat([x, (bands + x.unsqueeze(1)).flatten(1, 2)], dim=1)
