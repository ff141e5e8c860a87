"""The tables' rows, their runs and the Markdown made of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nervcodec.bitstream.tensors import parameter_count
from nervcodec.rate_control import design_model
from tests.synthetic import moving_pattern, write_clip
from tools.paper_tables import experiments, markdown, results
from tools.paper_tables.__main__ import jobs
from tools.paper_tables.experiments import FULL, HFS, SMALL, Clip, Scale, Variant
from tools.paper_tables.tables import TABLES, Table


@pytest.mark.parametrize("scale", [SMALL, FULL])
def test_every_row_is_a_network_of_the_size_asked_for(scale: Scale) -> None:
    names: dict[str, Variant] = {}
    for table in TABLES.values():
        for row in table.rows:
            clip, params = scale.clips[0]
            config = row.config(scale, clip.name, seed=3)
            assert config.train.seed == 3
            assert config.train.epochs == row.epochs * scale.train.epochs
            model = design_model(config.model, round(params * row.size), *clip.coded, 132)
            count = parameter_count(model, *clip.coded, 132)
            assert 0.85 * params * row.size <= count <= params * row.size
            # A run is known by its name: rows of one name must be one network.
            known = names.setdefault(row.name, row)
            assert known.config(scale, clip.name, 0) == row.config(scale, clip.name, 0)
        assert table.paper.keys() <= {row.name for row in table.rows}


def test_all_but_the_last_stage_fits_the_clip() -> None:
    row = next(row for row in experiments.STAGES if row.all_but_last)
    for scale in (SMALL, FULL):
        for clip, params in scale.clips[:2]:
            config = row.config(scale, clip.name, 0)
            model = design_model(config.model, params, *clip.coded, 132)
            carrying = [stage.hfscm for stage in model.stages]
            assert carrying == [True] * (len(carrying) - 1) + [False]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    return tmp_path


def put(name: str, seed: int, size: int, psnr: float) -> None:
    path = results.result_path(SMALL, "bunny", Variant(name, name), seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    run = {"bytes": size, "psnr": psnr, "ms_ssim": 0.9, "gmacs_per_frame": 0.25}
    path.write_text(json.dumps(run | {"train_seconds": 90.0}))


def test_gains_are_counted_at_equal_bytes(folder: Path) -> None:
    put("hnerv-half", 0, 10_000, 25.0)
    put("hnerv", 0, 20_000, 27.0)
    put("hfs-hnerv", 0, round(10_000 * math.sqrt(2)), 26.6)
    put("hfs-hnerv", 1, 41_000, 28.0)  # beyond the reference
    assert markdown.reference_psnr(SMALL, "bunny", 41_000) is None
    lines = markdown.markdown(TABLES["networks"], SMALL, "bunny", (0, 1)).splitlines()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines[4:]}
    assert rows["HNeRV"][1:4] == ["20,000", "27.00", "+0.00"]
    assert rows["HFS-HNeRV"][2:4] == ["27.30 ± 0.99", "+0.60"]
    assert rows["HFS-HNeRV"][5:] == ["0.25", "1.5", "36.62 |"]
    assert "NeRV" not in rows, "a row that was not run is left out"


def test_one_unstable_run_does_not_move_the_reference(folder: Path) -> None:
    for seed, psnr in enumerate((27.0, 21.0, 27.1)):
        put("hnerv", seed, 20_000, psnr)
        put("hnerv-half", seed, 10_000, psnr - 2)
    assert markdown.reference_psnr(SMALL, "bunny", 20_000) == pytest.approx(27.0)


def test_what_was_run_is_not_run_again(folder: Path) -> None:
    everything = jobs(SMALL, ["networks", "parts"], ["bunny"], (0, 1))
    names = [(variant.name, seed) for _, variant, seed in everything]
    assert len(names) == len(set(names))
    put("hnerv", 0, 20_000, 27.0)
    left = jobs(SMALL, ["networks", "parts"], ["bunny"], (0, 1))
    assert len(left) == len(everything) - 1


def test_a_run_is_written_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(folder / "in.mp4", moving_pattern(46, 30, 3))
    monkeypatch.setenv("HFSV_CLIPS", str(folder))
    scale = Scale("small", ((Clip("tiny", (46, 30), "in.mp4"), 12_000),), SMALL.train)
    row = Variant("short", "short", train={"epochs": 2})
    path = results.run(scale, "tiny", row, 0, threads=1)
    run = json.loads(path.read_text())
    assert run["bytes"] == (folder / "work" / SMALL.folder / "tiny-short-seed0.hfsv").stat().st_size
    assert run["params"] <= 12_000
    assert (run["epochs"], run["seed"], run["model"]["hfscm"]["attention"]) == (2, 0, "single")
    assert jobs(scale, [], [], (0,)) == []
    table = markdown.markdown(Table("one", (row, HFS)), scale, "tiny", (0,))
    assert "| short | " in table
