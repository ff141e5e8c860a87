"""Moving packets between containers: what :mod:`.passthrough` does in both directions."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.subtitles.stream import SubtitleStream

from nervcodec.errors import InputVideoError
from nervcodec.video.errors_av import AV_ERRORS, cause, is_system_error
from nervcodec.video.probing import stream_name

CopiedStream: TypeAlias = AudioStream | SubtitleStream
CopiedPacket: TypeAlias = "Packet[CopiedStream]"

MAX_TIMESCALE = 2**31 - 1
"""Largest number of ticks a second that an MP4 movie header takes."""

_MAX_NAME = 127
"""Bytes of a track's name: MOV states their number in one byte, which FFmpeg reads as signed."""

_UNNAMED = frozenset(("SoundHandler", "SubtitleHandler"))
"""Names that FFmpeg gives to MP4 tracks without a title."""

_MOV_LANGUAGES = {
    **{"deu": "ger", "fre": "fra", "nld": "dut", "swe": "sve", "ell": "gre", "isl": "ice"},
    **{"zho": "chi", "cze": "ces", "rum": "ron", "slo": "slk", "nob": "nor"},
}
"""QuickTime's own codes, by the other code that ISO 639-2 has; FFmpeg drops what it lacks."""


def copied_streams(
    container: InputContainer, *, audio: bool = True, subtitles: bool = True
) -> tuple[CopiedStream, ...]:
    """The streams that may be passed through, in file order."""
    kinds = (AudioStream,) * audio + (SubtitleStream,) * subtitles
    return tuple(s for s in container.streams if isinstance(s, kinds))


def describe_stream(stream: CopiedStream) -> str:
    """A stream in words, such as "aac 48000 Hz 5.1 (eng)" or "subrip subtitles (ger)"."""
    language = stream.language or ""
    shown = f" ({language})" if language.isalnum() and language != "und" else ""
    if isinstance(stream, SubtitleStream):
        return f"{stream_name(stream)} subtitles{shown}"
    context = stream.codec_context
    if context is None:
        return f"{stream_name(stream)} audio{shown}"
    codec = context.codec.canonical_name
    return f"{codec} {context.sample_rate} Hz {context.layout.name}{shown}"


def muxer_options(container: str, timescale: int) -> dict[str, str]:
    """Options that make a muxer reproducible and its times exact.

    ``timescale`` is the ticks a second of MP4's edit lists; by default a millisecond, to which
    a stream's start would be rounded. Matroska would shift everything to hide AAC's priming, and
    mark a stream of each kind as default.
    """
    options = {"fflags": "+bitexact"}
    if container in ("mp4", "mov"):
        return options | {"movie_timescale": str(timescale)}
    return options | {"avoid_negative_ts": "disabled", "default_mode": "passthrough"}


def common_timescale(*rates: int) -> int:
    """Ticks a second that divide evenly into all ``rates``, or the first when too many."""
    common = math.lcm(*rates)
    return common if common <= MAX_TIMESCALE else rates[0]


def open_memory_output(buffer: io.BytesIO, container: str, timescale: int) -> OutputContainer:
    """An output container over ``buffer``; raises what PyAV raises."""
    options = muxer_options(container, timescale)
    return av.open(buffer, mode="w", format=container, container_options=options)


def add_copy(output: OutputContainer, stream: CopiedStream) -> CopiedStream:
    """Add a stream like ``stream``, with its language, title and disposition.

    MP4 and MOV have no title that FFmpeg reads: it becomes the track's name there.
    """
    copy: CopiedStream = output.add_stream_from_template(stream)
    copy.disposition = stream.disposition
    tags = {k.lower(): v for k, v in stream.metadata.items()}
    tags = {k: v for k, v in tags.items() if k in ("language", "title")}
    container = output.format.name
    if container == "mov" and "language" in tags:
        tags["language"] = _MOV_LANGUAGES.get(tags["language"], tags["language"])
    if container in ("mp4", "mov") and "title" in tags:
        tags["handler_name"] = tags["title"].encode()[:_MAX_NAME].decode(errors="ignore")
    copy.metadata.update(tags)
    return copy


def read_titles(streams: tuple[CopiedStream, ...]) -> None:
    """Give the streams of a file made here the titles that :func:`add_copy` made names."""
    for stream in streams:
        name = stream.metadata.get("handler_name", "")
        if name and name not in _UNNAMED:
            stream.metadata.setdefault("title", name)


