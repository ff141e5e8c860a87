"""Networks of random weights and files of them, for benchmarks that need no picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.stream import write_stream
from nervcodec.bitstream.syntax import ModelSpec, StreamHeader
from nervcodec.bitstream.tensors import FRAME_TENSORS, tensor_specs
from nervcodec.config import ModelConfig
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.rate_control import default_detail, design_model
from nervcodec.training.quantization import quantize
from tools.paper_tables.experiments import paper_model

CLIP_FRAMES = 132
"""The length for which a network of so many parameters is shaped, as the paper's clip has it."""


def shape(arch: str, width: int, height: int, params: int) -> ModelSpec:
    """A network for 132 frames: of an encode by ``default``, or with the paper's proportions."""
    if arch == "default":
        config = ModelConfig(detail_channels=default_detail(width, height))
    else:
        config = paper_model((width, height), arch == "hfs-hnerv")
    return design_model(config, params, width, height, CLIP_FRAMES)


def random_segment(model: ModelSpec, width: int, height: int, frames: int) -> Segment:
    """A segment of untrained weights."""
    torch.manual_seed(0)
    decoder = FrameDecoder(model, width, height)
    values = {name: p.detach().numpy() for name, p in decoder.named_parameters()}
    specs = tensor_specs(model, width, height, frames)
    rng = np.random.default_rng(0)
    for spec in specs:
        if spec.name in FRAME_TENSORS:
            values[spec.name] = rng.standard_normal(spec.shape).astype(np.float32)
    return Segment(0, 0, frames, model, tuple(quantize(s, values[s.name]) for s in specs))


def write_file(path: Path, model: ModelSpec, width: int, height: int, frames: int) -> None:
    """A valid file of one such segment."""
    header = StreamHeader(
        width=width,
        height=height,
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
    segment = random_segment(model, width, height, frames)
    with path.open("wb") as stream:
        write_stream(stream, header, range(frames), 1, [segment], [bytes(8)], {}, None)
