"""Carrying the audio of a video, packet by packet, without re-encoding it.

:func:`extract` puts it in a small MP4 in memory that goes into the .hfsv; :func:`copy_into`
brings it to the output that :mod:`.writer` makes. MP4 keeps the priming of AAC and times to the
sample; Matroska, whose clock ticks in milliseconds, is for codecs that MP4 does not know.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from nervcodec.errors import BitstreamError, InputVideoError, OutputError
from nervcodec.video.errors_av import AV_ERRORS, cause, file_name, is_system_error
from nervcodec.video.probing import not_carried
from nervcodec.video.remux import (
    AudioPacket,
    PacketOrder,
    add_copy,
    audio_packets,
    can_carry,
    common_timescale,
    describe_stream,
    first_packets,
    open_memory_output,
    packet_start,
)
from nervcodec.video.source import open_input

CONTAINERS = ("mp4", "matroska")
"""What passed-through audio may be wrapped in, the better first."""

MAX_STREAMS = 32
"""Audio streams that a .hfsv may carry: films have some ten, hostile files have thousands."""

_SOURCE = "passed-through audio"


@dataclass(frozen=True)
class Passthrough:
    """Audio streams in a file in memory.

    ``data`` is a complete MP4 or Matroska file by ``container`` (of :data:`CONTAINERS`).
    ``streams`` and ``dropped`` describe for a person what it holds and what it does not.
    """

    data: bytes
    container: str
    streams: tuple[str, ...]
    dropped: tuple[str, ...]


def extract(path: str | os.PathLike[str], *, end: Fraction | None = None) -> Passthrough | None:
    """The audio of a video file up to ``end`` (seconds; packets that begin there are dropped).

    None when the file holds no audio. Raises InputVideoError when the file or its audio cannot
    be read, or when no container can carry any of it.
    """
    name = file_name(path)
    with open_input(path) as source:
        streams = tuple(source.streams.audio)
        if not streams:
            return None
        names = {s.index: describe_stream(s) for s in streams}
        others = [item for item in not_carried(source, None) if not item.startswith("video")]
        samples = first_packets(source, streams, name)
        fitting = {
            c: [
                s.index for s in streams if s.index in samples and can_carry(c, s, samples[s.index])
            ]
            for c in CONTAINERS
        }
    container = max(CONTAINERS, key=lambda c: len(fitting[c]))
    kept = fitting[container][:MAX_STREAMS]
    if not kept:
        listed = ", ".join(names.values())
        raise InputVideoError(f"{name}: its audio ({listed}) cannot be carried; leave it out")
    return Passthrough(
        data=_wrap(path, container, kept, end),
        container=container,
        streams=tuple(names[i] for i in kept),
        dropped=(*(text for index, text in names.items() if index not in kept), *others),
    )


def _wrap(
    path: str | os.PathLike[str], container: str, kept: list[int], end: Fraction | None
) -> bytes:
    """Mux the ``kept`` audio streams of a file into ``container``; the bytes of the result."""
    name = file_name(path)
    buffer = io.BytesIO()
    with open_input(path) as source:
        streams = tuple(s for s in source.streams.audio if s.index in kept)
        scale = common_timescale(*(max(s.codec_context.sample_rate, 1) for s in streams))
        order = PacketOrder()
        try:
            with open_memory_output(buffer, container, scale) as output:
                copies = {s.index: add_copy(output, s) for s in streams}
                output.start_encoding()
                for packet in audio_packets(source, streams, name):
                    start = packet_start(packet)
                    if end is None or start is None or start < end:
                        order.fix(packet)
                        packet.stream = copies[packet.stream.index]
                        output.mux(packet)
        except AV_ERRORS as exc:
            raise InputVideoError(
                f"{name}: its audio cannot be carried ({cause(exc)}); leave it out"
            ) from exc
    return buffer.getvalue()


class AudioCopy:
    """Passed-through audio on its way into an output, in step with the video.

    Made from bytes that may be hostile: everything wrong with them is a BitstreamError.
    ``sample_rates`` are known before :meth:`attach`, which fills ``warnings``.
    """

    def __init__(self, data: bytes, container: str) -> None:
        if container not in CONTAINERS:
            raise BitstreamError(f"passed-through audio is in an unknown container: {container!r}")
        self._source = _open_bytes(data, container)
        self._streams = tuple(self._source.streams.audio)
        if len(self._streams) != len(self._source.streams) or not self._streams:
            raise BitstreamError("the passed-through streams are not all audio")
        if len(self._streams) > MAX_STREAMS:
            raise BitstreamError(f"{len(self._streams)} audio streams, at most {MAX_STREAMS}")
        if any(s.codec_context is None for s in self._streams):
            raise BitstreamError("the passed-through audio is of an unknown codec")
        with _open_bytes(data, container) as trial:
            try:
                self._samples = first_packets(trial, tuple(trial.streams.audio), _SOURCE)
            except InputVideoError as exc:
                raise BitstreamError(str(exc)) from exc
        self.sample_rates = tuple(max(s.codec_context.sample_rate, 1) for s in self._streams)
        self.warnings: list[str] = []
        self._copies: dict[int, AudioStream] = {}
        self._waiting: AudioPacket | None = None
        self._order = PacketOrder()

    def attach(self, output: OutputContainer) -> None:
        """Add the streams to ``output``; those it cannot carry are left out with a warning."""
        self._output = output
        container = output.format.name
        for stream in self._streams:
            sample = self._samples.get(stream.index)
            if sample is not None and can_carry(container, stream, sample):
                self._copies[stream.index] = add_copy(output, stream)
            else:
                self.warnings.append(
                    f"audio left out, {container} cannot carry it: {describe_stream(stream)}"
                )
        kept = tuple(s for s in self._streams if s.index in self._copies)
        self._packets = audio_packets(self._source, kept, _SOURCE)

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

    def _next_packet(self) -> AudioPacket | None:
        try:
            return next(self._packets, None)
        except InputVideoError as exc:
            raise BitstreamError(str(exc)) from exc

    def _mux(self, packet: AudioPacket, shift: Fraction) -> None:
        try:
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
            self._order.fix(packet)
            packet.stream = self._copies[packet.stream.index]
            self._output.mux(packet)
        except AV_ERRORS as exc:
            if is_system_error(exc):
                raise OutputError(f"cannot write the audio: {cause(exc)}") from exc
            raise BitstreamError(f"the {_SOURCE} is damaged: {cause(exc)}") from exc

    def close(self) -> None:
        """Free the source of the packets; nothing more is written."""
        self._copies = {}
        self._source.close()


def _open_bytes(data: bytes, container: str) -> InputContainer:
    """Open passed-through bytes as ``container`` and nothing else, without access to files."""
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


def copy_into(passthrough_bytes: bytes, container_name: str, output: OutputContainer) -> AudioCopy:
    """Add the audio's streams to ``output``; call ``mux_until`` on the result as video comes.

    Raises BitstreamError for damaged bytes; what ``output`` cannot carry is in ``warnings``.
    """
    copy = AudioCopy(passthrough_bytes, container_name)
    copy.attach(output)
    return copy
