"""The spectrum loss against its literal formula with FFTs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nervcodec.training.losses import FrameWeights, SpectrumLoss, default_cutoff

SIZES = [(8, 6), (7, 5), (8, 5), (9, 16), (1, 1), (2, 1), (1, 9), (33, 20)]
CUTOFFS = [1, 2, 3, 4, 5, 8, 100]


def high_pass(frames: Tensor, m: int, gain: float) -> Tensor:
    """FFT2, centred, zero the square |f| < m, times g, inverse FFT (paper section 3.4)."""
    height, width = frames.shape[2:]
    spectrum = torch.fft.fftshift(torch.fft.fft2(frames), dim=(2, 3))
    rows = torch.arange(height) - height // 2
    columns = torch.arange(width) - width // 2
    low = (rows.abs() < m)[:, None] & (columns.abs() < m)[None, :]
    filtered = spectrum * torch.where(low, 0.0, gain)
    back = torch.fft.ifft2(torch.fft.ifftshift(filtered, dim=(2, 3)))
    assert back.imag.abs().max() < 1e-12
    return back.real


def literal(prediction: Tensor, target: Tensor, weight: float, gain: float, m: int) -> Tensor:
    mse = (prediction - target).square().mean()
    difference = high_pass(prediction, m, gain) - high_pass(target, m, gain)
    return mse + weight * difference.square().mean()


def frames(width: int, height: int, seed: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator, dtype=torch.float64)


def mean(loss: SpectrumLoss, prediction: Tensor, target: Tensor) -> Tensor:
    """The loss of all frames together."""
    return loss(prediction, target)[0].mean()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_loss_is_the_literal_formula(width: int, height: int, cutoff: int) -> None:
    prediction, target = frames(width, height, 1), frames(width, height, 2)
    loss = SpectrumLoss(width, height, weight=0.3, gain=2.0, cutoff=cutoff)
    expected = literal(prediction, target, 0.3, 2.0, cutoff)
    assert float(mean(loss, prediction.float(), target.float())) == pytest.approx(
        float(expected), rel=1e-5
    )


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_gradient_is_that_of_the_literal_formula(width: int, height: int, cutoff: int) -> None:
    target = frames(width, height, 2)
    exact = frames(width, height, 1).requires_grad_()
    fast = exact.detach().float().requires_grad_()
    torch.autograd.backward(literal(exact, target, 0.3, 2.0, cutoff))
    loss = SpectrumLoss(width, height, weight=0.3, gain=2.0, cutoff=cutoff)
    torch.autograd.backward(mean(loss, fast, target.float()))
    assert fast.grad is not None
    assert exact.grad is not None
    assert fast.grad.isfinite().all()
    scale = float(exact.grad.abs().max())
    torch.testing.assert_close(fast.grad.double(), exact.grad, rtol=0, atol=1e-5 * scale)


def test_the_defaults_are_those_of_the_paper() -> None:
    prediction, target = frames(48, 40, 1), frames(48, 40, 2)
    loss = SpectrumLoss(48, 40)
    expected = literal(prediction, target, 0.12, 3.0, default_cutoff(48, 40))
    assert float(mean(loss, prediction.float(), target.float())) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_a_weight_of_zero_is_the_mean_squared_error() -> None:
    prediction, target = frames(9, 7, 1).float(), frames(9, 7, 2).float()
    mse = (prediction - target).square().mean()
    for loss in (SpectrumLoss(9, 7, weight=0.0), SpectrumLoss(9, 7, gain=0.0)):
        torch.testing.assert_close(mean(loss, prediction, target), mse)


def test_equal_frames_have_no_loss_and_a_finite_gradient() -> None:
    target = frames(9, 8, 1).float()
    prediction = target.clone().requires_grad_()
    loss = mean(SpectrumLoss(9, 8), prediction, target)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0.0
    assert prediction.grad is not None
    assert not prediction.grad.any()


def test_a_flat_difference_is_low_and_a_checkerboard_high() -> None:
    flat = torch.full((1, 3, 8, 8), 0.5)
    board = 0.5 * (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8)[None, :])
    zero, factor = torch.zeros(1, 3, 8, 8), 0.12 * 9
    loss = SpectrumLoss(8, 8, cutoff=2)
    assert float(mean(loss, flat, zero)) == pytest.approx(0.25, rel=1e-5)
    assert float(mean(loss, board.expand(1, 3, 8, 8), zero)) == pytest.approx(0.25 * (1 + factor))


def test_frames_have_losses_of_their_own() -> None:
    prediction, target = frames(9, 8, 1, 3).float(), frames(9, 8, 2, 3).float()
    loss = SpectrumLoss(9, 8, cutoff=3)
    losses, errors = loss(prediction, target)
    for i in range(3):
        alone, error = loss(prediction[i : i + 1], target[i : i + 1])
        torch.testing.assert_close(losses[i : i + 1], alone)
        torch.testing.assert_close(errors[i : i + 1], error)
        assert float(error) == pytest.approx(
            float((prediction[i] - target[i]).square().mean()), rel=1e-6
        )


def test_weighted_losses_have_the_gradient_of_the_mean_psnr() -> None:
    """But for the mean error, which is the same for all frames."""
    target = frames(9, 8, 2, 3).float()
    spread = torch.tensor([1.0, 0.7, 1.2])[:, None, None, None]
    prediction = (target + spread * (frames(9, 8, 1, 3).float() - 0.5)).requires_grad_()
    _, errors = SpectrumLoss(9, 8, weight=0.0)(prediction, target)
    weights = FrameWeights(3)
    (found,) = torch.autograd.grad((weights(errors) * errors).mean(), prediction, retain_graph=True)
    (expected,) = torch.autograd.grad(errors.log().mean(), prediction)
    torch.testing.assert_close(found, expected * weights.mean)


def test_weights_follow_the_mean_error_and_have_limits() -> None:
    weights = FrameWeights(10)
    assert weights(torch.tensor([0.2])).tolist() == [1.0]
    assert weights(torch.tensor([0.1])).tolist() == pytest.approx([1.9])
    assert weights(torch.tensor([0.0])).tolist() == [4.0]
    assert weights(torch.tensor([9.0])).tolist() == [0.25]


@pytest.mark.parametrize(
    ("width", "height", "cutoff"),
    [(1280, 640, 17), (640, 1280, 17), (640, 320, 8), (320, 160, 4), (8, 8, 1), (1, 1, 1)],
)
def test_the_cutoff_scales_with_the_shorter_side(width: int, height: int, cutoff: int) -> None:
    assert default_cutoff(width, height) == cutoff
