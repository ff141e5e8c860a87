"""Trained tensors to 8-bit symbols, zero point and scales, with steps of their own or without.

What the symbols mean is fixed by :mod:`nervcodec.bitstream.segment`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from nervcodec.bitstream.coding import MAX_SCALE_BITS, MIN_SCALE_BITS, QuantizedTensor, scale_values
from nervcodec.bitstream.entropy import choose_table
from nervcodec.bitstream.tables import ALPHABET, CENTRE
from nervcodec.bitstream.tensors import FRAME_TENSORS, TensorSpec
from nervcodec.errors import TargetError

Values = npt.NDArray[np.float32]

LEVELS = ALPHABET - 1

PRICES = (1e-3, 0.3)
"""Squared steps that a bit may cost to fit a size; beyond, coarser steps do less harm."""
COARSEST = 64.0
"""Factor by which trained steps are made coarser at most."""
PRECISION = 2e-3
"""To which these are found: a step has 8 bits."""

FINEST = 1 / 4
"""Factor by which trained steps are made finer at most, for a quality."""
PSNR_PRECISION = 0.01
"""dB by which a quality asked for may be exceeded."""
PSNR_MARGIN = 0.002
"""dB by which it is exceeded at least: the file is measured in float64."""
PSNR_SLOPE = 2.0
"""dB that steps e times as large cost at least, for the first guess."""
PSNR_TRIES = 10


def quantize_network(
    specs: Sequence[TensorSpec],
    values: Mapping[str, Values],
    steps: Mapping[str, Values] | None,
    coded: Callable[[Sequence[QuantizedTensor]], bytes],
    limit: int | None = None,
) -> tuple[QuantizedTensor, ...]:
    """Symbols of a network's tensors; where they must fit, the fewest possible are changed.

    For a little, symbols between two values go to the one nearer zero. For more, all steps are made
    coarser alike, which costs more: the network has learnt to live with its rounding errors.

    Args:
        values: by name.
        steps: trained ones, by name; without them the tensors' ranges decide.
        coded: the segment's payload with such tensors.
        limit: its most bytes.

    Raises:
        TargetError: where it does not fit.
    """
    trained = steps or {}
    coarser = partial(_coarser, specs, values, trained)

    def cheaper(price: float) -> tuple[QuantizedTensor, ...]:
        return tuple(
            _cheaper(tensor, values[tensor.spec.name], price)
            if tensor.spec.name in trained
            else tensor
            for tensor in result
        )

    def fits(tensors: Sequence[QuantizedTensor]) -> bool:
        return limit is None or len(coded(tensors)) <= limit

    result = coarser(1.0)
    if fits(result):
        return result
    if trained:
        for changed, least, most in ((cheaper, *PRICES), (coarser, 1.0, COARSEST)):
            if fits(changed(most)):
                return _least(changed, fits, least, most)
    raise TargetError(
        f"a network does not fit {limit} bytes: give it fewer parameters (--params) or "
        "more epochs (--preset)"
    )


def quantize_to_psnr(
    specs: Sequence[TensorSpec],
    values: Mapping[str, Values],
    steps: Mapping[str, Values],
    psnr: Callable[[Sequence[QuantizedTensor]], float],
    least: float,
) -> tuple[QuantizedTensor, ...]:
    """Symbols by the coarsest steps, all alike times as large, that keep a quality.

    Where the trained steps miss it, and steps a quarter as large too, it is the trained ones.

    Args:
        steps: trained ones, by name.
        psnr: of the frames with such tensors, in dB.
        least: what it is to be.
    """
    wanted = least + PSNR_MARGIN
    low, high = math.log(FINEST), math.log(COARSEST)
    at, slope = 0.0, PSNR_SLOPE
    found, before = None, None
    for _ in range(PSNR_TRIES):
        tensors = _coarser(specs, values, steps, math.exp(at))
        excess = psnr(tensors) - wanted
        if excess >= 0:
            low, found = at, tensors
            if excess <= PSNR_PRECISION:
                break
        else:
            high = at
        if before is not None:
            slope = max(PSNR_SLOPE / 4, (before[1] - excess) / (at - before[0]))
        before = at, excess
        aimed = at + (excess - PSNR_PRECISION / 2) / slope
        at = aimed if low < aimed < high else (low + high) / 2
    return found or _coarser(specs, values, steps, 1.0)


def _coarser(
    specs: Sequence[TensorSpec],
    values: Mapping[str, Values],
    steps: Mapping[str, Values],
    factor: float,
) -> tuple[QuantizedTensor, ...]:
    """Symbols by steps ``factor`` times as large as the trained ones."""
    scaled = {name: _upper_half(step * np.float32(factor)) for name, step in steps.items()}
    return tuple(quantize(spec, values[spec.name], scaled.get(spec.name)) for spec in specs)


def _least(
    changed: Callable[[float], tuple[QuantizedTensor, ...]],
    fits: Callable[[Sequence[QuantizedTensor]], bool],
    low: float,
    high: float,
) -> tuple[QuantizedTensor, ...]:
    """``changed`` by the smallest factor that fits, of which ``high`` is one."""
    result = changed(high)
    while high / low > 1 + PRECISION:
        middle = math.sqrt(low * high)
        tried = changed(middle)
        if fits(tried):
            high, result = middle, tried
        else:
            low = middle
    return result


def _cheaper(tensor: QuantizedTensor, values: Values, price: float) -> QuantizedTensor:
    """``tensor`` with symbols one nearer zero where the bits saved are worth the error.

    A bit is worth ``price`` squared steps: trained steps make an error in steps about equally bad
    in all tensors. Embeddings stay, whose changes are coded.
    """
    symbols = tensor.symbols
    if tensor.spec.name in FRAME_TENSORS or symbols.min() == symbols.max():
        return tensor
    levels = symbols.astype(np.int64) - tensor.zero
    scaled = values / _along_channels(tensor.spec, scale_values(tensor.scales))
    table = choose_table(symbols, tensor.zero)
    used = np.unique(symbols)
    bits = np.full(ALPHABET, np.inf)
    bits[used] = -np.log2(table.frequencies()[table.to_indices(used)])
    lower = levels - np.sign(levels)
    saved = bits[symbols] - bits[lower + tensor.zero]
    error = np.square(lower - scaled) - np.square(levels - scaled)
    nearer = np.where(error < price * saved, lower, levels) + tensor.zero
    return QuantizedTensor(tensor.spec, nearer.astype(np.uint8), tensor.zero, tensor.scales)


def _upper_half(steps: Values) -> Values:
    """The nearest values whose lower 16 bits are 0."""
    bits = (steps.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def quantize(spec: TensorSpec, values: Values, steps: Values | None = None) -> QuantizedTensor:
    """Quantize ``values`` (of the tensor's shape) with one scale, or one a channel.

    Without ``steps`` to use, of the two the one with fewer bytes at equal error wins: at high
    rates halving the step costs one bit a value, so an error smaller by a factor q is worth
    log2(q)/2 bits a value.
    """
    if steps is not None:
        return _with_steps(spec, values, steps)
    single = _with_range(spec, values, channels=False)
    if spec.channel_axis is None or spec.shape[spec.channel_axis] < 2:
        return single
    return min(
        single,
        _with_range(spec, values, channels=True),
        key=lambda candidate: _cost(candidate, values),
    )


def _with_steps(spec: TensorSpec, values: Values, steps: Values) -> QuantizedTensor:
    """Round ``values`` to multiples of trained steps, of shape (1,) or (channels,).

    The steps are upper halves of float32 values (:mod:`nervcodec.training.rate`).
    """
    scales = (steps.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    levels = np.rint(values / _along_channels(spec, steps))
    symbols = np.clip(levels + CENTRE, 0, LEVELS).astype(np.uint8)
    return QuantizedTensor(spec, symbols, CENTRE, scales)


def _along_channels(spec: TensorSpec, scales: Values) -> Values:
    """Scales, (1,) or (channels,), so that they divide a tensor of the spec's shape."""
    if scales.size == 1:
        return scales
    return scales.reshape([-1 if axis == spec.channel_axis else 1 for axis in range(4)])


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
    divisor = _along_channels(spec, scale_values(scales))
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
