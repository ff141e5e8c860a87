"""Opening a video file safely, choosing its stream, and decoding it; :mod:`.reader` is the face.

Formats are limited to :data:`INPUT_FORMATS` and protocols to plain files: FFmpeg would
otherwise follow a text file named ``.mp4`` to other files and to the network.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nervcodec.errors import InputVideoError
from nervcodec.video.errors_av import AV_ERRORS, cause, file_name, is_system_error
from nervcodec.video.inputs import Source, find_source

INPUT_FORMATS = (
    *("mov", "matroska", "avi", "gif", "apng", "mpegts", "mpeg", "mpegvideo", "h264", "hevc"),
    *("vvc", "obu", "ivf", "yuv4mpegpipe", "flv", "asf", "mxf", "ogg", "nut", "dv", "m4v"),
    *("rm", "wtv", "gxf", "h263", "mjpeg"),
)
"""FFmpeg demuxers that may be opened: containers of one file. Never playlists and manifests
(concat, hls, dash, sdp), image sequences, devices, or formats that any text file fits. A
:class:`.inputs.Source` may name another demuxer, which is the only one that opens it then."""

_COVER = Disposition.attached_pic | Disposition.timed_thumbnails
_RATE_PACKETS = 96
"""Packets looked at to check the frame rate: enough to average out rounding to 1 ms."""

_MAX_REORDER = 16
"""Frames that may be decoded before earlier ones (H.264 and HEVC allow no more)."""

_HINT = "--allow-damaged keeps what can be decoded"


@dataclass
class Damage:
    """What was passed over in a file of which all is to be had that decodes.

    ``skipped`` packets could not be decoded; ``ended`` says why the file could not be read to
    its end, and is empty where it could.
    """

    skipped: int = 0
    ended: str = ""

    def warnings(self, frames: int) -> list[str]:
        """Lines for a person about what was lost beside the ``frames`` that came."""
        lines = [self.ended] if self.ended else []
        if self.skipped:
            lines.append(
                f"{self.skipped} damaged packets could not be decoded; {frames} frames came"
            )
        return lines


def open_input(path: str | os.PathLike[str]) -> InputContainer:
    """Open a video file, of a folder the first picture.

    InputVideoError says in one line why it cannot be.
    """
    source = find_source(path)
    if source.pictures:
        source = source.picture(0)
    name = file_name(source)
    try:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            raise InputVideoError(f"{name}: is not a regular file")
        if status.st_size == 0:
            raise InputVideoError(f"{name}: the file is empty")
        return av.open(
            f"file:{source.path.absolute()}",
            mode="r",
            format=source.demuxer or None,
            container_options={
                "format_whitelist": source.demuxer or ",".join(INPUT_FORMATS),
                "protocol_whitelist": "file",
                **source.options,
            },
            metadata_errors="replace",
        )
    except AV_ERRORS as exc:
        if is_system_error(exc):
            raise InputVideoError(f"{name}: cannot be read: {cause(exc)}") from exc
        raise InputVideoError(f"{name}: {_why_not_opened(source)}") from exc


def _why_not_opened(path: Source) -> str:
    """Tell a damaged MP4 from a file that is no video, by its first bytes."""
    if path.demuxer:
        return "cannot be read as what it is said to be"
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except (OSError, ValueError):
        head = b""
    if head[4:8] == b"ftyp":
        return "the MP4 file is damaged or cut short (its index cannot be read)"
    return "is not a video in a known format, or is damaged at its very start"


def decode_frames(
    path: str | os.PathLike[str], index: int, damage: Damage | None = None
) -> Iterator[VideoFrame]:
    """The frames of stream ``index`` in presentation order, as they are decoded.

    A recording that starts in mid-stream may begin with packets that cannot be decoded: they
    are skipped up to the first key frame. Raises InputVideoError, saying after how many frames,
    for any other damage and for a file that ends before its index does; with ``damage`` that is
    noted there, and is an error only where the system cannot read or no frame comes at all.
    """
    source = find_source(path)
    if source.pictures:
        yield from _decode_pictures(source, damage)
        return
    if damage is not None:
        yield from _decode(path, index, threaded=False, damage=damage)
        return
    given = 0
    try:
        for frame in _decode(path, index, threaded=True):
            yield frame
            given += 1
        return
    except InputVideoError:
        # Threads report damage late and lose good frames around it, the more the more cores
        # there are: decode again without them to give every frame that there is.
        pass
    yield from itertools.islice(_decode(path, index, threaded=False), given, None)


def _decode(
    path: str | os.PathLike[str], index: int, *, threaded: bool, damage: Damage | None = None
) -> Generator[VideoFrame, None, None]:
    name = file_name(path)
    frames = packets = end = 0
    key_seen = False
    with open_input(path) as container:
        stream = video_stream(container, index)
        stream.thread_type = "AUTO" if threaded else "SLICE"
        if damage is not None:
            # Which frames threads lose around damage is a matter of chance.
            stream.codec_context.thread_count = 1
        for packet in itertools.chain(_packets(container, stream, name, damage), [None]):
            if packet is not None:
                packets += 1
                end = max(end, (packet.pos or 0) + packet.size)
                key_seen = key_seen or packet.is_keyframe
            try:
                decoded = stream.decode(packet)  # None: what the decoder holds back
            except AV_ERRORS as exc:
                if is_system_error(exc) or (damage is None and (threaded or key_seen)):
                    message = f"{name}: cannot be decoded after {frames} frames: {cause(exc)}"
                    raise InputVideoError(message + _hint(exc)) from exc
                if damage is not None and key_seen:
                    damage.skipped += 1
                continue
            for frame in decoded:
                frames += 1
                yield frame
        if packets and not frames:
            raise InputVideoError(f"{name}: no frame can be decoded")
        if "mov" in container.format.name and packets < len(stream.index_entries):
            ended = (
                f"the file is cut short: it ends after {frames} frames, "
                f"its index lists {len(stream.index_entries)}"
            )
            if damage is None:
                raise InputVideoError(f"{name}: {ended} ({_HINT})")
            damage.ended = ended
        if container.format.name == "yuv4mpegpipe" and end < container.size:
            ended = f"it ends within a frame, after {frames} whole ones"
            if damage is None:
                raise InputVideoError(f"{name}: {ended} ({_HINT})")
            damage.ended = ended


def _decode_pictures(source: Source, damage: Damage | None = None) -> Iterator[VideoFrame]:
    """A frame of each picture of a folder; their times are their places in it."""
    given = 0
    for place in range(len(source.pictures)):
        try:
            frame = _picture(source, place)
        except InputVideoError as exc:
            if damage is None or is_system_error(exc.__cause__):
                raise
            damage.skipped += 1
            continue
        frame.pts = place
        given += 1
        yield frame
    if not given:
        raise InputVideoError(f"{file_name(source)}: no picture of the folder can be decoded")


def _picture(source: Source, place: int) -> VideoFrame:
    picture = source.picture(place)
    name = f"{file_name(source)}: the picture {file_name(picture)}"
    try:
        with open_input(picture) as container:
            stream = container.streams.video[0]
            if source.demuxer == "jpeg_pipe":
                # Of one that is cut short FFmpeg would make up the rest.
                stream.codec_context.options = {"err_detect": "explode"}
            frame = next(container.decode(stream), None)
    except AV_ERRORS as exc:
        message = f"{name} cannot be decoded: {cause(exc)}"
        raise InputVideoError(message + _hint(exc)) from exc
    if frame is None:
        raise InputVideoError(f"{name} cannot be decoded: there is none in the file")
    return frame


def _packets(
    container: InputContainer, stream: VideoStream, name: str, damage: Damage | None
) -> Iterator[Packet[VideoStream]]:
    """The packets of a stream that hold data, in file order."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except AV_ERRORS as exc:
        ended = f"the file cannot be read to its end: {cause(exc)}"
        if damage is None or is_system_error(exc):
            raise InputVideoError(f"{name}: {ended}{_hint(exc)}") from exc
        damage.ended = ended


