"""How far fast decoding lies from the reference frames, against the bound of the specification.

``python -m benchmarks.conformance FILE.hfsv ...`` evaluates each file's networks in float64, then
in float32 and less in many ways, and prints a JSON line for each. Every way runs in a process of
its own, because torch and oneDNN choose their instruction sets once. With ``--source`` (several,
if need be; each file finds its own by the hash that it holds) the loss in dB is measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.stream import SegmentInfo
from nervcodec.bitstream.tensors import EMBEDDING
from nervcodec.decoder import HfsvFile
from nervcodec.files import file_digest
from nervcodec.inference import FramesDigest, SegmentRenderer
from nervcodec.metrics import PSNR_CAP, psnr
from nervcodec.models.blocks import Conv, channels_last
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.samples import Frames
from nervcodec.video.reader import VideoReader
from tools import reference_decoder

MOST_SHARE = 0.001
MOST_SAMPLES = 4
"""The bound: so great a share of a frame's samples, or so many samples if that is more."""

Values = npt.NDArray[np.float64]
"""Frames before rounding, 0..255, (H, W, 3)."""

Evaluated = tuple[Frames, Values | None]
"""A frame and, where the way of evaluation gives them, its values."""


@dataclass(frozen=True)
class Way:
    """One way to evaluate the networks.

    Attributes:
        precision: ``float64``, ``float32``, ``autocast`` (to bfloat16) or a key of
            :data:`REDUCTIONS`; ``decoder`` is the program's fast path, ``reference`` its float64
            path, ``numpy`` stands for ``tools/reference_decoder.py``.
        environment: variables that choose instruction sets.
    """

    name: str
    precision: str = "float32"
    threads: int = 1
    batch: int = 1
    channels_last: bool = True
    onednn: bool = True
    environment: dict[str, str] = field(default_factory=dict)


