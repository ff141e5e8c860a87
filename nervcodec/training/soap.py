"""SOAP, Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024), and Adam itself.

:mod:`nervcodec.training.trainer` uses it. Its state is a set of tensors by name, so that a
checkpoint can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LARGEST_SIDE = 256
"""Sides of a matrix that are longer keep their own axes: a basis costs the cube of its side."""

EPSILON = 1e-8
"""Added to the root of the second moment."""

REFINE_EVERY = 10
"""Steps between two refinements of the bases."""


class Soap:
    """Steps along gradients that are seen as matrices (first axis, all others).

    Vectors, and sides longer than ``largest_side``, have no basis of their own; without any
    basis this is Adam, bias correction included. What networks of this size cost is the calls and
    not the arithmetic, so all parameters' moments lie in one tensor, in the bases, and matrices of
    one shape are rotated together.

    Args:
        parameters: tensors to optimize, by name; one without a gradient counts as one of zeros.
        beta1, beta2: decay of the first moment; of the second moment and the preconditioners.
        largest_side: longest side that gets a basis; 0 for Adam.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        beta1: float,
        beta2: float,
        largest_side: int = LARGEST_SIDE,
    ) -> None:
        self.steps = 0
        self._beta1, self._beta2 = beta1, beta2
        shapes: dict[tuple[int, int], list[Tensor]] = {}
        for parameter in parameters.values():
            shapes.setdefault(_matrix_shape(parameter), []).append(parameter)
        self._parameters = [p for group in shapes.values() for p in group]
        like = self._parameters[0].detach()
        count = sum(p.numel() for p in self._parameters)
        self._moments = like.new_zeros(count)
        self._squares = like.new_zeros(count)
        self._groups: list[_Group] = []
        start = 0
        for shape, group in shapes.items():
            found = _Group(start, len(group), shape, largest_side, like)
            if found.sides:
                self._groups.append(found)
            start += len(group) * shape[0] * shape[1]

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step of size ``rate`` for every parameter."""
        self.steps += 1
        gradients = torch.cat(
            [
                torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1)
                for p in self._parameters
            ]
        )
        rotated = gradients.clone() if self._groups else gradients
        for group in self._groups:
            group.of(rotated).copy_(group.rotated(group.of(gradients)))
        self._moments.lerp_(rotated, 1 - self._beta1)
        self._squares.mul_(self._beta2).addcmul_(rotated, rotated, value=1 - self._beta2)
        root = (self._squares / (1 - self._beta2**self.steps)).sqrt_().add_(EPSILON)
        direction = torch.div(self._moments, root.mul_(1 - self._beta1**self.steps), out=root)
        for group in self._groups:
            own = group.of(direction)
            own.copy_(group.rotated_back(own))
            group.follow(group.of(gradients), self._beta2)
            if self.steps <= REFINE_EVERY or self.steps % REFINE_EVERY == 0:
                group.refine(group.of(self._moments), group.of(self._squares))
        parts = torch.split(direction, [p.numel() for p in self._parameters])
        updates = [part.view(p.shape) for part, p in zip(parts, self._parameters, strict=True)]
        torch._foreach_add_(self._parameters, updates, alpha=-rate)

    def tensors(self) -> dict[str, Tensor]:
        """The state itself, not a copy."""
        found = {"exp_avg": self._moments, "exp_avg_sq": self._squares}
        for group in self._groups:
            for side, (preconditioner, basis) in group.sides.items():
                found[f"{group.name}.{side}"] = preconditioner
                found[f"{group.name}.{side}_basis"] = basis
        return found


class _Group:
    """Matrices of one shape (G, m, n), which lie one behind the other from ``start`` on.

    Attributes:
        sides: preconditioners and bases, (G, m, m) at the left and (G, n, n) at the right.
    """

    def __init__(
        self, start: int, count: int, shape: tuple[int, int], largest_side: int, like: Tensor
    ) -> None:
        self._slice = slice(start, start + count * shape[0] * shape[1])
        self._shape = (count, *shape)
        self.name = "x".join(map(str, shape))
        self.sides: dict[str, tuple[Tensor, Tensor]] = {}
        for side, size in zip(("left", "right"), shape, strict=True):
            if size <= largest_side and 1 not in shape:
                basis = torch.eye(size, dtype=like.dtype, device=like.device)
                zeros = like.new_zeros(count, size, size)
                self.sides[side] = (zeros, basis.expand(count, -1, -1).contiguous())

    def of(self, flat: Tensor) -> Tensor:
        """This group's part of a flat tensor, (G, m, n)."""
        return flat[self._slice].view(self._shape)

    def rotated(self, x: Tensor) -> Tensor:
        """``x`` in the bases of its sides."""
        if "left" in self.sides:
            x = self.sides["left"][1].mT @ x
        return x @ self.sides["right"][1] if "right" in self.sides else x

    def rotated_back(self, x: Tensor) -> Tensor:
        if "left" in self.sides:
            x = self.sides["left"][1] @ x
        return x @ self.sides["right"][1].mT if "right" in self.sides else x

    def follow(self, gradients: Tensor, beta2: float) -> None:
        """Update the preconditioners."""
        for side, (preconditioner, _) in self.sides.items():
            g = gradients if side == "left" else gradients.mT
            preconditioner.baddbmm_(g, g.mT, beta=beta2, alpha=1 - beta2)

    def refine(self, moments: Tensor, squares: Tensor) -> None:
        """A step of orthogonal iteration for the bases; the moments move with their directions.

        An eigenvalue decomposition would be a better beginning, but can fail to converge.
        """
        moments.copy_(self.rotated_back(moments))
        for side, (preconditioner, basis) in self.sides.items():
            image = preconditioner @ basis
            order = (basis * image).sum(dim=1).argsort(dim=1, descending=True)  # (G, size)
            columns = order.unsqueeze(1).expand_as(image)
            across = order.unsqueeze(2 if side == "left" else 1).expand_as(squares)
            squares.copy_(squares.gather(1 if side == "left" else 2, across))
            basis.copy_(torch.linalg.qr(image.gather(2, columns))[0])
        moments.copy_(self.rotated(moments))


def _matrix_shape(tensor: Tensor) -> tuple[int, int]:
    """(first axis, all others); a vector is one row."""
    rows = len(tensor) if tensor.ndim > 1 else 1
    return rows, tensor.numel() // rows
