"""Peak memory of ``hfsv decode`` against the number of frames; ``python -m benchmarks.memory``.

The files hold a tiny network with random symbols: what is rendered is noise, the way is the same.
Each decode runs in a process of its own; prints JSON lines.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from nervcodec.bitstream.segment import QuantizedTensor, Segment
from nervcodec.bitstream.stream import write_stream
from nervcodec.bitstream.syntax import StreamHeader
from nervcodec.bitstream.tensors import tensor_specs
from nervcodec.config import ModelConfig
from nervcodec.rate_control import design_model

WIDTH, HEIGHT = 64, 48
FRAME_COUNTS = (100, 1000, 4000)
SCALE = 0x3C00
"""2**-7 as the upper half of a float32."""

PROGRAM = """
import resource, sys, nervcodec
nervcodec.decode(sys.argv[1], sys.argv[2], nervcodec.DecodeConfig(preset="ultrafast", threads=1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_noise(path: Path, frames: int) -> None:
    """A valid file of so many frames whose network has random symbols."""
    model = design_model(ModelConfig(), 50 * frames + 20_000, WIDTH, HEIGHT, frames)
    rng = np.random.default_rng(0)
    tensors = tuple(
        QuantizedTensor(
            spec,
            rng.integers(96, 160, spec.shape, np.uint8),
            128,
            np.array([SCALE], dtype=np.uint16),
        )
        for spec in tensor_specs(model, WIDTH, HEIGHT, frames)
    )
    segment = Segment(0, 0, frames, model, tensors)
    header = StreamHeader(
        width=WIDTH,
        height=HEIGHT,
        frames=frames,
        segments=1,
        time_base=Fraction(1, 25),
        start_pts=0,
        frame_duration=1,
        sample_aspect_ratio=Fraction(1),
        primaries=1,
        transfer=1,
        matrix=1,
        full_range=False,
        rotation=0,
    )
    with path.open("wb") as stream:
        write_stream(stream, header, range(frames), 1, [segment], [bytes(8)], {}, None)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for frames in FRAME_COUNTS:
            coded, video = Path(folder) / "noise.hfsv", Path(folder) / "noise.mp4"
            write_noise(coded, frames)
            command = [sys.executable, "-c", PROGRAM, str(coded), str(video)]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            video.unlink()
            peak = int(result.stdout) / 1024
            print(json.dumps({"frames": frames, "peak_rss_mb": round(peak, 1)}), flush=True)


if __name__ == "__main__":
    main()
