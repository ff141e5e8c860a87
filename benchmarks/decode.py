"""Speed and memory of decoding against torch, HNeRV and the machine; ``make bench`` runs it.

``python -m benchmarks.decode`` prints a JSON line for each case and a table at the end. The
networks have random weights, of which no time depends but that of H.264. What is compared is
measured in turn, round by round, in one process; the best round counts, since other programs can
only make a round longer. With ``--threads 1`` the networks' times are of the thread, not of the
clock. docs/performance.md explains each figure.

The machine's limit is the best rate, in multiplications a second, at which torch (oneDNN) does any
of the network's three largest convolutions, with the network's channels or such as fill vectors.
The limit of a frame is the network's multiplications by that rate.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import nervcodec
from benchmarks.random_files import CLIP_FRAMES, random_segment, shape, write_file
from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import (
    FRAME_TENSORS,
    ConvShape,
    attention_width,
    convolutions,
    macs_per_frame,
    parameter_count,
    tensor_specs,
)
from nervcodec.fast import library
from nervcodec.fast.convolution import WINOGRAD_STEPS
from nervcodec.inference import SegmentRenderer
from nervcodec.models.blocks import Conv, channels_last
from nervcodec.models.frame_decoder import FrameDecoder

ARCHITECTURES = ("default", "hfs-hnerv", "hnerv")
CASES = ((320, 160, 60_000), (1280, 640, 1_500_000))
MEMORY_SIZES = ((1280, 640), (1920, 1080))
FILE_FRAMES = 4
VECTOR = 16
LARGEST = 3
"""Convolutions of each network, those with the most multiplications, that the limit is of."""

ROUND_SECONDS = 0.2

PEAK = """
import os, resource, sys, nervcodec
config = nervcodec.DecodeConfig(threads=int(sys.argv[3]), format=sys.argv[4], overwrite=True)
target = sys.argv[2] if sys.argv[4] == "mp4" else open(os.devnull, "wb")
if sys.argv[1] != "-":
    nervcodec.decode(sys.argv[1], target, config)
