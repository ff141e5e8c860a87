"""``hfsv verify``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nervcodec.bitstream.salvage import SegmentRun, few
from nervcodec.bitstream.tensors import Limits
from nervcodec.cli.common import IN_PATH, limit_options, raw_options
from nervcodec.cli.progress import Progress, emit
from nervcodec.cli.terminal import say
from nervcodec.config import RawFormat
from nervcodec.errors import BitstreamError, UnsupportedError

if TYPE_CHECKING:
    from nervcodec.verification import DamageReport


@click.command("verify", short_help="Check a .hfsv file, or measure it against its source.")
@click.argument("path", type=IN_PATH, metavar="FILE")
@click.option(
    "--source",
    type=IN_PATH,
    help="The video it was made of: report PSNR and MS-SSIM of the decoded frames.",
)
@click.option("--allow-damaged", is_flag=True, help="Of --source: as in the encode.")
@click.option(
    "--frames",
    is_flag=True,
    help="Evaluate all frames in float64 and compare them with the file's hashes.",
)
@raw_options
@limit_options
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option(
    "--json", "as_json", is_flag=True, help="Progress and result as JSON lines on standard output."
)
def verify_command(
    path: Path,
    source: Path | None,
    allow_damaged: bool,
    raw: RawFormat | None,
    frames: bool,
    limits: Limits,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check every checksum of FILE and decode all of its symbols; exit code 4 on damage.

    Of a damaged file it lists what is damaged and which segments still decode.

    \b
    Examples:
      hfsv verify out.hfsv
      hfsv verify out.hfsv --source in.mp4
      hfsv verify out.hfsv --frames
    """
    from nervcodec.verification import examine, verify

    try:
        with Progress(quiet, as_json) as progress:
            report = verify(
                path,
                source=source,
                allow_damaged=allow_damaged,
                raw=raw,
                frames=frames,
                device=device,
                progress=progress.frames,
                limits=limits,
            )
    except UnsupportedError:
        raise
    except BitstreamError:
        with suppress(BitstreamError):
            _tell_damage(path, examine(path, limits=limits), quiet, as_json)
        raise
    if as_json:
        emit("result", **asdict(report))
        return
    if quiet:
        return
    hashed = "; all frames match their hashes" if report.frames_checked else ""
    say(f"{path}: sound ({report.segments} segments, {report.frames} frames){hashed}")
    if report.psnr is not None:
        similarity = "undefined" if report.ms_ssim is None else f"{report.ms_ssim:.4f}"
        say(
            f"PSNR {report.psnr:.2f} dB (lowest frame {report.lowest_psnr:.2f}; "
            f"Y'CbCr 6:1:1 {report.psnr_611:.2f})  MS-SSIM {similarity}"
        )


def _tell_damage(path: Path, report: DamageReport, quiet: bool, as_json: bool) -> None:
    """List what is damaged, if anything is: a file whose frames do not match HASH may be sound."""
    if report.sound:
        return
    if as_json:
        emit(
            "damage",
            damage=[asdict(part) for part in report.damage],
            segments=[_values(run) for run in report.segments],
            hindrance=report.hindrance,
        )
    elif not quiet:
        say(f"{path}: damaged")
        lines = few([str(part) for part in report.damage])
        for line in lines + few([_line(run) for run in report.segments]):
            say(f"  {line}")
        if report.salvageable:
            say("hfsv decode --salvage renders the segments that are whole")
        elif report.hindrance is not None:
            say(report.hindrance)


def _values(run: SegmentRun) -> dict[str, Any]:
    return {
        "first_segment": run.segments.start,
        "segments": len(run.segments),
        "first_frame": run.frames.start,
        "frames": len(run.frames),
        "whole": run.whole,
    }


def _line(run: SegmentRun) -> str:
    state = "whole" if run.whole else "lost"
    segments = f"segment {run.segments.start}"
    if len(run.segments) > 1:
        segments = f"segments {run.segments.start}..{run.segments.stop - 1}"
    return f"{segments}, frames {run.frames.start}..{run.frames.stop - 1}: {state}"
