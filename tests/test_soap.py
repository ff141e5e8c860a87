"""SOAP against a literal form of its algorithm, and Adam against torch's."""

from __future__ import annotations

import pytest
import torch

from nervcodec.training.soap import REFINE_EVERY, Soap


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
    state = soap.tensors()
    basis = state["w.left_basis"]
    torch.testing.assert_close(basis.T @ basis, torch.eye(5), atol=1e-5, rtol=0)
    assert ((basis.T @ turn).diagonal().abs() > 0.95).all()


@pytest.mark.parametrize("shape", [(7,), (1, 5), (300, 3), (4, 3, 3, 3)])
def test_sides_that_get_a_basis(shape: tuple[int, ...]) -> None:
    names = set(Soap({"w": torch.zeros(shape)}, 0.9, 0.9).tensors())
    plain = {"w.exp_avg", "w.exp_avg_sq"}
    left, right = {"w.left", "w.left_basis"}, {"w.right", "w.right_basis"}
    expected = {
        (7,): plain,
        (1, 5): plain,
        (300, 3): plain | right,
        (4, 3, 3, 3): plain | left | right,
    }
    assert names == expected[shape]
