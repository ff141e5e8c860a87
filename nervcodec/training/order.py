"""In which order a training sees its frames: shuffled anew each epoch, the same for the same seed.

:mod:`nervcodec.training.trainer` goes through it; a checkpoint keeps where it stood.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from nervcodec.errors import CheckpointError


class FrameOrder:
    """Batches of frame numbers, epoch by epoch.

    Its generator is one of its own on the CPU, so that the order is the same on every device.

    Args:
        frames: how many there are.
        batch: frames of a step.
        seed: of the generator.
    """

    def __init__(self, frames: int, batch: int, seed: int) -> None:
        self._frames, self._batch = frames, batch
        self.epoch_steps = -(-frames // batch)
        self._generator = torch.Generator().manual_seed(seed)
        self._epoch_start = self._generator.get_state()

    def epoch(self, done: int) -> Iterator[Tensor]:
        """The batches of the next epoch, of which ``done`` have been seen before a checkpoint."""
        self._epoch_start = self._generator.get_state()
        order = torch.randperm(self._frames, generator=self._generator)
        return islice(iter(torch.split(order, self._batch)), done, None)

    def state(self, step: int) -> bytes:
        """From where :meth:`epoch` gives what comes after ``step`` steps."""
        between = step % self.epoch_steps == 0
        state = self._generator.get_state() if between else self._epoch_start
        return state.numpy().tobytes()

    def restore(self, state: bytes) -> None:
        """Go on from where another of the same arguments stood.

        Raises:
            CheckpointError: if the state is none.
        """
        try:
            self._generator.set_state(torch.from_numpy(np.frombuffer(state, dtype=np.uint8).copy()))
        except RuntimeError as exc:
            raise CheckpointError("the checkpoint's generator cannot be restored") from exc
        self._epoch_start = self._generator.get_state()
