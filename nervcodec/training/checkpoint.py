"""Checkpoints: what an encode writes beside its output so that a later run can go on from there.

A checkpoint is a file of our own kind: a magic number, the SHA-256 of all that follows, and one
MessagePack map. It is read back only if the hash fits and it belongs to the same source and
settings; nothing in it is executed. :mod:`nervcodec.coder` decides when it is written.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import numpy as np
import numpy.typing as npt

from nervcodec.errors import CheckpointError, OutputError
from nervcodec.files import atomic_output, file_digest

MAGIC = b"HFSVCKP1"
SUFFIX = ".checkpoint"

Floats = npt.NDArray[np.float32]

T = TypeVar("T")


@dataclass(frozen=True)
class TrainerState:
    """A training between two steps.

    Attributes:
        step: optimizer steps done.
        shuffler: state of the shuffling generator at the start of the epoch of the next step.
        tensors: weights, Adam's moments and averaged weights by name, float32.
    """

    step: int
    shuffler: bytes
    tensors: dict[str, Floats]


@dataclass(frozen=True)
class TrainedSegment:
    """A finished segment.

    Attributes:
        payload: the SEGM payload; it is decoded and measured again whenever it is used.
        float_psnr: of the network before quantization, in dB; None if it was stopped early.
        seconds: of its training.
    """

    payload: bytes
    float_psnr: float | None
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """An encode under way.

    Attributes:
        key: of source, settings and program, see :func:`checkpoint_key`.
        segments: in order, those that are finished and None between them for those that are not.
        state: of the training of the first that is not; None before its first step.
        seconds: spent on that training.
        output: digest of the output that an interrupted run wrote from this state; else empty.
    """

    key: str
    segments: tuple[TrainedSegment | None, ...] = ()
    state: TrainerState | None = None
    seconds: float = 0.0
    output: str = ""


def checkpoint_path(output: Path) -> Path:
    """Where the checkpoint of an output lies: beside it."""
    return output.with_name(output.name + SUFFIX)


def checkpoint_key(**parts: Any) -> str:
    """A digest of everything that decides what a training does; ``parts`` are JSON values."""
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at ``path``; the old one stays until the new one is whole.

    Raises:
        OutputError: where the system refuses.
    """
    state = checkpoint.state
    body: bytes = msgpack.packb(
        {
            "key": checkpoint.key,
            "segments": [
                None if s is None else [s.payload, s.float_psnr, s.seconds]
                for s in checkpoint.segments
            ],
            "state": None
            if state is None
            else {
                "step": state.step,
                "shuffler": state.shuffler,
                "tensors": {
                    name: [list(values.shape), values.astype("<f4").tobytes()]
                    for name, values in state.tensors.items()
                },
            },
            "seconds": checkpoint.seconds,
            "output": checkpoint.output,
        }
    )
    with atomic_output(path) as temporary, temporary.open("wb") as stream:
        stream.write(MAGIC + hashlib.sha256(body).digest())
        stream.write(body)


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """The checkpoint at ``path``, or None where there is none.

    Raises:
        CheckpointError: if it is damaged or belongs to another source, other settings or another
            version of the program.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise CheckpointError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc
    digest = hashlib.sha256()
    start = len(MAGIC) + digest.digest_size
    body = memoryview(data)[start:]
    digest.update(body)
    if data[:start] != MAGIC + digest.digest():
        raise CheckpointError(f"{path}: the checkpoint is damaged; without --resume it is replaced")
    try:
        checkpoint = _unpack(msgpack.unpackb(body))
    except (ValueError, TypeError, KeyError) as exc:
        raise CheckpointError(f"{path}: not a checkpoint of this program") from exc
    if checkpoint.key != key:
        raise CheckpointError(
            f"{path}: the checkpoint is of another source, other settings or another version; "
            "without --resume it is replaced"
        )
    return checkpoint


def _unpack(body: dict[str, Any]) -> Checkpoint:
    state = body["state"]
    return Checkpoint(
        key=_typed(str, body["key"]),
        segments=tuple(None if part is None else _segment(*part) for part in body["segments"]),
        state=None
        if state is None
        else TrainerState(
            step=_typed(int, state["step"]),
            shuffler=_typed(bytes, state["shuffler"]),
            tensors={
                _typed(str, name): _floats(shape, values)
                for name, (shape, values) in _typed(dict, state["tensors"]).items()
            },
        ),
        seconds=_typed(float, body["seconds"]),
        output=_typed(str, body["output"]),
    )


def _segment(payload: object, psnr: object, seconds: object) -> TrainedSegment:
    return TrainedSegment(
        _typed(bytes, payload),
        None if psnr is None else _typed(float, psnr),
        _typed(float, seconds),
    )


def _typed(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} should be")
    return value


def _floats(shape: object, values: object) -> Floats:
    sides = [_typed(int, side) for side in _typed(list, shape)]
    return np.frombuffer(_typed(bytes, values), dtype="<f4").reshape(sides)


class CheckpointKeeper:
    """Keeps the checkpoint of one encode up to date on the disk.

    A checkpoint that cannot be written does not end an encode: ``warn`` is told once.

    Args:
        path: where it lies.
        key: of this encode, see :func:`checkpoint_key`.
        interval: seconds between two writes; 0 for no checkpoints.
        warn: told when it cannot be written.
    """

    def __init__(self, path: Path, key: str, interval: float, warn: Callable[[str], None]) -> None:
        self.path = path
        self._interval = interval
        self._warn = warn
        self._warned = False
        self._written = time.monotonic()
        self._checkpoint = Checkpoint(key)

    def resume(self) -> bool:
        """Take over what an earlier run left; False where there is nothing.

        Raises:
            CheckpointError: see :func:`load_checkpoint`.
        """
        found = load_checkpoint(self.path, self._checkpoint.key)
        if found is not None:
            self._checkpoint = found
        return found is not None

    @property
    def state(self) -> TrainerState | None:
        """Of the training of the first segment that is not finished."""
        return self._checkpoint.state

    @property
    def seconds(self) -> float:
        """Spent on that training so far."""
        return self._checkpoint.seconds

    @property
    def all_seconds(self) -> float:
        """Spent on all trainings so far."""
        return self.seconds + sum(s.seconds for s in self._checkpoint.segments if s is not None)

    def segment(self, index: int) -> TrainedSegment | None:
        """A finished segment, or None."""
        segments = self._checkpoint.segments
        return segments[index] if index < len(segments) else None

    def wrote(self, output: Path) -> bool:
        """Whether ``output`` is the file that an interrupted run wrote from this checkpoint."""
        digest = self._checkpoint.output
        return bool(digest) and output.is_file() and file_digest(output) == digest

    def keep(self, state: Callable[[], TrainerState], seconds: float, *, now: bool) -> None:
        """Note a training's state and write it: at once, or if it is time to."""
        if now or self._due():
            self._checkpoint = replace(self._checkpoint, state=state(), seconds=seconds)
            self._write()

    def add(self, segment: TrainedSegment, index: int | None = None) -> None:
        """Note a finished segment, the first that was not or the one of ``index``.

        It is written if it is time to; one that was finished out of turn at once, since no state
        of its training has been kept.
        """
        segments = list(self._checkpoint.segments)
        first = segments.index(None) if None in segments else len(segments)
        place = first if index is None else index
        segments += [None] * (place + 1 - len(segments))
        segments[place] = segment
        self._checkpoint = replace(self._checkpoint, segments=tuple(segments))
        if place == first:
            self._checkpoint = replace(self._checkpoint, state=None, seconds=0.0)
        if index is not None or self._due():
            self._write()

    def interrupted(self, output_digest: str) -> None:
        """Write all that is known, and what the file is that the interrupted run leaves."""
        self._checkpoint = replace(self._checkpoint, output=output_digest)
        self._write()

    def remove(self) -> None:
        """The encode is finished."""
        self.path.unlink(missing_ok=True)

    def _due(self) -> bool:
        return self._interval > 0 and time.monotonic() - self._written >= self._interval

    def _write(self) -> None:
        if self._interval <= 0:
            return
        try:
            save_checkpoint(self.path, self._checkpoint)
        except OutputError as exc:
            if not self._warned:
                self._warn(f"no checkpoint: {exc}")
            self._warned = True
        self._written = time.monotonic()
