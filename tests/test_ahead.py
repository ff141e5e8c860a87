"""One item ahead, no more; errors and early ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from nervcodec.ahead import Ahead


def waited_for(condition: object) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return bool(condition())


def test_all_items_in_order_one_ahead() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    seen = []
    with Ahead(source()) as ahead:
        for number in ahead:
            assert waited_for(lambda number=number: len(made) == min(number + 2, 5))
            time.sleep(0.005)
            assert len(made) == min(number + 2, 5)
            seen.append(number)
    assert seen == list(range(5))


def test_an_error_comes_in_its_place() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("two")

    seen = []
    with Ahead(source()) as ahead, pytest.raises(ValueError, match="two"):
        seen.extend(ahead)
    assert seen == [1]


def test_who_leaves_early_leaves_no_thread_and_an_ended_source() -> None:
    ended = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    before = threading.active_count()
    with Ahead(source()) as ahead:
        for number in ahead:
            if number == 3:
                break
    assert ended.is_set()
    assert threading.active_count() == before
