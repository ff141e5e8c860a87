"""Frames by index as arrays and tensors, in data loaders, as PNG files, and parts of clips."""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.packet import Packet
from damaged_files import (
    FIRSTS,
    FRAMES,
    HEADER,
    LAST_DURATION,
    LENGTHS,
    PTS,
    clip,
    segments,
    without_segments,
)
from format_helpers import assemble, disassemble
from torch.utils.data import DataLoader

import nervcodec
from nervcodec.bitstream.stream import AudioData, StreamContents, write_stream
from nervcodec.bitstream.tensors import Limits
from nervcodec.cli import main as cli_main
from nervcodec.cli.position import position
from nervcodec.clip import HfsvFile
from nervcodec.decoder import DecodeConfig, decode
from nervcodec.errors import BitstreamError, LimitError, UsageError
from nervcodec.fast.network import prepared_bytes, supported
from nervcodec.inference import NETWORK_OVERHEAD, RendererCache, network_bytes
from nervcodec.loader import FrameDataset
from nervcodec.video.cut import cut
from nervcodec.video.passthrough import extract
from nervcodec.video.still import png
from tests.synthetic import moving_pattern, read_back, write_clip

SEGMENT_OF = [number for number, length in enumerate(LENGTHS) for _ in range(length)]


@pytest.fixture(scope="module")
def sound_track(tmp_path_factory: pytest.TempPathFactory) -> AudioData:
    source = tmp_path_factory.mktemp("sound") / "in.mp4"
    write_clip(source, moving_pattern(16, 16, 15), audio=True)
    carried = extract(source)
    assert carried is not None
    return AudioData(carried.container, carried.data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sound_track: AudioData) -> Path:
    """``sound.hfsv`` with sound, and ``damaged.hfsv`` without frames 2, 7 and 8."""
    folder = tmp_path_factory.mktemp("files")
    data = clip(sound_track)
    (folder / "sound.hfsv").write_bytes(data)
    (folder / "damaged.hfsv").write_bytes(without_segments(data, 1, 4))
    return folder


@pytest.fixture
def file(folder: Path) -> Iterator[HfsvFile]:
    with nervcodec.open(folder / "sound.hfsv", device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def frames(folder: Path) -> np.ndarray:
    """All frames, each by itself."""
    with HfsvFile(folder / "sound.hfsv") as opened:
        return np.stack([opened[number] for number in range(FRAMES)])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of each segment whose symbols are decoded."""
    numbers: list[int] = []
    original = StreamContents.segment

    def counted(self: StreamContents, number: int) -> object:
        numbers.append(self.segments[number].index)
        return original(self, number)

    monkeypatch.setattr(StreamContents, "segment", counted)
    return numbers


def run(*arguments: object) -> int:
    """Run ``hfsv`` in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hfsv", *map(str, arguments)])
        return cli_main._run()


# --- indices ------------------------------------------------------------------------------------

MASK = np.arange(FRAMES) % 3 == 1
CHOICES = [
    slice(None),
    slice(2, 7),
    slice(-3, None),
    slice(None, None, -3),
    slice(4, 4),
    range(1, 9, 4),
    range(9, -1, -2),
    range(-2, 2),
    [],
    [4],
    [9, 0, -1, 0, 3, 3, 8, 2],
    (5, 1),
    np.array([7, -10, 3]),
    np.array([250 % FRAMES, 9], dtype=np.uint8),
    np.array([], dtype=np.int32),
    torch.tensor([6, -2]),
    MASK,
    ~MASK,
    MASK.tolist(),
    torch.from_numpy(MASK),
    np.zeros(FRAMES, dtype=bool),
]


def expected(frames: np.ndarray, index: object) -> np.ndarray:
    if isinstance(index, slice):
        return frames[index].copy()
    array = np.asarray(index)
    return frames[array if array.size else []].copy()


@pytest.mark.parametrize("index", CHOICES, ids=repr)
def test_several_frames(file: HfsvFile, frames: np.ndarray, index: object) -> None:
    stack = file[index]
    assert stack.dtype == np.uint8
    assert np.array_equal(stack, expected(frames, index))
    one_by_one = list(file.frames(index)) if not isinstance(index, slice) else list(stack)
    assert np.array_equal(one_by_one, stack) or not len(stack)


@pytest.mark.parametrize("index", [0, 9, -1, -10, np.int8(3), np.array(4), torch.tensor(5)])
def test_one_frame(file: HfsvFile, frames: np.ndarray, index: int) -> None:
    assert np.array_equal(file[index], frames[int(index)])
    assert torch.equal(
        file.tensors(index, dtype=torch.uint8, layout="nhwc"), torch.from_numpy(frames[int(index)])
    )


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (10, IndexError),
        (-11, IndexError),
        (2**70, IndexError),
        ([3, 10], IndexError),
        ([3, 2**70], IndexError),
        (range(5, 11), IndexError),
        (range(-11, 3), IndexError),
        (np.array([-11]), IndexError),
        ([[1, 2], [3, 4]], IndexError),
        (np.ones(9, dtype=bool), IndexError),
        (1.0, (TypeError, IndexError)),
        ([1.0], TypeError),
        (["1"], TypeError),
    ],
    ids=repr,
)
def test_indices_that_are_none(
    file: HfsvFile, decoded: list[int], index: object, error: type[Exception]
) -> None:
    for ask in (file.__getitem__, file.tensors):
        with pytest.raises(error):
            ask(index)
    assert decoded == []