def _hint(exc: BaseException) -> str:
    """The option that helps where the data is damaged, rather than the device."""
    return "" if is_system_error(exc) else f" ({_HINT})"


def choose_stream(
    path: str | os.PathLike[str], *, allow_damaged: bool = False
) -> tuple[int, VideoFrame]:
    """Index and first frame of the first video stream that is no cover and yields a frame.

    The order in the file decides, not the size of the picture: empty tracks are passed over,
    a small auxiliary track is taken if it comes first. InputVideoError when there is none.
    """
    source = find_source(path)
    if source.pictures:
        return 0, next(_decode_pictures(source, Damage() if allow_damaged else None))
    name = file_name(path)
    with open_input(path) as container:
        candidates = [s.index for s in container.streams.video if not s.disposition & _COVER]
        if not candidates:
            raise InputVideoError(f"{name}: {_why_no_video(container)}")
    reasons = []
    for index in candidates:
        try:
            frame = _first_frame(path, index, name, Damage() if allow_damaged else None)
        except InputVideoError as exc:
            reasons.append(exc)
            continue
        if frame is not None:
            return index, frame
    if reasons:
        raise reasons[0]
    raise InputVideoError(f"{name}: its video stream holds no frame")


def _why_no_video(container: InputContainer) -> str:
    if container.streams.video:
        return "holds only a cover picture, no video"
    if container.streams.audio:
        return "holds audio only, no video"
    return "holds no video stream"


