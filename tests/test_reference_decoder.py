"""The two decoders against each other: one of the package, one from the specification alone."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from format_helpers import (
    SMALL_LIMITS,
    assemble,
    disassemble,
    make_header,
    make_segment,
    model_specs,
    read_all,
    small_file,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import nervcodec
from nervcodec.bitstream.stream import write_stream
from nervcodec.bitstream.syntax import Attention, HfscmSpec, ModelSpec
from nervcodec.bitstream.tensors import Limits
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.errors import BitstreamError
from nervcodec.inference import FramesDigest, SegmentRenderer
from tests.synthetic import moving_pattern, write_clip
from tools import reference_decoder


def assert_same(data: bytes, render: bool = True) -> None:
    """Both decoders give the same timestamps, META, audio, symbols and float64 frames."""
    ours, theirs = read_all(data, Limits()), reference_decoder.parse(data)
    end = ours.pts[-1] + ours.last_duration
    assert [*ours.pts, end] == theirs.timestamps.tolist()
    # The second decoder leaves out keys that the specification does not know.
    assert all(ours.meta[key] == value for key, value in theirs.meta.items())
    audio = ours.audio()
    assert (audio.data if audio else None) == (theirs.audio[1] if theirs.audio else None)
    for index in range(len(ours.segments)):
        segment = ours.segment(index)
        for tensor, symbols in zip(segment.tensors, theirs.segments[index].symbols, strict=True):
            assert np.array_equal(tensor.symbols, symbols)
        if render:
            header = ours.header
            renderer = SegmentRenderer(segment, header.width, header.height, reference=True)
            frames = renderer.frames(range(segment.frames))
            for frame, other in zip(frames, reference_decoder.render(theirs, index), strict=True):
                assert np.array_equal(frame, other)


def file_of(model: ModelSpec, width: int, height: int, seed: int) -> bytes:
    """A file of two frames with random symbols."""
    header = make_header(width=width, height=height, frames=2, segments=1, matrix=1)
    out = io.BytesIO()
    segment = make_segment(model, header, 0, 2, seed)
    write_stream(out, header, [5, 7], 2, [segment], [bytes(8)], {"tool": "test"}, None)
    return out.getvalue()


def test_the_small_file_of_every_chunk() -> None:
    assert_same(small_file())


@settings(max_examples=40)
@given(model_specs(), st.integers(1, 21), st.integers(1, 21), st.integers(0, 1 << 30))
def test_any_network(model: ModelSpec, width: int, height: int, seed: int) -> None:
    assert_same(file_of(model, width, height, seed))


@pytest.mark.parametrize("attention", Attention)
def test_trained_networks(tmp_path: Path, attention: Attention) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_pattern(46, 30, 4), audio=True)
    config = EncodeConfig(
        train=TrainConfig(epochs=3),
        model=ModelConfig(params=12_000, hfscm_spec=HfscmSpec(attention=attention)),
        keyint=3,
    )
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    data = (tmp_path / "out.hfsv").read_bytes()
    assert_same(data)
    file = reference_decoder.parse(data)
    for index, stated in enumerate(file.hashes):
        digest = FramesDigest()
        for frame in reference_decoder.render(file, index):
            digest.add(frame)
        assert digest.digest() == stated
    assert len(file.hashes) == 2


@settings(max_examples=100)
@given(st.data())
def test_both_refuse_the_same_damage(data: st.DataObject) -> None:
    """A changed byte behind checksums made good: both read the file alike, or neither does."""
    chunks = disassemble(small_file())
    number = data.draw(st.integers(0, len(chunks) - 1))
    kind, payload = chunks[number]
    place = data.draw(st.integers(0, len(payload) - 1))
    value = data.draw(st.integers(0, 255))
    chunks[number] = (kind, payload[:place] + bytes([value]) + payload[place + 1 :])
    changed = assemble(chunks)
    try:
        read_all(changed, SMALL_LIMITS)
    except BitstreamError as exc:
        if "the limit is" not in str(exc):  # the tests' own, smaller limits
            with pytest.raises(reference_decoder.InvalidFile):
                reference_decoder.parse(changed)
    else:
        assert_same(changed, render=False)


def test_it_needs_numpy_and_the_standard_library_only() -> None:
    assert reference_decoder.__file__ is not None
    tree = ast.parse(Path(reference_decoder.__file__).read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names <= {*sys.stdlib_module_names, "numpy"}