def test_lost_frames_are_told_before_any_is_made(folder: Path, decoded: list[int]) -> None:
    with HfsvFile(folder / "damaged.hfsv", salvage=True) as damaged:
        for ask in (damaged.__getitem__, damaged.tensors):
            with pytest.raises(BitstreamError, match="frame 7 is lost"):
                ask([0, 7, 9])
        assert decoded == []


def test_a_closed_file_says_so(folder: Path) -> None:
    opened = HfsvFile(folder / "sound.hfsv")
    assert opened[0].any()
    opened.close()
    with pytest.raises(UsageError, match="closed"):
        opened[0]


# --- tensors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", CHOICES, ids=repr)
def test_tensors_hold_the_samples_of_the_arrays(
    file: HfsvFile, frames: np.ndarray, index: object
) -> None:
    samples = torch.from_numpy(expected(frames, index))
    planes = samples.permute(0, 3, 1, 2)
    assert torch.equal(file.tensors(index, dtype=torch.uint8), planes)
    assert torch.equal(file.tensors(index), planes.float() / 255)
    assert torch.equal(file.tensors(index, dtype=torch.uint8, layout="nhwc"), samples)
    for dtype in (torch.float16, torch.bfloat16):
        tensor = file.tensors(index, dtype=dtype, layout="nhwc")
        assert tensor.dtype == dtype
        assert torch.equal((tensor.double() * 255).round().to(torch.uint8), samples)


def test_tensors_are_fit_for_a_training(file: HfsvFile) -> None:
    layer = torch.nn.Conv2d(3, 1, 3)
    for batch in (file.tensors([1, 2]), FrameDataset(file)[3][None]):
        assert batch.is_contiguous()
        assert not batch.is_inference()
        layer(batch).square().sum().backward()
        assert layer.weight.grad is not None
        batch.mul_(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtype": torch.int32}, "int32"), ({"layout": "chw"}, "chw"), ({"layout": ""}, "layout")],
)
def test_unknown_kinds_of_tensor(file: HfsvFile, options: dict[str, str], message: str) -> None:
    for ask in (lambda: file.tensors([0], **options), lambda: FrameDataset(file, **options)):
        with pytest.raises(UsageError, match=message):
            ask()


