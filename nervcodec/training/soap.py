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
    basis this is Adam, bias correction included.

    Args:
        parameters: tensors to optimize, by name.
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
        self._parameters = dict(parameters)
        self._beta1, self._beta2 = beta1, beta2
        self._states = {name: _begin(p.detach(), largest_side) for name, p in parameters.items()}

    def zero_grad(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step of size ``rate`` for every parameter that has a gradient."""
        self.steps += 1
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                update = self._update(self._states[name], _matrix(parameter.grad))
                parameter.sub_(update.view(parameter.shape), alpha=rate)

    def tensors(self) -> dict[str, Tensor]:
        """The state itself, not a copy: ``parameter.part`` to tensor."""
        return {
            f"{name}.{part}": tensor
            for name, state in self._states.items()
            for part, tensor in state.items()
        }

    def _update(self, state: dict[str, Tensor], gradient: Tensor) -> Tensor:
        """The direction to step against, of the gradient's shape."""
        beta1, beta2 = self._beta1, self._beta2
        squares = state["exp_avg_sq"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        rotated = _rotated(state, gradient)
        squares.mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
        root = (squares / (1 - beta2**self.steps)).sqrt_().add_(EPSILON)
        moment = _rotated(state, state["exp_avg"])
        direction = _rotated_back(state, moment / root / (1 - beta1**self.steps))
        for side in ("left", "right"):
            if side in state:
                self._follow(state, side, gradient if side == "left" else gradient.T)
        return direction

    def _follow(self, state: dict[str, Tensor], side: str, gradient: Tensor) -> None:
        """Update a preconditioner and, now and then, its basis by orthogonal iteration.

        An eigenvalue decomposition would be a better beginning, but can fail to converge. Second
        moments move with their directions when these change their order.
        """
        preconditioner, basis = state[side], state[f"{side}_basis"]
        preconditioner.lerp_(gradient @ gradient.T, 1 - self._beta2)
        if self.steps <= REFINE_EVERY or self.steps % REFINE_EVERY == 0:
            energy = (basis * (preconditioner @ basis)).sum(dim=0)
            order = energy.argsort(descending=True)
            squares = state["exp_avg_sq"]
            squares.copy_(squares.index_select(0 if side == "left" else 1, order))
            basis.copy_(torch.linalg.qr(preconditioner @ basis[:, order])[0])


def _matrix(tensor: Tensor) -> Tensor:
    """(first axis, all others); a vector as one row."""
    return tensor.reshape(len(tensor) if tensor.ndim > 1 else 1, -1)


def _begin(parameter: Tensor, largest_side: int) -> dict[str, Tensor]:
    matrix = _matrix(parameter)
    state = {"exp_avg": torch.zeros_like(matrix), "exp_avg_sq": torch.zeros_like(matrix)}
    for side, size in zip(("left", "right"), matrix.shape, strict=True):
        if 1 < size <= largest_side and 1 not in matrix.shape:
            state[side] = matrix.new_zeros(size, size)
            state[f"{side}_basis"] = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    return state


def _rotated(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """``x`` in the bases of its sides."""
    if "left" in state:
        x = state["left_basis"].T @ x
    return x @ state["right_basis"] if "right" in state else x


def _rotated_back(state: dict[str, Tensor], x: Tensor) -> Tensor:
    if "left" in state:
        x = state["left_basis"] @ x
    return x @ state["right_basis"].T if "right" in state else x
