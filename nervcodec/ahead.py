"""Working ahead: an iterator's next item is made while the caller is busy with the last one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """The items of ``source``, made in a thread that is one item ahead.

    An error of ``source`` is raised where its item would have come. Use it as a context manager:
    at its end the thread has ended too, once the item that it is making is made, and ``source``
    is closed if it is a generator.
    """

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self._made: queue.Queue[tuple[T] | BaseException | None] = queue.Queue()
        self._wanted = threading.Semaphore(1)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="hfsv-ahead", daemon=True)

    def _work(self) -> None:
        try:
            while self._wanted.acquire() and not self._closed:
                item = next(self._source, None)
                if item is None:
                    break
                self._made.put((item,))
                del item
            if hasattr(self._source, "close"):
                self._source.close()
            self._made.put(None)
        except BaseException as exc:
            self._made.put(exc)

    def __iter__(self) -> Iterator[T]:
        while True:
            made = self._made.get()
            if made is None:
                return
            if isinstance(made, BaseException):
                raise made
            self._wanted.release()
            yield made[0]
            del made

    def __enter__(self) -> Ahead[T]:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True
        self._wanted.release()
        self._thread.join()
