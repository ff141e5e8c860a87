"""Standard input and output as source and output, raw video, and frames without compression."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import nervcodec
from nervcodec import targets
from nervcodec.cli import decode as decode_cli
from nervcodec.cli import main as cli_main
from nervcodec.config import EncodeConfig, RawFormat, parse_rate
from nervcodec.decoder import DecodeConfig, decode
from nervcodec.encoder import _key
from nervcodec.errors import InputVideoError, OutputError, UsageError
from nervcodec.files import file_digest
from nervcodec.info import probe
from nervcodec.video.info import ColorInfo
from nervcodec.video.inputs import find_source
from nervcodec.video.reader import VideoReader
from nervcodec.video.uncompressed import Y4mWriter, constant_rate
from tests.synthetic import moving_pattern
from tests.video_helpers import (
    ClipSpec,
    Subtitles,
    add_subtitles,
    decoded,
    make_clip,
    picture,
    yuv_to_rgb,
)

TINY = ("--params", "9000", "--epochs", "1", "--threads", "1")
HFSV = [sys.executable, "-c", "from nervcodec.cli.main import main; main()"]
WIDTH, HEIGHT, FRAMES = 48, 32, 4


def y4m(frames: int = FRAMES, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """What ``ffmpeg -f yuv4mpegpipe`` writes, by FFmpeg's muxer."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="yuv4mpegpipe") as output:
        video = output.add_stream("wrapped_avframe", rate=Fraction(30000, 1001))
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(*size, index)).reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1001, 30000)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return stream.getvalue()


def source_bytes(folder: Path, container: str) -> bytes:
    if container == "yuv4mpegpipe":
        return y4m()
    spec = ClipSpec(WIDTH, HEIGHT, FRAMES, container=container, audio="aac")
    return make_clip(folder / "made", spec).read_bytes()


