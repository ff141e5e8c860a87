"""Passed-through streams cut to a part of the clip, by whole packets.

What comes out is again what :class:`.passthrough.AudioCopy` takes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import InputContainer

from nervcodec.errors import BitstreamError, InputVideoError
from nervcodec.video.errors_av import AV_ERRORS, cause
from nervcodec.video.passthrough import AudioCopy, open_passthrough
from nervcodec.video.remux import (
    CopiedPacket,
    PacketOrder,
    add_copy,
    common_timescale,
    copied_streams,
    is_between,
    move_packet,
    open_memory_output,
    packets_of,
    read_titles,
)

_SOURCE = "passed-through file"


def cut(data: bytes, container: str, begin: Fraction, end: Fraction | None) -> bytes | None:
    """The packets that are heard or shown between two times, ``begin`` becoming 0.

    Args:
        data, container: of a :class:`.passthrough.Passthrough`; they may be hostile.
        begin, end: in seconds; None for all that follows.

    Packets of sound stay whole, so that the first may begin before 0 and the last end later
    than asked for; a subtitle that is shown already begins at 0. None where no packet is left.

    Raises:
        BitstreamError: if the data is damaged.
    """
    AudioCopy(data, container).close()  # which refuses what is malformed
    try:
        with open_passthrough(data, container) as source:
            kept = {packet.stream.index for packet in _between(source, begin, end)}
        return _mux(data, container, kept, begin, end) if kept else None
    except InputVideoError as exc:
        raise BitstreamError(str(exc)) from exc
    except AV_ERRORS as exc:
        raise BitstreamError(f"the {_SOURCE} is damaged: {cause(exc)}") from exc


def _mux(
    data: bytes, container: str, kept: set[int], begin: Fraction, end: Fraction | None
) -> bytes:
    """The cut into a new file of the ``kept`` streams; raises what PyAV raises."""
    buffer, order = io.BytesIO(), PacketOrder()
    with open_passthrough(data, container) as source:
        streams = tuple(s for s in copied_streams(source) if s.index in kept)
        read_titles(streams)
        sound = (s for s in streams if isinstance(s, AudioStream))
        rates = [max(s.codec_context.sample_rate, 1) for s in sound]
        with open_memory_output(buffer, container, common_timescale(*rates, 1000)) as output:
            copies = {s.index: add_copy(output, s) for s in streams}
            output.start_encoding()
            for packet in _between(source, begin, end):
                move_packet(packet, begin)
                order.fix(packet)
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return buffer.getvalue()


def _between(
    source: InputContainer, begin: Fraction, end: Fraction | None
) -> Iterator[CopiedPacket]:
    for packet in packets_of(source, copied_streams(source), _SOURCE):
        if is_between(packet, begin, end):
            yield packet
