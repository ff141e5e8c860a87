"""Folders of pictures as source and as output."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import nervcodec
from nervcodec.cli import main as cli_main
from nervcodec.decoder import DecodeConfig, decode
from nervcodec.errors import InputVideoError, OutputError, OutputExistsError
from nervcodec.info import probe
from nervcodec.video.inputs import find_source
from nervcodec.video.reader import VideoReader
from nervcodec.video.still import png
from nervcodec.video.uncompressed import picture_name
from tests.synthetic import moving_pattern

TINY = ("--params", "9000", "--epochs", "1", "--threads", "1")
WIDTH, HEIGHT, FRAMES = 48, 32, 4


def run(*arguments: object) -> int:
    """Run ``hfsv`` in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hfsv", *map(str, arguments)])
        return cli_main._run()


def numbered(folder: Path, *names: str) -> list[np.ndarray]:
    """PNG files of these names in ``folder``; the pictures, all different, in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = list(moving_pattern(24, 16, len(names)))
    for name, rgb in zip(names, pictures, strict=True):
        (folder / name).write_bytes(png(rgb))
    return pictures


def read(folder: Path) -> list[np.ndarray]:
    return [frame.rgb for frame in VideoReader(folder)]


def compressed(rgb: np.ndarray, codec: str, pixel_format: str) -> bytes:
    """One picture by an encoder of FFmpeg's."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = rgb.shape[:2]
    encoder.pix_fmt, encoder.time_base = pixel_format, Fraction(1)
    frame = av.VideoFrame.from_ndarray(rgb).reformat(format=pixel_format)
    return b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)])


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, encoded at 24 a second."""
    folder = tmp_path_factory.mktemp("coded")
    (folder / "frames").mkdir()
    for number, rgb in enumerate(moving_pattern(WIDTH, HEIGHT, FRAMES)):
        (folder / "frames" / f"f{number:03d}.png").write_bytes(png(rgb))
    source, output = f"{folder}/frames/", folder / "out.hfsv"
    assert run("encode", "-q", source, output, "--input-rate", "24", *TINY) == 0
    return output


@pytest.fixture(scope="module")
def frames(coded: Path) -> np.ndarray:
    """What the networks of ``coded`` make."""
    with nervcodec.open(coded) as clip:
        return clip[:]


def pictures_in(folder: Path) -> dict[str, np.ndarray]:
    """The PNG files of a folder, read by PyAV alone."""
    found = {}
    for path in sorted(folder.glob("*.png")):
        with av.open(str(path)) as container:
            found[path.name] = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return found


# In


@pytest.mark.parametrize(
    "names",
    [
        ("a0001.png", "a0002.png", "a0003.png"),
        ("8.png", "9.png", "10.png", "11.png"),
        ("img7.png", "img30.png", "img200.png"),
        ("v2_shot1_099.png", "v2_shot1_0100.png", "v2_shot1_101.png"),
        ("1_left.PNG", "2_left.png", "10_left.Png"),
        ("100%d_1.png", "100%d_2.png", "100%d_10.png"),
        ("[a-z]*?{1}-1.png", "[a-z]*?{1}-2.png"),
        ("-1.png", "-2.png"),
        ("a:1.png", "a:2.png"),
        ("\N{SNOWMAN} 1.png", "\N{SNOWMAN} 2.png"),
        ("only.png",),
    ],
    ids=str,
)
def test_pictures_come_in_the_order_of_their_numbers(tmp_path, names):
    folder = tmp_path / "100%03d [of*] them"
    pictures = numbered(folder, *names)
    assert np.array_equal(read(folder), pictures)


def test_a_name_that_is_no_text(tmp_path):
    names = [os.fsdecode(b"\xff%d.png" % number) for number in (1, 2)]
    try:
        pictures = numbered(tmp_path / "in", *names)
    except OSError:
        pytest.skip("the file system takes only text")
    assert np.array_equal(read(tmp_path / "in"), pictures)


def test_what_is_no_picture_is_passed_over(tmp_path):
    pictures = numbered(tmp_path, "a1.png", "a2.png")
    (tmp_path / "Thumbs.db").touch()
    (tmp_path / "notes.txt").write_text("3")
    (tmp_path / ".a3.png").touch()
    (tmp_path / "a4.png").mkdir()
    os.mkfifo(tmp_path / "a5.png")
    (tmp_path / "a6.png").symlink_to("nowhere")
    assert np.array_equal(read(tmp_path), pictures)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format", "off"),
    [
        (".jpg", "mjpeg", "yuvj444p", 12),
        (".JPEG", "mjpeg", "yuvj444p", 12),
        (".tif", "tiff", "rgb24", 0),
        (".tiff", "tiff", "rgb24", 0),
        (".bmp", "bmp", "bgr24", 0),
    ],
)
def test_other_kinds_of_pictures(tmp_path, suffix, codec, pixel_format, off):
    pictures = moving_pattern(24, 16, 3)
    for number, rgb in enumerate(pictures):
        (tmp_path / f"p{number}{suffix}").write_bytes(compressed(rgb, codec, pixel_format))
    found = np.array(read(tmp_path))
    assert found.shape == pictures.shape
    assert np.abs(found.astype(int) - pictures).max() <= off


def test_a_photograph_is_turned_as_it_says(tmp_path):
    """By EXIF, which PyAV does not know."""
    jpeg = compressed(moving_pattern(24, 16, 1)[0], "mjpeg", "yuvj444p")
    turned = struct.pack("<HHHII", 1, 0x112, 3, 1, 6) + bytes(4)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + turned
    marked = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    (tmp_path / "1.jpg").write_bytes(marked)
    reader = VideoReader(tmp_path)
    assert reader.info.rotation == 270
    assert next(iter(reader)).rgb.shape == (16, 24, 3)


@pytest.mark.parametrize("rate", [None, Fraction(30000, 1001)])
def test_pictures_have_the_rate_that_is_asked_for(tmp_path, rate):
    numbered(tmp_path, "1.png", "3.png", "4.png")
    reader = VideoReader(find_source(tmp_path, rate=rate))
    times = [frame.pts * reader.info.time_base for frame in reader]
    expected = rate or Fraction(25)
    assert times == [place / expected for place in range(3)]
    assert reader.info.frame_rate == expected
    assert (reader.warnings, reader.info.warnings) == ([], ())


def broken(folder: Path) -> None:
    numbered(folder, *(f"{number}.png" for number in range(1, 6)))
    data = bytearray((folder / "3.png").read_bytes())
    data[len(data) // 2] ^= 255
    (folder / "3.png").write_bytes(data)


def broken_at_once(folder: Path) -> None:
    numbered(folder, "1.png", "2.png")
    (folder / "1.png").write_bytes(b"no picture")


def cut_short(folder: Path) -> None:
    for number, rgb in enumerate(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3))):
        data = compressed(rgb.astype(np.uint8), "mjpeg", "yuvj444p")
        (folder / f"{number}.jpg").write_bytes(data[: len(data) // 2] if number == 1 else data)


def empty_picture(folder: Path) -> None:
    numbered(folder, "1.png", "2.png")
    (folder / "2.png").write_bytes(b"")


def two_sizes(folder: Path) -> None:
    numbered(folder, "1.png", "2.png", "3.png")
    (folder / "3.png").write_bytes(png(np.zeros((20, 24, 3), np.uint8)))


FOLDERS = [
    (lambda folder: None, "in: is a folder without pictures"),
    (lambda folder: (folder / "x.mp4").touch(), "in: is a folder without pictures"),
    (lambda folder: numbered(folder, "a1.png", "b1.png"), "2 sequences of pictures (a*.png, b*"),
    (lambda folder: numbered(folder, "a1.png", "cover.png"), "2 sequences"),
    (lambda folder: numbered(folder, "s1_1.png", "s1_2.png", "s2_1.png"), "(s1_*.png, s2_*.png"),
    (lambda folder: numbered(folder, "a1.png", "a01.png"), "2 pictures of the folder have the nu"),
    (broken, "in: the picture 3.png cannot be decoded"),
    (broken_at_once, "in: the picture 1.png cannot be decoded"),
    (cut_short, "in: the picture 1.jpg cannot be decoded"),
    (empty_picture, "2.png: the file is empty"),
    (two_sizes, "in: the picture changes from 24x16 to 24x20 at frame 2"),
]


@pytest.mark.parametrize(("make", "message"), FOLDERS, ids=[message for _, message in FOLDERS])
def test_bad_folders(tmp_path, capfd, make, message):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    assert run("encode", tmp_path / "in", tmp_path / "out.hfsv", *TINY) == 3
    lines = [line for line in capfd.readouterr().err.splitlines() if "rror" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputVideoError, match="the folder cannot be read: permission denied"):
        find_source(tmp_path)


def test_the_source_is_known_by_all_pictures_in_order(coded):
    joined = b"".join(path.read_bytes() for path in sorted((coded.parent / "frames").iterdir()))
    assert probe(coded).meta["source"] == hashlib.sha256(joined).hexdigest()[:32]
    assert probe(coded).average_frame_rate == 24


def test_a_file_is_verified_against_the_folder(coded, capfd):
    assert run("verify", coded, "--source", coded.parent / "frames") == 0
    assert "PSNR" in capfd.readouterr().err


# Out


@pytest.mark.parametrize("name", ["new/", "there", "there/", "link/"])
def test_pictures_have_the_very_samples(coded, tmp_path, frames, name):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    assert run("decode", "-q", coded, f"{tmp_path}/{name}") == 0
    found = pictures_in(tmp_path / name)
    assert list(found) == ["00001.png", "00002.png", "00003.png", "00004.png"]
    assert np.array_equal(list(found.values()), frames)
    assert sorted((tmp_path / name).iterdir()) == sorted((tmp_path / name).glob("0*.png"))
    assert not list(tmp_path.glob(".*"))
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_format_makes_a_folder_too(coded, tmp_path):
    report = decode(coded, tmp_path / "x", DecodeConfig(format="png", start=2))
    assert report.warnings == ()
    assert sorted(pictures_in(tmp_path / "x")) == ["00001.png", "00002.png"]


def test_a_folder_with_files_is_left_alone(coded, tmp_path, capfd):
    (tmp_path / "note.txt").write_text("mine")
    assert run("decode", coded, tmp_path) == 6
    assert "-y" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_overwriting_replaces_the_same_names_alone(coded, tmp_path, frames):
    for name in ("00002.png", "00009.png", "note.txt", "1.png"):
        (tmp_path / name).write_text("old")
    report = decode(coded, tmp_path, DecodeConfig(overwrite=True))
    names = {f"0000{number}.png" for number in range(1, 5)}
    assert {path.name for path in tmp_path.iterdir()} == names | {"00009.png", "note.txt", "1.png"}
    for name in ("00009.png", "note.txt", "1.png"):
        assert (tmp_path / name).read_text() == "old"
    for number in range(1, 5):
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / f"0000{number}.png").rename(tmp_path / "one" / f"{number}.png")
    assert np.array_equal(list(pictures_in(tmp_path / "one").values()), frames)
    assert len(report.warnings) == 1
    assert "00009.png" in report.warnings[0]


def test_a_folder_of_a_pictures_name_stays(coded, tmp_path):
    (tmp_path / "00003.png").mkdir()
    with pytest.raises(OutputError, match=r"00003\.png: is a folder"):
        decode(coded, tmp_path, DecodeConfig(overwrite=True))
    assert [path.name for path in tmp_path.iterdir()] == ["00003.png"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing(coded, tmp_path, monkeypatch, existing):
    folder = tmp_path / "out"
    if existing:
        folder.mkdir()
    write = Path.write_bytes

    def fill(path: Path, data: bytes) -> int:
        if path.name == "00003.png":
            write(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OutputError, match=r"out: cannot be written .*No space left"):
        decode(coded, folder, DecodeConfig(format="png"))
    assert list(tmp_path.rglob("*")) == [folder] * existing


@pytest.mark.parametrize("name", ["file/", "nowhere/new/"])
def test_a_folder_that_cannot_be(coded, tmp_path, capfd, name):
    (tmp_path / "file").touch()
    assert run("decode", coded, f"{tmp_path}/{name}") == 1
    assert "folder" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_may_not_be_written(coded, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match="not writable"):
        decode(coded, tmp_path / "new", DecodeConfig(format="png"))


def test_refusals_come_before_the_work(coded, tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    monkeypatch.setattr("nervcodec.decoder.HfsvFile", lambda *a, **k: sys.exit("was opened"))
    with pytest.raises(OutputExistsError):
        decode(coded, tmp_path)


def test_pictures_go_there_and_back(coded, tmp_path, frames):
    decode(coded, tmp_path / "out", DecodeConfig(format="png"))
    assert np.array_equal(read(tmp_path / "out"), frames)


def test_names_of_very_many_pictures_stay_in_order():
    assert [picture_name(n) for n in (1, 99999, 100000)] == ["00001.png", "99999.png", "100000.png"]
