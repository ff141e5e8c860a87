"""The kernels for CPUs against torch in float64: every shape, instruction set and thread."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nervcodec.bitstream.syntax import (
    Attention,
    DetailSpec,
    HfscmSpec,
    ModelSpec,
    StageSpec,
    TimeSpec,
)
from nervcodec.config import E_NERV, NERV, ModelConfig
from nervcodec.errors import BitstreamError
from nervcodec.fast import library, network
from nervcodec.fast.convolution import WINOGRAD_STEPS, Convolution, prepared_values
from nervcodec.fast.network import FastDecoder, supported
from nervcodec.fast.winograd import transforms
from nervcodec.inference import SegmentRenderer
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.rate_control import design_model
from nervcodec.samples import peak
from tests.format_helpers import make_header, make_segment

pytestmark = pytest.mark.skipif(library.load() is None, reason="the kernels were not compiled")

LEVELS = range(library.level() + 1)
DEPTH = 12
"""Of the samples that are compared, which shows smaller errors than 8 bits."""

FLOAT_ERRORS = 20
"""So many times torch's own error in float32 is allowed, for networks that amplify any."""

HFS = ModelSpec(
    (StageSpec(3, 1, 7, True), StageSpec(2, 5, 6, True), StageSpec(2, 5, 8, True)),
    embedding_channels=4,
    stem_channels=9,
    head_kernel=3,
    hfscm=HfscmSpec(reduction=3),
    msfrp_stage=0,
)


def decoder_of(spec: ModelSpec, width: int, height: int, scale: float = 1.0) -> FrameDecoder:
    torch.manual_seed(0)
    made = FrameDecoder(spec, width, height).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(scale)
        for stage in made.stages:
            if stage.hfscm is not None:
                stage.hfscm.phi.copy_(torch.tensor([1.0, -0.5, 2.0, 0.25]))
    return made


def source_of(spec: ModelSpec, width: int, height: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if spec.time is not None:
        return torch.rand((1, 2 * spec.time.levels, 1, 1), generator=generator)
    shape = (1, spec.embedding_channels, *spec.grid(width, height))
    return torch.randn(shape, generator=generator)


def sources_of(spec: ModelSpec, width: int, height: int) -> list[Tensor]:
    """What the network sees of a frame: with the second embedding, if it has one."""
    sources = [source_of(spec, width, height)]
    if spec.detail is not None:
        shape = (1, spec.detail.channels, *spec.detail_grid(width, height))
        sources.append(torch.randn(shape, generator=torch.Generator().manual_seed(2)))
    return sources


def check(spec: ModelSpec, width: int, height: int, level: int | None = None) -> None:
    """Hold a frame of a random network against torch's in float64."""
    made = decoder_of(spec, width, height, 1.5)
    sources = sources_of(spec, width, height)
    samples = FastDecoder(made, level).frame(*sources, bit_depth=DEPTH)
    with torch.inference_mode():
        single = made(*sources)
        exact = made.double()(*(source.double() for source in sources))
    assert samples.shape == exact.shape
    assert exact.std() > 0.01, "a flat picture would hide errors"
    error = 1e-5 + FLOAT_ERRORS * float((single - exact).abs().max())
    difference = (samples - exact * peak(DEPTH)).abs().max()
    assert difference <= 0.5 + error * peak(DEPTH)


@pytest.mark.parametrize(("kernel", "step"), WINOGRAD_STEPS.items())
def test_transforms_give_the_sums_and_have_the_symmetry_that_the_kernels_use(
    kernel: int, step: int
) -> None:
    after, factors, before = transforms(step, kernel)
    rng = np.random.default_rng(0)
    data, weights = rng.standard_normal(step + kernel - 1), rng.standard_normal(kernel)
    sums = [weights @ data[i : i + kernel] for i in range(step)]
    np.testing.assert_allclose(after @ ((factors @ weights) * (before @ data)), sums, atol=1e-12)
    signs = (-1.0) ** np.arange(len(data))
    for pair in range(1, len(data) - 2, 2):
        assert (before[pair + 1] == before[pair] * signs).all()
        assert (after[:, pair + 1] == after[:, pair] * signs[:step]).all()
    assert not before[0, 1::2].any()
    assert not before[-1, ::2].any()
    assert (before == before.astype(np.float32)).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("strides", [(1, 2, 3), (5, 4, 2), (8, 1, 7)], ids=str)
def test_bilinear_stages(level: int, strides: tuple[int, ...]) -> None:
    pairs = zip(HFS.stages, strides, strict=True)
    stages = tuple(replace(stage, stride=s, bilinear=True) for stage, s in pairs)
    for width, height in ((45, 34), (1, 1), (211, 7)):
        check(replace(HFS, stages=stages), width, height, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("width", "height"), [(12, 12), (48, 36), (1, 1), (47, 35), (204, 24), (420, 13)], ids=str
)
def test_sizes_and_instruction_sets(level: int, width: int, height: int) -> None:
    check(HFS, width, height, level)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 13, 15])
def test_kernels_of_stages(kernel: int) -> None:
    stages = (StageSpec(2, kernel, 5, False), StageSpec(3, kernel, 4, False))
    spec = ModelSpec(stages, embedding_channels=3, stem_channels=13, head_kernel=kernel)
    check(spec, 66, 30)


