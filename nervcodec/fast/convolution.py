"""Convolutions as the kernels want them: transformed weights in blocks of outputs.

The layout is that of ``struct convolution`` in kernels.c.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nervcodec.fast.library import FLOATS, ConvolutionStruct, WinogradStruct
from nervcodec.fast.winograd import transforms

MAX_OUTPUTS = 6
"""Outputs that the kernels sum together, as in kernels.c."""

MAX_ROWS = 16
"""Rows of input that a tile may take, as in kernels.c."""

WINOGRAD_STEPS = {3: 6, 5: 6, 7: 4}
"""Rows of output at once, by kernel, as kernels.c knows them.

More would save more multiplications and lose more digits: docs/performance.md has the figures.
"""

DIRECT_STEP = 4
"""Rows of output at once of other kernels, if MAX_ROWS allows it."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Plan:
    """Transforms, and weights (outputs, products, terms, inputs, taps)."""

    step: int
    rows: int
    before: npt.NDArray[np.float64] | None
    after: npt.NDArray[np.float64] | None
    weights: npt.NDArray[np.float64]


def prepared_values(kernel: int) -> Fraction:
    """Values that are kept for each weight of a convolution."""
    if kernel == 1:
        return Fraction(1)
    if kernel in WINOGRAD_STEPS:
        return Fraction(WINOGRAD_STEPS[kernel] + kernel - 1, kernel)
    step = _direct_step(kernel)
    return Fraction(step * (step + kernel - 1), kernel)


def _direct_step(kernel: int) -> int:
    return min(DIRECT_STEP, MAX_ROWS - kernel + 1)


def _pointwise(weights: npt.NDArray[np.float64]) -> _Plan:
    """A kernel of 1, row by row: a higher one would be nothing but zeros."""
    outputs, inputs = weights.shape[:2]
    return _Plan(1, 1, None, None, weights.reshape(outputs, 1, 1, inputs, 1))


def _winograd(weights: npt.NDArray[np.float64], step: int) -> _Plan:
    kernel = weights.shape[2]
    after, factors, before = transforms(step, kernel)
    transformed = np.einsum("pk,oikx->opix", factors, weights)[:, :, None]
    return _Plan(step, step + kernel - 1, before, after, transformed)


def _direct(weights: npt.NDArray[np.float64]) -> _Plan:
    """Rows of output as further outputs of a higher kernel, which shares what it loads."""
    outputs, inputs, kernel, taps = weights.shape
    step = _direct_step(kernel)
    rows = step + kernel - 1
    spread = np.zeros((outputs, step, 1, rows, inputs, taps))
    for row in range(step):
        spread[:, row, 0, row : row + kernel] = weights.transpose(0, 2, 1, 3)
    return _Plan(step, rows, None, None, spread.reshape(outputs * step, 1, rows, inputs, taps))


def _blocks(outputs: int) -> list[int]:
    """Sizes of the blocks of outputs, as block_size in kernels.c has them."""
    count = -(-outputs // MAX_OUTPUTS)
    base, longer = divmod(outputs, count)
    return [base + 1] * longer + [base] * (count - longer)


class Convolution:
    """One convolution with its weights prepared.

    Args:
        weight: (outputs, inputs a group, k, k), k odd; groups are filled up with zeros.
        bias: (outputs,).
        groups: as of torch's convolutions.
    """

    def __init__(self, weight: Tensor, bias: Tensor, groups: int = 1) -> None:
        dense = _ungrouped(weight.detach().double().contiguous().numpy(), groups)
        self.outputs, self.inputs, kernel, _ = dense.shape
        if kernel == 1:
            plan = _pointwise(dense)
        elif kernel in WINOGRAD_STEPS:
            plan = _winograd(dense, WINOGRAD_STEPS[kernel])
        else:
            plan = _direct(dense)
        self.step = plan.step
        columns, products, terms = plan.weights.shape[:3]
        parts, start = [], 0
        for size in _blocks(columns):
            parts.append(np.moveaxis(plan.weights[start : start + size], 0, -1).ravel())
            start += size
        self._kept = [
            None if array is None else np.ascontiguousarray(array, dtype=np.float32)
            for array in (
                plan.before,
                plan.after,
                np.concatenate(parts),
                bias.detach().contiguous().numpy(),
            )
        ]
        self.struct = ConvolutionStruct(
            self.inputs,
            self.outputs,
            kernel,
            plan.rows,
            plan.step,
            products,
            terms,
            *map(pointer_to, self._kept),
        )


class WinogradPlan:
    """The transforms of a training's convolutions of one kernel, as kernels.c wants them."""

    def __init__(self, kernel: int) -> None:
        step = WINOGRAD_STEPS[kernel]
        after, factors, before = transforms(step, kernel)
        gradients = np.zeros_like(before)
        gradients[:, :step] = after.T
        self._kept = [
            np.ascontiguousarray(matrix, dtype=np.float32)
            for matrix in (before, factors, after, gradients)
        ]
        self.struct = WinogradStruct(step, len(before), *map(pointer_to, self._kept))


@cache
def winograd_plan(kernel: int) -> WinogradPlan:
    return WinogradPlan(kernel)


def _ungrouped(weights: npt.NDArray[np.float64], groups: int) -> npt.NDArray[np.float64]:
    outputs, inputs, *kernel = weights.shape
    dense = np.zeros((outputs, inputs * groups, *kernel))
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        dense[rows, group * inputs : (group + 1) * inputs] = weights[rows]
    return dense


def pointer_to(values: Floats | Tensor | None) -> ctypes._Pointer[ctypes.c_float] | None:
    """Where an array begins, which must stay alive as long as the pointer is used."""
    if values is None:
        return None
    address = values.data_ptr() if isinstance(values, torch.Tensor) else values.ctypes.data
    return ctypes.cast(address, FLOATS)
