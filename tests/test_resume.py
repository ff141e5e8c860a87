"""Encodes that are stopped and gone on with: the file in between, and the same file in the end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import nervcodec
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.reports import EncodeProgress, EncodeReport
from nervcodec.training.checkpoint import checkpoint_path
from tests.synthetic import moving_pattern, write_clip

FRAMES = 7
EPOCHS = 3
KEYINT = 3
"""Segments of 3, 2 and 2 frames: 9, 6 and 6 steps."""


def settings(**changes: object) -> EncodeConfig:
    values: dict[str, object] = {
        "train": TrainConfig(epochs=EPOCHS),
        "model": ModelConfig(params=20_000),
        "keyint": KEYINT,
        "threads": 1,
        "checkpoint_seconds": 1e-9,
    }
    return EncodeConfig(**(values | changes))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return write_clip(folder / "in.mp4", moving_pattern(48, 32, FRAMES), audio=True)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file that an uninterrupted encode makes."""
    output = tmp_path_factory.mktemp("whole") / "out.hfsv"
    report = nervcodec.encode(source, output, settings())
    assert not report.interrupted
    assert list(output.parent.iterdir()) == [output]
    return output.read_bytes()


class StopWhen:
    """A ``stop`` that says True for ever once ``condition`` holds for some progress."""

    def __init__(self, condition: Callable[[EncodeProgress], bool]) -> None:
        self._condition = condition
        self._stopped = False

    def progress(self, event: EncodeProgress) -> None:
        self._stopped = self._stopped or self._condition(event)

    def __call__(self) -> bool:
        return self._stopped


