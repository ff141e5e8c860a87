"""Frames of a .hfsv file for training: a dataset for ``torch.utils.data.DataLoader``.

:mod:`nervcodec.clip` serves the frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nervcodec.clip import HfsvFile


class FrameDataset(Dataset[Tensor]):
    """The frames of an open file, those that are lost left out, as tensors (3, H, W) or (H, W, 3).

    A loader's batch is evaluated together. With a ``clip`` opened on a GPU the frames are made
    there and stay there, and the loader must do without worker processes. With ``cpu`` it may
    have workers, each of which opens the file for itself.

    Args:
        dtype, layout: as for :meth:`nervcodec.clip.HfsvFile.tensors`.
    """

    def __init__(
        self, clip: HfsvFile, *, dtype: torch.dtype = torch.float32, layout: str = "nchw"
    ) -> None:
        self.clip = clip
        self._dtype, self._layout = dtype, layout
        held = list(itertools.chain.from_iterable(clip.present())) if clip.lost else None
        self._numbers: Sequence[int] = range(len(clip)) if held is None else held
        clip.tensors([], dtype=dtype, layout=layout)  # an unknown one is told here

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """What a loader asks for: the frames of a batch, views of one tensor."""
        numbers = [self._numbers[index] for index in indices]
        return list(self.clip.tensors(numbers, dtype=self._dtype, layout=self._layout))
