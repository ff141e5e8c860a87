"""Carrying the sound and subtitles of a video, packet by packet, without re-encoding them.

:func:`extract` puts them in a small MP4 in memory that goes into the .hfsv; :func:`copy_into`
brings them to the output that :mod:`.writer` makes. MP4 keeps the priming of AAC and times to the
sample; Matroska, whose clock ticks in milliseconds, is for codecs that MP4 does not know.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import struct
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from nervcodec.bitstream.stream import MAX_AUDIO_BYTES
from nervcodec.errors import BitstreamError, InputVideoError, OutputError
from nervcodec.video.errors_av import AV_ERRORS, cause, file_name, is_system_error
from nervcodec.video.remux import (
    CopiedPacket,
    CopiedStream,
    PacketOrder,
    Sample,
    add_copy,
    can_carry,
    common_timescale,
    copied_streams,
    describe_stream,
    first_packets,
    is_between,
    lost_after,
    move_packet,
    open_memory_output,
    packet_start,
    packets_of,
    read_titles,
)
from nervcodec.video.source import open_input

CONTAINERS = ("mp4", "matroska")
"""What passed-through streams may be wrapped in, the better first."""

MAX_STREAMS = 32
"""Streams that a .hfsv may carry: films have some ten, hostile files have thousands."""

_SUFFIXES = {"mp4": ".mp4", "mov": ".mov", "matroska": ".mkv"}
"""Of outputs, by FFmpeg's name of the container."""

_SOURCE = "passed-through file"

_TABLE = re.compile(rb"stsz|stz2|trun|stsc|stco|co64")
_COUNT_AT = {b"stsz": 12, b"stz2": 12, b"trun": 8}
"""MP4's tables of samples, and how far from its name each states their number."""

_LISTED_TOGETHER = 128
"""FFmpeg makes one entry of so many samples in a row, or more, where they are alike."""

_MOST_BOXES = 1 << 18
_TOO_MANY_SAMPLES = f"the {_SOURCE} announces more samples than it can hold"


@dataclass(frozen=True)
class Passthrough:
    """Audio and subtitle streams in a file in memory.

    ``data`` is a complete MP4 or Matroska file by ``container`` (of :data:`CONTAINERS`), or empty
    when no stream is kept. ``streams`` and ``dropped`` describe for a person what it holds and
    what it does not, and why.
    """

    data: bytes
    container: str
    streams: tuple[str, ...]
    dropped: tuple[str, ...]


def extract(
    path: str | os.PathLike[str],
    *,
    begin: Fraction | None = None,
    end: Fraction | None = None,
    audio: bool = True,
    subtitles: bool = True,
    allow_damaged: bool = False,
) -> Passthrough | None:
    """The sound and subtitles of a video file between two times (seconds; None: no bound).

    ``begin`` becomes 0. Packets of sound stay whole, so that the first may begin before and the
    last end later than asked for; a subtitle that is shown already begins at 0. What is not
    wanted is passed over in silence, and with ``allow_damaged`` all ends where the file is
    damaged. None when the file holds nothing of what is wanted. Raises InputVideoError when the
    file cannot be read, or when it has sound of which no container can carry any.
    """
    lost: list[str] | None = [] if allow_damaged else None
    name = file_name(path)
    with open_input(path) as source:
        streams = copied_streams(source, audio=audio, subtitles=subtitles)
        if not streams:
            return None
        samples = first_packets(source, streams, name, begin, end, lost)
        fitting = {c: [s for s in streams if _fits(c, s, samples)] for c in CONTAINERS}
        container = max(CONTAINERS, key=lambda c: _worth(fitting[c]))
        kept = fitting[container][:MAX_STREAMS]
        names = {s.index: describe_stream(s) for s in streams}
        dropped = [
            f"{names[s.index]}: {_why_dropped(s, samples, fitting, container)}"
            for s in streams
            if s not in kept
        ]
        sound = [s for s in streams if isinstance(s, AudioStream) and s.index in samples]
        if sound and not any(s in kept for s in sound):
            listed = ", ".join(names[s.index] for s in sound)
            raise InputVideoError(f"{name}: its audio ({listed}) cannot be carried; leave it out")
        indices = [s.index for s in kept]
    data = _wrap(path, container, indices, begin, end, lost) if indices else b""
    return Passthrough(
        data=data,
        container=container,
        streams=tuple(names[i] for i in indices),
        dropped=(*dropped, *dict.fromkeys(lost or ())),
    )


def _fits(container: str, stream: CopiedStream, samples: dict[int, Sample]) -> bool:
    return stream.index in samples and can_carry(container, stream, samples[stream.index])


def _worth(streams: list[CopiedStream]) -> tuple[int, int]:
    """The sound that a container can carry counts first, then the subtitles."""
    sound = sum(isinstance(s, AudioStream) for s in streams)
    return sound, len(streams) - sound


