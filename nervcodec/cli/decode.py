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
)
from nervcodec.cli.pipes import STDIO, check_json, input_file, standard_output, temp_option
from nervcodec.cli.position import position
from nervcodec.cli.progress import Progress, emit
from nervcodec.cli.terminal import say
from nervcodec.errors import BitstreamError, UnsupportedError
from nervcodec.samples import BIT_DEPTHS

FORMATS = ("mp4", "m4v", "mov", "mkv", "y4m", "raw", "png")


@click.command("decode", short_help="Render a .hfsv file to a video.")
@paths_options
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="What OUT is, if not what its suffix says; raw is packed 8-bit R, G, B, png a folder. "
    "Default for a pipe: y4m.",
)
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
@temp_option
@limit_options
@output_options
def decode_command(
    paths: tuple[str, ...],
    input_path: str | None,
    output_path: str | None,
    kind: str | None,
    codec: str | None,
    crf: int,
    bit_depth: str | None,
    no_audio: bool,
    no_subtitles: bool,
    start: int | timedelta,
    frames: int | None,
    salvage: bool,
    temp: Path | None,
    limits: Limits,
    overwrite: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Render the .hfsv file IN to the video OUT (.mp4, .mov, .mkv; .y4m, .rgb or a folder/).

    The network's frames are the reference; an MP4 holds a rendition of them in H.264 or HEVC,
    FFV1 in .mkv holds them exactly. Timestamps, audio and subtitles
    are those of the source.

    OUT may be - for a pipe, which gets YUV4MPEG2 or with -f raw the samples, or a folder (its name
    ends in / unless it is there), which gets PNG files. Those three hold the pictures alone, at
    one rate. IN may be - too.

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
      hfsv decode out.hfsv - | ffplay -
      hfsv decode out.hfsv frames/
      hfsv decode damaged.hfsv rest.mp4 --salvage
    """
    source, output = resolve_paths(paths, input_path, output_path)
    check_json(output, as_json)
    target = output if output != STDIO else standard_output()
    if output != STDIO:
        overwrite = may_overwrite(Path(output), overwrite)
    from nervcodec.decoder import DecodeConfig, decode
    from nervcodec.targets import choose_target

    config = DecodeConfig(
        format=kind,
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
    if source == STDIO:
        choose_target(target, kind, codec).check(None, overwrite)
    with input_file(source, temp, quiet, as_json) as path:
        try:
            with Progress(quiet, as_json) as progress:
                report = decode(path, target, config, progress.frames)
        except UnsupportedError:
            raise
        except BitstreamError as exc:
            if salvage or not _begins_as_hfsv(path):
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
