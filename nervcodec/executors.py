"""Where the jobs of an encode are done side by side: processes of this machine, or a Ray cluster.

An executor decides where and when, never what: the outcome is that of
:func:`nervcodec.jobs.run_job` in this process. A worker that dies takes nothing with it but the
job it had, which is done again. :mod:`nervcodec.coder` hands out the jobs.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from nervcodec.config import PROCESSES, RAY, EncodeConfig
from nervcodec.errors import HfsvError, UsageError
from nervcodec.jobs import SegmentJob, SegmentResult, run_job
from nervcodec.training.progress import TrainProgress

ATTEMPTS = 3
"""A job whose worker is lost so often is not to blame on the machines."""

POLL_SECONDS = 0.2
"""How often it is asked whether to stop."""

Tell = Callable[[int, TrainProgress], None]
"""Told the index of a segment and the state of its training, now and then."""


class Executor(Protocol):
    """Does jobs, several at a time."""

    def run(
        self, jobs: Iterator[SegmentJob], tell: Tell, stop: Callable[[], bool]
    ) -> Iterator[SegmentResult]:
        """Results as they come, in any order.

        A job is taken from ``jobs`` when there is a worker for it. Once ``stop`` says True those
        under way are given up, and the iteration ends.

        Raises:
            HfsvError: where a job does, or workers are lost again and again.
        """


def threads_of(config: EncodeConfig) -> int:
    """CPU threads of each training: those asked for, else this machine's share of a worker."""
    return config.threads or max(1, (os.cpu_count() or 1) // (config.workers or 1))


def choose_executor(config: EncodeConfig) -> Executor | None:
    """What ``config`` asks for; None for one segment after another in this process.

    Raises:
        UsageError: if there is no Ray, or no such cluster.
    """
    kind, _, address = (config.executor or "").partition(":")
    if kind == RAY:
        # Where the driver has no GPU the cluster's may be wanted all the same.
        share = 0.0 if config.device == "cpu" else config.gpu_share
        return Ray(address or None, config.workers, threads_of(config), share)
    if kind == PROCESSES or (config.workers or 1) > 1:
        return Processes(config.workers or 1)
    return None


def _lost(job: SegmentJob) -> HfsvError:
    return HfsvError(
        f"segment {job.index + 1}: its worker was lost {ATTEMPTS} times (is memory short?)"
    )


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: SegmentJob | None = None
    attempt: int = 0

    def give(self, job: SegmentJob, attempt: int) -> None:
        self.job, self.attempt = job, attempt
        with suppress(OSError):  # of a process that has died already, which is heard next
            self.connection.send(job)

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


def _started() -> _Worker:
    # A fork would copy locks that torch's threads hold.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), name="hfsv-worker", daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


class Processes:
    """Up to ``workers`` processes of this machine, each of which does one job after another.

    Programs that encode on import must guard that by ``if __name__ == "__main__"``, since new
    processes import the main module.
    """

    def __init__(self, workers: int) -> None:
        self._count = workers
        self._workers: list[_Worker] = []

    def run(
        self, jobs: Iterator[SegmentJob], tell: Tell, stop: Callable[[], bool]
    ) -> Iterator[SegmentResult]:
        try:
            while not stop():
                while self._has_room() and (job := next(jobs, None)) is not None:
                    self._idle().give(job, 1)
                    del job
                busy = {worker.connection: worker for worker in self._workers if worker.job}
                if not busy:
                    return
                for ready in wait(list(busy), POLL_SECONDS):
                    assert isinstance(ready, Connection)
                    result = self._heard(busy[ready], tell)
                    if result is not None:
                        yield result
        finally:
            for worker in self._workers:
                worker.end()
            self._workers.clear()

    def _has_room(self) -> bool:
        return sum(worker.job is not None for worker in self._workers) < self._count

    def _idle(self) -> _Worker:
        for worker in self._workers:
            if worker.job is None:
                return worker
        self._workers.append(_started())
        return self._workers[-1]

    def _heard(self, worker: _Worker, tell: Tell) -> SegmentResult | None:
        """What one message of a worker, or its end, brings."""
        job = worker.job
        assert job is not None
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.end()
            if worker.attempt == ATTEMPTS:
                raise _lost(job) from None
            self._idle().give(job, worker.attempt + 1)
            return None
        if isinstance(message, TrainProgress):
            tell(job.index, message)
            return None
        worker.job = None
        if isinstance(message, BaseException):
            raise message
        assert isinstance(message, SegmentResult)
        return message


def _work(connection: Connection) -> None:
    """What a worker does, until its parent closes the connection."""
    # Ctrl-C reaches all processes of a terminal; what it means is for the parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        while True:
            connection.send(_outcome(connection.recv(), connection.send))


def _outcome(
    job: SegmentJob, progress: Callable[[TrainProgress], None]
) -> SegmentResult | BaseException:
    try:
        return run_job(job, progress)
    except (HfsvError, MemoryError) as exc:
        return exc
    except OSError:
        raise  # the parent is gone
    except Exception as exc:
        return HfsvError(f"a worker failed: {exc!r}\n{traceback.format_exc()}")


class Ray:
    """Jobs as tasks of a Ray cluster, which runs those of a lost node again on another.

    Args:
        address: of the cluster; None for the one that RAY_ADDRESS names, or one of this machine.
        workers: tasks at a time at most; None for as many as the cluster has room for.
        threads: CPUs that a task asks the cluster for.
        gpu_share: GPUs that it asks for, where the cluster has any and a GPU is wanted.
    """

    def __init__(
        self, address: str | None, workers: int | None, threads: int, gpu_share: float
    ) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as exc:
            raise UsageError("--executor ray needs Ray: pip install 'nervcodec[ray]'") from exc
        try:
            if not self._ray.is_initialized():
                self._ray.init(address=address, log_to_driver=False, logging_level="warning")
        except (ConnectionError, RuntimeError, ValueError) as exc:
            raise UsageError(f"--executor ray: no cluster at {address} ({exc})") from exc
        self._workers, self._threads, self._gpus = workers, threads, gpu_share

    def run(
        self, jobs: Iterator[SegmentJob], tell: Tell, stop: Callable[[], bool]
    ) -> Iterator[SegmentResult]:
        ray = self._ray
        gpus = self._gpus if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=self._threads, num_gpus=gpus, max_retries=ATTEMPTS - 1)(run_job)
        running: dict[Any, int] = {}
        try:
            while not stop():
                while len(running) < self._room() and (job := next(jobs, None)) is not None:
                    running[task.remote(job)] = job.index
                    del job
                if not running:
                    return
                ready, _ = ray.wait(list(running), timeout=POLL_SECONDS)
                for reference in ready:
                    result = self._result(reference, running.pop(reference))
                    yield result
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _room(self) -> int:
        if self._workers is not None:
            return self._workers
        cpus = self._ray.cluster_resources().get("CPU", 0)
        return max(1, int(cpus // self._threads))

    def _result(self, reference: Any, index: int) -> SegmentResult:
        errors = self._ray.exceptions
        try:
            result = self._ray.get(reference)
        except errors.RayTaskError as exc:
            if isinstance(exc.cause, HfsvError):
                raise exc.cause from exc
            raise HfsvError(f"segment {index + 1}: a worker failed: {exc.cause!r}") from exc
        except errors.RayError as exc:
            raise HfsvError(f"segment {index + 1}: its worker was lost: {exc}") from exc
        assert isinstance(result, SegmentResult)
        return result
