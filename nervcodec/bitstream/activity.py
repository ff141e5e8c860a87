"""How much embeddings changed lately, place by place: by what their changes are classed (5.4).

A change is likely where the frames before changed, there and around it. Each class of a tensor has
a table of its own in :mod:`nervcodec.bitstream.coding`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nervcodec.bitstream.tables import CENTRE

LARGEST_ACTIVITY = 896
"""Of a place and its neighbours."""

BIT_LENGTHS = np.array([n.bit_length() for n in range(LARGEST_ACTIVITY + 1)], dtype=np.uint8)
MOST_CLASSES = 11
"""The largest activity has 10 bits."""

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
        channels, rows, columns = shape
        self._bordered = np.zeros((channels, rows + 2, columns + 2), dtype=np.int32)
        self._values = self._bordered[:, 1:-1, 1:-1]

    def lengths(self) -> Lengths:
        """Bits of the activity at each place before the next frame: its class but for the most."""
        values = self._bordered
        around = values[:, :-2, 1:-1] + values[:, 2:, 1:-1]
        around += values[:, 1:-1, :-2] + values[:, 1:-1, 2:]
        lengths: Lengths = BIT_LENGTHS[(4 * self._values + around) >> 2]
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
