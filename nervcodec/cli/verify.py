"""``hfsv verify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from nervcodec.cli.common import IN_PATH, say
from nervcodec.cli.progress import Progress, emit


@click.command("verify", short_help="Check a .hfsv file, or measure it against its source.")
@click.argument("path", type=IN_PATH, metavar="FILE")
@click.option(
    "--source",
    type=IN_PATH,
    help="The video it was made of: report PSNR and MS-SSIM of the decoded frames.",
)
@click.option(
    "--frames",
    is_flag=True,
    help="Evaluate all frames in float64 and compare them with the file's hashes.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option(
    "--json", "as_json", is_flag=True, help="Progress and result as JSON lines on standard output."
)
def verify_command(
    path: Path, source: Path | None, frames: bool, device: str, quiet: bool, as_json: bool
) -> None:
    """Check every checksum of FILE and decode all of its symbols; exit code 4 on damage.

    \b
    Examples:
      hfsv verify out.hfsv
      hfsv verify out.hfsv --source in.mp4
      hfsv verify out.hfsv --frames
    """
    from nervcodec.verification import verify

    with Progress(quiet, as_json) as progress:
        report = verify(path, source=source, frames=frames, device=device, progress=progress.frames)
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
            f"PSNR {report.psnr:.2f} dB (lowest frame {report.lowest_psnr:.2f})  "
            f"MS-SSIM {similarity}"
        )
