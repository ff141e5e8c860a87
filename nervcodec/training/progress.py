"""What :mod:`nervcodec.training.trainer` tells while it works, and what it gives in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TrainProgress:
    """State of a training, for display.

    Attributes:
        psnr: mean over the current epoch's frames so far, from the training passes, in dB.
        loss: of the latest step.
        seconds_per_step: over the steps since this run's start, waiting for the callback left out.
        eta: seconds left for this segment.
        bytes: what the symbols would take now; None where the rate is not trained, or not yet.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    psnr: float
    loss: float
    seconds_per_step: float
    eta: float
    bytes: int | None = None


ProgressCallback = Callable[[TrainProgress], None]
Proceed = Callable[[], bool]


@dataclass(frozen=True)
class TrainedNetwork:
    """Tensors by name as the format lists them.

    Attributes:
        tensors: before quantization.
        psnr: mean RGB PSNR in dB, of the quantized network where ``steps`` are given, else of the
            float one; None if the training was stopped, when measuring would only keep the user
            waiting.
        steps: quantization steps that were trained: one of each tensor, one a channel of the
            embedding. None if there were none, or not yet.
    """

    tensors: dict[str, npt.NDArray[np.float32]]
    psnr: float | None
    steps: dict[str, npt.NDArray[np.float32]] | None = None
