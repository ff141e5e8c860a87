"""A place in a clip as a person writes it: a frame's number or a time; and a time alone."""

from __future__ import annotations

import re
from datetime import timedelta

from nervcodec.errors import UsageError

_NUMBER = re.compile(r"-?[0-9]{1,9}")
_BARE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_LENGTH = re.compile(rf"([0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)({'|'.join(_UNITS)})")
_CLOCK = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{1,9})?)")


def position(text: str) -> int | timedelta:
    """A frame's number, or a time: 3.5s, 200ms, 1:02, 00:01:02.5.

    Raises:
        UsageError
    """
    text = str(text)  # an option's default comes as it is
    if _NUMBER.fullmatch(text):
        return int(text)
    if (time := _time(text)) is not None:
        return time
    raise UsageError(f"{text!r} is neither a frame's number nor a time such as 3.5s or 1:02.5")


def seconds(text: str) -> timedelta:
    """A time as FFmpeg takes it: 12.5, 10s, 500ms, 2m, 1:02.5, 0:01:02.5.

    Raises:
        UsageError
    """
    text = str(text)  # a configuration file may have a number
    time = _time(f"{text}s" if _BARE.fullmatch(text) else text)
    if time is None:
        raise UsageError(f"{text!r} is not a time such as 12.5, 10s, 500ms or 1:02.5")
    return time


def _time(text: str) -> timedelta | None:
    if match := _LENGTH.fullmatch(text):
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    match = _CLOCK.fullmatch(text)
    if match and int(match[2]) < 60 and float(match[3]) < 60:
        minutes = 60 * int(match[1] or 0) + int(match[2])
        return timedelta(minutes=minutes, seconds=float(match[3]))
    return None
