"""Audio carried without a byte changed, in step with the picture, and hostile bytes refused."""

from __future__ import annotations

import contextlib
import io
import os
import random
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from corpus import CORPUS
from video_helpers import (
    ClipSpec,
    audio_packets,
    clip,
    first_heard,
    first_shown,
    make_clip,
    picture,
    times,
)

from nervcodec.errors import BitstreamError, HfsvError, InputVideoError
from nervcodec.video.formats import OutputFormat
from nervcodec.video.info import ColorInfo
from nervcodec.video.passthrough import MAX_STREAMS, Passthrough, copy_into, extract
from nervcodec.video.reader import probe
from nervcodec.video.remux import PacketOrder, open_memory_output
from nervcodec.video.remux import packets_of as read_audio_packets
from nervcodec.video.writer import VideoWriter

MP4 = OutputFormat("mp4", "h264", 30, "ultrafast")
MOV = OutputFormat("mov", "h264", 30, "ultrafast")
MKV = OutputFormat("matroska", "ffv1")
EXACT = Fraction(0)
HALF_SAMPLE = Fraction(1, 2 * 44100)  # 44.1 kHz audio whose source counts in other ticks
HALF_MILLISECOND = Fraction(1, 2000)

CLIPS = {
    "bigbuckbunny_720p_132f.mp4": ("aac 48000 Hz 5.1", EXACT),
    "odd/opus_h264.mkv": ("opus 48000 Hz mono (eng)", EXACT),
    "odd/vfr_rot180_aac.mp4": ("aac 48000 Hz mono (eng)", EXACT),
    "odd/srt_ac3.mkv": ("ac3 44100 Hz mono", HALF_SAMPLE),
    "odd/vp9_alpha_vorbis.webm": ("vorbis 48000 Hz stereo", EXACT),
    "odd/avi_mpeg4_mp3_bframes.avi": ("mp3 48000 Hz stereo", EXACT),
    "odd/editlist_delay_1s.mp4": ("aac 48000 Hz stereo", EXACT),
    "odd/rot_and_mirror_matrix.mp4": ("aac 44100 Hz mono", EXACT),
    "odd/multi_2video_2aac_2movtext.mp4": ("aac 8000 Hz stereo (eng)", EXACT),
}


def carried(path: Path, **options: Fraction | bool) -> Passthrough:
    """The audio of a clip that is known to have some."""
    passthrough = extract(path, **options)  # type: ignore[arg-type]
    assert passthrough is not None
    return passthrough


def write(path: Path, fmt: OutputFormat, passthrough: Passthrough, frames: int = 8) -> list[str]:
    """Half a second of pictures from 1 s on, with the audio; the writer's warnings."""
    with VideoWriter(
        path,
        fmt,
        width=32,
        height=32,
        time_base=Fraction(1, 16),
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        color=ColorInfo(1, 1, 1, False),
        frame_rate=Fraction(16),
        passthrough=(passthrough.data, passthrough.container),
    ) as output:
        for index in range(frames):
            output.write(picture(32, 32, index), 16 + index, 1)
    return output.warnings


def assert_same_audio(source: Path, copy: Path, tolerance: Fraction) -> None:
    """The same packets in the same streams, and their times within ``tolerance`` seconds."""
    before, after = audio_packets(source), audio_packets(copy)
    assert [len(s) for s in before] == [len(s) for s in after]
    for old, new in zip(before, after, strict=True):
        assert [data for _, data in old] == [data for _, data in new]
        assert max(abs(a - b) for (a, _), (b, _) in zip(old, new, strict=True)) <= tolerance


@pytest.mark.parametrize("name", CLIPS)
def test_mp4_carries_every_packet_at_its_time(tmp_path: Path, name: str) -> None:
    source, (stream, tolerance) = clip(name), CLIPS[name]
    passthrough = carried(source, subtitles=False)
    assert passthrough.container == "mp4"
    assert passthrough.streams[0] == stream
    assert write(tmp_path / "a.mp4", MP4, passthrough) == []
    assert_same_audio(source, tmp_path / "a.mp4", tolerance)
    assert times(tmp_path / "a.mp4") == [1 + Fraction(i, 16) for i in range(8)]


