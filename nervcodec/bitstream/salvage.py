"""What is of use in a damaged file: its whole segments, and what else is sound.

:mod:`nervcodec.bitstream.survey` finds the chunks, :mod:`nervcodec.bitstream.stream` reads sound
files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from nervcodec.bitstream.container import Chunk, ChunkType, misplaced
from nervcodec.bitstream.segment import Segment, decode_segment
from nervcodec.bitstream.stream import (
    AudioData,
    SegmentInfo,
    StreamContents,
    decode_audio,
    decode_meta,
    decode_timestamps,
    split_digests,
)
from nervcodec.bitstream.survey import Fault, Survey
from nervcodec.bitstream.syntax import StreamHeader
from nervcodec.bitstream.tensors import Limits
from nervcodec.errors import BitstreamError, UnsupportedError

MAX_WARNINGS = 20
"""So many of a kind are told one by one."""

T = TypeVar("T")


@dataclass(frozen=True)
class SegmentRun:
    """Segments in a row that are all whole or all lost, and the frames that they hold."""

    segments: range
    frames: range
    whole: bool


class SalvageReader(StreamContents):
    """Reads what is sound of a damaged file; of a sound one, all.

    ``segments`` holds those whose chunk is sound, whose place fits HEAD and the segments before
    them, and whose symbols decode; there may be none. Whatever else is found wrong is added to
    the survey's ``damage``.

    Raises:
        BitstreamError: without a sound HEAD. UnsupportedError: where a sound file would be
            refused too, for its version or the ``limits``.
    """

    def __init__(self, survey: Survey, limits: Limits) -> None:
        super().__init__(limits)
        self.container = self._survey = survey
        self.header = self._read_header()
        out_of_order = misplaced(survey.chunks)
        survey.condemn([(c, "repeated or out of order") for c in out_of_order], Fault.ORDER)
        timing = self._parsed(ChunkType.PTSD, lambda data: decode_timestamps(data, self.header))
        self.pts, self.last_duration = timing or decode_timestamps(None, self.header)
        self._times_are_lost = timing is None and self._has_lost_times()
        self.meta = self._parsed(ChunkType.META, decode_meta) or {}
        self.segments = self._whole_segments()
        self.digests = self._parsed(ChunkType.HASH, self._chosen_digests)

    def audio(self) -> AudioData | None:
        return self._parsed(ChunkType.AUDI, decode_audio)

    @property
    def runs(self) -> list[SegmentRun]:
        """All of HEAD's segments and frames in order, whole and lost."""
        runs: list[SegmentRun] = []
        for segment in self.segments:
            _run_up_to(runs, segment.index, segment.first_frame, whole=False)
            end = segment.first_frame + segment.frames
            _run_up_to(runs, segment.index + 1, end, whole=True)
        _run_up_to(runs, self.header.segments, self.header.frames, whole=False)
        return runs

    @property
    def lost(self) -> list[range]:
        return [run.frames for run in self.runs if not run.whole]

    @property
    def warnings(self) -> list[str]:
        told = few([str(part) for part in self._survey.damage])
        told += few([f"frames {run.start}..{run.stop - 1} are lost" for run in self.lost])
        if self._times_are_lost:
            told.append("the frames' times are lost: a constant frame rate is assumed")
        return told

    def _read_header(self) -> StreamHeader:
        first = next(iter(self._survey.chunks), None)
        if first is None or first.kind != ChunkType.HEAD:
            raise BitstreamError("nothing can be salvaged: HEAD is damaged")
        return StreamHeader.from_bytes(self._survey.payload(first))

    def _parsed(self, kind: ChunkType, parse: Callable[[bytes], T]) -> T | None:
        """What the chunk of a kind says; None where it is absent, or invalid, which is noted."""
        for chunk in self._survey.of_kind(kind):
            try:
                return parse(self._survey.payload(chunk))
            except UnsupportedError:
                raise
            except BitstreamError as exc:
                self._survey.condemn([(chunk, str(exc))], Fault.CONTENT)
        return None

    def _has_lost_times(self) -> bool:
        """Whether a damaged part is PTSD, or may be: it stands behind HEAD."""
        behind_head = self._survey.chunks[0].end
        return any(
            part.chunk == ChunkType.PTSD.name
            or (part.offset == behind_head and part.chunk not in ChunkType.__members__)
            for part in self._survey.damage
        )

    def _whole_segments(self) -> list[SegmentInfo]:
        whole: list[SegmentInfo] = []
        useless: list[tuple[Chunk, str]] = []
        index = frame = 0
        for chunk in self._survey.of_kind(ChunkType.SEGM):
            try:
                segment = decode_segment(self._survey.payload(chunk), self.header, self._limits)
                self._check_place(segment, index, frame)
            except UnsupportedError:
                raise
            except BitstreamError as exc:
                useless.append((chunk, str(exc)))
                continue
            index, first, frames = segment.index, segment.first_frame, segment.frames
            whole.append(SegmentInfo(chunk, index, first, frames, segment.model))
            index, frame = index + 1, first + frames
        self._survey.condemn(useless, Fault.CONTENT)
        return whole

    def _check_place(self, segment: Segment, index: int, frame: int) -> None:
        """Segments lost from ``index`` and ``frame`` on, and behind, need a frame or more each."""
        end = segment.first_frame + segment.frames
        lost_before = (segment.index - index, segment.first_frame - frame)
        lost_behind = (self.header.segments - segment.index - 1, self.header.frames - end)
        for segments, frames in (lost_before, lost_behind):
            if not (0 < segments <= frames or segments == frames == 0):
                raise BitstreamError(
                    f"segment {segment.index}, frames {segment.first_frame}..{end - 1}, "
                    "does not fit HEAD and the segments before it"
                )

    def _chosen_digests(self, payload: bytes) -> list[bytes]:
        digests = split_digests(payload, self.header.segments)
        return [digests[segment.index] for segment in self.segments]


def few(lines: list[str]) -> list[str]:
    """The first of the lines, and how many there are more."""
    more = len(lines) - MAX_WARNINGS
    return lines[:MAX_WARNINGS] + ([f"... and {more} more"] if more > 0 else [])


def _run_up_to(runs: list[SegmentRun], segment: int, frame: int, *, whole: bool) -> None:
    """Let the runs go on up to these numbers, the last one where it is of the same kind."""
    first = (runs[-1].segments.stop, runs[-1].frames.stop) if runs else (0, 0)
    if segment == first[0]:
        return
    if runs and runs[-1].whole == whole:
        last = runs.pop()
        first = (last.segments.start, last.frames.start)
    runs.append(SegmentRun(range(first[0], segment), range(first[1], frame), whole))
