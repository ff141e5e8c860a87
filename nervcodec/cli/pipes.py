"""Standard input and output in place of files, asked for with ``-``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import click

from nervcodec.cli.progress import Progress
from nervcodec.errors import HfsvError, InputVideoError, OutputError, UsageError

STDIO = "-"
STANDARD_INPUT = "standard input"

_BLOCK = 1 << 20


def temp_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where pipes are kept."""
    return click.option(
        "--temp",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder for what comes from or goes to a pipe.  [default: the system's, see TMPDIR]",
    )(command)


def _is_named_pipe(source: str) -> bool:
    try:
        return Path(source).is_fifo()
    except OSError:  # what is wrong with the name is told by who opens it
        return False


@contextmanager
def input_file(source: str, temp: Path | None, quiet: bool, as_json: bool) -> Iterator[Path]:
    """The input as a file: itself, or a temporary one with all that comes from a pipe.

    A pipe is standard input, or one that has a name, as shells give it for ``<(command)``. Errors
    within speak of the pipe then.

    Raises:
        UsageError: if standard input is a terminal.
        OutputError: if it cannot be kept.
    """
    if source != STDIO and not _is_named_pipe(source):
        yield Path(source)
        return
    name = STANDARD_INPUT if source == STDIO else source
    with _keeping(name, temp):
        file = tempfile.NamedTemporaryFile(prefix="hfsv-", dir=temp, buffering=0)  # noqa: SIM115
    with file:
        with (
            _input_pipe(source) as stream,
            _keeping(name, temp),
            Progress(quiet, as_json) as progress,
        ):
            _copy(stream, file, lambda count: progress.reading(name, count))
        path = Path(file.name)
        try:
            yield path
        except HfsvError as exc:
            exc.args = (str(exc).replace(str(path), name).replace(path.name, name),)
            raise


@contextmanager
def _input_pipe(source: str) -> Iterator[BinaryIO]:
    if source == STDIO:
        yield _open_end(sys.stdin, STANDARD_INPUT)
        return
    try:
        stream = open(source, "rb")  # noqa: SIM115
    except OSError as exc:
        raise InputVideoError(f"{source}: cannot be read ({exc.strerror or exc})") from exc
    with stream:
        yield stream


@contextmanager
def output_file(output: str, temp: Path | None) -> Iterator[Path]:
    """The output as a path: itself, or a temporary one that goes to standard output in the end.

    Raises:
        UsageError: if standard output is a terminal.
        OutputError: if it cannot be kept.
    """
    if output != STDIO:
        yield Path(output)
        return
    stream = standard_output()
    with _keeping("the output", temp):
        folder = tempfile.TemporaryDirectory(prefix="hfsv-", dir=temp)
    with folder as name:
        path = Path(name) / "out.hfsv"
        yield path
        if path.exists():
            _send(path, stream)


def _send(path: Path, stream: BinaryIO) -> None:
    try:
        with path.open("rb") as file:
            shutil.copyfileobj(file, stream)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OutputError(f"standard output cannot be written ({exc.strerror or exc})") from exc


def standard_output() -> BinaryIO:
    """Standard output for bytes.

    Raises:
        UsageError: if it is a terminal.
    """
    return _open_end(sys.stdout, "standard output")


def _open_end(stream: TextIO | None, name: str) -> BinaryIO:
    """A standard stream for bytes; without one Python says None."""
    if stream is None:
        raise UsageError(f"{name} is closed")
    if stream.isatty():
        raise UsageError(f"{name} is a terminal: connect a pipe to it, or name a file")
    return stream.buffer


def check_json(output: str, as_json: bool) -> None:
    """Raises UsageError if both output and JSON lines would go to standard output."""
    if output == STDIO and as_json:
        raise UsageError("--json needs standard output for itself: name a file for the output")


@contextmanager
def _keeping(what: str, temp: Path | None) -> Iterator[None]:
    """Translate what the system says against a temporary file."""
    try:
        yield
    except OSError as exc:
        folder = temp or tempfile.gettempdir()
        raise OutputError(
            f"{what} cannot be kept in {folder}: {(exc.strerror or str(exc)).lower()} "
            "(--temp names another folder)"
        ) from exc


def _copy(stream: BinaryIO, file: Any, report: Callable[[int], None]) -> None:
    """All of ``stream`` to ``file``; ``report`` is told the number of bytes."""
    count = 0
    while block := stream.read(_BLOCK):
        rest = memoryview(block)
        while rest:
            rest = rest[file.write(rest) :]
        count += len(block)
        report(count)
