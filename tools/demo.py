"""Encodes, decodes and compares a real clip with the commands that a user would type.

Run by ``make demo``; the clip is ``bigbuckbunny.mp4`` (132 frames with sound) at 320x180.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

import nervcodec
from nervcodec.compare.anchors import anchor_at_bytes
from nervcodec.decoder import color_info
from nervcodec.metrics import bits_per_pixel
from nervcodec.video.reader import VideoReader
from tools.bunny import bunny_path

FOLDER = Path("demo")
SIZE = (320, 180)
ENCODE_OPTIONS = ["--size", f"{SIZE[0]}x{SIZE[1]}", "--bpp", "0.063", "--epochs", "8"]
ANCHORS = (("libx264", "medium"), ("libx265", "medium"))


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds of encoding, frames a second of decoding."""

    name: str
    bytes: int
    psnr: float
    ms_ssim: float | None
    encode_seconds: float
    decode_fps: float


def hfsv(*arguments: str) -> str:
    """Run a command of ``hfsv``, show it, and return what it printed on standard output."""
    print("\n$ hfsv " + shlex.join(arguments), flush=True)
    program = Path(sys.executable).parent / "hfsv"
    result = subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return result.stdout


def our_row(source: Path, coded: Path, decoded: Path) -> Row:
    """Encode, decode and measure with the command line."""
    started = time.perf_counter()
    hfsv("encode", str(source), str(coded), "-y", *ENCODE_OPTIONS)
    seconds = time.perf_counter() - started
    hfsv("decode", str(coded), str(decoded), "-y")
    print(hfsv("info", str(coded)), end="")
    lines = hfsv("verify", str(coded), "--source", str(source), "--json").splitlines()
    measured = json.loads(lines[-1])
    with nervcodec.open(coded) as clip:
        next(iter(clip))
        started = time.perf_counter()
        frames = sum(1 for _ in clip)
        fps = frames / (time.perf_counter() - started)
        own_bytes = clip.reader.file_bytes - clip.reader.audio_bytes
    return Row("hfsv", own_bytes, measured["psnr"], measured["ms_ssim"], seconds, fps)


def anchor_rows(source: Path, coded: Path, target_bytes: int) -> list[Row]:
    """x264 and x265 on the same frames at the CRF that comes nearest in bytes."""
    with VideoReader(source, size=SIZE) as reader:
        frames = np.stack([frame.rgb for frame in reader])
        rate = reader.info.frame_rate or Fraction(25)
    with nervcodec.open(coded) as clip:
        color = color_info(clip.header)
    rows = []
    for codec, preset in ANCHORS:
        point = anchor_at_bytes(frames, codec, preset, target_bytes, rate, color=color)
        name = f"{codec.removeprefix('lib')} {preset} crf {point.crf:g}"
        rows.append(
            Row(
                name,
                point.bytes,
                point.psnr,
                point.ms_ssim,
                point.encode_seconds,
                len(frames) / point.decode_seconds,
            )
        )
    return rows


def print_table(rows: list[Row], frames: int) -> None:
    heads = ("codec", "bytes", "bpp", "PSNR dB", "MS-SSIM", "encode s", "decode fps")
    print("\n{:<22}{:>9}{:>8}{:>9}{:>9}{:>10}{:>12}".format(*heads))
    for row in rows:
        bpp = bits_per_pixel(row.bytes, *SIZE, frames)
        similarity = "-" if row.ms_ssim is None else f"{row.ms_ssim:.4f}"
        print(
            f"{row.name:<22}{row.bytes:>9}{bpp:>8.4f}{row.psnr:>9.2f}{similarity:>9}"
            f"{row.encode_seconds:>10.1f}{row.decode_fps:>12.1f}"
        )


def main() -> None:
    started = time.perf_counter()
    FOLDER.mkdir(exist_ok=True)
    source = bunny_path()
    coded, decoded = FOLDER / "bunny.hfsv", FOLDER / "bunny.mp4"
    ours = our_row(source, coded, decoded)
    rows = [ours, *anchor_rows(source, coded, ours.bytes)]
    with nervcodec.open(coded) as clip:
        print_table(rows, len(clip))
    better = [row.name for row in rows[1:] if row.psnr > ours.psnr]
    print(
        "\nBytes are those of the video alone; PSNR and MS-SSIM are means over the frames in RGB."
        "\nEight epochs are a quick look: docs/rate_distortion.md has longer trainings."
    )
    if better:
        print(f"At these bytes the better pictures are those of: {', '.join(better)}.")
    print(f"Watch {decoded}. Everything took {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main()
