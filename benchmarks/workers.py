"""What two worker processes gain over one: ``python -m benchmarks.workers`` prints JSON, a table.

Four segments of a clip are encoded by one worker and by two in turn, with one thread each. On a
machine with other work to do the clock says little; the CPU time tells what the second worker
costs, its start above all.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import nervcodec
from benchmarks.rate_distortion import clip_of

SEGMENT_FRAMES, SEGMENTS = 8, 4


def encode(source: Path, output: Path, workers: int, epochs: int) -> dict[str, Any]:
    """Encode the beginning of ``source``, area-scaled to 320x160, by so many processes."""
    config = nervcodec.EncodeConfig(
        train=nervcodec.TrainConfig(epochs=epochs),
        model=nervcodec.ModelConfig(params=60_000),
        size=(320, 160),
        frames=SEGMENT_FRAMES * SEGMENTS,
        keyint=SEGMENT_FRAMES,
        audio=False,
        threads=1,
        workers=workers,
        executor="processes",
        overwrite=True,
    )
    started, before = time.perf_counter(), os.times()
    nervcodec.encode(source, output, config)
    after = os.times()
    cpu = after.user + after.children_user - before.user - before.children_user
    return {
        "workers": workers,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="default: the paper's clip")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    source = options.source or clip_of("bunny").path()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {workers: Path(folder) / f"{workers}.hfsv" for workers in (1, 2)}
        for _ in range(options.rounds):
            for workers, path in files.items():
                result = encode(source, path, workers, options.epochs)
                rows.append(result)
                print(json.dumps(result), flush=True)
        assert files[1].read_bytes() == files[2].read_bytes()
    print("\n| workers | seconds | CPU s |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