class Terminal(io.TextIOWrapper):
    """A standard stream that says it is a terminal, and must not be touched."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())

    def isatty(self) -> bool:
        return True


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def run(*arguments: object, stdin: bytes | io.TextIOBase | None = None) -> tuple[int, bytes]:
    """Run ``hfsv`` in this process; its exit code and what it sent to a pipe."""
    sent = io.TextIOWrapper(io.BytesIO(), write_through=True)
    given = io.TextIOWrapper(io.BytesIO(stdin)) if isinstance(stdin, bytes) else stdin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hfsv", *map(str, arguments)])
        patch.setattr("sys.stdout", sent)
        if given is not None:
            patch.setattr("sys.stdin", given)
        code = cli_main._run()
        return code, sent.buffer.getvalue()


def the_error(printed: str) -> str:
    """The one line of error."""
    assert "Traceback" not in printed
    lines = [line for line in printed.splitlines() if line.startswith("hfsv: error: ")]
    assert len(lines) == 1, printed
    return lines[0]


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .hfsv file of frames alone at 30000/1001 a second."""
    folder = tmp_path_factory.mktemp("coded")
    (folder / "in.y4m").write_bytes(y4m())
    assert run("encode", "-q", folder / "in.y4m", folder / "out.hfsv", *TINY)[0] == 0
    return folder / "out.hfsv"


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .hfsv file with all that frames alone cannot keep, and times that vary."""
    folder = tmp_path_factory.mktemp("rich")
    plain, path = folder / "plain.mp4", folder / "rich.mp4"
    spec = ClipSpec(WIDTH, HEIGHT, 4, pts=(0, 1, 4, 5), audio="aac")
    texts = Subtitles("mov_text", ((0, 100, b"\0\2hi"),))
    add_subtitles(plain, make_clip(folder / "made.mp4", spec), "mp4", texts)
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        copies = {s.index: new.add_stream_from_template(s) for s in old.streams}
        copies[0].set_display_rotation(90)
        copies[0].codec_context.sample_aspect_ratio = Fraction(16, 11)
        second = Fraction(1, 1000)
        chapter = {"id": 1, "start": 0, "end": 90, "time_base": second, "metadata": {"title": "A"}}
        new.set_chapters([chapter])
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
    assert run("encode", "-q", path, folder / "out.hfsv", *TINY)[0] == 0
    return folder / "out.hfsv"


@pytest.fixture(scope="module")
def frames(coded: Path) -> np.ndarray:
    """What the networks of ``coded`` make, (4, 32, 48, 3)."""
    with nervcodec.open(coded) as clip:
        return clip[:]


# Standard input


@pytest.mark.parametrize("container", ["yuv4mpegpipe", "mp4", "matroska", "mpegts"])
def test_a_pipe_gives_the_very_file_that_its_bytes_give(tmp_path, temp, capfd, container):
    data = source_bytes(tmp_path, container)
    (tmp_path / "in").write_bytes(data)
    assert run("encode", "-q", tmp_path / "in", tmp_path / "file.hfsv", *TINY)[0] == 0
    assert run("encode", "-", tmp_path / "pipe.hfsv", *TINY, stdin=data)[0] == 0
    assert (tmp_path / "pipe.hfsv").read_bytes() == (tmp_path / "file.hfsv").read_bytes()
    assert "reading standard input, " in capfd.readouterr().err
    assert not list(temp.glob("hfsv-*"))


def test_pipes_of_the_system_in_and_out(coded, tmp_path):
    command = [*HFSV, "encode", "-", "-", "-q", *TINY, "--temp", tmp_path]
    done = subprocess.run(command, input=y4m(), capture_output=True, check=True)
    assert done.stderr == b""
    assert done.stdout == coded.read_bytes()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "options", "code", "message"),
    [
        (b"", (), 3, "standard input: the file is empty"),
        (b"no video at all" * 99, (), 3, "standard input: is not a video"),
        (y4m()[:-100], (), 3, "standard input: it ends within a frame, after 3"),
        (bytes(100), ("--input-res", "5x5", "--input-fmt", "rgb24"), 3, "standard input: 25 bytes"),
    ],
)
def test_bad_standard_input(tmp_path, temp, capfd, data, options, code, message):
    output = tmp_path / "out.hfsv"
    assert run("encode", "-", output, *TINY, *options, stdin=data) == (code, b"")
    error = the_error(capfd.readouterr().err)
    assert message in error
    assert "hfsv-" not in error
    assert not output.exists()
    assert not list(temp.glob("hfsv-*"))


def test_decoding_standard_input(coded, tmp_path, temp, frames):
    assert run("decode", "-q", "-", tmp_path / "x.rgb", stdin=coded.read_bytes())[0] == 0
    assert (tmp_path / "x.rgb").read_bytes() == frames.tobytes()
    assert not list(temp.glob("hfsv-*"))


def test_decoding_damaged_standard_input(coded, tmp_path, temp, capfd):
    data, output = coded.read_bytes()[:-30], tmp_path / "x.mp4"
    assert run("decode", "-", output, stdin=data)[0] == 4
    error = the_error(capfd.readouterr().err)
    assert "truncated" in error
    assert "hfsv-" not in error
    assert not output.exists()
    assert not list(temp.glob("hfsv-*"))


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_an_output_that_exists_is_refused_before_standard_input_is_read(tmp_path, temp, command):
    class Untouchable(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            pytest.fail("standard input was read")

    (tmp_path / "out.mp4").touch()
    stdin = io.TextIOWrapper(Untouchable())
    assert run(command, "-", tmp_path / "out.mp4", stdin=stdin)[0] == 6


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_terminal_is_no_input(tmp_path, capfd, command):
    assert run(command, "-", tmp_path / "out.mp4", stdin=Terminal())[0] == 2
    assert "standard input is a terminal" in the_error(capfd.readouterr().err)


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_terminal_is_no_output(coded, monkeypatch, capfd, command):
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setattr("sys.argv", ["hfsv", command, str(coded), "-"])
    assert cli_main._run() == 2
    assert "standard output is a terminal" in the_error(capfd.readouterr().err)


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_json_lines_and_the_output_do_not_share_a_pipe(coded, capfd, command):
    assert run(command, coded, "-", "--json") == (2, b"")
    assert "--json" in the_error(capfd.readouterr().err)


def test_commands_without_pipes_say_so(capfd):
    for command in ("info", "verify"):
        assert run(command, "-")[0] == 2
        assert "pipes (-) are not supported here" in capfd.readouterr().err


def test_json_tells_of_the_reading(tmp_path, temp):
    code, sent = run("encode", "-", tmp_path / "o.hfsv", "--json", *TINY, stdin=y4m())
    assert code == 0
    first = json.loads(sent.splitlines()[0])
    assert (first["type"], first["stage"], first["bytes"]) == ("progress", "input", len(y4m()))


def test_resume_needs_an_output_with_a_name(tmp_path, capfd):
    assert run("encode", tmp_path / "in.mp4", "-", "--resume")[0] == 2
    assert "--resume" in the_error(capfd.readouterr().err)


def test_a_folder_for_pipes_that_is_not_there(tmp_path, capfd):
    missing = tmp_path / "missing"
    assert run("encode", "-", tmp_path / "o.hfsv", "--temp", missing, stdin=y4m())[0] == 1
    error = the_error(capfd.readouterr().err)
    assert f"cannot be kept in {missing}" in error
    assert "--temp" in error
    assert not list(tmp_path.iterdir())


def test_a_full_disk_for_pipes(tmp_path):
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "from nervcodec.cli.main import main; main()"
    )
    arguments = ["encode", "-", tmp_path / "o.hfsv", "--temp", tmp_path]
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, input=y4m(20), capture_output=True, check=False)
    assert done.returncode == 1
    error = the_error(done.stderr.decode())
    assert f"standard input cannot be kept in {tmp_path}: file too large" in error
    assert "--temp" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_standard_input_is_read(tmp_path, number, code):
    command = [*HFSV, "encode", "-", tmp_path / "o.hfsv", "--temp", tmp_path]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(bytes(3 << 20))  # which leaves it waiting for more
        assert b"reading standard input" in process.stderr.readline()
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        rest = process.stderr.read().decode()
        assert process.wait(30) == code
    assert "no output was written" in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())


def test_an_encode_to_a_pipe_that_is_stopped(tmp_path, temp, capfd):
    (tmp_path / "in.y4m").write_bytes(y4m())
    asked = iter(range(1000))
    with pytest.MonkeyPatch.context() as patch:
        # Asked once for each of four frames read, then after each step.
        patch.setattr("nervcodec.cli.signals.StopRequest.requested", lambda self: next(asked) >= 10)
        code, sent = run("encode", tmp_path / "in.y4m", "-", *TINY, "--epochs", "9")
    assert code == 130
    (tmp_path / "out.hfsv").write_bytes(sent)
    assert probe(tmp_path / "out.hfsv").header.frames == FRAMES
    told = capfd.readouterr().err
    assert "interrupted: standard output was written" in told
    assert "--resume" not in told
    assert not list(temp.glob("hfsv-*"))


# Raw video


def test_raw_rgb_is_read_as_it_is(tmp_path):
    samples = moving_pattern(33, 17, 3)
    (tmp_path / "x.raw").write_bytes(samples.tobytes())
    source = find_source(tmp_path / "x.raw", raw=(33, 17, "rgb24"), rate=Fraction(30000, 1001))
    reader = VideoReader(source)
    frames = list(reader)
    assert np.array_equal([frame.rgb for frame in frames], samples)
    assert [frame.pts * reader.info.time_base for frame in frames] == [
        Fraction(1001 * index, 30000) for index in range(3)
    ]
    assert reader.warnings == []


@pytest.mark.parametrize(("height", "matrix"), [(32, 6), (720, 1)])
def test_raw_yuv_has_the_colours_of_untagged_video(tmp_path, height, matrix):
    codes = np.repeat(np.array([81, 90, 240], np.uint8), [64 * height, 16 * height, 16 * height])
    (tmp_path / "x.yuv").write_bytes(codes.tobytes())
    reader = VideoReader(find_source(tmp_path / "x.yuv", raw=(64, height, "yuv420p")))
    assert (reader.info.color.matrix, reader.info.color.full_range) == (matrix, False)
    assert reader.info.frame_rate == 25
    expected = yuv_to_rgb(*(np.array([[code]]) for code in (81, 90, 240)), matrix, False)
    assert np.abs(next(iter(reader)).rgb - expected).max() <= 1


def test_raw_video_by_the_library_and_the_command_line(tmp_path, capfd):
    samples = moving_pattern(WIDTH, HEIGHT, FRAMES)
    source = tmp_path / "x.raw"
    source.write_bytes(samples.tobytes())
    config = EncodeConfig(raw=RawFormat(WIDTH, HEIGHT, "rgb24"), input_rate=Fraction(50))
    config = EncodeConfig(
        raw=config.raw,
        input_rate=config.input_rate,
        threads=1,
        model=nervcodec.ModelConfig(params=9000),
        train=nervcodec.TrainConfig(epochs=1),
    )
    nervcodec.encode(source, tmp_path / "a.hfsv", config)
    layout = ("--input-res", f"{WIDTH}x{HEIGHT}", "--input-fmt", "rgb24")
    options = (*layout, "--input-rate", "50", *TINY)
    assert run("encode", "-q", source, tmp_path / "b.hfsv", *options)[0] == 0
    assert (tmp_path / "a.hfsv").read_bytes() == (tmp_path / "b.hfsv").read_bytes()
    info = probe(tmp_path / "a.hfsv")
    assert info.average_frame_rate == 50
    assert info.meta["source"] == file_digest(source)
    assert run("verify", tmp_path / "a.hfsv", "--source", source, *layout)[0] == 0
    assert "PSNR" in capfd.readouterr().err


def test_raw_video_that_ends_within_a_frame(tmp_path):
    (tmp_path / "x.yuv").write_bytes(bytes(3 * 64 * 48 * 3 // 2 + 7))
    with pytest.raises(InputVideoError, match=r"^x\.yuv: 7 bytes are left over after 3 frames"):
        find_source(tmp_path / "x.yuv", raw=(64, 48, "yuv420p"))


def test_raw_video_that_is_empty_or_not_there(tmp_path):
    (tmp_path / "x.yuv").touch()
    for name, message in (("x.yuv", "empty"), ("y.yuv", "no such file")):
        with pytest.raises(InputVideoError, match=message):
            VideoReader(find_source(tmp_path / name, raw=(64, 48, "yuv420p")))


@pytest.mark.parametrize(
    "options",
    [
        ("--input-fmt", "rgb24"),
        ("--input-res", "64"),
        ("--input-res", "64x48", "--input-fmt", "purple"),
        ("--input-res", "99999x99999"),
        ("--input-rate", "25"),
        ("--input-res", "64x48", "--input-rate", "fast"),
        ("--input-res", "64x48", "--input-rate", "1/0"),
        ("--input-res", "64x48", "--input-rate", "0"),
        ("--input-res", "64x48", "--input-rate", "-25"),
    ],
)
def test_options_of_raw_video_that_make_no_sense(tmp_path, capfd, options):
    make_clip(tmp_path / "in.mp4", ClipSpec(frames=1))
    assert run("encode", tmp_path / "in.mp4", tmp_path / "out.hfsv", *options)[0] == 2
    the_error(capfd.readouterr().err)


def test_rates_are_exact():
    assert parse_rate("30000/1001") == Fraction(30000, 1001)
    assert parse_rate("29.97") == Fraction(2997, 100)


def test_a_checkpoint_belongs_to_layout_and_rate():
    configs = [
        EncodeConfig(),
        EncodeConfig(raw=RawFormat(64, 48)),
        EncodeConfig(raw=RawFormat(48, 64)),
        EncodeConfig(raw=RawFormat(64, 48, "nv12")),
        EncodeConfig(input_rate=Fraction(24)),
    ]
    assert len({_key("digest", config) for config in configs}) == len(configs)


# Frames out


def test_y4m_is_what_ffmpeg_reads(coded, tmp_path, frames):
    code, sent = run("decode", "-q", coded, "-")
    assert code == 0
    (tmp_path / "x.y4m").write_bytes(sent)
    with av.open(str(tmp_path / "x.y4m")) as container:
        stream = container.streams.video[0]
        assert container.format.name == "yuv4mpegpipe"
        assert stream.average_rate == Fraction(30000, 1001)
        assert (stream.codec_context.pix_fmt, stream.codec_context.color_range) == ("yuv420p", 1)
    back = np.stack([frame.rgb for frame in VideoReader(tmp_path / "x.y4m")])
    assert back.shape == frames.shape
    error = np.mean((back.astype(float) - frames) ** 2)
    assert error < 20  # of 4:2:0 alone
    assert run("decode", "-q", coded, tmp_path / "y.y4m")[0] == 0
    assert (tmp_path / "y.y4m").read_bytes() == sent


@pytest.mark.parametrize(("full_range", "tag"), [(False, b"LIMITED"), (True, b"FULL")])
def test_the_header_of_y4m_is_that_of_ffmpegs_muxer(full_range, tag):
    ours = io.BytesIO()
    writer = Y4mWriter(
        ours,
        width=WIDTH,
        height=HEIGHT,
        frame_rate=Fraction(30000, 1001),
        sample_aspect_ratio=Fraction(16, 11),
        color=ColorInfo(2, 2, 6, full_range),
    )
    writer.write(picture(WIDTH, HEIGHT), 0, 1)
    theirs = y4m(1)
    added = len(b"A16:11") - len(b"A0:0") + len(b" XCOLORRANGE=") + len(tag)
    assert len(ours.getvalue()) == len(theirs) + added
    expected = theirs.replace(b" A0:0 ", b" A16:11 ")
    expected = expected.replace(b"\n", b" XCOLORRANGE=" + tag + b"\n", 1)
    assert ours.getvalue().split(b"\n")[:2] == expected.split(b"\n")[:2]


def test_y4m_of_an_odd_size_has_full_chroma(tmp_path):
    rgb = picture(33, 17)
    with (tmp_path / "x.y4m").open("wb") as stream:
        writer = Y4mWriter(
            stream,
            width=33,
            height=17,
            frame_rate=Fraction(25),
            sample_aspect_ratio=Fraction(1),
            color=ColorInfo(2, 2, 6, full_range=True),
        )
        with writer:
            writer.write(rgb, 0, 1)
    (frame,) = decoded(tmp_path / "x.y4m")
    assert (frame.format.name, frame.color_range) == ("yuv444p", 2)
    back = next(iter(VideoReader(tmp_path / "x.y4m"))).rgb
    assert np.abs(back.astype(int) - rgb).max() <= 2


def test_raw_output_is_the_very_samples(coded, tmp_path, frames):
    assert run("decode", "-q", coded, "-", "-f", "raw") == (0, frames.tobytes())
    assert run("decode", "-q", coded, tmp_path / "x.bin", "--format", "raw")[0] == 0
    assert (tmp_path / "x.bin").read_bytes() == frames.tobytes()


def test_a_part_goes_to_a_pipe(coded, frames):
    options = ("--start", "1", "--frames", "2", "-f", "raw")
    assert run("decode", "-q", coded, "-", *options) == (0, frames[1:3].tobytes())


@pytest.mark.parametrize(
    "options", [("-f", "mp4"), ("-f", "mkv"), ("-f", "png"), ("--codec", "h264")]
)
def test_what_no_pipe_takes(coded, capfd, options):
    assert run("decode", coded, "-", *options) == (2, b"")
    the_error(capfd.readouterr().err)


def test_a_format_goes_over_the_suffix(coded, tmp_path):
    assert run("decode", "-q", coded, tmp_path / "x.bin", "-f", "mkv")[0] == 0
    with av.open(str(tmp_path / "x.bin")) as container:
        assert "matroska" in container.format.name


@pytest.mark.parametrize("kind", ["y4m", "raw"])
def test_what_frames_alone_do_not_keep_is_named(rich, tmp_path, kind):
    report = decode(rich, tmp_path / "x", DecodeConfig(format=kind))
    told = "\n".join(report.warnings)
    for part in ("rotation by 90", "aac 48000 Hz", "mov_text subtitles", "1 chapters"):
        assert told.count(f"left out, {kind} has no place for it: ") == len(report.warnings) - 1
        assert part in told
    assert ("16/11" in told) == (kind == "raw")
    assert "times vary" in told
    if kind == "y4m":
        header = (tmp_path / "x").read_bytes().split(b"\n")[0]
        assert b" A16:11 " in header
        assert b" F50:3 " in header  # 4 frames in 6/25 s, the last as long as most


def test_what_is_not_wanted_is_not_missed(rich, tmp_path):
    report = decode(rich, tmp_path / "x.y4m", DecodeConfig(audio=False))
    assert "aac" not in "\n".join(report.warnings)


@pytest.mark.parametrize("kind", ["raw", "y4m"])
def test_frames_go_out_as_they_are_made(coded, tmp_path, kind):
    path, lengths = tmp_path / "out", []

    def progress(done: int, total: int) -> None:
        lengths.append(path.stat().st_size)

    with path.open("wb", buffering=1 << 20) as stream:
        decode(coded, stream, DecodeConfig(format=kind), progress)
    frame_bytes = WIDTH * HEIGHT * 3 if kind == "raw" else len(b"FRAME\n") + WIDTH * HEIGHT * 3 // 2
    assert np.diff(lengths).tolist() == [frame_bytes] * (FRAMES - 1)


def test_a_reader_that_leaves_ends_it_quietly(coded):
    with subprocess.Popen(
        [*HFSV, "decode", "-q", coded, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


@pytest.mark.parametrize("command", ["decode", "encode"])
def test_standard_output_that_is_full(coded, tmp_path, command):
    (tmp_path / "in.y4m").write_bytes(y4m())
    arguments = [coded, "-"] if command == "decode" else [tmp_path / "in.y4m", "-", *TINY]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*HFSV, command, "-q", *arguments], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert "No space left" in the_error(done.stderr.decode())


def test_an_error_of_the_stream_is_ours(coded):
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        decode(coded, Full())


def test_a_pipe_between_two(coded, frames, tmp_path):
    """``hfsv decode x - | hfsv encode - y`` at the level of the file descriptors."""
    reading, writing = os.pipe()

    def produce() -> None:
        with os.fdopen(writing, "wb") as stream:
            decode(coded, stream)

    thread = threading.Thread(target=produce)
    thread.start()
    with os.fdopen(reading) as stdin:
        code, _ = run("encode", "-q", "-", tmp_path / "y.hfsv", *TINY, stdin=stdin)
    thread.join()
    assert code == 0
    assert probe(tmp_path / "y.hfsv").average_frame_rate == Fraction(30000, 1001)


def spaced(*pts: int, last: int) -> list[tuple[int, int]]:
    """(pts, duration) of frames that last until the next."""
    return [(a, b - a) for a, b in zip(pts, (*pts[1:], pts[-1] + last), strict=True)]


ROUNDED = [round(Fraction(1000 * 1001 * n, 30000)) for n in range(300)]
"""30000/1001 frames a second, in whole milliseconds."""


@pytest.mark.parametrize(
    ("times", "rate", "varies"),
    [
        (spaced(7, last=40), Fraction(25), False),
        (spaced(*range(5, 400, 40), last=40), Fraction(25), False),
        (spaced(*ROUNDED, last=33), Fraction(300 * 1000, ROUNDED[-1] + 33), False),
        (spaced(0, 40, 82, 120, last=40), Fraction(25), True),
        (spaced(0, 40, 80, 160, last=40), Fraction(20), True),
    ],
)
def test_rate_of_a_clip(times, rate, varies):
    assert constant_rate(times, Fraction(1, 1000)) == (rate, varies)


def test_the_command_line_knows_the_formats():
    assert set(decode_cli.FORMATS) == set(targets.FORMATS)


def test_unknown_names_of_formats(coded, tmp_path):
    with pytest.raises(UsageError, match="unknown format gif"):
        decode(coded, tmp_path / "x", DecodeConfig(format="gif"))
    with pytest.raises(UsageError, match=r"\.y4m \.rgb"):
        decode(coded, tmp_path / "x.gif")


# --- pipes with a name ------------------------------------------------------------------------


def filled(path: Path, data: bytes) -> threading.Thread:
    """A named pipe at ``path`` and what writes ``data`` to it."""
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    thread.start()
    return thread


def test_a_named_pipe_is_read_like_standard_input(tmp_path, temp, coded):
    writer = filled(tmp_path / "in.pipe", y4m())
    assert run("encode", "-q", tmp_path / "in.pipe", tmp_path / "out.hfsv", *TINY)[0] == 0
    assert (tmp_path / "out.hfsv").read_bytes() == coded.read_bytes()
    writer.join(10)
    writer = filled(tmp_path / "coded.pipe", coded.read_bytes())
    assert run("decode", "-q", tmp_path / "coded.pipe", tmp_path / "out.y4m")[0] == 0
    assert (tmp_path / "out.y4m").stat().st_size > 0
    writer.join(10)
    assert list(temp.iterdir()) == []


def test_errors_name_the_pipe(tmp_path, temp, capfd):
    writer = filled(tmp_path / "in.pipe", b"no video at all")
    assert run("encode", tmp_path / "in.pipe", tmp_path / "out.hfsv", *TINY)[0] == 3
    assert f"{tmp_path / 'in.pipe'}: is not a video" in the_error(capfd.readouterr().err)
    writer.join(10)
    assert list(temp.iterdir()) == []