def _why_dropped(
    stream: CopiedStream,
    samples: dict[int, Sample],
    fitting: dict[str, list[CopiedStream]],
    container: str,
) -> str:
    if stream.index not in samples:
        return "there is nothing in it"
    if stream in fitting[container]:
        return f"more than {MAX_STREAMS} streams"
    if any(stream in others for others in fitting.values()):
        return f"it does not go into {_SUFFIXES[container]}, which the other streams need"
    return "neither MP4 nor Matroska can carry it"


def _wrap(
    path: str | os.PathLike[str],
    container: str,
    kept: list[int],
    begin: Fraction | None,
    end: Fraction | None,
    lost: list[str] | None,
) -> bytes:
    """Mux the ``kept`` streams of a file into ``container``; the bytes of the result."""
    name = file_name(path)
    buffer = io.BytesIO()
    with open_input(path) as source:
        streams = tuple(s for s in copied_streams(source) if s.index in kept)
        scale = common_timescale(*(_sample_rates(streams) or (1000,)))
        order = PacketOrder()
        try:
            with open_memory_output(buffer, container, scale) as output:
                copies = {s.index: add_copy(output, s) for s in streams}
                output.start_encoding()
                for packet in packets_of(source, streams, name, lost):
                    if not is_between(packet, begin, end):
                        continue
                    start = packet_start(packet)
                    if begin is not None:
                        move_packet(packet, begin)
                    order.fix(packet)
                    packet.stream = copies[packet.stream.index]
                    try:
                        output.mux(packet)
                    except AV_ERRORS:
                        if lost is None:
                            raise
                        lost.append(lost_after(start))
                        break
                    _check_size(buffer, name)
            _check_size(buffer, name)
        except AV_ERRORS as exc:
            raise InputVideoError(
                f"{name}: its audio cannot be carried ({cause(exc)}); leave it out"
            ) from exc
    return buffer.getvalue()


def _check_size(buffer: io.BytesIO, name: str) -> None:
    """Stop at what a file may hold, before the sound of a long clip fills the memory."""
    if buffer.getbuffer().nbytes > MAX_AUDIO_BYTES:
        raise InputVideoError(
            f"{name}: its sound and subtitles have more than the {MAX_AUDIO_BYTES} bytes that a "
            "file may hold (-an and -sn leave them out)"
        )


def _sample_rates(streams: tuple[CopiedStream, ...]) -> tuple[int, ...]:
    sound = (s for s in streams if isinstance(s, AudioStream))
    return tuple(max(s.codec_context.sample_rate, 1) for s in sound)


class AudioCopy:
    """Passed-through sound and subtitles on their way into an output, in step with the video.

    Made from bytes that may be hostile: everything wrong with them is a BitstreamError. Streams
    of kinds that are not wanted are passed over.
    ``sample_rates`` and ``descriptions``, for a person, are known before :meth:`attach`, which
    fills ``warnings``.
    """

    def __init__(
        self, data: bytes, container: str, *, audio: bool = True, subtitles: bool = True
    ) -> None:
        if container not in CONTAINERS:
            raise BitstreamError(f"the {_SOURCE} is in an unknown container: {container!r}")
        self._source = open_passthrough(data, container)
        streams = copied_streams(self._source)
        if len(streams) != len(self._source.streams) or not streams:
            raise BitstreamError("the passed-through streams are not all audio or subtitles")
        if len(streams) > MAX_STREAMS:
            raise BitstreamError(f"{len(streams)} passed-through streams, at most {MAX_STREAMS}")
        if any(s.codec_context is None for s in streams):
            raise BitstreamError("a passed-through stream is of an unknown codec")
        read_titles(streams)
        with open_passthrough(data, container) as trial:
            try:
                self._samples = first_packets(trial, copied_streams(trial), _SOURCE)
            except InputVideoError as exc:
                raise BitstreamError(str(exc)) from exc
        self._streams = copied_streams(self._source, audio=audio, subtitles=subtitles)
        self.sample_rates = _sample_rates(self._streams)
        self.descriptions = [describe_stream(stream) for stream in self._streams]
        self.warnings: list[str] = []
        self._copies: dict[int, CopiedStream] = {}
        self._waiting: CopiedPacket | None = None
        self._order = PacketOrder()

    def attach(self, output: OutputContainer) -> None:
        """Add the streams to ``output``; those it cannot carry are left out with a warning."""
        self._output = output
        container = output.format.name
        for stream in self._streams:
            if _fits(container, stream, self._samples):
                self._copies[stream.index] = add_copy(output, stream)
            elif stream.index in self._samples:
                self.warnings.append(self._why_left_out(stream, container))
        kept = tuple(s for s in self._streams if s.index in self._copies)
        self._packets = packets_of(self._source, kept, _SOURCE)

    def _why_left_out(self, stream: CopiedStream, container: str) -> str:
        """What is lost, and the kinds of output that could carry it."""
        able = [text for c, text in _SUFFIXES.items() if _fits(c, stream, self._samples)]
        kind = "audio" if isinstance(stream, AudioStream) else "subtitles"
        hint = f", {' and '.join(able)} can" if able else ""
        left_out = f"{kind} left out, {_SUFFIXES[container]} cannot carry it{hint}"
        return f"{left_out}: {describe_stream(stream)}"

    def mux_until(self, time: Fraction | None, shift: Fraction = Fraction(0)) -> None:
        """Write the packets that begin before ``time`` (seconds; None: all), ``shift`` later."""
        while self._copies:
            packet = self._waiting or self._next_packet()
            self._waiting = packet
            if packet is None:
                return
            start = packet_start(packet)
            if time is not None and start is not None and start + shift >= time:
                return
            self._mux(packet, shift)
            self._waiting = None

    def _next_packet(self) -> CopiedPacket | None:
        try:
            return next(self._packets, None)
        except InputVideoError as exc:
            raise BitstreamError(str(exc)) from exc

    def _mux(self, packet: CopiedPacket, shift: Fraction) -> None:
        try:
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
            self._order.fix(packet)
            packet.stream = self._copies[packet.stream.index]
            self._output.mux(packet)
        except AV_ERRORS as exc:
            if is_system_error(exc):
                raise OutputError(f"cannot write the sound or subtitles: {cause(exc)}") from exc
            raise BitstreamError(f"the {_SOURCE} is damaged: {cause(exc)}") from exc

    def close(self) -> None:
        """Free the source of the packets; nothing more is written."""
        self._copies = {}
        self._source.close()


