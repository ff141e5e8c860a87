"""The training's kernels against torch in float64, for every instruction set of this CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import pytest
import torch
from torch import Tensor

from nervcodec.fast import operations
from nervcodec.fast.library import level
from nervcodec.fast.operations import FastOperations
from nervcodec.fast.operations import rounded_values as fast_rounded
from nervcodec.models.operations import TORCH
from nervcodec.training.rate import rounded_values

pytestmark = pytest.mark.skipif(not operations.available(), reason="without compiled kernels")

TOLERANCE = 5e-6
"""Of the largest value, in float32."""

WINOGRAD_TOLERANCE = 2e-5
"""The same where transformed rows are multiplied."""

FAST = FastOperations()


@pytest.fixture(params=range(level() + 1), autouse=True)
def _level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "level", lambda: request.param)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compare(
    fast: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    *inputs: Tensor,
    tolerance: float = TOLERANCE,
) -> None:
    """Results and all gradients of two functions, the first in float32, the second in float64."""
    exact = [x.clone().requires_grad_() for x in inputs]
    single = [x.float().requires_grad_() for x in inputs]
    expected, found = plain(*exact), fast(*single)
    weights = random(*expected.shape, seed=9)
    torch.autograd.backward((expected * weights).sum())
    torch.autograd.backward((found * weights.float()).sum())
    pairs = [(expected, found), *((a.grad, b.grad) for a, b in zip(exact, single, strict=True))]
    for theirs, ours in pairs:
        assert theirs is not None
        assert ours is not None
        assert ours.dtype == torch.float32
        assert ours.shape == theirs.shape
        error = (theirs - ours).abs().max() / theirs.abs().max()
        assert error < tolerance


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 1, 1),
        (1, 3, 8, 5, 7),
        (2, 13, 40, 15, 12),
        (1, 7, 11, 9, 33),
        (3, 9, 17, 1, 40),
        (1, 2, 30, 40, 72),
        (1, 64, 5, 3, 16),
    ],
    ids=str,
)
def test_convolution(kernel: int, sizes: tuple[int, ...]) -> None:
    images, inputs, outputs, height, width = sizes
    compare(
        FAST.convolve,
        TORCH.convolve,
        random(images, inputs, height, width),
        random(outputs, inputs, kernel, kernel, seed=1),
        random(outputs, seed=2),
    )


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 3, 3, 1, 1000),
        (2, 13, 40, 33, 35),
        (1, 7, 11, 6, 400),
        (1, 4, 17, 171, 37),
        (1, 20, 5, 200, 9),
    ],
    ids=str,
)
def test_convolution_by_transformed_rows(kernel: int, sizes: tuple[int, ...]) -> None:
    images, inputs, outputs, height, width = sizes
    x = random(images, inputs, height, width)
    weight, bias = random(outputs, inputs, kernel, kernel, seed=1), random(outputs, seed=2)
    assert operations.winograd_pays(inputs, outputs, height * width, kernel)
    compare(FAST.convolve, TORCH.convolve, x, weight, bias, tolerance=WINOGRAD_TOLERANCE)


@pytest.mark.parametrize(("groups", "outputs"), [(6, 6), (2, 4), (3, 9)])
def test_grouped_convolution(groups: int, outputs: int) -> None:
    compare(
        lambda *tensors: FAST.convolve(*tensors, groups),
        lambda *tensors: TORCH.convolve(*tensors, groups),
        random(2, 6, 9, 21),
        random(outputs, 6 // groups, 7, 7, seed=1),
        random(outputs, seed=2),
    )


def test_a_convolution_of_what_needs_no_gradient() -> None:
    weight, bias = random(4, 3, 3, 3).float().requires_grad_(), torch.zeros(4, requires_grad=True)
    x = random(1, 3, 6, 6).float()
    torch.autograd.backward(FAST.convolve(x, weight, bias).square().sum())
    assert x.grad is None
    assert weight.grad is not None
    assert bias.grad is not None


def test_inputs_need_not_be_contiguous() -> None:
    x = random(2, 5, 8, 6).float().to(memory_format=torch.channels_last)
    weight, bias = random(4, 5, 3, 3).float(), random(4).float()
    weight = weight.to(memory_format=torch.channels_last)
    torch.testing.assert_close(FAST.convolve(x, weight, bias), TORCH.convolve(x, weight, bias))


def test_gelu() -> None:
    compare(FAST.gelu, TORCH.gelu, torch.linspace(-9, 9, 1003, dtype=torch.float64))


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 2, 1, 40)], ids=str)
@pytest.mark.parametrize("name", ["upsampled", "upsampled_gelu"])
def test_upsampling(name: str, stride: int, sizes: tuple[int, ...]) -> None:
    compare(
        lambda x: getattr(FAST, name)(x, stride),
        lambda x: getattr(TORCH, name)(x, stride),
        random(*sizes),
    )


def test_what_takes_logits_to_samples() -> None:
    compare(FAST.in_range, TORCH.in_range, torch.linspace(-9, 9, 1003, dtype=torch.float64))


def test_without_gradients_no_slopes_are_kept() -> None:
    x = random(2, 8, 5, 7).float()
    leaf = x.clone().requires_grad_()
    for function in (
        FAST.gelu,
        lambda x: FAST.shuffled_gelu(x, 2),
        lambda x: FAST.upsampled_gelu(x, 2),
    ):
        torch.testing.assert_close(function(x), function(leaf).detach(), rtol=0, atol=0)


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_shuffled_gelu(stride: int) -> None:
    compare(
        lambda x: FAST.shuffled_gelu(x, stride),
        lambda x: TORCH.shuffled_gelu(x, stride),
        random(2, 3 * stride**2, 4, 17),
    )


@pytest.mark.parametrize("channels", [1, 6])
def test_gate(channels: int) -> None:
    compare(FAST.gate, TORCH.gate, random(2, 6, 5, 9), 3 * random(2, channels, 5, 9, seed=1))


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 2), (5, 8), (8, 5), (7, 7), (12, 33), (1, 9)], ids=str
)
def test_band_features(size: tuple[int, int]) -> None:
    compare(FAST.band_features, TORCH.band_features, random(2, 3, *size), random(4, seed=1))


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7), (9, 40)], ids=str)
def test_channel_norm(size: tuple[int, int]) -> None:
    compare(
        FAST.channel_norm,
        TORCH.channel_norm,
        random(2, 12, *size) + 3,
        random(12, seed=1),
        random(12, seed=2),
    )


def test_rate() -> None:
    """With values beyond the symbols, tensors without spread, and probabilities near nothing."""
    tensors = {
        "wide": random(9, 31) * 3,
        "clamped": random(40, seed=1) * 90,
        "narrow": random(5, 4, seed=2) * 1e-3,
        "one": random(1, seed=3),
        "outlier": torch.cat([random(300, seed=4), torch.tensor([60.0], dtype=torch.float64)]),
    }
    bounds = torch.tensor([0, *accumulate(t.numel() for t in tensors.values())])
    weights = random(int(bounds[-1]), seed=6)
    found = []
    for rounding, dtype in ((rounded_values, torch.float64), (fast_rounded, torch.float32)):
        values = torch.cat([t.flatten() for t in tensors.values()]).to(dtype).requires_grad_()
        steps = (0.5 * random(len(tensors), seed=5)).exp().to(dtype).requires_grad_()
        rounded, bits = rounding(values, steps, bounds)
        torch.autograd.backward(0.3 * bits + (rounded * weights.to(dtype)).sum())
        found.append([rounded, bits, values.grad, steps.grad])
    for theirs, ours in zip(*found, strict=True):
        assert theirs is not None
        assert ours is not None
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("groups", [1, 5])
def test_convolution_in_float64(kernel: int, groups: int) -> None:
    x, bias = random(2, 5, 13, 70), random(5, seed=2)
    weight = random(5, 5 // groups, kernel, kernel, seed=1)
    with torch.no_grad():
        found = FAST.convolve(x, weight, bias, groups)
    torch.testing.assert_close(
        found, TORCH.convolve(x, weight, bias, groups), rtol=1e-13, atol=1e-13
    )


# --- threads ------------------------------------------------------------------------------------


@pytest.fixture
def _threads() -> Iterator[None]:
    yield
    operations.use_threads(1)


def step(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """A convolution with its gradients, of some pieces of work."""
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    out = FAST.convolve(*leaves)
    torch.autograd.backward(out.square().sum())
    return out.detach(), *(t.grad for t in leaves if t.grad is not None)


def inputs(seed: int) -> tuple[Tensor, ...]:
    return (
        random(1, 9, 60, 90, seed=seed).float(),
        random(20, 9, 5, 5, seed=seed + 1).float(),
        random(20, seed=seed + 2).float(),
    )


@pytest.mark.usefixtures("_threads")
def test_threads_do_not_change_the_result() -> None:
    given = inputs(0)
    operations.use_threads(1)
    expected = step(*given)
    for threads in (2, 3, 64, 1000):
        operations.use_threads(threads)
        for _ in range(20):
            assert all(torch.equal(a, b) for a, b in zip(step(*given), expected, strict=True))


@pytest.mark.usefixtures("_threads")
def test_several_threads_may_compute_at_once() -> None:
    given = [inputs(seed) for seed in range(4)]
    operations.use_threads(1)
    expected = [step(*values) for values in given]
    operations.use_threads(3)

    def same(number: int) -> bool:
        pairs = zip(step(*given[number]), expected[number], strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(same, [n % 4 for n in range(200)]))


@pytest.mark.usefixtures("_threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    given = inputs(0)
    operations.use_threads(3)
    with torch.no_grad():
        expected = FAST.convolve(*given)
        child = os.fork()
        if child == 0:
            same = all(torch.equal(FAST.convolve(*given), expected) for _ in range(5))
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert torch.equal(FAST.convolve(*given), expected)
