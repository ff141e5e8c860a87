"""``hfsv info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nervcodec.cli.common import IN_PATH, kilobytes
from nervcodec.cli.terminal import printable
from nervcodec.info import FileInfo, LayerBytes, layers, probe, to_json


@click.command("info", short_help="Describe a .hfsv file.")
@click.argument("path", type=IN_PATH, metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help='In ffprobe\'s form, ours under "hfsv".')
@click.option(
    "--layers", "with_layers", is_flag=True, help="Where the bytes are, tensor by tensor."
)
def info_command(path: Path, as_json: bool, with_layers: bool) -> None:
    """Describe the .hfsv FILE without evaluating it; its checksums are checked.

    With --layers the symbols are decoded too. A tensor's bytes are what its symbols cost by the
    probabilities that they are coded with, and its scales and tables ("side").

    \b
    Examples:
      hfsv info out.hfsv
      hfsv info out.hfsv --layers
      hfsv info out.hfsv --json | jq .hfsv.segments
      hfsv info out.hfsv --layers --json | jq .hfsv.layers
    """
    info = probe(path)
    parts = layers(path) if with_layers else None
    if as_json:
        described = to_json(info)
        if parts is not None:
            described["hfsv"]["layers"] = [_layer_json(part) for part in parts]
        click.echo(json.dumps(described, indent=2))
        return
    lines = _lines(info)
    if parts is not None:
        lines += _layer_table(info, parts)
    for line in lines:
        click.echo(printable(line))


def _layer_json(part: LayerBytes) -> dict[str, Any]:
    return {
        "segment": part.segment,
        "name": part.name,
        "shape": list(part.shape),
        "symbol_bytes": round(part.symbols, 2),
        "side_bytes": round(part.side, 2),
    }


def _layer_table(info: FileInfo, parts: list[LayerBytes]) -> list[str]:
    """All bytes of the file in rows: tensors, then the other chunks."""
    row = "  {:<44}{:>14}{:>10}{:>11}{:>9}{:>8}{:>7}".format
    lines = [row("tensor", "shape", "values", "bytes", "side", "bits", "share")]
    several = len(info.segments) > 1
    for part in parts:
        name = f"{part.segment}: {part.name}" if several else part.name
        bits = f"{8 * part.bytes / part.values:.2f}" if part.values else ""
        shape, values = "x".join(map(str, part.shape)), f"{part.values:,}" if part.values else ""
        share = f"{part.bytes / info.file_bytes:.1%}"
        lines.append(
            row(name, shape, values, f"{part.bytes:,.1f}", f"{part.side:.1f}", bits, share)
        )
    others = {name: size for name, size in info.chunk_bytes.items() if name != "SEGM"}
    others["signature"] = info.file_bytes - sum(info.chunk_bytes.values())
    for name, size in others.items():
        share = f"{size / info.file_bytes:.1%}"
        lines.append(row(name, "", "", f"{size:,.1f}", "", "", share))
    lines.append(row("file", "", "", f"{info.file_bytes:,.1f}", "", "", "100.0%"))
    return lines


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
