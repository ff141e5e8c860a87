"""An open .hfsv file as a sequence of frames, in numpy arrays or torch tensors.

:mod:`nervcodec.inference` evaluates the networks; :mod:`nervcodec.loader` serves frames to a
training, :mod:`nervcodec.decoder` renders them to a video file.
"""

from __future__ import annotations

import operator
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsIndex, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nervcodec.bitstream.salvage import SalvageReader
from nervcodec.bitstream.stream import (
    SegmentInfo,
    StreamContents,
    StreamReader,
    open_stream,
)
from nervcodec.bitstream.survey import Survey
from nervcodec.bitstream.syntax import StreamHeader
from nervcodec.bitstream.tensors import Limits, check_clip_limits
from nervcodec.errors import BitstreamError, UsageError
from nervcodec.inference import (
    RendererCache,
    SegmentRenderer,
    network_bytes,
    select_device,
)
from nervcodec.samples import Frames, peak, sample_type

LONGEST_RUN = 64
"""Frames of a segment that are listed at a time; a multiple of what is evaluated together."""

CACHE_BYTES = 256 << 20
"""Networks kept for random access: about as much memory as the program takes without them.

It holds twenty of the largest that the encoder makes by default, and a thousand small ones.
"""

TENSOR_TYPES = (torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.float32)
LAYOUTS = ("nchw", "nhwc")

MICROSECOND = Fraction(1, 1_000_000)

Position: TypeAlias = int | timedelta
"""A frame's number, negative from the end; or a time since the first frame begins."""

Indices: TypeAlias = slice | Sequence[int] | npt.NDArray[Any] | Tensor
"""Several frames: by a slice, by numbers, or by a mask as long as the clip."""


