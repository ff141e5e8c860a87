"""The anchors against the ``ffmpeg`` program: same planes, codec, preset and CRF, other builds.

``python -m benchmarks.anchors`` prints a table for the paper's clip at 320x160. The program encodes
and decodes; its filter ``psnr`` measures.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nervcodec.compare.anchors import encode_anchor
from nervcodec.compare.encoders import ENCODERS
from nervcodec.compare.reference import Reference, Selection
from nervcodec.metrics import YCBCR_WEIGHTS
from nervcodec.video.color import rgb_to_frame
from nervcodec.video.info import ColorInfo
from tools.bunny import bunny_path

SETTINGS = (("medium", 24), ("medium", 32), ("veryslow", 30))


@dataclass(frozen=True)
class Agreement:
    """Bytes of all packets and PSNR 6:1:1 in dB, by us and by the program."""

    codec: str
    preset: str
    crf: int
    our_bytes: int
    their_bytes: int
    our_psnr: float
    their_psnr: float

    @property
    def size_difference(self) -> float:
        """Ours over theirs, less 1."""
        return self.our_bytes / self.their_bytes - 1

    @property
    def psnr_difference(self) -> float:
        return self.our_psnr - self.their_psnr


def compare_with_program(
    program: str,
    frames: Iterable[NDArray[np.uint8]],
    codec: str,
    preset: str,
    crf: int,
    rate: Fraction,
    color: ColorInfo,
) -> Agreement:
    """Encode frames of even sides (H, W, 3) in both ways."""
    planes = [rgb_to_frame(frame, "yuv420p", color).to_ndarray() for frame in frames]
    height, width = planes[0].shape[0] * 2 // 3, planes[0].shape[1]
    point = encode_anchor(frames, codec, preset, crf, rate, color=color, with_ms_ssim=False)
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", str(rate)]
    settings = ["-c:v", codec, "-preset", ENCODERS[codec].preset_value(preset), "-crf", str(crf)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.yuv").write_bytes(b"".join(plane.tobytes() for plane in planes))
        _run(folder, program, *raw, "-i", "in.yuv", *settings, "coded.mkv")
        # As raw video, since Matroska's milliseconds would pair some frames with their neighbours.
        _run(folder, program, "-i", "coded.mkv", "-f", "rawvideo", "-pix_fmt", "yuv420p", "out.yuv")
        inputs = [*raw, "-i", "out.yuv", *raw, "-i", "in.yuv"]
        _run(folder, program, *inputs, "-lavfi", "psnr=stats_file=log", "-f", "null", "-")
        log = (folder / "log").read_text()
        _run(folder, program, "-i", "coded.mkv", "-c", "copy", "-f", "framecrc", "packets")
        packets = (folder / "packets").read_text()
    found = re.findall(r"psnr_y:(\S+) psnr_u:(\S+) psnr_v:(\S+)", log)
    assert len(found) == len(planes), "the program decodes other frames"
    means = np.array(found, dtype=float).mean(axis=0)
    return Agreement(
        codec,
        preset,
        crf,
        point.bytes,
        sum(int(line.split(",")[4]) for line in packets.splitlines() if line[0] != "#"),
        point.psnr_611,
        float(np.average(means, weights=YCBCR_WEIGHTS)),
    )


def _run(folder: Path, program: str, *arguments: str) -> None:
    command = [program, "-y", "-v", "error", *arguments]
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"), help="the program")
    arguments = parser.parse_args()
    if arguments.ffmpeg is None:
        parser.error("no ffmpeg on the PATH")
    reference = Reference(bunny_path(), Selection((1280, 640), (320, 160)))
    print(
        "| codec | preset | CRF | bytes | ffmpeg | difference | PSNR 6:1:1 | ffmpeg | difference |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for codec in ENCODERS:
        for preset, crf in SETTINGS:
            found = compare_with_program(
                arguments.ffmpeg,
                reference,
                codec,
                preset,
                crf,
                reference.frame_rate,
                reference.color,
            )
            print(
                f"| {codec} | {preset} | {crf} | {found.our_bytes:,} | {found.their_bytes:,} "
                f"| {found.size_difference:+.2%} | {found.our_psnr:.3f} | {found.their_psnr:.3f} "
                f"| {found.psnr_difference:+.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
