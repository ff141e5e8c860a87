"""Post-training quantization: the error it makes, and the choice between one scale and many."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nervcodec.bitstream.coding import QuantizedTensor, scale_values
from nervcodec.bitstream.entropy import choose_table, encode
from nervcodec.bitstream.tensors import TensorSpec
from nervcodec.training.quantization import _with_range, quantize

Values = npt.NDArray[np.float32]
ROUNDED_UP = 1 + 2.0**-7
"""A scale has 8 significant bits and is rounded up."""


def tensor(values: object, name: str = "x.weight") -> tuple[TensorSpec, Values]:
    array = np.array(values, dtype=np.float32)
    return TensorSpec(name, array.shape), array


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> Values:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def exact(quantized: QuantizedTensor) -> npt.NDArray[np.float64]:
    """(symbol - zero) * scale in float64."""
    scales = scale_values(quantized.scales).astype(np.float64)
    levels = quantized.symbols.astype(np.float64) - quantized.zero
    if scales.size == 1:
        return levels * scales
    axis = quantized.spec.channel_axis
    assert axis is not None
    return np.moveaxis(np.moveaxis(levels, axis, -1) * scales, -1, axis)


def steps(quantized: QuantizedTensor) -> npt.NDArray[np.float64]:
    """The scale of each value, in the tensor's shape."""
    ones = np.ones_like(quantized.symbols)
    return exact(QuantizedTensor(quantized.spec, ones, 0, quantized.scales))


def check_error(values: Values, quantized: QuantizedTensor) -> None:
    """Every value is within half a step of its own scale."""
    error = np.abs(exact(quantized) - values.astype(np.float64))
    assert (error <= 0.5 * steps(quantized) * (1 + 1e-6)).all()


FLOATS = st.floats(-1e8, 1e8, width=32).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_errors_are_at_most_half_a_step_and_the_step_is_fine(values: list[float]) -> None:
    spec, array = tensor(values)
    quantized = quantize(spec, array)
    assert quantized.scales.shape == (1,)
    check_error(array, quantized)
    span = max(0.0, float(array.max())) - min(0.0, float(array.min()))
    assert float(scale_values(quantized.scales)[0]) <= max(span / 255 * ROUNDED_UP, 2.0**-40)


@given(st.integers(0, 1000), st.sampled_from(("embedding", "x.weight")), st.integers(2, 4))
def test_weights_and_embeddings_keep_the_error_bound(seed: int, name: str, channels: int) -> None:
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.uniform(-3, 3, channels)
    shape = [channels, 1, 1, 1] if name == "x.weight" else [1, channels, 1, 1]
    values = rng.normal(0, 1, (channels, channels, 3, 3)) * spread.reshape(shape)
    spec, array = tensor(values, name)
    quantized = quantize(spec, array)
    assert quantized.scales.size in (1, channels)
    check_error(array, quantized)


def priced(quantized: QuantizedTensor, values: Values) -> float:
    """Bits in the file, and half a bit a value for each doubling of the mean squared error."""
    table = choose_table(quantized.symbols, quantized.zero)
    words = encode([(quantized.symbols, table)])
    side = 8 * len(table.to_bytes()) + 16 * quantized.scales.size
    error = np.square(exact(quantized) - values).mean()
    return 32 * words.size + side + values.size / 2 * math.log2(error)


def spread(kind: str) -> Values:
    """Weights (8, 6, 3, 3) whose channels are alike, differ, or hold positive values only."""
    values = normal(8, 6, 3, 3)
    if kind == "positive":
        return np.abs(values)
    factors = {"alike": np.ones(8), "steps": 2.0 ** np.arange(8), "one loud": [1000.0] + [1.0] * 7}
    return (values * np.array(factors[kind]).reshape(8, 1, 1, 1)).astype(np.float32)


@pytest.mark.parametrize("kind", ["alike", "steps", "one loud", "positive"])
@pytest.mark.parametrize("name", ["x.weight", "embedding"])
def test_the_cheaper_of_one_scale_and_many_is_chosen(kind: str, name: str) -> None:
    values = spread(kind)
    spec, array = tensor(np.moveaxis(values, 0, 1) if name == "embedding" else values, name)
    single, many = (_with_range(spec, array, channels) for channels in (False, True))
    assert (single.scales.size, many.scales.size) == (1, 8)
    chosen = priced(quantize(spec, array), array)
    best = min(priced(single, array), priced(many, array))
    assert chosen <= best + 64  # words are whole, estimates are not


