"""Rate-distortion curves as pictures for a paper or a mail; the page draws its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nervcodec.compare.points import OURS
from nervcodec.compare.results import Results
from nervcodec.files import atomic_output

LABELS = {
    "psnr": "RGB PSNR (dB)",
    "psnr_611": "Y'CbCr PSNR 6:1:1 (dB)",
    "ms_ssim": "MS-SSIM (RGB)",
    "ssim": "SSIM",
    "xpsnr": "XPSNR 6:1:1 (dB)",
    "vmaf": "VMAF",
}
"""What an axis is called; also the order of the measures."""

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which the colour-blind can tell apart; ours is black."""


def draw_curves(results: Results, folder: Path) -> None:
    """Write ``rd.svg`` and ``rd.png``: a panel for each measure."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measures = [name for name in LABELS if name in results.metrics()]
    columns = min(len(measures), 2)
    rows = -(-len(measures) // columns)
    style: Any = {
        "svg.hashsalt": "hfsv",
        "svg.fonttype": "path",
        "font.size": 9,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.4 * columns, 3.9 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, name in zip(panels, measures, strict=False):
            _panel(panel, results, name)
        for panel in panels[len(measures) :]:
            panel.set_visible(False)
        reference = results.reference
        figure.suptitle(
            f"{reference['name']}  {reference['width']}x{reference['height']}, "
            f"{reference['frames']} frames"
        )
        for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 150})):
            with atomic_output(folder / f"rd{suffix}") as temporary:
                figure.savefig(temporary, format=suffix[1:], **options)


def _panel(panel: Any, results: Results, measure: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    colors = iter(COLORS * (1 + len(results.curves()) // len(COLORS)))
    for name, points in results.curves().items():
        ours = points[0].codec == OURS
        panel.plot(
            [point.bytes / 1000 for point in points],
            [point.quality[measure] for point in points],
            marker="D" if ours else "o",
            markersize=5 if ours else 3.5,
            linewidth=2 if ours else 1.3,
            color="black" if ours else next(colors),
            label=name,
        )
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("kB of video (log)")
    panel.set_ylabel(LABELS[measure])
    panel.grid(visible=True, which="both", alpha=0.25)
    panel.legend(fontsize=8)
