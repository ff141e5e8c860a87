"""Building blocks of the decoder: convolution, upsampling stage, and HFSCM.

:mod:`nervcodec.models.frame_decoder` puts them together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervcodec.bitstream.syntax import Attention, HfscmSpec, ModelSpec
from nervcodec.bitstream.tensors import (
    BANDS,
    DETAIL_KERNEL,
    WIDEN_KERNEL,
    attention_conv,
    attention_width,
)
from nervcodec.models.operations import TORCH, lifted_bands

NORM_EPSILON = 1e-5
"""Added to a variance, as torch does by default."""


def channels_last(module: nn.Module) -> None:
    """Lay convolution weights out channels last, which is faster on CPUs and GPUs alike."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Conv(nn.Conv2d):
    """Convolution of odd kernel with zero padding that keeps the map's size."""

    operations = TORCH

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        assert self.bias is not None
        return self.operations.convolve(input, self.weight, self.bias, self.groups)


def standardised(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """``x`` with mean 0 and variance 1 over ``axes``; a map that does not vary becomes 0."""
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + NORM_EPSILON)


class Hfscm(nn.Module):
    """High-frequency spectrum convolution module (paper section 3.2): attention, convs, residual.

    Input and output are (B, C, H, W). With r the reduction and k the kernel::

        F2 = F1 * sigmoid(W2 gelu(W1 F1)) + F1                 channel attention, per pixel
        X  = Conv_k(F2)                                        C -> ceil(C/r)
        B_i = phi_i * Up2(Haar(X))_i + X                       i = LL, HL, LH, HH
        F3 = F2 * sigmoid(Conv_k(gelu(norm([X, B_LL, B_HL, B_LH, B_HH])))) + F2
        out = Convs(gelu(F3)) + F1                             gelu before each extra conv

    ``norm`` does nothing, or makes mean 0 and variance 1 of all values of a frame's map.
    """

    operations = TORCH

    def __init__(self, channels: int, spec: HfscmSpec) -> None:
        super().__init__()
        inner = attention_width(channels, spec.reduction)
        width, groups = attention_conv(spec, channels)
        self.attention, self.norm = spec.attention, spec.norm
        self.channel_reduce = Conv(channels, inner, 1)
        self.channel_expand = Conv(inner, channels, 1)
        self.spatial_reduce = Conv(channels, inner, spec.kernel)
        self.phi = nn.Parameter(torch.ones(BANDS))
        self.spatial_expand = Conv((BANDS + 1) * inner, width, spec.kernel, groups)
        self.extra = nn.ModuleList(
            Conv(channels, channels, spec.extra_kernel) for _ in range(spec.extra_convs)
        )

    def _attention_logits(self, x: Tensor) -> Tensor:
        """Of the spatial attention, before the sigmoid: (B, 1 or C, H, W)."""
        reduced = self.spatial_reduce(x)
        if self.norm:
            features = F.gelu(standardised(lifted_bands(reduced, self.phi), (1, 2, 3)))
        else:
            features = self.operations.band_features(reduced, self.phi)  # (B, 5 C/r, H, W)
        logits: Tensor = self.spatial_expand(features)
        return logits[:, : x.shape[1]] if self.attention is Attention.GROUPED else logits

    def forward(self, f1: Tensor) -> Tensor:
        gelu, gate = self.operations.gelu, self.operations.gate
        f2 = gate(f1, self.channel_expand(gelu(self.channel_reduce(f1))))
        out = gate(f2, self._attention_logits(f2))
        for conv in self.extra:
            out = conv(gelu(out))
        return out + f1


class Stage(nn.Module):
    """Conv, PixelShuffle(stride), GELU, then HFSCM where the stage carries it.

    A bilinear stage resizes the convolution's map instead, which needs stride^2 fewer channels.

    With E-NeRV's transformer every channel is normalised over its map and gets scale and shift
    from the branch of time before, and the first stage may have two convolutions.
    """

    operations = TORCH

    def __init__(self, inputs: int, spec: ModelSpec, index: int) -> None:
        super().__init__()
        stage, block = spec.stages[index], spec.transformer
        self.stride = stage.stride
        bottleneck = block.bottleneck if block is not None and index == 0 else 0
        finer = spec.detail if spec.detail is not None and spec.detail.stage == index else None
        self.detail = None if finer is None else Conv(finer.channels, inputs, DETAIL_KERNEL)
        self.bilinear = stage.bilinear
        self.conv = Conv(inputs, (bottleneck or stage.channels) * stage.phases, stage.kernel)
        self.widen = Conv(bottleneck, stage.channels, WIDEN_KERNEL) if bottleneck else None
        self.modulate = None if block is None else Conv(block.modulation, 2 * inputs, 1)
        self.hfscm = Hfscm(stage.channels, spec.hfscm) if stage.hfscm else None

    def forward(self, x: Tensor, modulation: Tensor | None, detail: Tensor | None) -> Tensor:
        """``modulation``: E-NeRV's branch of time, (B, width, 1, 1).

        ``detail``: the second embedding (B, C, H, W), which the stage it is for adds to ``x``.
        """
        if self.detail is not None:
            x = x + self.detail(detail)
        if self.modulate is not None:
            scale, shift = self.modulate(modulation).chunk(2, dim=1)
            x = standardised(x, (2, 3)) * (1 + scale) + shift
        if self.bilinear:
            x = self.operations.upsampled_gelu(self.conv(x), self.stride)
        elif self.widen is None:
            x = self.operations.shuffled_gelu(self.conv(x), self.stride)
        else:
            x = F.gelu(self.widen(F.pixel_shuffle(self.conv(x), self.stride)))
        return x if self.hfscm is None else self.hfscm(x)
