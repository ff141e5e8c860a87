"""The conventional encoders that PyAV brings along: their names, presets, limits and own words.

:mod:`.anchors` runs them.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from av.codec import codecs_available

from nervcodec.errors import UsageError

PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)
"""The presets of x264 and x265. Checked here because x264 prints about others on its own."""

TUNES = ("psnr", "ssim")
"""Measures that an encoder can be made to work for, in place of the eye."""

_SVT_PRESETS = dict(zip(PRESETS, (12, 11, 10, 9, 8, 6, 5, 4, 3, 2), strict=True))
"""SVT-AV1 numbers its presets, from -1 for the slowest to 13. These are ours to name."""

_MIB = re.compile(rb"x26[45] (?:- core|\(build)[ -~]+")
"""The text in which x264 and x265 tell their version and settings."""


_LIBRARY = re.compile(r"lib(x264|x265|SvtAv1Enc)\b.*\.so\.([0-9.]+)$")


@dataclass(frozen=True)
class Encoder:
    """One encoder as it is used here.

    Attributes:
        name: FFmpeg's, ``label`` a person's.
        decoder: FFmpeg's name of the decoder that reads it.
        min_side: the shortest side that it takes.
        max_crf: its largest CRF; the smallest is 0.
        crf_steps: how finely a CRF of 1 can be divided.
        crfs: those of a curve where nobody says.
        odd_sizes: whether it has 4:4:4, which frames with an odd side need.
        options: what is set beside preset and CRF.
        preset_values: its own word for each of :data:`PRESETS`.
        tunes: the options that make it work for each of :data:`TUNES`.
    """

    name: str
    label: str
    decoder: str
    min_side: int
    max_crf: int
    crf_steps: int
    crfs: tuple[float, ...]
    odd_sizes: bool = True
    options: Mapping[str, str] = field(default_factory=dict)
    preset_values: Mapping[str, str] = field(default_factory=dict)
    tunes: Mapping[str, Mapping[str, str]] = field(
        default_factory=lambda: {name: {"tune": name} for name in TUNES}
    )

    def preset_value(self, preset: str) -> str:
        """What the encoder is told of ``preset``, one of :data:`PRESETS`."""
        return self.preset_values.get(preset, preset)

    def tuned(self, tune: str | None) -> Mapping[str, str]:
        """The options for ``tune``, one of :data:`TUNES`; none for None."""
        return {} if tune is None else self.tunes[tune]


_USUAL_CRFS = (16.0, 20.0, 24.0, 28.0, 32.0, 36.0, 40.0, 44.0)

ENCODERS = {
    encoder.name: encoder
    for encoder in (
        Encoder("libx264", "x264", "h264", 1, 51, 10, _USUAL_CRFS),
        # x265 4.2 writes past its look-ahead arrays on frames smaller than a coding tree unit,
        # which may end the process; and it logs to stderr past FFmpeg's own log.
        Encoder(
            "libx265",
            "x265",
            "hevc",
            64,
            51,
            10,
            _USUAL_CRFS,
            options={"x265-params": "log-level=none"},
        ),
        Encoder(
            "libsvtav1",
            "svtav1",
            "libdav1d",
            64,
            63,
            1,
            (20.0, 26.0, 32.0, 38.0, 44.0, 50.0, 56.0, 62.0),
            odd_sizes=False,
            preset_values={name: str(value) for name, value in _SVT_PRESETS.items()},
            tunes={"psnr": {"svtav1-params": "tune=1"}, "ssim": {"svtav1-params": "tune=2"}},
        ),
    )
}

LABELS = {encoder.label: encoder for encoder in ENCODERS.values()}

# It logs to stderr past FFmpeg's own log, unless this says otherwise: 1 is errors alone.
os.environ.setdefault("SVT_LOG", "1")


def available(encoder: Encoder) -> bool:
    """Whether the PyAV at hand has it."""
    return {encoder.name, encoder.decoder} <= set(codecs_available)


def find_encoder(name: str) -> Encoder:
    """The encoder of that name of FFmpeg's.

    Raises:
        UsageError: for another name, and where the PyAV at hand lacks it.
    """
    encoder = ENCODERS.get(name)
    if encoder is None:
        raise UsageError(f"unknown anchor codec {name!r}: choose from {', '.join(ENCODERS)}")
    if not available(encoder):
        raise UsageError(f"this build of PyAV has no {name}")
    return encoder


def own_words(stream: bytes) -> str:
    """Version and settings as the encoder writes them into its stream; empty where it does not."""
    found = _MIB.search(stream)
    return found[0].decode("ascii") if found else ""


def bundled_versions() -> dict[str, str]:
    """Versions in the names of the encoders' libraries that PyAV's package brings along."""
    names = [file.name for file in importlib.metadata.files("av") or ()]
    matches = (_LIBRARY.match(name) for name in names)
    return {found[1]: found[2] for found in matches if found}


def text_bytes(stream: bytes) -> int:
    """How many bytes of a stream that text takes, which no decoder needs."""
    found = _MIB.search(stream)
    return len(found[0]) if found else 0