else:
    import nervcodec.decoder
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def best_times(
    ways: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Seconds of the best of some rounds of each way, after one that does not count."""
    counts, best = {}, dict.fromkeys(ways, math.inf)
    for name, way in ways.items():
        way()
        started = clock()
        way()
        counts[name] = max(1, round(ROUND_SECONDS / (clock() - started)))
    for _ in range(rounds):
        for name, way in ways.items():
            started = clock()
            for _ in range(counts[name]):
                way()
            best[name] = min(best[name], (clock() - started) / counts[name])
    return best


def _clock() -> Callable[[], float]:
    """Of a single thread its own time, which other programs on the machine do not lengthen."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


class Eager:
    """The network as plain torch evaluates it, one frame; its times are those of the decoder."""

    def __init__(self, model: ModelSpec, width: int, height: int) -> None:
        torch.manual_seed(0)
        self._decoder = FrameDecoder(model, width, height).eval()
        channels_last(self._decoder)
        specs = tensor_specs(model, width, height, 1)
        self._sources = [torch.randn(s.shape) for s in specs if s.name in FRAME_TENSORS]

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        rgb: Tensor = self._decoder(*self._sources)
        return torch.floor(rgb * 255 + 0.5).to(torch.uint8)


def fast(model: ModelSpec, width: int, height: int) -> Callable[[], object]:
    """One frame as the decoder makes it, its maps kept from frame to frame as in a long run."""
    renderer = SegmentRenderer(random_segment(model, width, height, 1), width, height)
    if renderer._kernels is not None:
        renderer._kernels.release = _keep  # type: ignore[method-assign]
    return lambda: list(renderer.batches([0]))


def _keep() -> None:
    """Instead of letting the maps go."""


def measure_network(width: int, height: int, params: int, rounds: int) -> dict[str, Any]:
    """Milliseconds a frame of the networks alone, and what they are by the machine's limit."""
    models = {arch: shape(arch, width, height, params) for arch in ARCHITECTURES}
    ways: dict[str, Callable[[], object]] = {}
    for arch, model in models.items():
        ways[arch] = fast(model, width, height)
        ways[f"{arch} eager"] = Eager(model, width, height)
    times = best_times(ways, rounds, _clock())
    rate, where = machine_rate(list(models.values()), width, height, rounds)
    result: dict[str, Any] = {
        "case": "network",
        **_place(width, height),
        "milliseconds": {name: round(1000 * seconds, 2) for name, seconds in times.items()},
        "gmac_per_s_of_the_machine": round(rate / 1e9, 1),
        "reached_by": where,
    }
    for arch, model in models.items():
        macs = macs_per_frame(model, width, height)
        seconds = times[arch]
        result[arch] = {
            "parameters": parameter_count(model, width, height, CLIP_FRAMES),
            "gmac_per_frame": round(macs / 1e9, 3),
            "fps": round(1 / seconds, 2),
            "times_eager": round(times[f"{arch} eager"] / seconds, 2),
            "limit_ms": round(1000 * macs / rate, 2),
            "share_of_limit": round(macs / rate / seconds, 3),
            "share_of_multiplications": round(_made(model, width, height) / rate / seconds, 3),
            "times_eager_hnerv": round(times["hnerv eager"] / seconds, 2),
        }
    return result


def _made(model: ModelSpec, width: int, height: int) -> float:
    """Multiplications that the kernels' convolutions make: fewer, by Winograd's transforms."""
    total = 0.0
    for conv in convolutions(model, width, height):
        step = WINOGRAD_STEPS.get(conv.kernel)
        share = 1.0 if step is None else (step + conv.kernel - 1) / (step * conv.kernel)
        total += share * conv.macs
    return total


def machine_rate(
    models: list[ModelSpec], width: int, height: int, rounds: int
) -> tuple[float, str]:
    """Multiplications a second of the best convolution of these networks, and which it is."""
    shapes: dict[str, ConvShape] = {}
    for model in models:
        convs = sorted(convolutions(model, width, height), key=lambda conv: conv.macs)
        for conv in convs[-LARGEST:]:
            full = replace(conv, inputs=_up(conv.inputs), outputs=_up(conv.outputs))
            shapes |= {_named(conv): conv, _named(full): full}
    ways: dict[str, Callable[[], object]] = {}
    macs: dict[str, int] = {}
    for name, conv in shapes.items():
        for layout in (torch.contiguous_format, torch.channels_last):
            key = f"{name} {'NHWC' if layout is torch.channels_last else 'NCHW'}"
            ways[key], macs[key] = _convolution(conv, layout), conv.macs
    times = best_times(ways, rounds, _clock())
    rates = {name: macs[name] / seconds for name, seconds in times.items()}
    best = max(rates, key=rates.__getitem__)
    return rates[best], best


def _convolution(conv: ConvShape, layout: torch.memory_format) -> Callable[[], object]:
    layer = Conv(conv.inputs, conv.outputs, conv.kernel).eval()
    layer = layer.to(memory_format=layout)  # type: ignore[call-overload]
    x = torch.randn(1, conv.inputs, conv.height, conv.width).to(memory_format=layout)

    @torch.inference_mode()
    def run() -> Tensor:
        out: Tensor = layer(x)
        return out

    return run


def _up(channels: int) -> int:
    return -(-channels // VECTOR) * VECTOR


def _named(conv: ConvShape) -> str:
    return f"{conv.inputs}>{conv.outputs} k{conv.kernel} {conv.width}x{conv.height}"


def measure_pipeline(
    folder: Path, width: int, height: int, params: int, rounds: int
) -> dict[str, Any]:
    """Frames a second of whole decodes, opening the file and all."""
    threads = torch.get_num_threads()
    count = FILE_FRAMES * max(1, 1_000_000 // (width * height)) * 4
    files = {}
    for arch in ARCHITECTURES:
        files[arch] = folder / f"{arch}-{width}.hfsv"
        write_file(files[arch], shape(arch, width, height, params), width, height, count)

    def to_h264(path: Path) -> Callable[[], object]:
        config = nervcodec.DecodeConfig(threads=threads, overwrite=True)
        return lambda: nervcodec.decode(path, folder / "out.mp4", config)

    def to_null(path: Path) -> Callable[[], object]:
        def run() -> None:
            with open(os.devnull, "wb") as null:
                config = nervcodec.DecodeConfig(threads=threads, format="raw")
                nervcodec.decode(path, null, config)

        return run

    ways = {f"{arch} to H.264": to_h264(path) for arch, path in files.items()}
    ways |= {f"{arch} to null": to_null(path) for arch, path in files.items()}
    times = best_times(ways, max(2, rounds // 2))
    fps = {name: round(count / seconds, 2) for name, seconds in times.items()}
    return {"case": "pipeline", **_place(width, height), "frames": count, "fps": fps}


def measure_memory(folder: Path, arch: str, width: int, height: int) -> dict[str, Any]:
    """Peak resident memory of decodes, less what the program takes, and the rule's bound."""
    model = shape(arch, width, height, 1_500_000)
    path = folder / f"memory-{arch}-{width}.hfsv"
    write_file(path, model, width, height, FILE_FRAMES)
    base = _peak("-", folder, "raw")
    peaks = {kind: _peak(str(path), folder, kind) for kind in ("raw", "mp4")}
    return {
        "case": "memory",
        "network": arch,
        **_place(width, height),
        "program_mb": base,
        "null_mb": peaks["raw"],
        "h264_mb": peaks["mp4"],
        "maps_mb": round((peaks["raw"] - base), 1),
        "bound_of_maps_mb": round(bound_of_maps(model, width, height) / 2**20, 1),
    }


def _peak(source: str, folder: Path, kind: str) -> float:
    arguments = [source, str(folder / "peak.mp4"), str(torch.get_num_threads()), kind]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return round(int(done.stdout) / 1024, 1)


def bound_of_maps(model: ModelSpec, width: int, height: int) -> int:
    """The rule of docs/performance.md: bytes for the maps of a frame and what becomes of them.

    A stage with HFSCM holds two maps of its channels, one of the larger of these and the
    attention's five parts, and the attention's narrow ones; and there are its RGB values.
    """
    (rows, columns), values = model.grid(width, height), 0
    for stage in model.stages:
        rows, columns = rows * stage.stride, columns * stage.stride
        inner = attention_width(stage.channels, model.hfscm.reduction)
        channels = 2 * stage.channels + max(stage.channels, 5 * inner) + inner + 1
        values += (channels if stage.hfscm else stage.channels) * rows * columns
    rgb = 8 * 3 * rows * columns
    return 4 * (values + rgb)


def _place(width: int, height: int) -> dict[str, Any]:
    return {
        "size": f"{width}x{height}",
        "threads": torch.get_num_threads(),
        "kernels": library.level() if library.load() else None,
    }


def print_table(results: list[dict[str, Any]]) -> None:
    """The figures for a person."""
    print(f"{'':34}{'size':>10}{'threads':>8}{'value':>10}")
    for result in results:
        for name, value in _lines(result):
            print(f"{name:34}{result['size']:>10}{result['threads']:>8}{value:>10}")


def _lines(result: dict[str, Any]) -> list[tuple[str, Any]]:
    if result["case"] == "network":
        lines = [(f"{name}, ms", value) for name, value in result["milliseconds"].items()]
        for arch in ARCHITECTURES:
            lines += [
                (f"{arch}, times its eager self", result[arch]["times_eager"]),
                (f"{arch}, machine's limit, ms", result[arch]["limit_ms"]),
                (f"{arch}, share of the limit", result[arch]["share_of_limit"]),
                (f"{arch}, times eager hnerv", result[arch]["times_eager_hnerv"]),
            ]
        return lines
    if result["case"] == "pipeline":
        return [(f"{name}, frames/s", value) for name, value in result["fps"].items()]
    arch = result["network"]
    return [
        (f"{arch} to null, peak MB", result["null_mb"]),
        (f"{arch} to H.264, peak MB", result["h264_mb"]),
        (f"{arch}, bound of the maps, MB", result["bound_of_maps_mb"]),
    ]


def measure(folder: Path, only: str | None, rounds: int) -> Iterator[dict[str, Any]]:
    """All figures, or those of one kind."""
    for case in CASES:
        if only in (None, "network"):
            yield measure_network(*case, rounds)
        if only in (None, "pipeline"):
            yield measure_pipeline(folder, *case, rounds)
    if only in (None, "memory"):
        for arch in ("default", "hfs-hnerv"):
            for size in MEMORY_SIZES:
                yield measure_memory(folder, arch, *size)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("network", "pipeline", "memory"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for result in measure(Path(folder), options.only, options.rounds):
            print(json.dumps(result), flush=True)
            results.append(result)
    print_table(results)


if __name__ == "__main__":
    main()
