"""Post-training quantization: trained float tensors to 8-bit symbols, zero point and scales.

What the symbols mean is fixed by :mod:`nervcodec.bitstream.segment`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nervcodec.bitstream.entropy import choose_table
from nervcodec.bitstream.segment import (
    MAX_SCALE_BITS,
    MIN_SCALE_BITS,
    QuantizedTensor,
    scale_values,
)
from nervcodec.bitstream.tables import ALPHABET
from nervcodec.bitstream.tensors import TensorSpec

Values = npt.NDArray[np.float32]

LEVELS = ALPHABET - 1


def quantize(spec: TensorSpec, values: Values) -> QuantizedTensor:
    """Quantize ``values`` (of the tensor's shape) with one scale, or one a channel.

    Of the two, the one with fewer bytes at equal error wins: at high rates halving the step
    costs one bit a value, so an error smaller by a factor q is worth log2(q)/2 bits a value.
    """
    single = _with_range(spec, values, channels=False)
    if spec.channel_axis is None or spec.shape[spec.channel_axis] < 2:
        return single
    return min(
        single,
        _with_range(spec, values, channels=True),
        key=lambda candidate: _cost(candidate, values),
    )


def _with_range(spec: TensorSpec, values: Values, channels: bool) -> QuantizedTensor:
    """Uniform quantization over the range of the tensor, or symmetric over each channel's."""
    if channels:
        assert spec.channel_axis is not None
        others = tuple(a for a in range(values.ndim) if a != spec.channel_axis)
        zero = ALPHABET // 2
        steps = np.abs(values).max(axis=others) / (zero - 1)
    else:
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        steps = np.array([(high - low) / LEVELS])
        zero = round(-low / steps[0]) if high > low else 0
    scales = _round_up(steps.astype(np.float32))
    divisor = scale_values(scales)
    if channels:
        divisor = divisor.reshape([-1 if a == spec.channel_axis else 1 for a in range(values.ndim)])
    levels = np.rint(values.astype(np.float64) / divisor) + zero
    symbols = np.clip(levels, 0, LEVELS).astype(np.uint8)
    return QuantizedTensor(spec, symbols, zero, scales)


def _round_up(steps: Values) -> npt.NDArray[np.uint16]:
    """The upper 16 bits of the smallest such float32 that is not below each step."""
    bits = (steps.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)
    scales: npt.NDArray[np.uint16] = bits.clip(MIN_SCALE_BITS, MAX_SCALE_BITS).astype(np.uint16)
    return scales


def _cost(candidate: QuantizedTensor, values: Values) -> float:
    """Estimated bits, with the error priced in."""
    if candidate.symbols.min() == candidate.symbols.max():
        return -math.inf
    table = choose_table(candidate.symbols, candidate.zero)
    indices = table.to_indices(candidate.symbols.ravel())
    bits = float((24 - np.log2(table.frequencies()[indices])).sum())
    side = 8 * len(table.to_bytes()) + 16 * candidate.scales.size
    error = float(np.square(candidate.dequantize() - values, dtype=np.float64).mean())
    return bits + side + values.size / 2 * math.log2(max(error, 1e-30))
