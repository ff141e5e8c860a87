"""Memory is bounded by the segment: what is alive while long clips are encoded and decoded."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nervcodec
from nervcodec import clip, coder
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.inference import SegmentRenderer
from nervcodec.reports import EncodeProgress, EncodeReport
from nervcodec.training.trainer import Trainer
from nervcodec.video import passthrough
from nervcodec.video.reader import SourceFrame, VideoReader
from nervcodec.video.remux import CopiedPacket, packets_of
from nervcodec.video.writer import VideoWriter
from tests.synthetic import moving_pattern, write_clip

KEYINT = 5
SEGMENTS = 3


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.mp4"
    return write_clip(path, moving_pattern(48, 32, SEGMENTS * KEYINT))


def encode(
    source: Path,
    output: Path,
    segments: int = SEGMENTS,
    progress: Callable[[EncodeProgress], None] | None = None,
) -> EncodeReport:
    config = EncodeConfig(
        train=TrainConfig(epochs=1, hfs_weight=0),
        model=ModelConfig(params=segments * 3000, hfscm=False, msfrp=False),
        frames=segments * KEYINT,
        keyint=KEYINT,
        threads=1,
        overwrite=True,
    )
    return nervcodec.encode(source, output, config, progress)


def alive(references: list[weakref.ref[Any]]) -> int:
    """How many objects have not been freed; nobody waits for the garbage collector here."""
    return sum(reference() is not None for reference in references)


def test_encoding_holds_one_segment_and_few_frames(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments: list[weakref.ref[np.ndarray]] = []
    frames: list[weakref.ref[np.ndarray]] = []
    read = VideoReader.__iter__

    class Recorded(Trainer):
        def __init__(self, held: np.ndarray, *args: Any) -> None:
            segments.append(weakref.ref(held))
            super().__init__(held, *args)

    def checked(self: VideoReader) -> Iterator[SourceFrame]:
        for frame in read(self):
            assert not alive(segments)
            assert alive(frames) <= 2
            frames.append(weakref.ref(frame.rgb))
            yield frame

    monkeypatch.setattr(coder, "Trainer", Recorded)
    monkeypatch.setattr(VideoReader, "__iter__", checked)
    encode(source, tmp_path / "out.hfsv")
    assert len(segments) == SEGMENTS
    assert len(frames) == 2 * SEGMENTS * KEYINT, "read once for the times, once for the training"


def test_decoding_holds_one_network_and_two_frames(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[weakref.ref[SegmentRenderer]] = []
    frames: list[weakref.ref[np.ndarray]] = []
    write = VideoWriter.write

    class Renderer(SegmentRenderer):
        def __init__(self, *args: object, **kwargs: object) -> None:
            assert not alive(networks)
            super().__init__(*args, **kwargs)
            networks.append(weakref.ref(self))

    def checked_write(self: VideoWriter, rgb: np.ndarray, pts: int, duration: int) -> None:
        assert alive(frames) <= 1
        frames.append(weakref.ref(rgb))
        write(self, rgb, pts, duration)

    coded = tmp_path / "out.hfsv"
    encode(source, coded)
    monkeypatch.setattr(clip, "SegmentRenderer", Renderer)
    monkeypatch.setattr(VideoWriter, "write", checked_write)
    nervcodec.decode(coded, tmp_path / "out.mp4")
    assert len(networks) == SEGMENTS
    assert len(frames) == SEGMENTS * KEYINT


def test_too_much_sound_is_noticed_before_all_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = np.zeros((750, 16, 16, 3), dtype=np.uint8)
    source = write_clip(tmp_path / "in.mp4", pictures, audio=True)
    taken = 0

    def counted(*args: Any) -> Iterator[CopiedPacket]:
        nonlocal taken
        for packet in packets_of(*args):
            taken += 1
            yield packet

    monkeypatch.setattr(passthrough, "packets_of", counted)
    whole, everything = len(passthrough.extract(source).data), taken
    monkeypatch.setattr(passthrough, "MAX_AUDIO_BYTES", whole // 4)
    taken = 0
    with pytest.raises(nervcodec.InputVideoError, match=f"more than the {whole // 4} bytes.*-an"):
        passthrough.extract(source)
    assert 0 < taken < everything // 2
    monkeypatch.setattr(passthrough, "MAX_AUDIO_BYTES", whole - 1)
    with pytest.raises(nervcodec.InputVideoError, match="more than"):
        passthrough.extract(source)
    monkeypatch.setattr(passthrough, "MAX_AUDIO_BYTES", whole)
    assert len(passthrough.extract(source).data) == whole


def test_a_source_that_shrinks_after_the_first_reading(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_pattern(48, 32, 2 * KEYINT))

    def shrink(event: EncodeProgress) -> None:
        if event.stage == "plan":
            write_clip(source, moving_pattern(48, 32, KEYINT + 1))

    with pytest.raises(nervcodec.InputVideoError, match="has changed since"):
        encode(source, tmp_path / "out.hfsv", 2, shrink)
    assert not (tmp_path / "out.hfsv").exists()


def test_what_the_first_reading_warned_of_is_in_the_report(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.264", moving_pattern(48, 32, 2 * KEYINT))
    report = encode(source, tmp_path / "out.hfsv", 2)
    assert any("no timestamp" in warning for warning in report.warnings)
