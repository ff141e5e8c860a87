"""What does not matter: process, folder, hash seed, moment and threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import nervcodec
from nervcodec.bitstream.segment import encode_segment
from nervcodec.inference import FramesDigest
from tests.synthetic import moving_pattern, write_clip

ENCODE = "from nervcodec.cli.main import main; main()"
OPTIONS = ["--params=9k", "--epochs=2", "--keyint=2", "--threads=1", "--seed=7", "--quiet"]


def encode_elsewhere(source: Path, output: Path, hash_seed: int) -> bytes:
    """The file that ``hfsv encode`` writes in a process of its own, run in the source's folder."""
    subprocess.run(
        [sys.executable, "-c", ENCODE, "encode", source.name, str(output), *OPTIONS],
        cwd=source.parent,
        env=os.environ
        | {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(Path(__file__).parents[1])},
        check=True,
    )
    return output.read_bytes()


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A 64x48 clip of 3 frames and its .hfsv of two segments."""
    folder = tmp_path_factory.mktemp("coded")
    source = write_clip(folder / "in.mp4", moving_pattern(64, 48, 3))
    encode_elsewhere(source, folder / "out.hfsv", hash_seed=1)
    return source, folder / "out.hfsv"


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads that a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_another_process_folder_name_and_hash_seed_give_the_same_bytes(coded, tmp_path):
    source, file = coded
    copy = tmp_path / "another name.mp4"
    shutil.copyfile(source, copy)
    again = encode_elsewhere(copy, tmp_path / "another.hfsv", hash_seed=2)
    assert again == file.read_bytes()


def test_another_seed_gives_other_bytes(coded, tmp_path):
    """So that the test before does not pass because nothing random is left."""
    source, file = coded
    other = tmp_path / "other.hfsv"
    config = nervcodec.EncodeConfig(
        train=nervcodec.TrainConfig(epochs=2, seed=8),
        model=nervcodec.ModelConfig(params=9000),
        keyint=2,
        threads=1,
    )
    nervcodec.encode(source, other, config)
    with nervcodec.open(file) as first, nervcodec.open(other) as second:
        assert first.reader.segment(0).symbols_crc() != second.reader.segment(0).symbols_crc()


@pytest.mark.usefixtures("threads")
def test_symbols_and_their_code_do_not_depend_on_threads(coded):
    payloads = []
    for count in (1, 2):
        torch.set_num_threads(count)
        with nervcodec.open(coded[1]) as clip:
            segments = [clip.reader.segment(number) for number in range(2)]
            stored = [clip.reader.container.payload(info.chunk) for info in clip.reader.segments]
        payloads.append([encode_segment(segment)[0] for segment in segments])
        assert payloads[-1] == stored
    assert payloads[0] == payloads[1]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2])
def test_reference_frames_have_the_stored_hash_with_any_threads(coded, count):
    torch.set_num_threads(count)
    with nervcodec.open(coded[1]) as clip:
        for number, stored in enumerate(clip.reader.digests):
            digest = FramesDigest()
            for frame in clip.reference_frames(number):
                digest.add(frame)
            assert digest.digest() == stored


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2])
def test_fast_frames_conform_with_any_threads(coded, count):
    """The bound of bitstream_spec.md, section 9."""
    torch.set_num_threads(count)
    with nervcodec.open(coded[1]) as clip:
        reference = [frame for number in range(2) for frame in clip.reference_frames(number)]
        for exact, frame in zip(reference, clip, strict=True):
            difference = np.abs(frame.astype(int) - exact)
            assert difference.max() <= 1
            assert np.count_nonzero(difference) <= max(4, 0.001 * difference.size)


@pytest.mark.usefixtures("threads")
def test_decoding_again_gives_the_very_frames(coded):
    """Fast frames may differ between machines and threads, but not from one moment to the next."""
    torch.set_num_threads(2)
    with nervcodec.open(coded[1]) as first, nervcodec.open(coded[1]) as second:
        assert (first[:] == second[:]).all()