class HfsvFile:
    """An open ``.hfsv`` file: a sequence of frames, RGB of shape (height, width, 3).

    Samples are uint8, of files of more than 8 bits a sample uint16; see ``bit_depth``.

    Opening checks the whole file's checksums; networks are built when a frame of theirs is
    asked for, and the latest are kept. Use it as a context manager or call :meth:`close`.

    A pickled file is opened again by its path, and a process that was forked opens it for
    itself. It is not for use by several threads at a time.

    Args:
        device: where networks are evaluated and :meth:`tensors` are made.
        limits: what the file may ask for.
        salvage: open a damaged file too if a segment of it is whole. Its length is still that of
            the undamaged clip; iterating passes over the frames that are ``lost``, and asking
            for one raises BitstreamError.
        cache_bytes: how much the networks that are kept may take together.

    Raises:
        BitstreamError: if the file is missing, damaged, or beyond ``limits``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        limits: Limits | None = None,
        salvage: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.path = Path(path)
        self._device = device
        self._limits = limits or Limits()
        self._salvage = salvage
        self._renderers = RendererCache(cache_bytes)
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._stream = open_stream(self.path)
        try:
            self._reader = self._read()
        except BaseException:
            self._stream.close()
            raise

    def _read(self) -> StreamContents:
        if not self._salvage:
            return StreamReader(self._stream, self._limits)
        reader = SalvageReader(Survey(self._stream), self._limits)
        if not reader.segments:
            raise BitstreamError("nothing can be salvaged: no segment is whole")
        return reader

    def __reduce__(self) -> tuple[Any, ...]:
        options = self._device, self._limits, self._salvage, self._renderers.capacity
        return _reopen, (self.path.absolute(), *options)

    @property
    def reader(self) -> StreamContents:
        # A forked process shares the place in the open file with its parent: each would read
        # where the other one has just sought.
        if self._process != os.getpid() and not self._stream.closed:
            self._stream.close()
            self._open()
        return self._reader

    @property
    def header(self) -> StreamHeader:
        return self._reader.header

    @property
    def width(self) -> int:
        return self.header.width

    @property
    def height(self) -> int:
        return self.header.height

    @property
    def bit_depth(self) -> int:
        """Bits a sample: 8, 10 or 12."""
        return self.header.bit_depth

    @property
    def pts(self) -> Sequence[int]:
        """Each frame's presentation time in units of ``header.time_base`` seconds."""
        return self._reader.pts

    @property
    def lost(self) -> list[range]:
        """Runs of frames that a damaged file no longer holds, in order; none without salvage."""
        return self._reader.lost

    def __len__(self) -> int:
        return self.header.frames

    def __getitem__(self, index: int | Indices) -> Frames:
        """One frame (H, W, 3) for an integer, else a stack of frames (N, H, W, 3).

        Raises:
            IndexError: outside the clip, before any frame is made.
            BitstreamError: if a frame is lost, likewise.
        """
        if _is_number(index):
            return next(self.frames([operator.index(index)]))
        chosen = self._chosen(index)
        shape = (len(chosen), self.height, self.width, 3)
        stack = np.empty(shape, dtype=sample_type(self.bit_depth))
        samples = stack if self.bit_depth == 8 else stack.view(np.int16)
        self._fill(chosen, torch.from_numpy(samples).permute(0, 3, 1, 2))
        return stack

    def tensors(
        self,
        index: int | Indices,
        *,
        dtype: torch.dtype = torch.float32,
        layout: str = "nchw",
    ) -> Tensor:
        """The frames of ``self[index]`` as a tensor on the file's device, which they never leave.

        Args:
            dtype: int16 for the samples themselves, at 8 bits uint8 too; float32, float16 or
                bfloat16 for samples from 0 to 1.
            layout: ``nchw`` or ``nhwc``; for an integer ``index`` there is no n.

        A GPU may round a sample the other way where it evaluates frames in other batches.

        Raises:
            UsageError: an unknown or too narrow ``dtype``, an unknown ``layout``, no such device.
            IndexError, BitstreamError: as for ``self[index]``.
        """
        if dtype not in TENSOR_TYPES:
            raise UsageError(f"frames are not given as {dtype}, only as {TENSOR_TYPES}")
        if dtype == torch.uint8 and self.bit_depth > 8:
            raise UsageError(f"samples of {self.bit_depth} bits do not fit uint8: ask for int16")
        if layout not in LAYOUTS:
            raise UsageError(f"unknown layout {layout!r}, it is one of {' '.join(LAYOUTS)}")
        if _is_number(index):
            return self.tensors([operator.index(index)], dtype=dtype, layout=layout)[0]
        chosen = self._chosen(index)
        device = select_device(self._device)
        count, height, width = len(chosen), self.height, self.width
        if layout == "nchw":
            stack = planes = torch.empty((count, 3, height, width), dtype=dtype, device=device)
        else:
            stack = torch.empty((count, height, width, 3), dtype=dtype, device=device)
            planes = stack.permute(0, 3, 1, 2)
        self._fill(chosen, planes)
        return stack

    def __iter__(self) -> Iterator[Frames]:
        for run in self.present():
            yield from self.frames(run)

    def frames(self, indices: Indices) -> Iterator[Frames]:
        """Frames one by one in the order of ``indices``; negative ones count from the end.

        Raises:
            IndexError: for an index outside the clip, before any frame is made.
            BitstreamError: when a frame is reached that is lost.
        """
        return self._frames(self._chosen(indices))

    def _frames(self, chosen: Sequence[int]) -> Iterator[Frames]:
        position = 0
        while position < len(chosen):
            number = self._holding(chosen[position])
            held = _frames_of(self.reader.segments[number])
            run: list[int] = []
            while position < len(chosen) and len(run) < LONGEST_RUN and chosen[position] in held:
                run.append(chosen[position] - held.start)
                position += 1
            yield from self._renderer(number).frames(run)

    def _chosen(self, index: int | Indices) -> Sequence[int]:
        """The frames meant, as numbers in 0..len - 1."""
        everything = range(len(self))
        if isinstance(index, slice):
            return everything[index]
        if isinstance(index, range) and all(end in everything for end in (*index[:1], *index[-1:])):
            return index
        array = np.asarray(index)
        if array.ndim != 1:
            raise IndexError(f"an index of one dimension is needed, not {array.ndim}")
        if array.dtype != np.bool_:
            return [everything[number] for number in array.tolist()]
        if len(array) != len(self):
            raise IndexError(f"a mask of {len(array)} for {len(self)} frames")
        return np.flatnonzero(array).tolist()

    def _fill(self, chosen: Sequence[int], planes: Tensor) -> None:
        """Put the frames into ``planes``, (N, 3, H, W), segment by segment."""
        places: dict[int, list[int]] = {}
        for place, frame in enumerate(chosen):
            places.setdefault(self._holding(frame), []).append(place)
        # First those whose networks are at hand, before others push them out.
        for number in sorted(places, key=lambda number: number not in self._renderers):
            first = self.reader.segments[number].first_frame
            offsets = [chosen[place] - first for place in places[number]]
            waiting = torch.tensor(places[number])
            for batch in self._renderer(number).batches(offsets):
                samples = batch.to(planes.device, planes.dtype)
                if planes.dtype.is_floating_point:
                    samples /= peak(self.bit_depth)
                planes[waiting[: len(batch)]] = samples
                waiting = waiting[len(batch) :]

    def present(self, wanted: range | None = None) -> Iterator[range]:
        """Runs of the frames in ``wanted`` (None: all) that are not lost, a segment at a time."""
        for segment in self.reader.segments:
            held = _frames_of(segment)
            if wanted is not None:
                held = range(max(held.start, wanted.start), min(held.stop, wanted.stop))
            if held:
                yield held

    def index_of(self, position: Position) -> int:
        """The number of the frame at a position; at a time, of the frame that is shown then.

        A frame is found by its own time as it is printed, rounded to microseconds.

        Raises:
            UsageError: outside the clip.
        """
        if not isinstance(position, timedelta):
            if not -len(self) <= position < len(self):
                raise UsageError(f"there is no frame {position}: the clip has {len(self)}")
            return position % len(self)
        time = position // timedelta(microseconds=1) * MICROSECOND
        tick, pts = self.header.time_base, self.pts
        duration = (pts[-1] + self.reader.last_duration - pts[0]) * tick
        if not 0 <= time < duration:
            raise UsageError(
                f"no frame is shown at {float(time):.6f} s: the clip lasts {float(duration):.6f} s"
            )
        return bisect_right(pts, pts[0] + (time + MICROSECOND / 2) // tick) - 1

    def segment_of(self, frame: int) -> int:
        """Place in ``reader.segments`` of the one that holds a frame."""
        return max(0, bisect_right(self.reader.segments, frame, key=_first_frame) - 1)

    def _holding(self, frame: int) -> int:
        number = self.segment_of(frame)
        if frame not in _frames_of(self.reader.segments[number]):
            raise BitstreamError(f"{self.path}: frame {frame} is lost")
        return number

    def _renderer(self, number: int) -> SegmentRenderer:
        def build() -> SegmentRenderer:
            segment, device = self.reader.segment(number), select_device(self._device)
            return SegmentRenderer(
                segment, self.width, self.height, bit_depth=self.bit_depth, device=device
            )

        if self._stream.closed:
            raise UsageError(f"{self.path}: the file is closed")
        info = self.reader.segments[number]
        size = network_bytes(info.model, self.width, self.height, info.frames)
        return self._renderers.get(number, size, build)

    def reference_frames(self, number: int) -> Iterator[Frames]:
        """The normative float64 frames of one segment."""
        segment = self.reader.segment(number)
        renderer = SegmentRenderer(
            segment, self.width, self.height, bit_depth=self.bit_depth, reference=True
        )
        return renderer.frames(range(segment.frames))

    def check_clip_limits(self, wanted: range | None = None) -> None:
        """Refuse to make the frames in ``wanted`` (None: all) where ``limits`` do not allow it.

        Raises:
            LimitError
        """
        segments = self.reader.segments
        runs = ((segments[self.segment_of(r.start)].model, len(r)) for r in self.present(wanted))
        check_clip_limits(self.width, self.height, runs, self._limits)

    def close(self) -> None:
        self._renderers.clear()
        self._stream.close()

    def __enter__(self) -> HfsvFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _reopen(path: Path, device: str, limits: Limits, salvage: bool, cache_bytes: int) -> HfsvFile:
    return HfsvFile(path, device=device, limits=limits, salvage=salvage, cache_bytes=cache_bytes)


def _is_number(index: object) -> TypeGuard[SupportsIndex]:
    return isinstance(index, (int, np.integer)) or getattr(index, "shape", None) == ()


def _frames_of(segment: SegmentInfo) -> range:
    return range(segment.first_frame, segment.first_frame + segment.frames)


def _first_frame(segment: SegmentInfo) -> int:
    return segment.first_frame
