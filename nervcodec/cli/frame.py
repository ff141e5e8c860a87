"""``hfsv frame``."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nervcodec.bitstream.tensors import Limits
from nervcodec.cli.common import IN_PATH, limit_options, may_overwrite, output_options
from nervcodec.cli.position import position
from nervcodec.cli.progress import emit
from nervcodec.cli.terminal import say
from nervcodec.errors import UsageError
from nervcodec.files import atomic_output, check_output

if TYPE_CHECKING:
    from nervcodec.clip import HfsvFile

_PLACE_OF_NUMBER = re.compile(r"%(0?\d{0,2})d")


@click.command(
    "frame",
    short_help="Write frames of a .hfsv file as PNG.",
    # Or a number below zero would be taken for an option.
    context_settings={"ignore_unknown_options": True},
)
@click.argument("source", type=IN_PATH, metavar="FILE")
@click.argument("positions", nargs=-1, required=True, type=position, metavar="N...")
@click.argument("output", type=IN_PATH, metavar="OUT")
@click.option("--salvage", is_flag=True, help="Of a damaged file too, where the frame is whole.")
@limit_options
@output_options
def frame_command(
    source: Path,
    positions: tuple[int | timedelta, ...],
    output: Path,
    salvage: bool,
    limits: Limits,
    overwrite: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write frame N of FILE to the PNG file OUT; only its segment is decoded.

    N is a frame's number from 0 on, or from the end where it is negative; or a time since the
    clip begins, such as 3.5s, 200ms or 00:01:02.5, for the frame that is shown then.

    With several N the name of OUT needs a place for the number, %d or %04d.

    The PNG holds the very samples of the network. The frame is written as it is stored: it is
    neither stretched to the sample aspect ratio nor rotated (hfsv info tells both).

    \b
    Examples:
      hfsv frame out.hfsv 0 first.png
      hfsv frame out.hfsv -1 last.png
      hfsv frame out.hfsv 3.5s frame.png
      hfsv frame out.hfsv 10 20 1:02.5 frame%04d.png
    """
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: frames are written as PNG, name it .png")
    if len(positions) > 1 and not _PLACE_OF_NUMBER.search(output.name):
        raise UsageError(f"{output}: several frames need a place for their number, such as %04d")
    from nervcodec.clip import HfsvFile

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    with HfsvFile(source, device=device, limits=limits, salvage=salvage) as file:
        outputs = {number: _named(output, number) for number in map(file.index_of, positions)}
        for path in outputs.values():
            check_output(source, path, may_overwrite(path, overwrite))
        if not quiet and not as_json:
            for warning in file.reader.warnings:
                say(f"hfsv: warning: {warning}")
        for number, path in outputs.items():
            _write(file, number, path)
            seconds = float((file.pts[number] - file.pts[0]) * file.header.time_base)
            if as_json:
                emit("result", frame=number, seconds=seconds, output=str(path))
            elif not quiet:
                say(f"{path}: frame {number}, at {seconds:.6f} s")


def _write(file: HfsvFile, number: int, path: Path) -> None:
    from nervcodec.video.still import png

    with atomic_output(path) as temporary:
        temporary.write_bytes(png(file[number], file.bit_depth))


def _named(output: Path, number: int) -> Path:
    """The name with the frame's number in its place, if it has one."""
    name = _PLACE_OF_NUMBER.sub(lambda place: f"{number:{place[1]}d}", output.name)
    return output.with_name(name)