def packet_start(packet: CopiedPacket) -> Fraction | None:
    """When the packet begins, in seconds; None where the file does not say."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else ticks * packet.time_base


def packets_of(
    source: InputContainer,
    streams: tuple[CopiedStream, ...],
    name: str,
    lost: list[str] | None = None,
) -> Iterator[CopiedPacket]:
    """The packets of ``streams`` that hold data, in file order; InputVideoError on damage.

    With ``lost`` they end at damage of the data, and that is noted there.
    """
    reached: Fraction | None = None
    try:
        for packet in source.demux(streams):
            if not packet.size:
                continue
            if lost is not None:
                reached = packet_start(cast(CopiedPacket, packet)) or reached
                if packet.is_corrupt:
                    lost.append(lost_after(reached))
                    return
            yield cast(CopiedPacket, packet)
    except AV_ERRORS as exc:
        if lost is not None and not is_system_error(exc):
            lost.append(lost_after(reached))
            return
        raise InputVideoError(
            f"{name}: its sound or subtitles cannot be read: {cause(exc)}"
        ) from exc


def lost_after(time: Fraction | None) -> str:
    """In words what a file of sound and subtitles that is damaged at ``time`` lacks."""
    return f"sound and subtitles after {float(time or 0):.3f} s, where the file is damaged"


@dataclass(frozen=True)
class Sample:
    """A packet apart from its file: PyAV's own points into the file and crashes once it closes."""

    data: bytes
    pts: int | None
    dts: int | None
    time_base: Fraction


def first_packets(
    source: InputContainer,
    streams: tuple[CopiedStream, ...],
    name: str,
    begin: Fraction | None = None,
    end: Fraction | None = None,
    lost: list[str] | None = None,
) -> dict[int, Sample]:
    """The first packet of each stream that has one between two times, by stream index."""
    found: dict[int, Sample] = {}
    for packet in packets_of(source, streams, name, lost):
        if is_between(packet, begin, end):
            sample = Sample(bytes(packet), packet.pts, packet.dts, packet.time_base)
            found.setdefault(packet.stream.index, sample)
        if len(found) == len(streams):
            break
    return found


def is_between(packet: CopiedPacket, begin: Fraction | None, end: Fraction | None) -> bool:
    """Whether a packet is heard or shown between two times (seconds; None: no bound).

    One that does not say when it begins is, unless there is a ``begin``.
    """
    start = packet_start(packet)
    if start is None:
        return begin is None
    if end is not None and start >= end:
        return False
    if begin is None or start >= begin:
        return True
    return start + (packet.duration or 0) * packet.time_base > begin


def move_packet(packet: CopiedPacket, earlier: Fraction) -> None:
    """Let a packet begin so many seconds earlier, a subtitle not before 0."""
    ticks = round(earlier / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks
    if isinstance(packet.stream, SubtitleStream) and packet.pts is not None and packet.pts < 0:
        packet.duration = max((packet.duration or 0) + packet.pts, 1)
        packet.pts = packet.dts = 0


def can_carry(container: str, stream: CopiedStream, sample: Sample) -> bool:
    """Whether ``container`` takes this stream, found out by writing one packet of it.

    Asking FFmpeg is not enough: it says yes to Opus in MOV and then fails at the header.
    ``stream`` must be of a file that is open.
    """
    if stream.codec_context is None:
        return False
    packet = Packet(sample.data)
    packet.pts, packet.dts, packet.time_base = sample.pts, sample.dts, sample.time_base
    try:
        with open_memory_output(io.BytesIO(), container, 1000) as output:
            packet.stream = output.add_stream_from_template(stream)
            output.mux(packet)
    except AV_ERRORS:
        return False
    return True


class PacketOrder:
    """Makes decoding times rise within each stream, as muxers demand of damaged recordings.

    Subtitles may be several at a time: theirs must not fall.
    """

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def fix(self, packet: CopiedPacket) -> None:
        """Move ``packet`` (still in its own time base) to after the one before, if it is not."""
        if packet.dts is None:
            return
        index = packet.stream.index
        step = int(packet.stream.type != "subtitle")
        least = self._last.get(index, packet.dts - step) + step
        packet.dts = max(packet.dts, least)
        if packet.pts is not None:
            packet.pts = max(packet.pts, packet.dts)
        self._last[index] = packet.dts
