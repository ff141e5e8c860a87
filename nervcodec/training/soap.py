"""SOAP, Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024), and Adam itself.

:mod:`nervcodec.training.trainer` uses it. Its state is a set of tensors by name, so that a
checkpoint can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

LARGEST_SIDE = 256
"""Sides of a matrix that are longer keep their own axes: a basis costs the cube of its side."""

EPSILON = 1e-8
"""Added to the root of the second moment."""

LARGEST_STEP = 1.0
"""Of a coordinate in the bases, in learning rates. Where a gradient is far larger than those
before, Adam's steps grow to (1 - beta1) / sqrt(1 - beta2), and to more where a basis has turned."""

REFINE_EVERY = 20
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
        self._counts = [p.numel() for p in self._parameters]
        like = self._parameters[0].detach()
        # Gradients, rotated ones and the direction are of a step; the others are the state.
        self._gradients, self._rotated, self._direction, self._moments, self._squares = (
            like.new_zeros(sum(self._counts)) for _ in range(5)
        )
        self._groups: list[_Group] = []
        start = 0
        for shape, group in shapes.items():
            end = start + len(group) * shape[0] * shape[1]
            if any(1 < side <= largest_side for side in shape) and 1 not in shape:
                flats = (
                    self._gradients,
                    self._rotated,
                    self._direction,
                    self._moments,
                    self._squares,
                )
                parts = [flat[start:end].view(len(group), *shape) for flat in flats]
                self._groups.append(_Group(parts, largest_side))
            start = end

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step of size ``rate`` for every parameter."""
        self.steps += 1
        torch.cat([_gradient(p).reshape(-1) for p in self._parameters], out=self._gradients)
        self._rotated.copy_(self._gradients)
        for group in self._groups:
            group.rotate()
        self._moments.lerp_(self._rotated, 1 - self._beta1)
        self._squares.mul_(self._beta2)
        self._squares.addcmul_(self._rotated, self._rotated, value=1 - self._beta2)
        root = torch.div(self._squares, 1 - self._beta2**self.steps).sqrt_().add_(EPSILON)
        root.mul_(1 - self._beta1**self.steps)
        torch.div(self._moments, root, out=self._direction)
        for group in self._groups:
            group.rotate_back()
            group.follow(self._beta2)
            if self.steps <= REFINE_EVERY or self.steps % REFINE_EVERY == 0:
                group.refine()
        parts = torch.split(self._direction, self._counts)
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
    """Matrices of one shape, (G, m, n) each: gradients, rotated ones, direction, and moments.

    Attributes:
        sides: preconditioners and bases, (G, m, m) at the left and (G, n, n) at the right.
    """

    def __init__(self, parts: Sequence[Tensor], largest_side: int) -> None:
        self._gradients, self._rotated, self._direction, self._moments, self._squares = parts
        gradients = parts[0]
        self._between = torch.empty_like(gradients)
        count, *shape = gradients.shape
        self.name = "x".join(map(str, shape))
        self.sides: dict[str, tuple[Tensor, Tensor]] = {}
        for side, size in zip(("left", "right"), shape, strict=True):
            if size <= largest_side:
                basis = torch.eye(size, dtype=gradients.dtype, device=gradients.device)
                zeros = gradients.new_zeros(count, size, size)
                self.sides[side] = (zeros, basis.expand(count, -1, -1).contiguous())

    def rotate(self) -> None:
        """The gradients in the bases of their sides."""
        self._turn(self._gradients, self._rotated, back=False)

    def rotate_back(self) -> None:
        """The direction, within bounds, in its own axes."""
        self._direction.clamp_(-LARGEST_STEP, LARGEST_STEP)
        self._turn(self._direction, self._direction, back=True)

    def follow(self, beta2: float) -> None:
        """Update the preconditioners."""
        for side, (preconditioner, _) in self.sides.items():
            g = self._gradients if side == "left" else self._gradients.mT
            preconditioner.baddbmm_(g, g.mT, beta=beta2, alpha=1 - beta2)

    def refine(self) -> None:
        """A step of orthogonal iteration for the bases; the moments move with their directions.

        An eigenvalue decomposition would be a better beginning, but can fail to converge.
        """
        squares = self._squares
        self._turn(self._moments, self._moments, back=True)
        for side, (preconditioner, basis) in self.sides.items():
            image = preconditioner @ basis
            order = (basis * image).sum(dim=1).argsort(dim=1, descending=True)  # (G, size)
            columns = order.unsqueeze(1).expand_as(image)
            across = order.unsqueeze(2 if side == "left" else 1).expand_as(squares)
            squares.copy_(squares.gather(1 if side == "left" else 2, across))
            basis.copy_(torch.linalg.qr(image.gather(2, columns))[0])
        self._turn(self._moments, self._moments, back=False)

    def _turn(self, x: Tensor, out: Tensor, *, back: bool) -> None:
        """``x`` in the bases of its sides, or back from there; ``out`` may be ``x``."""
        left, right = (self._basis(side, back) for side in ("left", "right"))
        if left is not None and right is not None:
            torch.bmm(torch.bmm(left, x, out=self._between), right.mT, out=out)
        elif left is not None:
            out.copy_(torch.bmm(left, x, out=self._between))
        elif right is not None:
            out.copy_(torch.bmm(x, right.mT, out=self._between))

    def _basis(self, side: str, back: bool) -> Tensor | None:
        if side not in self.sides:
            return None
        basis = self.sides[side][1]
        return basis if back else basis.mT


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _matrix_shape(tensor: Tensor) -> tuple[int, int]:
    """(first axis, all others); a vector is one row."""
    rows = len(tensor) if tensor.ndim > 1 else 1
    return rows, tensor.numel() // rows
