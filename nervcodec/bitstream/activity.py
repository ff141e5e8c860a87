"""How much embeddings changed lately, place by place: by what their changes are classed (5.4).

A change is likely where the frames before changed, there and around it. Each class of a tensor has
a table of its own in :mod:`nervcodec.bitstream.coding`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nervcodec.bitstream.tables import CENTRE

MOST_CLASSES = 11
"""The activity of a place and its neighbours is at most 896, which has 10 bits."""

LARGEST_CHANGE = 7
UNIT_SHIFT = 4
DECAY_SHIFT = 2

Lengths = npt.NDArray[np.uint8]
Changes = npt.NDArray[np.uint8]


class Activity:
    """Follows the changes of an embedding, frame by frame.

    Args:
        shape: (channels, rows, columns).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._values = np.zeros(tuple(shape), dtype=np.int32)

    def lengths(self) -> Lengths:
        """Bits of the activity at each place before the next frame: its class but for the most."""
        padded = np.pad(self._values, ((0, 0), (1, 1), (1, 1)))
        around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
        around += padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
        _, exponents = np.frexp(((4 * self._values + around) >> 2).astype(np.float64))
        lengths: Lengths = exponents.astype(np.uint8)
        return lengths

    def follow(self, changes: Changes) -> None:
        """The next frame's symbols, of which 128 is no change."""
        distance = np.abs(changes.astype(np.int32) - CENTRE)
        self._values -= self._values >> DECAY_SHIFT
        self._values += np.minimum(distance, LARGEST_CHANGE) << UNIT_SHIFT


def bit_lengths(changes: Changes) -> Lengths:
    """Of the activity before each frame of (frames, channels, rows, columns) changes."""
    activity = Activity(changes.shape[1:])
    found = np.empty_like(changes)
    for frame, own in zip(changes, found, strict=True):
        own[:] = activity.lengths()
        activity.follow(frame)
    return found
