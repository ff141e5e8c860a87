"""``hfsv improve``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nervcodec.cli.common import IN_PATH, clock, kilobytes, may_overwrite, raw_options
from nervcodec.cli.position import seconds
from nervcodec.cli.progress import Progress, emit
from nervcodec.cli.signals import INTERRUPTED, StopRequest
from nervcodec.cli.terminal import say
from nervcodec.config import DEFAULT_PRESET, PRESETS, RawFormat, TrainConfig

if TYPE_CHECKING:
    from nervcodec.improver import ImproveReport


@click.command("improve", short_help="Train on from a finished .hfsv file.")
@click.argument("path", type=IN_PATH, metavar="FILE")
@click.argument("source", type=IN_PATH, metavar="IN")
@click.option("-o", "--output", type=IN_PATH, help="Write there.  [default: FILE itself]")
@click.option(
    "--preset",
    type=click.Choice(tuple(PRESETS)),
    default=DEFAULT_PRESET,
    show_default=True,
    help="Effort, as in an encode.",
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the frames, over --preset.")
@click.option("--time", type=seconds, metavar="TIME", help="Take so long, over both: 90s, 30m, 2h.")
@click.option("--lr", type=float, help="Peak learning rate.  [default: 0.4 of an encode's]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@raw_options
@click.option("--allow-damaged", is_flag=True, help="As in the encode.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all]")
@click.option("-y", "--yes", "overwrite", is_flag=True, help="Replace an existing --output.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option(
    "--json", "as_json", is_flag=True, help="Progress and result as JSON lines on standard output."
)
def improve_command(
    path: Path,
    source: Path,
    output: Path | None,
    preset: str,
    epochs: int | None,
    time: timedelta | None,
    lr: float | None,
    seed: int,
    raw: RawFormat | None,
    allow_damaged: bool,
    device: str,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Train on with the video IN that FILE was made of: better frames in no more bytes.

    A segment is replaced only by one that is better and no longer; sound, times and all else stay.
    Ctrl-C ends the training and keeps what is better by then.

    \b
    Examples:
      hfsv improve out.hfsv in.mp4
      hfsv improve out.hfsv in.mp4 --time 1h
      hfsv improve out.hfsv in.mp4 -o better.hfsv --preset slow
    """
    from nervcodec.improver import ImproveConfig, improve

    if output is not None and output.resolve() != path.resolve():
        overwrite = may_overwrite(output, overwrite)
    config = ImproveConfig(
        train=TrainConfig(epochs=epochs or PRESETS[preset], learning_rate=lr, seed=seed),
        time=time,
        raw=raw,
        allow_damaged=allow_damaged,
        device=device,
        threads=threads,
        overwrite=overwrite,
    )
    with StopRequest() as stop, Progress(quiet, as_json) as progress:
        report = improve(path, source, output, config, progress.encoding, stop.requested)
    if as_json:
        emit("result", **asdict(report))
    elif not quiet:
        _tell(report)
    return (stop.exit_code or INTERRUPTED) if report.interrupted else 0


def _tell(report: ImproveReport) -> None:
    if not report.improved:
        say("nothing became better: the file stays as it was")
    else:
        some = f" ({report.improved} of {report.segments} segments)" if report.segments > 1 else ""
        say(
            f"PSNR {report.psnr_before:.2f} -> {report.psnr_after:.2f} dB{some}, "
            f"{kilobytes(report.bytes_before)} -> {kilobytes(report.bytes_after)}"
        )
    say(f"in {clock(report.seconds)}")
