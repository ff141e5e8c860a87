"""The pictures of a report: source, ours and anchors side by side in the frames of one video.

One video of tiles cannot run out of step, as players beside each other do. The page cuts the
tiles out of it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from nervcodec.clip import HfsvFile
from nervcodec.compare.anchors import decode_stream, encode_stream
from nervcodec.compare.encoders import LABELS, PRESETS
from nervcodec.compare.points import OURS, Point
from nervcodec.compare.reference import Reference
from nervcodec.errors import HfsvError
from nervcodec.video.color import rgb_to_frame
from nervcodec.video.errors_av import AV_ERRORS, cause

CRF = 12
"""Of the video that is shown: at this one its own losses are far below those that are compared."""

KEYINT = 24
"""Frames from one that can be sought to the next."""

MAX_BYTES = 24_000_000
"""Of all videos of a page together; of longer clips only the first frames are shown."""

BLOCK = 16
"""Tiles are padded to whole macroblocks, so that none takes part in its neighbour's coding."""

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Player:
    """One video of tiles.

    Attributes:
        name: of the ``.hfsv`` file in it.
        labels: of the tiles, row by row; the first is the source.
        points: what is measured of each tile; None for the source.
        columns: tiles a row; each takes ``tile`` (width, height), of which the picture fills the
            upper left.
        frames: how many it shows.
        video: an MP4 file of H.264.
    """

    name: str
    labels: tuple[str, ...]
    points: tuple[Point | None, ...]
    columns: int
    tile: tuple[int, int]
    frames: int
    video: bytes


def make_players(
    reference: Reference, files: Sequence[Path], points: Sequence[Point], device: str
) -> list[Player]:
    """A player for each file, with the anchors at its bytes: of each codec the slowest preset."""
    players = []
    for path in files:
        chosen = [point for point in points if point.codec == OURS and point.setting == path.name]
        chosen += _slowest([point for point in points if point.matches == path.name])
        limit = MAX_BYTES // len(files)
        with HfsvFile(path, device=device) as file:
            decoded = [iter(file), *(_decoded(reference, point) for point in chosen[1:])]
            players.append(_tiled(path.name, reference, chosen, decoded, limit))
    return players


def _slowest(points: list[Point]) -> list[Point]:
    best: dict[str, Point] = {}
    for point in sorted(points, key=lambda point: PRESETS.index(point.preset)):
        best[point.codec] = point
    return list(best.values())


def _decoded(reference: Reference, point: Point) -> Iterator[Frame]:
    """The frames of an anchor, which is encoded once more."""
    stream = encode_stream(
        reference,
        LABELS[point.codec].name,
        point.preset,
        point.details["crf"],
        reference.frame_rate,
        reference.color,
        point.tune or None,
    )
    return (frame.rgb for frame in decode_stream(stream))


def _tiled(
    name: str,
    reference: Reference,
    points: list[Point],
    decoded: list[Iterator[Frame]],
    limit: int,
) -> Player:
    labels = ["source", *(point.name for point in points)]
    columns = math.ceil(math.sqrt(len(labels)))
    tile = tuple(-(-side // BLOCK) * BLOCK for side in (reference.width, reference.height))
    frames = zip(reference, *decoded, strict=True)
    video, count = _encode((_grid(parts, columns, tile) for parts in frames), reference, limit)
    return Player(name, tuple(labels), (None, *points), columns, (tile[0], tile[1]), count, video)


def _grid(parts: Sequence[Frame], columns: int, tile: tuple[int, ...]) -> Frame:
    """The pictures row by row, (rows * tile height, columns * tile width, 3)."""
    height, width = parts[0].shape[:2]
    padding = ((0, tile[1] - height), (0, tile[0] - width), (0, 0))
    padded = [np.pad(part, padding, mode="edge") for part in parts]
    padded += [np.zeros_like(padded[0])] * (-len(padded) % columns)
    rows = [padded[start : start + columns] for start in range(0, len(padded), columns)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)


def _encode(grids: Iterator[Frame], reference: Reference, limit: int) -> tuple[bytes, int]:
    """The MP4 file and how many frames it holds: all, or those that ``limit`` bytes take."""
    file, size, count = io.BytesIO(), 0, 0
    options = {"crf": str(CRF), "preset": "veryfast", "g": str(KEYINT), "bf": "0"}
    color = reference.color
    try:
        with av.open(file, "w", format="mp4") as output:
            rate = reference.frame_rate.limit_denominator(100000)
            stream = output.add_stream("libx264", rate=rate, options=options)
            context = stream.codec_context
            context.color_primaries, context.color_trc = color.primaries, color.transfer
            context.colorspace = color.matrix
            context.color_range = ColorRange.JPEG if color.full_range else ColorRange.MPEG
            for grid in grids:
                if size > limit:
                    break
                if not count:
                    context.pix_fmt = "yuv420p"
                    context.height, context.width = grid.shape[:2]
                picture = rgb_to_frame(grid, "yuv420p", color)
                picture.pts, picture.time_base = count, 1 / rate
                packets = stream.encode(picture)
                size += sum(packet.size for packet in packets)
                output.mux(packets)
                count += 1
            output.mux(stream.encode())
    except AV_ERRORS as exc:
        raise HfsvError(f"the video for the page cannot be made: {cause(exc)}") from exc
    return file.getvalue(), count