def test_an_unknown_device(folder: Path) -> None:
    with (
        HfsvFile(folder / "sound.hfsv", device="cuda:77") as opened,
        pytest.raises(UsageError, match="cuda:77"),
    ):
        opened.tensors([0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_tensors_stay_on_the_gpu(folder: Path) -> None:
    with HfsvFile(folder / "sound.hfsv", device="cuda") as opened:
        tensor = opened.tensors(slice(None), dtype=torch.uint8, layout="nhwc")
        assert tensor.device.type == "cuda"
        assert np.array_equal(tensor.cpu().numpy(), opened[:])


# --- networks that are kept ---------------------------------------------------------------------


def test_a_network_is_built_once_for_random_access(file: HfsvFile, decoded: list[int]) -> None:
    order = [9, 0, 4, 2, 7, 6, 1, 0, 9, 3, 8]
    for frame in order:
        file[frame]
    assert sorted(decoded) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("as_tensors", [False, True])
def test_a_stack_is_made_segment_by_segment(
    folder: Path, frames: np.ndarray, decoded: list[int], as_tensors: bool
) -> None:
    order = [9, 0, 4, 9, 2, 1, 5, 0, 2]
    with HfsvFile(folder / "sound.hfsv", cache_bytes=0) as opened:
        if as_tensors:
            stack = opened.tensors(order, dtype=torch.uint8, layout="nhwc").numpy()
        else:
            stack = opened[order]
        assert decoded == [5, 0, 2, 1]
        assert np.array_equal(stack, frames[order])
        decoded.clear()
        assert np.array_equal(list(opened.frames(order)), frames[order])
        assert decoded == [5, 0, 2, 5, 1, 0, 2, 0, 1]


def test_networks_at_hand_come_first(folder: Path, decoded: list[int]) -> None:
    with HfsvFile(folder / "sound.hfsv", cache_bytes=0) as opened:
        opened[9]
        opened[[0, 9, 2]]
    assert decoded == [5, 0, 1]


def test_the_latest_networks_are_kept(folder: Path, decoded: list[int]) -> None:
    with HfsvFile(folder / "sound.hfsv") as opened:
        sizes = [
            network_bytes(info.model, opened.width, opened.height, info.frames)
            for info in opened.reader.segments
        ]
    with HfsvFile(folder / "sound.hfsv", cache_bytes=sizes[0] + sizes[1] + sizes[3]) as opened:
        for segment, built in [(0, 1), (1, 1), (3, 1), (0, 0), (5, 1), (1, 1), (0, 0), (3, 1)]:
            before = len(decoded)
            opened[FIRSTS[segment]]
            assert len(decoded) - before == built, segment


def test_the_cache_makes_room_before_it_builds() -> None:
    cache = RendererCache(10)
    seen: list[list[int]] = []

    def build() -> object:
        seen.append([number for number in range(5) if number in cache])
        return object()

    kept = [cache.get(number, size, build) for number, size in [(0, 4), (1, 6), (2, 5), (3, 99)]]
    assert seen == [[], [0], [], []]
    assert cache.get(3, 99, build) is kept[3]
    cache.clear()
    cache.get(4, 10, build)
    assert cache.get(4, 10, build) is not kept[3]
    assert seen == [[], [0], [], [], []]
    cache.clear()
    cache.get(0, 4, build)
    cache.get(1, 6, build)
    assert 0 in cache


def test_a_whole_decode_keeps_one_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    original = RendererCache.get

    def counted(self: RendererCache, *arguments: object) -> object:
        renderer = original(self, *arguments)
        kept.append(sum(number in self for number in range(len(LENGTHS))))
        return renderer

    monkeypatch.setattr(RendererCache, "get", counted)
    decode(folder / "sound.hfsv", tmp_path / "out.mkv")
    assert kept == [1] * len(LENGTHS)


def test_network_bytes_are_those_of_its_values(file: HfsvFile) -> None:
    info = file.reader.segments[2]
    values = sum(tensor.symbols.size for tensor in file.reader.segment(2).tensors)
    estimate = network_bytes(info.model, file.width, file.height, info.frames)
    prepared = prepared_bytes(info.model, file.width, file.height) if supported(info.model) else 0
    assert estimate == 4 * values + NETWORK_OVERHEAD + prepared


# --- processes ----------------------------------------------------------------------------------


def test_a_pickled_file_is_opened_again(
    folder: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    limits = Limits(pixels=1234)
    with HfsvFile(
        "damaged.hfsv", device="cpu", salvage=True, limits=limits, cache_bytes=77
    ) as opened:
        data = pickle.dumps(opened)
    monkeypatch.chdir(tmp_path)
    with pickle.loads(data) as again:
        assert np.array_equal(again[5], frames[5])
        assert again.lost == [range(2, 3), range(7, 9)]
        assert again.__reduce__()[1][1:] == ("cpu", limits, True, 77)
        with pytest.raises(LimitError):
            again.check_clip_limits()


def test_a_forked_process_leaves_the_parents_place_alone(
    tmp_path: Path, frames: np.ndarray
) -> None:
    """In a file of which a buffer does not hold all, so that there is a place to keep."""
    chunks = disassemble(clip())
    chunks.insert(len(chunks) // 2, (0x45, bytes(1 << 17)))
    path = tmp_path / "long.hfsv"
    path.write_bytes(assemble(chunks))
    with HfsvFile(path) as opened:
        handle = opened._stream.fileno()
        place = os.lseek(handle, 0, os.SEEK_CUR)
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if np.array_equal(opened[:], frames) else 1)
            except BaseException:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert os.lseek(handle, 0, os.SEEK_CUR) == place
        assert np.array_equal(opened[:], frames)
        assert os.lseek(handle, 0, os.SEEK_CUR) != place


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loaders_with_workers(folder: Path, frames: np.ndarray, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method} is not known here")
    with HfsvFile(folder / "sound.hfsv", device="cpu") as opened:
        dataset = FrameDataset(opened, dtype=torch.uint8, layout="nhwc")
        workers = 2 if method == "fork" else 1
        loader = DataLoader(
            dataset, batch_size=4, num_workers=workers, multiprocessing_context=method
        )
        batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert np.array_equal(torch.cat(batches).numpy(), frames)


def test_a_loader_without_workers_asks_for_whole_batches(
    file: HfsvFile, frames: np.ndarray, decoded: list[int]
) -> None:
    dataset = FrameDataset(file)
    assert len(dataset) == FRAMES
    asked: list[list[int]] = []
    original = dataset.__getitems__
    dataset.__getitems__ = lambda indices: asked.append(indices) or original(indices)
    batches = list(DataLoader(dataset, batch_size=6, shuffle=True))
    assert [batch.shape for batch in batches] == [(6, 3, 12, 16), (4, 3, 12, 16)]
    order = list(itertools.chain(*asked))
    assert sorted(order) == list(range(FRAMES))
    planes = torch.from_numpy(frames[order]).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(torch.cat(batches), planes)


def test_a_dataset_leaves_lost_frames_out(folder: Path, frames: np.ndarray) -> None:
    with HfsvFile(folder / "damaged.hfsv", salvage=True) as damaged:
        dataset = FrameDataset(damaged, dtype=torch.uint8, layout="nhwc")
        kept = [0, 1, 3, 4, 5, 6, 9]
        assert len(dataset) == len(kept)
        assert np.array_equal(np.stack(list(dataset)), frames[kept])
        assert np.array_equal(dataset[-1], frames[9])


# --- positions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("3.5s", timedelta(seconds=3.5)),
        ("3s", timedelta(seconds=3)),
        ("1500ms", timedelta(seconds=1.5)),
        ("1:02", timedelta(seconds=62)),
        ("00:00:03.5", timedelta(seconds=3.5)),
        ("100:00:00.000001", timedelta(hours=100, microseconds=1)),
    ],
)
def test_positions_in_words(text: str, value: int | timedelta) -> None:
    assert position(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "3.5", "s", "-1s", "1e3", "1:60", "60:00", "1:99:00", "1:2:3:4", "nan", "inf s"),
        *("9" * 10, "9" * 10 + "s", "--json", "1 s", "1:-2", "\N{ARABIC-INDIC DIGIT THREE}"),
    ],
)
def test_positions_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="neither a frame's number nor a time"):
        position(text)