def open_passthrough(data: bytes, container: str) -> InputContainer:
    """Open a passed-through file, which may be hostile, without access to other files.

    Args:
        data, container: of a :class:`Passthrough`; the bytes are tried as nothing else than
            ``container``, one of :data:`CONTAINERS`.

    The caller closes what it gets. Raises BitstreamError if the data is damaged, or an MP4 that
    announces more samples than it can hold.
    """
    if container == "mp4":
        _check_samples(data)
    try:
        return av.open(
            io.BytesIO(data),
            mode="r",
            format=container,
            container_options={"protocol_whitelist": "none"},
            metadata_errors="replace",
        )
    except AV_ERRORS as exc:
        raise BitstreamError(f"the {_SOURCE} is damaged: {cause(exc)}") from exc


def _check_samples(data: bytes) -> None:
    """Refuse an MP4 that announces more samples than it can hold.

    FFmpeg lists them all on opening, which for some thousand bytes can take gigabytes. It finds
    tables in boxes of many kinds, so they are looked for by name.
    """

    def number(place: int) -> int:
        return int.from_bytes(data[place : place + 4], "big")

    tables = _tables(data)
    samples = sum(number(at + _COUNT_AT[name]) for name, at in tables if name in _COUNT_AT)
    chunks = sum(number(at + 8) for name, at in tables if name in (b"stco", b"co64"))
    runs = [(at, number(at + 8)) for name, at in tables if name == b"stsc"]
    if samples > len(data) or 12 * sum(count for _, count in runs) > len(data):
        raise BitstreamError(_TOO_MANY_SAMPLES)
    longest = max((number(at + 16 + 12 * k) for at, count in runs for k in range(count)), default=0)
    if chunks * longest > _LISTED_TOGETHER * len(data):
        raise BitstreamError(_TOO_MANY_SAMPLES)


def _tables(data: bytes) -> list[tuple[bytes, int]]:
    """Names and places of an MP4's tables, wherever they are but among the samples' own bytes."""
    tables: list[tuple[bytes, int]] = []
    start = boxes = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        if size == 1:
            size = int.from_bytes(data[start + 8 : start + 16], "big")
        end = min(start + size, len(data)) if size >= 8 else len(data)
        if kind != b"mdat":
            found = itertools.islice(_TABLE.finditer(data, start, end), _MOST_BOXES)
            tables += [(match[0], match.start()) for match in found]
        start, boxes = end, boxes + 1
        if boxes + len(tables) > _MOST_BOXES:
            raise BitstreamError(f"the {_SOURCE} has more than {_MOST_BOXES} boxes")
    return tables


def copy_into(passthrough_bytes: bytes, container_name: str, output: OutputContainer) -> AudioCopy:
    """Add the streams to ``output``; call ``mux_until`` on the result as video comes.

    Raises BitstreamError for damaged bytes; what ``output`` cannot carry is in ``warnings``.
    """
    copy = AudioCopy(passthrough_bytes, container_name)
    copy.attach(output)
    return copy
