"""The files of a report: page, pictures of the curves, tables; :mod:`.comparison` measures."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from nervcodec.compare.fairness import fairness_card
from nervcodec.compare.players import Player, make_players
from nervcodec.compare.plots import LABELS, draw_curves
from nervcodec.compare.points import Point
from nervcodec.compare.reference import Reference
from nervcodec.compare.results import Results
from nervcodec.files import atomic_output
from nervcodec.info import layers, probe

PAGE = "index.html"

CHUNKS = {
    "HEAD": "header",
    "HASH": "hashes of the frames",
    "META": "metadata",
    "AUDI": "sound and subtitles",
    "PTSD": "timestamps",
    "END": "checksum of the file",
}


def byte_groups(path: Path) -> list[tuple[str, float]]:
    """Where the bytes of a ``.hfsv`` went: embeddings, network by layer, what is around them."""
    groups: dict[str, float] = {}
    for part in layers(path):
        pieces = part.name.split(".")
        if not part.shape:
            name = "segment heads"
        elif pieces[0] == "embedding":
            name = "embeddings"
        elif pieces[0] == "stages":
            name = f"stage {int(pieces[1]) + 1} {pieces[2]}"
        else:
            name = pieces[0]
        groups[name] = groups.get(name, 0.0) + part.bytes
    info = probe(path)
    sizes = {CHUNKS.get(name, name): n for name, n in info.chunk_bytes.items() if name != "SEGM"}
    sizes["signature"] = info.file_bytes - sum(info.chunk_bytes.values())
    return [(name, round(count, 1)) for name, count in (groups | sizes).items()]


def write_report(
    results: Results, reference: Reference, files: Sequence[Path], folder: Path, device: str
) -> Path:
    """Write all files of a report but ``results.json``; the page's path is returned.

    Raises:
        OutputError: where the system refuses.
    """
    with atomic_output(folder / "results.csv") as temporary:
        temporary.write_text(results.to_csv(), encoding="utf-8")
    draw_curves(results, folder)
    players = make_players(reference, files, list(results.points.values()), device)
    with atomic_output(folder / PAGE) as temporary:
        temporary.write_text(page(results, players), encoding="utf-8")
    return folder / PAGE


def page(results: Results, players: Sequence[Player]) -> str:
    """The page, with style, script, figures and videos in it."""
    parts = package_files("nervcodec.compare").joinpath("page")
    text = parts.joinpath("page.html").read_text(encoding="utf-8")
    inside = {
        "TITLE": html.escape(f"{results.reference['name']}: .hfsv and conventional codecs"),
        "STYLE": parts.joinpath("page.css").read_text(encoding="utf-8"),
        "DATA": _script_safe(_page_data(results, players)),
        "SCRIPT": "\n".join(
            parts.joinpath(name).read_text(encoding="utf-8")
            for name in ("charts.js", "player.js", "page.js")
        ),
    }
    # In one pass, so that nothing that is put in is taken for a place to fill.
    return re.sub("@([A-Z]+)@", lambda place: inside[place[1]], text)


def _script_safe(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _page_data(results: Results, players: Sequence[Player]) -> dict[str, Any]:
    points = list(results.points.values())
    return {
        "reference": results.reference,
        "measures": {name: LABELS[name] for name in LABELS if name in results.metrics()},
        "points": [_point_data(point, results) for point in points],
        "curves": {
            name: [points.index(point) for point in found]
            for name, found in results.curves().items()
        },
        "bd": results.bd_table(),
        "layers": results.layers,
        "card": fairness_card(results),
        "warnings": results.warnings,
        "frame_rate": results.reference["frames"] / results.seconds,
        "players": [
            {
                "name": player.name,
                "labels": player.labels,
                "points": [None if p is None else points.index(p) for p in player.points],
                "columns": player.columns,
                "tile": player.tile,
                "frames": player.frames,
                "video": base64.b64encode(player.video).decode("ascii"),
            }
            for player in players
        ],
    }


def _point_data(point: Point, results: Results) -> dict[str, Any]:
    return {
        "name": point.name,
        "codec": point.codec,
        "curve": point.curve,
        "preset": point.preset,
        "setting": point.setting,
        "matches": point.matches,
        "bytes": point.bytes,
        "bpp": 8 * point.bytes / results.pixels,
        "kbps": 8 * point.bytes / results.seconds / 1000,
        "quality": {name: round(value, 5) for name, value in point.quality.items()},
        "frame_psnr": point.frame_psnr,
        "encode_seconds": point.encode_seconds,
        "decode_seconds": round(point.decode_seconds, 3),
    }
