"""Notices when a training has lost its frames, and keeps what it can go back to.

At too high a learning rate a network may within some dozen steps come to answer every frame with
one colour; its gradients are then nothing, and it stays there. Half the rate usually holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

LOOK_EVERY = 25
"""Steps between two looks."""

KEEP_EVERY = 100
"""Steps between two states that are kept."""

LEAST_VARIANCE = 1e-3
"""An error below, of 30 dB, is not that of a lost network, however little there is to see."""

LEARNED = 0.5
"""Of the frames' variance: what errors must have been below before a network can be lost."""


class Guard:
    """Holds a training's errors against what each frame's mean colour would leave.

    Attributes:
        factor: of the learning rate, halved each time that the training is lost.
    """

    def __init__(self, device: torch.device) -> None:
        self.factor = torch.ones(())
        self._errors = torch.zeros((), device=device)
        self._variances = torch.zeros((), device=device)
        self._learned = torch.zeros(())
        self._kept: list[dict[str, Tensor]] = []

    def see(self, errors: Tensor, targets: Tensor) -> None:
        """Told the mean squared errors, (B,), of a step's frames, (B, 3, H, W)."""
        self._errors += errors.mean()
        self._variances += targets.square().mean() - targets.mean(dim=(2, 3)).square().mean()

    def lost(self, step: int) -> bool:
        """After ``step`` steps: whether the network was learning, and now shows nothing."""
        if step % LOOK_EVERY:
            return False
        error, variance = float(self._errors), float(self._variances)
        self._errors.zero_()
        self._variances.zero_()
        variance = max(variance, LOOK_EVERY * LEAST_VARIANCE)
        if error < LEARNED * variance:
            self._learned.fill_(1.0)
        return bool(self._learned) and not error < variance  # a NaN is a loss, too

    def keep(self, step: int, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Keep a copy of the state now and then, the last two; a loss begins before it is seen."""
        if self._learned and (not self._kept or step % KEEP_EVERY == 0):
            copy = {name: tensor.clone() for name, tensor in state().items()}
            self._kept = [*self._kept[-1:], copy]

    def go_back(self) -> dict[str, Tensor]:
        """The older of the states that are kept; the rate is halved from here on."""
        self.factor /= 2
        self._kept = self._kept[:1]
        return self._kept[0]

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep; the kept states are not in it."""
        return {
            "factor": self.factor,
            "errors": self._errors,
            "variances": self._variances,
            "learned": self._learned,
        }
