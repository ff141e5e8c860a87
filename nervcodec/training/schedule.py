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

PAST = 1 + 1e-6
"""Times the whole: what float32 rounds it to may lie below it, and would never be the end."""

WATCHED_FROM = 0.45
"""Share of a training from which its gain says something: rounding has begun, and costs in full."""

COOLING_FROM = 0.75
"""Share of its schedule at which a training goes on that has ceased to gain."""

WATCHED_EPOCHS = 6
"""Over how many epochs a gain is measured at least, and at least a tenth of all so far."""


class Schedule:
    """The share of a training that is done.

    Args:
        steps: of the whole training; they count where there is no time.
        seconds: time for the training, over ``steps``; a result then depends on the machine.
    """

    def __init__(self, steps: int, seconds: float | None = None) -> None:
        self._steps, self._seconds = steps, seconds
        self._now = 0.0
        self._cooled_at = torch.zeros(())
        self._spent = torch.zeros((), dtype=torch.float32)
        self.step = 0

    @property
    def share(self) -> float:
        """What is done, 0 to 1."""
        if self._seconds is not None:
            return min(1.0, float(self._spent) / self._whole(self._seconds))
        return min(1.0, self.step / math.ceil(self._whole(self._steps)))

    @property
    def finished(self) -> bool:
        return self.step > 0 and self.share == 1.0

    @property
    def steps(self) -> int:
        """Steps of the whole training, by estimate where the clock decides."""
        if self._seconds is None:
            return math.ceil(self._whole(self._steps))
        return max(self.step, round(self.step / max(self.share, 1e-9))) if self.step else 1

    @property
    def seconds_left(self) -> float | None:
        """Where the clock decides, what it leaves."""
        if self._seconds is None:
            return None
        return self._whole(self._seconds) * (1 - self.share)

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
            whole = self._whole(self._seconds)
            if self._spent + took / 2 > whole:
                self._spent.fill_(whole * PAST)
        return self.share - before

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside the number of steps."""
        return {"seconds": self._spent, "cooled_at": self._cooled_at}

    def cool_down(self) -> None:
        """Go on as if :data:`COOLING_FROM` of the training were done, unless it is further."""
        if self.share < COOLING_FROM and not self.cooling:
            self._cooled_at.fill_(self.step if self._seconds is None else float(self._spent))

    @property
    def cooling(self) -> bool:
        return bool(self._cooled_at > 0)

    def _whole(self, planned: float) -> float:
        """Steps or seconds of the whole training."""
        return float(self._cooled_at) / COOLING_FROM if self.cooling else planned


class Gains:
    """How much better a training becomes in a minute.

    Args:
        least: dB a minute under which it is not worth its time.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._epochs: list[tuple[float, float]] = []

    def too_small(self, psnr: float) -> bool:
        """Told the mean PSNR of the epoch that has just ended."""
        self._epochs.append((time.perf_counter(), psnr))
        count = max(WATCHED_EPOCHS, len(self._epochs) // 10)
        if len(self._epochs) < count:
            return False
        watched = self._epochs[-count:]
        middle = count // 2
        earlier, later = _centre(watched[:middle]), _centre(watched[-middle:])
        return (later[1] - earlier[1]) / max(1e-9, later[0] - earlier[0]) * 60 < self._least


def _centre(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)


def rate_factor(share: float, warmup: float) -> float:
    """Of the peak learning rate: linear from a tenth over ``warmup``, then a cosine to 0."""
    if share < warmup:
        return WARMUP_START + (1 - WARMUP_START) * share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
