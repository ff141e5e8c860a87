"""Progress on standard error: a live line on a terminal, plain lines elsewhere, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from nervcodec.cli.common import clock, kilobytes
from nervcodec.cli.terminal import printable, say

if TYPE_CHECKING:
    from nervcodec.compare.config import CompareProgress
    from nervcodec.reports import EncodeProgress

FIRST_INTERVAL = 2.0
LONGEST_INTERVAL = 60.0
GROWTH = 1.5
JSON_INTERVAL = 1.0


class Progress:
    """Shows how far a command is; a context manager around the work.

    Args:
        quiet: show nothing.
        as_json: one JSON object a line on standard output instead.
    """

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self._quiet, self._json = quiet, as_json
        self._interval = FIRST_INTERVAL
        self._next = 0.0
        self._live: Any = None

    def __enter__(self) -> Progress:
        if not self._quiet and not self._json and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def encoding(self, event: EncodeProgress) -> None:
        """Callback of :func:`nervcodec.encode`."""
        last = event.training is not None and event.training.step == event.training.steps
        if self._json:
            self._emit_json(event, last)
            return
        for warning in event.warnings:
            self._note(f"hfsv: warning: {warning}")
        if event.training is None:
            if event.description:
                self._line(_stage_text(event), force=event.stage != "verify")
        else:
            self._line(_training_text(event), force=last)

    def reading(self, name: str, count: int) -> None:
        """Called with the number of bytes that are there of a pipe."""
        if not self._json:
            self._line(f"reading {name}, {kilobytes(count)}", force=False)
        elif self._due(JSON_INTERVAL):
            emit("progress", stage="input", progress=0.0, bytes=count)

    def frames(self, done: int, total: int) -> None:
        """Callback of :func:`nervcodec.decode` and :func:`nervcodec.verify`."""
        if self._json:
            if self._due(JSON_INTERVAL) or done == total:
                emit("progress", progress=done / total, frame=done)
        else:
            self._line(f"frame {done}/{total}", force=False)

    def comparing(self, event: CompareProgress) -> None:
        """Callback of :func:`nervcodec.compare.comparison.compare`."""
        if self._json:
            if event.frame == 0 or self._due(JSON_INTERVAL):
                done = event.step / event.steps
                emit("progress", progress=done, description=event.description, frame=event.frame)
            return
        frame = f", frame {event.frame}/{event.frames}" if event.frame else ""
        self._line(f"{event.step}/{event.steps}  {event.description}{frame}", force=False)

    def _due(self, interval: float) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + interval
        return True

    def _emit_json(self, event: EncodeProgress, force: bool) -> None:
        if not (force or event.stage in ("read", "plan", "resume") or self._due(JSON_INTERVAL)):
            return
        training = asdict(event.training) if event.training is not None else {}
        emit(
            "progress",
            **{
                **training,
                "stage": event.stage,
                "progress": event.done,
                "segment": event.segment,
                "segments": event.segments,
                "eta": event.eta,
                "estimated_bytes": event.estimated_bytes,
                "description": event.description,
                "warnings": event.warnings,
            },
        )

    def _note(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.console.print(printable(text), markup=False, highlight=False)
        else:
            say(text)

    def _line(self, text: str, force: bool) -> None:
        if self._quiet:
            return
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(text))
        elif force or self._due(self._interval):
            self._interval = min(LONGEST_INTERVAL, GROWTH * self._interval)
            say(text)


def _stage_text(event: EncodeProgress) -> str:
    if event.stage == "plan":
        assert event.estimated_bytes is not None
        return f"{event.description}; about {kilobytes(event.estimated_bytes)} without audio"
    where = f"segment {event.segment}/{event.segments}: " if event.segments > 1 else ""
    return where + event.description


def _training_text(event: EncodeProgress) -> str:
    state = event.training
    assert state is not None
    assert event.eta is not None
    where = f"segment {event.segment}/{event.segments}  " if event.segments > 1 else ""
    size = "" if state.bytes is None else f"{kilobytes(state.bytes)}  "
    return (
        f"{where}epoch {state.epoch}/{state.epochs}  step {state.step}/{state.steps}  "
        f"PSNR {state.psnr:.2f} dB  {size}loss {state.loss:.5f}  "
        f"{state.seconds_per_step:.3f} s/step  {event.done:.0%}  ETA {clock(event.eta)}"
    )


def emit(kind: str, **values: Any) -> None:
    """One JSON object with a ``type`` on standard output."""
    click.echo(json.dumps({"type": kind, **values}))