@pytest.mark.parametrize("stride", range(1, 9))
def test_strides(stride: int) -> None:
    stages = (StageSpec(stride, 3, 5, False), StageSpec(2, 3, 3, True))
    spec = ModelSpec(stages, embedding_channels=3, stem_channels=4, head_kernel=3)
    check(spec, 34, 20)


@pytest.mark.parametrize("attention", Attention)
@pytest.mark.parametrize("extra", [0, 1, 3])
@pytest.mark.parametrize("kernel", [1, 3, 7, 11])
def test_shapes_of_hfscm(attention: Attention, extra: int, kernel: int) -> None:
    block = HfscmSpec(2, kernel, attention, extra_convs=extra, extra_kernel=min(kernel, 5))
    check(replace(HFS, hfscm=block), 37, 25)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 15])
@pytest.mark.parametrize("groups", [1, 5])
def test_the_weights_take_the_memory_that_is_told(kernel: int, groups: int) -> None:
    weight, bias = torch.randn(10, 4, kernel, kernel), torch.zeros(10)
    struct = Convolution(weight, bias, groups).struct
    columns = struct.outputs * (1 if struct.output_transform else struct.step)
    values = columns * struct.products * struct.terms * struct.inputs * struct.taps
    assert values == weight.numel() * groups * prepared_values(kernel)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_msfrp(stage: int, after: bool) -> None:
    check(replace(HFS, msfrp_stage=stage, msfrp_after=after), 48, 36)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_second_embedding(stage: int) -> None:
    check(replace(HFS, detail=DetailSpec(stage, 2)), 48, 36)


@pytest.mark.parametrize("hidden", [0, 20])
def test_nerv(hidden: int) -> None:
    spec = replace(HFS, embedding_channels=0, time=TimeSpec(levels=8, hidden=hidden))
    check(spec, 48, 36)


def test_what_the_kernels_cannot_do_is_left_to_torch() -> None:
    small = {"params": 60_000, "width": 64, "height": 48, "frames": 2}
    assert supported(design_model(ModelConfig(network=NERV), **small))
    assert not supported(design_model(ModelConfig(network=E_NERV), **small))
    assert not supported(replace(HFS, hfscm=HfscmSpec(norm=True)))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_earlier_frames_change_no_bit(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, source = decoder_of(HFS, 60, 48), source_of(HFS, 60, 48)
    alone = FastDecoder(made).frame(source).clone()
    monkeypatch.setattr(network, "LEAST_WORK", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    fast = FastDecoder(made)
    other = fast.frame(-source).clone()
    again = fast.frame(source).clone()
    fast.release()
    assert torch.equal(alone, again)
    assert torch.equal(alone, fast.frame(source))
    assert not torch.equal(alone, other)


def test_values_beyond_all_bounds_give_the_ends_and_nan_is_refused() -> None:
    """Overflow must not become a picture: a NaN anywhere reaches the frame."""
    spec = replace(HFS, msfrp_stage=None)
    made, source = decoder_of(spec, 12, 12), source_of(spec, 12, 12)
    with torch.no_grad():
        made.head.bias.copy_(torch.tensor([1e30, -1e30, 0.0]))
    frame = FastDecoder(made).frame(source)
    assert (frame[0, 0] == 255).all()
    assert (frame[0, 1] == 0).all()
    for parameter in made.parameters():
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[0] = torch.nan
        with pytest.raises(BitstreamError, match="does not give numbers"):
            FastDecoder(made).frame(source)
        with torch.no_grad():
            parameter.copy_(before)


def test_a_renderer_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    segment = make_segment(HFS, make_header(width=48, height=36), frames=3)
    fast = list(SegmentRenderer(segment, 48, 36).frames([2, 0]))
    slow = list(SegmentRenderer(segment, 48, 36, kernels=False).frames([2, 0]))
    for one, other in zip(fast, slow, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    calls: list[int] = []

    def noted(self: FastDecoder, source: Tensor, bit_depth: int) -> Tensor:
        calls.append(bit_depth)
        raise BitstreamError("broken")

    monkeypatch.setattr(FastDecoder, "frame", noted)
    with pytest.raises(BitstreamError, match="broken"):
        list(SegmentRenderer(segment, 48, 36, bit_depth=10).frames([0]))
    assert calls == [10]


def test_memory_that_is_wanting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made, source = decoder_of(HFS, 12, 12), source_of(HFS, 12, 12)
    fast = FastDecoder(made)

    class Failing:
        def __getattr__(self, name: str) -> object:
            return lambda *arguments: -1

    monkeypatch.setattr(fast, "_library", Failing())
    with pytest.raises(MemoryError):
        fast.frame(source)


def test_two_networks_in_two_threads() -> None:
    made, source = decoder_of(HFS, 60, 48), source_of(HFS, 60, 48)
    alone = FastDecoder(made).frame(source).clone()
    results: list[Tensor] = []

    def work() -> None:
        fast = FastDecoder(made)
        results.extend(fast.frame(source).clone() for _ in range(5))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 10
    assert all(torch.equal(alone, result) for result in results)
