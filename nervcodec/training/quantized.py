"""The part of a training in which tensors are quantized: their steps, their rate, their size.

:mod:`nervcodec.training.rate` estimates the rate; :mod:`nervcodec.training.trainer` owns this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nervcodec.bitstream.segment import Segment, encode_segment
from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import FRAME_TENSORS, TensorSpec
from nervcodec.training.goal import Goal
from nervcodec.training.quantization import quantize
from nervcodec.training.rate import LearnedSteps, Rounding, rounded_values
from nervcodec.training.soap import Soap

QUANTIZED_FROM = 0.3
"""Share of the schedule after which tensors are rounded and their rate counts."""

RATE_RAMP = 0.1
"""Share of the schedule over which the rate's weight grows from 0 to what was asked for."""

STEP_RATE = 1e-2
"""Learning rate of the logarithms of quantization steps (Adam)."""
STEP_BETAS = (0.9, 0.999)

KEPT_FROM = 0.5
"""Share of the schedule from which a size is kept to. Before, steps are still finding their
proportions: to hold the size then spoils weights for the second embedding's sake."""

SIZE_GAIN = 20.0
"""A size too large by a twentieth throughout a schedule makes lambda e times as large."""

EMBEDDINGS_EVERY = 5
"""Steps after which the embeddings' part of the size is estimated again, while a size is kept to.
Only to look when it is measured lets it swing: they follow each move of the steps unseen."""

LARGEST_SHIFT = 0.02
"""What the steps' logarithms are moved by at most in a step, to keep to a size."""

EXPECTED_RISE = 8.0
"""dB, times the square of the share of the schedule that is left: what the PSNR still rises, of
frames as they pass in the training. The median of some 60 runs on three clips, from half on."""

PSNR_GAIN = 8.0
"""A PSNR too high by 1 dB throughout a schedule makes the steps exp(8) times as large."""

AIMED_ABOVE = 0.1
"""dB: to make steps coarser after the training costs little, to make them finer does not help."""

CHEAPEST = 1 / 4
"""Of the lambda at which a training for a PSNR began: below, bits do little for it."""

TARGET_SHARE = 0.997
"""Of a size to keep to, what the training aims at: a file must not exceed it."""