def test_a_scale_for_each_channel_is_tight() -> None:
    for name, axis in (("x.weight", 0), ("embedding", 1)):
        spec, array = tensor(np.moveaxis(spread("one loud"), 0, axis), name)
        quantized = _with_range(spec, array, channels=True)
        assert quantized.zero == 128
        scales = scale_values(quantized.scales)
        largest = np.abs(np.moveaxis(array, axis, 0)).reshape(8, -1).max(axis=1)
        assert (scales >= largest / 127 * (1 - 1e-6)).all()
        assert (scales <= largest / 127 * ROUNDED_UP).all()
        check_error(array, quantized)
        assert quantized.symbols.min() >= 1


def test_both_choices_are_made() -> None:
    assert quantize(*tensor(spread("alike"))).scales.shape == (1,)
    # The same three levels in every channel, up to its own factor: one scale would blur them.
    signs = np.random.default_rng(4).integers(-1, 2, (8, 6, 3, 3))
    factors = np.geomspace(1, 40, 8).reshape(8, 1, 1, 1)
    assert quantize(*tensor(signs * factors)).scales.shape == (8,)


def test_biases_and_single_channels_have_one_scale() -> None:
    bias = np.array([1000.0, 0.001, -0.001, 2.0], dtype=np.float32)
    assert quantize(*tensor(bias, "x.bias")).scales.shape == (1,)
    single = normal(1, 6, 3, 3)
    assert quantize(*tensor(single)).scales.shape == (1,)
    assert quantize(*tensor(normal(9, 1, 3, 3), "embedding")).scales.shape == (1,)


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3, 1, 1), (1, 1, 1, 1)])
def test_zeros_are_exact_and_one_symbol(shape: tuple[int, ...]) -> None:
    quantized = quantize(*tensor(np.zeros(shape)))
    assert np.unique(quantized.symbols).size == 1
    assert not quantized.dequantize().any()


def test_a_zero_among_others_is_exact() -> None:
    for values in ([0, 1, 2.5], [-7, 0, 0.1], [-3, -2, 0], [1e-20, 0, -1e-20], [5, 6, 0, 1e9]):
        spec, array = tensor(values)
        decoded = quantize(spec, array).dequantize()
        assert (decoded[array == 0] == 0).all()


def test_channels_of_zeros_stay_zero() -> None:
    array = normal(4, 4, 5, 5)
    array[2] = 0
    array[0] *= 1e4
    spec, array = tensor(array)
    quantized = _with_range(spec, array, channels=True)
    assert not quantized.dequantize()[2].any()
    check_error(array, quantized)


@pytest.mark.parametrize("value", [1.0, -1.0, 0.3, -123.456, 1e-9, 1e8])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 2, 1, 1)])
def test_constant_tensors_are_one_symbol_near_their_value(
    value: float, shape: tuple[int, ...]
) -> None:
    spec, array = tensor(np.full(shape, value))
    quantized = quantize(spec, array)
    assert np.unique(quantized.symbols).size == 1
    np.testing.assert_allclose(quantized.dequantize(), array, rtol=1 / 255)


@pytest.mark.parametrize("magnitude", [1e-8, 1e-5, 1e5, 1e7])
def test_tiny_and_huge_values_keep_their_precision(magnitude: float) -> None:
    spec, array = tensor(normal(50) * magnitude)
    quantized = quantize(spec, array)
    check_error(array, quantized)
    assert np.unique(quantized.symbols).size > 20


def test_values_beyond_the_scales_are_clipped_without_complaint() -> None:
    smallest = quantize(*tensor([1e-38, -1e-40, 0]))
    assert not smallest.dequantize().any()
    largest = quantize(*tensor([3e38, -3e38, 0.0]))
    assert largest.symbols.tolist() == [255, 0, 128]
    assert largest.dequantize().tolist() == [127 * 2.0**20, -128 * 2.0**20, 0]


def test_the_ends_of_the_range_are_reached() -> None:
    for values in ([-1.0, 0.7], [0.0, 3.0], [-2.0, 0.0], [-1.0, 1.0]):
        spec, array = tensor(values)
        quantized = quantize(spec, array)
        levels = quantized.symbols.astype(int)
        assert np.ptp(levels) >= 252
        check_error(array, quantized)


@given(st.integers(0, 10_000))
def test_float32_values_are_those_of_float64(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 10.0 ** rng.uniform(-8, 2), (3, 3, 2, 2))
    values[0] *= 10.0 ** rng.uniform(0, 6)
    quantized = quantize(*tensor(values))
    decoded = quantized.dequantize()
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded.astype(np.float64), exact(quantized))


def test_quantizing_again_changes_no_value() -> None:
    spec, array = tensor(normal(6, 5, 3, 3))
    once = quantize(spec, array).dequantize()
    twice = quantize(spec, once).dequantize()
    assert np.abs(once - twice).max() <= np.abs(once).max() / 127


def test_the_input_is_left_alone() -> None:
    spec, array = tensor(normal(6, 5, 3, 3))
    before = array.copy()
    quantize(spec, array)
    np.testing.assert_array_equal(array, before)
