"""Display matrices: what is encoded and its rotation together show what a player shows."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type as SideDataType
from video_helpers import ClipSpec, clip, decoded, make_clip

import nervcodec
from nervcodec import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.video.reader import VideoReader, probe

ONE = 1 << 16
MATRICES = {
    "as it is": (1, 0, 0, 1),
    "turned 90": (0, 1, -1, 0),
    "turned 180": (-1, 0, 0, -1),
    "turned 270": (0, -1, 1, 0),
    "top and bottom swapped": (1, 0, 0, -1),
    "left and right swapped": (-1, 0, 0, 1),
    "rows and columns swapped": (0, 1, 1, 0),
    "swapped over the other diagonal": (0, -1, -1, 0),
}
"""a, b, c, d of ISO/IEC 14496-12: a sample at (p, q) is shown at (a p + c q, b p + d q)."""


def shown(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """The picture (H, W, 3) sample by sample where the matrix puts it."""
    a, b, c, d = matrix
    q, p = np.indices(picture.shape[:2])  # downwards, to the right
    x, y = a * p + c * q, b * p + d * q
    x, y = x - x.min(), y - y.min()
    result = np.empty((y.max() + 1, x.max() + 1, 3), picture.dtype)
    result[y, x] = picture
    return result


def turned(picture: np.ndarray, rotation: int) -> np.ndarray:
    """The picture turned counter-clockwise by 0, 90, 180 or 270 degrees."""
    return np.rot90(picture, rotation // 90)


def display_matrix(path: Path) -> tuple[int, int, int, int]:
    """Of a file's first frame."""
    data = decoded(path)[0].side_data
    if SideDataType.DISPLAYMATRIX not in data:
        return MATRICES["as it is"]
    values = np.frombuffer(bytes(data[SideDataType.DISPLAYMATRIX]), np.int32)[[0, 1, 3, 4]]
    a, b, c, d = (int(value) // ONE for value in values)
    return a, b, c, d


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20x14, black but for one corner that differs from every other."""
    path = tmp_path_factory.mktemp("plain") / "a.mp4"
    picture = np.zeros((14, 20, 3), np.uint8)
    picture[:4, :6] = 255
    with av.open(os.fspath(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 20, 14, "yuv420p"
        for _ in range(2):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        output.mux(stream.encode(None))
    return path


def with_matrix(source: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """A copy of an MP4 whose track header has this matrix."""
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * ONE for value in matrix)
    values = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    data[place : place + 36] = values
    path.write_bytes(data)
    assert display_matrix(path) == matrix
    return path


@pytest.mark.parametrize("name", MATRICES)
def test_what_is_read_is_shown_as_the_matrix_says(plain: Path, tmp_path: Path, name: str) -> None:
    path = with_matrix(plain, tmp_path / "a.mp4", MATRICES[name])
    with VideoReader(plain) as reader:
        stored = next(iter(reader)).rgb
    with VideoReader(path) as reader:
        rgb = next(iter(reader)).rgb
        assert rgb.flags.c_contiguous
        assert np.array_equal(turned(rgb, reader.info.rotation), shown(stored, MATRICES[name]))
        assert reader.info.mirrored == ("swapped" in name)
        assert not any("mirror" in line for line in reader.info.warnings)


@pytest.mark.parametrize("name", MATRICES)
def test_the_decoded_video_is_shown_as_the_source(plain: Path, tmp_path: Path, name: str) -> None:
    """The white corner is where a player shows it, by the matrix that the output has."""
    path = with_matrix(plain, tmp_path / "a.mp4", MATRICES[name])
    train, model = TrainConfig(epochs=60, batch=1), ModelConfig(params=9000)
    config = EncodeConfig(train=train, model=model, device="cpu", threads=1)
    nervcodec.encode(path, tmp_path / "a.hfsv", config)
    nervcodec.decode(tmp_path / "a.hfsv", tmp_path / "b.mp4")
    before = shown(decoded(path)[0].to_ndarray(format="rgb24"), MATRICES[name])
    output = tmp_path / "b.mp4"
    after = shown(decoded(output)[0].to_ndarray(format="rgb24"), display_matrix(output))
    assert before.shape == after.shape
    assert np.abs(before.astype(int) - after).mean() < 15


def test_scaled_and_cropped_it_is_mirrored_too(plain: Path, tmp_path: Path) -> None:
    path = with_matrix(plain, tmp_path / "a.mp4", MATRICES["top and bottom swapped"])
    with VideoReader(plain, crop=(16, 12), size=(8, 6)) as reader:
        stored = next(iter(reader)).rgb
    with VideoReader(path, crop=(16, 12), size=(8, 6)) as reader:
        rgb = next(iter(reader)).rgb
    assert rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - stored[::-1]).max() <= 1


def test_a_real_mirrored_clip() -> None:
    path = clip("odd/rot_and_mirror_matrix.mp4")
    info = probe(path)
    assert (info.mirrored, info.rotation) == (True, 270)
    with VideoReader(path, max_frames=1) as reader:
        rgb = next(iter(reader)).rgb
    stored = decoded(path)[0].to_ndarray(format="rgb24")
    both = turned(rgb, 270), shown(stored, display_matrix(path))
    assert both[0].shape == both[1].shape
    # Converted in other ways, the same picture differs by a few levels only.
    assert np.abs(both[0].astype(int) - both[1]).mean() < 8


def test_an_ordinary_rotation_mirrors_nothing(tmp_path: Path) -> None:
    assert not probe(clip("odd/rot90_h264.mp4")).mirrored
    assert not probe(make_clip(tmp_path / "a.mp4", ClipSpec(frames=1))).mirrored
