"""An encode on a real Ray cluster of two nodes, one of which is killed while it trains."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nervcodec
from nervcodec import executors
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.jobs import SegmentJob, SegmentResult, run_job
from tests.synthetic import moving_pattern, write_clip

pytestmark = [
    pytest.mark.slow,
    # Ray's own, of files and sockets that it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore"),
]

SEGMENTS = 4
PATIENCE = 240.0
"""Seconds until a test gives up; a busy machine starts a cluster in a minute."""


def settings(**changes: Any) -> EncodeConfig:
    values: dict[str, Any] = {
        "train": TrainConfig(epochs=3),
        "model": ModelConfig(params=20_000),
        "keyint": 2,
        "threads": 1,
        "device": "cpu",
    }
    return EncodeConfig(**(values | changes))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.mp4"
    return write_clip(path, moving_pattern(48, 32, 2 * SEGMENTS))


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("alone") / "out.hfsv"
    nervcodec.encode(source, output, settings())
    return output.read_bytes()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that does no work, and two nodes of one CPU."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Workers must find the package, and this module.
    for folder in Path(__file__).parents[:2]:
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    memory = 80 << 20
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory}
    )
    made.nodes = [made.add_node(num_cpus=1, object_store_memory=memory) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def watched(folder: Path, job: SegmentJob) -> SegmentResult:
    """A job that tells where it runs, and never ends on a node that is to die."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    (folder / f"{job.index}-{node}").touch()
    if (folder / "doomed").read_text() == node:
        time.sleep(PATIENCE)
    return run_job(job)


def test_a_node_that_dies_costs_its_job_alone(
    cluster: Any, source: Path, alone: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "started"
    folder.mkdir()
    _, doomed = cluster.nodes
    (folder / "doomed").write_text(doomed.node_id)

    def watched_here(job: SegmentJob) -> SegmentResult:
        return watched(folder, job)

    monkeypatch.setattr(executors, "run_job", watched_here)

    def kill() -> None:
        deadline = time.monotonic() + PATIENCE
        while not list(folder.glob(f"*-{doomed.node_id}")) and time.monotonic() < deadline:
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    output = tmp_path / "out.hfsv"
    report = nervcodec.encode(source, output, settings(executor=f"ray:{cluster.address}"))
    killer.join()
    assert output.read_bytes() == alone
    assert not report.interrupted
    started = [path.name.split("-")[0] for path in folder.glob("*-*")]
    assert sorted(set(started)) == [str(number) for number in range(SEGMENTS)]
    lost = [path.name.split("-")[0] for path in folder.glob(f"*-{doomed.node_id}")]
    assert len(lost) == 1
    assert started.count(lost[0]) == 2


def test_an_error_of_a_task_and_a_missing_cluster(cluster: Any, source: Path) -> None:
    executor = executors.Ray(cluster.address, 1, 1, 0.0)
    assert executor._room() == 1
    assert executors.Ray(cluster.address, None, 1, 0.0)._room() == 2
    reference = executor._ray.remote(_fail).remote()
    with pytest.raises(nervcodec.UsageError, match="no such thing"):
        executor._result(reference, 0)


def _fail() -> None:
    raise nervcodec.UsageError("no such thing")