def _first_frame(
    path: str | os.PathLike[str], index: int, name: str, damage: Damage | None
) -> VideoFrame | None:
    """The first frame of a stream, None if the track is empty; InputVideoError if undecodable."""
    with open_input(path) as container:
        context = video_stream(container, index).codec_context
        if context is None:
            raise InputVideoError(f"{name}: its video codec is not supported")
        codec = context.codec.canonical_name
    try:
        return next(decode_frames(path, index, damage), None)
    except InputVideoError as exc:
        if is_system_error(exc.__cause__):
            raise
        if _is_encrypted(path, index):
            raise InputVideoError(f"{name}: the video is encrypted (DRM)") from exc
        raise InputVideoError(
            f"{name}: no frame of its {codec} video can be decoded, it is damaged"
            + (f" ({_HINT})" if damage is None else "")
        ) from exc


def _is_encrypted(path: str | os.PathLike[str], index: int) -> bool:
    with open_input(path) as container:
        try:
            packet = next(container.demux(video_stream(container, index)), None)
        except AV_ERRORS:
            return False
        return packet is not None and packet.has_sidedata("encryption_info")


def video_stream(container: InputContainer, index: int) -> VideoStream:
    """The video stream with this index in the file."""
    return next(s for s in container.streams.video if s.index == index)


def packet_rate(path: str | os.PathLike[str], index: int) -> Fraction | None:
    """Frames a second by the timestamps of the first packets; None when they say nothing.

    Containers' own rates cannot be trusted: 1000 is common in Matroska and FLV.
    """
    times = []
    with open_input(path) as container:
        stream = video_stream(container, index)
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and packet.size and not packet.is_discard:
                    times.append(packet.pts)
                if len(times) == _RATE_PACKETS:
                    break
        except AV_ERRORS:
            return None
        times.sort()
        if len(times) == _RATE_PACKETS:
            del times[-_MAX_REORDER:]
        if len(times) < 2 or times[0] == times[-1] or not stream.time_base:
            return None
        return Fraction(len(times) - 1) / ((times[-1] - times[0]) * stream.time_base)
