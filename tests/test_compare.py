"""``hfsv compare`` on a tiny clip: its figures, its resuming, its files, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import nervcodec
from nervcodec.cli.main import cli
from nervcodec.compare.anchors import encode_anchor
from nervcodec.compare.measures import METRICS, left_out
from nervcodec.compare.points import OURS, measure_hfsv
from nervcodec.compare.reference import Reference, Selection
from nervcodec.compare.report import byte_groups
from nervcodec.errors import HfsvError, OutputExistsError, UsageError
from tests.synthetic import SMALLEST, moving_pattern, write_clip

FRAMES = 12
CODED = replace(SMALLEST, crop=(96, 80), size=(80, 64), start=timedelta(seconds=0.08), frames=8)
"""Cropped, scaled, and a part: what is compared must be these frames."""

QUICK = ("--presets", "ultrafast", "--crfs", "20,28,36,44", "--threads", "1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    grain = np.random.default_rng(3).normal(0, 9, (FRAMES, 96, 112, 3))
    frames = np.clip(moving_pattern(112, 96, FRAMES) + grain, 0, 255).astype(np.uint8)
    return write_clip(folder / "clip.mp4", frames, audio=True)


@pytest.fixture(scope="module")
def files(source: Path) -> list[Path]:
    """Two files of other sizes, one with sound."""
    made = []
    for params in (4000, 9000):
        model = replace(CODED.model, params=params)
        made.append(source.parent / f"ours-{params}.hfsv")
        nervcodec.encode(source, made[-1], replace(CODED, model=model, audio=params == 4000))
    return made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)], standalone_mode=False)


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


@pytest.fixture(scope="module")
def report(source: Path, files: list[Path]) -> Path:
    folder = source.parent / "report"
    given = [part for path in files for part in ("--hfsv", path)]
    done = run(source, *given, *QUICK, "-o", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_the_files_are_there(report: Path) -> None:
    names = {path.name for path in report.iterdir()}
    assert names == {"index.html", "results.json", "results.csv", "rd.svg", "rd.png"}
    assert (report / "rd.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (report / "rd.svg").read_text()


def test_the_frames_are_those_that_the_file_codes(
    report: Path, source: Path, files: list[Path]
) -> None:
    found = results(report)
    reference = found["reference"]
    assert (reference["width"], reference["height"], reference["frames"]) == (80, 64, 8)
    assert reference["selection"] == {
        "crop": [96, 80],
        "size": [80, 64],
        "start": 0.08,
        "frames": 8,
    }
    ours = [point for point in found["points"].values() if point["codec"] == OURS]
    assert [point["setting"] for point in ours] == [path.name for path in files]
    for point, path in zip(ours, files, strict=True):
        verified = nervcodec.verify(path, source=source)
        assert point["quality"]["psnr"] == pytest.approx(verified.psnr)
        assert point["quality"]["psnr_611"] == pytest.approx(verified.psnr_611)
        info = nervcodec.probe(path)
        assert point["bytes"] == info.file_bytes - info.audio_bytes
        assert len(point["frame_psnr"]) == 8
        assert np.mean(point["frame_psnr"]) == pytest.approx(point["quality"]["psnr"], abs=0.01)
        assert point["details"]["same_source"]
    assert nervcodec.probe(files[0]).audio_bytes > 0


def test_anchors_are_measured_as_by_themselves(report: Path, source: Path) -> None:
    reference = Reference(source, Selection((96, 80), (80, 64), timedelta(seconds=0.08), frames=8))
    by_name = {
        (p["codec"], p["setting"]): p
        for p in results(report)["points"].values()
        if p["matches"] is None
    }
    for label, name in (("x264", "libx264"), ("x265", "libx265")):
        alone = encode_anchor(
            reference, name, "ultrafast", 28, reference.frame_rate, color=reference.color
        )
        point = by_name[label, "crf 28"]
        assert point["bytes"] == pytest.approx(alone.bytes, rel=0.01)
        assert point["quality"]["psnr"] == pytest.approx(alone.psnr, abs=0.05)
        assert point["quality"]["psnr_611"] == pytest.approx(alone.psnr_611, abs=0.05)
        assert sum(point["details"]["frame_types"].values()) == 8
        assert point["details"]["encoder"].startswith(label)


def test_each_anchor_is_matched_to_each_file(report: Path, files: list[Path]) -> None:
    found = results(report)
    matched = [p for p in found["points"].values() if p["matches"]]
    assert {(p["codec"], p["matches"]) for p in matched} == {
        (codec, path.name) for codec in ("x264", "x265") for path in files
    }
    sizes = {p["setting"]: p["bytes"] for p in found["points"].values() if p["codec"] == OURS}
    for point in matched:
        off = point["bytes"] / sizes[point["matches"]] - 1
        warned = any(point["matches"] in w and "misses" in w for w in found["warnings"])
        assert abs(off) < 0.02 or warned


def test_the_table_of_deltas_says_why_there_is_none(report: Path) -> None:
    rows = results(report)["bd"]
    ours = [row for row in rows if row["test"].startswith("hfsv")]
    assert {row["anchor"] for row in ours} == {"x264 ultrafast", "x265 ultrafast"}
    assert all(row["bd_rate"] is None for row in ours)
    assert all("2 of the 4 points" in row["rate_note"] for row in ours)
    anchors = [row for row in rows if row["test"] == "x265 ultrafast" and row["metric"] == "psnr"]
    assert len(anchors) == 1
    assert anchors[0]["bd_rate"] is not None


def test_the_csv_has_every_point(report: Path) -> None:
    with (report / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    points = results(report)["points"].values()
    assert sorted((row["codec"], int(row["bytes"])) for row in rows) == sorted(
        (point["codec"], point["bytes"]) for point in points
    )
    for row in rows:
        assert float(row["bpp"]) == pytest.approx(8 * int(row["bytes"]) / (80 * 64 * 8), abs=1e-6)
        assert float(row["kbps"]) == pytest.approx(
            8 * int(row["bytes"]) / (8 / 25) / 1000, abs=1e-3
        )


def test_what_cannot_be_measured_is_told(report: Path) -> None:
    reasons = left_out(METRICS, 80, 64)
    assert "ms-ssim" in reasons
    assert results(report)["left_out"] == {
        name: why for name, why in reasons.items() if name != "vmaf"
    }


def test_a_second_run_measures_what_is_missing(
    report: Path, source: Path, files: list[Path]
) -> None:
    before = results(report)["points"]
    given = [part for path in files for part in ("--hfsv", path)]
    arguments = (source, *given, *QUICK, "-o", report)
    again = run(*arguments)
    assert "0 points measured, 14 from earlier runs" in again.output
    assert results(report)["points"] == before
    fewer = run(source, *given, *QUICK, "--codecs", "x264", "-o", report)
    assert "0 points measured, 8 from earlier runs" in fewer.output
    assert len(results(report)["points"]) == 8
    more = run(source, *given, *QUICK, "-o", report)
    assert "0 points measured, 14 from earlier runs" in more.output
    assert set(results(report)["points"]) == set(before)


def test_an_interrupted_run_is_gone_on_from(
    source: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    arguments = (source, "--hfsv", files[0], *QUICK, "--codecs", "x264", "-o", tmp_path / "r")
    with monkeypatch.context() as patched:
        patched.setattr("nervcodec.compare.comparison.measure_anchor", stop)
        stopped = run(*arguments)
    assert stopped.return_value == 130
    assert "the same command goes on" in stopped.output
    assert len(results(tmp_path / "r")["points"]) == 1
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert "5 points measured, 1 from earlier runs" in done.output


def test_results_of_other_frames_are_not_replaced_unasked(
    source: Path, report: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "results.json").write_bytes((report / "results.json").read_bytes())
    arguments = (source, "--frames", "3", *QUICK, "--codecs", "x264", "-o", folder)
    refused = run(*arguments)
    assert isinstance(refused.exception, OutputExistsError)
    assert run(*arguments, "-y").exit_code == 0
    assert results(folder)["reference"]["frames"] == 3


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', "{"])
def test_results_that_cannot_be_read(source: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    done = run(source, *QUICK, "-o", tmp_path)
    assert isinstance(done.exception, HfsvError)
    assert "cannot be read as results" in str(done.exception)


def test_anchors_alone(source: Path, tmp_path: Path) -> None:
    done = run(source, "--size", "64x64", "--frames", 4, *QUICK, "--json", "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["type"], last["measured"], last["reused"]) == ("result", 8, 0)
    assert results(tmp_path / "r")["layers"] == {}


def test_codecs_tuned_for_a_measure(source: Path, report: Path, tmp_path: Path) -> None:
    part = ("--crop", "96x80", "--size", "80x64", "-ss", "0.08", "--frames", 8)
    done = run(source, *part, *QUICK, "--tune", "psnr", "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    tuned = results(tmp_path / "r")
    assert "x264 ultrafast tune psnr" in {row["anchor"] for row in tuned["bd"]}
    plain = {
        (p["codec"], p["setting"]): p
        for p in results(report)["points"].values()
        if p["matches"] is None
    }
    for point in tuned["points"].values():
        assert point["tune"] == "psnr"
        assert (
            point["details"]["encoder"]
            != plain[point["codec"], point["setting"]]["details"]["encoder"]
        )
    assert "-tune psnr -crf N" in (tmp_path / "r" / "index.html").read_text()


def test_raw_video(source: Path, tmp_path: Path) -> None:
    frames = moving_pattern(64, 64, 4)
    (tmp_path / "in.rgb").write_bytes(frames.tobytes())
    described = ("--input-res", "64x64", "--input-fmt", "rgb24", "--input-rate", "50/3")
    made = ("--encode", "--params", "3k", "--epochs", 1, "--arch", "hnerv")
    folder = tmp_path / "r"
    done = run(tmp_path / "in.rgb", *described, *made, *QUICK, "--codecs", "x264", "-o", folder)
    assert done.exit_code == 0, done.output
    reference = results(folder)["reference"]
    assert (reference["frames"], reference["frame_rate"]) == (4, "50/3")


def test_files_are_made_and_kept(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    ours = ("--encode", "--params", "3k,6k", "--epochs", 1, "--arch", "hnerv", "--batch", 8)
    arguments = (source, "--size", "64x48", "--codecs", "x264", *ours, *QUICK, "-o", folder)
    assert run(*arguments).exit_code == 0
    made = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.hfsv")}
    assert set(made) == {"params-3000.hfsv", "params-6000.hfsv"}
    points = [p for p in results(folder)["points"].values() if p["codec"] == OURS]
    assert all(point["encode_seconds"] > 0 for point in points)
    again = run(*arguments)
    assert "0 points measured" in again.output
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.hfsv")} == made
    assert "params-3000.hfsv.checkpoint" not in {path.name for path in folder.iterdir()}
    other = run(*arguments, "--seed", "5")
    assert other.exit_code == 0, other.output
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.hfsv")} != made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--codecs", "vp9"), "unknown codec 'vp9'"),
        (("--presets", "swift"), "unknown preset 'swift'"),
        (("--metrics", "psnr,beauty"), "unknown metric 'beauty'"),
        (("--crfs", "a"), "--crfs a"),
        (("--codecs", ","), "--codecs: at least one"),
    ],
)
def test_requests_that_cannot_be(
    source: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run(source, *arguments, "-o", tmp_path / "r")
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
    assert not (tmp_path / "r" / "index.html").exists()


def test_files_that_do_not_go_together(source: Path, files: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.hfsv"
    nervcodec.encode(source, other, SMALLEST)
    mixed = run(source, "--hfsv", files[0], "--hfsv", other, "-o", tmp_path / "r")
    assert "do not code the same frames" in str(mixed.exception)
    both = run(source, "--hfsv", files[0], "--size", "64x64", "-o", tmp_path / "r")
    assert "say which frames they code" in str(both.exception)
    made = run(source, "--hfsv", files[0], "--encode", "-o", tmp_path / "r")
    assert "not both" in str(made.exception)


def test_more_than_8_bits_are_refused(source: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep.hfsv"
    nervcodec.encode(source, deep, replace(SMALLEST, bit_depth=10))
    done = run(source, "--hfsv", deep, "-o", tmp_path / "r")
    assert "has 10 bits a sample" in str(done.exception)


def test_the_extras_are_asked_for_before_anything_is_made(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervcodec.compare.comparison.EXTRAS", ("json", "no_such_package"))
    done = run(source, "-o", tmp_path / "r")
    assert str(done.exception) == (
        "no_such_package not installed: pip install 'nervcodec[compare]'"
    )
    assert not (tmp_path / "r").exists()


def test_a_file_of_another_source_is_warned_of(
    source: Path, files: list[Path], tmp_path: Path
) -> None:
    other = write_clip(tmp_path / "other.mp4", moving_pattern(112, 96, FRAMES))
    done = run(other, "--hfsv", files[1], *QUICK, "--codecs", "x264", "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    assert "was not made of this very source" in done.output
    short = write_clip(tmp_path / "short.mp4", moving_pattern(112, 96, 5))
    refused = run(short, "--hfsv", files[1], "-o", tmp_path / "s")
    assert "has 3 of the 8 frames" in str(refused.exception)


def test_a_long_clip_is_read_anew_each_time(
    source: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = Selection((96, 80), (80, 64), timedelta(seconds=0.08), frames=8)
    held = measure_hfsv(Reference(source, selection), files[1], ["psnr"])
    monkeypatch.setattr("nervcodec.compare.reference.HELD_BYTES", 1)
    anew = measure_hfsv(Reference(source, selection), files[1], ["psnr"])
    assert anew.quality == held.quality


def test_the_bytes_of_a_file_add_up(files: list[Path]) -> None:
    for path in files:
        groups = dict(byte_groups(path))
        assert sum(groups.values()) == pytest.approx(path.stat().st_size, abs=1)
        assert ("sound and subtitles" in groups) == (path == files[0])
        assert groups["embeddings"] > 0


def test_the_page_stands_alone(report: Path) -> None:
    text = (report / "index.html").read_text()
    without_data = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S)
    assert not re.findall(r'(?:src|href)\s*=\s*"', without_data)
    assert "import(" not in without_data
    assert "fetch(" not in without_data
    assert re.search(r"@[A-Z]+@", without_data) is None


def test_a_name_cannot_break_out_of_the_page(source: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "@DATA@<!--<script>$x$.mp4"
    hostile.write_bytes(source.read_bytes())
    done = run(hostile, "--frames", 2, *QUICK, "--codecs", "x264", "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r" / "index.html").read_text()
    assert "<!--" not in text
    assert text.count("@DATA@") == 3, "in the title, and in the data twice"
    assert text.count("<script") == 2
