"""``hfsv improve``: training on from a finished file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nervcodec
from nervcodec.config import E_NERV, EncodeConfig, ModelConfig, TrainConfig
from nervcodec.improver import ImproveConfig, improve
from tests.synthetic import moving_pattern, write_clip
from tests.test_cli import run

QUICK = EncodeConfig(
    train=TrainConfig(epochs=6), model=ModelConfig(params=9000), threads=1, overwrite=True
)
MORE = ImproveConfig(train=TrainConfig(epochs=12), threads=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("improve")
    return write_clip(folder / "in.mp4", moving_pattern(64, 48, 12), audio=True)


def encoded(source: Path, path: Path, **changes: Any) -> Path:
    nervcodec.encode(source, path, replace(QUICK, **changes))
    return path


def sections(path: Path) -> dict[str, Any]:
    """What must stay as it is."""
    with nervcodec.open(path) as file:
        reader, audio = file.reader, file.reader.audio()
        return {
            "header": reader.header,
            "pts": list(reader.pts),
            "meta": reader.meta,
            "audio": None if audio is None else audio.data,
        }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"keyint": 6},
        {"train": TrainConfig(epochs=6, rate_weight=0.0)},
        {
            "train": TrainConfig(epochs=6, learning_rate=1e-3, hfs_weight=0.0),
            "model": ModelConfig(params=12_000, network=E_NERV, hfscm=False, msfrp=False),
        },
        {"size": (31, 23), "crop": (62, 46), "start": None},
    ],
    ids=["plain", "segments", "rounded", "e-nerv", "scaled"],
)
def test_a_file_becomes_better_and_no_longer(
    changes: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    file, better = encoded(source, tmp_path / "out.hfsv", **changes), tmp_path / "better.hfsv"
    before = file.read_bytes()
    report = improve(file, source, better, MORE)
    assert file.read_bytes() == before
    assert report.improved == report.segments
    assert report.psnr_after > report.psnr_before + 0.2
    assert report.bytes_before == len(before)
    assert report.bytes_after == better.stat().st_size <= len(before)
    assert sections(better) == sections(file)
    measured = nervcodec.verify(better, source=source, frames=True)
    assert measured.frames_checked
    assert measured.psnr == pytest.approx(report.psnr_after, abs=0.02)


def test_in_place(source: Path, tmp_path: Path) -> None:
    file = encoded(source, tmp_path / "out.hfsv")
    report = improve(file, source, config=MORE)
    assert report.improved
    assert nervcodec.verify(file, source=source).psnr == pytest.approx(report.psnr_after, abs=0.02)


def test_what_is_not_better_is_not_taken(source: Path, tmp_path: Path) -> None:
    file = encoded(source, tmp_path / "out.hfsv")
    before = file.read_bytes()
    ruined = ImproveConfig(train=TrainConfig(epochs=1, learning_rate=1.0), threads=1)
    report = improve(file, source, config=ruined)
    assert (report.improved, report.psnr_after) == (0, report.psnr_before)
    assert file.read_bytes() == before


def test_another_source_is_refused(source: Path, tmp_path: Path) -> None:
    file = encoded(source, tmp_path / "out.hfsv")
    other = write_clip(tmp_path / "other.mp4", moving_pattern(64, 48, 11))
    with pytest.raises(nervcodec.UsageError, match=r"other\.mp4: is not what .* was made of"):
        improve(file, other, config=MORE)


def test_it_can_be_stopped(source: Path, tmp_path: Path) -> None:
    file = encoded(source, tmp_path / "out.hfsv", keyint=6)
    before = file.read_bytes()
    report = improve(file, source, config=MORE, stop=lambda: True)
    assert report.interrupted
    assert file.read_bytes() == before


def test_a_rounded_file_can_be_stopped(source: Path, tmp_path: Path) -> None:
    """Before its steps are trained nothing of it fits."""
    rounded = TrainConfig(epochs=6, rate_weight=0.0)
    file = encoded(source, tmp_path / "out.hfsv", train=rounded)
    before = file.read_bytes()
    looks = iter([False, False, False])
    report = improve(file, source, config=MORE, stop=lambda: next(looks, True))
    assert report.interrupted
    assert len(file.read_bytes()) <= len(before)
    assert report.psnr_after >= report.psnr_before


def test_the_command(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = encoded(source, tmp_path / "out.hfsv")
    better = tmp_path / "better.hfsv"
    arguments = ["improve", str(file), str(source), "--time", "2s", "--threads", "1"]
    assert run(*arguments, "-o", better) == 0
    assert "PSNR" in capfd.readouterr().err
    assert run(*arguments, "-o", better, "-q") == 6
    assert "exists" in capfd.readouterr().err
    assert run(*arguments, "-o", better, "-q", "-y") == 0