WAYS = (
    Way("float64, program", "reference"),
    Way("float64, 2 threads", "float64", threads=2),
    Way("float64, batch 4", "float64", batch=4),
    Way("float64, oneDNN off", "float64", onednn=False),
    Way(
        "float64, least instructions",
        "float64",
        environment={"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},
    ),
    Way("float64, numpy", "numpy"),
    Way("program", "decoder"),
    Way("1 thread"),
    Way("2 threads", threads=2),
    Way("batch 2", batch=2),
    Way("batch 4", batch=4),
    Way("batch 8", batch=8),
    Way("contiguous", channels_last=False),
    Way("oneDNN off", onednn=False),
    Way("oneDNN off, contiguous", onednn=False, channels_last=False),
    Way("NNPACK", batch=16, onednn=False),
    Way("ATen default", environment={"ATEN_CPU_CAPABILITY": "default"}),
    Way("ATen AVX2", environment={"ATEN_CPU_CAPABILITY": "avx2"}),
    Way("ATen AVX-512", environment={"ATEN_CPU_CAPABILITY": "avx512"}),
    Way("oneDNN SSE4.1", environment={"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Way("oneDNN AVX2", environment={"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    Way("oneDNN AVX-512", environment={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    Way(
        "least instructions",
        environment={"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    ),
    Way("TF32 operands", "tf32"),
    Way("bfloat16, head float32", "bfloat16, head float32"),
    Way("bfloat16", "bfloat16"),
    Way("bfloat16 autocast", "autocast"),
    Way("float16, head float32", "float16, head float32"),
    Way("float16", "float16"),
)
"""``1 thread`` is evaluated here as the program does it; the two must agree. From batches of 16 on
torch takes NNPACK where oneDNN is off: its Winograd and Fourier transforms round worst of all. TF32
is what GPUs use for convolutions unless told otherwise; its products are imitated here."""


# --- precisions ----------------------------------------------------------------------------------


def round_to_tf32(x: Tensor) -> Tensor:
    """float32 values rounded to the ten fraction bits that a GPU's TF32 units read."""
    bits = x.contiguous().view(torch.int32)
    half = 0x0FFF + ((bits >> 13) & 1)
    return ((bits + half) & ~0x1FFF).view(torch.float32)


def _tf32(network: FrameDecoder) -> None:
    """Round the weights, and each convolution's input; sums stay in float32, as on a GPU."""
    for module in network.modules():
        if isinstance(module, Conv):
            module.weight = nn.Parameter(round_to_tf32(module.weight), requires_grad=False)
            module.register_forward_pre_hook(lambda _, inputs: round_to_tf32(inputs[0]))


def _head_in_float32(dtype: torch.dtype) -> Callable[[FrameDecoder], None]:
    """``dtype`` up to the last stage's maps, float32 from there on."""

    def apply(network: FrameDecoder) -> None:
        network.to(dtype)
        for name, module in network.named_children():
            if name in ("head", "msfrp"):
                module.float()
                module.register_forward_pre_hook(lambda _, inputs: inputs[0].float())

    return apply


def _to(dtype: torch.dtype) -> Callable[[FrameDecoder], None]:
    def apply(network: FrameDecoder) -> None:
        network.to(dtype)

    return apply


REDUCTIONS: dict[str, Callable[[FrameDecoder], None]] = {
    "tf32": _tf32,
    "bfloat16": _to(torch.bfloat16),
    "bfloat16, head float32": _head_in_float32(torch.bfloat16),
    "float16": _to(torch.float16),
    "float16, head float32": _head_in_float32(torch.float16),
}


# --- evaluation ----------------------------------------------------------------------------------


def _batches(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _runs(
    segments: Sequence[SegmentInfo], chosen: Sequence[int]
) -> Iterator[tuple[int, list[int]]]:
    """For each segment with chosen frames its number and their offsets within it."""
    for number, info in enumerate(segments):
        end = info.first_frame + info.frames
        offsets = [n - info.first_frame for n in chosen if info.first_frame <= n < end]
        if offsets:
            yield number, offsets


def _with_torch(file: HfsvFile, way: Way, chosen: Sequence[int]) -> Iterator[Evaluated]:
    for number, offsets in _runs(file.reader.segments, chosen):
        network, embedding = _network(file.reader.segment(number), file, way)
        for batch in _batches(offsets, way.batch):
            # Filled up where it is short, because the size decides about the kernels.
            full = [batch[n % len(batch)] for n in range(way.batch)]
            with (
                torch.inference_mode(),
                torch.autocast("cpu", torch.bfloat16, enabled=way.precision == "autocast"),
            ):
                rgb = network(embedding[full])[: len(batch)]
            if rgb.isnan().any():
                raise OverflowError("a value overflows")
            exact = rgb if rgb.dtype == torch.float64 else rgb.float()
            values = (exact * 255.0).permute(0, 2, 3, 1)
            frames = torch.floor(values + 0.5).to(torch.uint8)
            for frame, value in zip(frames, values, strict=True):
                yield frame.contiguous().numpy(), value.double().contiguous().numpy()


def _network(segment: Segment, file: HfsvFile, way: Way) -> tuple[FrameDecoder, Tensor]:
    """The network and the embedding, in the way's precision."""
    dtype = torch.float64 if way.precision == "float64" else torch.float32
    tensors = {
        tensor.spec.name: torch.from_numpy(tensor.dequantize()).to(dtype)
        for tensor in segment.tensors
    }
    embedding = tensors.pop(EMBEDDING)
    with torch.device("meta"):
        network = FrameDecoder(segment.model, file.width, file.height)
    network.load_state_dict(tensors, assign=True)
    if way.channels_last and way.precision != "float64":
        channels_last(network)
    if way.precision in REDUCTIONS:
        REDUCTIONS[way.precision](network)
    return network, embedding.to(network.stem.weight.dtype)


def _with_program(file: HfsvFile, way: Way, chosen: Sequence[int]) -> Iterator[Evaluated]:
    for number, offsets in _runs(file.reader.segments, chosen):
        segment, reference = file.reader.segment(number), way.precision == "reference"
        renderer = SegmentRenderer(segment, file.width, file.height, reference=reference)
        for frame in renderer.frames(offsets):
            yield frame, None


def _with_numpy(file: HfsvFile, chosen: Sequence[int]) -> Iterator[Evaluated]:
    parsed = reference_decoder.parse(file.path.read_bytes())
    for number, offsets in _runs(file.reader.segments, chosen):
        network = reference_decoder.Network(parsed.segments[number])
        for offset in offsets:
            with np.errstate(all="ignore"):
                frame = network.frame(offset)[:, : file.height, : file.width]
            values = (255 * frame).transpose(1, 2, 0)
            yield np.floor(values + 0.5).astype(np.uint8), values


def evaluate(file: HfsvFile, way: Way, chosen: Sequence[int]) -> Iterator[Evaluated]:
    """The chosen frames, evaluated in one way."""
    if way.precision == "numpy":
        return _with_numpy(file, chosen)
    if way.precision in ("decoder", "reference"):
        return _with_program(file, way, chosen)
    return _with_torch(file, way, chosen)


# --- measures ------------------------------------------------------------------------------------


def _differences(frame: Frames, reference: Frames) -> npt.NDArray[np.int16]:
    difference: npt.NDArray[np.int16] = np.abs(frame.astype(np.int16) - reference)
    return difference


def measure(
    evaluated: Iterator[Evaluated], reference: Values, source: Frames | None
) -> dict[str, Any]:
    """Compare frames with the values of the reference (N, H, W, 3) and with the source.

    ``largest_error`` is that of a value before rounding, in steps of a sample. ``seconds`` is the
    evaluation alone, a frame.
    """
    digest, seconds = FramesDigest(), 0.0
    largest, largest_error = 0, None
    counts, to_reference, to_source, reference_to_source = [], [], [], []
    for index in range(len(reference)):
        started = time.perf_counter()
        frame, values = next(evaluated)
        seconds += time.perf_counter() - started
        exact = np.floor(reference[index] + 0.5).astype(np.uint8)
        difference = _differences(frame, exact)
        largest = max(largest, int(difference.max()))
        counts.append(int(np.count_nonzero(difference)))
        to_reference.append(min(PSNR_CAP, psnr(exact, frame)))
        if values is not None:
            error = float(np.abs(values - reference[index]).max())
            largest_error = max(error, largest_error or 0.0)
        if source is not None:
            to_source.append(psnr(source[index], frame))
            reference_to_source.append(psnr(source[index], exact))
        digest.add(frame)
    samples = reference[0].size
    result = {
        "largest_difference": largest,
        "differing_share": sum(counts) / (len(counts) * samples),
        "worst_frame_share": max(counts) / samples,
        "worst_frame_samples": max(counts),
        "largest_error": largest_error,
        "conforming": largest <= 1 and max(counts) <= max(MOST_SAMPLES, MOST_SHARE * samples),
        "psnr_to_reference": float(np.mean(to_reference)),
        "frames_hash": digest.digest().hex(),
        "seconds": seconds / len(reference),
    }
    if source is not None:
        result["psnr"] = float(np.mean(to_source))
        result["loss_db"] = float(np.mean(reference_to_source)) - result["psnr"]
    return result


def run_way(path: Path, way: Way, folder: Path) -> dict[str, Any]:
    """Measure one way in this process against what :func:`make_reference` left in ``folder``."""
    torch.set_num_threads(way.threads)
    chosen = np.load(folder / "chosen.npy").tolist()
    reference: Values = np.load(folder / "reference.npy", mmap_mode="r")
    stored = folder / "source.npy"
    source: Frames | None = np.load(stored) if stored.exists() else None
    torch.backends.mkldnn.enabled = way.onednn  # type: ignore[assignment]
    result = {
        "way": way.name,
        "precision": way.precision,
        "threads": way.threads,
        "batch": way.batch,
        "channels_last": way.channels_last,
        "onednn": way.onednn,
        "environment": way.environment,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    try:
        with HfsvFile(path) as file:
            return result | measure(evaluate(file, way, chosen), reference, source)
    except (RuntimeError, OverflowError) as exc:
        return result | {"unsupported": str(exc).splitlines()[0]}


def make_reference(
    path: Path, most: int | None, sources: dict[str, Path], folder: Path
) -> dict[str, Any]:
    """Write the numbers, reference values and source of the frames to ``folder``; describe them.

    ``nearest_edge`` is how close a value comes to the edge between two samples: the reference
    frames are safe as long as errors of float64 are far smaller.
    """
    torch.set_num_threads(1)
    with HfsvFile(path) as file:
        count = min(most or len(file), len(file))
        chosen = np.linspace(0, len(file) - 1, count).round().astype(np.int64)
        shape = (count, file.height, file.width, 3)
        values = np.lib.format.open_memmap(folder / "reference.npy", "w+", np.float64, shape)
        nearest, digest = 1.0, FramesDigest()
        for index, (frame, value) in enumerate(evaluate(file, Way("", "float64"), chosen.tolist())):
            assert value is not None
            values[index] = value
            digest.add(frame)
            nearest = min(nearest, float(np.abs(value - np.floor(value) - 0.5).min()))
        values.flush()
        np.save(folder / "chosen.npy", chosen)
        source = sources.get(str(file.reader.meta.get("source")))
        if source is not None:
            np.save(folder / "source.npy", _source_frames(file, source, chosen))
        digests = file.reader.digests
        comparable = digests is not None and len(digests) == 1 and count == len(file)
        return {
            "way": "reference",
            "frames": count,
            "samples_a_frame": int(np.prod(shape[1:])),
            "file_bytes": file.reader.file_bytes,
            "frames_hash": digest.digest().hex(),
            "matches_hash": digest.digest() == digests[0] if comparable and digests else None,
            "nearest_edge": nearest,
        }


def _source_frames(file: HfsvFile, source: Path, chosen: npt.NDArray[np.int64]) -> Frames:
    crop = file.reader.meta.get("crop")
    reader = VideoReader(source, crop=tuple(crop) if crop else None, size=(file.width, file.height))
    wanted = set(chosen.tolist())
    return np.stack([frame.rgb for index, frame in enumerate(reader) if index in wanted])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--frames", type=int, help="evaluate so many frames, evenly spread")
    parser.add_argument("--source", type=Path, action="append", default=[], help="a file's video")
    parser.add_argument("--ways", help="only the ways whose names contain this text")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(run_way(arguments.files[0], WAYS[arguments.one], arguments.folder)))
        return
    sources = {file_digest(path): path for path in arguments.source}
    for path in arguments.files:
        with tempfile.TemporaryDirectory() as name:
            reference = make_reference(path, arguments.frames, sources, Path(name))
            print(json.dumps({"file": path.name, **reference}), flush=True)
            for number, way in enumerate(WAYS):
                if arguments.ways and arguments.ways not in way.name:
                    continue
                command = [sys.executable, "-m", "benchmarks.conformance", str(path)]
                result = subprocess.run(
                    [*command, "--one", str(number), "--folder", name],
                    env=os.environ | way.environment,
                    check=True,
                    stdout=subprocess.PIPE,
                )
                print(json.dumps({"file": path.name, **json.loads(result.stdout)}), flush=True)


if __name__ == "__main__":
    main()
