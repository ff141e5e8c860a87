"""What the commands share: paths given twice over, the terminal, text from untrusted files."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from nervcodec.bitstream.tensors import Limits
from nervcodec.cli.terminal import printable
from nervcodec.config import RawFormat, parse_count, parse_rate, parse_size
from nervcodec.errors import LimitError, OutputExistsError, UnsupportedError, UsageError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class FilePath(click.Path):
    """A path where no pipe will do."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if value == "-":
            self.fail("pipes (-) are not supported here; name a file", param, ctx)
        return super().convert(value, param, ctx)


IN_PATH = FilePath(path_type=Path)

LIMITS = {
    "parameters": ("max_params", "parameters and embedding values of a segment"),
    "macs_per_frame": ("max_macs", "multiplications a frame"),
    "activation_bytes": ("max_memory", "bytes of memory for the maps of a frame"),
    "pixels": ("max_pixels", "pixels in all frames together"),
    "macs": ("max_total_macs", "multiplications for all frames together"),
}
"""For each of the library's limits the name of its option, and what it bounds."""


def paths_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Positional IN and OUT, or -i and -o."""
    command = click.argument("paths", nargs=-1, type=click.Path(), metavar="IN OUT")(command)
    command = click.option("-i", "--input", "input_path", type=click.Path(), help="The input.")(
        command
    )
    return click.option("-o", "--output", "output_path", type=click.Path(), help="The output.")(
        command
    )


def raw_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a source that is raw video is laid out; the command is given it as ``raw``."""

    @functools.wraps(command)
    def described(input_res: str | None, input_fmt: str | None, **options: Any) -> Any:
        if input_res is None:
            if input_fmt is not None:
                raise UsageError("--input-fmt is of raw video, whose size --input-res tells")
            return command(raw=None, **options)
        raw = RawFormat(*parse_size(input_res), pixel_format=input_fmt or RawFormat.pixel_format)
        return command(raw=raw, **options)

    described = click.option(
        "--input-fmt",
        metavar="NAME",
        help=f"Pixel format of raw video, by FFmpeg's name.  [default: {RawFormat.pixel_format}]",
    )(described)
    return click.option(
        "--input-res", metavar="WxH", help="The source is raw video with frames of this size."
    )(described)


def rate(context: click.Context, option: click.Parameter, text: str | None) -> Fraction | None:
    """Callback of an option that is a frame rate."""
    return None if text is None else parse_rate(text)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command that writes a file takes."""
    command = click.option(
        "-y", "overwrite", is_flag=True, help="Overwrite the output if it exists."
    )(command)
    command = click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
    )(command)
    command = click.option(
        "--threads", type=click.IntRange(1, 1024), help="CPU threads; default all."
    )(command)
    command = click.option("-q", "--quiet", is_flag=True, help="Errors only.")(command)
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Progress and result as JSON lines on standard output.",
    )(command)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each limit; the command is given ``limits``, and an error names the option."""

    @functools.wraps(command)
    def limited(**options: Any) -> Any:
        given = {limit: options.pop(name) for limit, (name, _) in LIMITS.items()}
        limits = Limits(**{limit: cap for limit, cap in given.items() if cap is not None})
        try:
            return command(limits=limits, **options)
        except LimitError as exc:
            option = _option(LIMITS[exc.limit][0])
            raise UnsupportedError(f"{exc} ({option} sets it)") from exc

    for limit, (name, what) in reversed(LIMITS.items()):
        default = _short(getattr(Limits(), limit))
        limited = click.option(
            _option(name),
            metavar="N",
            callback=_count,
            help=f"Refuse a file that asks for more {what}.  [default: {default}]",
        )(limited)
    return limited


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _count(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else parse_count(text)
    except UsageError as exc:
        raise UsageError(f"{option.opts[0]}: {exc}") from exc


def _short(count: int) -> str:
    """A large count in few characters, as the options take it: 134M, 1.8e13."""
    if count >= 1e12:
        return f"{count:.1e}".replace("+", "")
    return f"{count / 1e9:.0f}G" if count >= 1e9 else f"{count / 1e6:.0f}M"


def resolve_paths(
    paths: tuple[str, ...], input_path: str | None, output_path: str | None
) -> tuple[str, str]:
    """Input and output from whichever way they were given, ``-`` for a pipe.

    Raises:
        UsageError: if there are too few or too many.
    """
    given = list(paths)
    source = input_path or (given.pop(0) if given else None)
    output = output_path or (given.pop(0) if given else None)
    if source is None or output is None or given:
        raise UsageError("exactly one input and one output are needed (see --help)")
    return source, output


def may_overwrite(output: Path, overwrite: bool) -> bool:
    """Whether to overwrite; asks where a person sits at the terminal.

    Raises:
        OutputExistsError: if the person says no.
    """
    if overwrite or not os.path.isfile(output):
        return overwrite
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    if click.confirm(f"{printable(output)} exists. Overwrite?", err=True):
        return True
    raise OutputExistsError(f"{output}: not overwritten")


def kilobytes(count: int) -> str:
    """A length in bytes for a person: 64.3 kB."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.2f} MB"


def clock(seconds: float) -> str:
    """A duration for a person: 9 s, 1:05, 2:03:04."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
