"""Segments side by side: the same bytes from every executor, through lost workers and stops."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch

import nervcodec
from nervcodec import coder, encoder, executors
from nervcodec.cli import main as cli_main
from nervcodec.coder import SegmentCoder
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.errors import HfsvError, InterruptedEncode, LimitError, UsageError
from nervcodec.executors import Processes, choose_executor, threads_of
from nervcodec.jobs import SegmentJob, SegmentResult, run_job
from nervcodec.metrics import FrameStatistics
from nervcodec.rate_control import design_model
from nervcodec.reports import EncodeProgress
from nervcodec.training.checkpoint import checkpoint_path, load_checkpoint
from tests.format_helpers import make_header
from tests.synthetic import moving_pattern, write_clip

FRAMES = 9
KEYINT = 3


def settings(**changes: Any) -> EncodeConfig:
    values: dict[str, Any] = {
        "train": TrainConfig(epochs=4),
        "model": ModelConfig(params=20_000),
        "keyint": KEYINT,
        "threads": 1,
    }
    return EncodeConfig(**(values | changes))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return write_clip(folder / "in.mp4", moving_pattern(48, 32, FRAMES))


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    """File and report of an encode in this process."""
    output = tmp_path_factory.mktemp("alone") / "out.hfsv"
    report = nervcodec.encode(source, output, settings())
    return output.read_bytes(), report


@pytest.fixture(scope="module")
def job() -> SegmentJob:
    header = make_header(width=48, height=32)
    model = design_model(ModelConfig(params=9000), 9000, 48, 32, 2)
    frames = moving_pattern(48, 32, 2)
    return SegmentJob(0, 0, header, frames, model, TrainConfig(epochs=2), threads=1)


def workers() -> list[Any]:
    return [p for p in multiprocessing.active_children() if p.name == "hfsv-worker"]


def never() -> bool:
    return False


def ignore(*_: object) -> None:
    """A callback of no interest."""


def test_processes_give_the_file_of_one_process(
    source: Path, alone: tuple[bytes, Any], tmp_path: Path
) -> None:
    said: list[EncodeProgress] = []
    output = tmp_path / "out.hfsv"
    report = nervcodec.encode(source, output, settings(workers=2), said.append)
    expected, other = alone
    assert output.read_bytes() == expected
    assert report.psnr == pytest.approx(other.psnr, abs=1e-9)
    assert (report.frames, report.float_psnr) == (other.frames, other.float_psnr)
    assert not report.interrupted
    assert list(tmp_path.iterdir()) == [output]
    shares = [event.done for event in said if event.stage in ("train", "verify")]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {event.segment for event in said if event.training is not None} == {1, 2, 3}
    assert not workers()


def test_a_killed_worker_costs_its_job_alone(
    source: Path, alone: tuple[bytes, Any], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(event: EncodeProgress) -> None:
        if event.training is not None and not killed:
            victim = workers()[0]
            killed.append(victim.pid)
            victim.kill()

    output = tmp_path / "out.hfsv"
    nervcodec.encode(source, output, settings(workers=2), kill)
    assert killed
    assert output.read_bytes() == alone[0]


def test_a_worker_that_is_lost_again_and_again_is_an_error(
    job: SegmentJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    give = executors._Worker.give

    def fatal(self: Any, job: SegmentJob, attempt: int) -> None:
        give(self, job, attempt)
        self.process.kill()
        given.append(attempt)

    monkeypatch.setattr(executors._Worker, "give", fatal)
    with pytest.raises(HfsvError, match="segment 1: its worker was lost 3 times"):
        list(Processes(1).run(iter([job]), ignore, never))
    assert given == [1, 2, 3]
    assert not workers()


def test_an_error_of_a_job_is_raised_here(job: SegmentJob) -> None:
    bad = replace(job, device="cuda:99")
    with pytest.raises(UsageError, match="no such device"):
        list(Processes(1).run(iter([bad]), ignore, never))


@pytest.mark.parametrize("resumed_by", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_stopped_encode_keeps_finished_segments_and_goes_on(
    source: Path,
    alone: tuple[bytes, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resumed_by: int,
) -> None:
    """Stopped when a segment is finished: it is in the checkpoint, and not trained again."""
    finished = threading.Event()

    def note(event: EncodeProgress) -> None:
        if event.stage == "verify":
            finished.set()

    output = tmp_path / "out.hfsv"
    try:
        report = nervcodec.encode(source, output, settings(workers=2), note, finished.is_set)
    except InterruptedEncode:
        pass  # the first segment to be finished was not the first of the clip
    else:
        assert report.interrupted
        assert nervcodec.verify(output).frames == report.frames < FRAMES
    assert not workers()
    kept = read_segments(checkpoint_path(output))
    assert 1 <= sum(part is not None for part in kept) < FRAMES // KEYINT
    begun: list[int] = []

    def noted(self: SegmentCoder) -> Iterator[SegmentJob]:
        for given in jobs(self):
            if given.trained is None:
                begun.append(given.index)
            yield given

    jobs = SegmentCoder._jobs
    monkeypatch.setattr(SegmentCoder, "_jobs", noted)
    nervcodec.encode(source, output, settings(workers=resumed_by, resume=True))
    assert output.read_bytes() == alone[0]
    if resumed_by > 1:
        unfinished = {0, 1, 2} - {n for n, part in enumerate(kept) if part is not None}
        assert set(begun) == unfinished


def read_segments(path: Path) -> tuple[Any, ...]:
    """Of a checkpoint whose key is not known."""
    key = msgpack.unpackb(path.read_bytes()[8 + 32 :])["key"]
    found = load_checkpoint(path, key)
    assert found is not None
    return found.segments


@pytest.mark.slow
def test_a_serial_checkpoint_is_gone_on_with_side_by_side(
    source: Path, alone: tuple[bytes, Any], tmp_path: Path
) -> None:
    """The training that was under way is taken over from its latest state."""
    output = tmp_path / "out.hfsv"
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > FRAMES + 17

    config = settings(checkpoint_seconds=1e-9)
    assert nervcodec.encode(source, output, config, stop=stop).interrupted
    nervcodec.encode(source, output, settings(workers=2, resume=True))
    assert output.read_bytes() == alone[0]


def test_jobs_are_taken_when_there_is_a_worker(job: SegmentJob) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[SegmentJob]:
        for number in range(3):
            taken.append(number)
            yield job

    results = Processes(1).run(jobs(), ignore, never)
    first = next(results)
    assert taken == [0]
    assert isinstance(first, SegmentResult)
    results.close()  # type: ignore[attr-defined]
    assert not workers()


def test_a_job_is_a_pure_function_of_its_value(job: SegmentJob) -> None:
    before = torch.get_num_threads()
    one, other = run_job(job), run_job(pickle.loads(pickle.dumps(job)))
    torch.set_num_threads(before)
    assert one.trained.payload == other.trained.payload
    assert one.digest == other.digest


def test_who_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors.os, "cpu_count", lambda: 8)
    assert choose_executor(settings()) is None
    assert choose_executor(settings(workers=1)) is None
    assert isinstance(choose_executor(settings(workers=2)), Processes)
    assert isinstance(choose_executor(settings(executor="processes")), Processes)
    assert threads_of(settings(threads=None)) == 8
    assert threads_of(settings(threads=None, workers=3)) == 2
    assert threads_of(settings(threads=None, workers=20)) == 1
    assert threads_of(settings(threads=5, workers=3)) == 5


@pytest.mark.parametrize("name", ["", "slurm", "processes:2", "Ray"])
def test_unknown_executors_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="executor"):
        settings(executor=name)


def test_the_command_takes_the_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[EncodeConfig] = []

    def noted(source: Any, output: Any, config: EncodeConfig, *rest: Any) -> Any:
        given.append(config)
        raise InterruptedEncode("enough")

    monkeypatch.setattr(encoder, "encode", noted)
    source, output = tmp_path / "in.mp4", tmp_path / "out.hfsv"
    options = ["-w", "3", "--executor", "ray:1.2.3.4:5", "--gpu-share", "0.5", "--threads", "2"]
    monkeypatch.setattr("sys.argv", ["hfsv", "encode", str(source), str(output), *options])
    assert cli_main._run() == 130
    assert (given[0].workers, given[0].threads) == (3, 2)
    assert (given[0].executor, given[0].gpu_share) == ("ray:1.2.3.4:5", 0.5)
    monkeypatch.setattr("sys.argv", ["hfsv", "encode", "a", "b", "--executor", "slurm"])
    assert cli_main._run() == 2


def test_one_segment_for_several_workers_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Here:
        def run(self, jobs: Iterator[SegmentJob], *_: Any) -> Iterator[SegmentResult]:
            yield from map(run_job, jobs)

    monkeypatch.setattr(coder, "choose_executor", lambda config: Here())
    said: list[str] = []
    config = settings(keyint=None, workers=2, train=TrainConfig(epochs=1))
    output = tmp_path / "out.hfsv"
    nervcodec.encode(source, output, config, lambda event: said.extend(event.warnings))
    assert [text for text in said if "one segment" in text]
    assert nervcodec.verify(output, frames=True).frames == FRAMES


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(executors.importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"nervcodec\[ray\]"):
        choose_executor(settings(executor="ray"))


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 256, (5, 2, 8, 8, 3)).astype(np.uint8)
    whole, first, second = FrameStatistics(), FrameStatistics(), FrameStatistics()
    for number, (one, other) in enumerate(pairs):
        whole.add(one, other)
        (first if number < 2 else second).add(one, other)
    first.extend(second)
    assert first.frames == 5
    assert first.psnr == pytest.approx(whole.psnr)
    assert first.psnr_of_mean_mse == pytest.approx(whole.psnr_of_mean_mse)
    assert first.ms_ssim is whole.ms_ssim is None
    assert (first.lowest_psnr, first.lowest_psnr_frame) == (
        whole.lowest_psnr,
        whole.lowest_psnr_frame,
    )


def test_errors_can_be_sent() -> None:
    error = LimitError("pixels", "pixels in all frames", 5, 4)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.limit) == (str(error), "pixels")
