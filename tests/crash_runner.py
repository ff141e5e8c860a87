"""Encodes that are killed: in forked children, so that torch is imported only once.

``python -m tests.crash_runner SOURCE FOLDER files N`` kills one encode at every N-th of its file
operations, ``... random N`` kills N encodes at random moments. After each kill the output must be
the old file or the new one, and resuming must give the new one. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import nervcodec
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.encoder import encode
from nervcodec.training.checkpoint import checkpoint_path

OLD = b"what the user had there before"
WATCHED = {"open", "os.rename", "os.remove", "os.chmod", "tempfile.mkstemp"}
"""Audit events of everything that the package does to files."""


def settings(resume: bool) -> EncodeConfig:
    return EncodeConfig(
        train=TrainConfig(epochs=1),
        model=ModelConfig(params=12_000),
        keyint=4,
        threads=1,
        overwrite=True,
        resume=resume,
        checkpoint_seconds=1e-9,
    )


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked child that is sure to end; its process number."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
    os._exit(1)


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_event(number: int, folder: Path, report: Callable[[int], None]) -> None:
    """Let this process die at its ``number``-th file operation within ``folder``."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in WATCHED and str(folder) in str(arguments):
            seen += 1
            report(seen)
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


class Crashes:
    """Runs killed encodes and keeps count of what was left behind."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._source, self._folder = source, folder
        self._output = folder / "work" / "out.hfsv"
        self._whole = self._uninterrupted()
        self.counts = {"killed": 0, "ended before": 0, "resumed": 0, "new file": 0, "debris": 0}

    def _fresh(self) -> None:
        shutil.rmtree(self._output.parent, ignore_errors=True)
        self._output.parent.mkdir()
        self._output.write_bytes(OLD)

    def _encode(self, resume: bool) -> None:
        encode(self._source, self._output, settings(resume))

    def _uninterrupted(self) -> bytes:
        self._fresh()
        started = time.perf_counter()
        assert finish(in_child(lambda: self._encode(False))) == 0
        self.seconds = time.perf_counter() - started
        return self._output.read_bytes()

    def count_events(self) -> int:
        """How many file operations an encode has."""
        self._fresh()
        reader, writer = os.pipe()

        def work() -> None:
            kill_at_event(0, self._output.parent, lambda seen: os.write(writer, b"."))
            self._encode(False)

        assert finish(in_child(work)) == 0
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            return len(pipe.read())

    def at_event(self, number: int) -> None:
        def work() -> None:
            kill_at_event(number, self._output.parent, lambda seen: None)
            self._encode(False)

        self._fresh()
        self._judge(finish(in_child(work)))

    def at_moment(self, seconds: float) -> None:
        self._fresh()
        child = in_child(lambda: self._encode(False))
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        self._judge(finish(child))

    def _judge(self, status: int) -> None:
        self.counts["killed" if status == -signal.SIGKILL else "ended before"] += 1
        content = self._output.read_bytes()
        assert content in (OLD, self._whole), "the output is neither the old file nor the new one"
        self.counts["new file"] += content == self._whole
        known = {self._output, checkpoint_path(self._output)}
        debris = set(self._output.parent.iterdir()) - known
        assert all(path.suffix == ".part" for path in debris), debris
        self.counts["debris"] += bool(debris)
        self.counts["resumed"] += checkpoint_path(self._output).exists()
        assert finish(in_child(lambda: self._encode(True))) == 0
        assert self._output.read_bytes() == self._whole, "resuming gives another file"
        nervcodec.verify(self._output)


def main() -> None:
    torch.set_num_threads(1)
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    mode, number = sys.argv[3], int(sys.argv[4])
    crashes = Crashes(source, folder)
    if mode == "files":
        for event in range(1, crashes.count_events() + 1, number):
            crashes.at_event(event)
    else:
        moments = random.Random(1)
        for _ in range(number):
            crashes.at_moment(moments.uniform(0, 1.1 * crashes.seconds))
    print(json.dumps(crashes.counts))


if __name__ == "__main__":
    main()
