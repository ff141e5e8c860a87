"""``hfsv decode``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import click

from nervcodec.bitstream.container import SIGNATURE
from nervcodec.bitstream.tensors import Limits
from nervcodec.cli.common import (
    clock,
    limit_options,
    may_overwrite,
    output_options,
    paths_options,
    resolve_paths,
    say,
)
from nervcodec.cli.position import position
from nervcodec.cli.progress import Progress, emit
from nervcodec.errors import BitstreamError, UnsupportedError
from nervcodec.samples import BIT_DEPTHS


@click.command("decode", short_help="Render a .hfsv file to a video.")
@paths_options
@click.option(
    "--codec",
    type=click.Choice(("h264", "hevc", "ffv1")),
    help="Default: h264 for .mp4 and .mov, hevc if more than 8 bits; ffv1 (lossless) for .mkv.",
)
@click.option(
    "--crf",
    type=click.IntRange(0, 51),
    default=12,
    show_default=True,
    help="Quality of h264 and hevc, lower is better.",
)
@click.option(
    "--bit-depth",
    type=click.Choice(tuple(map(str, BIT_DEPTHS))),
    help="Bits a sample to write. Default: the file's, in h264 and hevc at most 10.",
)
@click.option("-an", "no_audio", is_flag=True, help="Leave the audio out.")
@click.option("-sn", "no_subtitles", is_flag=True, help="Leave the subtitles out.")
@click.option(
    "--start",
    type=position,
    default=0,
    metavar="N|TIME",
    help="First frame: its number, from the end where negative, or a time such as 3.5s or 1:02.",
)
@click.option("--frames", type=click.IntRange(1), metavar="N", help="Render so many frames.")
@click.option(
    "--salvage", is_flag=True, help="Of a damaged file, render the segments that are whole."
)
@limit_options
@output_options
def decode_command(
    paths: tuple[Path, ...],
    input_path: Path | None,
    output_path: Path | None,
    codec: str | None,
    crf: int,
    bit_depth: str | None,
    no_audio: bool,
    no_subtitles: bool,
    start: int | timedelta,
    frames: int | None,
    salvage: bool,
    limits: Limits,
    overwrite: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Render the .hfsv file IN to the video OUT (.mp4, .mov or .mkv).

    The network's frames are the reference; an MP4 holds a rendition of them in H.264 or HEVC,
    FFV1 in .mkv holds them exactly. Timestamps, audio and subtitles
    are those of the source.

    With --start or --frames only a part is rendered and evaluated, its sound with it; the part
    begins at time 0. At a time --start is the frame that is shown then.

    Of a damaged file --salvage renders what is left; the last frame before lost ones is shown
    until the next that is there.

    \b
    Examples:
      hfsv decode out.hfsv out.mp4
      hfsv decode out.hfsv lossless.mkv
      hfsv decode out.hfsv out.mp4 --codec hevc --crf 16
      hfsv decode out.hfsv part.mp4 --start 1:02.5 --frames 100
      hfsv decode damaged.hfsv rest.mp4 --salvage
    """
    source, output = resolve_paths(paths, input_path, output_path)
    overwrite = may_overwrite(output, overwrite)
    from nervcodec.decoder import DecodeConfig, decode

    config = DecodeConfig(
        codec=codec,
        crf=crf,
        bit_depth=int(bit_depth) if bit_depth else None,
        audio=not no_audio,
        subtitles=not no_subtitles,
        device=device,
        threads=threads,
        overwrite=overwrite,
        limits=limits,
        salvage=salvage,
        start=start,
        frames=frames,
    )
    try:
        with Progress(quiet, as_json) as progress:
            report = decode(source, output, config, progress.frames)
    except UnsupportedError:
        raise
    except BitstreamError as exc:
        if salvage or not _begins_as_hfsv(source):
            raise
        raise BitstreamError(f"{exc} (hfsv verify tells what is damaged)") from exc
    if as_json:
        emit("result", **asdict(report))
    elif not quiet:
        for warning in report.warnings:
            say(f"hfsv: warning: {warning}")
        say(
            f"{report.frames} frames in {clock(report.seconds)} "
            f"({report.frames / report.seconds:.1f} frames/s)"
        )


def _begins_as_hfsv(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False
