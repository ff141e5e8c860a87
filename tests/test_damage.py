"""Damaged and changing videos: what --allow-damaged keeps, what it says, and the errors without."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_helpers import ClipSpec, audio_packets, clip, decoded, make_clip, picture

import nervcodec
from nervcodec import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.bitstream.stream import StreamReader
from nervcodec.bitstream.tensors import Limits
from nervcodec.cli import main as cli_main
from nervcodec.errors import BitstreamError, InputVideoError
from nervcodec.video import source as source_module
from nervcodec.video.passthrough import extract
from nervcodec.video.reader import VideoReader, probe

CONFIG = EncodeConfig(
    train=TrainConfig(epochs=1), model=ModelConfig(params=9000), device="cpu", threads=1
)

Frame = tuple[int, bytes]
"""A frame's pts and samples."""

SHORT_GOP = (("g", "5"), ("bf", "0"), ("sc_threshold", "0"))

SPECS = {
    "mp4": ClipSpec(frames=40, options=SHORT_GOP, muxer=(("movflags", "+faststart"),)),
    "b-frames.mp4": ClipSpec(frames=40, muxer=(("movflags", "+faststart"),)),
    "mkv": ClipSpec(frames=40, container="matroska", options=SHORT_GOP),
    "webm": ClipSpec(
        frames=20, container="webm", codec="libvpx-vp9", options=(("g", "5"), ("cpu-used", "8"))
    ),
    "ts": ClipSpec(frames=40, container="mpegts", options=SHORT_GOP),
    "avi": ClipSpec(frames=40, container="avi", codec="mpeg4", options=(("g", "5"),)),
}


