"""What each preset gives for its time: ``python -m benchmarks.presets`` prints JSON and a table.

A clip is encoded into one size by one preset after another. Seconds are of whole encodes, their
check by decoding included; where the machine does other work too, the CPU time tells more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.rate_distortion import CLIPS, clip_of
from benchmarks.time_to_quality import base_config, encode
from nervcodec.config import DEFAULT_PRESET, PRESETS, SizeTarget, TrainConfig

UP_TO_DEFAULT = tuple(PRESETS)[: tuple(PRESETS).index(DEFAULT_PRESET) + 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", choices=[clip.name for clip in CLIPS], default="carphone")
    parser.add_argument("--bytes", type=int, default=32_000)
    parser.add_argument("--preset", action="append", choices=tuple(PRESETS), help="repeatable")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for preset in options.preset or UP_TO_DEFAULT:
            config = replace(
                base_config(options.clip, options.threads),
                train=TrainConfig(epochs=PRESETS[preset]),
                size_target=SizeTarget(bytes=options.bytes),
            )
            found = encode(clip_of(options.clip).path(), Path(folder) / "out.hfsv", config)
            rows.append({"clip": options.clip, "preset": preset, **found})
            print(json.dumps(rows[-1]), flush=True)
    print("\n| preset | epochs | bytes | PSNR dB | seconds | CPU s |\n|---|---|---|---|---|---|")
    for row in rows:
        keys = ("preset", "epochs", "bytes", "psnr", "seconds", "cpu_seconds")
        print("| " + " | ".join(str(row[key]) for key in keys) + " |")


if __name__ == "__main__":
    main()
