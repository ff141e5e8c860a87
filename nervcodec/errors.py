"""The errors that reach a caller, each with the exit code that the command line gives it.

Nothing else is meant to escape from a public function: errors of libraries are translated
where they arise. The neighbour that prints them is :mod:`nervcodec.cli`.
"""

from __future__ import annotations


class HfsvError(Exception):
    """Base of every error that nervcodec raises on purpose; its text is one line for a person."""

    exit_code = 1


class UsageError(HfsvError):
    """A request that cannot be carried out as it is put: an option's value, equal paths."""

    exit_code = 2


class InputVideoError(HfsvError):
    """The input video is missing, unreadable, damaged or of a kind that cannot be encoded."""

    exit_code = 3


class BitstreamError(HfsvError):
    """The ``.hfsv`` data is damaged, malformed or not ``.hfsv`` at all."""

    exit_code = 4


class UnsupportedError(BitstreamError):
    """The ``.hfsv`` data is sound but needs a later version of the format, or more than a limit."""


class LimitError(UnsupportedError):
    """A file asks for more than a limit.

    ``limit`` is the name of that field of :class:`nervcodec.bitstream.tensors.Limits`.
    """

    def __init__(self, limit: str, what: str, asked: int, cap: int) -> None:
        super().__init__(f"the file asks for {asked} {what}; the limit is {cap}")
        self.limit = limit
        self._arguments = limit, what, asked, cap

    def __reduce__(self) -> tuple[type[LimitError], tuple[str, str, int, int]]:
        return type(self), self._arguments


class TargetError(HfsvError):
    """A file was asked for (size, quality, parameters) that cannot be reached."""

    exit_code = 5


class CheckpointError(HfsvError):
    """A checkpoint is damaged, or belongs to another source or other settings."""


class InterruptedEncode(HfsvError):
    """An encode was asked to stop before it had anything to write."""

    exit_code = 130


class OutputExistsError(HfsvError):
    """The output exists and overwriting was not asked for."""

    exit_code = 6


class OutputError(HfsvError):
    """The output cannot be written: no folder, no permission, a full disk, an unfit container."""