def ms(count: float) -> timedelta:
    return timedelta(milliseconds=count)


def test_the_frame_that_is_shown_at_a_time(file: HfsvFile) -> None:
    starts = [pts - PTS[0] for pts in PTS]
    for number, start in enumerate(starts):
        assert file.index_of(ms(start)) == number
        assert file.index_of(ms(start + 0.5)) == number
        if number:
            assert file.index_of(ms(start - 0.001)) == number - 1
        assert file.index_of(number) == number
        assert file.index_of(number - FRAMES) == number
    assert file.index_of(ms(489.999)) == FRAMES - 1


@pytest.mark.parametrize("where", [10, -11, ms(-1), ms(490), timedelta.max, timedelta.min])
def test_positions_outside_the_clip(file: HfsvFile, where: int | timedelta) -> None:
    with pytest.raises(UsageError, match="the clip"):
        file.index_of(where)


def test_a_time_as_it_is_printed_finds_its_frame(tmp_path: Path) -> None:
    """Of 30000/1001 frames a second no time is whole in microseconds."""
    from benchmarks.memory import write_noise
    from nervcodec.bitstream.syntax import StreamHeader

    path = tmp_path / "noise.hfsv"
    original = StreamHeader.__init__

    def ntsc(self: StreamHeader, **fields: object) -> None:
        original(self, **{**fields, "time_base": Fraction(1001, 30000)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StreamHeader, "__init__", ntsc)
        write_noise(path, 300)
    with HfsvFile(path) as opened:
        for number in range(300):
            printed = f"{float(number * opened.header.time_base):.6f}s"
            assert opened.index_of(position(printed)) == number


# --- hfsv frame ---------------------------------------------------------------------------------


def read_png(path: Path) -> np.ndarray:
    with av.open(os.fspath(path)) as container:
        (frame,) = container.decode(video=0)
        assert frame.format.name == "rgb24"
        return frame.to_ndarray()


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (64, 48), (1, 300)])
def test_png_holds_the_samples(tmp_path: Path, size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(png(rgb))
    assert np.array_equal(read_png(tmp_path / "a.png"), rgb)
    assert png(rgb) == png(rgb.copy())


@pytest.mark.parametrize(
    ("where", "number"), [("4", 4), ("-1", 9), ("-10", 0), ("0.22s", 5), ("0:00.139", 2)]
)
def test_one_frame_as_png(
    folder: Path,
    frames: np.ndarray,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    decoded: list[int],
    where: str,
    number: int,
) -> None:
    output = tmp_path / "out.PNG"
    assert run("frame", folder / "sound.hfsv", where, output, "--threads", "1") == 0
    assert np.array_equal(read_png(output), frames[number])
    assert decoded == [SEGMENT_OF[number]]
    assert f"frame {number}, at {(PTS[number] - PTS[0]) / 1000:.6f} s" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == [output]


def test_several_frames_as_png(
    folder: Path, frames: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = folder / "sound.hfsv"
    assert run("frame", source, "-1", "2", "0", "9", tmp_path / "f%03d-%d.png", "--json") == 0
    assert {p.name for p in tmp_path.iterdir()} == {"f009-9.png", "f002-2.png", "f000-0.png"}
    for number in (0, 2, 9):
        assert np.array_equal(read_png(tmp_path / f"f00{number}-{number}.png"), frames[number])
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["frame"] for line in lines] == [9, 2, 0]
    assert lines[1]["seconds"] == 0.1
    assert lines[1]["output"] == str(tmp_path / "f002-2.png")


BAD = [
    (["sound.hfsv", "10", "new.png"], 2, "no frame 10"),
    (["sound.hfsv", "-11", "new.png"], 2, "no frame -11"),
    (["sound.hfsv", "9s", "new.png"], 2, "lasts 0.49"),
    (["sound.hfsv", "first", "new.png"], 2, "'first'"),
    (["sound.hfsv", "--frist", "1", "new.png"], 2, "'--frist'"),
    (["sound.hfsv", "1", "new.jpg"], 2, ".png"),
    (["sound.hfsv", "1", "2", "new.png"], 2, "%04d"),
    (["sound.hfsv", "1", "old.png"], 6, "exists"),
    (["sound.hfsv", "1", "no/new.png"], 1, "does not exist"),
    (["damaged.hfsv", "0", "new.png"], 4, "checksum"),
    (["damaged.hfsv", "2", "new.png", "--salvage"], 4, "lost"),
    (["missing.hfsv", "0", "new.png"], 4, "missing.hfsv"),
    (["sound.hfsv", "0", "new.png", "--max-params", "1"], 4, "--max-params"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=str)
def test_no_frame_and_no_debris(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "old.png").write_bytes(b"old")
    before = sorted(folder.rglob("*"))
    assert run("frame", *arguments) == code
    printed = capfd.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert sorted(folder.rglob("*")) == before
    assert (folder / "old.png").read_bytes() == b"old"


def test_overwriting_and_salvage_of_a_frame(
    folder: Path, frames: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "old.png"
    output.write_bytes(b"old")
    assert run("frame", folder / "damaged.hfsv", "3", output, "-y", "--salvage") == 0
    assert np.array_equal(read_png(output), frames[3])
    assert "lost" in capfd.readouterr().err
    assert run("frame", folder / "damaged.hfsv", "3", output, "-y", "--salvage", "-q") == 0
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


# --- parts of clips -----------------------------------------------------------------------------


def part_times(numbers: list[int], origin: int) -> list[Fraction]:
    return [Fraction(PTS[number] - PTS[origin], 1000) for number in numbers]


@pytest.mark.parametrize(
    ("start", "count", "part"),
    [
        (0, 1, range(0, 1)),
        (3, None, range(3, 10)),
        (-4, 2, range(6, 8)),
        (ms(110), 3, range(2, 5)),
        (9, 100, range(9, 10)),
        (2, 7, range(2, 9)),
    ],
)
def test_a_part_of_a_clip(
    folder: Path,
    frames: np.ndarray,
    tmp_path: Path,
    decoded: list[int],
    start: int | timedelta,
    count: int | None,
    part: range,
) -> None:
    calls: list[tuple[int, int]] = []
    output = tmp_path / "out.mkv"
    config = DecodeConfig(start=start, frames=count)
    report = decode(folder / "sound.hfsv", output, config, lambda *call: calls.append(call))
    assert decoded == sorted({SEGMENT_OF[number] for number in part})
    assert (report.frames, report.lost_frames) == (len(part), 0)
    assert calls == [(done, len(part)) for done in range(1, len(part) + 1)]
    read = read_back(output)
    assert np.array_equal(read.frames, frames[part])
    assert read.times == part_times(list(part), part.start)


@pytest.mark.parametrize(("start", "count", "lasts"), [(0, 2, 100), (3, 3, 160), (5, None, 270)])
def test_a_part_lasts_as_long_as_its_frames(
    folder: Path, tmp_path: Path, start: int, count: int | None, lasts: int
) -> None:
    output = tmp_path / "out.mp4"
    config = DecodeConfig(start=start, frames=count, preset="ultrafast")
    decode(folder / "sound.hfsv", output, config)
    with av.open(os.fspath(output)) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == Fraction(lasts, 1000)


@pytest.mark.parametrize(("start", "count"), [(0, 3), (1, 1), (3, 2), (4, None), (9, 1), (2, None)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_of_a_part(
    folder: Path, tmp_path: Path, start: int, count: int | None, suffix: str
) -> None:
    """The packets that are heard meanwhile, each as far from the picture as in the whole."""
    whole, part = tmp_path / f"whole{suffix}", tmp_path / f"part{suffix}"
    decode(folder / "sound.hfsv", whole)
    decode(folder / "sound.hfsv", part, DecodeConfig(start=start, frames=count))
    lasts = Fraction(1024, 16000)
    begin = Fraction(PTS[start], 1000)
    stop = FRAMES if count is None else start + count
    end = Fraction(PTS[stop], 1000) if stop < FRAMES else Fraction(10)
    packets = read_back(whole).audio
    wanted = [(data, time - begin) for data, time in packets if begin - lasts < time < end]
    heard = read_back(part).audio
    assert [data for data, _ in heard] == [data for data, _ in wanted]
    assert len(heard) >= 1
    tolerance = Fraction(1, 16000) if suffix == ".mp4" else Fraction(1, 1000)
    for (_, time), (_, right) in zip(heard, wanted, strict=True):
        assert abs(time - right) <= tolerance


def test_a_part_without_sound(folder: Path, tmp_path: Path) -> None:
    decode(folder / "sound.hfsv", tmp_path / "out.mp4", DecodeConfig(frames=2, audio=False))
    assert read_back(tmp_path / "out.mp4").audio == []


def test_the_whole_keeps_its_times(folder: Path, tmp_path: Path) -> None:
    configs = {
        "default": DecodeConfig(),
        "all": DecodeConfig(start=0, frames=FRAMES),
        "more": DecodeConfig(start=ms(0), frames=FRAMES + 1),
    }
    made = set()
    for name, config in configs.items():
        output = tmp_path / f"{name}.mp4"
        decode(folder / "sound.hfsv", output, config)
        assert read_back(output).times[0] == Fraction(PTS[0], 1000)
        made.add(output.read_bytes())
    assert len(made) == 1


@pytest.mark.parametrize(
    ("start", "count", "kept", "lost"),
    [
        (1, 4, [1, 3, 4], 1),
        (2, 3, [3, 4], 1),
        (5, 4, [5, 6], 2),
        (7, None, [9], 2),
        (3, 2, [3, 4], 0),
        (0, None, [0, 1, 3, 4, 5, 6, 9], 3),
    ],
)
def test_a_part_of_a_damaged_file(
    folder: Path,
    frames: np.ndarray,
    tmp_path: Path,
    start: int,
    count: int | None,
    kept: list[int],
    lost: int,
) -> None:
    config = DecodeConfig(start=start, frames=count, salvage=True)
    report = decode(folder / "damaged.hfsv", tmp_path / "out.mkv", config)
    assert (report.frames, report.lost_frames) == (len(kept), lost)
    read = read_back(tmp_path / "out.mkv")
    assert np.array_equal(read.frames, frames[kept])
    if report.frames + lost < FRAMES:
        assert read.times == part_times(kept, start)


def test_a_part_of_which_all_is_lost(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged, output = folder / "damaged.hfsv", tmp_path / "out.mp4"
    assert run("decode", damaged, output, "--salvage", "--start", "7", "--frames", "2") == 4
    assert "frames 7..8 are all lost" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "10"], "no frame 10"),
        (["--start", "-11"], "no frame -11"),
        (["--start", "1:00"], "lasts 0.49"),
        (["--start", "soon"], "'soon'"),
        (["--frames", "0"], "--frames"),
        (["--frames", "-3"], "--frames"),
    ],
)
def test_parts_that_are_none(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert run("decode", folder / "sound.hfsv", tmp_path / "out.mp4", *options) == 2
    assert message in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_frames_asked_of_the_library(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not 0"):
        decode(folder / "sound.hfsv", tmp_path / "out.mp4", DecodeConfig(frames=0))


def test_a_part_by_the_command_line(folder: Path, frames: np.ndarray, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    source = folder / "sound.hfsv"
    assert run("decode", source, output, "--start", "-3", "--frames", "2", "-q") == 0
    assert np.array_equal(read_back(output).frames, frames[7:9])
    assert run("decode", source, output, "-y", "--start", "0:00.22", "-q") == 0
    assert np.array_equal(read_back(output).frames, frames[5:])


def test_limits_count_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    limits = Limits(pixels=3 * 16 * 12)
    source, output = folder / "sound.hfsv", tmp_path / "out.mp4"
    with pytest.raises(LimitError):
        decode(source, output, DecodeConfig(limits=limits))
    with pytest.raises(LimitError):
        decode(source, output, DecodeConfig(limits=limits, start=4, frames=4))
    assert decode(source, output, DecodeConfig(limits=limits, start=4, frames=3)).frames == 3


# --- cutting what is passed through -------------------------------------------------------------


def test_nothing_is_left_of_what_is_not_heard(sound_track: AudioData) -> None:
    data, container = sound_track.data, sound_track.container
    assert cut(data, container, Fraction(100), None) is None
    assert cut(data, container, Fraction(-9), Fraction(-8)) is None


def test_a_packet_that_ends_where_the_part_begins_is_not_heard(sound_track: AudioData) -> None:
    begin = Fraction(3 * 1024, 16000)
    data = cut(sound_track.data, sound_track.container, begin, begin + Fraction(1, 10))
    assert data is not None
    with av.open(io.BytesIO(data)) as source:
        assert [p.pts for p in source.demux() if p.size] == [0, 1024]


def test_a_clip_may_go_on_when_its_sound_has_ended(tmp_path: Path, sound_track: AudioData) -> None:
    data = cut(sound_track.data, sound_track.container, Fraction(0), Fraction(1, 5))
    assert data is not None
    (tmp_path / "in.hfsv").write_bytes(clip(AudioData(sound_track.container, data)))
    decode(tmp_path / "in.hfsv", tmp_path / "out.mp4", DecodeConfig(start=6))
    read = read_back(tmp_path / "out.mp4")
    assert (len(read.times), read.audio) == (4, [])


def damaged_tracks(data: bytes) -> dict[str, bytes]:
    return {
        "text": b"not a file",
        "half": data[: len(data) // 2],
        "no streams": data.replace(b"trak", b"free"),
        "unknown codec": data.replace(b"mp4a", b"zzzz").replace(b"esds", b"free"),
        "video": data.replace(b"soun", b"vide"),
    }


@pytest.mark.parametrize("name", damaged_tracks(b""))
def test_damaged_sound_is_refused(sound_track: AudioData, name: str) -> None:
    bad = damaged_tracks(sound_track.data)[name]
    with pytest.raises(BitstreamError):
        cut(bad, sound_track.container, Fraction(1, 10), Fraction(3, 10))


Texts = list[tuple[int, int, str]]

ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,16,&Hffffff,2
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def subtitled(container: str, *tracks: Texts) -> bytes:
    """A file of tracks of timed texts, each text with its start and length in milliseconds."""
    buffer, tick = io.BytesIO(), Fraction(1, 1000)
    codec = {"mp4": "mov_text", "matroska": "subrip"}[container]
    with av.open(buffer, "w", format=container) as output:
        streams = [output.add_stream(codec) for _ in tracks]
        for stream in streams:
            stream.codec_context.subtitle_header = ASS_HEADER
            stream.time_base = stream.codec_context.time_base = tick
        output.start_encoding()
        for stream, texts in zip(streams, tracks, strict=True):
            for start, lasts, text in texts:
                length = len(text).to_bytes(2, "big") if container == "mp4" else b""
                packet = Packet(length + text.encode())
                packet.pts = packet.dts = start
                packet.duration, packet.time_base, packet.stream = lasts, tick, stream
                output.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_subtitles_are_cut_to_what_is_shown(container: str) -> None:
    texts = [(0, 400, "gone"), (500, 1000, "come on"), (1600, 300, "get in"), (2000, 500, "late")]
    data = subtitled(container, texts, [(0, 900, "other")])
    part = cut(data, container, Fraction(1), Fraction(2))
    assert part is not None
    with av.open(io.BytesIO(part)) as source:
        assert len(source.streams) == 1
        found = [(p.pts, p.dts, p.duration, bytes(p)[-2:]) for p in source.demux() if p.size > 2]
    assert found == [(0, 0, 500, b"on"), (600, 600, 300, b"in")]


# --- chapters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "count", "found"),
    [
        (0, None, [(50, 200, "a"), (200, 240, "b"), (300, 700, "c")]),
        (1, 2, [(0, 60, "a"), (60, 100, "b")]),
        (2, None, [(0, 40, "b"), (100, 500, "c")]),
        (4, 2, [(20, 120, "c")]),
        (0, 2, [(0, 100, "a")]),
        (3, 1, []),
    ],
)
def test_chapters_of_a_part(
    tmp_path: Path, start: int, count: int | None, found: list[tuple[int, int, str]]
) -> None:
    """Frames begin at 100, 140, 200, 240, 280, 320 and 400 ms."""
    million = 10**6
    chapters = [
        [50 * million, 200 * million, "a"],
        [200 * million, 240 * million, "b"],
        [300 * million, 700 * million, "c"],
    ]
    with (tmp_path / "in.hfsv").open("wb") as stream:
        meta = {"chapters": chapters, "title": "all of it"}
        write_stream(stream, HEADER, PTS, LAST_DURATION, segments(), None, meta, None)
    output = tmp_path / "out.mkv"
    decode(tmp_path / "in.hfsv", output, DecodeConfig(start=start, frames=count))
    with av.open(os.fspath(output)) as container:
        assert container.metadata["title"] == "all of it"
        seen = [
            (c["start"] * c["time_base"] * 1000, c["end"] * c["time_base"] * 1000)
            for c in container.chapters()
        ]
        titles = [c["metadata"]["title"] for c in container.chapters()]
    assert [(*times, title) for times, title in zip(seen, titles, strict=True)] == found
