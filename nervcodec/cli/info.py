"""``hfsv info``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nervcodec.cli.common import IN_PATH, kilobytes
from nervcodec.cli.terminal import printable
from nervcodec.info import FileInfo, probe, to_json


@click.command("info", short_help="Describe a .hfsv file.")
@click.argument("path", type=IN_PATH, metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help='In ffprobe\'s form, ours under "hfsv".')
def info_command(path: Path, as_json: bool) -> None:
    """Describe the .hfsv FILE without evaluating it; its checksums are checked.

    \b
    Examples:
      hfsv info out.hfsv
      hfsv info out.hfsv --json | jq .hfsv.segments
    """
    info = probe(path)
    if as_json:
        click.echo(json.dumps(to_json(info), indent=2))
        return
    for line in _lines(info):
        click.echo(printable(line))


def _lines(info: FileInfo) -> list[str]:
    described = to_json(info)
    video, header = described["streams"][0], info.header
    rate = f"{float(info.average_frame_rate):.3f} fps"
    kind = "variable" if info.variable_frame_rate else "constant"
    lines = [
        f"{info.path}: .hfsv {described['hfsv']['version']}, {kilobytes(info.file_bytes)}",
        f"  video     {info.architecture}, {header.width}x{header.height}, "
        f"SAR {video['sample_aspect_ratio']}, {video['color_space']} {video['color_range']}, "
        f"{header.bit_depth} bit",
        f"  time      {header.frames} frames, {float(info.duration):.3f} s, {rate} ({kind})",
        f"  rate      {info.bits_per_pixel:.4f} bpp, "
        f"{8 * (info.file_bytes - info.audio_bytes) / float(info.duration) / 1000:.1f} kb/s "
        "without audio",
    ]
    if header.rotation:
        lines.append(f"  rotation  {header.rotation} degrees")
    for number, segment in enumerate(info.segments):
        channels = "-".join(str(stage.channels) for stage in segment.model.stages)
        strides = ",".join(str(stage.stride) for stage in segment.model.stages)
        lines.append(
            f"  segment   {number}: frames {segment.first_frame}.."
            f"{segment.first_frame + segment.frames - 1}, {info.parameters(segment):,} "
            f"parameters, channels {channels}, strides {strides}, "
            f"{info.macs(segment) / 1e9:.2f} GMAC/frame, {kilobytes(segment.chunk.total)}"
        )
    sizes = ", ".join(f"{name} {size}" for name, size in info.chunk_bytes.items())
    lines.append(f"  bytes     {sizes}")
    lines += [f"  {key:<9} {value}" for key, value in info.meta.items()]
    return lines
