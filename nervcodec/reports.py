"""What an encode tells its caller: progress on the way, and a measured report at the end.

:mod:`nervcodec.encoder` makes both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from nervcodec.training.progress import TrainProgress


@dataclass(frozen=True)
class EncodeProgress:
    """What the progress callback is told.

    Attributes:
        stage: ``read``, ``plan``, ``resume``, ``train`` or ``verify``.
        segment, segments: 1-based number of the segment at work, and their count.
        done: share of the whole encode's work that is done, 0..1.
        eta: seconds left of the whole training; None outside it.
        training: the state of the training; None outside it.
        description: what is being done or was planned, for a person; empty while training.
        estimated_bytes: of the networks, once the encode is planned.
        warnings: what came up since the last call.
    """

    stage: str
    segment: int
    segments: int
    done: float
    eta: float | None = None
    training: TrainProgress | None = None
    description: str = ""
    estimated_bytes: int | None = None
    warnings: tuple[str, ...] = ()


EncodeCallback = Callable[[EncodeProgress], None]


def remark(stage: str, description: str, *warnings: str) -> EncodeProgress:
    """A word outside the training."""
    return EncodeProgress(stage, 1, 1, 0.0, description=description, warnings=warnings)


@dataclass(frozen=True)
class EncodeReport:
    """The measured outcome of an encode.

    Attributes:
        file_bytes: length of the whole file; ``audio_bytes`` of it are passed-through audio.
        bits_per_pixel: of the file without audio.
        params: decoder parameters and embedding values.
        psnr, ms_ssim: of the decoded file against the coded source frames, RGB, mean over
            ``measured_frames``, which are all unless the encode was stopped; MS-SSIM is None for
            frames too small for it.
        float_psnr: of the networks as trained: before quantization, unless that was part of the
            training; None if one was stopped.
        train_seconds, seconds: of the training, and of everything.
        warnings: what the file does not keep of the source.
        interrupted: the encode was asked to stop. The file then has the frames of the segments
            that were reached, the last of them from weights whose training may be cut short, and
            HASH may be missing; a checkpoint lies beside it.
    """

    file_bytes: int
    audio_bytes: int
    width: int
    height: int
    frames: int
    bits_per_pixel: float
    params: int
    psnr: float
    ms_ssim: float | None
    measured_frames: int
    float_psnr: float | None
    train_seconds: float
    seconds: float
    audio_streams: tuple[str, ...]
    warnings: tuple[str, ...]
    interrupted: bool


class Tally:
    """Adds up the progress of segments that are trained side by side.

    Args:
        lengths: of the segments in frames.
        callback: told the progress of all.
    """

    def __init__(self, lengths: tuple[int, ...], callback: EncodeCallback) -> None:
        self._lengths, self._callback = lengths, callback
        self._frames = sum(lengths)
        self._shares = [0.0] * len(lengths)
        self._started = time.monotonic()

    @property
    def done(self) -> float:
        """Share of the work, 0..1."""
        weighted = sum(n * share for n, share in zip(self._lengths, self._shares, strict=True))
        return weighted / self._frames

    def training(self, index: int, training: TrainProgress) -> None:
        """Segment ``index`` has been trained so far."""
        self._shares[index] = training.step / training.steps
        elapsed = time.monotonic() - self._started
        eta = elapsed / self.done * (1 - self.done)
        place = index + 1, len(self._lengths)
        self._callback(EncodeProgress("train", *place, self.done, eta, training))

    def finished(self, index: int) -> None:
        """Segment ``index`` is trained and measured."""
        self._shares[index] = 1.0
        place = index + 1, len(self._lengths)
        self._callback(EncodeProgress("verify", *place, self.done, description="finished"))