class StopAfter:
    """A ``stop`` that says True from the ``count``-th question on."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0


def encode_until(
    source: Path, output: Path, condition: Callable[[EncodeProgress], bool], **changes: object
) -> EncodeReport:
    stop = StopWhen(condition)
    return nervcodec.encode(source, output, settings(**changes), stop.progress, stop)


def check_valid(file: Path, report: EncodeReport) -> None:
    """The file of an interrupted encode is sound and as the report says."""
    assert nervcodec.verify(file).frames == report.frames
    assert file.stat().st_size == report.file_bytes
    with nervcodec.open(file) as clip:
        assert clip[:].shape == (report.frames, 32, 48, 3)


STEPS_BEFORE = FRAMES
"""Questions that are asked while the source is read."""
FIRST_SEGMENT = STEPS_BEFORE + 9 + 3
"""... and until the first segment is trained (9 steps) and verified (3 frames)."""


@pytest.mark.parametrize("asked", [0, 3, FRAMES - 1])
def test_stopping_before_the_training_leaves_nothing(
    source: Path, tmp_path: Path, asked: int
) -> None:
    with pytest.raises(nervcodec.InterruptedEncode):
        nervcodec.encode(source, tmp_path / "out.hfsv", settings(), stop=StopAfter(asked))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("asked", [1, 8, 9, 10, 12, 13, 20, 28, 33])
def test_stopped_anywhere_the_file_is_valid_and_resuming_gives_the_same(
    source: Path, whole: bytes, tmp_path: Path, asked: int
) -> None:
    output = tmp_path / "out.hfsv"
    report = nervcodec.encode(source, output, settings(), stop=StopAfter(STEPS_BEFORE + asked))
    if report.interrupted:
        check_valid(output, report)
        assert sorted(tmp_path.iterdir()) == [output, checkpoint_path(output)]
        report = nervcodec.encode(source, output, settings(resume=True))
    assert not report.interrupted
    assert output.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [output]


def test_stopped_again_and_again(source: Path, whole: bytes, tmp_path: Path) -> None:
    """Each run is stopped a little later than the one before."""
    output, interrupted = tmp_path / "out.hfsv", 0
    for run in range(1, 20):
        stop = StopAfter(STEPS_BEFORE + 4 * run)
        report = nervcodec.encode(source, output, settings(resume=True), stop=stop)
        if not report.interrupted:
            break
        check_valid(output, report)
        interrupted += 1
    assert interrupted > 2
    assert output.read_bytes() == whole


def test_stopped_in_the_first_segment_its_frames_are_there(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.hfsv"
    report = nervcodec.encode(source, output, settings(), stop=StopAfter(STEPS_BEFORE + 4))
    check_valid(output, report)
    assert report.interrupted
    assert (report.frames, report.psnr > 5, report.float_psnr) == (3, True, None)
    info = nervcodec.probe(output)
    assert "HASH" not in info.chunk_bytes
    assert info.meta["epochs"] == 1
    assert info.header.segments == 1


def test_the_sound_ends_with_the_frames(source: Path, tmp_path: Path) -> None:
    output, every = tmp_path / "out.hfsv", tmp_path / "all.hfsv"
    cut = nervcodec.encode(source, output, settings(), stop=StopAfter(FIRST_SEGMENT))
    full = nervcodec.encode(source, every, settings())
    assert cut.frames == 3
    assert 0 < cut.audio_bytes < full.audio_bytes


def test_a_segment_of_less_than_an_epoch_is_left_out(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.hfsv"
    one_step = nervcodec.encode(source, output, settings(), stop=StopAfter(FIRST_SEGMENT + 1))
    assert one_step.frames == 3
    assert len(nervcodec.probe(output).segments) == 1
    one_epoch = nervcodec.encode(
        source, output, settings(overwrite=True), stop=StopAfter(FIRST_SEGMENT + 2)
    )
    assert one_epoch.frames == 5


def test_stopped_while_verifying_all_frames_are_there(
    source: Path, whole: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "out.hfsv"
    report = encode_until(source, output, lambda e: e.stage == "verify" and e.segment == 3)
    check_valid(output, report)
    assert report.frames == FRAMES
    assert nervcodec.encode(source, output, settings(resume=True)).frames == FRAMES
    assert output.read_bytes() == whole


def test_a_file_put_in_place_of_the_interrupted_one_is_not_overwritten(
    source: Path, whole: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "out.hfsv"
    encode_until(source, output, lambda e: e.training is not None)
    output.write_bytes(b"precious")
    with pytest.raises(nervcodec.OutputExistsError):
        nervcodec.encode(source, output, settings(resume=True))
    assert output.read_bytes() == b"precious"
    nervcodec.encode(source, output, settings(resume=True, overwrite=True))
    assert output.read_bytes() == whole


def test_resume_without_a_checkpoint_starts_at_the_beginning(
    source: Path, whole: bytes, tmp_path: Path
) -> None:
    said: list[str] = []
    output = tmp_path / "out.hfsv"
    nervcodec.encode(source, output, settings(resume=True), lambda e: said.append(e.description))
    assert any("from the beginning" in text for text in said)
    assert output.read_bytes() == whole


def test_a_run_that_will_replace_a_checkpoint_says_so(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.hfsv"
    encode_until(source, output, lambda e: e.training is not None)
    warned: list[str] = []
    nervcodec.encode(source, output, settings(overwrite=True), lambda e: warned.extend(e.warnings))
    assert len([text for text in warned if "--resume" in text]) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"train": TrainConfig(epochs=EPOCHS, seed=1)},
        {"train": TrainConfig(epochs=EPOCHS + 1)},
        {"model": ModelConfig(params=21_000)},
        {"keyint": 4},
        {"frames": 5},
        {"start": timedelta(0)},
        {"end": timedelta(hours=1)},
        {"allow_damaged": True},
        {"min_psnr": 30.0},
        {"size": (40, 32)},
        {"crop": (40, 32)},
    ],
    ids=str,
)
def test_other_settings_are_refused(
    source: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    output = tmp_path / "out.hfsv"
    encode_until(source, output, lambda e: e.training is not None)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(nervcodec.CheckpointError, match="other settings"):
        nervcodec.encode(source, output, settings(resume=True, overwrite=True, **changes))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_source_is_refused(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.hfsv"
    encode_until(source, output, lambda e: e.training is not None)
    other = write_clip(tmp_path / "other.mp4", moving_pattern(48, 32, FRAMES + 1))
    with pytest.raises(nervcodec.CheckpointError, match="another source"):
        nervcodec.encode(other, output, settings(resume=True))


def test_a_damaged_checkpoint_is_noticed(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.hfsv"
    encode_until(source, output, lambda e: e.training is not None)
    path = checkpoint_path(output)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(nervcodec.CheckpointError, match="damaged"):
        nervcodec.encode(source, output, settings(resume=True))


def test_without_checkpoints_nothing_else_is_left(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.hfsv"
    report = encode_until(source, output, lambda e: e.training is not None, checkpoint_seconds=0.0)
    check_valid(output, report)
    assert list(tmp_path.iterdir()) == [output]