@pytest.mark.parametrize("name", CLIPS)
def test_matroska_carries_every_packet_to_a_millisecond(tmp_path: Path, name: str) -> None:
    passthrough = carried(clip(name), subtitles=False)
    assert write(tmp_path / "a.mkv", MKV, passthrough) in (
        [],
        ["frame times are rounded to 1 ms in Matroska"],
    )
    assert_same_audio(clip(name), tmp_path / "a.mkv", 2 * HALF_MILLISECOND)
    assert abs(times(tmp_path / "a.mkv")[0] - 1) <= HALF_MILLISECOND


WITH_SOUND = [row.file for row in CORPUS if row.sounds]


def at_true_times(source: Path, path: Path, fmt: OutputFormat) -> Fraction:
    """Write a clip's sound with two frames at the times of its own; how much later they are."""
    info, passthrough = probe(source), carried(source)
    first = round(first_shown(source) / info.time_base)
    with VideoWriter(
        path,
        fmt,
        width=32,
        height=32,
        time_base=info.time_base,
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        color=info.color,
        frame_rate=Fraction(25),
        passthrough=(passthrough.data, passthrough.container),
    ) as output:
        for index in range(2):
            output.write(picture(32, 32, index), first + index, 1)
    return times(path)[0] - first * info.time_base


@pytest.mark.parametrize("name", WITH_SOUND)
def test_sound_and_picture_stay_in_step(tmp_path: Path, name: str) -> None:
    source, carried_by = clip(name), 0
    for fmt, exact in ((MP4, True), (MOV, True), (MKV, False)):
        path = tmp_path / fmt.container
        moved = at_true_times(source, path, fmt)
        if not audio_packets(path):
            continue
        carried_by += 1
        assert abs(moved) <= (0 if exact else HALF_MILLISECOND)
        if exact:
            pairs = zip(first_heard(source), first_heard(path), strict=True)
            assert all(abs(new - old - moved) <= HALF_MILLISECOND for old, new in pairs)
        for old, new in zip(audio_packets(source), audio_packets(path), strict=True):
            assert [data for _, data in old] == [data for _, data in new]
            apart = max(abs(b - a - moved) for (a, _), (b, _) in zip(old, new, strict=True))
            assert apart <= 3 * HALF_MILLISECOND
    assert carried_by >= 2


def test_priming_before_zero_is_kept() -> None:
    first = audio_packets(clip("odd/editlist_delay_1s.mp4"))[0][0][0]
    assert first == Fraction(-1024, 48000), "the clip has no priming: the test is void"