def run(*arguments: object) -> int:
    """Run ``hfsv`` in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hfsv", *map(str, arguments)])
        return cli_main._run()


def read(path: Path, **options: Any) -> tuple[list[Frame], list[str]]:
    """Frames and warnings of a reading that allows damage."""
    with VideoReader(path, allow_damaged=True, **options) as reader:
        frames = [(frame.pts, frame.rgb.tobytes()) for frame in reader]
        return frames, reader.warnings


@pytest.fixture(scope="module", params=SPECS)
def sound_clip(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Frame]]:
    """A clip without damage, and its frames."""
    path = tmp_path_factory.mktemp("clips") / f"a.{request.param}"
    make_clip(path, SPECS[request.param])
    with VideoReader(path) as reader:
        return path, [(frame.pts, frame.rgb.tobytes()) for frame in reader]


def packet_places(path: Path) -> list[tuple[int, int]]:
    """Where each packet of the picture begins in the file, and its bytes."""
    with av.open(os.fspath(path)) as container:
        return sorted((p.pos, p.size) for p in container.demux(video=0) if p.size)


# --- damage of the picture ----------------------------------------------------------------------


def test_a_sound_clip_is_read_in_the_same_way(sound_clip: tuple[Path, list[Frame]]) -> None:
    path, frames = sound_clip
    assert read(path) == (frames, [])


@pytest.mark.parametrize("packets", [4, 9, 16])
def test_a_clip_cut_short_ends_where_it_ends(
    sound_clip: tuple[Path, list[Frame]], tmp_path: Path, packets: int
) -> None:
    whole, frames = sound_clip
    path = tmp_path / f"cut.{whole.name[2:]}"
    place, size = packet_places(whole)[packets]
    path.write_bytes(whole.read_bytes()[: place + size // 2])
    kept, warnings = read(path)
    assert read(path) == (kept, warnings)
    # The last one is guessed at where it still decodes.
    assert packets <= len(kept) <= packets + 1
    assert kept[: packets - 1] == frames[: packets - 1]
    if path.suffix == ".mp4":
        assert any("is cut short" in line for line in warnings)
        with pytest.raises(InputVideoError, match=r"--allow-damaged keeps what can be decoded"):
            list(VideoReader(path))


def test_damage_in_the_middle_leaves_the_frames_around_it(
    sound_clip: tuple[Path, list[Frame]], tmp_path: Path
) -> None:
    """Garbage in one packet: what comes before it, and from the next key frame on, is whole."""
    whole, frames = sound_clip
    data = bytearray(whole.read_bytes())
    number = 7
    place, size = packet_places(whole)[number]
    noise = random.Random(1).randbytes(size // 2)
    # In MPEG-TS what a packet holds comes last, behind stuffing.
    at = place + 188 - size * 3 // 4 if whole.suffix == ".ts" else place + size // 3
    data[at : at + len(noise)] = noise
    path = tmp_path / f"noise.{whole.name[2:]}"
    path.write_bytes(data)
    kept, warnings = read(path)
    assert read(path) == (kept, warnings)
    if "b-frames" not in path.name:
        assert kept[:number] == frames[:number]
        assert [frame for frame in kept if frame[0] >= frames[10][0]] == frames[10:]
    assert len(kept) >= len(frames) - 5
    assert kept != frames


@pytest.mark.parametrize("seed", range(12))
def test_two_readings_of_any_damage_agree(
    sound_clip: tuple[Path, list[Frame]], tmp_path: Path, seed: int
) -> None:
    whole, _ = sound_clip
    rng = random.Random(seed)
    data = bytearray(whole.read_bytes())
    for _ in range(rng.choice((1, 3, 20))):
        place = rng.randrange(len(data) // 4, len(data))
        data[place : place + rng.choice((1, 40, 400))] = rng.randbytes(rng.choice((1, 40, 400)))
    path = tmp_path / f"a.{whole.name[2:]}"
    path.write_bytes(data)
    try:
        first = read(path)
    except InputVideoError:
        with pytest.raises(InputVideoError):
            read(path)
        return
    assert read(path) == first


def test_packets_that_do_not_decode_are_counted(tmp_path: Path) -> None:
    path = clip("odd/corrupt_28of50.mp4")
    frames, warnings = read(path)
    assert len(frames) == 49
    assert warnings[0] == "1 damaged packets could not be decoded; 49 frames came"
    with VideoReader(path, max_frames=28) as reader:
        assert frames[:28] == [(frame.pts, frame.rgb.tobytes()) for frame in reader]
    with pytest.raises(InputVideoError, match=r"after 28 frames: .* \(--allow-damaged"):
        list(VideoReader(path))


def test_damage_at_the_very_start(tmp_path: Path) -> None:
    """The first key frame is lost: the clip begins with the next."""
    spec = SPECS["webm"]
    whole = make_clip(tmp_path / "whole.webm", spec)
    with VideoReader(whole) as reader:
        frames = [(frame.pts, frame.rgb.tobytes()) for frame in reader]
    data = bytearray(whole.read_bytes())
    place = data.index(first_packet(whole))
    data[place : place + 40] = bytes(40)
    path = tmp_path / "a.webm"
    path.write_bytes(data)
    with pytest.raises(InputVideoError, match=r"no frame of its vp9 video .*--allow-damaged"):
        probe(path)
    kept, warnings = read(path)
    assert kept == frames[-len(kept) :]
    assert len(kept) == 15
    assert "5 damaged packets" in warnings[0]


def first_packet(path: Path) -> bytes:
    with av.open(os.fspath(path)) as container:
        return bytes(next(container.demux(video=0)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("corrupt_no_frame.webm", "no frame of its vp9 video can be decoded, it is damaged"),
        ("synth_truncated_no_moov.mp4", "cut short"),
        ("synth_empty.mp4", "is empty"),
        ("encrypted_cenc.mp4", "encrypted"),
        ("audio_only_opus.mp4", "audio only"),
    ],
)
def test_no_frame_at_all_stays_an_error(name: str, message: str) -> None:
    with pytest.raises(InputVideoError, match=message) as caught:
        VideoReader(clip(f"odd/{name}"), allow_damaged=True)
    assert "--allow-damaged" not in str(caught.value)


def test_a_damaged_clip_is_encoded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_clip(tmp_path / "whole.mkv", replace(SPECS["mkv"], frames=20))
    damaged = tmp_path / "in.mkv"
    data = bytearray(path.read_bytes())
    place, size = packet_places(path)[6]
    data[place + 8 : place + size + 8] = bytes(size)
    damaged.write_bytes(data[: packet_places(path)[15][0] + 60])
    output, again = tmp_path / "out.hfsv", tmp_path / "again.hfsv"
    options = ["--params", "9000", "--epochs", "1", "--threads", "1", "--keyint", "4"]
    assert run("encode", damaged, output, *options, "--allow-damaged") == 0
    expected, warnings = read(damaged)
    assert warnings
    with output.open("rb") as stream:
        assert list(StreamReader(stream, Limits()).pts) == [pts for pts, _ in expected]
    printed = capfd.readouterr().err
    for warning in warnings:
        assert warning in printed
    config = replace(CONFIG, keyint=4, allow_damaged=True)
    assert set(warnings) <= set(nervcodec.encode(damaged, again, config).warnings)
    assert again.read_bytes() == output.read_bytes()
    assert run("verify", output, "--source", damaged, "--allow-damaged") == 0


def test_a_source_that_changes_between_the_readings(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mkv", SPECS["mkv"])
    shorter = make_clip(tmp_path / "shorter.mkv", replace(SPECS["mkv"], frames=5))

    def replaced(progress: nervcodec.EncodeProgress) -> None:
        if progress.stage == "plan":
            shorter.replace(path)

    with pytest.raises(InputVideoError, match="has changed since it was first read"):
        nervcodec.encode(path, tmp_path / "out.hfsv", CONFIG, replaced)


# --- damage of the sound ------------------------------------------------------------------------


def audible(container: str, path: Path) -> Path:
    """A clip of 4 s with sound."""
    spec = ClipSpec(
        frames=100,
        container=container,
        options=SHORT_GOP,
        audio="aac",
        audio_seconds=Fraction(4),
        muxer=(("movflags", "+faststart"),) if container == "mp4" else (),
    )
    return make_clip(path, spec)


@pytest.mark.parametrize(("container", "suffix"), [("mpegts", "ts"), ("mp4", "mp4")])
def test_sound_is_kept_up_to_the_damage(tmp_path: Path, container: str, suffix: str) -> None:
    whole = audible(container, tmp_path / f"whole.{suffix}")
    data = bytearray(whole.read_bytes())
    if container == "mp4":
        with av.open(os.fspath(whole)) as opened:
            places = sorted((p.pos, p.size) for p in opened.demux(audio=0) if p.size)
        place, size = places[len(places) // 2]
        del data[place + size // 2 :]  # in the middle of a packet of sound
    else:
        middle = len(data) // 2 // 188 * 188
        data[middle : middle + 188 * 30] = random.Random(2).randbytes(188 * 30)
    path = tmp_path / f"in.{suffix}"
    path.write_bytes(data)
    given = [packet for _, packet in audio_packets(whole)[0]]
    kept = extract(path, allow_damaged=True)
    assert kept is not None
    assert kept.streams == ("aac 48000 Hz stereo",)
    (tmp_path / "kept").write_bytes(kept.data)
    heard = [packet for _, packet in audio_packets(tmp_path / "kept")[0]]
    if container == "mpegts":
        given = [packet[7:] for packet in given]  # without the ADTS headers
    # In MPEG-TS a packet may hold damage that goes unnoticed until the next.
    intact = len(heard) - (container == "mpegts")
    assert heard[:intact] == given[:intact]
    assert len(given) // 4 < len(heard) < len(given)
    assert len(kept.dropped) == 1
    assert "where the file is damaged" in kept.dropped[0]
    until = float(kept.dropped[0].split("after ")[1].split(" s")[0])
    assert 1 < until < 4.5


def test_sound_without_damage_is_whole(tmp_path: Path) -> None:
    path = audible("mp4", tmp_path / "a.mp4")
    assert extract(path, allow_damaged=True) == extract(path)


# --- a picture that changes on the way ----------------------------------------------------------


def joined(path: Path, *specs: ClipSpec) -> Path:
    """Raw H.264 clips, one after another."""
    parts = []
    for number, spec in enumerate(specs):
        part = make_clip(path.with_name(f"part{number}.264"), replace(spec, container="h264"))
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture
def changing(tmp_path: Path) -> Path:
    """Frames of 64x48, then 32x48, then 64x48 again, then 80x64."""
    sizes = ((64, 48, 3), (32, 48, 2), (64, 48, 1), (80, 64, 4))
    specs = (ClipSpec(width=w, height=h, frames=n) for w, h, n in sizes)
    return joined(tmp_path / "in.264", *specs)


def test_a_change_of_size_names_the_option(changing: Path) -> None:
    message = "changes from 64x48 to 32x48 at frame 3; --size WxH makes all one size"
    with pytest.raises(InputVideoError, match=message):
        list(VideoReader(changing))
    with pytest.raises(InputVideoError, match="at frame 3; --crop needs frames of one size"):
        list(VideoReader(changing, crop=(32, 32), size=(16, 16)))


def test_with_a_size_every_frame_is_scaled(changing: Path) -> None:
    with VideoReader(changing, size=(40, 24)) as reader:
        frames = [frame.rgb for frame in reader]
        assert reader.warnings[-1] == (
            "the picture changes from 64x48 to 32x48 at frame 3: "
            "6 frames of another size are scaled to 40x24"
        )
    assert len(frames) == 10
    originals = [frame.to_ndarray(format="rgb24") for frame in decoded(changing)]
    assert {frame.shape for frame in frames} == {(24, 40, 3)}
    for original, frame in zip(originals, frames, strict=True):
        # Nothing is cut off or shifted.
        assert np.abs(quarters(original) - quarters(frame)).max() < 4


def quarters(rgb: np.ndarray) -> np.ndarray:
    """The mean colour of each quarter of a picture."""
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    halves = (slice(0, height), slice(height, None)), (slice(0, width), slice(width, None))
    return np.stack(
        [rgb[rows, columns].mean(axis=(0, 1)) for rows in halves[0] for columns in halves[1]]
    )


def test_frames_that_are_not_wanted_may_have_any_size(changing: Path) -> None:
    with VideoReader(changing, max_frames=3) as reader:
        assert sum(1 for _ in reader) == 3
        assert not any("changes" in line for line in reader.warnings)


def test_a_real_change_of_size(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = clip("odd/size_change_midstream_4frames.mp4")
    assert run("encode", path, tmp_path / "a.hfsv") == 3
    assert "--size WxH" in capfd.readouterr().err
    tiny = ["--params", "9000", "--epochs", "1", "--threads", "1"]
    assert run("encode", path, tmp_path / "a.hfsv", "--size", "48x32", *tiny) == 0
    assert "changes from 256x128 to 128x128 at frame 2" in capfd.readouterr().err
    with nervcodec.open(tmp_path / "a.hfsv") as file:
        assert (file.width, file.height, len(file)) == (48, 32, 4)


def test_changes_of_pixel_format_and_shape_do_no_harm(tmp_path: Path) -> None:
    path = joined(
        tmp_path / "in.264",
        ClipSpec(frames=2),
        ClipSpec(frames=2, pixel_format="yuv444p"),
        ClipSpec(frames=2, pixel_format="yuv420p10le"),
        ClipSpec(frames=2, options=(("x264-params", "sar=2/1"),)),
        ClipSpec(frames=2, pixel_format="gray", options=(("profile", "high"),)),
    )
    with VideoReader(path) as reader:
        frames = [frame.rgb for frame in reader]
    assert len(frames) == 10
    for number, frame in enumerate(frames[:8]):
        assert np.abs(frame.astype(int) - picture(64, 48, number % 2)).mean() < 12
    assert np.ptp(frames[9].astype(int), axis=2).max() == 0


# --- files that hold no video, and devices that fail --------------------------------------------


def song(path: Path) -> Path:
    """Sound and a cover picture."""
    with av.open(os.fspath(path), "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=48000, layout="mono")
        cover = output.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 16
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame(16, 16, "yuvj420p")
        image.pts = 0
        output.mux([*cover.encode(image), *cover.encode(None)])
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 4800), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 48000
        output.mux([*sound.encode(silence), *sound.encode(None)])
    return path


@pytest.mark.parametrize("options", [[], ["--allow-damaged"]], ids=str)
def test_a_song_with_a_cover_is_no_video(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str]
) -> None:
    path = song(tmp_path / "song.m4a")
    assert run("encode", path, tmp_path / "out.hfsv", *options) == 3
    expected = "hfsv: error: song.m4a: holds only a cover picture, no video\n"
    assert capfd.readouterr().err == expected
    assert list(tmp_path.iterdir()) == [path]


UNREADABLE = Path("/proc/self/mem")
"""A file that can be opened but not be read: the system answers with EIO."""


@pytest.fixture
def unreadable() -> Path:
    if not UNREADABLE.exists():
        pytest.skip(f"there is no {UNREADABLE} here")
    with pytest.raises(OSError, match="Input/output error"), UNREADABLE.open("rb") as stream:
        stream.read(1)
    return UNREADABLE


@pytest.mark.parametrize("command", [["info"], ["verify"], ["decode"], ["decode", "--salvage"]])
def test_a_file_that_cannot_be_read(
    unreadable: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    output = [tmp_path / "out.mp4"] if command[0] == "decode" else []
    assert run(*command, unreadable, *output) == 4
    printed = capfd.readouterr().err
    assert "hfsv: error: /proc/self/mem: in" in printed
    assert "internal" not in printed
    assert not list(tmp_path.iterdir())


def test_the_library_cannot_read_a_file(unreadable: Path) -> None:
    for function in (nervcodec.open, nervcodec.probe, nervcodec.verify, nervcodec.examine):
        with pytest.raises(BitstreamError, match=r"/proc/self/mem: in(put/output error|valid)"):
            function(unreadable)


def test_a_source_that_cannot_be_read(unreadable: Path, tmp_path: Path) -> None:
    with pytest.raises(InputVideoError):
        nervcodec.encode(unreadable, tmp_path / "out.hfsv")


def failing(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_disk_that_fails_while_the_source_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "in.mp4", ClipSpec(frames=2))
    monkeypatch.setattr("hashlib.file_digest", failing)
    with pytest.raises(InputVideoError, match="cannot be read"):
        nervcodec.encode(path, tmp_path / "out.hfsv", CONFIG)


class FailingContainer:
    """An open file of which nothing more can be read after some packets."""

    def __init__(self, container: Any, packets: int) -> None:
        self._container, self._packets = container, packets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def __enter__(self) -> FailingContainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def demux(self, *streams: Any) -> Iterator[Any]:
        for number, packet in enumerate(self._container.demux(*streams)):
            if number == self._packets:
                failing()
            yield packet


@pytest.mark.parametrize("allow_damaged", [False, True])
@pytest.mark.parametrize("packets", [0, 5])
def test_a_disk_that_fails_while_the_source_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow_damaged: bool, packets: int
) -> None:
    """The device is at fault, not the data: no option makes that good."""
    path = make_clip(tmp_path / "in.mkv", SPECS["mkv"])
    opened = source_module.open_input
    monkeypatch.setattr(
        source_module, "open_input", lambda path: FailingContainer(opened(path), packets)
    )
    with pytest.raises(InputVideoError, match="reports an input/output error") as caught:
        list(VideoReader(path, allow_damaged=allow_damaged))
    assert "--allow-damaged" not in str(caught.value)


def test_a_disk_that_fails_in_the_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = audible("mp4", tmp_path / "a.mp4")
    opened = source_module.open_input
    monkeypatch.setattr(
        "nervcodec.video.passthrough.open_input", lambda path: FailingContainer(opened(path), 9)
    )
    for allow_damaged in (False, True):
        with pytest.raises(InputVideoError, match="input/output error"):
            extract(path, allow_damaged=allow_damaged)
