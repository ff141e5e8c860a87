"""Files: outputs that appear whole or not at all, and what a file is known by."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nervcodec.errors import OutputError, OutputExistsError, UsageError


def check_output(source: Path | None, output: Path, overwrite: bool) -> None:
    """Refuse an output that is the input, exists unasked, or lies where nothing can be written.

    Args:
        source: the input; None for a pipe.

    Raises:
        UsageError, OutputExistsError, OutputError
    """
    check_name(output)
    if source is not None and _are_one(source, output):
        raise UsageError(f"{output}: output and input are the same file")
    if output.is_dir():
        raise OutputError(f"{output}: is a folder, not a file")
    if output.exists() and not overwrite:
        raise OutputExistsError(f"{output}: exists already (-y overwrites it)")
    _check_writable(output.parent, output)


def _are_one(source: Path, output: Path) -> bool:
    return os.path.exists(source) and output.exists() and os.path.samefile(source, output)


def check_name(path: Path) -> None:
    """Refuse a name that the system cannot give a file: one that is too long, for instance.

    Raises:
        OutputError
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # not there, or not to be seen: what it means is for others to say
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror})") from exc


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


def check_folder(output: Path, overwrite: bool) -> None:
    """Refuse a folder to write files into that holds some unasked, or where nothing can be written.

    Raises:
        OutputExistsError, OutputError
    """
    check_name(output)
    exists = os.path.lexists(output)
    if exists and not output.is_dir():
        raise OutputError(f"{output}: is a file, not a folder")
    try:
        filled = exists and any(output.iterdir())
    except OSError as exc:
        raise OutputError(f"{output}: cannot be read ({exc.strerror})") from exc
    if filled and not overwrite:
        raise OutputExistsError(
            f"{output}: is a folder with files in it (-y replaces those with the same names)"
        )
    _check_writable(output if exists else output.parent, output)


def _check_writable(folder: Path, output: Path) -> None:
    if not folder.is_dir():
        raise OutputError(f"{output}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: the folder {folder} is not writable")


@contextmanager
def atomic_folder(output: Path) -> Iterator[Path]:
    """Give a temporary folder; on success its files appear in ``output``, else nothing does.

    A folder that is not there yet appears whole, by one renaming. In one that is, files of the
    same names are replaced, and no others are touched.

    Raises:
        OutputError: where the system refuses.
    """
    new = not output.exists()
    try:
        # Within an existing folder, which may be on another disk than what is around it.
        place = output.parent if new else output
        temporary = Path(tempfile.mkdtemp(prefix=".hfsv-", suffix=".part", dir=place))
    except OSError as exc:
        raise OutputError(f"{output}: cannot be written ({exc.strerror})") from exc
    try:
        yield temporary
        _publish_folder(temporary, output, new)
    except BrokenPipeError:
        raise  # of the progress display, not of the output
    except OSError as exc:
        raise OutputError(f"{output}: cannot be written ({exc.strerror or exc})") from exc
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish_folder(temporary: Path, output: Path, new: bool) -> None:
    files = sorted(temporary.iterdir())
    for file in files:
        _make_durable(file)
    if new:
        temporary.chmod(0o777 & ~_mask())
        _make_durable(temporary)
        temporary.rename(output)
        _make_durable(output.parent)
        return
    for file in files:
        if (output / file.name).is_dir():
            raise OutputError(f"{output / file.name}: is a folder, not a file")
    for file in files:
        file.replace(output / file.name)
    _make_durable(output)


def _publish(temporary: Path, output: Path) -> None:
    """Make the file durable under its name, with the permissions of an ordinary new file."""
    temporary.chmod(0o666 & ~_mask())
    _make_durable(temporary)
    os.replace(temporary, output)
    _make_durable(output.parent)


def _mask() -> int:
    """The permissions that new files are not given."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _make_durable(path: Path) -> None:
    """Have a file or folder written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(*paths: Path) -> str:
    """First 32 hexadecimal digits of the SHA-256 of a file, or of several joined to one."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()[:32]
