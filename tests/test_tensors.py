"""The list of tensors, the counts of work and memory, against the torch modules themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

import pytest
import torch
from format_helpers import model_specs, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nervcodec.bitstream.syntax import (
    Attention,
    HfscmSpec,
    ModelSpec,
    StageSpec,
    TimeSpec,
    TransformerSpec,
)
from nervcodec.bitstream.tensors import (
    Limits,
    TensorSpec,
    activation_bytes,
    attention_width,
    check_limits,
    convolutions,
    macs_per_frame,
    parameter_count,
    tensor_specs,
)
from nervcodec.errors import UnsupportedError
from nervcodec.models.frame_decoder import FrameDecoder

SIZES = st.integers(1, 40)
WITH_HFSCM = (StageSpec(5, 1, 11, True), StageSpec(3, 3, 7, False), StageSpec(2, 5, 6, True))
PLAIN = tuple(StageSpec(s.stride, s.kernel, s.channels, False) for s in WITH_HFSCM)


def spec_list() -> Iterator[Any]:
    """Every kind of attention with every number of parts, and odd, even and unit strides."""
    for attention in Attention:
        for extra in (0, 1, 2):
            block = HfscmSpec(3, 3, attention, extra, 5)
            name = f"{attention.name.lower()}-{extra}"
            yield pytest.param(ModelSpec(WITH_HFSCM, 4, 13, 3, block, 1), id=name)
    yield pytest.param(ModelSpec(PLAIN, 4, 13), id="plain")
    yield pytest.param(ModelSpec(PLAIN, 4, 13, 5, msfrp_stage=2), id="msfrp")
    time, mixing = TimeSpec(7, Fraction(3, 2), 4), TransformerSpec(3, 2, 5, 6, 2)
    yield pytest.param(ModelSpec(WITH_HFSCM, 0, 13, time=time), id="nerv")
    yield pytest.param(ModelSpec(PLAIN, 0, 13, time=TimeSpec(7)), id="nerv-one-layer")
    enerv = ModelSpec(WITH_HFSCM, 0, 13, 1, msfrp_stage=1, time=time, transformer=mixing)
    yield pytest.param(enerv, id="e-nerv")
    usual = replace(mixing, bottleneck=0)
    yield pytest.param(replace(enerv, transformer=usual, time=TimeSpec(3)), id="e-nerv-usual")
    narrow = HfscmSpec(200, 1, Attention.GROUPED, 0)
    yield pytest.param(ModelSpec((StageSpec(1, 1, 1, True),), 1, 1, 1, narrow, 0), id="narrowest")


ALL_SPECS = pytest.mark.parametrize("spec", list(spec_list()))


def meta_network(spec: ModelSpec, width: int, height: int) -> FrameDecoder:
    """The network without memory: shapes only."""
    with torch.device("meta"):
        return FrameDecoder(spec, width, height)


def run_meta(network: FrameDecoder, spec: ModelSpec, width: int, height: int) -> Tensor:
    if spec.time is None:
        sources = [(spec.embedding_channels, *spec.grid(width, height))]
    else:
        sources = [(2 * spec.time.levels, 1, 1)]
    if spec.detail is not None:
        sources.append((spec.detail.channels, *spec.detail_grid(width, height)))
    with torch.no_grad():
        out: Tensor = network(*(torch.empty(1, *shape, device="meta") for shape in sources))
    return out


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in network.named_parameters()}


def listed(spec: ModelSpec, width: int, height: int) -> dict[str, tuple[int, ...]]:
    """The tensors without the embeddings, which must be the first where there are any."""
    others = tensor_specs(spec, width, height, 3)
    if spec.time is None:
        shape = (3, spec.embedding_channels, *spec.grid(width, height))
        assert others.pop(0) == TensorSpec("embedding", shape)
    if spec.detail is not None:
        finer = (3, spec.detail.channels, *spec.detail_grid(width, height))
        assert others.pop(0) == TensorSpec("detail", finer)
    names = [tensor.name for tensor in others]
    assert len(set(names)) == len(names)
    return {tensor.name: tensor.shape for tensor in others}


# --- names and shapes ---------------------------------------------------------------------------


@ALL_SPECS
@pytest.mark.parametrize(("width", "height"), [(60, 30), (37, 53), (1, 1)])
def test_parameters_have_the_listed_names_and_shapes(
    spec: ModelSpec, width: int, height: int
) -> None:
    network = meta_network(spec, width, height)
    assert listed(spec, width, height) == shapes(network)
    assert not list(network.buffers())
    embedding = 3 * spec.embedding_channels * prod(spec.grid(width, height))
    assert parameter_count(spec, width, height, 3) == embedding + sum(
        p.numel() for p in network.parameters()
    )


@given(model_specs(), SIZES, SIZES)
def test_any_network_has_the_listed_parameters(spec: ModelSpec, width: int, height: int) -> None:
    assert listed(spec, width, height) == shapes(meta_network(spec, width, height))


def test_the_order_is_that_of_the_spec() -> None:
    """Section 5.2, written out for two stages."""
    convs = {
        "stem": (4, 2, 1),
        "stages.0.conv": (36, 4, 1),
        "stages.1.conv": (12, 4, 3),
        "stages.1.hfscm.channel_reduce": (2, 3, 1),
        "stages.1.hfscm.channel_expand": (3, 2, 1),
        "stages.1.hfscm.spatial_reduce": (2, 3, 3),
        "phi": None,
        "stages.1.hfscm.spatial_expand": (5, 2, 3),
        "stages.1.hfscm.extra.0": (3, 3, 3),
        "msfrp": (3, 4, 1),
        "head": (3, 3, 3),
    }
    expected = [TensorSpec("embedding", (2, 2, 2, 3))]
    for name, shape in convs.items():
        if shape is None:
            expected.append(TensorSpec("stages.1.hfscm.phi", (4,)))
            continue
        outputs, inputs, kernel = shape
        expected.append(TensorSpec(f"{name}.weight", (outputs, inputs, kernel, kernel)))
        expected.append(TensorSpec(f"{name}.bias", (outputs,)))
    assert tensor_specs(tiny_model(), 13, 12, 2) == expected


def test_only_maps_and_weights_have_channels() -> None:
    axes = {t.name: t.channel_axis for t in tensor_specs(tiny_model(), 13, 12, 2)}
    assert axes.pop("embedding") == 1
    for name, axis in axes.items():
        assert axis == (0 if name.endswith("weight") else None)


@pytest.mark.parametrize(
    ("channels", "reduction", "width"), [(10, 5, 2), (11, 5, 3), (4, 5, 1), (1, 255, 1), (7, 1, 7)]
)
def test_attention_width_is_rounded_up(channels: int, reduction: int, width: int) -> None:
    assert attention_width(channels, reduction) == width


# --- work and memory ----------------------------------------------------------------------------


def counted_macs(spec: ModelSpec, width: int, height: int) -> int:
    """What forward hooks count: for each output value, the weights of its filter."""
    network = meta_network(spec, width, height)
    counts: list[int] = []

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        counts.append(output.numel() * module.weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    run_meta(network, spec, width, height)
    assert len(counts) == sum(isinstance(m, nn.Conv2d) for m in network.modules())
    if spec.transformer is None:
        return sum(counts)
    block, places = spec.transformer, prod(spec.grid(width, height))
    return sum(counts) + 2 * 2 * block.heads * block.head_width * places * places


@ALL_SPECS
def test_macs_are_those_of_the_convolutions(spec: ModelSpec) -> None:
    for width, height in ((60, 30), (37, 53)):
        assert macs_per_frame(spec, width, height) == counted_macs(spec, width, height)


@given(model_specs(), SIZES, SIZES)
def test_macs_of_any_network(spec: ModelSpec, width: int, height: int) -> None:
    assert macs_per_frame(spec, width, height) == counted_macs(spec, width, height)


@ALL_SPECS
def test_values_are_those_of_the_convolutions_maps(spec: ModelSpec) -> None:
    network = meta_network(spec, 37, 53)
    found: dict[str, int] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _m, given, out, name=name: found.__setitem__(
                    name, given[0].numel() + out.numel()
                )
            )
    run_meta(network, spec, 37, 53)
    assert found == {conv.name: conv.values for conv in convolutions(spec, 37, 53)}


@ALL_SPECS
def test_memory_is_eight_float32_maps_of_the_largest_output(spec: ModelSpec) -> None:
    """As spec section 11 has it."""
    largest = max(conv.values for conv in convolutions(spec, 37, 53))
    if spec.transformer is not None:
        largest = max(largest, spec.transformer.heads * prod(spec.grid(37, 53)) ** 2)
    assert activation_bytes(spec, 37, 53) == 8 * 4 * largest


class LiveBytes(TorchDispatchMode):
    """Notes the most memory that the tensors made inside it take at once."""

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[Any, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._live = {k: v for k, v in self._live.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return out


def peak_bytes(spec: ModelSpec, width: int, height: int) -> int:
    network = meta_network(spec, width, height)
    with LiveBytes() as live:
        run_meta(network, spec, width, height)
    return live.peak


def two_stages(hfscm: bool, block: HfscmSpec) -> ModelSpec:
    stages = (StageSpec(4, 1, 16, False), StageSpec(2, 3, 15, hfscm))
    return ModelSpec(stages, 16, 16, hfscm=block, msfrp_stage=0)


@pytest.mark.parametrize(
    ("reduction", "attention"),
    [(1, Attention.SINGLE), (2, Attention.DENSE), (5, Attention.GROUPED)],
)
def test_no_network_takes_more_memory_than_it_is_said_to(
    reduction: int, attention: Attention
) -> None:
    spec = two_stages(True, HfscmSpec(reduction, 7, attention, 2, 3))
    assert peak_bytes(spec, 320, 160) <= activation_bytes(spec, 320, 160)


def test_the_default_network_takes_less_memory_than_it_is_said_to() -> None:
    spec = two_stages(True, HfscmSpec())
    assert 0 < peak_bytes(spec, 320, 160) <= activation_bytes(spec, 320, 160)


def test_a_plain_network_takes_less_memory_than_it_is_said_to() -> None:
    spec = two_stages(False, HfscmSpec())
    assert 0 < peak_bytes(spec, 320, 160) <= activation_bytes(spec, 320, 160)


def test_limits_are_inclusive() -> None:
    spec = tiny_model()
    figures = (
        parameter_count(spec, 50, 40, 7),
        macs_per_frame(spec, 50, 40),
        activation_bytes(spec, 50, 40),
    )
    check_limits(spec, 50, 40, 7, Limits(*figures))
    for index, figure in enumerate(figures):
        less = list(figures)
        less[index] -= 1
        with pytest.raises(
            UnsupportedError, match=f"asks for {figure} .*the limit is {figure - 1}"
        ):
            check_limits(spec, 50, 40, 7, Limits(*less))


def test_4k_frames_with_a_large_network_are_within_the_default_limits() -> None:
    stages = tuple(
        StageSpec(s, k, c, True)
        for s, k, c in ((5, 1, 400), (4, 3, 200), (3, 5, 60), (2, 5, 30), (2, 5, 12))
    )
    check_limits(ModelSpec(stages, 16, 480, msfrp_stage=2), 3840, 2160, 100, Limits())
