"""``hfsv compare``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nervcodec.cli.common import IN_PATH, rate, raw_options
from nervcodec.cli.network_options import model_config, network_options, train_config
from nervcodec.cli.position import seconds
from nervcodec.cli.progress import Progress, emit
from nervcodec.cli.signals import INTERRUPTED, TERMINATED, Terminated
from nervcodec.cli.terminal import printable, say
from nervcodec.config import (
    DEFAULT_PRESET,
    PRESETS,
    EncodeConfig,
    RawFormat,
    parse_count,
    parse_size,
)
from nervcodec.errors import UsageError

if TYPE_CHECKING:
    from nervcodec.compare.config import CompareConfig, CompareReport


def _words(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    """Callback of an option that is a list."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise UsageError(f"{option.opts[-1]}: at least one name is needed")
    return words


def _crfs(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise UsageError(f"--crfs {text}: not numbers such as 20,24,28") from None


def _selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which part of the source is compared where no .hfsv says so."""
    for option in reversed(
        (
            click.option("--size", metavar="WxH", help="Scale the frames, down by area."),
            click.option("--crop", metavar="WxH", help="Cut from the middle, before --size."),
            click.option(
                "-ss",
                "start",
                type=seconds,
                metavar="TIME",
                help="Begin so far after the first frame.",
            ),
            click.option(
                "-to", "end", type=seconds, metavar="TIME", help="End so far after the first frame."
            ),
            click.option("--frames", type=click.IntRange(1), help="At most N frames."),
        )
    ):
        command = option(command)
    return command


@click.command("compare", short_help="Set .hfsv files beside x264, x265 and SVT-AV1: a report.")
@click.argument("source", type=IN_PATH, metavar="IN")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the report."
)
@click.option(
    "--codecs",
    callback=_words,
    default="x264,x265",
    show_default=True,
    metavar="LIST",
    help="Of x264, x265 and svtav1.",
)
@click.option(
    "--presets",
    callback=_words,
    default="medium,veryslow",
    show_default=True,
    metavar="LIST",
    help="Of each codec, by x264's names.",
)
@click.option(
    "--tune",
    type=click.Choice(("psnr", "ssim")),
    help="Make the codecs work for that measure.  [default: as they come, for the eye]",
)
@click.option(
    "--crfs",
    callback=_crfs,
    metavar="LIST",
    help="Of each curve.  [default: 16 to 44 by fours; svtav1 20 to 62 by sixes]",
)
@click.option(
    "--hfsv",
    type=IN_PATH,
    multiple=True,
    metavar="FILE",
    help="A .hfsv made of IN, measured on the frames that it codes; several make a curve.",
)
@click.option(
    "--encode", "make", is_flag=True, help="Make .hfsv files first, by the options below."
)
@click.option(
    "--metrics",
    callback=_words,
    default="psnr,ssim,ms-ssim,xpsnr",
    show_default=True,
    metavar="LIST",
    help="Of psnr (RGB, and Y'CbCr 6:1:1), ssim, ms-ssim, xpsnr and vmaf.",
)
@raw_options
@click.option(
    "--input-rate", callback=rate, metavar="FPS", help="Of raw video or pictures.  [default: 25]"
)
@_selecting
@click.option("--allow-damaged", is_flag=True, help="Of IN, take the frames that decode.")
@click.option(
    "--params",
    metavar="LIST",
    help="Of --encode: a file for each number, such as 40k,80k,160k,320k.",
)
@click.option(
    "--preset",
    type=click.Choice(tuple(PRESETS)),
    default=DEFAULT_PRESET,
    show_default=True,
    help="Of --encode: effort, as in hfsv encode.",
)
@network_options
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads of our own codec.")
@click.option("-y", "overwrite", is_flag=True, help="Replace the results of other frames.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option(
    "--json", "as_json", is_flag=True, help="Progress and result as JSON lines on standard output."
)
def compare_command(
    source: Path,
    output: Path,
    quiet: bool,
    as_json: bool,
    threads: int | None,
    raw: RawFormat | None,
    **options: Any,
) -> int:
    """Measure x264, x265 or SVT-AV1 and .hfsv files on the same frames of the video IN.

    The folder gets index.html, one page with everything in it that works without a server or a
    network: curves of rate and quality, pictures side by side at equal bytes, where the bytes went,
    Bjøntegaard deltas, and a card that tells how each figure came about. Beside it lie
    results.json, results.csv, rd.svg and rd.png.

    Every point is kept as soon as it is measured: the same command goes on after an interruption,
    and with more --hfsv, --codecs or --crfs it measures what is missing.

    \b
    Examples:
      hfsv compare in.mp4 --hfsv out.hfsv -o report
      hfsv compare in.mp4 --hfsv a.hfsv --hfsv b.hfsv --codecs x264,x265,svtav1 -o report
      hfsv compare in.mp4 --encode --params 30k,60k,120k,240k --preset fast -o report
      hfsv compare in.mp4 --size 640x360 --presets veryslow -o anchors
    """
    from nervcodec.compare.comparison import compare

    config = _config(threads, raw, options)
    try:
        with Progress(quiet, as_json) as progress:
            report = compare(source, output, config, progress.comparing, progress.encoding)
    except (KeyboardInterrupt, Terminated) as exc:
        say(f"hfsv: interrupted; what was measured is in {output}, the same command goes on")
        return TERMINATED if isinstance(exc, Terminated) else INTERRUPTED
    if as_json:
        emit("result", **{**asdict(report), "page": str(report.page)})
    elif not quiet:
        _tell(report)
    return 0


def _config(threads: int | None, raw: RawFormat | None, options: dict[str, Any]) -> CompareConfig:
    from nervcodec.compare.config import CompareConfig
    from nervcodec.compare.reference import Selection

    params: tuple[int | None, ...] = (None,)
    if options["params"]:
        params = tuple(parse_count(part) for part in options["params"].split(","))
        options = {**options, "params": None}
    encode = None
    if options["make"]:
        encode = EncodeConfig(
            train=train_config(options),
            model=model_config(options),
            device=options["device"],
            threads=threads,
        )
    return CompareConfig(
        codecs=options["codecs"],
        presets=options["presets"],
        tune=options["tune"],
        crfs=options["crfs"],
        hfsv=options["hfsv"],
        encode=encode,
        params=params,
        selection=Selection(
            crop=parse_size(options["crop"]) if options["crop"] else None,
            size=parse_size(options["size"]) if options["size"] else None,
            start=options["start"],
            end=options["end"],
            frames=options["frames"],
        ),
        metrics=options["metrics"],
        raw=raw,
        input_rate=options["input_rate"],
        allow_damaged=options["allow_damaged"],
        overwrite=options["overwrite"],
        device=options["device"],
        threads=threads,
    )


def _tell(report: CompareReport) -> None:
    for warning in report.warnings:
        say(f"hfsv: warning: {warning}")
    earlier = f", {report.reused} from earlier runs" if report.reused else ""
    say(f"{report.measured} points measured{earlier}")
    click.echo(printable(report.page))
