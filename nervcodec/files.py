"""Files: outputs that appear whole or not at all, and what a file is known by."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nervcodec.errors import OutputError, OutputExistsError, UsageError


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """Refuse an output that is the input, exists unasked, or lies where nothing can be written.

    Raises:
        UsageError, OutputExistsError, OutputError
    """
    if output.exists() and source.exists() and os.path.samefile(source, output):
        raise UsageError(f"{output}: output and input are the same file")
    if output.is_dir():
        raise OutputError(f"{output}: is a folder, not a file")
    if output.exists() and not overwrite:
        raise OutputExistsError(f"{output}: exists already (-y overwrites it)")
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"{output}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: the folder {folder} is not writable")


@contextmanager
def atomic_output(output: Path) -> Iterator[Path]:
    """Give a temporary path beside ``output``; rename it there on success, else remove it.

    Raises:
        OutputError: where the system refuses (permissions, a full disk, a vanished folder).
    """
    try:
        handle, name = tempfile.mkstemp(prefix=".hfsv-", suffix=".part", dir=output.parent)
        os.close(handle)
    except OSError as exc:
        raise OutputError(f"{output}: cannot be written ({exc.strerror})") from exc
    temporary = Path(name)
    try:
        yield temporary
        _publish(temporary, output)
    except BrokenPipeError:
        raise  # of the progress display, not of the output
    except OutputError as exc:
        text = str(exc).replace(str(temporary), str(output))
        raise OutputError(text.replace(temporary.name, str(output))) from exc
    except OSError as exc:
        raise OutputError(f"{output}: cannot be written ({exc.strerror or exc})") from exc
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, output: Path) -> None:
    """Make the file durable under its name, with the permissions of an ordinary new file."""
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, output)
    folder = os.open(output.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def file_digest(path: Path) -> str:
    """First 32 hexadecimal digits of the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
