"""Runs of the tables as JSON files, one a run, so that nothing is run twice."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

import nervcodec
from nervcodec.bitstream.syntax import Attention
from nervcodec.info import probe
from tools.paper_tables.experiments import Scale, Variant

RESULTS = Path(__file__).parents[2] / "docs" / "results"
WORK = Path(__file__).parents[2] / "paper"
"""Checkpoints and files of runs, kept until a run is done."""


def result_path(scale: Scale, clip: str, variant: Variant, seed: int) -> Path:
    return RESULTS / scale.folder / f"{clip}-{variant.name}-seed{seed}.json"


def load(scale: Scale, clip: str, name: str, seed: int) -> dict[str, Any] | None:
    path = RESULTS / scale.folder / f"{clip}-{name}-seed{seed}.json"
    if not path.exists():
        return None
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def load_all(scale: Scale, clip: str, name: str) -> list[dict[str, Any]]:
    """The runs of all seeds."""
    paths = sorted((RESULTS / scale.folder).glob(f"{clip}-{name}-seed*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def run(scale: Scale, clip: str, variant: Variant, seed: int, threads: int | None) -> Path:
    """Encode, and write what came of it; go on from a checkpoint of an earlier try."""
    output = WORK / scale.folder / f"{clip}-{variant.name}-seed{seed}.hfsv"
    output.parent.mkdir(parents=True, exist_ok=True)
    config = variant.config(scale, clip, seed)
    source = scale.clip(clip)[0].path()
    runtime = replace(config, threads=threads, resume=True, overwrite=True)
    report = nervcodec.encode(source, output, runtime)
    info = probe(output)
    (segment,) = info.segments
    found = {
        "clip": clip,
        "variant": variant.name,
        "seed": seed,
        "epochs": config.train.epochs,
        "bytes": report.file_bytes,
        "bits_per_pixel": report.bits_per_pixel,
        "params": report.params,
        "gmacs_per_frame": info.macs(segment) / 1e9,
        "psnr": report.psnr,
        "ms_ssim": report.ms_ssim,
        "float_psnr": report.float_psnr,
        "train_seconds": report.train_seconds,
        "model": _plain(asdict(segment.model)),
        "train": asdict(config.train),
        "machine": f"{platform.machine()}, torch {torch.__version__}, "
        f"{'CUDA' if torch.cuda.is_available() else 'CPU'}, {threads or 'all'} threads",
    }
    path = result_path(scale, clip, variant, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    """For JSON: enumerations by name, fractions as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Attention):
        return value.name.lower()
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
