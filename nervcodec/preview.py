"""What a training looks like while it runs: a frame beside its source, and the curve of its PSNR.

:mod:`nervcodec.coder` calls it with the state of :mod:`nervcodec.training.trainer`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nervcodec.errors import OutputError
from nervcodec.files import atomic_output
from nervcodec.samples import Frames
from nervcodec.training.progress import TrainProgress
from nervcodec.video.still import png

INTERVAL = 2.0
"""Seconds between two pictures at least."""

SHARE = 0.02
"""Of the time that may go into pictures."""

MAX_POINTS = 500
"""Of the curve; from twice as many on every other one is dropped."""

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>hfsv encode</title>
<style>
body { font: 16px system-ui, sans-serif; margin: 1rem auto; max-width: 80rem; padding: 0 1rem; }
img { width: 100%; height: auto; }
</style>
<p>TEXT</p>
<img src="frame.png" alt="the source on the left, what the network makes of it on the right">
<img src="psnr.svg" alt="PSNR of the epochs so far">
"""


class Preview:
    """Writes ``frame.png``, ``psnr.svg`` and ``index.html``, which shows both, into a folder.

    The page loads itself anew every 5 seconds. Where it cannot be written any more, ``warn`` is
    told once and the training goes on without.

    Raises:
        OutputError: if the folder cannot be made.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder, warn
        self._curve: list[tuple[float, float]] = []
        self._segment = 0
        self._next = 0.0
        self._failed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(f"{folder}: cannot be made ({exc.strerror or exc})") from exc

    def show(
        self,
        training: TrainProgress,
        segment: int,
        frames: Frames,
        render: Callable[[int], Frames],
        bit_depth: int,
    ) -> None:
        """Note the state, and draw it if it is time to.

        Args:
            segment: number of the segment in training.
            frames: its source frames, (N, H, W, 3); the middle one is shown.
            render: makes the frame of a number as the network stands.
        """
        if self._failed:
            return
        if segment != self._segment:
            self._segment, self._curve = segment, []
        self._curve.append((training.step / training.steps * training.epochs, training.psnr))
        if len(self._curve) > 2 * MAX_POINTS:
            self._curve = self._curve[::2]
        started = time.monotonic()
        if started < self._next and training.step < training.steps:
            return
        try:
            self._write(training, frames, render, bit_depth)
        except OutputError as exc:
            self._failed = True
            self._warn(f"no more previews: {exc}")
        now = time.monotonic()
        self._next = now + max(INTERVAL, (now - started) / SHARE)

    def _write(
        self,
        training: TrainProgress,
        frames: Frames,
        render: Callable[[int], Frames],
        bit_depth: int,
    ) -> None:
        number = len(frames) // 2
        pair = np.concatenate([frames[number], render(number)], axis=1)
        text = (
            f"segment {self._segment + 1}, frame {number} of its {len(frames)}: epoch "
            f"{training.epoch} of {training.epochs}, {training.psnr:.2f} dB"
        )
        contents = {
            "frame.png": png(np.ascontiguousarray(pair), bit_depth),
            "psnr.svg": curve_svg(self._curve, training.epochs).encode(),
            "index.html": PAGE.replace("TEXT", text).encode(),
        }
        for name, content in contents.items():
            with atomic_output(self._folder / name) as temporary:
                temporary.write_bytes(content)


WIDTH, HEIGHT, LEFT, BOTTOM = 800, 260, 60, 30
"""Of the curve's picture, and what is left free of it for numbers."""


def curve_svg(curve: list[tuple[float, float]], epochs: int) -> str:
    """PSNR in dB over epochs, of which the axis has all that there will be."""
    values = [psnr for _, psnr in curve]
    low = math.floor(min(values))
    step = max(1, math.ceil((max(values) - low) / 5))  # whole decibels, five lines at most
    high = low + step * max(1, math.ceil((max(values) - low) / step))

    def x(epoch: float) -> float:
        return LEFT + epoch / epochs * (WIDTH - LEFT - 10)

    def y(psnr: float) -> float:
        return 10 + (high - psnr) / (high - low) * (HEIGHT - BOTTOM - 10)

    points = " ".join(f"{x(epoch):.1f},{y(psnr):.1f}" for epoch, psnr in curve)
    lines = "".join(
        f'<path d="M{LEFT} {y(level):.1f}H{WIDTH - 10}" stroke="#8885"/>'
        f'<text x="{LEFT - 6}" y="{y(level) + 4:.1f}" text-anchor="end">{level}</text>'
        for level in range(low, high + 1, step)
    )
    numbers = "".join(
        f'<text x="{x(epoch):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{epoch:g}</text>'
        for epoch in sorted({round(epochs * share / 4) for share in range(5)})
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#888">'
        f'{lines}{numbers}<text x="12" y="{HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {HEIGHT / 2})">PSNR (dB) over epochs</text>'
        f'<polyline points="{points}" fill="none" stroke="#0072b2" stroke-width="2"/></svg>\n'
    )
