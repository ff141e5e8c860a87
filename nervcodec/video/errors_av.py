"""What PyAV may raise and how it is said to a person; :mod:`nervcodec.errors` has our own tree."""

from __future__ import annotations

import errno
import os

from av.error import FFmpegError

AV_ERRORS = (FFmpegError, OSError, ValueError, OverflowError, MemoryError)
"""What escapes from PyAV calls: FFmpeg's errors, and Python's from its argument checks."""

_SYSTEM_ERRORS = {
    errno.ENOENT: "no such file or folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the file system allows",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the device reports an input/output error",
    errno.ENAMETOOLONG: "the name is too long",
}


def is_system_error(exc: BaseException | None) -> bool:
    """Whether ``exc`` comes from the file system rather than from the data."""
    return getattr(exc, "errno", None) in _SYSTEM_ERRORS


def cause(exc: BaseException) -> str:
    """One line that says why, without paths, numbers of errors or names of C functions."""
    number = getattr(exc, "errno", None)
    if number in _SYSTEM_ERRORS:
        return _SYSTEM_ERRORS[number]
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    first_line: str = str(text).splitlines()[0]
    return first_line[:1].lower() + first_line[1:]


def file_name(path: str | os.PathLike[str]) -> str:
    """The last part of ``path``, printable: what messages call the file."""
    name = os.path.basename(os.fspath(path)) or os.fspath(path)
    return "".join(c if c.isprintable() else "?" for c in name)
