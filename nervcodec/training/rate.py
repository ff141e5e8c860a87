"""Learned quantization steps and what their symbols take: the rate of rate-aware training.

Tensors are rounded to multiples of a step that is trained with them (straight-through for the
rounding itself); the rate is that of a Gaussian over each tensor's symbols, which is what the
format's tables come closest to, and of the embedding's change from frame to frame, which is what
the format codes. :mod:`nervcodec.training.trainer` adds lambda times it to the distortion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from nervcodec.bitstream.activity import MOST_CLASSES, bit_lengths
from nervcodec.bitstream.coding import changes_of
from nervcodec.bitstream.tables import ALPHABET, CENTRE
from nervcodec.bitstream.tensors import DETAIL

FIRST_BITS = 6.0
"""Bits a symbol at which the steps begin; the training makes them coarser where that pays."""

FIRST_DETAIL_BITS = 3.0
"""The same for the second embedding, most of which is not worth a bit."""

GAUSSIAN_BITS = math.log2(math.sqrt(2 * math.pi * math.e))
"""Entropy of a Gaussian whose deviation is one step."""

LEAST_STEP = 1e-6

LEAST_DEVIATION = 0.1
"""In steps. Tensors narrower than this cost nothing anyway."""

LEAST_PROBABILITY = 1e-9
TENSOR_BITS = 40.0
"""What a tensor's coding, zero point, scale and the like take beside its symbols."""


@dataclass(frozen=True)
class Rounded:
    """Tensors as a decoder would have them, and the bits of their symbols (a scalar)."""

    values: dict[str, Tensor]
    bits: Tensor


Rounding = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
""":func:`rounded_values`, or what gives the same."""


