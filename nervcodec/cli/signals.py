"""Ctrl-C and SIGTERM: the first asks an encode to stop, the second ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from nervcodec.cli.terminal import say

INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived; raised so that temporary files are removed on the way out."""


def on_terminate(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM."""
    raise Terminated


class StopRequest:
    """While it is entered, the first SIGINT or SIGTERM only notes that the user wants to stop.

    The second one raises KeyboardInterrupt or :class:`Terminated`.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        """What the command is to return once it was asked to stop; None before."""

    def requested(self) -> bool:
        return self.exit_code is not None

    def __enter__(self) -> StopRequest:
        self._previous = [
            (number, signal.signal(number, self._on_signal))
            for number in (signal.SIGINT, signal.SIGTERM)
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous:
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        terminated = number == signal.SIGTERM
        if self.requested():
            raise Terminated if terminated else KeyboardInterrupt
        self.exit_code = TERMINATED if terminated else INTERRUPTED
        say("\nhfsv: stopping and writing what there is; once more leaves at once")