def test_synthetic_sound_and_language(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mp4", ClipSpec(audio="aac", audio_rate=44100))
    passthrough = carried(source)
    assert passthrough.streams == ("aac 44100 Hz stereo",)
    assert passthrough.dropped == ()
    assert carried(source) == passthrough
    write(tmp_path / "a.mp4", MP4, passthrough)
    assert_same_audio(source, tmp_path / "a.mp4", EXACT)


def test_language_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", MP4, carried(clip("odd/vfr_rot180_aac.mp4")))
    with av.open(os.fspath(tmp_path / "a.mp4")) as container:
        assert container.streams.audio[0].language == "eng"


def test_end_drops_what_begins_later() -> None:
    source = clip("bigbuckbunny_720p_132f.mp4")
    end = Fraction(1)
    data = carried(source, end=end).data
    expected = [data for time, data in audio_packets(source)[0] if time < end]
    with av.open(io.BytesIO(data), format="mp4") as container:
        packets = [bytes(p) for p in container.demux(audio=0) if p.size]
    assert packets == expected
    assert 0 < len(expected) < 249


def test_nothing_to_carry(tmp_path: Path) -> None:
    assert extract(make_clip(tmp_path / "a.mp4", ClipSpec(frames=2))) is None
    with pytest.raises(InputVideoError, match="no such file"):
        extract(tmp_path / "none.mp4")


def test_pcm_goes_in_matroska_and_into_mov(tmp_path: Path) -> None:
    source = clip("odd/alpha_prores4444_1frame.mov")
    passthrough = carried(source)
    assert passthrough.container == "matroska"
    assert write(tmp_path / "a.mov", MOV, passthrough) == []
    assert_same_audio(source, tmp_path / "a.mov", HALF_MILLISECOND)


def test_stream_that_the_output_cannot_carry_is_left_out_and_named(tmp_path: Path) -> None:
    warnings = write(tmp_path / "a.mov", MOV, carried(clip("odd/opus_h264.mkv")))
    assert warnings == [
        "audio left out, .mov cannot carry it, .mp4 and .mkv can: opus 48000 Hz mono (eng)"
    ]
    assert audio_packets(tmp_path / "a.mov") == []
    assert len(times(tmp_path / "a.mov")) == 8


def test_sound_longer_and_shorter_than_the_picture(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mp4", ClipSpec(audio="aac"))
    for frames in (1, 100):
        write(tmp_path / "a.mp4", MP4, carried(source), frames)
        assert_same_audio(source, tmp_path / "a.mp4", EXACT)
        assert len(times(tmp_path / "a.mp4")) == frames


def test_sound_lies_beside_its_picture_in_the_file(tmp_path: Path) -> None:
    spec = ClipSpec(audio="aac", audio_rate=8000, audio_seconds=Fraction(20))
    sound = carried(make_clip(tmp_path / "s.mp4", spec))
    write(tmp_path / "a.mp4", MP4, sound, 16 * 18)
    picture_time, distances = Fraction(0), []
    with av.open(os.fspath(tmp_path / "a.mp4")) as container:
        packets = [p for p in container.demux() if p.size]
        for packet in sorted(packets, key=lambda p: p.pos):
            time = packet.dts * packet.time_base
            if packet.stream.type == "video":
                picture_time = time
            elif 1 < time < 19:
                distances.append(abs(time - picture_time))
    assert len(distances) > 100
    assert max(distances) < 2


def test_packets_without_decoding_time_are_kept() -> None:
    class Source:
        def demux(self, streams: tuple[object, ...]) -> list[SimpleNamespace]:
            return [SimpleNamespace(size=3, dts=None), SimpleNamespace(size=0, dts=None)]

    packets = list(read_audio_packets(Source(), (), "a.mkv"))  # type: ignore[arg-type]
    assert [p.size for p in packets] == [3]


def test_decoding_times_that_go_back_are_mended() -> None:
    class Packet:
        class stream:
            index, type = 0, "audio"

        def __init__(self, dts: int | None) -> None:
            self.pts = self.dts = dts

    order, packets = PacketOrder(), [Packet(d) for d in (5, 6, 6, 2, None, 20)]
    for packet in packets:
        order.fix(packet)  # type: ignore[arg-type]
    assert [p.dts for p in packets] == [5, 6, 7, 8, None, 20]
    assert [p.pts for p in packets] == [5, 6, 7, 8, None, 20]


# --- hostile bytes --------------------------------------------------------------------------


def copy_all(data: bytes, container: str, output_container: str = "mp4") -> list[str]:
    """Copy passed-through bytes into an output in memory; the warnings."""
    output = open_memory_output(io.BytesIO(), output_container, 48000)
    try:
        copy = copy_into(data, container, output)
        copy.mux_until(Fraction(1, 4))
        copy.mux_until(None)
        copy.close()
        return copy.warnings
    finally:
        with contextlib.suppress(av.FFmpegError):
            output.close()


@pytest.fixture
def sound(tmp_path: Path) -> Passthrough:
    return carried(make_clip(tmp_path / "s.mp4", ClipSpec(audio="aac")))


def test_bytes_that_are_no_audio_file(sound: Passthrough, tmp_path: Path) -> None:
    assert copy_all(sound.data, "mp4") == []
    playlist = f"ffconcat version 1.0\nfile '{tmp_path}/s.mp4'\n".encode()
    for data in (b"", b"\0" * 1000, playlist, os.urandom(4096)):
        for container in ("mp4", "matroska"):
            with pytest.raises(BitstreamError):
                copy_all(data, container)
    with pytest.raises(BitstreamError, match="unknown container: 'concat'"):
        copy_all(playlist, "concat")
    with pytest.raises(BitstreamError, match="not all audio"):
        copy_all((tmp_path / "s.mp4").read_bytes(), "mp4")


def test_too_many_streams_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with open_memory_output(buffer, "mp4", 48000) as output:
        streams = [output.add_stream("aac", rate=48000) for _ in range(MAX_STREAMS + 1)]
        silence = np.zeros((2, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
        frame.sample_rate = 48000
        for stream in streams:
            frame.pts = 0
            output.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(BitstreamError, match=f"{MAX_STREAMS + 1} passed-through streams"):
        copy_all(buffer.getvalue(), "mp4")


def test_truncations_and_flips_only_raise_our_errors(sound: Passthrough) -> None:
    rng = random.Random(7)
    refused = 0
    for _ in range(300):
        data = bytearray(sound.data)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.choice((1, 4, 30)) if data else 0):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            copy_all(bytes(data), "mp4", rng.choice(("mp4", "mov", "matroska")))
        except HfsvError:
            refused += 1
    assert refused > 20