def rounded_values(values: Tensor, steps: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Values of tensors rounded to multiples of their steps, and the bits of them all.

    Args:
        values: (N,), all tensors one behind the other.
        steps: (T,), one for each tensor.
        bounds: (T + 1,) int64, where they begin and end.
    """
    sizes = bounds.diff()
    owner = torch.arange(len(sizes), device=bounds.device).repeat_interleave(sizes)
    own_steps = steps[owner]
    scaled = _limited(values / own_steps)
    squares = torch.zeros_like(steps).index_add(0, owner, scaled.square())
    deviation = (squares / sizes).add(1e-12).sqrt().clamp_min(LEAST_DEVIATION)
    return _straight_through(scaled) * own_steps, _bits(scaled, deviation[owner]).sum()


class WeightSteps:
    """A step for each tensor of the decoder.

    Args:
        weights: the tensors by name; only their shapes count.
        device: where the training is.
        rounding: by what values are rounded.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        device: torch.device,
        rounding: Rounding = rounded_values,
    ) -> None:
        self._shapes = {name: tensor.shape for name, tensor in weights.items()}
        self._sizes = [tensor.numel() for tensor in weights.values()]
        self._bounds = torch.tensor([0, *accumulate(self._sizes)], device=device)
        self._rounding = rounding
        self.logs = torch.zeros(len(self._sizes), device=device, requires_grad=True)

    @property
    def values(self) -> int:
        """How many are coded."""
        return sum(self._sizes)

    @torch.no_grad()
    def begin(self, weights: Mapping[str, Tensor]) -> None:
        """First steps from how far the values spread."""
        own = [weights[name] for name in self._shapes]
        spread = torch.stack([tensor.square().mean().sqrt() for tensor in own])
        widest = torch.stack([tensor.abs().amax() for tensor in own])
        self.logs.copy_(_first_steps(spread, widest))

    @torch.no_grad()
    def take_over(self, steps: Mapping[str, Tensor]) -> None:
        """Go on with the steps of a file, (1,) each."""
        self.logs.copy_(torch.cat([steps[name] for name in self._shapes]).log())

    @torch.no_grad()
    def keep_in_range(self, weights: Mapping[str, Tensor]) -> None:
        """Make no step so fine that symbols have too few bits for the tensor's values."""
        widest = torch.stack([weights[name].abs().amax() for name in self._shapes])
        self.logs.copy_(torch.maximum(self.logs, _finest(widest)))

    def rounded(self, weights: Mapping[str, Tensor]) -> Rounded:
        """The tensors as a file would give them."""
        flat = torch.cat([weights[name].reshape(-1) for name in self._shapes])
        values, bits = self._rounding(flat, _coded(self.logs), self._bounds)
        parts = torch.split(values, self._sizes)
        named = {
            name: part.view(shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return Rounded(named, bits + TENSOR_BITS * len(named))

    def steps(self) -> dict[str, Tensor]:
        """The steps as the file has them, (1,) each."""
        coded = _coded(self.logs.detach())
        return {name: step.view(1) for name, step in zip(self._shapes, coded, strict=True)}


class EmbeddingSteps:
    """A step for each channel of an embedding, whose changes from frame to frame are coded.

    A frame's embedding counts in its own rate and in that of the next frame; the others are taken
    as they were last seen, which ``memory`` keeps. How far a change may be expected to go follows
    from its channel and its class (spec 5.4), which :meth:`classify` finds.

    Args:
        shape: (frames, channels, rows, columns).
        device: where the training is.
        first_bits: bits a symbol at which the steps begin.
    """

    def __init__(
        self, shape: Sequence[int], device: torch.device, first_bits: float = FIRST_BITS
    ) -> None:
        channels = (1, shape[1], 1, 1)
        self._first_bits = first_bits
        self.logs = torch.zeros(channels, device=device, requires_grad=True)
        self.deviation = torch.zeros(channels, device=device, requires_grad=True)
        self.activity = torch.zeros(MOST_CLASSES, device=device, requires_grad=True)
        self.memory = torch.zeros(tuple(shape), device=device)
        self.classes = torch.zeros(tuple(shape), device=device)

    @torch.no_grad()
    def begin(self, embeddings: Tensor) -> None:
        """First steps from how far the values of all frames spread."""
        axes = (0, 2, 3)
        spread, widest = embeddings.std(dim=axes), embeddings.abs().amax(dim=axes)
        steps = _first_steps(spread, widest, self._first_bits)
        self.take_over(embeddings, steps.exp())

    @torch.no_grad()
    def take_over(self, embeddings: Tensor, steps: Tensor) -> None:
        """Go on with the embeddings of all frames and the steps (C,) of a file."""
        axes = (0, 2, 3)
        self.memory.copy_(embeddings)
        self.logs.copy_(steps.log().view(1, -1, 1, 1))
        if len(embeddings) < 2:
            return
        squares = (embeddings.diff(dim=0) / self.logs.exp()).square()
        change = squares.mean(dim=axes, keepdim=True).sqrt().clamp_min(LEAST_DEVIATION)
        self.deviation.copy_(change.log())
        self.classify()
        relative, classes = (squares / change.square()).flatten(), self.classes[1:].flatten().long()
        sums, counts = (
            torch.zeros_like(self.activity).index_add(0, classes, values)
            for values in (relative, torch.ones_like(relative))
        )
        found = (sums / counts).sqrt().clamp(LEAST_DEVIATION, 1 / LEAST_DEVIATION).log()
        self.activity.copy_(torch.where(counts > 0, found, 0.0))

    @torch.no_grad()
    def classify(self) -> None:
        """Find the classes of all changes as the embeddings were last seen."""
        symbols = _limited(self.memory / _coded(self.logs)).round().cpu().numpy()
        changes = changes_of((symbols + CENTRE).astype(np.uint8), CENTRE)
        self.classes.copy_(torch.from_numpy(bit_lengths(changes).astype(np.float32)))

    @torch.no_grad()
    def keep_in_range(self) -> None:
        """Make no step so fine that symbols have too few bits for a channel's values."""
        widest = self.memory.abs().amax(dim=(0, 2, 3)).view_as(self.logs)
        self.logs.copy_(torch.maximum(self.logs, _finest(widest)))

    def rounded(self, embeddings: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of frames ``indices`` (B, C, h, w) as a file would give them.

        The bits with them are those of all frames, from what these say. While gradients are taken,
        the embeddings are remembered.
        """
        last, indices = len(self.memory) - 1, indices.to(self.memory.device)
        steps = _coded(self.logs)
        scaled = _limited(embeddings / steps)
        if torch.is_grad_enabled():
            self.memory[indices] = embeddings.detach()
        with torch.no_grad():
            before, after = ((indices + shift).clamp(0, last) for shift in (-1, 1))
            previous = _limited(self.memory[before] / steps).round()
            following = _limited(self.memory[after] / steps).round()
            previous[indices == 0] = 0
        own = _bits(scaled - previous, self._deviation(indices)).sum()
        not_last = (indices < last).view(-1, 1, 1, 1)
        others = (_bits(following - scaled, self._deviation(after)) * not_last).sum()
        share = len(self.memory) / len(indices)
        # Only the gradient of the next frame's rate belongs here, not its value.
        return _straight_through(scaled) * steps, share * (own + others - others.detach())

    def _deviation(self, indices: Tensor) -> Tensor:
        """Of the changes that lead to these frames, in steps."""
        classes = self.classes[indices].long()
        return (self.deviation + self.activity[classes]).exp().clamp_min(LEAST_DEVIATION)

    def steps(self) -> Tensor:
        """The steps as the file has them, (C,)."""
        return _coded(self.logs.detach()).flatten()


class LearnedSteps:
    """Steps of all tensors of a network: its weights', and its embeddings'.

    Args:
        weights: the decoder's tensors by name; only their shapes count.
        embeddings: names and shapes of what there is of each frame.
        device: where the training is.
        rounding: by what the weights are rounded.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        embeddings: Mapping[str, Sequence[int]],
        device: torch.device,
        rounding: Rounding = rounded_values,
    ) -> None:
        self._weights = WeightSteps(weights, device, rounding)
        self._embeddings = {
            name: EmbeddingSteps(shape, device, FIRST_DETAIL_BITS if name == DETAIL else FIRST_BITS)
            for name, shape in embeddings.items()
        }

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is trained."""
        found = {"weights": self._weights.logs}
        for name, steps in self._embeddings.items():
            found |= {
                name: steps.logs,
                f"{name}.deviation": steps.deviation,
                f"{name}.activity": steps.activity,
            }
        return found

    @property
    def memory(self) -> dict[str, Tensor]:
        """All frames' embeddings as last seen, by name."""
        return {name: steps.memory for name, steps in self._embeddings.items()}

    @property
    def classes(self) -> dict[str, Tensor]:
        """The classes of all frames' changes as last found, by name."""
        return {name: steps.classes for name, steps in self._embeddings.items()}

    def classify(self) -> None:
        """Find them again."""
        for steps in self._embeddings.values():
            steps.classify()

    @property
    def values(self) -> int:
        """How many values are coded."""
        return self._weights.values + sum(values.numel() for values in self.memory.values())

    @torch.no_grad()
    def coarsen(self, shift: float) -> None:
        """Make all steps exp(shift) times as large."""
        self._weights.logs += shift
        for steps in self._embeddings.values():
            steps.logs += shift
            steps.deviation -= shift

    def keep_in_range(self, weights: Mapping[str, Tensor]) -> None:
        """Make no step so fine that symbols have too few bits for the values."""
        self._weights.keep_in_range(weights)
        for steps in self._embeddings.values():
            steps.keep_in_range()

    def begin(self, weights: Mapping[str, Tensor], embeddings: Sequence[Tensor]) -> None:
        """First steps; ``embeddings`` are those of all frames, in the order of their names."""
        self._weights.begin(weights)
        for steps, values in zip(self._embeddings.values(), embeddings, strict=True):
            steps.begin(values)

    def take_over(self, embeddings: Sequence[Tensor], steps: Mapping[str, Tensor]) -> None:
        """Go on with the embeddings of all frames and the steps of a file."""
        self._weights.take_over(steps)
        for (name, own), values in zip(self._embeddings.items(), embeddings, strict=True):
            own.take_over(values, steps[name])

    def rounded(self, weights: Mapping[str, Tensor]) -> Rounded:
        """The decoder's tensors as a file would give them."""
        return self._weights.rounded(weights)

    def rounded_embeddings(self, embeddings: Sequence[Tensor], indices: Tensor) -> Rounded:
        """The same of frames ``indices``; the bits are those of all frames, from what these say."""
        values, bits = {}, torch.zeros(())
        pairs = zip(self._embeddings.items(), embeddings, strict=True)
        for (name, steps), embedding in pairs:
            values[name], more = steps.rounded(embedding, indices)
            bits = bits + more
        return Rounded(values, bits)

    def memory_bits(self) -> float:
        """Bits of all frames' embeddings as last seen."""
        total = 0.0
        for steps in self._embeddings.values():
            everything = torch.arange(len(steps.memory), device=steps.memory.device)
            total += float(steps.rounded(steps.memory.clone(), everything)[1])
        return total

    def steps(self) -> dict[str, Tensor]:
        """The steps as the file has them: (1,) for each tensor, (C,) for embeddings."""
        own = {name: steps.steps() for name, steps in self._embeddings.items()}
        return self._weights.steps() | own


def _first_steps(spread: Tensor, widest: Tensor, bits: float = FIRST_BITS) -> Tensor:
    """Logarithms of steps at which symbols take ``bits``, and all of them fit."""
    steps = spread * 2 ** (GAUSSIAN_BITS - bits)
    return torch.maximum(steps.clamp_min(LEAST_STEP).log(), _finest(widest))


def _finest(widest: Tensor) -> Tensor:
    """Logarithms of the steps at which the largest values are the last that symbols hold."""
    return (widest / (CENTRE - 1)).clamp_min(LEAST_STEP).log()


def _coded(logs: Tensor) -> Tensor:
    """Steps as the format has them, 16 bits of a float32; the gradient passes through."""
    steps = logs.exp()
    return steps + (steps.bfloat16().float() - steps).detach()


def _limited(scaled: Tensor) -> Tensor:
    """What fits symbols of 8 bits around the zero point."""
    return scaled.clamp(-CENTRE, ALPHABET - CENTRE - 1)


def _straight_through(scaled: Tensor) -> Tensor:
    return scaled + (scaled.round() - scaled).detach()


def _bits(scaled: Tensor, deviation: Tensor) -> Tensor:
    """-log2 of a Gaussian's mass within half a step of each value."""
    distance, width = scaled.abs(), deviation * math.sqrt(2)
    mass = torch.erfc((distance - 0.5) / width) - torch.erfc((distance + 0.5) / width)
    return -(0.5 * mass).clamp_min(LEAST_PROBABILITY).log2()
