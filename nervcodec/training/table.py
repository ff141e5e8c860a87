"""Embeddings of all frames as values of their own, without the content encoder that made them.

:mod:`nervcodec.training.trainer` trains with them in the later part of its schedule: a step then
takes less time, and each value goes where its own frame wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

BETAS = (0.9, 0.95)
EPSILON = 1e-8


class EmbeddingTable:
    """Embeddings of each frame, stepped by Adam whenever the frame is seen.

    Args:
        shapes: names and shapes (frames, channels, rows, columns).
        device: where the training is.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], device: torch.device) -> None:
        self._values, self._first, self._second = (
            {name: torch.zeros(tuple(shape), device=device) for name, shape in shapes.items()}
            for _ in range(3)
        )
        frames = next(iter(shapes.values()))[0] if shapes else 0
        self._seen = torch.zeros(frames, device=device)
        self._in_use = torch.zeros(())
        self._rows: tuple[Tensor, ...] = ()

    @property
    def in_use(self) -> bool:
        return bool(self._in_use > 0)

    @property
    def values(self) -> list[Tensor]:
        """Of all frames."""
        return list(self._values.values())

    def begin(self, embeddings: Sequence[Tensor]) -> None:
        """Take over the embeddings of all frames, in the order of their names."""
        for values, given in zip(self._values.values(), embeddings, strict=True):
            values.copy_(given)
        self._in_use.fill_(1.0)

    def rows(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Embeddings of some frames, of which gradients are taken for the next step."""
        places = indices.to(self._seen.device)
        self._rows = tuple(values[places].requires_grad_() for values in self._values.values())
        return self._rows

    @torch.no_grad()
    def step(self, indices: Tensor, rate: float) -> None:
        """Step the embeddings of those frames against their gradients."""
        places = indices.to(self._seen.device)
        self._seen[places] += 1
        count = self._seen[places].view(-1, 1, 1, 1)
        corrections = [1 - beta**count for beta in BETAS]
        tables = (self._values.values(), self._first.values(), self._second.values())
        for rows, values, first, second in zip(self._rows, *tables, strict=True):
            assert rows.grad is not None
            first[places] = first[places].lerp(rows.grad, 1 - BETAS[0])
            second[places] = second[places].lerp(rows.grad.square(), 1 - BETAS[1])
            root = (second[places] / corrections[1]).sqrt_().add_(EPSILON)
            values[places] -= rate * first[places] / corrections[0] / root
        self._rows = ()

    def tensors(self) -> dict[str, Tensor]:
        """The state itself, not a copy."""
        found = {"in_use": self._in_use, "seen": self._seen}
        parts = {"value": self._values, "exp_avg": self._first, "exp_avg_sq": self._second}
        for part, table in parts.items():
            found |= {f"{name}.{part}": values for name, values in table.items()}
        return found
