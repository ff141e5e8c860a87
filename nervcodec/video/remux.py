"""Moving audio packets between containers: what :mod:`.passthrough` does in both directions."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from nervcodec.errors import InputVideoError
from nervcodec.video.errors_av import AV_ERRORS, cause
from nervcodec.video.probing import stream_name

AudioPacket: TypeAlias = "Packet[AudioStream]"

MAX_TIMESCALE = 2**31 - 1
"""Largest number of ticks a second that an MP4 movie header takes."""


def describe_stream(stream: AudioStream) -> str:
    """A stream in words, such as "aac 48000 Hz 5.1 (eng)"."""
    context = stream.codec_context
    if context is None:
        return f"{stream_name(stream)} audio"
    language = f" ({stream.language})" if stream.language not in (None, "und") else ""
    codec = context.codec.canonical_name
    return f"{codec} {context.sample_rate} Hz {context.layout.name}{language}"


def muxer_options(container: str, timescale: int) -> dict[str, str]:
    """Options that make a muxer reproducible and its times exact.

    ``timescale`` is the ticks a second of MP4's edit lists; by default a millisecond, to which
    a stream's start would be rounded. Matroska would shift everything to hide AAC's priming.
    """
    if container in ("mp4", "mov"):
        return {"fflags": "+bitexact", "movie_timescale": str(timescale)}
    return {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}


def common_timescale(*rates: int) -> int:
    """Ticks a second that divide evenly into all ``rates``, or the first when too many."""
    common = math.lcm(*rates)
    return common if common <= MAX_TIMESCALE else rates[0]


def open_memory_output(buffer: io.BytesIO, container: str, timescale: int) -> OutputContainer:
    """An output container over ``buffer``; raises what PyAV raises."""
    options = muxer_options(container, timescale)
    return av.open(buffer, mode="w", format=container, container_options=options)


def add_copy(output: OutputContainer, stream: AudioStream) -> AudioStream:
    """Add a stream like ``stream``, with its language, title and disposition."""
    copy = output.add_stream_from_template(stream)
    copy.disposition = stream.disposition
    copy.metadata.update(
        {k: v for k, v in stream.metadata.items() if k.lower() in ("language", "title")}
    )
    return copy


def packet_start(packet: AudioPacket) -> Fraction | None:
    """When the packet begins, in seconds; None where the file does not say."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else ticks * packet.time_base


def audio_packets(
    source: InputContainer, streams: tuple[AudioStream, ...], name: str
) -> Iterator[AudioPacket]:
    """The packets of ``streams`` that hold data, in file order; InputVideoError on damage."""
    try:
        for packet in source.demux(streams):
            if packet.size:
                yield packet
    except AV_ERRORS as exc:
        raise InputVideoError(f"{name}: its audio cannot be read: {cause(exc)}") from exc


@dataclass(frozen=True)
class Sample:
    """A packet apart from its file: PyAV's own points into the file and crashes once it closes."""

    data: bytes
    pts: int | None
    dts: int | None
    time_base: Fraction


def first_packets(
    source: InputContainer, streams: tuple[AudioStream, ...], name: str
) -> dict[int, Sample]:
    """The first packet of each stream that has one, by stream index."""
    found: dict[int, Sample] = {}
    for packet in audio_packets(source, streams, name):
        sample = Sample(bytes(packet), packet.pts, packet.dts, packet.time_base)
        found.setdefault(packet.stream.index, sample)
        if len(found) == len(streams):
            break
    return found


def can_carry(container: str, stream: AudioStream, sample: Sample) -> bool:
    """Whether ``container`` takes this stream, found out by writing one packet of it.

    Asking FFmpeg is not enough: it says yes to Opus in MOV and then fails at the header.
    ``stream`` must be of a file that is open.
    """
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
    """Makes decoding times rise within each stream, as muxers demand of damaged recordings."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def fix(self, packet: AudioPacket) -> None:
        """Move ``packet`` (still in its own time base) to after the one before, if it is not."""
        if packet.dts is None:
            return
        index = packet.stream.index
        least = self._last.get(index, packet.dts - 1) + 1
        packet.dts = max(packet.dts, least)
        if packet.pts is not None:
            packet.pts = max(packet.pts, packet.dts)
        self._last[index] = packet.dts
