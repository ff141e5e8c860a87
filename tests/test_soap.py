"""SOAP against a literal form of its algorithm, and Adam against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nervcodec.training.soap import LARGEST_STEP, REFINE_EVERY, Soap


def losses(optimizer: str, rate: float, steps: int = 60) -> list[float]:
    """Least squares whose two sides are both badly conditioned."""
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.randn(n, n, generator=generator) for n in (6, 8))
    left = left @ torch.diag(torch.logspace(0, -2, 6))
    target = left @ torch.randn(6, 8, generator=generator) @ right
    weight = torch.zeros(6, 8, requires_grad=True)
    soap = Soap({"w": weight}, 0.9, 0.95, 256 if optimizer == "soap" else 0)
    found = []
    for _ in range(steps):
        loss = (left @ weight @ right - target).square().mean()
        soap.zero_grad()
        torch.autograd.backward(loss)
        soap.step(rate)
        found.append(float(loss.detach()))
    return found


def test_bases_help_where_axes_are_mixed() -> None:
    assert losses("soap", 0.1)[-1] < 0.6 * losses("adam", 0.1)[-1]


def test_without_bases_it_is_adam() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.ones(3, 4, requires_grad=True) for _ in range(2))
    soap = Soap({"w": ours}, 0.9, 0.999, largest_side=0)
    adam = torch.optim.Adam([theirs], lr=0.02, betas=(0.9, 0.999))
    for _ in range(25):
        data = torch.randn(3, 4)
        for weight in (ours, theirs):
            weight.grad = None
            torch.autograd.backward((weight * data).sin().sum())
        soap.step(0.02)
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_bases_are_orthogonal_and_come_near_the_eigenvectors() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.zeros(5, 7, requires_grad=True)
    soap = Soap({"w": weight}, 0.9, 0.99)
    scale = torch.tensor([9.0, 3.0, 1.0, 0.3, 0.1])[:, None]
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0]
    for _ in range(30 * REFINE_EVERY):
        weight.grad = turn @ (scale * torch.randn(5, 7, generator=generator))
        soap.step(1e-3)
    (basis,) = soap.tensors()["5x7.left_basis"]
    torch.testing.assert_close(basis.T @ basis, torch.eye(5), atol=1e-5, rtol=0)
    assert ((basis.T @ turn).diagonal().abs() > 0.95).all()


@pytest.mark.parametrize("shape", [(7,), (1, 5), (300, 3), (4, 3, 3, 3)])
def test_sides_that_get_a_basis(shape: tuple[int, ...]) -> None:
    names = set(Soap({"w": torch.zeros(shape)}, 0.9, 0.9).tensors()) - {"exp_avg", "exp_avg_sq"}
    expected = {
        (7,): set(),
        (1, 5): set(),
        (300, 3): {"300x3.right", "300x3.right_basis"},
        (4, 3, 3, 3): {f"4x27.{side}{of}" for side in ("left", "right") for of in ("", "_basis")},
    }
    assert names == expected[shape]


def literal(gradients: list[Tensor], rate: float, beta1: float, beta2: float) -> Tensor:
    """SOAP of one matrix, step by step: moments kept in the matrix's own axes."""
    weight, moment, squares = (torch.zeros_like(gradients[0]) for _ in range(3))
    sides = [torch.zeros(n, n) for n in weight.shape]
    bases = [torch.eye(n) for n in weight.shape]
    for step, gradient in enumerate(gradients, 1):
        moment = beta1 * moment + (1 - beta1) * gradient
        rotated = bases[0].T @ gradient @ bases[1]
        squares = beta2 * squares + (1 - beta2) * rotated**2
        turned = bases[0].T @ moment @ bases[1]
        update = turned / (1 - beta1**step) / ((squares / (1 - beta2**step)).sqrt() + 1e-8)
        update = update.clamp(-LARGEST_STEP, LARGEST_STEP)
        weight = weight - rate * bases[0] @ update @ bases[1].T
        for axis, matrix in enumerate((gradient, gradient.T)):
            sides[axis] = beta2 * sides[axis] + (1 - beta2) * matrix @ matrix.T
            if step <= REFINE_EVERY or step % REFINE_EVERY == 0:
                order = (bases[axis] * (sides[axis] @ bases[axis])).sum(0).argsort(descending=True)
                squares = squares.index_select(axis, order)
                bases[axis] = torch.linalg.qr(sides[axis] @ bases[axis][:, order])[0]
    return weight


def test_matrices_of_one_shape_are_kept_apart() -> None:
    generator = torch.Generator().manual_seed(4)
    shapes = {"a": (3, 4), "bias": (5,), "b": (3, 2, 2), "long": (300, 2)}
    weights = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
    soap = Soap(weights, 0.9, 0.95)
    given: dict[str, list[Tensor]] = {name: [] for name in shapes}
    for _ in range(3 * REFINE_EVERY):
        for name, shape in shapes.items():
            given[name].append(torch.randn(shape, generator=generator))
            weights[name].grad = given[name][-1]
        soap.step(0.01)
    for name in ("a", "b"):
        expected = literal([g.reshape(3, 4) for g in given[name]], 0.01, 0.9, 0.95)
        found = weights[name].detach().reshape(3, 4)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_steps_in_the_bases_are_bounded() -> None:
    """A gradient a thousand times those before moves Adam by more than a learning rate."""
    moved = {}
    for side in (0, 256):
        weight = torch.zeros(4, 4, requires_grad=True)
        soap = Soap({"w": weight}, 0.9, 0.999, side)
        for size in [1e-3] * 200 + [1.0]:
            before = weight.detach().clone()
            weight.grad = size * torch.eye(4)
            soap.step(0.01)
        moved[side] = float((weight.detach() - before).norm())
    # Four coordinates move, those of the diagonal.
    assert moved[0] > 1.3 * 0.01 * 2
    assert moved[256] <= 1.001 * LARGEST_STEP * 0.01 * 2
