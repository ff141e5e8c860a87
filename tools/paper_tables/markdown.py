"""A table as Markdown: means over the seeds that were run, their spread, the paper's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median, stdev
from typing import Any

from tools.paper_tables.experiments import REFERENCE, Scale, Variant
from tools.paper_tables.results import load, load_all
from tools.paper_tables.tables import Table

COLUMNS = ("network", "bytes", "PSNR dB", "gain dB", "MS-SSIM", "GMAC/frame", "minutes", "paper dB")


def markdown(table: Table, scale: Scale, clip: str, seeds: Sequence[int]) -> str:
    """The rows of which a run is there.

    ``gain`` is over HNeRV at the row's own bytes, see :func:`reference_psnr`;
    after a plus-minus sign the standard deviation over the seeds.
    """
    epochs = scale.train.epochs
    lines = [f"**{table.title}** on {clip}, {epochs} epochs, seeds {_list(seeds)}", ""]
    lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for row in table.rows:
        found = {seed: run for seed in seeds if (run := load(scale, clip, row.name, seed))}
        if found:
            lines.append(_line(_cells(row, table, scale, clip, found)))
    return "\n".join(lines) + "\n"


def _cells(
    row: Variant, table: Table, scale: Scale, clip: str, found: dict[int, dict[str, Any]]
) -> list[str]:
    runs = list(found.values())
    gains = [
        run["psnr"] - at_bytes
        for run in runs
        if (at_bytes := reference_psnr(scale, clip, run["bytes"])) is not None
    ]
    similarity = [run["ms_ssim"] for run in runs if run["ms_ssim"] is not None]
    paper = table.paper.get(row.name)
    return [
        row.label,
        f"{fmean(run['bytes'] for run in runs):,.0f}",
        _spread([run["psnr"] for run in runs], "{:.2f}"),
        _spread(gains, "{:+.2f}") if gains else "",
        f"{fmean(similarity):.4f}" if similarity else "",
        f"{fmean(run['gmacs_per_frame'] for run in runs):.3g}",
        f"{fmean(run['train_seconds'] for run in runs) / 60:.1f}",
        "" if paper is None else f"{paper:.2f}",
    ]


def reference_psnr(scale: Scale, clip: str, size: int) -> float | None:
    """HNeRV's PSNR in a file of ``size`` bytes; None where its runs do not reach as far.

    Between its three sizes it is linear in the bytes' logarithm; each is the median of all seeds
    that were run: some trainings are unstable.
    """
    sizes = [load_all(scale, clip, row.name) for row in REFERENCE]
    points = sorted(
        (math.log(median(run["bytes"] for run in runs)), median(run["psnr"] for run in runs))
        for runs in sizes
        if runs
    )
    x = math.log(size)
    for (left, low), (right, high) in pairwise(points):
        if left <= x <= right:
            return float(low + (high - low) * (x - left) / (right - left))
    return None


def _spread(values: Sequence[float], form: str) -> str:
    mean = form.format(fmean(values))
    return mean if len(values) < 2 else f"{mean} ± {stdev(values):.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
