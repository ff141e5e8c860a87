"""The options of ``hfsv encode`` that say how large or how good the file becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from nervcodec.config import (
    DEFAULT_CRF,
    MAX_CRF,
    MIN_CRF,
    SizeTarget,
    parse_count,
    rate_weight,
)
from nervcodec.errors import UsageError

_OPTIONS = (
    click.option(
        "--crf",
        type=click.FloatRange(MIN_CRF, MAX_CRF),
        help="Quality at a constant price of bits: less is better and larger, six less about twice "
        f"the size.  [default: {DEFAULT_CRF:g}, or what fits --params]",
    ),
    click.option(
        "--target-size",
        metavar="BYTES",
        help="The file, sound included, becomes at most so long and hardly shorter: 80k, 1.5M.",
    ),
    click.option(
        "--bitrate", metavar="BITS", help="Bits a second of the video alone, such as 120k."
    ),
    click.option("--bpp", type=float, metavar="BITS", help="Bits a pixel of the video alone."),
    click.option(
        "--min-psnr",
        type=float,
        metavar="DB",
        help="The frames' mean RGB PSNR, of each segment, becomes at least so high and hardly "
        "higher.",
    ),
    click.option(
        "--params",
        metavar="N",
        help="Decoder parameters and embedding values, such as 60k or 1.5M, half a byte each. "
        "Default: what fits the quality or size, and the training can teach.",
    ),
    click.option(
        "--lambda",
        "rate_weight",
        type=float,
        metavar="X",
        help="What a bit a pixel is worth in the training loss, instead of --crf; 0 trains without "
        "quantization and rounds to 8 bits.",
    ),
)


def rate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_rate_weight(options: dict[str, Any]) -> float | None:
    """lambda of ``--lambda`` or ``--crf``; None where neither is given.

    Raises:
        UsageError: if the options exclude each other.
    """
    given = [f"--{name}" for name in ("crf", "lambda") if options.get(_key(name)) is not None]
    goals = ("target-size", "bitrate", "bpp", "min-psnr")
    given += [f"--{name}" for name in goals if options.get(_key(name)) is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other: leave all but one out")
    if options.get("rate_weight") is not None:
        return float(options["rate_weight"])
    return None if options.get("crf") is None else rate_weight(options["crf"])


def size_target(options: dict[str, Any]) -> SizeTarget | None:
    """The size asked for.

    Raises:
        UsageError: if it is no number, or not more than 0.
    """
    if options["target_size"] is not None:
        return SizeTarget(bytes=parse_count(options["target_size"]))
    if options["bitrate"] is not None:
        return SizeTarget(bit_rate=parse_count(options["bitrate"]))
    if options["bpp"] is not None:
        return SizeTarget(bits_per_pixel=options["bpp"])
    return None


def _key(name: str) -> str:
    return "rate_weight" if name == "lambda" else name.replace("-", "_")
