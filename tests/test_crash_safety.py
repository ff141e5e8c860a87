"""Killed encodes, full disks and vanished folders: no half file, no old file lost."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import nervcodec
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.training.checkpoint import checkpoint_path
from tests.synthetic import moving_pattern, write_clip

OLD = b"what the user had there before"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return write_clip(folder / "in.mp4", moving_pattern(48, 32, 7), audio=True)


@pytest.fixture(scope="module")
def coded(source: Path) -> Path:
    return encode(source, source.with_name("good.hfsv"))


def encode(
    source: Path,
    output: Path,
    progress: Callable[[nervcodec.EncodeProgress], None] | None = None,
    **changes: object,
) -> Path:
    values: dict[str, object] = {
        "train": TrainConfig(epochs=2),
        "model": ModelConfig(params=12_000),
        "threads": 1,
        "overwrite": True,
        "checkpoint_seconds": 1e-9,
    }
    nervcodec.encode(source, output, EncodeConfig(**(values | changes)), progress)
    return output


def crash(source: Path, folder: Path, *mode: object) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.crash_runner", source, folder, *mode]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_its_file_operations(source: Path, tmp_path: Path, stride: int) -> None:
    counts = crash(source, tmp_path, "files", stride)
    assert counts["killed"] >= 40 // stride
    assert counts["resumed"] >= 30 // stride
    assert counts["debris"] >= 1  # killed between making a temporary file and renaming it
    if stride == 1:
        assert counts["new file"] >= 1  # killed after the new file was in place


@pytest.mark.slow
def test_killed_at_random_moments(source: Path, tmp_path: Path) -> None:
    counts = crash(source, tmp_path, "random", 60)
    assert counts["killed"] >= 50
    assert counts["resumed"] >= 10


# --- a full disk: files may not grow beyond a size ----------------------------------------------


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file that this process writes may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1, 1000, 5000])
def test_encode_on_a_full_disk(source: Path, coded: Path, tmp_path: Path, size: int) -> None:
    output = tmp_path / "out.hfsv"
    output.write_bytes(OLD)
    assert size < coded.stat().st_size
    with (
        pytest.raises(nervcodec.OutputError, match=r"out\.hfsv: cannot be written"),
        file_size_limit(size),
    ):
        encode(source, output)
    assert output.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [output]


def test_a_checkpoint_for_which_there_is_no_room_does_not_end_the_encode(
    source: Path, coded: Path, tmp_path: Path
) -> None:
    with file_size_limit(coded.stat().st_size + 100):
        output = encode(source, tmp_path / "out.hfsv")
    assert output.read_bytes() == coded.read_bytes()
    assert list(tmp_path.iterdir()) == [output]


def test_the_last_checkpoint_survives_a_disk_that_fills_up(source: Path, tmp_path: Path) -> None:
    """Room for nothing at the end: the work is not lost."""
    output, steps = tmp_path / "out.hfsv", 0

    def count(event: nervcodec.EncodeProgress) -> None:
        nonlocal steps
        steps += event.training is not None

    with ExitStack() as stack:

        def fill_up(event: nervcodec.EncodeProgress) -> None:
            if event.stage == "verify":
                stack.enter_context(file_size_limit(100))

        with pytest.raises(nervcodec.OutputError):
            encode(source, output, progress=fill_up)
    assert list(tmp_path.iterdir()) == [checkpoint_path(output)]
    encode(source, output, progress=count, resume=True)
    assert steps == 0
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("size", [0, 1000])
def test_decode_on_a_full_disk(coded: Path, tmp_path: Path, size: int, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    output.write_bytes(OLD)
    with (
        pytest.raises(nervcodec.OutputError, match=rf"out\{suffix}: cannot be"),
        file_size_limit(size),
    ):
        nervcodec.decode(coded, output, nervcodec.DecodeConfig(overwrite=True))
    assert output.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [output]


# --- a folder that vanishes ---------------------------------------------------------------------


@pytest.mark.parametrize("replaced", [False, True])
def test_encode_into_a_folder_that_vanishes(source: Path, tmp_path: Path, replaced: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    warned: list[str] = []

    def remove(event: nervcodec.EncodeProgress) -> None:
        warned.extend(event.warnings)
        if event.stage == "plan":
            shutil.rmtree(folder)
            if replaced:
                folder.write_bytes(OLD)

    config = EncodeConfig(
        train=TrainConfig(epochs=2), model=ModelConfig(params=12_000), checkpoint_seconds=1e-9
    )
    with pytest.raises(nervcodec.OutputError, match="cannot be written"):
        nervcodec.encode(source, folder / "out.hfsv", config, remove)
    assert len([text for text in warned if "no checkpoint" in text]) == 1
    assert [path.name for path in tmp_path.iterdir()] == (["folder"] if replaced else [])


def test_decode_into_a_folder_that_vanishes(coded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(nervcodec.OutputError, match="cannot be written"):
        nervcodec.decode(
            coded, folder / "out.mp4", None, lambda done, total: shutil.rmtree(folder, True)
        )
    assert not list(tmp_path.iterdir())
