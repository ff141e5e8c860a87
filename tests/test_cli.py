"""The command line: exit codes, one-line errors, no debris, and what the commands print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import click
import pytest
from video_helpers import Subtitles, add_subtitles

from nervcodec import estimator
from nervcodec.cli import main as cli_main
from tests.synthetic import moving_pattern, write_clip

TINY = ["--params", "9000", "--epochs", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, its .hfsv, and broken variants of both."""
    folder = tmp_path_factory.mktemp("files")
    write_clip(folder / "in.mp4", moving_pattern(48, 32, 4))
    assert run("encode", folder / "in.mp4", folder / "good.hfsv", *TINY) == 0
    video, coded = (folder / "in.mp4").read_bytes(), (folder / "good.hfsv").read_bytes()
    (folder / "text.mp4").write_text("ffconcat version 1.0\nfile in.mp4\n")
    (folder / "empty.mp4").touch()
    (folder / "truncated.mp4").write_bytes(video[: len(video) // 2])
    (folder / "truncated.hfsv").write_bytes(coded[:-100])
    (folder / "flipped.hfsv").write_bytes(coded[:500] + bytes([coded[500] ^ 1]) + coded[501:])
    (folder / "later.hfsv").write_bytes(_with_major(coded, 9))
    (folder / "empty.hfsv").touch()
    return folder


@pytest.fixture(scope="module")
def with_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .hfsv that carries sound and a subtitle."""
    folder = tmp_path_factory.mktemp("text")
    source = write_clip(folder / "sound.mp4", moving_pattern(32, 32, 10), audio=True)
    text = Subtitles("subrip", ((40, 200, b"Hello"),))
    add_subtitles(folder / "in.mkv", source, "matroska", text)
    assert run("encode", folder / "in.mkv", folder / "out.hfsv", *TINY) == 0
    return folder / "out.hfsv"


def _with_major(coded: bytes, major: int) -> bytes:
    """The same file, said to be of another major version, its checksums made good."""
    import hashlib
    import zlib

    length = coded[9]
    head = bytearray(coded[8 : 10 + length])
    head[2] = major
    body = coded[:8] + head + zlib.crc32(head).to_bytes(4, "little") + coded[14 + length :]
    end = body.rindex(b"\xff", 0, len(body) - 4 - 16)
    tail = bytearray(body[end:])
    tail[-20:-4] = hashlib.sha256(body[:end]).digest()[:16]
    return body[:end] + tail[:-4] + zlib.crc32(tail[:-4]).to_bytes(4, "little")


def run(*arguments: object) -> int:
    """Run ``hfsv`` in this process and return its exit code."""
    before = sys.argv
    sys.argv = ["hfsv", *map(str, arguments)]
    try:
        return cli_main._run()
    finally:
        sys.argv = before


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


LONG = 300 * "x"
"""More than a file's name may have on any usual system."""

BAD = [
    (["encode", "missing.mp4", "new.hfsv"], 3, "missing.mp4"),
    (["encode", "text.mp4", "new.hfsv"], 3, "text.mp4"),
    (["encode", "empty.mp4", "new.hfsv"], 3, "empty"),
    (["encode", "truncated.mp4", "new.hfsv"], 3, "truncated.mp4"),
    (["encode", ".", "new.hfsv"], 3, "folder"),
    (["encode", "in.mp4", "good.hfsv"], 6, "exists"),
    (["encode", "in.mp4", "in.mp4", "-y"], 2, "same file"),
    (["encode", "in.mp4", "no/folder/new.hfsv"], 1, "does not exist"),
    (["encode", "in.mp4", "in.mp4/new.hfsv"], 1, "does not exist"),
    (["encode", "in.mp4", "new.hfsv", "--preset", "warp"], 2, "warp"),
    (["encode", "in.mp4", "new.hfsv", "--time", "0s"], 2, "more than 0"),
    (["encode", "in.mp4", "new.hfsv", "--time", "soon"], 2, "soon"),
    (["encode", "in.mp4", "new.hfsv", "--stop-below", "-1"], 2, "more than 0"),
    (["encode", "missing.mp4", "--dry-run"], 3, "missing.mp4"),
    (["improve", "good.hfsv", "missing.mp4"], 3, "missing.mp4"),
    (["improve", "missing.hfsv", "in.mp4"], 4, "missing.hfsv"),
    (["improve", "flipped.hfsv", "in.mp4"], 4, "checksum"),
    (["improve", "good.hfsv", "text.mp4"], 2, "text.mp4"),
    (["encode", "in.mp4", "new.hfsv", "--params", "0"], 2, "0"),
    (["encode", "in.mp4", "new.hfsv", "--params", "-5k"], 2, "-5k"),
    (["encode", "in.mp4", "new.hfsv", "--params", "many"], 2, "many"),
    (["encode", "in.mp4", "new.hfsv", "--params", "nan"], 2, "nan"),
    (["encode", "in.mp4", "new.hfsv", "--params", "10"], 5, "narrowest"),
    (["encode", "in.mp4", "new.hfsv", "--params", "900G"], 2, "900"),
    (["encode", "in.mp4", "new.hfsv", "--size", "64"], 2, "64"),
    (["encode", "in.mp4", "new.hfsv", "--size", "99999x99999"], 2, "99999"),
    (["encode", "in.mp4", "new.hfsv", "--crop", "640x640"], 2, "640x640"),
    (["encode", "in.mp4", "new.hfsv", "--lr", "nan"], 2, "lr"),
    (["encode", "in.mp4", "new.hfsv", "--device", "cuda:77"], 2, "cuda:77"),
    (["encode", "in.mp4"], 2, "output"),
    (["encode", "in.mp4", "new.hfsv", "third"], 2, "one output"),
    (["decode", "truncated.hfsv", "new.mp4"], 4, "truncated"),
    (["decode", "flipped.hfsv", "new.mp4"], 4, "checksum"),
    (["decode", "later.hfsv", "new.mp4"], 4, "version 9"),
    (["decode", "empty.hfsv", "new.mp4"], 4, "not an .hfsv"),
    (["decode", "in.mp4", "new.mp4"], 4, "not an .hfsv"),
    (["decode", "missing.hfsv", "new.mp4"], 4, "missing.hfsv"),
    (["decode", "good.hfsv", "good.hfsv", "-y"], 2, "good.hfsv"),
    (["decode", "good.hfsv", "in.mp4"], 6, "exists"),
    (["decode", "good.hfsv", "new.xyz"], 2, ".mp4"),
    (["decode", "good.hfsv", "new.mp4", "--codec", "ffv1"], 2, "ffv1"),
    (["decode", "good.hfsv", "no/folder/new.mp4"], 1, "does not exist"),
    (["info", "in.mp4"], 4, "not an .hfsv"),
    (["info", "truncated.hfsv"], 4, "truncated"),
    (["verify", "flipped.hfsv"], 4, "checksum"),
    (["verify", "good.hfsv", "--source", "missing.mp4"], 3, "missing.mp4"),
    (["--config", "missing.toml", "info", "good.hfsv"], 2, "missing.toml"),
    (["encode", f"{LONG}.mp4", "new.hfsv"], 3, "name is too long"),
    (["encode", "in.mp4", f"{LONG}.hfsv"], 1, "name too long"),
    (["encode", "in.mp4", f"{LONG[:249]}.hfsv"], 1, ".checkpoint: cannot be written"),
    (["encode", f"{LONG}.rgb", "new.hfsv", "--input-res", "8x8"], 3, "name is too long"),
    (["decode", "good.hfsv", f"{LONG}.mp4"], 1, "name too long"),
    (["decode", "good.hfsv", f"{LONG}/"], 1, "name too long"),
    (["decode", f"{LONG}.hfsv", "new.mp4"], 4, "name too long"),
    (["compare", "in.mp4", "-o", LONG], 1, "name too long"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=str)
def test_bad_input(files, monkeypatch, capfd, arguments, code, message):
    monkeypatch.chdir(files)
    before = listing(files)
    assert run(*arguments) == code
    printed = capfd.readouterr()
    assert listing(files) == before
    error = [line for line in printed.err.splitlines() if "rror" in line]
    assert len(error) == 1
    assert message in error[0]
    assert "Traceback" not in printed.err


def test_no_video_stream(clips, tmp_path, capfd):
    source = clips / "odd" / "audio_only_opus.mp4"
    assert run("encode", source, tmp_path / "new.hfsv") == 3
    assert "no video" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_folder_not_writable(files, tmp_path, monkeypatch, capfd):
    tmp_path.chmod(0o555)
    if os.geteuid() == 0:  # root may write anywhere: let the system say that it may not
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert run("encode", files / "in.mp4", tmp_path / "new.hfsv") == 1
    assert "not writable" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_existing_output_survives_a_failed_encode(files, tmp_path):
    output = tmp_path / "old.hfsv"
    output.write_bytes(b"precious")
    assert run("encode", files / "truncated.mp4", output, "-y") == 3
    assert output.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [output]


def start_hfsv(*arguments: object) -> subprocess.Popen[str]:
    """``hfsv`` as a process of its own, with SIGINT ignored as for a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.Popen(
            [sys.executable, "-c", "from nervcodec.cli.main import main; main()"]
            + [str(argument) for argument in arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(process: subprocess.Popen[str], start: str) -> None:
    assert process.stderr is not None
    deadline = threading.Timer(120, process.kill)
    deadline.start()
    try:
        for line in process.stderr:
            if line.startswith(start):
                return
    finally:
        deadline.cancel()
    pytest.fail(f"no line starts with {start!r}")


ENDLESS = ("--params", "9000", "--epochs", "100000", "--threads", "1")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_writes_what_there_is(files, tmp_path, number, code):
    output = tmp_path / "out.hfsv"
    with start_hfsv("encode", files / "in.mp4", output, *ENDLESS) as process:
        wait_for(process, "epoch")
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(30) == code
    assert "stopping" in rest
    assert f"interrupted: {output} was written" in rest
    assert "--resume" in rest
    assert "Traceback" not in rest
    assert sorted(tmp_path.iterdir()) == [output, tmp_path / "out.hfsv.checkpoint"]
    assert run("verify", "-q", output) == 0
    assert run("decode", "-q", output, tmp_path / "out.mp4") == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_second_signal_leaves_at_once(files, tmp_path, number, code):
    """The first comes while the source is read, and is not seen before the second."""
    script = (
        "import sys, time, nervcodec.planning as e\n"
        "e.scan = lambda *arguments: (print('reading', file=sys.stderr, flush=True),"
        " time.sleep(60))\n"
        "from nervcodec.cli.main import main; main()"
    )
    arguments = ["encode", str(files / "in.mp4"), str(tmp_path / "out.hfsv"), *ENDLESS]
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(process, "reading\n")
        process.send_signal(number)
        wait_for(process, "hfsv: stopping")
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(30) == code
    assert "no output was written" in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())


def test_signal_before_the_training_writes_nothing(files, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("nervcodec.cli.signals.StopRequest.requested", lambda self: True)
    assert run("encode", files / "in.mp4", tmp_path / "out.hfsv", *ENDLESS) == 130
    assert "nothing was written" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_decode_is_interrupted_without_debris(files, tmp_path):
    script = (
        "import sys, time, nervcodec.decoder as d\n"
        "d.VideoWriter.write = lambda *a: (print('writing', file=sys.stderr, flush=True),"
        " time.sleep(60))\n"
        "from nervcodec.cli.main import main; main()"
    )
    command = [sys.executable, "-c", script, "decode", files / "good.hfsv", tmp_path / "out.mp4"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(process, "writing")
        assert list(tmp_path.iterdir())  # the temporary file is there while it works
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(30) == 130
    assert "no output was written" in rest
    assert not list(tmp_path.iterdir())


def test_resume_by_the_command_line(files, tmp_path, capfd):
    quick = ("--params", "9000", "--epochs", "3", "--threads", "1")
    whole, output = tmp_path / "whole.hfsv", tmp_path / "out.hfsv"
    assert run("encode", files / "in.mp4", whole, *quick) == 0
    with pytest.MonkeyPatch.context() as patch:
        steps = iter(range(1000))
        # Asked once for each of four frames read, then after each step.
        patch.setattr("nervcodec.cli.signals.StopRequest.requested", lambda self: next(steps) >= 10)
        assert run("encode", files / "in.mp4", output, *quick) == 130
    assert output.read_bytes() != whole.read_bytes()
    capfd.readouterr()
    assert run("encode", files / "in.mp4", output, *quick, "--resume") == 0
    err = capfd.readouterr().err
    assert "going on from" in err
    assert "epoch 1/3" not in err
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == [output, whole]


def test_resume_of_other_settings_is_refused(files, tmp_path, capfd):
    output = tmp_path / "out.hfsv"
    with start_hfsv("encode", files / "in.mp4", output, *ENDLESS) as process:
        wait_for(process, "epoch")
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    before = listing(tmp_path)
    assert run("encode", files / "in.mp4", output, *TINY, "--resume") == 1
    assert "other settings" in capfd.readouterr().err
    assert listing(tmp_path) == before


def test_progress_lines_tell_the_state(files, tmp_path, capfd):
    assert run("encode", files / "in.mp4", tmp_path / "out.hfsv", *TINY) == 0
    err = capfd.readouterr().err
    last = [line for line in err.splitlines() if line.startswith("epoch")][-1]
    for part in ("epoch 1/1", "step 4/4", "PSNR", "loss", "s/step", "ETA"):
        assert part in last
    assert "\x1b" not in err


def test_what_is_not_kept_is_told_before_the_training(clips, tmp_path, capfd):
    source = clips / "odd" / "interlaced_640x360_h264.mp4"
    options = ["--params", "9k", "--epochs", "1", "--frames", "2", "--size", "40x40"]
    assert run("encode", source, tmp_path / "out.hfsv", *options) == 0
    lines = capfd.readouterr().err.splitlines()
    warned = [n for n, line in enumerate(lines) if "warning" in line and "interlaced" in line]
    assert len(warned) == 1
    assert warned[0] < min(n for n, line in enumerate(lines) if line.startswith("epoch"))


@pytest.mark.parametrize(
    ("options", "audio", "subtitles"),
    [([], 1, 1), (["-an"], 0, 1), (["-sn"], 1, 0), (["-an", "-sn"], 0, 0)],
)
@pytest.mark.parametrize("part", [[], ["--frames", "5"]])
def test_decode_leaves_out_what_is_not_wanted(with_text, tmp_path, part, options, audio, subtitles):
    output = tmp_path / "out.mkv"
    assert run("decode", with_text, output, *part, *options) == 0
    with av.open(str(output)) as container:
        assert len(container.streams.audio) == audio
        assert len(container.streams.subtitles) == subtitles


def test_a_dry_run_says_what_an_encode_would_come_to(files, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(estimator, "TRIAL_SECONDS", 0.5)
    before = listing(files)
    monkeypatch.chdir(tmp_path)
    assert run("encode", files / "in.mp4", "--dry-run", *TINY) == 0
    text = capfd.readouterr().err
    assert "4 frames 48x32" in text
    assert "1 epochs" in text
    assert run("encode", files / "in.mp4", "out.hfsv", "--dry-run", "--json", *TINY) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["frames"] == 4
    assert found["own_bytes"] == pytest.approx(9000 * 4.5 / 8, rel=0.1)
    assert 0 < found["seconds"] < 60
    assert found["memory_bytes"] > 100e6
    assert listing(files) == before
    assert listing(tmp_path) == {}


def test_a_dry_run_knows_limits(files, monkeypatch, capfd):
    monkeypatch.setattr(estimator, "TRIAL_SECONDS", 0.5)
    options = ["--dry-run", "--json", "--target-size", "6k", "--time", "1h", "--threads", "1"]
    assert run("encode", files / "in.mp4", *options) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["own_bytes"] <= 6000
    assert found["seconds"] == 3600
    assert found["epochs"] > 1000


def test_an_encode_of_some_seconds(files, tmp_path, capfd):
    started = time.monotonic()
    arguments = ["--params", "9000", "--threads", "1", "--time", "4s"]
    assert run("encode", files / "in.mp4", tmp_path / "out.hfsv", *arguments) == 0
    assert 2 < time.monotonic() - started < 12
    assert run("verify", "--frames", tmp_path / "out.hfsv") == 0


def test_quiet_says_nothing(files, tmp_path, capfd):
    assert run("encode", "-q", files / "in.mp4", tmp_path / "out.hfsv", *TINY) == 0
    assert run("decode", "-q", "-i", tmp_path / "out.hfsv", "-o", tmp_path / "out.mp4") == 0
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_json_lines(files, tmp_path, capfd):
    assert run("encode", files / "in.mp4", tmp_path / "out.hfsv", "--json", *TINY) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {line["type"] for line in lines} == {"progress", "result"}
    shares = [line["progress"] for line in lines if line["type"] == "progress"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert lines[-1]["file_bytes"] == (tmp_path / "out.hfsv").stat().st_size


def test_info_json_has_the_shape_of_ffprobe(files, capfd):
    assert run("info", files / "good.hfsv", "--json") == 0
    described = json.loads(capfd.readouterr().out)
    video = described["streams"][0]
    assert (video["width"], video["height"], video["nb_frames"]) == (48, 32, "4")
    assert video["avg_frame_rate"] == "25/1"
    assert described["format"]["duration"] == "0.160000"
    assert described["format"]["size"] == str((files / "good.hfsv").stat().st_size)
    assert sum(described["hfsv"]["chunk_bytes"].values()) + 8 == int(described["format"]["size"])


def test_info_for_a_person(files, capfd):
    assert run("info", files / "good.hfsv") == 0
    out = capfd.readouterr().out
    assert "hfs-hnerv, 48x32" in out
    assert "bpp" in out


def test_config_file_and_environment_give_defaults(files, tmp_path, monkeypatch, capfd):
    (tmp_path / "hfsv.toml").write_text('[encode]\nepochs = 2\nparams = "9k"\nan = true\n')
    arguments = ["encode", files / "in.mp4", tmp_path / "out.hfsv"]
    assert run("--config", tmp_path / "hfsv.toml", *arguments) == 0
    assert "epoch 2/2" in capfd.readouterr().err
    monkeypatch.setenv("HFSV_ENCODE_EPOCHS", "3")
    monkeypatch.setenv("HFSV_ENCODE_PARAMS", "9000")
    assert run(*arguments, "-y") == 0
    assert "epoch 3/3" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["[encode]\nspeed = 3\n", "[warp]\n", "[encode\n", "epochs = 3\n"])
def test_config_file_with_unknown_content_is_refused(files, tmp_path, capfd, text):
    (tmp_path / "hfsv.toml").write_text(text)
    assert run("--config", tmp_path / "hfsv.toml", "info", files / "good.hfsv") == 2
    assert "hfsv.toml" in capfd.readouterr().err


def test_start_up_does_not_wait_for_torch():
    script = (
        "import sys, nervcodec.cli.main; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    )
    started = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("name", cli_main.COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    command = cli_main.cli.get_command(click.Context(cli_main.cli), name)
    assert command is not None
    assert (command.name, command.get_short_help_str(100)) == (name, cli_main.COMMANDS[name])
