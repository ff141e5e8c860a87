"""How far a training has come: by its steps, or by the clock where it was given a time.

Everything that changes in the course of a training (:mod:`nervcodec.training.trainer`,
:mod:`nervcodec.training.quantized`) follows the share of it that is done.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

WARMUP_START = 0.1


class Schedule:
    """The share of a training that is done.

    Args:
        steps: of the whole training; they count where there is no time.
        seconds: time for the training, over ``steps``; a result then depends on the machine.
    """

    def __init__(self, steps: int, seconds: float | None = None) -> None:
        self._steps, self._seconds = steps, seconds
        self._now = 0.0
        self._spent = torch.zeros((), dtype=torch.float32)
        self.step = 0

    @property
    def share(self) -> float:
        """What is done, 0 to 1."""
        if self._seconds is None:
            return self.step / self._steps
        return min(1.0, float(self._spent) / self._seconds)

    @property
    def finished(self) -> bool:
        return self.step > 0 and self.share == 1.0

    @property
    def steps(self) -> int:
        """Steps of the whole training, by estimate where the clock decides."""
        if self._seconds is None:
            return self._steps
        return max(self.step, round(self.step / max(self.share, 1e-9))) if self.step else 1

    @property
    def seconds_left(self) -> float | None:
        """Where the clock decides, what it leaves."""
        return None if self._seconds is None else self._seconds * (1 - self.share)

    def start(self) -> None:
        """The clock begins to run, or goes on."""
        if self._seconds is not None:
            self._now = time.perf_counter()

    def advance(self) -> float:
        """One step more is done; returns the share that it was."""
        before = self.share
        self.step += 1
        if self._seconds is not None:
            now = time.perf_counter()
            took, self._now = now - self._now, now
            self._spent += took
            # The last step is the one after which another would be half beyond the time.
            if self._spent + took / 2 > self._seconds:
                self._spent.fill_(self._seconds)
        return self.share - before

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside the number of steps."""
        return {} if self._seconds is None else {"seconds": self._spent}


def rate_factor(share: float, warmup: float) -> float:
    """Of the peak learning rate: linear from a tenth over ``warmup``, then a cosine to 0."""
    if share < warmup:
        return WARMUP_START + (1 - WARMUP_START) * share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