class QuantizedTraining:
    """Steps of a network's tensors, trained together with it.

    Args:
        spec, specs: the network, and the tensors that a segment of it has.
        weights: the decoder's tensors by name.
        rate_weight: lambda, in loss a bit a pixel.
        pixels: of all frames.
        goal: what the segment is to keep to; lambda only begins at ``rate_weight`` then.
        device: where the training is.
        rounding: by what the weights are rounded.
    """

    def __init__(
        self,
        spec: ModelSpec,
        specs: Sequence[TensorSpec],
        weights: Mapping[str, Tensor],
        *,
        rate_weight: float,
        pixels: int,
        goal: Goal,
        device: torch.device,
        rounding: Rounding = rounded_values,
    ) -> None:
        shapes = {tensor.name: tensor.shape for tensor in specs if tensor.name in FRAME_TENSORS}
        self._spec, self._specs, self._weights = spec, specs, weights
        self._learned = LearnedSteps(weights, shapes, device, rounding)
        self._optimizer = Soap(self._learned.parameters, *STEP_BETAS, largest_side=0)
        self._pixels = pixels
        self._count = torch.zeros(())
        self._taken_over = torch.zeros(())
        self._bit_target = None if goal.bytes is None else TARGET_SHARE * 8 * goal.bytes
        self._psnr_target = None if goal.psnr is None else goal.psnr + AIMED_ABOVE
        self._log_weight = torch.tensor(math.log(rate_weight))
        self._least_log_weight = math.log(CHEAPEST * rate_weight)
        names = ("correction", "weights", "embeddings")
        self._size = {name: torch.zeros(()) for name in names}

    @property
    def begun(self) -> bool:
        """Whether a step was made with rounded tensors, here or before a file was written."""
        return bool(self._count > 0) or self._going_on

    def due(self, share: float) -> bool:
        """Whether the step after that share of the training is made with rounded tensors."""
        return share >= self.begins_at

    @property
    def begins_at(self) -> float:
        """Share of the training after which steps are made with rounded tensors."""
        return 0.0 if self._going_on else QUANTIZED_FROM

    @property
    def _going_on(self) -> bool:
        """Whether the steps are those of a file."""
        return bool(self._taken_over > 0)

    @property
    def bytes(self) -> int | None:
        """What the segment would take now; None as long as nothing is quantized."""
        bits = self._bits()
        return round(bits / 8) if bits else None

    def tensors(self) -> dict[str, Tensor]:
        """What the rest of the training depends on, itself and not a copy."""
        found = {f"steps.{name}": p.detach() for name, p in self._learned.parameters.items()}
        found |= {f"steps.{name}": state for name, state in self._optimizer.tensors().items()}
        found |= {f"memory.{name}": values for name, values in self._learned.memory.items()}
        found |= {f"classes.{name}": values for name, values in self._learned.classes.items()}
        found |= {f"size.{name}": value for name, value in self._size.items()}
        return found | {
            "log_weight": self._log_weight,
            "rounded_steps": self._count,
            "going_on": self._taken_over,
        }

    def restored(self) -> None:
        """Told that the tensors are those of another training."""
        self._optimizer.steps = int(self._count)

    def begin(self, embeddings: Sequence[Tensor]) -> None:
        """Choose the first steps; ``embeddings`` are those of all frames."""
        self._learned.begin(self._weights, embeddings)
        self.measure()

    def take_over(self, embeddings: Sequence[Tensor], steps: Mapping[str, Tensor]) -> None:
        """Go on with the steps of a file, and with the embeddings of all of its frames."""
        self._learned.take_over(embeddings, steps)
        self._taken_over.fill_(1.0)
        self.measure()

    def rounded(
        self, sources: tuple[Tensor, ...], indices: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...], Tensor]:
        """The decoder's tensors and its frames' embeddings as a file would give them, its bits.

        ``sources`` are the embeddings of frames ``indices``, or their times, which stay.
        """
        weights = self._learned.rounded(self._weights)
        self._size["weights"].copy_(weights.bits.detach())
        if not self._learned.memory:
            return weights.values, sources, weights.bits
        embeddings = self._learned.rounded_embeddings(sources, indices)
        bits = weights.bits + embeddings.bits
        return weights.values, tuple(embeddings.values.values()), bits

    def price(self, share: float) -> float:
        """What a bit costs after ``share`` of the training.

        It grows to what was asked for, or to what the size needs.
        """
        grown = 1.0 if self._going_on else min(1.0, (share - QUANTIZED_FROM) / RATE_RAMP)
        return grown * math.exp(float(self._log_weight)) / self._pixels

    def zero_grad(self) -> None:
        self._optimizer.zero_grad()

    def step(self, share: float, advance: float, falling: float, psnr: Callable[[], float]) -> None:
        """Train the steps, after which ``share`` of the training is done, ``advance`` by this one.

        Their learning rate is ``falling``, 0 to 1, of its peak. ``psnr`` tells that of all
        frames as they were last seen, in dB.
        """
        self._count += 1
        self._optimizer.step(STEP_RATE * falling)
        if share < KEPT_FROM and not self._going_on:
            return
        if self._psnr_target is not None:
            expected = psnr() + EXPECTED_RISE * (1 - share) ** 2
            self._keep_to_psnr(expected - self._psnr_target, advance)
        if self._bit_target is not None:
            self._keep_to_size(self._bit_target, advance, falling)

    def _keep_to_psnr(self, excess: float, advance: float) -> None:
        """Coarser steps where more is expected in the end than was asked for, else finer ones.

        Lambda follows, as the square of the steps: so they keep their proportion to it.
        """
        shift = PSNR_GAIN * advance * excess
        shift = max(-LARGEST_SHIFT, min(LARGEST_SHIFT, shift))
        if shift < 0 and self._log_weight < self._least_log_weight:
            return
        self._learned.coarsen(shift)
        self._learned.keep_in_range(self._weights)
        self._log_weight += 2 * shift

    def _keep_to_size(self, target: float, advance: float, falling: float) -> None:
        # Lambda alone would be too slow, and overshoot. It follows: where the steps are ever made
        # coarser, bits are still too cheap.
        if self._count % EMBEDDINGS_EVERY == 0:
            with torch.no_grad():
                self._size["embeddings"].fill_(self._learned.memory_bits())
        excess = self._bits() - target
        # Ever less towards the end: weights settle where their steps let them round well.
        shift = falling * math.log(2) * excess / self._learned.values
        self._learned.coarsen(max(-LARGEST_SHIFT, min(LARGEST_SHIFT, shift)))
        if shift < 0:
            self._learned.keep_in_range(self._weights)
        relative = max(-1.0, min(1.0, excess / target))
        self._log_weight += SIZE_GAIN * advance * relative

    def classify(self) -> None:
        """Find the classes of the embeddings' changes, as they are now."""
        self._learned.classify()

    @torch.no_grad()
    def measure(self) -> None:
        """Hold the estimated size against that of the segment as it would be coded now.

        The embeddings' part is then taken for that of the next steps: what one frame says of all
        frames is too noisy.
        """
        values = {**self._weights, **self._learned.memory}
        arrays = {name: as_array(tensor) for name, tensor in values.items()}
        steps = self.steps()
        tensors = [quantize(s, arrays[s.name], steps[s.name]) for s in self._specs]
        segment = Segment(0, 0, self._frames, self._spec, tuple(tensors))
        self._learned.classify()
        weights, embeddings = self._learned.rounded(self._weights).bits, self._learned.memory_bits()
        bits = 8 * len(encode_segment(segment)[0])
        self._size["weights"].copy_(weights)
        self._size["embeddings"].fill_(embeddings)
        self._size["correction"].fill_(bits / (float(weights) + embeddings))

    def steps(self) -> dict[str, npt.NDArray[np.float32]]:
        """The steps as the file has them, by name."""
        return {name: as_array(step) for name, step in self._learned.steps().items()}

    @property
    def _frames(self) -> int:
        return next((len(values) for values in self._learned.memory.values()), 1)

    def _bits(self) -> float:
        size = self._size
        return float(size["correction"] * (size["weights"] + size["embeddings"]))


def as_array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return tensor.detach().contiguous().cpu().numpy()
