"""The networks against spec section 8, evaluated in plain numpy in float64."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from format_helpers import model_specs, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from nervcodec.bitstream.coding import QuantizedTensor
from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.syntax import Attention, DetailSpec, HfscmSpec, ModelSpec, StageSpec
from nervcodec.bitstream.tensors import FRAME_TENSORS, tensor_specs
from nervcodec.errors import BitstreamError
from nervcodec.inference import FramesDigest, SegmentRenderer
from nervcodec.models import operations
from nervcodec.models.blocks import Conv, Hfscm, Stage, channels_last
from nervcodec.models.content_encoder import ContentEncoder
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.models.operations import haar, upsampled_bands
from nervcodec.training.quantization import quantize

DETAILS = (None, DetailSpec(0, 2), DetailSpec(1, 1))

Map = npt.NDArray[np.float64]
BANDS = ("LL", "HL", "LH", "HH")


# --- section 8 written again --------------------------------------------------------------------


def np_gelu(x: Map) -> Map:
    return x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2


def np_sigmoid(x: Map) -> Map:
    return 1 / (1 + np.exp(-x))


def np_conv(x: Map, weight: Map, bias: Map, groups: int = 1) -> Map:
    outputs, share, k, _ = weight.shape
    rows, columns = x.shape[1:]
    margin = (k - 1) // 2
    wide = np.zeros((x.shape[0], rows + k - 1, columns + k - 1))
    wide[:, margin : margin + rows, margin : margin + columns] = x
    y = np.empty((outputs, rows, columns))
    for o in range(outputs):
        first = share * (o // (outputs // groups))
        y[o] = bias[o]
        for i in range(share):
            for a in range(k):
                for b in range(k):
                    part = wide[first + i, a : a + rows, b : b + columns]
                    y[o] += weight[o, i, a, b] * part
    return y


def np_shuffle(x: Map, s: int) -> Map:
    channels, rows, columns = x.shape[0] // s**2, x.shape[1] * s, x.shape[2] * s
    y = np.empty((channels, rows, columns))
    for c, p, q in np.ndindex(y.shape):
        y[c, p, q] = x[c * s * s + (p % s) * s + (q % s), p // s, q // s]
    return y


def np_resize_axis(x: Map, m: int, axis: int) -> Map:
    n = x.shape[axis]
    x = np.moveaxis(x, axis, 0)
    out = np.empty((m, *x.shape[1:]))
    for j in range(m):
        u = max(0.0, (j + 0.5) * n / m - 0.5)
        v = math.floor(u)
        t = u - v
        out[j] = (1 - t) * x[v] + t * x[min(v + 1, n - 1)]
    return np.moveaxis(out, 0, axis)


def np_resize(x: Map, rows: int, columns: int) -> Map:
    return np_resize_axis(np_resize_axis(x, rows, 1), columns, 2)


def np_haar(x: Map) -> dict[str, Map]:
    channels, rows, columns = x.shape
    bands = {name: np.empty((channels, rows // 2, columns // 2)) for name in BANDS}
    for i, p, q in np.ndindex(channels, rows // 2, columns // 2):
        (a, b), (c, d) = x[i, 2 * p : 2 * p + 2, 2 * q : 2 * q + 2]
        bands["LL"][i, p, q] = (a + b + c + d) / 4
        bands["LH"][i, p, q] = (a + b - c - d) / 4
        bands["HL"][i, p, q] = (a - b + c - d) / 4
        bands["HH"][i, p, q] = (a - b - c + d) / 4
    return bands


def np_lifted(z: Map) -> dict[str, Map]:
    """Each band of ``z``, extended to even size, at the size of ``z`` again."""
    rows, columns = z.shape[1:]
    if rows % 2:
        z = np.concatenate([z, z[:, -1:]], axis=1)
    if columns % 2:
        z = np.concatenate([z, z[:, :, -1:]], axis=2)
    full = z.shape[1:]
    return {name: np_resize(x, *full)[:, :rows, :columns] for name, x in np_haar(z).items()}


def np_hfscm(f1: Map, tensors: dict[str, Map], prefix: str, block: HfscmSpec) -> Map:
    def conv(name: str, x: Map, groups: int = 1) -> Map:
        key = f"{prefix}.{name}"
        return np_conv(x, tensors[f"{key}.weight"], tensors[f"{key}.bias"], groups)

    gate = np_sigmoid(conv("channel_expand", np_gelu(conv("channel_reduce", f1))))
    f2 = f1 * gate + f1
    z = conv("spatial_reduce", f2)
    phi = dict(zip(BANDS, tensors[f"{prefix}.phi"], strict=True))
    lifted = np_lifted(z)
    features = np.concatenate([z, *(phi[name] * lifted[name] + z for name in BANDS)])
    groups = 5 if block.attention is Attention.GROUPED else 1
    a = np_sigmoid(conv("spatial_expand", np_gelu(features), groups))
    if block.attention is Attention.GROUPED:
        a = a[: f1.shape[0]]
    x = f2 * a + f2
    for j in range(block.extra_convs):
        x = conv(f"extra.{j}", np_gelu(x))
    return x + f1


def np_decoder(
    spec: ModelSpec,
    tensors: dict[str, Map],
    embedding: Map,
    width: int,
    height: int,
    detail: Map | None = None,
) -> Map:
    """The frame, (3, height, width), of one embedding and its detail."""

    def conv(name: str, x: Map) -> Map:
        return np_conv(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    x, m = np_gelu(conv("stem", embedding)), None
    for i, stage in enumerate(spec.stages):
        if detail is not None and spec.detail is not None and i == spec.detail.stage:
            x = x + conv(f"stages.{i}.detail", detail)
        x = conv(f"stages.{i}.conv", x)
        if stage.bilinear:
            x = np_gelu(np_resize(x, *(stage.stride * side for side in x.shape[1:])))
        else:
            x = np_gelu(np_shuffle(x, stage.stride))
        if stage.hfscm:
            x = np_hfscm(x, tensors, f"stages.{i}.hfscm", spec.hfscm)
        if i == spec.msfrp_stage:
            m = conv("msfrp", x)
    y = conv("head", x)
    if m is not None:
        y = y + np_resize(m, *y.shape[1:])
    return (1 + np.tanh(y[:, :height, :width])) / 2


# --- helpers ------------------------------------------------------------------------------------


def noise(*shape: int) -> torch.Tensor:
    """Normal values in float64, the same for the same shape."""
    return torch.from_numpy(np.random.default_rng(shape).normal(size=shape))


def random_network(spec: ModelSpec, width: int, height: int) -> FrameDecoder:
    """A float64 network whose every value is random; logits stay within a few units."""
    network = FrameDecoder(spec, width, height).double()
    rng = np.random.default_rng(20)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            fan_in = parameter[0].numel() if parameter.dim() == 4 else 4
            scale = 1.0 if name.endswith("phi") else fan_in**-0.5
            parameter.copy_(torch.from_numpy(rng.normal(0, scale, tuple(parameter.shape))))
    return network


def random_segment(spec: ModelSpec, width: int, height: int, frames: int) -> Segment:
    """The random network and random embeddings, quantized."""
    values = arrays(random_network(spec, width, height))
    specs = tensor_specs(spec, width, height, frames)
    values |= {s.name: noise(*s.shape).numpy() for s in specs if s.name in FRAME_TENSORS}
    tensors = (quantize(tensor, values[tensor.name].astype(np.float32)) for tensor in specs)
    return Segment(0, 0, frames, spec, tuple(tensors))


def random_embeddings(spec: ModelSpec, width: int, height: int, frames: int) -> list[torch.Tensor]:
    specs = tensor_specs(spec, width, height, frames)
    return [noise(*s.shape) for s in specs if s.name in FRAME_TENSORS]


def arrays(network: FrameDecoder) -> dict[str, Map]:
    return {name: p.detach().numpy() for name, p in network.named_parameters()}


# --- pieces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 4, 6), (1, 2, 10, 2)])
def test_haar_is_the_direct_formula(shape: tuple[int, ...]) -> None:
    x = noise(*shape)
    bands = haar(x).numpy()
    for sample, expected in zip(bands, map(np_haar, x.numpy()), strict=True):
        for band, name in zip(sample, BANDS, strict=True):
            np.testing.assert_allclose(band, expected[name], atol=1e-15)


def test_haar_tells_the_directions_apart() -> None:
    rows = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert haar(rows).flatten().tolist() == [0.5, 0.0, 0.5, 0.0]
    assert haar(rows.mT).flatten().tolist() == [0.5, 0.5, 0.0, 0.0]
    assert haar(torch.eye(2)[None, None]).flatten().tolist() == [0.5, 0.0, 0.0, 0.5]


@pytest.mark.parametrize("height", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("width", [1, 2, 5, 6, 9])
def test_upsampled_bands_are_plain_bilinear(width: int, height: int) -> None:
    x = noise(2, 3, height, width)
    bands = upsampled_bands(x).numpy()
    assert bands.shape == (2, 4, 3, height, width)
    for sample, expected in zip(bands, map(np_lifted, x.numpy()), strict=True):
        for band, name in zip(sample, BANDS, strict=True):
            np.testing.assert_allclose(band, expected[name], atol=1e-14)


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_pixel_shuffle_has_the_order_of_the_spec(stride: int) -> None:
    stage = Stage(2, ModelSpec((StageSpec(stride, 1, 3, False),), 1, 2), 0).double()
    with torch.no_grad():
        stage.conv.weight.zero_()
        stage.conv.bias.copy_(torch.arange(3 * stride**2) + 1.0)
    out = stage(noise(1, 2, 2, 3), None, None)[0].detach().numpy()
    assert out.shape == (3, 2 * stride, 3 * stride)
    for c, p, q in np.ndindex(out.shape):
        channel = c * stride * stride + (p % stride) * stride + (q % stride)
        assert out[c, p, q] == pytest.approx(np_gelu(np.array(channel + 1.0)), abs=1e-14)


@pytest.mark.parametrize("rows_a_strip", [1, 2, 3, 100])
@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 1), (7, 1), (3, 5), (5, 10)])
def test_strips_are_the_whole_convolution(
    rows_a_strip: int, kernel: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = Conv(10, 20, kernel, groups).double()
    x = noise(2, 10, 7, 9)
    expected = F.conv2d(x, conv.weight, conv.bias, padding=kernel // 2, groups=groups)
    # A strip of n rows is what fits the memory of n rows and not of n + 1.
    monkeypatch.setattr(operations, "TILE_BYTES", 8 * kernel**2 * 10 * 9 * rows_a_strip + 1)
    heights = []

    def conv2d(strip: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        heights.append(strip.shape[2] - kernel + 1)
        return F_conv2d(strip, *args, **options)

    F_conv2d = F.conv2d
    monkeypatch.setattr(operations.F, "conv2d", conv2d)
    result = conv(x)
    assert sum(heights) == 7
    assert max(heights) == min(rows_a_strip, 7)
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)


def test_a_tile_has_at_least_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = Conv(2, 3, 3).double()
    x = noise(1, 2, 4, 5)
    expected = conv(x)
    monkeypatch.setattr(operations, "TILE_BYTES", 1)
    tiles = []

    def conv2d(tile: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        tiles.append(tile.shape)
        return F_conv2d(tile, *args, **options)

    F_conv2d = F.conv2d
    monkeypatch.setattr(operations.F, "conv2d", conv2d)
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-13)
    assert tiles == [(1, 2, 3, 3)] * 20


def test_the_float64_convolution_is_that_of_the_spec() -> None:
    for groups in (1, 5):
        conv = Conv(5, 10, 3, groups).double()
        x = noise(1, 5, 4, 3)
        weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
        expected = np_conv(x[0].numpy(), weight, bias, groups)
        np.testing.assert_allclose(conv(x)[0].detach().numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("attention", Attention)
@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
def test_hfscm_is_that_of_the_spec(attention: Attention, size: tuple[int, int]) -> None:
    block = HfscmSpec(reduction=3, kernel=3, attention=attention, extra_convs=2, extra_kernel=1)
    module = Hfscm(7, block).double()
    with torch.no_grad():
        module.phi.copy_(torch.tensor([0.5, -1.5, 2.0, 3.0]))
    tensors = {f"x.{name}": p.detach().numpy() for name, p in module.named_parameters()}
    x = noise(2, 7, *size)
    out = module(x).detach().numpy()
    for n in range(2):
        np.testing.assert_allclose(out[n], np_hfscm(x[n].numpy(), tensors, "x", block), atol=1e-12)


# --- whole decoders -----------------------------------------------------------------------------


def check_decoder(spec: ModelSpec, width: int, height: int) -> None:
    network = random_network(spec, width, height)
    embeddings = random_embeddings(spec, width, height, 2)
    with torch.no_grad():
        frames = network(*embeddings).numpy()
    assert frames.shape == (2, 3, height, width)
    for n in range(2):
        maps = [each[n].numpy() for each in embeddings]
        expected = np_decoder(spec, arrays(network), maps[0], width, height, *maps[1:])
        np.testing.assert_allclose(frames[n], expected, atol=1e-12)
    assert np.ptp(frames) > 0.01  # or nothing was tested


@pytest.mark.parametrize("attention", Attention)
@pytest.mark.parametrize(("width", "height"), [(12, 6), (13, 11), (1, 1)])
def test_the_decoder_is_that_of_the_spec(attention: Attention, width: int, height: int) -> None:
    check_decoder(tiny_model(attention), width, height)


def test_odd_strides_give_odd_maps_inside_hfscm() -> None:
    block = HfscmSpec(reduction=2, kernel=3, attention=Attention.DENSE, extra_convs=0)
    stages = (StageSpec(3, 3, 3, True), StageSpec(1, 1, 4, False), StageSpec(5, 3, 2, True))
    for msfrp in range(3):
        check_decoder(ModelSpec(stages, 2, 3, 1, block, msfrp), 14, 16)


@given(model_specs(max_channels=3, stages=2, plain=True), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=15)
def test_any_decoder_is_that_of_the_spec(spec: ModelSpec, width: int, height: int) -> None:
    network = random_network(spec, width, height)
    embeddings = random_embeddings(spec, width, height, 1)
    with torch.no_grad():
        frame = network(*embeddings)[0].numpy()
    maps = [each[0].numpy() for each in embeddings]
    expected = np_decoder(spec, arrays(network), maps[0], width, height, *maps[1:])
    np.testing.assert_allclose(frame, expected, atol=1e-12)


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("attention", Attention)
def test_reference_frames_are_those_of_the_spec(
    attention: Attention, detail: DetailSpec | None
) -> None:
    """From symbols to samples: dequantization, evaluation and rounding."""
    segment = random_segment(tiny_model(attention, detail), 11, 7, 3)
    tensors = {t.spec.name: t.dequantize().astype(np.float64) for t in segment.tensors}
    renderer = SegmentRenderer(segment, 11, 7, reference=True)
    assert all(p.dtype == torch.float64 for p in renderer._network.parameters())
    frames = list(renderer.frames([2, 0, 1]))
    digest = FramesDigest()
    for number, frame in zip((2, 0, 1), frames, strict=True):
        maps = [tensors[name][number] for name in FRAME_TENSORS if name in tensors]
        values = np_decoder(segment.model, tensors, maps[0], 11, 7, *maps[1:])
        expected = np.floor(255 * values + 0.5).astype(np.uint8).transpose(1, 2, 0)
        assert frame.dtype == np.uint8
        np.testing.assert_array_equal(frame, expected)
        digest.add(frame)
    assert len(digest.digest()) == 8
    assert np.ptp(np.stack(frames).astype(int)) > 100


@pytest.mark.parametrize("attention", Attention)
def test_fast_frames_conform(attention: Attention) -> None:
    """Section 9: at most 1 off, in at most 0.1 % of the samples."""
    segment = random_segment(tiny_model(attention), 60, 50, 3)
    exact = np.stack(list(SegmentRenderer(segment, 60, 50, reference=True).frames(range(3))))
    fast = np.stack(list(SegmentRenderer(segment, 60, 50).frames(range(3))))
    off = np.abs(exact.astype(int) - fast)
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.001


def test_weights_that_overflow_are_refused() -> None:
    stages = (StageSpec(1, 1, 4, False),) * 6
    spec = ModelSpec(stages, 4, 4)
    tensors = []
    for tensor in tensor_specs(spec, 3, 2, 1):
        symbols = np.random.default_rng(1).integers(0, 256, tensor.shape, dtype=np.uint8)
        largest = np.array([0x4980], dtype=np.uint16)
        tensors.append(QuantizedTensor(tensor, symbols, 128, largest))
    renderer = SegmentRenderer(Segment(0, 0, 1, spec, tuple(tensors)), 3, 2)
    with pytest.raises(BitstreamError, match="does not give numbers"):
        list(renderer.frames([0]))


def test_frames_come_in_the_order_asked_for_whatever_the_batch() -> None:
    segment = random_segment(tiny_model(), 11, 7, 9)
    renderer = SegmentRenderer(segment, 11, 7)
    assert len(renderer) == 9
    each = [next(iter(renderer.frames([n]))) for n in range(9)]
    assert min(np.abs(a.astype(int) - b).max() for a, b in pairwise(each)) > 1
    order = [8, 0, 0, 3, 7, 1, 2, 5, 4, 6]
    for frame, number in zip(renderer.frames(order), order, strict=True):
        assert np.abs(frame.astype(int) - each[number]).max() <= 1
    assert list(renderer.frames([])) == []


# --- training's side ----------------------------------------------------------------------------


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("attention", Attention)
def test_every_parameter_gets_a_gradient(attention: Attention, detail: DetailSpec | None) -> None:
    torch.manual_seed(3)
    spec = tiny_model(attention, detail)
    encoder, decoder = ContentEncoder(spec, 13, 11, 8, 2), FrameDecoder(spec, 13, 11)
    frames = torch.rand(2, 3, 11, 13)
    loss = (decoder(*encoder(frames)) - frames).square().mean()
    torch.autograd.backward(loss)
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("width", "height"), [(12, 6), (13, 11), (7, 19), (1, 1), (1, 20), (5, 2)])
@pytest.mark.parametrize("detail", DETAILS)
def test_sizes_that_strides_do_not_divide(
    width: int, height: int, detail: DetailSpec | None
) -> None:
    spec = tiny_model(detail=detail)
    encoder, decoder = ContentEncoder(spec, width, height, 8, 2), FrameDecoder(spec, width, height)
    frames = torch.rand(2, 3, height, width)
    with torch.no_grad():
        embeddings = encoder(frames)
        specs = tensor_specs(spec, width, height, 2)
        for embedding, tensor in zip(embeddings, specs, strict=False):
            assert embedding.shape[1:] == tensor.shape[1:]
        out = decoder(*embeddings)
    assert out.shape == frames.shape
    assert out.min() >= 0
    assert out.max() <= 1


def test_the_encoder_extends_by_the_last_row_and_column() -> None:
    torch.manual_seed(5)
    spec = tiny_model()
    encoder = ContentEncoder(spec, 8, 7, 8, 2)
    whole = ContentEncoder(spec, 12, 12, 8, 2)
    whole.load_state_dict(encoder.state_dict())
    frames = torch.rand(1, 3, 7, 8)
    columns = frames[..., [*range(8), 7, 7, 7, 7]]
    extended = columns[:, :, [*range(7), 6, 6, 6, 6, 6]]
    with torch.no_grad():
        torch.testing.assert_close(encoder(frames), whole(extended))


def test_cropping_does_not_change_what_remains() -> None:
    spec = tiny_model()
    whole = random_network(spec, 12, 12)
    cropped = FrameDecoder(spec, 9, 8).double()
    cropped.load_state_dict(whole.state_dict())
    embedding = noise(1, 2, 2, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            cropped(embedding), whole(embedding)[:, :, :8, :9], rtol=0, atol=0
        )


def test_channels_last_changes_the_layout_only() -> None:
    network = random_network(tiny_model(), 13, 11).float()
    embedding = noise(1, 2, 2, 3).float()
    with torch.no_grad():
        before = network(embedding)
        channels_last(network)
        weight = network.get_parameter("head.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(embedding), before)


def test_the_content_encoder_starts_as_convnext_does() -> None:
    torch.manual_seed(0)
    encoder = ContentEncoder(tiny_model(), 12, 12, 8, 2)
    weights = torch.cat([p.flatten() for n, p in encoder.named_parameters() if p.dim() == 4])
    assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.1)
    for name, parameter in encoder.named_parameters():
        if name.endswith("scale"):
            assert (parameter == 1e-6).all()
        elif name.endswith("bias"):
            assert (parameter == 0).all()
