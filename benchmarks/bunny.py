"""Quality at equal bytes and epochs on the paper's clip at 320x160: HFS-HNeRV against HNeRV.

``python -m benchmarks.bunny`` encodes the 132 frames (centre crop 1280x640) with each network
and prints JSON. Sizes are whole files without audio; PSNR is that of the decoded file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import nervcodec
from nervcodec.compare.anchors import anchor_at_bytes
from nervcodec.compare.encoders import ENCODERS
from nervcodec.config import EncodeConfig, TrainConfig, parse_count
from nervcodec.video.reader import VideoReader
from tools.bunny import bunny_path
from tools.paper_tables.experiments import paper_model

CROP, SIZE = (1280, 640), (320, 160)


def measure(arch: str, params: int, epochs: int, seed: int, threads: int | None) -> dict[str, Any]:
    """Encode the clip once and report."""
    extended = arch == "hfs-hnerv"
    train = TrainConfig(epochs=epochs, seed=seed, hfs_weight=0.12 if extended else 0.0)
    model = paper_model(SIZE, extended, params=params)
    config = EncodeConfig(
        train=train, model=model, crop=CROP, size=SIZE, audio=False, threads=threads
    )
    with tempfile.TemporaryDirectory() as folder:
        report = nervcodec.encode(bunny_path(), Path(folder) / "bunny.hfsv", config)
    return {"arch": arch, "epochs": epochs, "seed": seed, **asdict(report)}


def anchors(target_bytes: int) -> None:
    """Print all anchors on the same frames at about ``target_bytes`` of video packets."""
    with VideoReader(bunny_path(), crop=CROP, size=SIZE) as reader:
        frames = np.stack([frame.rgb for frame in reader])
        rate = reader.info.frame_rate or Fraction(25)
        for codec in ENCODERS:
            point = anchor_at_bytes(
                frames, codec, "medium", target_bytes, rate, color=reader.info.color
            )
            print(json.dumps(asdict(point)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--anchors", type=int, metavar="BYTES", help="other codecs at so many bytes"
    )
    parser.add_argument("networks", nargs="*", default=["hfs-hnerv:74k", "hnerv:74k"])
    arguments = parser.parse_args()
    if arguments.anchors:
        anchors(arguments.anchors)
        return
    for network in arguments.networks:
        arch, _, params = network.partition(":")
        result = measure(
            arch, parse_count(params), arguments.epochs, arguments.seed, arguments.threads
        )
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
